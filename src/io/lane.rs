//! One upstream that many conversations of a worker share: gather, send, cut replies, hand out.
//!
//! Conversations append whole commands; the lane's own task runs after all of them have, sends what was gathered in one
//! write, reads what came back in one read, and hands each reply to the conversation whose command is the oldest
//! without one. Redis then reads and writes batches, which is why a lane costs it a fraction of what connections cost.
//! A batch that the kernel carries in one piece leaves at once: Redis works on it while the rest is still being decrypted.
//!
//! A lane carries only commands whose meaning does not live in the connection (`session::affinity`), and belongs to one
//! node, one epoch and one (user, protocol, database). It never decides to move: conversations leave it, and it ends
//! when it is lost, given up, or has been empty for a while.
//!
//! Invariant: replies are handed out in the order in which commands were appended; a conversation that has left gets
//! none, and its replies are dropped without touching those of others.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::metrics::worker::{Counter, Gauge};
use crate::protocol::reply::{ReplyEnd, ReplyFramer, ReplyLimits};
use crate::session::{Greeting, Heard, LaneKey};
use crate::topology::node::{Epoch, NodeId};

use super::client::{Target, Upstream};
use super::clock;
use super::downstream::Passenger;
use super::worker::{Opened, Worker, obtain};

/// Time for the server to accept the key of a lane that is being opened. A busy server may need long; whether it is
/// dead is for the probes to say.
const PATIENCE: Duration = Duration::from_secs(60);
/// So much gathered is sent at once: the most that the kernel carries in one piece (GSO_MAX_SIZE). Each piece has a
/// price of its own, about that of 16 KiB.
const BATCH: usize = 64 * 1024;
/// Reads of one wake-up before others get their turn.
const READS: usize = 8;
/// A buffer that is larger than this is given back when it is empty.
const KEEP: usize = 256 * 1024;

/// A shared upstream.
pub(super) struct Lane {
    /// Whom it is for.
    pub key: LaneKey,
    /// Where it goes.
    pub node: NodeId,
    epoch: Cell<Epoch>,
    state: RefCell<State>,
    out: RefCell<BytesMut>,
    owed: RefCell<VecDeque<Owed>>,
    /// How to ask for a receipt, where writes are answered only with one.
    receipt: Option<Bytes>,
    /// What has come of one.
    partial: RefCell<Vec<u8>>,
    /// Who has written since it was asked for.
    wrote: RefCell<Vec<Ticket>>,
    passengers: Cell<usize>,
    /// The newest so many of `owed` have not been sent.
    gathered: Cell<usize>,
    waker: RefCell<Option<Waker>>,
    waiting: RefCell<Vec<Waker>>,
    link: RefCell<Option<Link>>,
    /// When its connection was made.
    made: Cell<Duration>,
    /// Its TLS key has encrypted nearly as much as it may.
    worn: Cell<bool>,
}

/// The connection of an open lane.
struct Link {
    upstream: Upstream,
    unflushed: bool,
    /// It takes nothing any more.
    broken: bool,
    /// Bytes that it took, not yet counted.
    taken: u64,
}

/// Where a lane stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Being dialled and greeted.
    Opening,
    /// Commands may be appended.
    Open,
    /// It refused the key; the reply says why.
    TurnedAway(Vec<u8>),
    /// Over.
    Ended,
}

/// What the node owes.
enum Owed {
    /// Replies for one conversation, in a row.
    Replies(Run),
    /// The receipt for what these have written, and what it took to ask for it (`session::Receipts`).
    Receipt { of: Vec<Ticket>, bytes: usize },
}

struct Run {
    to: Ticket,
    commands: usize,
    bytes: usize,
}

/// A conversation, and its ticket when it appended; it has left when its ticket is another.
struct Ticket(Passenger, u32);

impl Ticket {
    fn is(&self, passenger: &Passenger, ticket: u32) -> bool {
        self.1 == ticket && Rc::ptr_eq(&self.0, passenger)
    }
}

impl Lane {
    /// A lane that is about to be opened.
    pub(super) fn new(key: LaneKey, node: NodeId, epoch: Epoch, receipt: Option<Bytes>) -> Rc<Self> {
        Rc::new(Self {
            receipt,
            partial: RefCell::default(),
            wrote: RefCell::default(),
            key,
            node,
            epoch: Cell::new(epoch),
            state: RefCell::new(State::Opening),
            out: RefCell::default(),
            owed: RefCell::default(),
            passengers: Cell::new(0),
            gathered: Cell::new(0),
            waker: RefCell::default(),
            waiting: RefCell::default(),
            link: RefCell::default(),
            made: Cell::new(clock::now()),
            worn: Cell::new(false),
        })
    }

