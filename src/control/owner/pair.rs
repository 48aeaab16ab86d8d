//! The owner and the pair's channel: who is there, and what the others order.
//!
//! What a peer says can make us hold, for a time that we bound ourselves, and nothing else: who is primary is decided by
//! our own evidence only.

use std::time::Duration;

use super::Owner;
use super::failover::BY_SENTINEL;
use crate::control::channel::{Kind, MAX_MESSAGE, Message};
use crate::control::holding::{End, Ended};
use crate::control::peers::{Heard, PRESENCE_EVERY};
use crate::io::pubsub::{Post, Word};
use crate::topology::{NodeId, Reach};

impl Owner {
    pub(super) fn handle_word(&mut self, word: Word, now: Duration) {
        match word {
            // What was said before we listened was not heard: everyone please answer.
            Word::Joined(_) => self.say(Kind::Hello, now),
            Word::Said(payload) => match Message::decode(&payload) {
                Ok(message) => self.handle_message(&message, now),
                Err(error) => {
                    tracing::debug!(%error, bytes = payload.len().min(MAX_MESSAGE), "a message was not understood");
                }
            },
        }
    }

    fn handle_message(&mut self, message: &Message, now: Duration) {
        let Heard::New { joined } = self.peers.handle_message(message, now) else { return };
        self.dirty = true;
        if joined {
            tracing::info!(peer = message.from, node = message.node, "another process of the pair is heard");
        }
        self.events.peers(self.peers.present(now).len());
        match message.kind.clone() {
            Kind::Hello => {
                self.say(Kind::Presence, now);
                self.repeat_hold(now);
            }
            Kind::Presence => {}
            Kind::Hold { id, deadline_ms } => self.obey_hold(id, &message.from, deadline_ms, now),
            Kind::Quiesced { id } => self.peer_quiesced(&message.from, id, now),
            Kind::Release { id, switched } => self.obey_release(id, &message.from, switched, now),
            Kind::Suspect { about } => self.handle_question(&about, now),
            Kind::Sees { about, answers } => self.handle_sees(message, &about, answers, now),
            Kind::Lease { plea, lease_ms } => self.handle_plea(message, plea, lease_ms, now),
            Kind::Leased { to, plea } => self.handle_promise(message, &to, plea, now),
            Kind::Saved { process } => self.handle_saved(message, &process, now),
            Kind::Leave => {
                tracing::info!(peer = message.from, "another process of the pair leaves");
            }
        }
    }

    fn obey_hold(&mut self, id: u64, by: &str, deadline_ms: u64, now: Duration) {
        if !self.yields_to(by, now) {
            return;
        }
        let time = Duration::from_millis(deadline_ms).min(self.config.hold.time);
        let epoch = self.topology.view().epoch;
        if self.holding.begin(id, by, now + time, epoch, now) {
            tracing::info!(by, at_most = ?time, "holding: a switchover was announced");
            self.enter_hold();
        }
    }

    fn obey_release(&mut self, id: u64, by: &str, switched: bool, now: Duration) {
        if self.holding.current().is_none_or(|hold| hold.by != by) {
            return;
        }
        let epoch = self.topology.view().epoch;
        let ended = self.holding.handle_release(id, switched, epoch, now);
        self.hold_ended(ended, now);
        if self.holding.awaits_view() {
            self.kick();
        }
    }

    /// Everything of this process is quiet under this hold.
    pub(super) fn handle_quiet(&mut self, id: u64, now: Duration) {
        let Some(hold) = self.holding.current() else { return };
        tracing::debug!(by = hold.by, after = ?now.saturating_sub(hold.began), "quiet");
        if hold.by == self.me.instance {
            self.own_quiesced(now);
        } else {
            self.say(Kind::Quiesced { id }, now);
        }
    }

    pub(super) fn hold_ended(&mut self, ended: Option<Ended>, now: Duration) {
        let Some(ended) = ended else { return };
        self.dirty = true;
        self.enter_hold_ended(&ended);
        let (by, lasted) = (ended.by.as_str(), ended.lasted);
        match ended.how {
            End::Released => tracing::info!(by, ?lasted, "hold released: the primary stays"),
            End::Switched => tracing::info!(by, ?lasted, "hold released: the primary has changed"),
            End::Deadline if by == BY_SENTINEL.0 => tracing::info!(by, ?lasted, "hold released: the primary stays"),
            End::Deadline => tracing::warn!(by, ?lasted, "hold released: its coordinator was not heard in time"),
        }
        if ended.by == self.me.instance && ended.how == End::Deadline {
            self.cancel_switchover("its hold reached its deadline", now);
        }
    }

    /// Says that we are here, and asks for those who are late.
    ///
    /// What is published at the primary goes into its replication stream, with a SELECT before and behind it; so presence
    /// is published at the replica, which keeps it to its own listeners. Whoever does not hear it there asks, and both the
    /// question and its answer go through the primary. Nobody talks where nobody is known to listen.
    pub(super) fn say_presence(&mut self, now: Duration) {
        self.presence_due = now + PRESENCE_EVERY;
        match self.quiet_way() {
            Some(way) => self.say_by(way, Kind::Presence, now),
            None if self.peers.is_anybody_there(now) => self.say(Kind::Presence, now),
            None => {}
        }
        if self.peers.is_anybody_missed(now) {
            self.say(Kind::Hello, now);
        }
        self.events.peers(self.peers.present(now).len());
    }

    /// Where one can speak without anything being replicated: a node that answers and is not the primary.
    fn quiet_way(&self) -> Option<Way> {
        let primary = self.topology.view().primary.as_ref().ok().copied()?;
        let answers = |node: &NodeId| self.topology.node(*node).is_some_and(|state| state.reach == Reach::Answering);
        let nodes = (0..self.reins.posts.len()).filter_map(|at| u8::try_from(at).ok().map(NodeId));
        nodes.into_iter().find(|node| *node != primary && answers(node)).map(Way::Node)
    }

    pub(super) fn say_leave(&mut self, now: Duration) {
        self.say(Kind::Leave, now);
    }

    /// Says something to the pair. Presence and the question for it go through the primary, which repeats them to its
    /// replica's listeners; what matters goes through every node, and so does everything while there is no primary.
    pub(super) fn say(&mut self, kind: Kind, now: Duration) {
        let primary = self.topology.view().primary.as_ref().ok().copied();
        let way = match (&kind, primary) {
            (Kind::Presence | Kind::Hello, Some(primary)) => Way::Node(primary),
            _ => Way::Everywhere,
        };
        self.say_by(way, kind, now);
    }

    fn say_by(&mut self, way: Way, kind: Kind, now: Duration) {
        self.seq += 1;
        let message = Message { from: self.me.instance.clone(), node: self.me.node.clone(), seq: self.seq, kind };
        let payload = message.encode();
        for (at, posts) in self.reins.posts.iter().enumerate() {
            if matches!(way, Way::Node(node) if node.index() != at) {
                continue;
            }
            // A publisher whose node does not answer has a full queue; what it lacks is sent through the other.
            if posts.try_send(Post { payload: payload.clone(), at: now }).is_err() {
                tracing::debug!(node = at, "a message to the pair was dropped");
            }
        }
    }
}

/// Through which node a message goes.
#[derive(Clone, Copy)]
enum Way {
    Node(NodeId),
    Everywhere,
}
