//! Child processes of the demo: each is ended by its own id, on every way out.
//!
//! They get process groups of their own, so that Ctrl-C reaches only the demo, which then ends them in order.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::io::clock;

/// A running child; killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Where its output went.
    pub(super) log: PathBuf,
}

/// Why a child could not be started.
#[derive(Debug)]
pub(super) enum StartError {
    /// There is no such program.
    Missing,
    /// Anything else.
    Failed(String),
}

impl Process {
    /// Starts it with its output in `log` (appended to).
    pub(super) fn start(command: &mut Command, log: &Path) -> Result<Self, StartError> {
        let failed = |e: std::io::Error| StartError::Failed(format!("{}: {e}", log.display()));
        let out = File::options().create(true).append(true).open(log).map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        match command.spawn() {
            Ok(child) => Ok(Self { child, log: log.to_owned() }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(StartError::Missing),
            Err(e) => Err(StartError::Failed(format!("{}: {e}", command.get_program().display()))),
        }
    }

    /// How it ended, when it has.
    pub(super) fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(e) => Some(e.to_string()),
        }
    }

    /// SIGKILL, as `kill -9` does, and waits for the end.
    pub(super) fn kill(&mut self) {
        // Both fail only when it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }

    /// SIGTERM; SIGKILL when it has not ended after `patience`.
    pub(super) fn terminate(&mut self, patience: Duration) {
        let pid = self.child.id().to_string();
        // The shell's own `kill`: present wherever there is a shell.
        let asked = Command::new("/bin/sh").args(["-c", "kill -TERM \"$0\"", &pid]).status();
        let until = clock::now() + patience;
        while asked.is_ok() && self.ended().is_none() && clock::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }

    /// CPU time that it has used, where the system tells (Linux).
    pub(super) fn cpu(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        // After the name in parentheses: state is field 3, utime 14, stime 15, in ticks of 10 ms.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
        Some(Duration::from_millis(ticks * 10))
    }

    /// The last lines of its log, for an error message.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(8).collect();
        lines.into_iter().rev().map(|line| format!("\n    {line}")).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ports that were free a moment ago. They lie below the range from which the system takes the ports of outgoing
/// connections (32768 on Linux), so that no client takes the port of a server that is down for a moment.
pub(super) fn free_ports(count: usize) -> Result<Vec<u16>, String> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 1000).unwrap_or(0) * 11;
    let mut found = Vec::new();
    for _ in 0..11_000_u16 {
        if found.len() == count {
            return Ok(found);
        }
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + offset.wrapping_add(step) % 11_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            found.push(port);
        }
    }
    Err("no free port on 127.0.0.1 between 20000 and 31000".to_owned())
}