    /// The view that it was opened under, or that has confirmed its node since.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch.get()
    }

    /// A newer view names the same node.
    pub(super) fn confirm(&self, epoch: Epoch) {
        self.epoch.set(epoch);
    }

    /// Where it stands.
    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// It may take commands now; if it is still opening, `waker` is woken when that has changed.
    pub(super) fn ready(&self, waker: &Waker) -> bool {
        match *self.state.borrow() {
            State::Open => true,
            State::Opening => {
                self.waiting.borrow_mut().push(waker.clone());
                false
            }
            _ => false,
        }
    }

    /// It will carry nothing more.
    pub(super) fn over(&self) -> bool {
        matches!(*self.state.borrow(), State::TurnedAway(_) | State::Ended)
    }

    /// Its passengers change to another, at their next quiet moment.
    pub(super) fn worn(&self) -> bool {
        self.worn.get()
    }

    /// When its connection was made.
    pub(super) fn made(&self) -> Duration {
        self.made.get()
    }

    /// No conversation uses it, and the server owes it nothing.
    pub(super) fn idle(&self) -> bool {
        self.passengers.get() == 0 && self.owed.borrow().is_empty()
    }

    /// One more conversation uses it.
    pub(super) fn board(&self) {
        self.passengers.set(self.passengers.get() + 1);
    }

    /// One less.
    pub(super) fn alight(&self) {
        self.passengers.set(self.passengers.get().saturating_sub(1));
        if self.passengers.get() == 0 {
            // It ends after a while, if no other comes.
            self.wake();
        }
    }

    /// Appends whole commands of one conversation; [`Lane::owe`] says whose they are.
    pub(super) fn begin(&self, bytes: &[u8]) -> usize {
        self.out.borrow_mut().extend_from_slice(bytes);
        bytes.len()
    }

    /// The `bytes` just appended were so many commands of that conversation; some of them `wrote`.
    pub(super) fn owe(&self, bytes: usize, commands: usize, wrote: bool, to: &Passenger, ticket: u32) {
        let mut owed = self.owed.borrow_mut();
        match owed.back_mut() {
            Some(Owed::Replies(last)) if last.to.is(to, ticket) => {
                last.commands += commands;
                last.bytes += bytes;
            }
            _ => {
                owed.push_back(Owed::Replies(Run { to: Ticket(Rc::clone(to), ticket), commands, bytes }));
                self.gathered.set(self.gathered.get() + 1);
            }
        }
        drop(owed);
        if wrote {
            self.wrote.borrow_mut().push(Ticket(Rc::clone(to), ticket));
        }
        if self.out.borrow().len() >= BATCH
            && let Some(waker) = self.waker.borrow().as_ref()
        {
            self.send(&mut Context::from_waker(waker));
        }
        self.wake();
    }

    /// The node still works on what it got, so that what was gathered gains little by leaving at once, and others may
    /// join it.
    fn more_may_come(&self) -> bool {
        let gathered = self.gathered.get();
        gathered > 0 && self.owed.borrow().len() > gathered
    }

    /// Asks for one receipt for all the writes that were gathered.
    fn ask_receipt(&self) {
        if let Some(question) = self.receipt.as_ref().filter(|_| !self.wrote.borrow().is_empty()) {
            self.out.borrow_mut().extend_from_slice(question);
            let of = self.wrote.take();
            self.owed.borrow_mut().push_back(Owed::Receipt { of, bytes: question.len() });
        }
    }

    /// Sends what was gathered, as far as the connection takes it. `cx` is that of the lane's task.
    fn send(&self, cx: &mut Context<'_>) {
        self.ask_receipt();
        self.gathered.set(0);
        let mut link = self.link.borrow_mut();
        let Some(link) = link.as_mut() else { return };
        let mut out = self.out.borrow_mut();
        while !out.is_empty() && !link.broken {
            match Pin::new(&mut link.upstream).poll_write(cx, &out) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    link.taken += count as u64;
                    out.advance(count);
                    link.unflushed = true;
                }
                Poll::Ready(_) => link.broken = true,
                Poll::Pending => break,
            }
        }
        if link.upstream.worn() && !self.worn.replace(true) {
            tracing::debug!("a shared connection has used up its TLS 1.2 key and is replaced");
        }
        if out.is_empty() && out.capacity() > KEEP {
            *out = BytesMut::new();
        }
        if link.unflushed && Pin::new(&mut link.upstream).poll_flush(cx).is_ready() {
            link.unflushed = false;
        }
    }

    /// Its task has something to do.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Ready with whether something came; without that the connection is over.
    fn read(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>, worker: &Worker) -> Poll<bool> {
        let mut link = self.link.borrow_mut();
        let Some(link) = link.as_mut().filter(|link| !link.broken) else { return Poll::Ready(false) };
        worker.stats.add(Counter::BytesToRedis, std::mem::take(&mut link.taken));
        let result = ready!(Pin::new(&mut link.upstream).poll_read(cx, buffer));
        // Whatever it says after its lease has run out was said too late.
        let counts = result.is_ok() && worker.orders().lease.allows(self.node);
        Poll::Ready(counts && !buffer.filled().is_empty())
    }

    /// Tells everybody what has become of it.
    fn settle(&self, state: State) {
        *self.state.borrow_mut() = state;
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    /// The upstream is gone. What never left this process is given back as not sent; the rest of what is owed will not
    /// come.
    fn end(&self, state: State) {
        self.settle(state);
        let mut unsent = self.out.borrow_mut().split().len();
        let owed = self.owed.take();
        for owed in owed.into_iter().rev() {
            let owed = match owed {
                Owed::Replies(run) => run,
                Owed::Receipt { bytes, .. } => {
                    unsent = unsent.saturating_sub(bytes);
                    continue;
                }
            };
            // The newest run may have left in part: then none of its commands is taken back, since some may have run.
            let back = if unsent >= owed.bytes { owed.commands } else { 0 };
            unsent = unsent.saturating_sub(owed.bytes);
            owed.to.0.borrow_mut().lane_ended(owed.to.1, back);
        }
    }

    /// Hands a piece of a reply to whom it belongs; false when nobody is owed one.
    fn hand_out(&self, piece: &[u8], last: bool) -> bool {
        let mut owed = self.owed.borrow_mut();
        match owed.front_mut() {
            None => return false,
            Some(Owed::Receipt { of, .. }) => {
                // It is a few bytes: a piece of one is waited for, and comes with the next read.
                let mut whole = self.partial.borrow_mut();
                whole.extend_from_slice(piece);
                if last {
                    for Ticket(to, ticket) in of.iter() {
                        to.borrow_mut().hear_receipt(*ticket, &whole);
                    }
                    whole.clear();
                    owed.pop_front();
                }
            }
            Some(Owed::Replies(front)) => {
                front.to.0.borrow_mut().hear_piece(front.to.1, piece, last);
                if last {
                    front.commands -= 1;
                    if front.commands == 0 {
                        front.to.0.borrow().rouse();
                        owed.pop_front();
                    }
                }
            }
        }
        true
    }

    /// How many replies may be handed out unseen, if they are whole and no errors.
    fn plain_ahead(&self) -> usize {
        match self.owed.borrow().front() {
            Some(Owed::Replies(front)) => front.to.0.borrow().plain_ahead(front.to.1, front.commands),
            _ => 0,
        }
    }

    /// Hands out so many whole replies, at most as many as [`Lane::plain_ahead`] said.
    fn hand_out_plain(&self, replies: &[u8], count: usize) {
        let mut owed = self.owed.borrow_mut();
        let Some(Owed::Replies(front)) = owed.front_mut() else { return };
        front.to.0.borrow_mut().hear_plain(front.to.1, replies, count);
        front.commands -= count;
        if front.commands == 0 {
            front.to.0.borrow().rouse();
            owed.pop_front();
        }
    }

    /// What was read has been handed out: the last to get something, and perhaps not all it is owed, takes its turn.
    fn handed_out(&self) {
        if let Some(Owed::Replies(front)) = self.owed.borrow().front() {
            front.to.0.borrow().rouse();
        }
    }
}

