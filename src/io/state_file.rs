//! One small file that survives us: what must be remembered across a restart.
//!
//! It keeps text and knows nothing of its meaning. Each save replaces the whole file: a temporary file beside it is
//! written, synced and renamed over it, so that a reader finds the old text or the new one, never a part. A save that
//! fails leaves the old text; it is the caller's choice to go on (a full disk must not stop serving).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Longest text that is read back, in bytes: ours are a few hundred.
const MAX_BYTES: u64 = 64 * 1024;

/// Where the text is kept.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// A file of this name in this directory. `name` may hold any text: what does not belong into a file name is
    /// replaced.
    pub fn new(dir: &Path, name: &str) -> Self {
        let keep =
            |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | '+') { c } else { '-' };
        let name: String = name.chars().map(keep).take(200).collect();
        Self { path: dir.join(format!("{}.json", name.trim_start_matches('.'))) }
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory and shows that a file can be written there, without touching the text.
    pub fn prepare(&self) -> io::Result<()> {
        if let Some(dir) = self.path.parent() {
            fs::create_dir_all(dir)?;
        }
        let trial = self.beside("trial");
        private(&trial)?;
        fs::remove_file(&trial)
    }

    /// The text of the last save; `None` if there was none.
    pub fn load(&self) -> io::Result<Option<String>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        let read = file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
        if u64::try_from(read).unwrap_or(u64::MAX) > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {MAX_BYTES} bytes")));
        }
        Ok(Some(text))
    }

    /// Replaces the text, durably. Blocks for as long as the disk takes.
    pub fn save(&self, text: &str) -> io::Result<()> {
        let temporary = self.beside("new");
        let written = private(&temporary).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        if let Err(error) = written.and_then(|()| fs::rename(&temporary, &self.path)) {
            // Whatever was left of it takes room on a disk that may be full.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        match self.path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Moves a text that nobody can read out of the way, so that it can be looked at.
    pub fn set_aside(&self) -> io::Result<PathBuf> {
        let aside = self.path.with_extension("json.unreadable");
        fs::rename(&self.path, &aside)?;
        Ok(aside)
    }

    /// A name beside the file; two processes that share a directory must not write to the same one.
    fn beside(&self, what: &str) -> PathBuf {
        self.path.with_extension(format!("json.{what}-{}", std::process::id()))
    }
}

/// A new file that only we can read.
fn private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_last_text_is_found_again_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(&dir.path().join("made/here"), "a@[::1]:7001/../x");
        assert_eq!(file.load().unwrap(), None);
        file.prepare().unwrap();
        file.save("one").unwrap();
        file.save("two").unwrap();
        assert_eq!(file.load().unwrap().as_deref(), Some("two"));
        assert_eq!(files(&dir.path().join("made/here")), ["a@---1--7001-..-x.json"]);
    }

    #[test]
    fn a_save_that_fails_leaves_the_old_text() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(dir.path(), "pair");
        file.save("old").unwrap();
        // The temporary name is taken by a directory: opening it for writing fails, for root as well.
        fs::create_dir(file.beside("new")).unwrap();
        assert!(file.save("new").is_err());
        assert_eq!(file.load().unwrap().as_deref(), Some("old"));
    }

    #[test]
    fn too_long_or_not_text_is_an_error_and_can_be_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(dir.path(), "pair");
        fs::write(file.path(), vec![b'x'; 70_000]).unwrap();
        assert_eq!(file.load().unwrap_err().kind(), io::ErrorKind::InvalidData);
        fs::write(file.path(), [0xff, 0xfe]).unwrap();
        assert!(file.load().is_err());
        let aside = file.set_aside().unwrap();
        assert!(aside.exists());
        assert_eq!(file.load().unwrap(), None);
    }
}
