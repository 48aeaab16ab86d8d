//! One server on a Unix socket, for as long as the value lives, and plain talk to it.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use changeover::protocol::reply::{ReplyEnd, ReplyFramer, ReplyLimits};
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;

use super::which::about;

/// A server that is stopped on drop.
pub(crate) struct Server {
    child: Child,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("redis.sock");
        let child = Command::new(&about().program)
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server must be installed (Debian: apt-get install redis-server)");
        let server = Self { child, socket, _folder: folder };
        for _ in 0..500 {
            if UnixStream::connect(&server.socket).is_ok() {
                return server;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("redis-server did not come up");
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
    }

    /// One command's reply.
    pub(crate) fn ask(&self, words: &[&str]) -> OwnedFrame {
        let mut stream = self.connect();
        let args: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let mut out = bytes::BytesMut::new();
        changeover::protocol::encode::command(&mut out, &args);
        stream.write_all(&out).unwrap();
        let (mut framer, mut bytes) = (ReplyFramer::new(ReplyLimits::default()), Vec::new());
        loop {
            let mut piece = [0; 16 * 1024];
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "the server closed");
            bytes.extend_from_slice(&piece[..read]);
            if framer.scan(&piece[..read]).unwrap() != (read, ReplyEnd::More) {
                return decode(&bytes).unwrap().unwrap().0;
            }
        }
    }

    /// What the server says to these bytes until it closes, or says no more for a while.
    pub(crate) fn answer(&self, bytes: &[u8], patience: Duration) -> Vec<u8> {
        let mut stream = self.connect();
        stream.set_read_timeout(Some(patience)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionReset) => {
            }
            Err(error) => panic!("{error}"),
        }
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