/// Opens a lane and runs it to its end.
pub(super) async fn run(worker: Rc<Worker>, lane: Rc<Lane>, target: Target) {
    let opened = open(&worker, &lane, &target).await;
    match opened {
        Some(Opened { stream: upstream, made }) => {
            lane.made.set(made);
            worker.stats.raise(Gauge::UpstreamsOpen, 1);
            *lane.link.borrow_mut() = Some(Link { upstream, unflushed: false, broken: false, taken: 0 });
            lane.settle(State::Open);
            worker.lane_opened(&lane);
            let mut ride = Ride {
                framer: ReplyFramer::new(ReplyLimits::default()),
                empty_since: None,
                waits: false,
                timer: Box::pin(tokio::time::sleep(worker.limits.upstream.idle)),
            };
            let lost = std::future::poll_fn(|cx| ride.poll(cx, &worker, &lane)).await;
            if let Some(link) = lane.link.take().filter(|link| !lost && !link.unflushed) {
                worker.pool.put(lane.node, Opened { stream: link.upstream, made }, false);
            }
            worker.stats.add(Counter::UpstreamLost, u64::from(lost));
            worker.stats.lower(Gauge::UpstreamsOpen, 1);
            lane.end(State::Ended);
        }
        None => {
            let state = lane.state();
            lane.end(if state == State::Opening { State::Ended } else { state });
        }
    }
    worker.forget_lane(&lane);
}

