//! A conversation on a lane: getting on, appending, hearing, getting off.
//!
//! It rides only while its session is free. A session that needs an upstream of its own first gets every reply that the
//! lane owes it; one that needs it no longer goes back after a while, so that a transaction now and then does not make
//! it change all the time.

use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use crate::io::lane::{self, Lane, State};
use crate::session::Home;
use crate::topology::node::{Epoch, NodeId};

use super::upstream::Up;
use super::{Conversation, OUT_LIMIT};

/// A session that needed its own upstream keeps it at least this long.
const REST: Duration = Duration::from_millis(250);
/// Commands of one conversation that a lane carries at a time.
const CREDIT: usize = 128;
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
        let Some(lane) = self.worker.lane(&self.session.lane_key(), node, epoch) else { return false };
        lane.board();
        self.up = Up::Shared(Shared { lane, epoch, leaving: None, boarded: false });
        true
    }

    /// The session needs another kind of upstream than it has, and nothing is under way.
    pub(super) fn wrong_home(&mut self) -> bool {
        match (&self.up, self.session.home()) {
            (Up::Shared(_), Home::Own) => self.session.in_flight() == 0,
            (Up::Ready(_), Home::Own) => {
                let due = *self.rest_at.get_or_insert(self.now + REST) <= self.now;
                if due {
                    self.rest_at = Some(self.now + REST);
                    if self.session.rested() {
                        self.session.share();
                        self.rest_at = None;
                    }
                }
                self.session.home() == Home::Lane
            }
            _ => false,
        }
    }

    /// Follows the lane's state.
    pub(super) fn poll_lane(&mut self, cx: &Context<'_>) -> bool {
        let Up::Shared(up) = &mut self.up else { return false };
        if up.lane.over() {
            let (state, epoch) = (up.lane.state(), up.epoch);
            let boarded = up.boarded;
            if let State::TurnedAway(reply) = state {
                self.leave_upstream();
                self.session.turn_away(&reply, &mut self.out);
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
        if hold || !up.boarded || up.leaving.is_some() || self.session.in_flight() >= CREDIT {
            return false;
        }
        if self.out.len() > SLOW {
            self.session.leave_lane(&mut self.out);
            return self.session.home() == Home::Own;
        }
        let Some(me) = self.me.upgrade() else { return false };
        let bytes = self.session.to_send(false);
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
        if self.out.len() > OUT_LIMIT {
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

impl crate::io::worker::Worker {
    /// The lane to `node` for this key.
    fn lane(self: &Rc<Self>, key: &crate::session::LaneKey, node: NodeId, epoch: Epoch) -> Option<Rc<Lane>> {
        if let Some(lane) = self.find_lane(key, node) {
            return Some(lane);
        }
        let target = self.pool.target(node)?.clone();
        let receipt = self.settings.receipts.as_ref().map(|receipts| receipts.question.clone());
        let lane = Lane::new(key.clone(), node, epoch, receipt);
        self.keep_lane(&lane);
        tokio::task::spawn_local(lane::run(Rc::clone(self), Rc::clone(&lane), target));
        Some(lane)
    }
}
