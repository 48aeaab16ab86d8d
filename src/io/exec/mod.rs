//! Runs the operator's commands: without a shell, with a deadline, output captured, and at most once.
//!
//! A command must outlive a kill of the rollout that started it, and the next rollout must find out how it ended. So it
//! is kept by a process of its own (`changeover keep-job DIR`), and everything about it is in one folder:
//! `job.json` (what to run), `lock` (held while it is kept), `begun`, `output`, `ended.json`.
//!
//! Invariant: `begun` is created exclusively, under the lock, before the command is started. So a command is started at
//! most once for a folder, however often and by whomever the folder is given to a keeper; and where `begun` stands
//! without `ended.json` while nobody holds the lock, nobody knows how it ended, and [`Ended::Unknown`] says so.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use crate::io::clock;

/// Between two looks at a job's folder.
const LOOK: Duration = Duration::from_millis(50);
/// A keeper that was just started by somebody else gets this long to show itself.
const GRACE: Duration = Duration::from_secs(2);
/// How much of the end of the output is shown.
const TAIL_BYTES: u64 = 2048;

/// A command to be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The program and its arguments; never given to a shell.
    pub argv: Vec<String>,
    /// It is killed, with everything it started in its process group, after this time in milliseconds.
    pub deadline_ms: u64,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With exit code 0.
    Well,
    /// Otherwise, or it could not be started; says how, with the end of its output.
    Badly(String),
    /// It was started, and nobody knows how it ended.
    Unknown,
    /// It was never started.
    NeverStarted,
}

#[derive(Debug, Serialize, Deserialize)]
struct EndedFile {
    /// `None`: ended well.
    fault: Option<String>,
    took_ms: u64,
}

/// The folder of a job.
#[derive(Clone, Debug)]
pub struct JobFolder(PathBuf);

impl JobFolder {
    /// This folder; it need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Starts the job, unless it was started before, and waits for its end.
    pub async fn run(&self, job: &Job) -> Ended {
        match self.start(job) {
            Ok(keeper) => self.wait(Some(keeper)).await,
            Err(error) => Ended::Badly(format!("{}: {error}", self.0.display())),
        }
    }

    /// Nothing was ever begun here.
    pub fn is_new(&self) -> bool {
        !self.has("job.json")
    }

    /// Starts the job, unless it was started before, and does not wait.
    ///
    /// # Errors
    /// Its folder cannot be written, or no keeper can be started.
    pub fn begin(&self, job: &Job) -> io::Result<()> {
        self.start(job).map(drop)
    }

    /// What it has come to; `None` while it runs, or may be about to.
    pub fn state(&self) -> Option<Ended> {
        // In this order, as in `wait`.
        let (begun, kept) = (self.has("begun"), self.is_kept());
        match (self.ended(), kept, begun) {
            (Some(ended), ..) => Some(ended),
            (None, true, _) => None,
            (None, false, true) => Some(Ended::Unknown),
            (None, false, false) => {
                let asked = fs::metadata(self.0.join("job.json")).and_then(|file| file.modified());
                let young = asked.is_ok_and(|asked| clock::since(asked).is_none_or(|age| age < GRACE));
                (!young).then_some(Ended::NeverStarted)
            }
        }
    }

    /// Waits for the end of a job that an earlier process may have started.
    pub async fn join(&self) -> Ended {
        self.wait(None).await
    }

    fn start(&self, job: &Job) -> io::Result<Child> {
        fs::create_dir_all(&self.0)?;
        if !self.has("begun") {
            write_whole(&self.0, "job.json", &serde_json::to_vec(job)?)?;
        }
        let mut keeper = Command::new(std::env::current_exe()?);
        keeper.arg("keep-job").arg(&self.0);
        keeper.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Ctrl-C on the rollout's terminal is not meant for it.
        keeper.process_group(0).spawn()
    }

    async fn wait(&self, mut keeper: Option<Child>) -> Ended {
        let patience = clock::now() + GRACE;
        loop {
            // In this order: who had begun and keeps it no longer has written how it ended before he let go.
            let begun = self.has("begun");
            let kept_by_ours = keeper.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
            let kept = kept_by_ours || self.is_kept();
            if let Some(ended) = self.ended() {
                return ended;
            }
            match (kept, begun) {
                (false, true) => return Ended::Unknown,
                (false, false) if keeper.is_some() => {
                    return Ended::Badly("the process that keeps the command did not start".to_owned());
                }
                (false, false) if clock::now() > patience => return Ended::NeverStarted,
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    /// Whether somebody keeps it now.
    fn is_kept(&self) -> bool {
        File::open(self.0.join("lock")).is_ok_and(|lock| lock.try_lock_shared().is_err())
    }

    fn ended(&self) -> Option<Ended> {
        let text = fs::read(self.0.join("ended.json")).ok()?;
        Some(match serde_json::from_slice::<EndedFile>(&text) {
            Ok(EndedFile { fault: None, .. }) => Ended::Well,
            Ok(EndedFile { fault: Some(fault), .. }) => Ended::Badly(self.with_output(fault)),
            Err(_) => Ended::Unknown,
        })
    }

    fn with_output(&self, fault: String) -> String {
        let path = self.0.join("output");
        match tail(&path) {
            Ok(tail) if !tail.trim().is_empty() => {
                format!("{fault}; its last words ({}):\n{}", path.display(), tail.trim_end())
            }
            _ => fault,
        }
    }

    /// Keeps the job: starts the command unless it was started before, waits for its end, writes it down.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub async fn keep(&self) -> io::Result<()> {
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(self.0.join("lock"))?;
        lock.lock()?;
        let job: Job = serde_json::from_slice(&fs::read(self.0.join("job.json"))?)?;
        match OpenOptions::new().create_new(true).write(true).open(self.0.join("begun")) {
            Ok(begun) => begun.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => return Err(error),
        }
        File::open(&self.0)?.sync_all()?;
        let began = clock::now();
        let fault = self.command(&job).await.err();
        let took_ms = u64::try_from((clock::now() - began).as_millis()).unwrap_or(u64::MAX);
        write_whole(&self.0, "ended.json", &serde_json::to_vec(&EndedFile { fault, took_ms })?)
    }

    async fn command(&self, job: &Job) -> Result<(), String> {
        let (program, arguments) = job.argv.split_first().ok_or("an empty command")?;
        let output = File::create(self.0.join("output")).map_err(|error| format!("no file for the output: {error}"))?;
        let errors = output.try_clone().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let group = child.id();
        match tokio::time::timeout(Duration::from_millis(job.deadline_ms), child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(status.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => {
                kill(&mut child, group).await;
                Err(format!("killed: it did not end within {} ms", job.deadline_ms))
            }
        }
    }
}

/// Another one for each start of the system; empty where there is none.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// Ends the child with all of its process group. A signal to a group needs the system's `kill`: this crate forbids
/// unsafe code, and the standard library signals single processes only.
async fn kill(child: &mut Child, group: Option<u32>) {
    if let Some(group) = group {
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).stderr(Stdio::null()).status().await;
    }
    let _ = child.kill().await;
}

/// Writes a file so that it is there whole or not at all, and stays.
pub fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let draft = folder.join(format!("{name}.new"));
    let mut file = File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(name))?;
    File::open(folder)?.sync_all()
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
