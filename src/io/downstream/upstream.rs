//! The upstream of one conversation: which node, when to leave it, and the bytes both ways.
//!
//! ```text
//!   None --dial or warm--> Ready --orders name another node--> leaving --all answered, or time is up--> None
//!     |                      |                                                                           ^
//!     +-- board a lane --> Shared -- end of file, given up, refused -------------------------------------+
//! ```
//!
//! A free session rides a lane (`shared.rs`), a pinned one has a connection of its own.
//!
//! Invariant: after a node was given up nothing more is read from it, so a late reply of it reaches nobody.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::client::{LinkError, Upstream};
use crate::io::clock;
use crate::io::orders::News;
use crate::metrics::worker::{Counter, Gauge};
use crate::protocol::reply::{ReplyEnd, ReplyFramer, ReplyLimits};
use crate::session::Home;
use crate::topology::node::{Epoch, NodeId};

use super::Conversation;
use super::shared::Shared;
use crate::io::worker::{Opened, obtain};

/// Who blocks or is subscribed on a node that became a replica is not left there for longer than this.
const FAREWELL: Duration = Duration::from_secs(1);
/// Waits before the same node is tried again: doubled from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// See the picture of this module.
pub(super) enum Up {
    /// Nothing.
    None,
    /// On its way.
    Dialling(Dialling),
    /// Open.
    Ready(Box<Ready>),
    /// A place on a lane.
    Shared(Shared),
}

pub(super) type Dial = Pin<Box<dyn Future<Output = Result<Opened, LinkError>>>>;

pub(super) struct Dialling {
    pub(super) node: NodeId,
    pub(super) epoch: Epoch,
    pub(super) dial: Dial,
}

pub(super) struct Ready {
    pub(super) node: NodeId,
    pub(super) epoch: Epoch,
    pub(super) stream: Upstream,
    /// When the connection was made.
    pub(super) made: Duration,
    pub(super) framer: ReplyFramer,
    /// Since when the orders name another node.
    pub(super) leaving: Option<Duration>,
    pub(super) unflushed: bool,
}

/// When the node of an epoch may be tried again.
#[derive(Clone, Copy, Default)]
pub(super) struct Retry {
    epoch: Epoch,
    at: Duration,
    pause: Duration,
}

impl Retry {
    pub(super) fn after_failure(&mut self, epoch: Epoch, now: Duration) {
        self.pause = if self.epoch == epoch { (self.pause * 2).clamp(RETRY.0, RETRY.1) } else { RETRY.0 };
        self.epoch = epoch;
        self.at = now + self.pause;
    }

    pub(super) fn due(&self, epoch: Epoch) -> Option<Duration> {
        (self.epoch == epoch).then_some(self.at)
    }
}

impl Ready {
    pub(super) fn new(node: NodeId, epoch: Epoch, opened: Opened) -> Box<Self> {
        let Opened { stream, made } = opened;
        let framer = ReplyFramer::new(ReplyLimits::default());
        Box::new(Self { node, epoch, stream, made, framer, leaving: None, unflushed: false })
    }
}

impl Conversation {
    /// How long a node that became a replica is waited for. It answers what it was asked, at once or when a pause of
    /// its own ends; as long as commands may be held, that is better than an unknown outcome.
    fn farewell(&self) -> Duration {
        let owed = self.session.in_flight() > 0 && !self.session.blocked();
        if owed { self.worker.limits.hold.time } else { FAREWELL }
    }

    /// Commands may be sent on the upstream as it is.
    pub(super) fn may_send(&self) -> bool {
        let leaving = match &self.up {
            Up::Ready(up) => up.leaving,
            Up::Shared(up) if up.boarded => up.leaving,
            _ => return false,
        };
        !self.session.refusing() && leaving.is_none() && self.may_begin()
    }

    /// There is a primary, and no ordered hold.
    pub(super) fn may_begin(&self) -> bool {
        self.worker.orders().primary.is_some() && !self.worker.ordered_hold(self.now)
    }

    /// The first try to reach the primary is under way: that is no hold.
    pub(super) fn connecting(&self) -> bool {
        let tried = self.retry.due(self.worker.orders().epoch).is_some();
        let leaving = match &self.up {
            Up::Ready(up) => up.leaving.is_some(),
            Up::Shared(up) => up.leaving.is_some(),
            Up::None | Up::Dialling(_) => false,
        };
        self.may_begin() && !tried && !leaving && !self.session.refusing()
    }

