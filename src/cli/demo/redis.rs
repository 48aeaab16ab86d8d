//! One `redis-server` of the demo, and the plain connection on which it is commanded, as an operator would with
//! `redis-cli`.
//!
//! Blocking on purpose: it is used from the demo's main thread only, between or beside the load.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::{Process, StartError};
use super::wire::{self, Item};
use crate::io::clock;

const START: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(20);

/// What to say when there is no server.
pub(super) const INSTALL: &str = "redis-server is not installed (or not in PATH). Install it first:\n\
    \x20 Debian, Ubuntu:  apt-get install redis-server redis-tools   (or: make deps)\n\
    \x20 Fedora, RHEL:    dnf install redis  (or valkey, with a redis-server link in PATH)\n\
    \x20 macOS:           brew install redis\n\
    Redis 6.2 or later is needed; --redis-server FILE names another binary.";

/// A reply, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Simple and bulk strings.
    Text(Vec<u8>),
    /// `:n`
    Integer(i64),
    /// Null.
    Null,
    /// `-ERR …`, without the dash; from [`Direct`] it is an `Err` instead.
    Error(Vec<u8>),
    /// Items.
    Array(Vec<Value>),
}

impl Value {
    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A number, also when it came as text.
    pub(super) fn number(&self) -> Option<i64> {
        match self {
            Self::Integer(n) => Some(*n),
            Self::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// The items of an array.
    pub(super) fn items(&self) -> &[Value] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }
}

/// A plain connection to one server.
#[derive(Debug)]
pub(super) struct Direct {
    stream: TcpStream,
    input: Vec<u8>,
    used: usize,
}

impl Direct {
    /// Connects.
    pub(super) fn connect(at: SocketAddr) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("redis-server at {at}: {e}");
        let stream = TcpStream::connect_timeout(&at, ANSWER).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWER)).map_err(failed)?;
        Ok(Self { stream, input: Vec::new(), used: 0 })
    }

    /// One command; an error reply is an `Err`.
    pub(super) fn ask(&mut self, args: &[&[u8]]) -> Result<Value, String> {
        let mut out = Vec::new();
        wire::command(&mut out, args);
        self.stream.write_all(&out).map_err(|e| e.to_string())?;
        self.value()
    }

    /// Several commands in one write; the first error reply ends it.
    pub(super) fn ask_all(&mut self, pipeline: &[u8], replies: usize) -> Result<Vec<Value>, String> {
        self.stream.write_all(pipeline).map_err(|e| e.to_string())?;
        (0..replies).map(|_| self.value()).collect()
    }

    fn value(&mut self) -> Result<Value, String> {
        // Replies of the commands that the demo sends nest at most three deep.
        loop {
            let rest = self.input.get(self.used..).unwrap_or_default();
            if let Some((item, taken)) = wire::item(rest).map_err(|e| e.0)? {
                let value = match item {
                    Item::Error(text) => Err(String::from_utf8_lossy(text).into_owned()),
                    Item::Simple(text) | Item::Bulk(text) => Ok(Ok(Value::Text(text.to_vec()))),
                    Item::Integer(n) => Ok(Ok(Value::Integer(n))),
                    Item::Null => Ok(Ok(Value::Null)),
                    Item::Array(items) => Ok(Err(items)),
                };
                self.used += taken;
                return match value? {
                    Ok(value) => Ok(value),
                    Err(items) => (0..items).map(|_| self.value()).collect::<Result<_, _>>().map(Value::Array),
                };
            }
            self.input.drain(..std::mem::take(&mut self.used));
            let mut more = [0; 65_536];
            match self.stream.read(&mut more) {
                Ok(0) => return Err("redis-server closed the connection".to_owned()),
                Ok(count) => self.input.extend_from_slice(more.get(..count).unwrap_or_default()),
                Err(e) => return Err(e.to_string()),
            }
        }
    }
}

/// How a server sees itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It takes writes.
    Primary {
        /// Replicas that are online; each becomes so with its first acknowledgement.
        replicas: usize,
    },
    /// It follows another.
    Replica {
        /// Its link to the primary is up and its data are in step.
        connected: bool,
    },
}

/// One server of the pair.
#[derive(Debug)]
pub(super) struct Redis {
    /// `a` or `b`.
    pub(super) name: &'static str,
    /// Where it listens.
    pub(super) at: SocketAddr,
    dir: PathBuf,
    binary: PathBuf,
    process: Option<Process>,
}

impl Redis {
    /// Starts it; `follows` makes it boot as a replica.
    pub(super) fn start(
        binary: &Path,
        name: &'static str,
        port: u16,
        dir: &Path,
        follows: Option<SocketAddr>,
    ) -> Result<Self, String> {
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        let dir = dir.join(format!("redis-{name}"));
        std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let mut redis = Self { name, at, dir, binary: binary.to_owned(), process: None };
        redis.boot(follows)?;
        Ok(redis)
    }

    /// Starts its process (again) with empty data.
    pub(super) fn boot(&mut self, follows: Option<SocketAddr>) -> Result<(), String> {
        let mut command = Command::new(&self.binary);
        let port = self.at.port().to_string();
        command.current_dir(&self.dir).args(["--port", &port, "--bind", "127.0.0.1", "--daemonize", "no"]);
        command.args(["--save", "", "--appendonly", "no", "--repl-diskless-sync", "yes"]);
        command.args(["--repl-diskless-sync-delay", "0", "--repl-backlog-size", "64mb"]);
        if let Some(primary) = follows {
            command.args(["--replicaof", &primary.ip().to_string(), &primary.port().to_string()]);
        }
        let mut process = match Process::start(&mut command, &self.dir.join("log")) {
            Ok(process) => process,
            Err(StartError::Missing) => return Err(INSTALL.to_owned()),
            Err(StartError::Failed(why)) => return Err(why),
        };
        let until = clock::now() + START;
        loop {
            if let Some(status) = process.ended() {
                return Err(format!("redis-server {} ended ({status}):{}", self.name, process.last_words()));
            }
            if Direct::connect(self.at).and_then(|mut direct| direct.ask(&[b"PING"])).is_ok() {
                break;
            }
            if clock::now() > until {
                return Err(format!("redis-server {} does not answer:{}", self.name, process.last_words()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.process = Some(process);
        Ok(())
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        self.process = None;
    }

    /// One command on a fresh connection.
    pub(super) fn ask(&self, args: &[&[u8]]) -> Result<Value, String> {
        Direct::connect(self.at)?.ask(args)
    }

    /// Its version, from INFO.
    pub(super) fn version(&self) -> Result<String, String> {
        let info = self.ask(&[b"INFO", b"server"])?;
        let text = String::from_utf8_lossy(info.text().unwrap_or_default()).into_owned();
        let version = text.lines().find_map(|line| line.strip_prefix("redis_version:"));
        Ok(version.unwrap_or("of unknown version").trim().to_owned())
    }

    /// What it says of itself. Told by the shape of ROLE's reply: a primary lists its replicas, a replica has five
    /// fields, the fourth of which is the state of its link.
    pub(super) fn standing(&self) -> Result<Standing, String> {
        let role = self.ask(&[b"ROLE"])?;
        match role.items() {
            [_, _, Value::Array(replicas)] => Ok(Standing::Primary { replicas: replicas.len() }),
            [_, _, _, state, _] => Ok(Standing::Replica { connected: state.text() == Some(b"connected") }),
            _ => Err(format!("redis-server {}: an unexpected reply to ROLE", self.name)),
        }
    }
}
