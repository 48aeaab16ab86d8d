//! The owner and the pair's channel: who is there, and what the others order.
//!
//! What a peer says can make us hold, for a time that we bound ourselves; who is primary is decided by our own evidence
//! only. What more is believed, and of whom: `trust.rs` and `peers.rs`.

use std::time::Duration;

use super::Owner;
use super::failover::BY_SENTINEL;
use crate::control::channel::{Kind, Message};
use crate::control::holding::{End, Ended};
use crate::control::peers::{Heard, PRESENCE_EVERY};
use crate::io::clock;
use crate::io::pubsub::{Post, Word};
use crate::topology::{NodeId, Reach};

/// Between two answers to those who have not proved themselves.
const GREET_EVERY: Duration = Duration::from_millis(100);

impl Owner {
    pub(super) fn handle_word(&mut self, word: Word, now: Duration) {
        match word {
            // What was said before we listened was not heard: everyone please answer.
            Word::Joined(_) => self.say(Kind::Hello, now),
            Word::Said(payload) => match Message::decode(&payload, self.seal().as_deref()) {
                Ok(message) => self.handle_message(&message, now),
                Err(error) => self.distrust(error.reason(), &error.to_string(), now),
            },
        }
    }

    fn handle_message(&mut self, message: &Message, now: Duration) {
        self.draw_challenge(now);
        let joined = match self.peers.handle_message(message, clock::unix_millis(), now) {
            Heard::New { joined } => joined,
            Heard::Nothing => return,
            Heard::Unproven => return self.greet(now),
            Heard::Stranger => return self.distrust("stranger", "its sender has not said that it is there", now),
        };
        self.dirty = true;
        if joined {
            tracing::info!(peer = message.from, node = message.node, "another process of the pair is heard");
            // It has proved itself to us; now we prove ourselves to it.
            if self.is_sealed() {
                self.say(self.presence(), now);
            }
        }
        self.events.peers(self.peers.present(now).len());
        match message.kind.clone() {
            Kind::Hello => {
                self.say(self.presence(), now);
                self.repeat_hold(now);
            }
            Kind::Presence { .. } => {}
            Kind::Hold { id, deadline_ms, event } => self.obey_hold(id, &message.from, deadline_ms, event, now),
            Kind::Quiesced { id } => self.peer_quiesced(&message.from, id, now),
            Kind::Release { id, switched } => self.obey_release(id, &message.from, switched, now),
            Kind::Suspect { about, question } => self.handle_question(message, &about, question, now),
            Kind::Sees { about, answers, to, question } => {
                if self.is_asked(&to, question) {
                    self.handle_sees(message, &about, answers, now);
                }
            }
            Kind::Lease { plea, lease_ms } => self.handle_plea(message, plea, lease_ms, now),
            Kind::Leased { to, plea } => self.handle_promise(message, &to, plea, now),
            Kind::Saved { process } => self.handle_saved(message, &process, now),
            Kind::Leave => {
                tracing::info!(peer = message.from, "another process of the pair leaves");
            }
        }
    }

    fn obey_hold(&mut self, id: u64, by: &str, deadline_ms: u64, event: u64, now: Duration) {
        if !self.yields_to(by, now) {
            return;
        }
        let time = Duration::from_millis(deadline_ms).min(self.longest_hold());
        if !self.is_sealed() && self.holding.current().is_some_and(|hold| hold.by != self.me.instance) {
            // Anybody may have begun the one in force: it stands in nobody's way.
            if self.holding.join(id, by, now + time) && self.holding.is_quiet() {
                self.say(Kind::Quiesced { id }, now);
            }
            return;
        }
        if self.holding.claims().iter().any(|(known, who)| *known == id && who == by) {
            // Said again: our answer may have been lost.
            if self.holding.is_quiet() {
                self.say(Kind::Quiesced { id }, now);
            }
            return;
        }
        let Some(most) = self.may_hold(now) else {
            return self.distrust("budget", "others have had clients held for too long", now);
        };
        let epoch = self.topology.view().epoch;
        let time = time.min(most);
        if self.holding.begin(id, by, now + time, epoch, now) {
            self.holding.limit(now + most);
            self.begin_event(Some(event));
            tracing::info!(by, at_most = ?time, "holding: a switchover was announced");
            self.enter_hold();
        }
    }

