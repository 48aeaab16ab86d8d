//! The socket below a client's TLS: reads in large pieces, and sends small ones together.
//!
//! rustls asks for 4 KiB at a time, which makes a value of 16 KiB five system calls. So more is read than it asks for,
//! into a buffer that is only borrowed from the worker: an idle client holds none. What is written during the
//! handshake is sent when there is nothing to read, and what follows the handshake (the ticket) goes with the first
//! reply, or as soon as the client waits for nothing.
//!
//! It knows nothing of TLS or of Redis. Invariant: bytes leave and arrive in order, each once; between two polls
//! nothing is held back from a peer that waits for it, once [`Wire::let_go`] is called whenever nothing else is owed.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What one read may take: a full TLS record and more.
const CHUNK: usize = 32 * 1024;
/// Buffers that wait to be borrowed again.
const SPARE: usize = 16;
/// Held back bytes above which nothing is added to them.
const HELD_BACK: usize = 16 * 1024;

/// The read buffers of one worker.
#[derive(Default)]
pub(in crate::io) struct Buffers(RefCell<Vec<Vec<u8>>>);

impl Buffers {
    fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_else(|| vec![0; CHUNK])
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut spare = self.0.borrow_mut();
        if spare.len() < SPARE {
            spare.push(buffer);
        }
    }
}

/// See the module.
pub(super) struct Wire {
    tcp: TcpStream,
    buffers: Rc<Buffers>,
    /// Read, and not yet asked for.
    ahead: Option<Ahead>,
    /// Written, and not yet sent.
    held_back: BytesMut,
    /// The handshake is over.
    settled: bool,
}

struct Ahead {
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl Wire {
    /// A connection that is about to shake hands.
    pub(super) fn new(tcp: TcpStream, buffers: Rc<Buffers>) -> Self {
        Self { tcp, buffers, ahead: None, held_back: BytesMut::new(), settled: false }
    }

    /// The handshake is over.
    pub(super) fn settle(&mut self) {
        self.settled = true;
    }

    /// Bytes of memory that it keeps.
    pub(super) fn kept(&self) -> usize {
        self.ahead.as_ref().map_or(0, |ahead| ahead.buffer.len()) + self.held_back.len()
    }

    /// The socket, past everything that was read ahead.
    pub(super) fn tcp(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.tcp)
    }

    /// Sends what was held back; the client waits for nothing else. An error shows at the next read.
    pub(super) fn let_go(&mut self, cx: &mut Context<'_>) {
        if !self.held_back.is_empty() {
            let _shown_later = self.poll_send(cx);
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held_back.is_empty() {
            let count = ready!(Pin::new(&mut self.tcp).poll_write(cx, &self.held_back))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held_back.advance(count);
        }
        self.held_back = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Writes behind what is held back, and sends all of it if the time has come.
    fn poll_append(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.settled && self.held_back.len() > HELD_BACK {
            ready!(self.poll_send(cx))?;
        }
        pieces.iter().for_each(|piece| self.held_back.extend_from_slice(piece));
        if self.settled
            && let Poll::Ready(Err(error)) = self.poll_send(cx)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut ahead = match this.ahead.take() {
            Some(ahead) => ahead,
            None => {
                let mut buffer = this.buffers.take();
                let mut read = ReadBuf::new(&mut buffer);
                let result = Pin::new(&mut this.tcp).poll_read(cx, &mut read);
                let to = read.filled().len();
                if result.is_pending() && !this.settled {
                    this.let_go(cx);
                }
                if !matches!(result, Poll::Ready(Ok(()))) {
                    this.buffers.give_back(buffer);
                    return result;
                }
                Ahead { buffer, from: 0, to }
            }
        };
        let count = (ahead.to - ahead.from).min(out.remaining());
        out.put_slice(ahead.buffer.get(ahead.from..ahead.from + count).unwrap_or_default());
        ahead.from += count;
        if ahead.from < ahead.to {
            this.ahead = Some(ahead);
        } else {
            this.buffers.give_back(ahead.buffer);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.settled && self.held_back.is_empty() {
            return Pin::new(&mut self.tcp).poll_write(cx, bytes);
        }
        self.poll_append(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match pieces {
            // The kernel's way to a socket is shorter for one piece.
            [one] => self.poll_write(cx, one),
            _ if self.settled && self.held_back.is_empty() => Pin::new(&mut self.tcp).poll_write_vectored(cx, pieces),
            _ => self.poll_append(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.settled { self.poll_send(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Why a handshake failed is said last of all.
        if !self.held_back.is_empty() {
            let _best_effort = self.tcp.try_write(&self.held_back);
        }
    }
}
