//! The file of a rollout's journal: one line for each record, on disk before anything that the record announces is done.
//!
//! It knows nothing of what the records mean. Invariant: one process at a time holds the file (a lock that ends with the
//! process, however it ends), so two rollouts never run from one journal.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::io::clock;
use crate::patch::journal::{History, JournalError, Record, read};

/// Longest journal that is read.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// A journal, open and locked.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    file: File,
}

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalFileError {
    /// Another process has it.
    #[error("{0}: another rollout is running from this journal")]
    Busy(PathBuf),
    /// It cannot be read, or a new one cannot be made.
    #[error("{0}: {1}")]
    Failed(PathBuf, io::Error),
    /// It cannot be written, and the rollout is under way.
    #[error(
        "{0}: {1}: what was begun goes on by itself and nothing more was begun: make room, then run the same command again"
    )]
    Unwritten(PathBuf, io::Error),
    /// What it says makes no sense.
    #[error("{0}: {1}")]
    Wrong(PathBuf, JournalError),
}

#[derive(Serialize)]
struct Line<'a> {
    at: jiff::Timestamp,
    #[serde(flatten)]
    record: &'a Record,
}

impl JournalFile {
    /// Opens the journal at `path`, made if it is not there, and reads what it holds; `None` when it is new. A line
    /// that a kill cut short is removed.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(path: &Path) -> Result<(Self, Option<History>), JournalFileError> {
        let failed = |error| JournalFileError::Failed(path.to_owned(), error);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = options.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalFileError::Busy(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut text = String::new();
        (&mut file).take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        text.truncate(whole);
        file.set_len(whole as u64).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failed)?;
        let history = match text.is_empty() {
            true => None,
            false => Some(read(&text).map_err(|error| JournalFileError::Wrong(path.to_owned(), error))?),
        };
        Ok((Self { path: path.to_owned(), file }, history))
    }

    /// Puts the journal aside under another name, and begins an empty one.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn put_aside(self, id: &str) -> Result<Self, JournalFileError> {
        let aside = self.path.with_extension(format!("{id}.jsonl"));
        fs::rename(&self.path, aside).map_err(|error| JournalFileError::Failed(self.path.clone(), error))?;
        Self::open(&self.path).map(|(journal, _)| journal)
    }

    /// Writes one record; when this returns, it stays.
    ///
    /// # Errors
    /// The disk is full, for example: what the record announces must not be done.
    pub fn append(&mut self, record: &Record) -> Result<(), JournalFileError> {
        let written = self.write(record);
        written.map_err(|error| JournalFileError::Unwritten(self.path.clone(), error))
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Line { at: clock::timestamp(), record })?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::journal::VERSION;
    use crate::patch::plan::{Kind, Plan};

    fn plan(id: &str) -> Record {
        Record::Plan { version: VERSION, id: id.into(), plan: Plan { kind: Kind::Patch, shards: Vec::new() } }
    }

    #[test]
    fn a_journal_is_gone_on_with_after_a_cut_and_belongs_to_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/journal.jsonl");
        let (mut journal, none) = JournalFile::open(&path).unwrap();
        assert_eq!(none, None);
        journal.append(&plan("x")).unwrap();
        assert!(matches!(JournalFile::open(&path), Err(JournalFileError::Busy(_))));
        drop(journal);
        let cut = fs::read_to_string(&path).unwrap() + "{\"record\":\"fin";
        fs::write(&path, cut).unwrap();
        let (mut journal, history) = JournalFile::open(&path).unwrap();
        assert!(!history.unwrap().finished);
        journal.append(&Record::Resumed).unwrap();
        journal.append(&Record::Finished).unwrap();
        drop(journal);
        let (journal, history) = JournalFile::open(&path).unwrap();
        let history = history.unwrap();
        assert_eq!((history.id.as_str(), history.finished), ("x", true));
        let mut journal = journal.put_aside("x").unwrap();
        journal.append(&plan("y")).unwrap();
        assert!(folder.path().join("deep/journal.x.jsonl").exists());
    }

    #[test]
    fn a_journal_that_makes_no_sense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        fs::write(&path, "nonsense\n").unwrap();
        assert!(matches!(JournalFile::open(&path), Err(JournalFileError::Wrong(..))));
    }
}
