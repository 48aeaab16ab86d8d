//! How one conversation leaves under a drain.
//!
//! ```text
//!  its turn --- opted in: MOVING, and time to move ---+
//!     |                                               |
//!     +---------------> quiet, and the moment that its library bears best ---> closed
//!     |                                               ^
//!     +-- blocked: the node ends the command ---------+
//!     |
//!     +-- at the deadline: everything owed is answered, then cut
//! ```
//!
//! Which moment a library bears is `session::library`'s knowledge. Invariant: before the deadline a connection is closed
//! only when nothing is owed to its client, or when what it waits for was certainly not done and its library sends it
//! again.

use std::time::Duration;

use crate::io::orders::{Drain, Elsewhere};
use crate::io::worker::Left;
use crate::metrics::worker::Counter;
use crate::session::{Endpoint, Moment, Unfinished, maintenance};

use super::Conversation;
use super::upstream::Up;

/// Silence after which a connection counts as idle: its client is hardly about to send.
const IDLE: Duration = Duration::from_millis(200);
/// Time that a library that listens needs to hear of the end before it sends again.
const LULL: Duration = Duration::from_millis(5);
/// The longest that clients are told they have to move.
const MOVE: Duration = Duration::from_secs(15);
/// They may take so much longer before they are closed.
const PATIENCE: Duration = Duration::from_secs(4);
/// So long before the deadline there is a last chance to close instead of cutting.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// Where a conversation stands in its departure.
#[derive(Default)]
pub(super) struct Departure {
    /// The drain that this is about.
    drain: u64,
    /// It was told to move, and is not closed before this.
    stays_until: Option<Duration>,
    /// Its place among the closed connections of its pool.
    pub(super) place: Option<usize>,
}

/// The times of a departure.
#[derive(Clone, Copy)]
struct Times {
    turn: Duration,
    /// From then on any quiet moment will do for those who listen.
    late: Duration,
    /// The last chance.
    last: Duration,
    deadline: Duration,
}

impl Times {
    fn of(drain: &Drain, turn: Duration) -> Self {
        let left = drain.deadline.saturating_sub(turn);
        Self {
            turn,
            late: turn + left * 3 / 4,
            last: drain.deadline.saturating_sub(LAST_CHANCE.min(left / 8)),
            deadline: drain.deadline,
        }
    }

    fn middle(&self) -> Duration {
        self.turn + self.deadline.saturating_sub(self.turn) / 2
    }
}

impl Conversation {
    fn times(&self) -> Option<Times> {
        let drain = self.worker.orders().drain?;
        Some(Times::of(&drain, self.seat.leave_at.get()?))
    }

    /// A drain that was ordered asks this conversation to go; the reason once it does.
    pub(super) fn departure(&mut self) -> Option<Counter> {
        let drain = self.worker.orders().drain?;
        let times = self.times()?;
        if self.departure.drain != drain.id {
            self.departure = Departure { drain: drain.id, ..Departure::default() };
        }
        if times.deadline <= self.now {
            return Some(self.end_at_deadline());
        }
        if times.turn > self.now {
            return None;
        }
        if self.session.left_unanswered() {
            return Some(self.leave_unanswered());
        }
        self.tell_to_move(&times);
        if self.departure.stays_until.is_some_and(|until| until > self.now) {
            return None;
        }
        match self.obstacle() {
            None if self.is_the_moment(&times) => {
                self.worker.left(Left::Closed);
                Some(Counter::ClosedDrain)
            }
            None => None,
            Some(Unfinished::Blocked) => {
                self.end_block(&times);
                None
            }
            Some(_) => None,
        }
    }

    /// The client closed its side: because it was told to? (One connection that hears it moves a whole pool.)
    pub(super) fn gone_by_itself(&self) -> Counter {
        if self.worker.orders().drain.is_some() && self.session.opted_in().is_some() {
            self.worker.left(Left::Moved);
            return Counter::ClosedMoved;
        }
        Counter::ClosedByClient
    }

