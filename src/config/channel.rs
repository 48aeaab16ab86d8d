//! The secret of the pair's channel: a file with one line, or with two while the secret is rotated.
//!
//! Invariant: a secret that other users of the machine can read is refused, since clients of Redis may be among them.

use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::Secret;

/// Shortest secret, in bytes: 32 bytes are what HMAC-SHA256 can use.
const MIN_BYTES: usize = 32;
/// Longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4096;
/// The secret in use, and another one during a rotation.
const MAX_SECRETS: usize = 2;
/// Permission to read or write for users that are neither the owner nor in the group.
const OTHERS: u32 = 0o006;
/// Permission to write for the group.
const GROUP_WRITES: u32 = 0o020;
/// Random bytes of a new secret.
const NEW_BYTES: usize = 32;

/// What authenticates the messages of a pair's processes.
#[derive(Clone, Debug)]
pub struct ChannelSecret {
    /// Where it was read, and is read again at SIGHUP.
    pub file: PathBuf,
    /// The first one signs; each of them verifies. Never empty.
    pub secrets: Vec<Secret>,
}

impl ChannelSecret {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with the file, and how to mend it.
    pub fn read(file: &Path) -> Result<Self, String> {
        let name = file.display();
        let failed = |error: std::io::Error| format!("cannot read {name}: {error}");
        let found = std::fs::metadata(file).map_err(failed)?;
        if found.mode() & (OTHERS | GROUP_WRITES) != 0 {
            let mode = found.mode() & 0o777;
            return Err(format!("{name} has mode {mode:04o}: other users can read or change it; chmod 600 {name}"));
        }
        if found.len() > MAX_FILE_BYTES {
            return Err(format!("{name} is longer than {MAX_FILE_BYTES} bytes"));
        }
        // From here on every copy is cleared when it is dropped.
        let whole = Secret::new(std::fs::read(file).map_err(failed)?);
        let lines = whole.expose().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let secrets: Vec<_> = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).collect();
        let fits = |secret: &&[u8]| secret.len() >= MIN_BYTES && secret.iter().all(u8::is_ascii_graphic);
        match secrets.len() {
            0 => Err(format!("{name} is empty; changeover secret {name} makes one")),
            count if count > MAX_SECRETS => {
                Err(format!("{name} has {count} secrets: one, or two (one line each) while it is rotated"))
            }
            _ if !secrets.iter().all(fits) => Err(format!(
                "{name} holds no secret: at least {MIN_BYTES} letters, digits or signs without blanks, such as \
                 `changeover secret` makes"
            )),
            _ => {
                let secrets = secrets.into_iter().map(|secret| Secret::new(secret.to_vec())).collect();
                Ok(Self { file: file.to_owned(), secrets })
            }
        }
    }
}

/// A new secret: 64 hexadecimal digits.
///
/// # Errors
/// The system gives no random numbers.
pub fn new_channel_secret() -> Result<String, String> {
    let mut random = [0_u8; NEW_BYTES];
    getrandom::fill(&mut random).map_err(|error| format!("no random number: {error}"))?;
    let mut text = String::with_capacity(2 * NEW_BYTES);
    for byte in random {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// Writes a new secret into a new file that only its owner can read.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn write_channel_secret(file: &Path) -> Result<(), String> {
    use std::io::Write as _;
    let text = new_channel_secret()?;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let written = made.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    written.map_err(|error| format!("cannot write {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn one_secret_or_two_are_read_and_the_first_is_the_one_that_signs() {
        let (one, two) = ("a".repeat(32), "b".repeat(64));
        let read = ChannelSecret::read(file(&format!("# the pair's\n{one}\r\n\n{two}\n"), 0o600).path()).unwrap();
        let read: Vec<_> = read.secrets.iter().map(Secret::expose).collect();
        assert_eq!(read, [one.as_bytes(), two.as_bytes()]);
        assert!(ChannelSecret::read(file(&one, 0o640).path()).is_ok(), "its group may read it");
    }

    #[test]
    fn a_secret_that_others_can_read_or_guess_is_refused() {
        let refused = |text: &str, mode| ChannelSecret::read(file(text, mode).path()).unwrap_err();
        for mode in [0o644, 0o604, 0o602, 0o620, 0o666] {
            assert!(refused(&"a".repeat(64), mode).contains("chmod 600"), "{mode:o}");
        }
        assert!(refused("", 0o600).contains("is empty"));
        assert!(refused("short", 0o600).contains("holds no secret"));
        assert!(refused(&"a b".repeat(20), 0o600).contains("holds no secret"));
        assert!(refused(&format!("{}\n", "a".repeat(32)).repeat(3), 0o600).contains("3 secrets"));
    }

    #[test]
    fn a_new_secret_is_only_for_its_owner_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("channel.secret");
        write_channel_secret(&file).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let read = ChannelSecret::read(&file).unwrap();
        assert_eq!(read.secrets.len(), 1);
        assert!(write_channel_secret(&file).unwrap_err().contains("cannot write"));
        assert_ne!(new_channel_secret().unwrap().as_bytes(), read.secrets[0].expose());
    }
}
