//! A conversation on a lane: getting on, appending, hearing, getting off.
//!
//! It rides only while its session is free. A session that needs an upstream of its own first gets every reply that the
//! lane owes it; one that needs it no longer goes back after a while, so that a transaction now and then does not make
//! it change all the time.

use std::rc::{Rc, Weak};
use std::task::Context;
use std::time::Duration;

use crate::io::lane::{self, Lane, State};
use crate::io::orders::News;
use crate::io::worker::Verdict;
use crate::session::{Home, Session};
use crate::topology::node::{Epoch, NodeId};

use super::upstream::Up;
use super::{Conversation, OUT_LIMIT};

/// A session that needed its own upstream keeps it at least this long.
const REST: Duration = Duration::from_millis(250);
/// A client that has this much to read goes on with an upstream of its own, which waits for it without its neighbours.
const SLOW: usize = 256 * 1024;

/// A place on a lane.
pub(super) struct Shared {
    pub(super) lane: Rc<Lane>,
    pub(super) epoch: Epoch,
    /// Since when the orders name another node.
    pub(super) leaving: Option<Duration>,
    /// The lane is open, and the session knows.
    pub(super) boarded: bool,
}

impl Conversation {
    /// Takes a place on the lane of this session's kind; opens it if there is none.
    pub(super) fn board(&mut self, node: NodeId, epoch: Epoch) -> bool {
        let key = self.session.lane_key();
        let given_up = self.worker.orders().given_up;
        if let Some(lane) = self.standing.lane(&self.session, node, given_up) {
            return self.ride(lane, epoch);
        }
        if key.anonymous() {
            match self.prove(node) {
                None => return false,
                Some(Verdict::Served) => {}
                Some(Verdict::LoginNeeded) => {
                    // The server itself says so on a connection of the client's own.
                    self.standing.barred = Some(self.session.logins());
                    self.session.leave_lane(&mut self.out);
                    return true;
                }
                Some(Verdict::Closed(words)) => {
                    self.session.turn_away(&words, &mut self.out);
                    return true;
                }
                Some(Verdict::Unreachable) => {
                    self.retry.after_failure(epoch, self.now);
                    self.worker.hint(News::UpstreamLost { node, epoch });
                    return true;
                }
            }
        }
        let Some(lane) = self.worker.lane(&key, node, epoch) else {
            self.session.leave_lane(&mut self.out);
            return true;
        };
        self.standing.lane = Rc::downgrade(&lane);
        self.standing.logins = self.session.logins();
        self.ride(lane, epoch)
    }

    fn ride(&mut self, lane: Rc<Lane>, epoch: Epoch) -> bool {
        lane.board();
        self.standing.proof = None;
        self.up = Up::Shared(Shared { lane, epoch, leaving: None, boarded: false });
        true
    }

    /// What a proof says that was begun after this client came; `None` until it has ended.
    fn prove(&mut self, node: NodeId) -> Option<Verdict> {
        let logins = self.session.logins();
        let asked = self.standing.proof.filter(|proof| proof.0 == node && proof.2 == logins);
        let number = asked.map_or_else(|| self.worker.next_proof(node), |proof| proof.1);
        self.standing.proof = Some((node, number, logins));
        let verdict = self.worker.verdict(node, number, &self.seat)?;
        self.standing.proof = None;
        Some(verdict)
    }

    /// The lane is too old for newcomers, and there is a younger one that this session may use.
    fn younger_lane(&self) -> bool {
        let Up::Shared(up) = &self.up else { return false };
        if !up.boarded || up.leaving.is_some() || !self.worker.stale(&up.lane, self.now) {
            return false;
        }
        self.worker.find_lane(&up.lane.key, up.lane.node).is_some_and(|lane| lane.state() == State::Open)
    }

    /// Changes to the younger lane. Its own rights were proven when it was opened, after those of the old one.
    fn change_lane(&mut self) {
        let Up::Shared(up) = &self.up else { return };
        let found = self.worker.find_lane(&up.lane.key, up.lane.node);
        if let Some(lane) = found {
            self.standing.lane = Rc::downgrade(&lane);
        }
    }

