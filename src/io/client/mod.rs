//! The process' own connections to Redis: RESP2, one connection for each purpose, a deadline on every command.
//!
//! It never retries and never reconnects behind its user's back: a failover controller must know what it sent.
//!
//! Invariant: replies stay matched to commands. What was sent and not yet answered is counted, so a reply that
//! comes after its command was given up (timed out, or its future dropped) is discarded and never mistaken for the
//! answer to the next one. Every method may be dropped half-way.

mod dial;
mod login;
mod place;
mod reply;
mod trouble;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::encode::extend_encode_borrowed;
use redis_protocol::resp2::types::BorrowedFrame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

pub use dial::{Target, TargetTls, Upstream, dial, find_dead_peers};
pub use login::Login;
pub use place::Place;
pub use reply::{MAX_REPLY_BYTES, Reply};

use crate::topology::Trouble;
use dial::within;

/// Room for one read.
const READ_BYTES: usize = 16 * 1024;

/// Why a command has no answer. Except after [`LinkError::Redis`] and [`LinkError::TimedOut`] the link is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// The node closed the connection, or the network did.
    #[error("connection closed by the node")]
    EndOfFile,
    /// The deadline passed.
    #[error("no answer in time")]
    TimedOut,
    /// What is wrong is known: the name, the route, TLS, the login, limits of this machine.
    #[error("{0}")]
    Node(Trouble),
    /// Something else said no.
    #[error("{0}")]
    Failed(String),
    /// An error reply, as Redis worded it.
    #[error("{0}")]
    Redis(String),
    /// Not RESP2, or more of it than we take.
    #[error("protocol error: {0}")]
    Protocol(String),
}

impl LinkError {
    /// Whether the link can still be used.
    pub fn leaves_link_usable(&self) -> bool {
        matches!(self, Self::Redis(_) | Self::TimedOut)
    }
}

impl From<std::io::Error> for LinkError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        if let Some(trouble) = trouble::of_tls(&error) {
            return Self::Node(trouble);
        }
        match error.kind() {
            Kind::ConnectionRefused => Self::Refused,
            Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => Self::EndOfFile,
            Kind::TimedOut => Self::TimedOut,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// What a subscribed link hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Somebody published.
    Message {
        /// Where.
        channel: Bytes,
        /// What.
        payload: Bytes,
    },
    /// The answer to a `PING` that was sent with [`Link::send_only`].
    Pong,
}

/// One connection of our own.
#[derive(Debug)]
pub struct Link {
    stream: Upstream,
    incoming: BytesMut,
    outgoing: BytesMut,
    /// Commands without a reply yet.
    owed: u64,
}

impl Link {
    /// Connects and logs in where the target says so; gives up at `deadline` (process clock).
    ///
    /// # Errors
    /// As [`dial`]; [`LinkError::Node`] when the login is refused.
    pub async fn connect(target: &Target, deadline: Duration) -> Result<Self, LinkError> {
        let mut link = Self::over(dial(target, deadline).await?);
        if let Some(login) = &target.login {
            let mut args: Vec<&[u8]> = vec![b"AUTH"];
            args.extend(login.user.as_deref().map(str::as_bytes));
            let password = login.password();
            args.push(password.expose());
            match link.command(&args, deadline).await {
                Err(LinkError::Redis(text)) if !Login::is_needless(&text) => {
                    return Err(LinkError::Node(Trouble::from_reply(&text, true)));
                }
                Err(LinkError::Redis(_)) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(link)
    }

    /// A link over a connection that is already open.
    pub fn over(stream: Upstream) -> Self {
        Self { stream, incoming: BytesMut::new(), outgoing: BytesMut::new(), owed: 0 }
    }

    /// Sends one command and waits for its reply.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn command(&mut self, args: &[&[u8]], deadline: Duration) -> Result<Reply, LinkError> {
        self.send(args, deadline).await?;
        within(deadline, async {
            while self.owed > 1 {
                self.next_owed().await?;
            }
            self.next_owed().await
        })
        .await
        .and_then(top_level)
    }

    /// Sends one command without waiting; its reply is the next of [`Link::reply`]. For pipelines.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn send(&mut self, args: &[&[u8]], deadline: Duration) -> Result<(), LinkError> {
        encode(&mut self.outgoing, args)?;
        self.owed += 1;
        within(deadline, self.write_out()).await
    }

