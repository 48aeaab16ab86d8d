//! One client connection drives one [`Session`].
//!
//! A conversation is one future. Each wake-up passes bytes as far as they go, once in each direction per round: from
//! the upstream to the client, from the client to the session, from the session to the upstream, and out to the
//! client; it ends when a round moved nothing. It reads at most one buffer per direction and round, gathers what a
//! round produced and writes once.
//!
//! It follows the worker's orders (`upstream.rs`), bounds how long commands are held (`hold.rs`), tells its client what
//! it asked to be told (`notices.rs`), and leaves when a drain says so (`departure.rs`). It never decides who is primary.

mod cutover;
mod departure;
mod handshake;
mod hold;
mod identity;
mod idle;
mod notices;
mod shared;
mod tally;
mod upstream;
mod wire;
mod words;

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::metrics::worker::{Counter, Histogram};
use crate::session::{Mark, Session, is_ping};
use crate::topology::node::{Epoch, NodeId};

use super::clock;
use super::tls::{Records, ServerSide};
use super::worker::{Guest, Seat, Worker};

use departure::Departure;
use hold::Held;
use notices::Notices;
use upstream::{Retry, Up};
use wire::Wire;

pub(super) use wire::Buffers;

/// Replies that may wait for a client that does not read; then its upstream is not read either. Large, because a
/// client may well send a long pipeline before it reads the first reply, as Redis lets it.
const OUT_LIMIT: usize = 32 * 1024 * 1024;
/// The same when the worker as a whole keeps too much, and this client more than its share.
const OUT_SHORT: usize = 256 * 1024;
/// Commands of more bytes are not kept then.
const KEPT_SHORT: usize = 16 * 1024;
/// Rounds of one wake-up before others get their turn.
const ROUNDS: usize = 16;
/// How long a client may take to hear our last words, and to stop talking.
const GOODBYE: Duration = Duration::from_secs(1);
/// A client that has closed its side is waited for so long, counted from the last reply that it was sent.
const LEFT_BEHIND: Duration = Duration::from_secs(1);
/// A buffer that is larger than this is given back when it is empty.
const KEEP: usize = 16 * 1024;

/// Serves one client, from the first byte of the TLS handshake to the last of the close.
pub(super) async fn converse(worker: Rc<Worker>, tls: Arc<ServerSide>, socket: Guest) {
    worker.stats.add(Counter::ConnectionsAccepted, 1);
    let seat = worker.sit(clock::now());
    // Boxed, so that what only the beginning needs is given back after it.
    let reason = match Box::pin(meet(&worker, &tls, &seat, socket)).await {
        Some(conversation) => {
            let reason = std::future::poll_fn(|cx| conversation.borrow_mut().poll(cx)).await;
            conversation.borrow_mut().end();
            conversation.borrow().say_why(reason);
            reason
        }
        None => Counter::ClosedHandshake,
    };
    worker.stats.add(reason, 1);
    worker.leave(&seat);
}

/// Shakes hands; `None` when that failed.
async fn meet(worker: &Rc<Worker>, tls: &ServerSide, seat: &Rc<Seat>, socket: Guest) -> Option<Passenger> {
    let client = handshake::accept(worker, tls, socket).await?;
    Some(Conversation::new(Rc::clone(worker), Rc::clone(seat), client))
}

/// A conversation as a lane knows it.
pub(super) type Passenger = Rc<RefCell<Conversation>>;

/// Connections that ended by themselves: to which process, how many replies the client had, and how often in a row.
#[derive(Default)]
struct Losses {
    place: Option<(NodeId, Epoch, Option<Mark>, u64)>,
    count: u32,
}

