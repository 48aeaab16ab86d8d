//! A child process with its log; ended by its own id whatever happens.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{now, wait_until};

pub(crate) struct Process {
    child: Child,
    pub(crate) log: PathBuf,
}

impl Process {
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        let program = command.get_program().to_owned();
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e} (make deps)", program.display()));
        Self { child, log: log.to_owned() }
    }

    /// Sends a signal by name, as `kill` does.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("/bin/sh").args(["-c", "kill -\"$0\" \"$1\"", name, &pid]).status().unwrap();
        assert!(sent.success(), "kill -{name} {pid}");
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    pub(crate) fn running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end by itself.
    pub(crate) fn end(&mut self, patience: Duration) -> ExitStatus {
        let until = now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(now() < until, "still running after {patience:?}; log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Resident memory in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Waits until `ready`; a process that ends meanwhile fails the test with its log.
    pub(crate) fn wait_ready(&mut self, what: &str, mut ready: impl FnMut() -> bool) {
        wait_until(what, Duration::from_secs(15), || {
            if !self.running() {
                panic!("{what}: it ended; log:\n{}", self.log());
            }
            ready()
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
