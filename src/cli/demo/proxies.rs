//! The two proxies, one beside each node: this very executable, run as an operator would run it.
//!
//! It uses the command line only (`run`, `switchover`); the demo has no back door into a proxy.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::certs::Certs;
use super::pair::Pair;
use super::process::{self, Process, StartError};
use super::signals::Interrupt;
use crate::io::clock;

const START: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(10);

/// Both proxies.
#[derive(Debug)]
pub(super) struct Proxies {
    executable: PathBuf,
    running: Vec<Proxy>,
}

#[derive(Debug)]
struct Proxy {
    process: Process,
    listen: SocketAddr,
    admin: String,
}

impl Proxies {
    /// Starts one for each node and waits until both accept connections.
    pub(super) fn start(
        pair: &Pair,
        certs: &Certs,
        dir: &Path,
        workers: usize,
        interrupt: &Interrupt,
    ) -> Result<Self, String> {
        let executable = std::env::current_exe().map_err(|e| format!("where is this executable? {e}"))?;
        let ports = process::free_ports(4)?;
        let mut proxies = Self { executable, running: Vec::new() };
        for (node, ports) in pair.nodes.iter().zip(ports.chunks_exact(2)) {
            let &[port, metrics] = ports else { continue };
            proxies.launch(node.name, pair, certs, dir, workers, (port, metrics))?;
        }
        for proxy in &mut proxies.running {
            proxy.wait(interrupt)?;
        }
        Ok(proxies)
    }

    fn launch(
        &mut self,
        name: &str,
        pair: &Pair,
        certs: &Certs,
        dir: &Path,
        workers: usize,
        (port, metrics): (u16, u16),
    ) -> Result<(), String> {
        let home = dir.join(format!("proxy-{name}"));
        std::fs::create_dir_all(&home).map_err(|e| format!("{}: {e}", home.display()))?;
        let listen = SocketAddr::from(([127, 0, 0, 1], port));
        let admin = format!("unix:{}", home.join("admin.sock").display());
        let mut command = Command::new(&self.executable);
        command.arg("run").args([
            "--listen",
            &listen.to_string(),
            "--admin",
            &admin,
            "--self",
            name,
            "--failover",
            "pair",
        ]);
        command.args(["--metrics", &format!("127.0.0.1:{metrics}"), "--workers", &workers.to_string()]);
        // No load balancer looks at them.
        command.args(["--drain-notice", "0s"]);
        command.arg("--cert").arg(&certs.cert).arg("--key").arg(&certs.key);
        command.arg("--channel-secret-file").arg(&certs.secret);
        command.arg("--state-dir").arg(home.join("state"));
        for node in &pair.nodes {
            command.args(["--node", &format!("{}={}", node.name, node.at)]);
        }
        let process = Process::start(&mut command, &home.join("log")).map_err(|e| match e {
            StartError::Missing => format!("{} is gone", self.executable.display()),
            StartError::Failed(why) => why,
        })?;
        self.running.push(Proxy { process, listen, admin });
        Ok(())
    }

    /// Where clients connect.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.running.iter().map(|p| p.listen).collect()
    }

    /// `changeover switchover`, asked of one proxy after the other in turn. The error is what the command printed.
    pub(super) fn switchover(&self, to: &str, turn: usize) -> Result<(), String> {
        let proxy = self.running.get(turn % self.running.len().max(1)).ok_or("no proxy runs")?;
        let out = Command::new(&self.executable)
            .args(["switchover", "--to", to, "--timeout", "10s", "--admin", &proxy.admin])
            .output()
            .map_err(|e| format!("changeover switchover: {e}"))?;
        if out.status.success() {
            return Ok(());
        }
        let said = [out.stderr, out.stdout].concat();
        let said = String::from_utf8_lossy(&said);
        Err(format!("`changeover switchover --to {to}` failed ({}): {}", out.status, said.trim()))
    }

    /// A proxy that has ended by itself, with its last words.
    pub(super) fn casualty(&mut self) -> Option<String> {
        self.running.iter_mut().find_map(Proxy::casualty)
    }

    /// CPU time that both have used.
    pub(super) fn cpu(&self) -> Option<Duration> {
        self.running.iter().map(|p| p.process.cpu()).sum()
    }

    /// Ends both as an init system does: SIGTERM, then patience.
    pub(super) fn stop(&mut self) {
        for proxy in &mut self.running {
            proxy.process.terminate(STOP);
        }
    }
}

impl Proxy {
    fn wait(&mut self, interrupt: &Interrupt) -> Result<(), String> {
        let until = clock::now() + START;
        while TcpStream::connect_timeout(&self.listen, Duration::from_secs(1)).is_err() {
            if let Some(why) = self.casualty() {
                return Err(why);
            }
            if clock::now() > until {
                return Err(format!("a proxy does not listen on {}:{}", self.listen, self.process.last_words()));
            }
            interrupt.sleep(Duration::from_millis(20))?;
        }
        Ok(())
    }

    fn casualty(&mut self) -> Option<String> {
        let status = self.process.ended()?;
        Some(format!("the proxy on {} ended ({status}):{}", self.listen, self.process.last_words()))
    }
}