    /// Brings the upstream in line with the orders.
    pub(super) fn follow_orders(&mut self) -> bool {
        if self.version != self.worker.version() {
            self.version = self.worker.version();
            self.note_orders();
            self.take_orders();
        }
        let mut moved = false;
        let place = match &self.up {
            Up::Ready(up) => Some((up.node, up.epoch, up.leaving)),
            Up::Shared(up) => Some((up.lane.node, up.epoch, up.leaving)),
            Up::None | Up::Dialling(_) => None,
        };
        if let Some((node, epoch, leaving)) = place {
            if self.session.refused().is_some() {
                self.worker.hint(News::Refused { node, epoch });
                self.retry.after_failure(epoch, self.now);
                self.drop_upstream();
                moved = true;
            } else if let Some(since) = leaving {
                let late = since + self.farewell() <= self.now;
                // A subscriber listens on until it has gone over, even while a hold keeps it from that.
                let listens = self.subscribed_only();
                let stays = self.session.is_raw() || listens && !late;
                if (late || self.session.in_flight() == 0) && !stays {
                    if !(listens && self.rescue()) {
                        self.drop_upstream();
                    }
                    moved = true;
                }
            } else if self.wrong_home() {
                self.drop_upstream();
                moved = true;
            }
        }
        moved |= self.follow_cutover();
        moved |= self.connect();
        self.watch_hold() || moved
    }

    fn take_orders(&mut self) {
        let worker = Rc::clone(&self.worker);
        let orders = worker.orders();
        self.session.follow(orders.mark);
        self.session.handle_replica(orders.replica);
        match &mut self.up {
            Up::Ready(up) if up.epoch <= orders.given_up => {
                drop(orders);
                up.stream.forsake();
                if self.session.in_flight() > 0 || self.session.is_raw() || !self.rescue() {
                    self.drop_upstream();
                }
            }
            Up::Ready(up) => match orders.primary {
                Some(primary) if primary == up.node => (up.epoch, up.leaving) = (orders.epoch, None),
                Some(_) => up.leaving = up.leaving.or(Some(self.now)),
                None => {}
            },
            Up::Shared(up) if up.epoch <= orders.given_up => self.drop_upstream(),
            Up::Shared(up) => match orders.primary {
                Some(primary) if primary == up.lane.node => (up.epoch, up.leaving) = (orders.epoch, None),
                Some(_) => up.leaving = up.leaving.or(Some(self.now)),
                None => {}
            },
            Up::Dialling(dialling) if Some(dialling.node) != orders.primary => self.up = Up::None,
            Up::Dialling(dialling) => dialling.epoch = orders.epoch,
            Up::None => {}
        }
    }

    /// The upstream ends here; the session learns what that means for it.
    pub(super) fn drop_upstream(&mut self) {
        self.next = Up::None;
        self.leave_upstream();
        self.session.detach(&mut self.out);
    }

    /// Gives the place at the upstream up, without the session being told.
    pub(super) fn leave_upstream(&mut self) {
        match std::mem::replace(&mut self.up, Up::None) {
            Up::Ready(up) => {
                self.worker.stats.lower(Gauge::UpstreamsOpen, 1);
                self.give_back(*up);
            }
            Up::Shared(up) => {
                self.ticket = self.ticket.wrapping_add(1);
                up.lane.alight();
            }
            Up::None | Up::Dialling(_) => {}
        }
    }

    /// The session needs this connection no longer.
    fn give_back(&self, up: Ready) {
        if up.unflushed || self.session.in_flight() > 0 || self.session.is_raw() {
            return;
        }
        if up.leaving.is_none() && self.session.upstream_reusable() {
            let opened = Opened { stream: up.stream, made: up.made };
            self.worker.pool.put(up.node, opened, self.session.names_library());
        } else {
            // Nothing is under way on it: a reset leaves no port waiting.
            up.stream.forsake();
        }
    }

    /// The future of a connection with the rights of one that is made now.
    pub(super) fn dial(&self, node: NodeId) -> Option<Dial> {
        let worker = Rc::clone(&self.worker);
        let target = worker.pool.target(node).cloned()?;
        Some(Box::pin(async move { obtain(&worker, &target).await }))
    }