/// One client and its session.
pub(super) struct Conversation {
    /// Itself, to be handed to a lane.
    me: Weak<RefCell<Conversation>>,
    worker: Rc<Worker>,
    seat: Rc<Seat>,
    client: TlsStream<Wire>,
    session: Session,
    /// Read from the client, and not yet taken by the session.
    input: BytesMut,
    /// For the client.
    out: BytesMut,
    /// What the key of its TLS has encrypted.
    records: Records,
    /// Some of `out` may be encrypted and not yet written.
    unflushed: bool,
    up: Up,
    /// The upstream that takes its place while a subscriber goes over.
    next: Up,
    /// Which stay on a lane this is: replies for an earlier one are nobody's.
    ticket: u32,
    /// When it is looked at whether the session may go back to a lane.
    rest_at: Option<Duration>,
    /// Which lanes it may board.
    standing: shared::Standing,
    retry: Retry,
    held: Held,
    departure: Departure,
    notices: Notices,
    /// When the client was last written to.
    spoke_at: Duration,
    /// How long it then waited, with nothing owed, before it sent something.
    pause: Duration,
    ids: identity::Ids,
    /// Until when a command waits to be explained.
    words_until: Option<Duration>,
    /// Since when the client has closed its side.
    gone: Option<Duration>,
    /// Why the conversation ends, once it does; the rest of `out` is written first.
    ending: Option<Counter>,
    version: u64,
    /// Bytes kept for this client, as last told to the worker.
    kept: usize,
    /// Counted as in flight by the worker.
    flying: bool,
    /// The ordered hold under way does not wait for the rest of a large command, which the client is slow to send.
    stalled: bool,
    /// Replies or messages wait at the upstream, because the client does not read what it has.
    choked: bool,
    /// It was subscribed on an upstream of this node that ended by itself; and the process that this was.
    cut_off: Option<(NodeId, Epoch, Option<Mark>)>,
    /// How many connections in a row ended by themselves while the same command was the oldest without a reply, and where.
    losses: Losses,
    /// Until when a client that is being said goodbye to is waited for.
    goodbye: Option<Duration>,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    now: Duration,
    /// When the oldest command that has not been sent was read.
    unsent_since: Option<Duration>,
}

impl Conversation {
    fn new(worker: Rc<Worker>, seat: Rc<Seat>, client: TlsStream<Wire>) -> Passenger {
        let mut session = Session::new(Rc::clone(&worker.settings));
        session.handle_explanations(true);
        let records = Records::of(client.get_ref().1.negotiated_cipher_suite());
        Rc::new_cyclic(|me| {
            RefCell::new(Self {
                me: me.clone(),
                session,
                worker,
                seat,
                client,
                input: BytesMut::new(),
                out: BytesMut::new(),
                records,
                unflushed: false,
                up: Up::None,
                next: Up::None,
                ticket: 0,
                rest_at: None,
                standing: shared::Standing::default(),
                retry: Retry::default(),
                held: Held::default(),
                departure: Departure::default(),
                notices: Notices::default(),
                spoke_at: Duration::ZERO,
                pause: Duration::MAX,
                ids: identity::Ids::default(),
                words_until: None,
                gone: None,
                ending: None,
                version: 0,
                kept: 0,
                flying: false,
                stalled: false,
                choked: false,
                cut_off: None,
                losses: Losses::default(),
                goodbye: None,
                timer: None,
                now: clock::now(),
                unsent_since: None,
            })
        })
    }

