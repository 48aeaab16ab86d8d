//! Where a cell of the matrix stands: network namespaces of its own, or the loopback where those are not permitted.
//!
//! A cell runs in a process that `unshare` started with private namespaces for network, mounts and processes. Nobody has
//! to tidy up: when that process ends, however it ends, the kernel ends everything that it started and takes links,
//! firewalls and mounts away. It never touches a namespace that it has not made. Cells that need none run on the loopback
//! where this machine refuses namespaces; the others fail there, and name what is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::free_port;

/// Set for the process inside: what the cell may do there.
pub(crate) const GROUND: &str = "CHANGEOVER_FAULTS_GROUND";

/// The hosts of a cell: the two nodes, and a third that only Sentinels need.
pub(crate) const HOSTS: [&str; 3] = ["a", "b", "c"];

/// Which packets a node loses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// Whatever comes from anybody, or goes to anybody.
    Everything,
    /// What comes from this host.
    From(usize),
}

pub(crate) struct Ground {
    /// Namespaces, or the loopback.
    cuts: bool,
    pub(crate) home: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

/// How this machine can be made to give a process namespaces of its own, or why it cannot.
pub(crate) fn permitted() -> Result<Vec<&'static str>, String> {
    let common = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut why = String::new();
    for user in [&[][..], &["--user", "--map-root-user"][..]] {
        let flags: Vec<_> = user.iter().chain(&common).copied().collect();
        let mut command = Command::new("unshare");
        command.args(&flags).arg(std::env::current_exe().unwrap()).arg("--try-the-ground");
        match command.env(GROUND, "namespaces").stdin(Stdio::null()).output() {
            Ok(out) if out.status.success() => return Ok(flags),
            Ok(out) => why = String::from_utf8_lossy(&out.stderr).trim().replace('\n', "; "),
            Err(error) => return Err(format!("unshare: {error}")),
        }
    }
    Err(why)
}

impl Ground {
    /// Makes what [`GROUND`] says.
    pub(crate) fn make() -> Self {
        if std::env::var(GROUND).is_ok_and(|ground| ground == "namespaces") {
            return Self::namespaces();
        }
        let temporary = tempfile::tempdir().unwrap();
        Self { cuts: false, home: temporary.path().to_owned(), _temporary: Some(temporary) }
    }

    fn namespaces() -> Self {
        // The names of namespaces, the lock of iptables and all files of the cell live and die with this mount.
        run("mount -t tmpfs none /run");
        for folder in ["/run/netns", "/run/cell"] {
            std::fs::create_dir_all(folder).unwrap();
        }
        run("ip link set lo up");
        run("ip link add hub type bridge");
        run("ip addr add 10.77.0.254/24 dev hub");
        run("ip link set hub up");
        for (number, host) in HOSTS.iter().enumerate() {
            run(&format!("ip netns add {host}"));
            run(&format!("ip link add to-{host} type veth peer name eth0 netns {host}"));
            run(&format!("ip link set to-{host} master hub up"));
            run(&format!("ip -n {host} addr add {}/24 dev eth0", address(true, number)));
            run(&format!("ip -n {host} link set eth0 up"));
            run(&format!("ip -n {host} link set lo up"));
        }
        Self { cuts: true, home: PathBuf::from("/run/cell"), _temporary: None }
    }

    /// The address of a host.
    pub(crate) fn address(&self, host: usize) -> String {
        address(self.cuts, host)
    }

    /// `wanted` where every host has its own ports, else one that is free.
    pub(crate) fn port(&self, wanted: u16) -> u16 {
        if self.cuts { wanted } else { free_port() }
    }

    /// A command that will run on this host.
    pub(crate) fn on(&self, host: usize, program: &Path) -> Command {
        if !self.cuts {
            return Command::new(program);
        }
        // It becomes the program: the child's id is that of the program.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", HOSTS[host])).arg("--").arg(program);
        command
    }

    /// From now on this host loses these packets (its own loopback excepted).
    pub(crate) fn cut(&self, host: usize, cut: Cut) {
        for rule in self.rules(cut) {
            run(&format!("ip netns exec {} iptables -A {rule}", HOSTS[host]));
        }
    }

    /// The same packets pass again.
    pub(crate) fn mend(&self, host: usize, cut: Cut) {
        for rule in self.rules(cut) {
            run(&format!("ip netns exec {} iptables -D {rule}", HOSTS[host]));
        }
    }

    fn rules(&self, cut: Cut) -> Vec<String> {
        assert!(self.cuts, "packets can be dropped in namespaces only");
        match cut {
            Cut::Everything => vec!["INPUT ! -i lo -j DROP".to_owned(), "OUTPUT ! -o lo -j DROP".to_owned()],
            Cut::From(other) => vec![format!("INPUT -s {} -j DROP", self.address(other))],
        }
    }

    /// A file system of so many KiB in a folder of the cell, so that it can be filled. Needs namespaces.
    pub(crate) fn small_disk(&self, folder: &Path, kib: u64) {
        assert!(self.cuts, "mounts are private in namespaces only");
        std::fs::create_dir_all(folder).unwrap();
        run(&format!("mount -t tmpfs -o size={kib}k none {}", folder.display()));
    }
}

fn address(own: bool, host: usize) -> String {
    if own { format!("10.77.0.{}", host + 1) } else { format!("127.0.0.{}", host + 1) }
}

/// Runs words; what fails ends the cell.
fn run(words: &str) {
    let mut parts = words.split(' ');
    let mut command = Command::new(parts.next().unwrap());
    // Debian leaves the folders of `ip` and `iptables` out of the PATH of ordinary users.
    command.args(parts).stdin(Stdio::null()).env("PATH", path_with_system_programs());
    let out = command.output();
    let out = out.unwrap_or_else(|error| panic!("{words}: {error}"));
    assert!(out.status.success(), "{words}: {}", String::from_utf8_lossy(&out.stderr));
}

fn path_with_system_programs() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}