    /// When [`Conversation::departure`] may have another answer although nothing happens.
    pub(super) fn departure_due(&self) -> Option<Duration> {
        let times = self.times()?;
        let heard = self.silent_since();
        let dues = [
            Some(times.turn),
            self.departure.stays_until,
            Some(heard + IDLE),
            Some(times.middle()),
            Some(times.late),
            Some(times.last),
            Some(times.deadline),
        ];
        let due = dues.into_iter().flatten().filter(|at| *at > self.now).min();
        // Before its turn nothing but that matters.
        if times.turn > self.now { Some(times.turn.min(times.deadline)) } else { due }
    }

    fn silent_since(&self) -> Duration {
        self.seat.last_heard.get().max(self.spoke_at)
    }

    /// What keeps the client from being left now.
    fn obstacle(&self) -> Option<Unfinished> {
        self.session.unfinished().or(match () {
            () if !self.input.is_empty() => Some(Unfinished::Speaking),
            () if !self.out.is_empty() || self.unflushed => Some(Unfinished::Unread),
            () => None,
        })
    }

    /// It is quiet: is this a moment that the client's library bears?
    fn is_the_moment(&mut self, times: &Times) -> bool {
        let silent = self.now.saturating_sub(self.silent_since());
        let behind_reply = self.spoke_at == self.now;
        // Whoever took its time before its last command will do so again: then the end comes with the reply, and long
        // before the next one. To close in the middle of such a pause could meet the next command.
        let lull = behind_reply && self.pause >= LULL || silent >= IDLE;
        let (late, last) = (self.now >= times.late, self.now >= times.last);
        // Whoever can be told where to go with its next command is not closed before: its pool would connect again to
        // where nobody is. One connection of the pool that hears it moves the idle ones as well.
        if !last && self.endpoint(times).is_some() {
            return false;
        }
        match self.session.moment() {
            Moment::BehindReply => behind_reply || silent >= IDLE || last,
            Moment::InLull => lull || late && behind_reply || last,
            Moment::OnPing => late && lull || last,
            Moment::BehindReplyFewAtOnce => last || behind_reply && self.take_place(),
        }
    }

    /// A place among the few connections of its pool that may be closed and not noticed.
    fn take_place(&mut self) -> bool {
        if self.departure.place.is_none() {
            let Ok(peer) = self.client.get_ref().0.ends().peer_addr() else { return true };
            self.departure.place = self.worker.unnoticed.close_one(peer.ip(), &self.session.library_name());
        }
        self.departure.place.is_some()
    }

    /// Until when a client that is closed is waited for: it counts as one that has not noticed for so long.
    pub(super) fn waits_for_client(&self) -> Duration {
        let deadline = self.departure.place.and(self.times()).map(|times| times.last);
        deadline.unwrap_or_default().max(self.now + super::GOODBYE)
    }

    /// A PING now would be the test of a pool, and its failure is what the client bears best.
    pub(super) fn would_fail_ping(&self) -> bool {
        let turn = self.times().is_some_and(|times| times.turn <= self.now);
        let stays = self.departure.stays_until.is_some_and(|until| until > self.now);
        turn && !stays && self.session.moment() == Moment::OnPing && self.obstacle().is_none()
    }

    /// The PING is left unanswered.
    pub(super) fn fail_ping(&mut self) {
        self.worker.left(Left::Closed);
        self.ending = Some(Counter::ClosedDrain);
    }

    // ---- told to move ----