    /// Ready with the reason once the conversation has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Counter> {
        self.now = clock::now();
        self.session.handle_time(self.now);
        self.stalled &= self.worker.ordered_hold(self.now);
        self.session.handle_shortage(self.worker.short(self.kept).then_some(KEPT_SHORT));
        self.seat.remember(cx.waker());
        for _ in 0..ROUNDS {
            if let Some(reason) = self.ending {
                return self.poll_close(cx).map(|()| reason);
            }
            let mut moved = self.follow_orders();
            moved |= self.follow_ids(cx);
            moved |= self.follow_words(cx);
            moved |= self.poll_from_upstream(cx);
            moved |= self.poll_next(cx);
            moved |= self.poll_from_client(cx);
            moved |= self.poll_to_upstream(cx);
            moved |= self.tell();
            moved |= self.poll_to_client(cx);
            self.account();
            moved |= self.check_end();
            if !moved {
                if self.session.in_flight() == 0 {
                    self.client.get_mut().0.let_go(cx);
                }
                return self.poll_timer(cx);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// What may wait for the client.
    fn out_limit(&self) -> usize {
        if self.worker.short(self.kept) { OUT_SHORT } else { OUT_LIMIT }
    }

    // ---- the client ----

    fn poll_from_client(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.input.is_empty() && self.session.may_take() {
            let input = self.input.split();
            let used = self.session.handle_input(&input, &mut self.out);
            self.unsent_since.get_or_insert(self.now);
            self.input = input;
            bytes::Buf::advance(&mut self.input, used);
            return used > 0;
        }
        if self.gone.is_some()
            || !self.input.is_empty()
            || !self.session.may_take()
            || self.out.len() > self.out_limit()
        {
            return false;
        }
        let tested = self.would_fail_ping();
        let read = match Pin::new(&mut self.client).poll_fill_buf(cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(read)) => read,
            Poll::Ready(Err(error)) => {
                if error.kind() != std::io::ErrorKind::UnexpectedEof {
                    self.ending = Some(Counter::ClosedReset);
                    self.out.clear();
                }
                &[]
            }
        };
        let count = read.len();
        if count == 0 {
            self.gone = Some(self.now);
            return true;
        }
        self.worker.stats.add(Counter::BytesFromClients, count as u64);
        if tested && is_ping(read) {
            self.fail_ping();
            return true;
        }
        if self.spoke_at >= self.seat.last_heard.replace(self.now) {
            self.pause = self.now.saturating_sub(self.spoke_at);
        }
        self.unsent_since.get_or_insert(self.now);
        let used = self.session.handle_input(read, &mut self.out);
        self.input.extend_from_slice(read.get(used..).unwrap_or_default());
        Pin::new(&mut self.client).consume(count);
        true
    }

    fn poll_to_client(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while !self.out.is_empty() {
            if self.records.spent() {
                // It would be taken, and never sent.
                self.ending = Some(Counter::ClosedTlsKey);
                self.out.clear();
                return true;
            }
            match Pin::new(&mut self.client).poll_write(cx, &self.out) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.worker.stats.add(Counter::BytesToClients, count as u64);
                    bytes::Buf::advance(&mut self.out, count);
                    self.records.wrote(count);
                    (moved, self.unflushed) = (true, true);
                    self.spoke_at = self.now;
                }
                Poll::Ready(_) => {
                    self.ending = Some(Counter::ClosedReset);
                    self.out.clear();
                    return true;
                }
                Poll::Pending => break,
            }
        }
        if self.unflushed && Pin::new(&mut self.client).poll_flush(cx).is_ready() {
            self.unflushed = false;
        }
        if self.out.is_empty() && self.out.capacity() > KEEP {
            self.out = BytesMut::new();
        }
        moved
    }

    // ---- the end ----

    /// Decides whether the conversation is over.
    fn check_end(&mut self) -> bool {
        if self.ending.is_some() {
            return true;
        }
        let owed = !self.out.is_empty() || self.session.in_flight() > 0 && !self.session.blocked();
        self.ending = if self.session.finished() {
            Some(match () {
                () if self.session.halved() => Counter::ClosedHalf,
                () if self.session.lost() => Counter::ClosedStateLost,
                () if self.session.malformed_input() => Counter::ClosedProtocol,
                () if self.session.overfull() => Counter::ClosedLimit,
                () => self.gone_by_itself(),
            })
        } else if self.gone.is_some() && (self.session.is_raw() || !owed || self.left_behind()) {
            Some(self.gone_by_itself())
        } else if self.records.worn() && self.session.quiet() && self.input.is_empty() && self.out.is_empty() {
            Some(Counter::ClosedTlsKey)
        } else if self.too_idle() {
            Some(Counter::ClosedIdle)
        } else {
            self.departure()
        };
        self.ending.is_some()
    }

    /// The client left, and Redis has been silent since: a reply may never come (some versions drop that of a login that
    /// fails). What was sent runs all the same; what was not sent waits for its hold.
    fn left_behind(&self) -> bool {
        self.left_behind_due().is_some_and(|due| due <= self.now)
    }

    /// When that is so, if nothing comes.
    fn left_behind_due(&self) -> Option<Duration> {
        let sent = !self.session.waits() && !self.session.begun();
        self.gone.filter(|_| sent).map(|since| since.max(self.spoke_at) + LEFT_BEHIND)
    }

    /// Writes what is left, then says goodbye in TLS' words. What the client still sends is read and dropped for a
    /// moment: to close on it would reset the connection, and the client might never see our last words. A client that
    /// does not read them is not waited for.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Nothing is owed any more: the upstream, and what was in flight on it, are nobody's.
        self.let_upstream_go();
        let until = self.goodbye.unwrap_or_else(|| self.waits_for_client());
        self.goodbye = Some(until);
        if self.now >= until || self.poll_last_words(cx).is_ready() {
            return Poll::Ready(());
        }
        let at = clock::instant(until);
        let timer = self.timer.insert(Box::pin(tokio::time::sleep_until(at)));
        timer.as_mut().poll(cx)
    }

    /// Ready when the client has everything and has closed its side.
    fn poll_last_words(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_to_client(cx);
        if !self.out.is_empty() {
            return Poll::Pending;
        }
        if ready!(Pin::new(&mut self.client).poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = ready!(self.client.get_mut().0.tcp().poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }

    /// Gives up the upstream and its share of what the worker counts as in flight.
    fn let_upstream_go(&mut self) {
        self.next = Up::None;
        self.leave_upstream();
        if std::mem::take(&mut self.flying) {
            self.worker.flight(false);
        }
    }

    /// A client that was closed on without having asked for it, for a reason that its bytes have, is named in the log: at most
    /// one in a second per worker; the metric counts all of them.
    fn say_why(&self, reason: Counter) {
        let why = match reason {
            Counter::ClosedHalf => "its connection to Redis was lost in the middle of a reply that it had begun to get",
            Counter::ClosedServer => "the server ended its connection (output limits, client eviction, CLIENT KILL)",
            Counter::ClosedTlsKey => "its TLS 1.2 key has encrypted as much as it may (TLS 1.3 takes a new one)",
            Counter::ClosedSlow => "it did not read its replies, and this worker keeps too much",
            _ => return,
        };
        if self.worker.may_say(self.now) {
            let peer = self.client.get_ref().0.ends().peer_addr().ok();
            tracing::info!(peer = peer.map(tracing::field::display), "a client's connection was closed: {why}");
        }
    }

    fn end(&mut self) {
        if let Some(place) = self.departure.place.take() {
            self.worker.unnoticed.noticed(place);
        }
        self.leave_register();
        self.let_upstream_go();
        self.held.abandon(&self.worker, self.now);
        self.worker.reckon_kept(self.kept, 0);
    }

    // ---- what is counted ----

    fn account(&mut self) {
        let kept = self.session.kept() + self.input.len() + self.out.len() + self.client.get_ref().0.kept();
        self.worker.reckon_kept(std::mem::replace(&mut self.kept, kept), kept);
        // Whoever does not read its replies must not keep a switchover waiting: what it asked for has long been run.
        let deaf = self.out.len() >= self.out_limit();
        let owed = self.session.in_flight() > 0 && !self.session.blocked() && !self.session.is_raw();
        let flying = owed && !deaf && !self.stalls();
        if flying != self.flying {
            self.flying = flying;
            self.worker.flight(flying);
        }
        if let (Some(since), false) = (self.unsent_since, self.session.waits()) {
            self.unsent_since = None;
            self.worker.stats.observe(Histogram::Added, clock::now().saturating_sub(since));
        }
        let tally = self.session.take_tally();
        if tally != crate::session::Tally::default() {
            tally::record(&self.worker.stats, &tally);
        }
    }
}