    /// The session needs another kind of upstream than it has, and nothing is under way.
    pub(super) fn wrong_home(&mut self) -> bool {
        match (&self.up, self.session.home()) {
            (Up::Shared(_), _) if self.session.sheds() => {
                self.session.shed();
                true
            }
            (Up::Shared(_), Home::Own) => self.session.in_flight() == 0,
            (Up::Shared(_), Home::Lane) => {
                let worn = matches!(&self.up, Up::Shared(up) if up.boarded && up.lane.worn());
                let younger = self.session.in_flight() == 0 && self.younger_lane();
                let changes = younger || worn && self.session.in_flight() == 0;
                if younger {
                    self.change_lane();
                }
                changes
            }
            (Up::Ready(_), Home::Own) if self.session.misplaced() => true,
            (Up::Ready(up), Home::Own) if up.stream.worn() && self.session.quiet() && !self.session.subscribed() => {
                true
            }
            // It would be asked to log in there as well.
            (Up::Ready(_), Home::Own) if self.standing.barred == Some(self.session.logins()) => {
                self.rest_at = None;
                false
            }
            // There it would share the fate of others.
            (Up::Ready(up), Home::Own) if self.worker.client_limits.in_force(up.node) => {
                self.rest_at = None;
                false
            }
            (Up::Ready(up), Home::Own) => {
                let (node, epoch) = (up.node, up.epoch);
                let due = *self.rest_at.get_or_insert(self.now + REST) <= self.now;
                if due {
                    self.rest_at = Some(self.now + REST);
                    if self.session.rested() && self.session.free() && self.way_back(node, epoch) {
                        self.session.share();
                        self.rest_at = None;
                    }
                }
                self.session.home() == Home::Lane
            }
            _ => false,
        }
    }

    /// Whether a lane takes this session now. Its own upstream is given up only then: Redis lets a connection that was let
    /// in stay in, whatever has become of its password since. What is missing is asked for, and looked at next time.
    fn way_back(&mut self, node: NodeId, epoch: Epoch) -> bool {
        let given_up = self.worker.orders().given_up;
        if self.standing.lane(&self.session, node, given_up).is_some_and(|lane| lane.state() == State::Open) {
            return true;
        }
        let (key, logins) = (self.session.lane_key(), self.session.logins());
        let asked = self.standing.asked.take().filter(|lane| lane.key == key && lane.node == node);
        let Some(lane) = asked.or_else(|| self.worker.lane(&key, node, epoch)) else { return false };
        match lane.state() {
            // Without a login, a lane is open whatever the server thinks of it: it is asked once the lane is there.
            State::Open => {
                let verdict = if key.anonymous() { self.prove(node) } else { Some(Verdict::Served) };
                match verdict {
                    Some(Verdict::Served) => {}
                    None | Some(Verdict::Unreachable) => {
                        self.standing.asked = Some(lane);
                        return false;
                    }
                    Some(Verdict::LoginNeeded | Verdict::Closed(_)) => {
                        self.standing.barred = Some(logins);
                        return false;
                    }
                }
                (self.standing.lane, self.standing.logins) = (Rc::downgrade(&lane), logins);
                return true;
            }
            State::Opening => self.standing.asked = Some(lane),
            State::TurnedAway(_) => self.standing.barred = Some(logins),
            State::Ended => {}
        }
        false
    }

    /// Follows the lane's state.
    pub(super) fn poll_lane(&mut self, cx: &Context<'_>) -> bool {
        let Up::Shared(up) = &mut self.up else { return false };
        if up.lane.over() {
            let (state, epoch) = (up.lane.state(), up.epoch);
            let boarded = up.boarded;
            if let State::TurnedAway(reply) = state {
                self.leave_upstream();
                if reply.starts_with(b"-BUSY ") {
                    self.session.put_off(&reply, &mut self.out);
                } else {
                    self.session.turn_away(&reply, &mut self.out);
                }
            } else {
                if !boarded {
                    self.retry.after_failure(epoch, self.now);
                }
                self.lose_upstream();
            }
            return true;
        }
        if !up.boarded && up.lane.ready(cx.waker()) {
            up.boarded = true;
            self.session.board();
            return true;
        }
        false
    }

