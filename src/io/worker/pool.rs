//! Idle connections of a worker to the nodes: warm ones to the replica, and used ones that were put back.
//!
//! A change finds as many warm connections to the other node as the worker has upstreams in use (up to a limit), so
//! that it costs no dial. A connection that a client has used comes back when nothing is under way on it, and is put
//! into a new connection's state with `RESET`. So transactions and logins cost no connect each, and no port.
//!
//! Invariant: a connection is handed out only after the server has answered a `RESET` that was sent after the client
//! asked for it. Its rights are those that a connection made at that moment would have, however old it is.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use crate::config::Upstreams;
use crate::io::client::{LinkError, Target, Upstream, dial};
use crate::io::clock;
use crate::metrics::worker::{Counter, Gauge};
use crate::topology::node::NodeId;

use super::{Limits, Worker};

/// Warm connections above the number of upstreams in use.
const SPARE: usize = 2;
/// Time for one dial.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time for a `RESET`; a busy server may need longer, and then a new connection is made.
const RENEWAL: Duration = Duration::from_secs(1);
/// Between two looks at what is missing.
const PACE: Duration = Duration::from_millis(50);
/// Dialled in one look, so that warming up never crowds out traffic.
const STEP: usize = 16;

const RESET: &[u8] = b"*1\r\n$5\r\nRESET\r\n";
const WAS_RESET: &[u8] = b"+RESET\r\n";
/// `RESET` keeps what a client called its library.
const RESET_LIBRARY: &[u8] = b"*1\r\n$5\r\nRESET\r\n\
    *4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$8\r\nlib-name\r\n$0\r\n\r\n\
    *4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$7\r\nlib-ver\r\n$0\r\n\r\n";
const WAS_RESET_LIBRARY: &[u8] = b"+RESET\r\n+OK\r\n+OK\r\n";

/// An open connection in a new connection's state.
pub(in crate::io) struct Opened {
    /// The connection.
    pub stream: Upstream,
    /// When it was made (process clock).
    pub made: Duration,
}

/// A connection that waits for a client.
struct Idle {
    opened: Opened,
    /// Since when a used one waits; `None`: a warm one.
    since: Option<Duration>,
    /// What the server has still to say to our `RESET`.
    owed: &'static [u8],
}

/// The idle connections of one worker.
pub(in crate::io) struct Pool {
    targets: Vec<Target>,
    idle: Vec<RefCell<Vec<Idle>>>,
    primary: Cell<Option<NodeId>>,
    /// How long connections are kept.
    keep: Upstreams,
    /// Most idle connections to one node.
    most: usize,
}

impl Pool {
    pub(super) fn new(targets: Vec<Target>, limits: &Limits) -> Self {
        let idle = targets.iter().map(|_| RefCell::default()).collect();
        Self { targets, idle, primary: Cell::new(None), keep: limits.upstream, most: limits.idle_upstreams }
    }

    /// The nodes, by place.
    pub(super) fn nodes(&self) -> std::ops::Range<usize> {
        0..self.targets.len()
    }

    /// How to reach all of them.
    pub(super) fn targets(&self) -> Vec<Target> {
        self.targets.clone()
    }

    /// How to reach a node.
    pub(in crate::io) fn target(&self, node: NodeId) -> Option<&Target> {
        self.targets.get(node.index())
    }

    /// A connection that was made at `made` is no longer given to newcomers.
    pub(in crate::io) fn aged(&self, made: Duration, now: Duration) -> bool {
        made + self.keep.max_age <= now
    }

    /// The roles have changed. If the primary before was given up, its connections are of no more use.
    pub(super) fn follow(&self, primary: Option<NodeId>, gave_up: bool) {
        let before = self.primary.get();
        if let Some(idle) = before.filter(|_| gave_up).and_then(|node| self.idle.get(node.index())) {
            idle.take().into_iter().for_each(Idle::end);
        }
        self.primary.set(primary.or(before));
    }

    /// The youngest idle connection to `node` that is still open.
    fn take(&self, node: NodeId) -> Option<Idle> {
        let mut idle = self.idle.get(node.index())?.borrow_mut();
        let now = clock::now();
        while let Some(mut one) = idle.pop() {
            if one.sound() && !self.aged(one.opened.made, now) {
                return Some(one);
            }
            one.end();
        }
        None
    }

    /// A client needs this connection no longer, and has every reply. `library`: it said what its library is called.
    pub(in crate::io) fn put(&self, node: NodeId, mut opened: Opened, library: bool) {
        let (words, owed) = if library { (RESET_LIBRARY, WAS_RESET_LIBRARY) } else { (RESET, WAS_RESET) };
        let now = clock::now();
        let Some(idle) = self.idle.get(node.index()) else { return };
        let mut idle = idle.borrow_mut();
        if self.aged(opened.made, now)
            || opened.stream.worn()
            || idle.len() >= self.most
            || !say(&mut opened.stream, words)
        {
            return opened.stream.forsake();
        }
        idle.push(Idle { opened, since: Some(now), owed });
    }

