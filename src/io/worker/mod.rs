//! One thread: its conversations, its upstream connections, its share of the orders.
//!
//! A worker runs a current-thread runtime; nothing of it is shared with another thread but its counters, and the
//! channels to and from the owner. It decides nothing: it makes every conversation follow the newest [`Orders`] and
//! reports what the owner waits for ([`News`]).
//!
//! Invariant: `Quiesced` is said only when no conversation of this worker has anything in flight that the server would
//! still run, and none can begin before the hold is over.

mod dictionary;
mod floor;
mod leaving;
mod limits;
mod marker;
mod pool;
mod proof;
mod unblock;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::metrics::worker::{Counter, Gauge, WorkerStats};
use crate::session::{LaneKey, Settings};
use crate::topology::node::NodeId;

use super::client::Target;
use super::lane::Lane;
use super::orders::{DrainTally, News, Orders};

use super::register::Register;
use super::tls::ServerSide;
use super::{clock, downstream};

pub(super) use floor::Guest;
pub use floor::{Workers, start};
pub(super) use leaving::{Left, Unnoticed};
pub(super) use pool::{Opened, Pool, obtain};
pub(super) use proof::Verdict;

/// A client's share of what a worker may keep is never less than this, in bytes.
const LEAST_SHARE: usize = 64 * 1024;

/// Most lanes of a worker. Further clients get an upstream of their own.
const LANES: usize = 256;
/// So many lanes without a passenger are kept for a while, in case one comes.
const IDLE_LANES: usize = 8;

/// What the conversations of one worker share.
pub(super) struct Worker {
    /// Its number, from 0.
    pub index: usize,
    /// Session settings, the same for all.
    pub settings: Rc<Settings>,
    /// The limits that the shell keeps.
    pub limits: Limits,
    /// Its counters.
    pub stats: Arc<WorkerStats>,
    /// Idle connections to the nodes.
    pub pool: Pool,
    prover: proof::Prover,
    /// Where bytes are read to; only ever borrowed within one poll.
    pub scratch: RefCell<Vec<u8>>,
    /// Where clients' bytes are read to, below TLS.
    pub buffers: Rc<downstream::Buffers>,
    orders: RefCell<Orders>,
    version: Cell<u64>,
    news: mpsc::Sender<News>,
    seats: RefCell<Vec<Option<Rc<Seat>>>>,
    free: RefCell<Vec<usize>>,
    in_flight: Cell<usize>,
    held: Cell<u64>,
    held_bytes: Cell<u64>,
    held_requests: Cell<u64>,
    kept: Cell<usize>,
    /// When the log last said why a client was closed on.
    said_at: Cell<Option<Duration>>,
    stall: Cell<Stall>,
    /// When sending became impossible for everyone; `None` while there is a primary and no ordered hold.
    holding_since: Cell<Option<Duration>>,
    quiesced: Cell<Option<u64>>,
    tally: RefCell<DrainTally>,
    /// The drain whose end was told.
    told: Cell<Option<u64>>,
    /// See [`Unnoticed`].
    pub unnoticed: Arc<Unnoticed>,
    /// Which nodes end connections of clients that take too much memory.
    pub client_limits: Arc<limits::ClientLimits>,
    /// Ends blocking commands under a drain.
    pub unblocker: unblock::Unblocker,
    /// What clients are told besides.
    pub hints: Hints,
    lanes: RefCell<Vec<Rc<Lane>>>,
    markers: marker::Markers,
    /// Commands that the table does not have.
    pub dictionary: dictionary::Dictionary,
    /// Who was told which id.
    pub register: Arc<Register>,
}

/// Limits that the shell keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Of a hold.
    pub hold: crate::config::HoldLimits,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// Bytes that a worker keeps for all of its clients before it becomes sparing.
    pub keep: usize,
    /// An idle client is closed after this time.
    pub idle: Option<Duration>,
    /// How long connections to Redis are kept.
    pub upstream: crate::config::Upstreams,
    /// Most idle connections to one node.
    pub idle_upstreams: usize,
}