    /// What the client would be told in MOVING; `None` when it is not told: it did not ask, was told already, there is
    /// nowhere to go, or its library would make the wrong thing of it.
    fn endpoint(&self, times: &Times) -> Option<Option<std::sync::Arc<str>>> {
        if self.time_to_move(times).as_secs() == 0 {
            return None;
        }
        let wish = self.session.opted_in().filter(|_| self.departure.stays_until.is_none())?;
        let library = self.session.library();
        if self.session.subscribed() && !library.moves_subscriptions() {
            return None;
        }
        match (&self.worker.orders().elsewhere, wish) {
            (Elsewhere::Nowhere, _) => None,
            (_, Endpoint::None) => Some(None),
            (Elsewhere::Configured, _) => library.takes_no_endpoint().then_some(None),
            (Elsewhere::At { address, .. }, Endpoint::Address) => Some(Some(address.clone())),
            (Elsewhere::At { name, .. }, Endpoint::Name | Endpoint::Any) => Some(Some(name.clone())),
        }
    }

    fn time_to_move(&self, times: &Times) -> Duration {
        let left = times.deadline.saturating_sub(self.now);
        MOVE.min(left.saturating_sub(PATIENCE).max(left / 2))
    }

    /// MOVING, at a moment at which the client will read it: those who do not listen get it before a reply.
    fn tell_to_move(&mut self, times: &Times) {
        let Some(endpoint) = self.endpoint(times) else { return };
        let reads = self.session.library().listens() || self.session.in_flight() > 0;
        if !reads || !self.session.may_tell() {
            return;
        }
        let time = self.time_to_move(times);
        maintenance::moving(&mut self.out, self.departure.drain, time.as_secs(), endpoint.as_deref());
        self.worker.stats.add(Counter::ToldMoving, 1);
        self.departure.stays_until = Some((self.now + time + PATIENCE).min(times.last));
    }

    // ---- blocked ----

    /// Has the node end the command that blocks, unless it ends by itself in time.
    fn end_block(&mut self, times: &Times) {
        let Some(until) = self.session.blocks_until() else { return };
        let due = match until {
            Some(until) if until < times.last => return,
            // A null for a command that was to block for ever would be news to the application. So it is left without
            // an answer: soon if its library then sends it again, late if the application will see an error.
            None if !self.session.library().sends_again() => times.last,
            _ => times.middle(),
        };
        if due > self.now || self.session.unblocking() {
            return;
        }
        if let Up::Ready(up) = &self.up
            && let Ok(from) = up.stream.tcp().local_addr()
        {
            self.session.begin_unblocking();
            self.worker.unblocker.ask(up.node, from);
        }
    }

    /// The node took nothing for the command that blocked: the client's library may send it again elsewhere.
    fn leave_unanswered(&self) -> Counter {
        if self.session.library().sends_again() {
            self.worker.left(Left::Closed);
            return Counter::ClosedDrain;
        }
        self.count_cut(Unfinished::Blocked)
    }

    // ---- the deadline ----

    /// Whoever is quiet is closed; of the others everything gets an answer first. Without one, several libraries would
    /// send again what has been done.
    fn end_at_deadline(&mut self) -> Counter {
        if self.session.left_unanswered() {
            return self.leave_unanswered();
        }
        let Some(why) = self.obstacle() else {
            self.worker.left(Left::Closed);
            return Counter::ClosedDrain;
        };
        self.drop_upstream();
        self.session.expire(GOING, &mut self.out);
        self.count_cut(why)
    }

    fn count_cut(&self, why: Unfinished) -> Counter {
        self.worker.left(Left::Cut(why, self.session.library_name()));
        let counter = match why {
            Unfinished::Transaction => Counter::CutTransaction,
            Unfinished::Blocked => Counter::CutBlocked,
            Unfinished::Raw => Counter::CutRaw,
            Unfinished::Speaking => Counter::CutSpeaking,
            Unfinished::Owed => Counter::CutOwed,
            Unfinished::Unread => Counter::CutUnread,
        };
        self.worker.stats.add(counter, 1);
        Counter::ClosedDrainCut
    }
}

const GOING: &str = "LOADING this proxy is being taken out of service; the command was not executed, try again";
