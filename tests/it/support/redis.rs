//! Real servers, alone and as a pair; each listens on a plain port (for proxies and operators) and on a TLS port (the
//! control for what clients see).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::certs::Certs;
use super::client::{Client, encode};
use super::process::Process;
use super::value::{self, Value};
use super::{free_port, wait_until};

/// What a pair is like.
#[derive(Clone, Default)]
pub(crate) struct PairOptions {
    /// `requirepass` and `masterauth`.
    pub(crate) password: Option<&'static str>,
    /// Further ACL users, as in `user NAME on >PASS ~* +@all`.
    pub(crate) users: Vec<&'static str>,
    /// The users stand in a file, so that `ACL LOAD` works.
    pub(crate) acl_file: bool,
    /// Commands that have another name there, as in `GET READIT`.
    pub(crate) renamed: Vec<&'static str>,
}

pub(crate) struct Redis {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    tls_port: u16,
    dir: PathBuf,
    options: PairOptions,
    pub(crate) process: Option<Process>,
}

impl Redis {
    fn new(name: &'static str, dir: &Path, options: &PairOptions) -> Self {
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self { name, port: free_port(), tls_port: free_port(), dir, options: options.clone(), process: None }
    }

    /// Starts its process with empty data, as a replica of `follows` or as a primary.
    pub(crate) fn boot(&mut self, certs: &Certs, follows: Option<u16>) {
        let mut command = Command::new("redis-server");
        command.current_dir(&self.dir).args(["--bind", "127.0.0.1", "--save", "", "--enable-debug-command", "yes"]);
        command.args(["--port", &self.port.to_string(), "--tls-port", &self.tls_port.to_string()]);
        command.args(["--repl-diskless-sync-delay", "0", "--tls-auth-clients", "no"]);
        command.arg("--tls-cert-file").arg(&certs.cert).arg("--tls-key-file").arg(&certs.key);
        command.arg("--tls-ca-cert-file").arg(&certs.ca);
        if let Some(password) = self.options.password {
            command.args(["--requirepass", password, "--masterauth", password]);
        }
        if self.options.acl_file {
            self.write_users("user default on nopass ~* &* +@all");
            command.arg("--aclfile").arg(self.acl_file());
        }
        for user in self.options.users.iter().filter(|_| !self.options.acl_file) {
            command.arg("--user").args(user.split(' '));
        }
        for renamed in &self.options.renamed {
            command.arg("--rename-command").args(renamed.split(' '));
        }
        if let Some(port) = follows {
            command.args(["--replicaof", "127.0.0.1", &port.to_string()]);
        }
        let mut process = Process::start(&mut command, &self.dir.join("log"));
        let port = self.port;
        process.wait_ready("redis-server listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        self.process = Some(process);
    }

    fn acl_file(&self) -> PathBuf {
        self.dir.join("users.acl")
    }

    /// What the next `ACL LOAD` will find: this line, and the users of [`PairOptions`].
    pub(crate) fn write_users(&self, first: &str) {
        let users = self.options.users.iter().map(|user| format!("user {user}\n"));
        std::fs::write(self.acl_file(), users.fold(format!("{first}\n"), |all, user| all + &user)).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    pub(crate) fn signal(&self, name: &str) {
        self.process.as_ref().unwrap().signal(name);
    }

    /// Its TLS port.
    pub(crate) fn tls(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.tls_port))
    }

    /// One command of words on a fresh plain connection, as an operator.
    pub(crate) fn cmd(&self, words: &str) -> Value {
        self.try_cmd(words).unwrap_or_else(|e| panic!("redis {}: {words}: {e}", self.name))
    }

    pub(crate) fn try_cmd(&self, words: &str) -> std::io::Result<Value> {
        self.exchange(&encode(&words.split(' ').map(str::as_bytes).collect::<Vec<_>>()), 1)
    }

    /// Sends commands on a fresh plain connection and returns the last of so many replies.
    fn exchange(&self, commands: &[u8], replies: usize) -> std::io::Result<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut skip = replies - 1;
        if let Some(password) = self.options.password {
            stream.write_all(&encode(&[b"AUTH", password.as_bytes()]))?;
            skip += 1;
        }
        stream.write_all(commands)?;
        let mut input = Vec::new();
        loop {
            if let Some((value, used)) = value::decode(&input) {
                if skip == 0 {
                    return Ok(value);
                }
                skip -= 1;
                input.drain(..used);
                continue;
            }
            let mut chunk = [0; 65_536];
            match stream.read(&mut chunk)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => input.extend_from_slice(&chunk[..n]),
            }
        }
    }

    /// Replicas that it shows as online, if it takes writes: ROLE of a primary ends with their list.
    fn replicas(&self) -> Option<usize> {
        match self.try_cmd("ROLE") {
            Ok(Value::Array(role)) if role.len() == 3 => match &role[2] {
                Value::Array(replicas) => Some(replicas.len()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether it says that it takes writes.
    pub(crate) fn is_primary(&self) -> bool {
        self.replicas().is_some()
    }

    /// Whether it follows a primary and is in step.
    pub(crate) fn is_connected_replica(&self) -> bool {
        matches!(self.try_cmd("ROLE"), Ok(Value::Array(role)) if role.len() == 5 && role[3].text() == "connected")
    }
}

/// Both say so, and the replica acknowledges what is written now. (A primary shows a replica as online while it still
/// buffers the stream for it: up to a second, until the first acknowledgement after a full synchronisation.)
fn in_step(primary: &Redis, replica: &Redis) -> bool {
    if primary.replicas() != Some(1) || !replica.is_connected_replica() {
        return false;
    }
    let both = [encode(&[b"PUBLISH", b"harness", b"x"]), encode(&[b"WAIT", b"1", b"2000"])].concat();
    matches!(primary.exchange(&both, 2), Ok(Value::Int(1)))
}

/// Two servers; `a` is the primary at first.
pub(crate) struct Pair {
    pub(crate) a: Redis,
    pub(crate) b: Redis,
    pub(crate) certs: Certs,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) options: PairOptions,
    pub(crate) dir: tempfile::TempDir,
}

impl Pair {
    pub(crate) fn start() -> Self {
        Self::with(&PairOptions::default())
    }

    pub(crate) fn with(options: &PairOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certs = Certs::make(dir.path());
        let (mut a, mut b) = (Redis::new("a", dir.path(), options), Redis::new("b", dir.path(), options));
        a.boot(&certs, None);
        b.boot(&certs, Some(a.port));
        let tls = certs.client(None);
        let pair = Self { a, b, certs, tls, options: options.clone(), dir };
        pair.wait_primary_a();
        pair
    }

    pub(crate) fn wait_primary_a(&self) {
        wait_until("a is primary, b in step", Duration::from_secs(15), || in_step(&self.a, &self.b));
    }

    pub(crate) fn wait_primary_b(&self) {
        wait_until("b is primary, a in step", Duration::from_secs(15), || in_step(&self.b, &self.a));
    }

    /// Starts `a` again with empty data.
    pub(crate) fn boot_a(&mut self, follows_b: bool) {
        let follows = follows_b.then_some(self.b.port);
        self.a.boot(&self.certs, follows);
    }

    /// A client of `a` itself, over TLS: the control.
    pub(crate) fn direct(&self) -> Client {
        Client::connect(self.a.tls(), &self.tls)
    }
}
