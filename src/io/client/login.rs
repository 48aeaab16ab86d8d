//! Whom our own links log in as. The password can be read again while the process runs.
//!
//! It never logs a password. Invariant: what is in force stays in force when the file cannot be read.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::{self, Secret};

/// User and password of our own links. Clones share the password in force.
#[derive(Clone, Debug)]
pub struct Login {
    /// ACL user; `None` is the default user.
    pub user: Option<String>,
    password: Arc<ArcSwap<Secret>>,
    file: Option<PathBuf>,
}

impl Login {
    /// With this password, which stands in `file`, if it can be read again.
    pub fn new(user: Option<String>, password: Secret, file: Option<PathBuf>) -> Self {
        Self { user, password: Arc::new(ArcSwap::from_pointee(password)), file }
    }

    /// The password in force.
    pub fn password(&self) -> Arc<Secret> {
        self.password.load_full()
    }

    /// Reads the password again. True if it is another one than before. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// Why the file cannot be read; the password in force stays.
    pub fn read_again(&self) -> Result<bool, String> {
        let Some(file) = &self.file else { return Ok(false) };
        let read = config::secret_file(file)?;
        let changed = read.expose() != self.password.load().expose();
        if changed {
            self.password.store(Arc::new(read));
        }
        Ok(changed)
    }

    /// Whether an error reply to AUTH says only that the server asks for no password: the link may be used.
    pub fn is_needless(reply: &str) -> bool {
        ["ERR AUTH <password> called without any password configured", "ERR Client sent AUTH, but no password is set"]
            .iter()
            .any(|start| reply.starts_with(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_read_again_by_every_clone_and_a_bad_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pw");
        std::fs::write(&file, "one\n").unwrap();
        let login = Login::new(None, Secret::new(b"one".to_vec()), Some(file.clone()));
        let clone = login.clone();
        assert_eq!(login.read_again(), Ok(false));
        std::fs::write(&file, "two\n").unwrap();
        assert_eq!(login.read_again(), Ok(true));
        assert_eq!(clone.password().expose(), b"two");
        std::fs::write(&file, "\n").unwrap();
        assert!(login.read_again().is_err());
        std::fs::remove_file(&file).unwrap();
        assert!(login.read_again().is_err());
        assert_eq!(clone.password().expose(), b"two");
    }
}