/// What clients are told of changes and drains on channels that they subscribed to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hints {
    /// `__Booksleeve_MasterChanged`.
    pub stackexchange: bool,
    /// `AzureRedisEvents`.
    pub azure: bool,
    /// The node that the process runs beside.
    pub beside: Option<NodeId>,
}

/// A conversation's place in its worker.
pub(super) struct Seat {
    index: usize,
    waker: RefCell<Option<Waker>>,
    /// When its client last said something.
    pub last_heard: Cell<Duration>,
    /// A drain asks it to leave at its first quiet moment after this.
    pub leave_at: Cell<Option<Duration>>,
}

/// How long clients of this worker were held by the change under way.
#[derive(Clone, Copy, Default)]
struct Stall {
    longest: Duration,
    sessions: u64,
}

impl Worker {
    /// The newest orders.
    pub(super) fn orders(&self) -> std::cell::Ref<'_, Orders> {
        self.orders.borrow()
    }

    /// Grows with every change of the orders.
    pub(super) fn version(&self) -> u64 {
        self.version.get()
    }

    /// An ordered hold that has not run out.
    pub(super) fn ordered_hold(&self, now: Duration) -> bool {
        self.orders().hold.is_some_and(|hold| now < hold.until)
    }

    /// Since when nobody of this worker could send.
    pub(super) fn holding_since(&self) -> Option<Duration> {
        self.holding_since.get()
    }

    /// A hint for the owner; lost when it is swamped.
    pub(super) fn hint(&self, news: News) {
        let _full = self.news.try_send(news);
    }

    // ---- seats ----

    /// A place for a new conversation.
    pub(super) fn sit(&self, now: Duration) -> Rc<Seat> {
        let mut seats = self.seats.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or(seats.len());
        let leave_at = Cell::new(self.turn_of_newcomer(now));
        let seat = Rc::new(Seat { index, waker: RefCell::new(None), last_heard: Cell::new(now), leave_at });
        match seats.get_mut(index) {
            Some(place) => *place = Some(Rc::clone(&seat)),
            None => seats.push(Some(Rc::clone(&seat))),
        }
        self.stats.raise(Gauge::ConnectionsOpen, 1);
        seat
    }

    /// The conversation has ended.
    pub(super) fn leave(&self, seat: &Seat) {
        if let Some(place) = self.seats.borrow_mut().get_mut(seat.index) {
            *place = None;
            self.free.borrow_mut().push(seat.index);
            self.stats.lower(Gauge::ConnectionsOpen, 1);
        }
    }

    fn wake_all(&self) {
        self.seats.borrow().iter().flatten().for_each(|seat| seat.wake());
        self.lanes.borrow().iter().for_each(|lane| lane.wake());
    }

    // ---- subscribers that go over ----

    /// A marker channel that was never used.
    pub(super) fn marker_channel(&self) -> Vec<u8> {
        self.markers.channel()
    }

    /// Publishes a marker through the new primary.
    pub(super) fn publish_marker(&self, node: NodeId, channel: Vec<u8>) {
        self.markers.publish(node, channel);
    }

    // ---- lanes ----

    /// The lane to `node` for this key that still takes commands.
    pub(super) fn find_lane(&self, key: &LaneKey, node: NodeId) -> Option<Rc<Lane>> {
        let given_up = self.orders().given_up;
        let lanes = self.lanes.borrow();
        let now = clock::now();
        let fits = |lane: &&Rc<Lane>| {
            let usable = lane.node == node && lane.epoch() > given_up && !lane.over();
            usable && !self.stale(lane, now) && lane.key == *key
        };
        lanes.iter().find(fits).map(Rc::clone)
    }

    /// A lane that takes no newcomers.
    pub(super) fn stale(&self, lane: &Lane, now: Duration) -> bool {
        lane.worn() || self.pool.aged(lane.made(), now)
    }

    /// A lane takes commands now: passengers of one that is too old for newcomers change to it.
    pub(super) fn lane_opened(&self, opened: &Rc<Lane>) {
        let now = clock::now();
        let old = |lane: &Rc<Lane>| self.stale(lane, now) && lane.key == opened.key;
        let changes = self.lanes.borrow().iter().any(old);
        if changes {
            self.wake_all();
        }
    }

    /// More lanes than [`IDLE_LANES`] have no passenger.
    pub(super) fn too_many_idle_lanes(&self) -> bool {
        self.lanes.borrow().iter().filter(|lane| lane.idle()).count() > IDLE_LANES
    }

    /// One more lane may be opened.
    pub(super) fn room_for_lane(&self) -> bool {
        self.lanes.borrow().len() < LANES
    }

    /// A lane has been made.
    pub(super) fn keep_lane(&self, lane: &Rc<Lane>) {
        self.lanes.borrow_mut().push(Rc::clone(lane));
    }

    /// A lane has ended.
    pub(super) fn forget_lane(&self, lane: &Rc<Lane>) {
        self.lanes.borrow_mut().retain(|known| !Rc::ptr_eq(known, lane));
    }

    // ---- what is in flight ----

    /// A conversation has begun to wait for replies (`true`), or has them all.
    pub(super) fn flight(&self, begun: bool) {
        let count = self.in_flight.get();
        self.in_flight.set(if begun { count + 1 } else { count.saturating_sub(1) });
        if !begun && count == 1 {
            self.check_quiet();
        }
    }

    /// Tells the owner, once for each ordered hold, that nothing is in flight any more.
    fn check_quiet(&self) {
        let Some(hold) = self.orders().hold else { return };
        if self.in_flight.get() > 0 || self.quiesced.get() == Some(hold.id) {
            return;
        }
        if self.news.try_send(News::Quiesced { worker: self.index, hold: hold.id }).is_ok() {
            self.quiesced.set(Some(hold.id));
        }
    }

    // ---- what is kept ----

    /// Changes what is kept in memory for one client, in bytes.
    pub(super) fn reckon_kept(&self, before: usize, after: usize) {
        self.kept.set(self.kept.get().saturating_sub(before) + after);
    }

    /// So much is kept for all that a client with `kept` bytes, more than its share, may keep only a little: hostile bytes
    /// cost memory up to a limit, and the client that exceeds its share pays for it, not its neighbours.
    pub(super) fn short(&self, kept: usize) -> bool {
        self.kept.get() > self.limits.keep && kept > self.share()
    }

    fn share(&self) -> usize {
        let clients = self.seats.borrow().len() - self.free.borrow().len();
        (self.limits.keep / clients.max(1)).max(LEAST_SHARE)
    }

    /// The log may say once more why a client was closed on.
    pub(super) fn may_say(&self, now: Duration) -> bool {
        let may = self.said_at.get().is_none_or(|said| said + Duration::from_secs(1) <= now);
        if may {
            self.said_at.set(Some(now));
        }
        may
    }

    // ---- what is held ----

    /// A conversation has commands that it may not send.
    pub(super) fn begin_hold(&self) {
        self.held.set(self.held.get() + 1);
        self.stats.set(Gauge::HeldSessions, self.held.get());
    }

    /// Changes what one conversation holds back, in requests and bytes; says whether all of it is within the limits.
    pub(super) fn reckon_held(&self, before: (u64, u64), after: (u64, u64)) -> Result<(), &'static str> {
        let requests = self.held_requests.get().saturating_sub(before.0) + after.0;
        let bytes = self.held_bytes.get().saturating_sub(before.1) + after.1;
        self.held_requests.set(requests);
        self.held_bytes.set(bytes);
        self.stats.set(Gauge::HeldBytes, bytes);
        match after {
            (0, _) => Ok(()),
            _ if requests > self.limits.hold.requests => Err("requests"),
            _ if bytes > self.limits.hold.bytes => Err("bytes"),
            _ => Ok(()),
        }
    }

    /// A held conversation goes on after `time`.
    pub(super) fn end_hold(&self, time: Duration) {
        let stall = self.stall.get();
        self.stall.set(Stall { longest: stall.longest.max(time), sessions: stall.sessions + 1 });
        self.held.set(self.held.get().saturating_sub(1));
        self.stats.set(Gauge::HeldSessions, self.held.get());
        if self.held.get() == 0 {
            let stall = self.stall.take();
            self.hint(News::Resumed { worker: self.index, longest: stall.longest, held: stall.sessions });
        }
    }

    // ---- orders ----

    fn take_orders(&self, orders: Orders, now: Duration) {
        let may_send = orders.primary.is_some() && orders.hold.is_none_or(|hold| hold.until <= now);
        self.holding_since.set(if may_send { None } else { self.holding_since.get().or(Some(now)) });
        let gave_up = self.orders.borrow().given_up < orders.given_up;
        self.pool.follow(orders.primary, gave_up);
        self.prover.follow(orders.primary);
        for lane in self.lanes.borrow().iter() {
            if orders.primary == Some(lane.node) && lane.epoch() > orders.given_up {
                lane.confirm(orders.epoch);
            }
        }
        *self.orders.borrow_mut() = orders;
        self.version.set(self.version.get() + 1);
        self.assign_departures();
        self.check_quiet();
        self.wake_all();
    }

    /// The orders with what has run out by itself taken away, if something has.
    fn lapse(&self, now: Duration) -> Option<Orders> {
        let orders = self.orders();
        let over = orders.hold.is_some_and(|hold| hold.until <= now);
        over.then(|| Orders { hold: None, ..orders.clone() })
    }

    fn next_lapse(&self) -> Duration {
        let hour = Duration::from_secs(3600);
        self.orders().hold.map_or_else(|| clock::now() + hour, |hold| hold.until)
    }
}