    /// Drops what is closed, too old or unused; says how many warm ones are missing.
    fn missing(&self, place: usize, wanted: usize) -> usize {
        let Some(idle) = self.idle.get(place) else { return 0 };
        let mut idle = idle.borrow_mut();
        let now = clock::now();
        let standby = self.primary.get().is_some_and(|primary| primary.index() != place);
        let keep = |one: &mut Idle| {
            let unused = one.since.is_some_and(|since| since + self.keep.idle <= now);
            one.sound() && !self.aged(one.opened.made, now) && (standby || !unused)
        };
        for mut one in std::mem::take(&mut *idle) {
            if keep(&mut one) { idle.push(one) } else { one.end() }
        }
        if standby { wanted.min(self.most).saturating_sub(idle.len()) } else { 0 }
    }
}

impl Idle {
    /// Nothing was closed, and nothing was said but the answer to our `RESET`.
    fn sound(&mut self) -> bool {
        loop {
            let mut bytes = [0_u8; 32];
            let mut buffer = ReadBuf::new(&mut bytes);
            let mut context = Context::from_waker(Waker::noop());
            match Pin::new(&mut self.opened.stream).poll_read(&mut context, &mut buffer) {
                Poll::Pending => return true,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => match self.owed.strip_prefix(buffer.filled()) {
                    Some(rest) => self.owed = rest,
                    None => return false,
                },
                Poll::Ready(_) => return false,
            }
        }
    }

    /// The connection in the state of one that is made now; `None` when the server does not put it there.
    ///
    /// Redis 6.2 refuses `RESET` as long as the connection has to log in. It is in no other state then: the `RESET`
    /// of [`Pool::put`] has put it there, or it was never used.
    async fn renew(mut self) -> Option<Opened> {
        let stream = &mut self.opened.stream;
        stream.write_all(RESET).await.ok()?;
        stream.flush().await.ok()?;
        let mut heard = Vec::with_capacity(64);
        loop {
            if stream.read_buf(&mut heard).await.ok()? == 0 || heard.len() > 256 {
                return None;
            }
            let last = match heard.strip_prefix(self.owed) {
                Some(last) => last,
                None if self.owed.starts_with(&heard) => continue,
                None => return None,
            };
            if last == WAS_RESET || last.starts_with(b"-NOAUTH ") && last.ends_with(b"\r\n") {
                return Some(self.opened);
            }
            if !WAS_RESET.starts_with(last) && !last.starts_with(b"-NOAUTH ") && !b"-NOAUTH ".starts_with(last) {
                return None;
            }
        }
    }

    /// Nothing is under way on it: it is reset, so that no port is left waiting.
    fn end(self) {
        self.opened.stream.forsake();
    }
}

/// Hands all of `words` to the connection now, or says that it could not.
fn say(stream: &mut Upstream, words: &[u8]) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    let written = matches!(Pin::new(&mut *stream).poll_write(&mut context, words), Poll::Ready(Ok(count)) if count == words.len());
    written && matches!(Pin::new(stream).poll_flush(&mut context), Poll::Ready(Ok(())))
}

/// A connection to the target's node that has the rights of one that is made now: an idle one, or a new one.
///
/// # Errors
/// As [`dial`].
pub(in crate::io) async fn obtain(worker: &Worker, target: &Target) -> Result<Opened, LinkError> {
    let until = clock::now() + RENEWAL;
    while let Some(idle) = worker.pool.take(target.node) {
        if let Ok(Some(opened)) = tokio::time::timeout_at(clock::instant(until), idle.renew()).await {
            worker.stats.add(Counter::UpstreamReused, 1);
            return Ok(opened);
        }
        if clock::now() >= until {
            break;
        }
    }
    open(worker, target).await
}

/// A new connection.
pub(super) async fn open(worker: &Worker, target: &Target) -> Result<Opened, LinkError> {
    let made = clock::now();
    let result = dial(target, made + PATIENCE).await;
    let counter = if result.is_ok() { Counter::UpstreamConnected } else { Counter::UpstreamConnectFailed };
    worker.stats.add(counter, 1);
    result.map(|stream| Opened { stream, made })
}

/// Keeps the connections to one node warm, as long as the worker runs.
pub(super) async fn keep_warm(worker: Rc<Worker>, place: usize) {
    let mut pause = PACE;
    loop {
        tokio::time::sleep(pause).await;
        let open = usize::try_from(worker.stats.gauge(Gauge::UpstreamsOpen)).unwrap_or(usize::MAX);
        let missing = worker.pool.missing(place, open.saturating_add(SPARE));
        pause = PACE;
        for _ in 0..missing.min(STEP) {
            let Some(target) = worker.pool.targets.get(place) else { return };
            let made = clock::now();
            match dial(target, made + PATIENCE).await {
                Ok(stream) => {
                    if let Some(idle) = worker.pool.idle.get(place) {
                        // The youngest is taken first.
                        idle.borrow_mut().push(Idle { opened: Opened { stream, made }, since: None, owed: b"" });
                    }
                }
                Err(_unreachable) => {
                    pause = PATIENCE;
                    break;
                }
            }
        }
    }
}