    /// Gets an upstream if the session has something for one.
    fn connect(&mut self) -> bool {
        if !matches!(self.up, Up::None) || !self.session.wants_upstream() || !self.may_begin() {
            return false;
        }
        let worker = Rc::clone(&self.worker);
        let (primary, epoch) = (worker.orders().primary, worker.orders().epoch);
        let Some(node) = primary else { return false };
        if self.retry.due(epoch).is_some_and(|at| at > self.now) {
            return false;
        }
        if self.session.home() == Home::Lane
            && (self.worker.client_limits.in_force(node) || self.lost_again(node, epoch) > 1)
        {
            self.session.leave_lane(&mut self.out);
            return true;
        }
        if self.session.home() == Home::Lane {
            return self.board(node, epoch);
        }
        let Some(dial) = self.dial(node) else { return false };
        self.up = Up::Dialling(Dialling { node, epoch, dial });
        true
    }

    fn attach(&mut self, node: NodeId, epoch: Epoch, opened: Opened) {
        self.choked = false;
        self.worker.stats.raise(Gauge::UpstreamsOpen, 1);
        let same = self.cut_off.take() == Some((node, epoch, self.worker.orders().mark));
        // Redis builds the same reply once more, and ends the connection once more.
        let most = if self.worker.client_limits.in_force(node) { 1 } else { 3 };
        if self.lost_again(node, epoch) >= most {
            self.ending = Some(Counter::ClosedServer);
        }
        if same && self.session.subscribed() {
            // Only the connection ended, by the server's will (output limits, CLIENT KILL): its client is closed on as well.
            // Subscribed again, it would never know that messages are missing.
            self.ending = Some(Counter::ClosedServer);
        }
        self.up = Up::Ready(Ready::new(node, epoch, opened));
        self.session.attach();
    }

    /// How many connections to this process have ended by themselves, one after the other, with the same command unanswered.
    fn lost_again(&self, node: NodeId, epoch: Epoch) -> u32 {
        let here = (node, epoch, self.worker.orders().mark, self.session.answered());
        if self.losses.place == Some(here) { self.losses.count } else { 0 }
    }

    /// A connection with something unanswered has ended by itself.
    fn note_loss(&mut self, node: NodeId, epoch: Epoch) {
        if self.session.unanswered() {
            let count = self.lost_again(node, epoch) + 1;
            let place = Some((node, epoch, self.worker.orders().mark, self.session.answered()));
            self.losses = super::Losses { place, count };
        }
    }

    /// The connection ended by itself.
    pub(super) fn lose_upstream(&mut self) {
        if self.was_killed() {
            self.ending = Some(Counter::ClosedKilled);
            return;
        }
        let listens = self.session.subscribed() && !self.session.is_raw();
        if listens && self.choked && matches!(self.up, Up::Ready(_)) {
            // The server closes on a subscriber that reads too slowly, so that it knows that messages are missing.
            self.ending = Some(Counter::ClosedServer);
            return;
        }
        let place = match &self.up {
            Up::Ready(up) => {
                self.worker.stats.add(Counter::UpstreamLost, 1);
                Some((up.node, up.epoch))
            }
            Up::Shared(up) => Some((up.lane.node, up.epoch)),
            Up::None | Up::Dialling(_) => None,
        };
        if let Some((node, epoch)) = place {
            self.cut_off =
                (listens && matches!(self.up, Up::Ready(_))).then_some((node, epoch, self.worker.orders().mark));
            self.note_loss(node, epoch);
            self.worker.hint(News::UpstreamLost { node, epoch });
            if self.session.refusing() {
                self.worker.hint(News::Refused { node, epoch });
            }
            // A dying process closes one connection after the other: the next one is not tried at once.
            self.retry.after_failure(epoch, self.now);
        }
        // A subscriber that is on its way goes on where it was going.
        let rescued = self.session.may_rescue() && self.session.in_flight() == 0;
        if !rescued || self.session.is_raw() || !self.rescue() {
            self.drop_upstream();
        }
    }

    // ---- bytes ----