impl Seat {
    /// Its task has something to do.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// The task to wake when orders change.
    pub(super) fn remember(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }
}

/// Runs until the orders' sender is gone: the process ends.
async fn run(
    worker: Rc<Worker>,
    tls: Arc<ServerSide>,
    mut orders: watch::Receiver<Orders>,
    mut sockets: mpsc::Receiver<floor::Arrival>,
    markers: marker::Queue,
    questions: dictionary::Questions,
    unblocks: mpsc::Receiver<unblock::Request>,
) {
    let mut conversations = JoinSet::new();
    let mut pools = JoinSet::new();
    for node in worker.pool.nodes() {
        pools.spawn_local(pool::keep_warm(Rc::clone(&worker), node));
    }
    pools.spawn_local(marker::publish(worker.pool.targets(), markers));
    if worker.index == 0 {
        pools.spawn_local(limits::watch(Rc::clone(&worker)));
    }
    pools.spawn_local(dictionary::explain(Rc::clone(&worker), questions));
    pools.spawn_local(unblock::unblock(worker.pool.targets(), unblocks));
    let (mut open, mut shut) = (true, None);
    while open || !conversations.is_empty() {
        if let (Some(shut), true) = (shut, conversations.is_empty()) {
            worker.tell_drained(shut).await;
        }
        let lapse = clock::instant(worker.next_lapse());
        tokio::select! {
            changed = orders.changed() => match changed {
                Ok(()) => { let new = orders.borrow_and_update().clone(); worker.take_orders(new, clock::now()); }
                // The owner is gone: the process ends.
                Err(_) => return,
            },
            socket = sockets.recv(), if open => match socket {
                Some(floor::Arrival::Unwelcome(_socket)) => {
                    worker.stats.add(Counter::ConnectionsAccepted, 1);
                    worker.stats.add(Counter::ClosedLimit, 1);
                }
                Some(floor::Arrival::Nobody { drain }) => shut = Some(drain),
                Some(floor::Arrival::Client(socket)) => {
                    conversations.spawn_local(downstream::converse(Rc::clone(&worker), Arc::clone(&tls), socket));
                }
                None => open = false,
            },
            Some(_ended) = conversations.join_next() => {}
            () = tokio::time::sleep_until(lapse) => {
                if let Some(orders) = worker.lapse(clock::now()) {
                    worker.take_orders(orders, clock::now());
                }
            }
        }
    }
}
