//! A blocking TLS client that sends exactly the bytes that a story wants.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use super::value::{self, Value};

/// Longer than any hold in these tests.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    input: Vec<u8>,
    used: usize,
}

impl Client {
    /// Connects; the handshake is done on return.
    pub(crate) fn connect(at: SocketAddr, tls: &Arc<rustls::ClientConfig>) -> Self {
        Self::try_connect(at, tls).unwrap_or_else(|e| panic!("{at}: {e}"))
    }

    pub(crate) fn try_connect(at: SocketAddr, tls: &Arc<rustls::ClientConfig>) -> std::io::Result<Self> {
        Self::try_connect_within(at, tls, PATIENCE)
    }

    /// Connects, or fails, when a step of it takes longer than this.
    pub(crate) fn try_connect_within(
        at: SocketAddr,
        tls: &Arc<rustls::ClientConfig>,
        patience: Duration,
    ) -> std::io::Result<Self> {
        let mut tcp = TcpStream::connect_timeout(&at, patience)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(patience))?;
        tcp.set_write_timeout(Some(patience))?;
        let mut session = ClientConnection::new(tls.clone(), ServerName::try_from("localhost").unwrap()).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut tcp)?;
        }
        Ok(Self { stream: StreamOwned::new(session, tcp), input: Vec::new(), used: 0 })
    }

    /// From now on a read that takes longer fails with `WouldBlock`, and can be tried again.
    pub(crate) fn wait_at_most(&self, patience: Duration) {
        self.stream.sock.set_read_timeout(Some(patience)).unwrap();
    }

    /// The server's certificate, to tell one from the next.
    pub(crate) fn server_certificate(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().unwrap()[0].to_vec()
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Sends a command without reading its reply.
    pub(crate) fn start(&mut self, words: &str) {
        self.send(&encode(&words.split(' ').map(str::as_bytes).collect::<Vec<_>>()));
    }

    /// A command of words, and its reply.
    pub(crate) fn cmd(&mut self, words: &str) -> Value {
        self.start(words);
        self.read()
    }

    /// A command of any bytes, and its reply.
    pub(crate) fn call(&mut self, args: &[&[u8]]) -> Value {
        self.send(&encode(args));
        self.read()
    }

    /// The next value.
    pub(crate) fn read(&mut self) -> Value {
        self.try_read().unwrap_or_else(|e| panic!("no reply: {e}"))
    }

    pub(crate) fn try_read(&mut self) -> std::io::Result<Value> {
        self.try_read_raw().map(|(value, _)| value)
    }

    /// The next value, and the bytes that it was made of.
    pub(crate) fn try_read_raw(&mut self) -> std::io::Result<(Value, Vec<u8>)> {
        loop {
            if let Some((value, taken)) = value::decode(&self.input[self.used..]) {
                let raw = self.input[self.used..self.used + taken].to_vec();
                self.used += taken;
                return Ok((value, raw));
            }
            self.fill()?;
        }
    }

    /// The bytes that have arrived, at most `most` of them; waits for the first one.
    pub(crate) fn take(&mut self, most: usize) -> std::io::Result<Vec<u8>> {
        if self.used < self.input.len() {
            let bytes = self.input.split_off(self.used);
            self.input.clear();
            self.used = 0;
            return Ok(bytes);
        }
        let mut bytes = vec![0; most];
        match self.stream.read(&mut bytes)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            n => {
                bytes.truncate(n);
                Ok(bytes)
            }
        }
    }

    fn fill(&mut self) -> std::io::Result<()> {
        self.input.drain(..self.used);
        self.used = 0;
        let mut chunk = [0; 16_384];
        match self.stream.read(&mut chunk)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            n => self.input.extend_from_slice(&chunk[..n]),
        }
        Ok(())
    }

    /// The next bytes, at most `most`; none once the connection is closed.
    pub(crate) fn read_bytes(&mut self, most: usize) -> Vec<u8> {
        assert_eq!(self.used, self.input.len(), "bytes of another reply are left");
        let mut chunk = vec![0; most];
        let count = match self.stream.read(&mut chunk) {
            Ok(count) => count,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => panic!("nothing comes: {e}"),
            Err(_) => 0,
        };
        chunk.truncate(count);
        chunk
    }

    /// A command of words, and its reply, or why there is none.
    pub(crate) fn try_cmd(&mut self, words: &str) -> std::io::Result<Value> {
        self.try_send(&encode(&words.split(' ').map(str::as_bytes).collect::<Vec<_>>()))?;
        self.try_read()
    }

    /// The server closes the connection within this time, and says nothing.
    pub(crate) fn is_closed(&mut self, millis: u64) -> bool {
        self.stream.sock.set_read_timeout(Some(Duration::from_millis(millis))).unwrap();
        let closed = match self.try_read() {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
            Err(_) => true,
            Ok(value) => panic!("nobody asked for {value:?}"),
        };
        self.stream.sock.set_read_timeout(Some(PATIENCE)).unwrap();
        closed
    }

    /// Nothing arrives within this time.
    pub(crate) fn expect_silence(&mut self, millis: u64) {
        self.wait_at_most(Duration::from_millis(millis));
        match self.try_read() {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            other => panic!("expected silence, got {other:?}"),
        }
        self.wait_at_most(PATIENCE);
    }

    /// The server closes the connection; what it says before is returned.
    pub(crate) fn read_to_end(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            match self.try_read() {
                Ok(value) => all.push(value),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("still open after {PATIENCE:?}; it said {all:?}")
                }
                Err(_) => return all,
            }
        }
    }
}

/// One command in array form.
pub(crate) fn encode(args: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Several commands of words, in array form.
pub(crate) fn pipeline(commands: &[&str]) -> Vec<u8> {
    commands.iter().flat_map(|c| encode(&c.split(' ').map(str::as_bytes).collect::<Vec<_>>())).collect()
}