    /// The reply to the oldest command of [`Link::send`] that has none.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn reply(&mut self, deadline: Duration) -> Result<Reply, LinkError> {
        within(deadline, self.next_owed()).await.and_then(top_level)
    }

    /// How many commands have no reply yet (given up ones included).
    pub fn owed(&self) -> u64 {
        self.owed
    }

    /// Sends a command that Redis does not answer (`REPLCONF GETACK *`), and looks without waiting whether an
    /// earlier one was answered after all: such an answer is a refusal. Not to be mixed with
    /// [`Link::command`] on one link.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn send_only(&mut self, args: &[&[u8]], deadline: Duration) -> Result<(), LinkError> {
        encode(&mut self.outgoing, args)?;
        within(deadline, self.write_out()).await?;
        self.read_ready().await?;
        while let Some(reply) = reply::take(&mut self.incoming)? {
            top_level(reply)?;
        }
        Ok(())
    }

    /// Subscribes to `channel` and waits until Redis has confirmed it.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn subscribe(&mut self, channel: &str, deadline: Duration) -> Result<(), LinkError> {
        self.command(&[b"SUBSCRIBE", channel.as_bytes()], deadline).await.map(drop)
    }

    /// The next thing that a subscribed link hears. [`LinkError::TimedOut`] only means that it was quiet.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn next_message(&mut self, deadline: Duration) -> Result<Heard, LinkError> {
        within(deadline, async {
            loop {
                let reply = self.next().await?;
                if let Some(heard) = heard(top_level(reply)?)? {
                    return Ok(heard);
                }
            }
        })
        .await
    }

    async fn next_owed(&mut self) -> Result<Reply, LinkError> {
        let reply = self.next().await?;
        self.owed = self.owed.saturating_sub(1);
        Ok(reply)
    }

    async fn next(&mut self) -> Result<Reply, LinkError> {
        // What an earlier, dropped call left unsent must leave first.
        self.write_out().await?;
        loop {
            match reply::take(&mut self.incoming) {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(error) => return Err(trouble::of_bytes(&self.incoming).map_or(error, LinkError::Node)),
            }
            self.incoming.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(LinkError::EndOfFile);
            }
        }
    }

    async fn write_out(&mut self) -> Result<(), LinkError> {
        while !self.outgoing.is_empty() {
            self.stream.write_buf(&mut self.outgoing).await?;
        }
        self.stream.flush().await?;
        Ok(())
    }

    /// Reads what has already arrived.
    async fn read_ready(&mut self) -> Result<(), LinkError> {
        let mut space = [0_u8; 512];
        let mut buf = ReadBuf::new(&mut space);
        let stream = &mut self.stream;
        let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_read(cx, &mut buf))).await;
        match polled {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) if buf.filled().is_empty() => Err(LinkError::EndOfFile),
            Poll::Ready(Ok(())) => {
                self.incoming.extend_from_slice(buf.filled());
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(error.into()),
        }
    }
}

fn top_level(reply: Reply) -> Result<Reply, LinkError> {
    match reply {
        Reply::Error(text) => Err(LinkError::Redis(text)),
        other => Ok(other),
    }
}

/// A message or pong of a subscribed link; `None` for confirmations.
fn heard(reply: Reply) -> Result<Option<Heard>, LinkError> {
    // Outside of subscriptions PING is answered by a status.
    if matches!(&reply, Reply::Status(text) if text.as_ref() == b"PONG") {
        return Ok(Some(Heard::Pong));
    }
    let Reply::Array(items) = reply else {
        return Err(LinkError::Protocol("a subscribed link heard something else than messages".to_owned()));
    };
    let kind = items.first().and_then(Reply::bytes).unwrap_or_default();
    Ok(match (kind, items.as_slice()) {
        (b"message", [_, Reply::Bulk(channel), Reply::Bulk(payload)]) => {
            Some(Heard::Message { channel: channel.clone(), payload: payload.clone() })
        }
        (b"pong", _) => Some(Heard::Pong),
        _ => None,
    })
}

fn encode(out: &mut BytesMut, args: &[&[u8]]) -> Result<(), LinkError> {
    let frames: Vec<_> = args.iter().map(|arg| BorrowedFrame::BulkString(arg)).collect();
    extend_encode_borrowed(out, &BorrowedFrame::Array(&frames), false)
        .map(drop)
        .map_err(|error| LinkError::Protocol(error.to_string()))
}

#[cfg(test)]
mod tests;