    /// Hands the session's commands to the lane, as far as its credit goes.
    pub(super) fn append_to_lane(&mut self, hold: bool) -> bool {
        let Up::Shared(up) = &self.up else { return false };
        if self.session.home() == Home::Own {
            // What it wants to send must not meet its neighbours; it gets off first.
            return false;
        }
        if hold || !up.boarded || up.leaving.is_some() {
            return false;
        }
        if self.out.len() > SLOW || self.worker.client_limits.in_force(up.lane.node) {
            self.session.leave_lane(&mut self.out);
            return self.session.home() == Home::Own;
        }
        let Some(me) = self.me.upgrade() else { return false };
        let bytes = self.session.to_send_on_lane();
        if bytes.is_empty() {
            return false;
        }
        let mark = up.lane.begin(bytes);
        let count = bytes.len();
        let commands = self.session.sent(count);
        let wrote = self.session.take_written();
        up.lane.owe(mark, commands, wrote, &me, self.ticket);
        true
    }

    /// The lane has a piece of a reply for the stay with this ticket.
    pub(in crate::io) fn hear_piece(&mut self, ticket: u32, piece: &[u8], last: bool) {
        if ticket != self.ticket {
            return;
        }
        self.session.handle_reply(piece, false, last, &mut self.out);
        self.check_reading();
    }

    /// How many replies of the stay with this ticket the lane may hand over unseen.
    pub(in crate::io) fn plain_ahead(&self, ticket: u32, most: usize) -> usize {
        if ticket == self.ticket { self.session.plain_ahead(most) } else { most }
    }

    /// The lane has so many whole replies for the stay with this ticket.
    pub(in crate::io) fn hear_plain(&mut self, ticket: u32, replies: &[u8], count: usize) {
        if ticket == self.ticket {
            self.session.handle_plain_replies(replies, count, &mut self.out);
            self.check_reading();
        }
    }

    fn check_reading(&mut self) {
        // What it has under way is bounded by its credit, so all of it is kept as long as there is room.
        if self.out.len() > OUT_LIMIT && self.worker.short(self.out.len()) {
            // A client that does not read must not keep its neighbours from reading.
            self.out.clear();
            self.ending = Some(crate::metrics::worker::Counter::ClosedSlow);
            self.leave_upstream();
        }
    }

    /// The lane has the receipt for what was written under this ticket.
    pub(in crate::io) fn hear_receipt(&mut self, ticket: u32, receipt: &[u8]) {
        if ticket == self.ticket {
            self.session.handle_receipt(receipt, &mut self.out);
            self.rouse();
        }
    }

    /// It has been handed something, and takes its turn.
    pub(in crate::io) fn rouse(&self) {
        self.seat.wake();
    }

    /// The lane has ended; the last `back` commands that were appended under this ticket never left.
    pub(in crate::io) fn lane_ended(&mut self, ticket: u32, back: usize) {
        if ticket == self.ticket {
            self.session.retract(back);
            self.seat.wake();
        }
    }
}

/// Which lanes a conversation may board, as far as that is known.
#[derive(Default)]
pub(super) struct Standing {
    /// The lane that it has boarded before: it may come back, whatever was changed meanwhile. (As in Redis, a connection
    /// that was let in stays in.)
    lane: Weak<Lane>,
    /// [`crate::session::Session::logins`] at that time.
    logins: u64,
    /// The proof that it waits for, and the logins when it was asked for.
    proof: Option<(NodeId, u64, u64)>,
    /// The server asks it to log in, as long as it has had so many logins.
    barred: Option<u64>,
    /// The lane that is opened for it while it still has its own upstream.
    asked: Option<Rc<Lane>>,
}

impl Standing {
    /// The lane that it knows already, if that is of its kind, and still takes commands.
    fn lane(&self, session: &Session, node: NodeId, given_up: Epoch) -> Option<Rc<Lane>> {
        let lane = self.lane.upgrade().filter(|_| self.logins == session.logins())?;
        let usable = lane.node == node && lane.epoch() > given_up && !lane.over() && !lane.worn();
        (usable && lane.key == session.lane_key()).then_some(lane)
    }
}

impl crate::io::worker::Worker {
    /// The lane to `node` for this key; `None` when there are too many.
    fn lane(self: &Rc<Self>, key: &crate::session::LaneKey, node: NodeId, epoch: Epoch) -> Option<Rc<Lane>> {
        if let Some(lane) = self.find_lane(key, node) {
            return Some(lane);
        }
        let target = self.pool.target(node).filter(|_| self.room_for_lane())?.clone();
        let receipt = self.settings.receipts.as_ref().map(|receipts| receipts.question.clone());
        let lane = Lane::new(key.clone(), node, epoch, receipt);
        self.keep_lane(&lane);
        tokio::task::spawn_local(lane::run(Rc::clone(self), Rc::clone(&lane), target));
        Some(lane)
    }
}
