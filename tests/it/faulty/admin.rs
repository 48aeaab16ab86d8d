//! The superuser's view of one server: roles, digests of values, users, settings.
//!
//! It logs in as a user of its own, because the stories change the default user. A command that only asks is asked
//! again if its connection is killed; the stories kill connections.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::client::encode;
use crate::support::redis::Redis;
use crate::support::{Value, value};

/// The superuser of both worlds, which no story touches. The proxies use it as well.
pub(super) const USER: &str = "proxy";
pub(super) const PASSWORD: &str = "superuser";

pub(super) struct Admin {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Admin {
    pub(super) fn of(node: &Redis) -> std::io::Result<Self> {
        Self::at(node.port)
    }

    fn at(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        let mut admin = Self { stream, input: Vec::new() };
        admin.words(&format!("AUTH {USER} {PASSWORD}"))?;
        Ok(admin)
    }

    pub(super) fn words(&mut self, words: &str) -> std::io::Result<Value> {
        self.call(&words.split(' ').map(str::as_bytes).collect::<Vec<_>>())
    }

    pub(super) fn call(&mut self, args: &[&[u8]]) -> std::io::Result<Value> {
        self.stream.write_all(&encode(args))?;
        loop {
            if let Some((value, used)) = value::decode(&self.input) {
                self.input.drain(..used);
                return Ok(value);
            }
            let mut chunk = vec![0; 1 << 18];
            match self.stream.read(&mut chunk)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => self.input.extend_from_slice(&chunk[..n]),
            }
        }
    }
}

/// Asks on a fresh connection, and once more on another one if that is killed.
pub(super) fn ask<T>(node: &Redis, question: impl Fn(&mut Admin) -> std::io::Result<T>) -> T {
    let mut last = None;
    for _ in 0..20 {
        match Admin::of(node).and_then(|mut admin| question(&mut admin)) {
            Ok(answer) => return answer,
            Err(e) => last = Some(e),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("server {}: {last:?}", node.name)
}

/// One command of words whose second execution does no harm.
pub(super) fn words(node: &Redis, words: &str) -> Value {
    ask(node, |admin| admin.words(words))
}

/// Publishes at the server with this port.
pub(super) fn publish(port: u16, channel: &str, message: &str) {
    let said = Admin::at(port).and_then(|mut admin| admin.words(&format!("PUBLISH {channel} {message}")));
    assert!(matches!(said, Ok(Value::Int(_))), "{said:?}");
}