/// Brings a connection into the key's state; `None` when there is none, or the server refuses.
async fn open(worker: &Worker, lane: &Lane, target: &Target) -> Option<Opened> {
    let mut opened = obtain(worker, target).await.ok()?;
    let Some(greeting) = lane.key.greeting() else { return Some(opened) };
    match tokio::time::timeout(PATIENCE, greet(&mut opened.stream, greeting)).await.ok()?? {
        None => Some(opened),
        Some(refusal) => {
            worker.stats.add(Counter::UpstreamConnectFailed, 1);
            *lane.state.borrow_mut() = State::TurnedAway(refusal);
            None
        }
    }
}

/// `None` when the connection fails, `Some(None)` when the greeting is done, otherwise the refusal.
async fn greet(upstream: &mut Upstream, mut greeting: Greeting) -> Option<Option<Vec<u8>>> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut framer = ReplyFramer::new(ReplyLimits::default());
    let (mut input, mut reply) = (BytesMut::new(), Vec::new());
    loop {
        while !greeting.to_send().is_empty() {
            let count = upstream.write(greeting.to_send()).await.ok()?;
            greeting.sent(count);
        }
        upstream.flush().await.ok()?;
        if input.is_empty() && upstream.read_buf(&mut input).await.ok()? == 0 {
            return None;
        }
        let (used, end) = framer.scan(&input).ok()?;
        reply.extend_from_slice(input.get(..used)?);
        input.advance(used);
        if end != ReplyEnd::Reply {
            continue;
        }
        match greeting.heard(&reply) {
            Heard::More => reply.clear(),
            Heard::Done => return Some(None),
            Heard::TurnedAway => return Some(Some(reply)),
        }
    }
}

/// The life of an open lane.
struct Ride {
    framer: ReplyFramer,
    empty_since: Option<Duration>,
    /// What was gathered waits for whoever has become ready meanwhile.
    waits: bool,
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl Ride {
    /// Ready when the lane is over: true when it was lost, false when it is no longer needed.
    fn poll(&mut self, cx: &mut Context<'_>, worker: &Worker, lane: &Lane) -> Poll<bool> {
        remember(&lane.waker, cx.waker());
        // First of all: nothing is read from a node that was given up.
        if lane.epoch() <= worker.orders().given_up {
            if let Some(link) = lane.link.borrow().as_ref() {
                link.upstream.forsake();
            }
            return Poll::Ready(true);
        }
        self.waits = !self.waits && lane.more_may_come();
        if self.waits {
            let _after_the_others = std::pin::pin!(tokio::task::yield_now()).poll(cx);
        } else {
            lane.send(cx);
        }
        for round in 0..READS {
            let mut scratch = worker.scratch.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            match lane.read(cx, &mut buffer, worker) {
                Poll::Pending => break,
                Poll::Ready(true) => {
                    worker.stats.add(Counter::BytesFromRedis, buffer.filled().len() as u64);
                    let understood = self.hear(buffer.filled(), lane);
                    lane.handed_out();
                    if !understood {
                        worker.stats.add(Counter::ProtocolErrorsRedis, 1);
                        return Poll::Ready(true);
                    }
                }
                Poll::Ready(false) => return Poll::Ready(true),
            }
            if round + 1 == READS {
                cx.waker().wake_by_ref();
            }
        }
        if self.unneeded(cx, worker, lane) { Poll::Ready(false) } else { Poll::Pending }
    }

    /// Cuts what came into replies; false when it is not RESP, or nobody asked.
    fn hear(&mut self, mut bytes: &[u8], lane: &Lane) -> bool {
        while !bytes.is_empty() {
            let (count, used) = self.framer.run(bytes, lane.plain_ahead());
            if count > 0 {
                let (replies, rest) = bytes.split_at(used.min(bytes.len()));
                lane.hand_out_plain(replies, count);
                bytes = rest;
                continue;
            }
            let Ok((used, end)) = self.framer.scan(bytes) else { return false };
            let (piece, rest) = bytes.split_at(used.min(bytes.len()));
            // A push tells a lane nothing: nobody on it has subscribed or tracks.
            if !self.framer.is_push() && !lane.hand_out(piece, end != ReplyEnd::More) {
                return false;
            }
            bytes = rest;
        }
        true
    }

    /// Nobody has used it for a while.
    fn unneeded(&mut self, cx: &mut Context<'_>, worker: &Worker, lane: &Lane) -> bool {
        if !lane.idle() {
            self.empty_since = None;
            return false;
        }
        let now = clock::now();
        let until = *self.empty_since.get_or_insert(now) + worker.limits.upstream.idle;
        if until <= now || worker.too_many_idle_lanes() {
            return true;
        }
        self.timer.as_mut().reset(clock::instant(until));
        self.timer.as_mut().poll(cx).is_ready()
    }
}

fn remember(slot: &RefCell<Option<Waker>>, waker: &Waker) {
    let mut slot = slot.borrow_mut();
    if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
        *slot = Some(waker.clone());
    }
}