    /// How long a hold by another process may last; `None`: it may not begin now.
    fn may_hold(&mut self, now: Duration) -> Option<Duration> {
        if self.is_sealed() { Some(self.config.hold.time) } else { self.budget.grant(now) }
    }

    /// Somebody speaks under our seal who has not proved that it does so now: our presence lets it.
    fn greet(&mut self, now: Duration) {
        if now.saturating_sub(self.greeted) >= GREET_EVERY {
            self.greeted = now;
            self.say(self.presence(), now);
        }
    }

    fn obey_release(&mut self, id: u64, by: &str, switched: bool, now: Duration) {
        if !self.holding.claims().iter().any(|(known, who)| *known == id && who == by) {
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
    pub(super) fn handle_quiet(&mut self, now: Duration) {
        let Some(hold) = self.holding.current() else { return };
        tracing::debug!(by = hold.by, after = ?now.saturating_sub(hold.began), "quiet");
        for (id, by) in self.holding.claims() {
            if by == self.me.instance {
                self.own_quiesced(now);
            } else {
                self.say(Kind::Quiesced { id }, now);
            }
        }
    }

    pub(super) fn hold_ended(&mut self, ended: Option<Ended>, now: Duration) {
        let Some(ended) = ended else { return };
        self.dirty = true;
        if !self.is_sealed() && ended.by != self.me.instance && ended.by != BY_SENTINEL.0 {
            self.budget.spend(ended.lasted, now);
        }
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
        self.draw_challenge(now);
        match self.quiet_way() {
            Some(way) => self.say_by(way, self.presence(), now),
            None if self.peers.is_anybody_there(now) => self.say(self.presence(), now),
            None => {}
        }
        self.compare_names(now);
        if self.peers.is_anybody_missed(now) {
            self.say(Kind::Hello, now);
        }
        self.events.peers(self.peers.present(now).len());
    }

    fn presence(&self) -> Kind {
        let named = (0_u8..).zip(&self.config.nodes).filter_map(|(at, node)| {
            let report = self.topology.node(NodeId(at))?.current()?;
            Some((node.name.clone(), report.run_id().to_string()))
        });
        Kind::Presence { drained: self.leaving.is_some(), nodes: named.collect() }
    }

    /// Where one can speak without anything being replicated: a node that answers and is not the primary.
    fn quiet_way(&self) -> Option<Way> {
        let primary = self.topology.view().primary.as_ref().ok().copied()?;
        let answers = |node: &NodeId| self.topology.node(*node).is_some_and(|state| state.reach == Reach::Answering);
        let nodes = (0..self.reins.posts.len()).filter_map(|at| u8::try_from(at).ok().map(NodeId));
        nodes.into_iter().find(|node| *node != primary && answers(node)).map(Way::Node)
    }

    /// Says something to the pair. Presence and the question for it go through the primary, which repeats them to its
    /// replica's listeners; what matters goes through every node, and so does everything while there is no primary.
    pub(super) fn say(&mut self, kind: Kind, now: Duration) {
        let primary = self.topology.view().primary.as_ref().ok().copied();
        let way = match (&kind, primary) {
            (Kind::Presence { .. } | Kind::Hello, Some(primary)) => Way::Node(primary),
            _ => Way::Everywhere,
        };
        self.say_by(way, kind, now);
    }

    fn say_by(&mut self, way: Way, kind: Kind, now: Duration) {
        let seal = self.seal();
        if seal.is_none() && kind.needs_seal() {
            return;
        }
        self.draw_challenge(now);
        let proof = seal.as_ref().and_then(|_| self.peers.proof(clock::unix_millis()));
        if seal.is_some() && proof.is_none() {
            // No random number was to be had: nobody could believe us.
            return;
        }
        self.seq += 1;
        let (from, node) = (self.me.instance.clone(), self.me.node.clone());
        let message = Message { from, node, seq: self.seq, proof, kind };
        let payload = message.encode(seal.as_deref());
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