    pub(super) fn poll_from_upstream(&mut self, cx: &mut Context<'_>) -> bool {
        if self.out.len() >= self.out_limit() {
            self.choked |= matches!(self.up, Up::Ready(_));
            return false;
        }
        let worker = Rc::clone(&self.worker);
        match &mut self.up {
            Up::None => false,
            Up::Shared(_) => self.poll_lane(cx),
            Up::Dialling(dialling) => {
                let Poll::Ready(result) = dialling.dial.as_mut().poll(cx) else { return false };
                let (node, epoch) = (dialling.node, dialling.epoch);
                match result {
                    Ok(opened) => self.attach(node, epoch, opened),
                    Err(_unreachable) => {
                        self.up = Up::None;
                        self.retry.after_failure(epoch, self.now);
                        worker.hint(News::UpstreamLost { node, epoch });
                    }
                }
                true
            }
            Up::Ready(up) => {
                let mut scratch = worker.scratch.borrow_mut();
                let mut buffer = ReadBuf::new(&mut scratch);
                match Pin::new(&mut up.stream).poll_read(cx, &mut buffer) {
                    Poll::Pending => {
                        self.choked = false;
                        return false;
                    }
                    // Whatever it says after its lease has run out was said too late.
                    Poll::Ready(Ok(())) if !buffer.filled().is_empty() && worker.orders().lease.allows(up.node) => {
                        worker.stats.add(Counter::BytesFromRedis, buffer.filled().len() as u64);
                        if !self.hear(buffer.filled()) {
                            worker.stats.add(Counter::ProtocolErrorsRedis, 1);
                            self.lose_upstream();
                        }
                    }
                    Poll::Ready(_) => self.lose_upstream(),
                }
                true
            }
        }
    }

    /// Cuts what the upstream said into replies; false when it is not RESP.
    fn hear(&mut self, mut bytes: &[u8]) -> bool {
        let Up::Ready(up) = &mut self.up else { return true };
        while !bytes.is_empty() {
            if self.session.is_raw() {
                self.out.extend_from_slice(bytes);
                return true;
            }
            let (count, used) = up.framer.run(bytes, self.session.plain_ahead(usize::MAX));
            if count > 0 {
                let (replies, rest) = bytes.split_at(used.min(bytes.len()));
                self.session.handle_plain_replies(replies, count, &mut self.out);
                bytes = rest;
                continue;
            }
            let Ok((used, end)) = up.framer.scan(bytes) else { return false };
            let (piece, rest) = bytes.split_at(used.min(bytes.len()));
            self.session.handle_reply(piece, up.framer.is_push(), end != ReplyEnd::More, &mut self.out);
            bytes = rest;
        }
        true
    }

    pub(super) fn poll_to_upstream(&mut self, cx: &mut Context<'_>) -> bool {
        let hold = !self.may_begin();
        let up = match &mut self.up {
            Up::Ready(up) => up,
            Up::Shared(_) => return self.append_to_lane(hold),
            _ => return false,
        };
        let hold = hold || up.leaving.is_some();
        if self.stalled {
            return false;
        }
        let mut moved = false;
        loop {
            let bytes = self.session.to_send(hold);
            if bytes.is_empty() {
                break;
            }
            match Pin::new(&mut up.stream).poll_write(cx, bytes) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.worker.stats.add(Counter::BytesToRedis, count as u64);
                    self.session.sent(count);
                    (moved, up.unflushed) = (true, true);
                }
                Poll::Ready(_) => {
                    self.lose_upstream();
                    return true;
                }
                Poll::Pending => break,
            }
        }
        if up.unflushed && Pin::new(&mut up.stream).poll_flush(cx).is_ready() {
            up.unflushed = false;
        }
        moved
    }

    // ---- time ----

    /// The next time at which this conversation has something to do without being told.
    fn next_timeout(&self) -> Option<Duration> {
        let leave = self.departure_due();
        let farewell = match &self.up {
            Up::Ready(up) => up.leaving.filter(|_| !self.session.is_raw()).map(|since| since + self.farewell()),
            Up::Shared(up) => up.leaving.map(|since| since + self.farewell()),
            _ => None,
        };
        let rest = self.rest_at.filter(|_| matches!(self.up, Up::Ready(_)));
        let waits = matches!(self.up, Up::None) && self.session.wants_upstream() && self.may_begin();
        let retry = if waits { self.retry.due(self.worker.orders().epoch) } else { None };
        let stall = if self.worker.ordered_hold(self.now) { self.stall_due() } else { None };
        let left = self.left_behind_due();
        let held = [self.hold_deadline(), self.ids_deadline(), self.words_deadline(), self.idle_deadline()];
        [leave, stall, farewell, retry, rest, left].into_iter().chain(held).flatten().min()
    }

    /// Sleeps until the next time-out; wakes itself when it has passed.
    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Counter> {
        let Some(at) = self.next_timeout() else {
            self.timer = None;
            return Poll::Pending;
        };
        let at = clock::instant(at);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        if timer.as_mut().poll(cx).is_ready() {
            self.timer = None;
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
