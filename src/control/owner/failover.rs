//! The owner and a failover: the machine sees what the rule sees, and its orders are carried to the nodes and to the pair.
//!
//! Without mode `pair` there is no machine, and what is here only answers the questions of others.

use std::time::Duration;

use super::Owner;
use crate::config::{Config, FailoverMode, Rejoin};
use crate::control::channel::{Kind, Message};
use crate::control::hands::{self, Errand, Found, Task};
use crate::io::admin::whole_ms;
use crate::protocol::info::RunId;
use crate::protocol::sentinel::SentinelNews;
use crate::topology::failover::witness::{Answer, Ask, MAX_LEASE};
use crate::topology::failover::{Duty, Effect, Failover, NoAnswer, Note, Saw, Scene, Settings};
use crate::topology::{NodeId, Reach};

/// A question is answered for so long.
const ANSWER_FOR: Duration = Duration::from_millis(500);
/// The newest questions of ours to which answers count. One is asked every 200 ms.
const QUESTIONS: u64 = 5;
/// Without a secret a hold by others delays a failover for no longer.
const CALM_AFTER: Duration = Duration::from_secs(1);

/// In whose name clients are held during a failover of Sentinel, and the number of that hold.
pub(super) const BY_SENTINEL: (&str, u64) = ("Sentinel", 0);
/// The longest from its choice of a replica to the promotion.
const SENTINEL_TAKES: Duration = Duration::from_secs(3);
/// The same, to the moment when it cuts connections to a node that is primary already.
const SENTINEL_CUTS: Duration = Duration::from_millis(250);
/// A nudge lasts this long.
const NUDGE_FOR: Duration = Duration::from_millis(20);

/// Another process asked what we see of a node.
#[derive(Clone, Debug)]
pub(super) struct Question {
    about: NodeId,
    asked: Duration,
    /// Who asked, and its number.
    by: String,
    number: u64,
}

/// The machine of this process, if it takes part.
pub(super) fn machine(config: &Config, now: Duration) -> Option<Failover> {
    let [first, second] = config.nodes.as_slice() else { return None };
    let me = NodeId(u8::try_from(config.self_node?).ok()?);
    let promotes = match config.failover.mode {
        FailoverMode::None => return None,
        FailoverMode::Pair => true,
        FailoverMode::Sentinel => false,
    };
    let nodes = [first, second].map(|node| (node.host.clone(), node.port));
    let usual = Settings::usual(nodes, promotes, config.failover.rejoin, config.probe.deadline);
    let witness = config.witness.as_ref().filter(|_| promotes).map(|witness| witness.lease);
    let settings = Settings { witness, ..usual };
    Some(Failover::new(settings, me, now))
}

impl Owner {
    /// Lets the machine look, and carries out what it orders.
    pub(super) fn drive_failover(&mut self, now: Duration) {
        self.answer_question(now);
        let Some(mut machine) = self.failover.take() else { return };
        if let Some(scene) = self.scene(&machine, now) {
            machine.look(&scene, now);
        }
        while let Some(effect) = machine.poll_effect() {
            match effect {
                Effect::Do { node, duty } => self.send_duty(&mut machine, node, duty, now),
                Effect::Ask(node) => self.ask_others(node, now),
                Effect::Nudge(node) => self.nudge(node, now + NUDGE_FOR),
                Effect::Consult(ask) => self.consult(&mut machine, ask, now),
                Effect::Plead(plea) => {
                    let lease = self.config.witness.as_ref().map(|witness| whole_ms(witness.lease));
                    self.say(Kind::Lease { plea, lease_ms: lease.unwrap_or_default() }, now);
                }
                Effect::Saved(process) => self.say(Kind::Saved { process: process.to_string() }, now),
                Effect::Tell(note) => self.tell_note(note),
            }
        }
        self.reins.lease.set(machine.lease_until());
        self.failover = Some(machine);
    }

    fn ask_others(&mut self, about: NodeId, now: Duration) {
        self.asked += 1;
        self.say(Kind::Suspect { about: self.node_name(about), question: self.asked }, now);
    }

    /// Whether this answers a question of ours that still counts. One that was asked long ago proves nothing.
    pub(super) fn is_asked(&self, to: &str, question: u64) -> bool {
        to == self.me.instance && question <= self.asked && question + QUESTIONS > self.asked
    }

    /// What the machine looks at.
    pub(super) fn scene(&self, machine: &Failover, now: Duration) -> Option<Scene<'_>> {
        let me = machine.node();
        Some(Scene {
            view: self.topology.view(),
            followed: self.topology.followed(),
            mine: self.topology.node(me)?,
            other: self.topology.node(NodeId(1_u8.saturating_sub(me.0)))?,
            calm: !self.is_switching() && !self.is_held(now),
        })
    }

    /// A hold is in force. Without a secret anybody may have announced it, so it delays a failover for a moment only.
    fn is_held(&self, now: Duration) -> bool {
        let counts = |began: Duration| self.is_sealed() || now.saturating_sub(began) < CALM_AFTER;
        self.holding.current().is_some_and(|hold| hold.by == BY_SENTINEL.0 || counts(hold.began))
    }

    fn consult(&self, machine: &mut Failover, ask: Ask, now: Duration) {
        let sent = self.reins.witness.as_ref().is_some_and(|witness| witness.try_send(ask).is_ok());
        if !sent {
            machine.handle_answer(Err(NoAnswer::Unasked), now);
        }
    }

    /// The witness has answered, or not.
    pub(super) fn handle_witness(&mut self, answer: Result<Answer, NoAnswer>, now: Duration) {
        if let Some(machine) = &mut self.failover {
            machine.handle_answer(answer, now);
        }
    }

    /// The process beside the other node asks for a lease of its node.
    pub(super) fn handle_plea(&mut self, message: &Message, plea: u64, lease_ms: u64, now: Duration) {
        let Some(machine) = &mut self.failover else { return };
        let other = self.config.nodes.get(1_usize.saturating_sub(machine.node().index()));
        if message.node.is_none() || message.node.as_deref() != other.map(|node| node.name.as_str()) {
            return;
        }
        let length = Duration::from_millis(lease_ms).min(MAX_LEASE);
        if machine.handle_plea(length, now) {
            self.say(Kind::Leased { to: message.from.clone(), plea }, now);
        }
    }

    /// The process beside the other node has promised not to promote it.
    pub(super) fn handle_promise(&mut self, message: &Message, to: &str, plea: u64, now: Duration) {
        let Some(machine) = &mut self.failover else { return };
        let other = self.config.nodes.get(1_usize.saturating_sub(machine.node().index()));
        if to == self.me.instance && message.node.as_deref() == other.map(|node| node.name.as_str()) {
            machine.handle_promise(plea, now);
        }
    }

    /// The process beside the other node has saved what its node has.
    pub(super) fn handle_saved(&mut self, message: &Message, process: &str, now: Duration) {
        let Some(machine) = &mut self.failover else { return };
        let other = self.config.nodes.get(1_usize.saturating_sub(machine.node().index()));
        let process = process.as_bytes().try_into().map(RunId);
        if let (Ok(process), true) = (process, message.node.as_deref() == other.map(|node| node.name.as_str())) {
            machine.handle_saved(process, now);
        }
    }

    fn send_duty(&mut self, machine: &mut Failover, node: NodeId, duty: Duty, now: Duration) {
        let errand = Errand { of: 0, task: Task::Duty(duty.clone()) };
        let sent = self.reins.errands.get(node.index()).is_some_and(|errands| errands.try_send(errand).is_ok());
        if !sent {
            machine.handle_done(node, &duty, Err("too many errands wait for this node".to_owned()), now);
        }
    }

    /// A hint. Before a planned failover of Sentinel, clients are held: it leaves the old primary writable, and what is
    /// written there after the promotion is lost.
    pub(super) fn handle_sentinel(&mut self, news: SentinelNews, now: Duration) {
        tracing::info!(?news, "a Sentinel speaks");
        self.kick();
        let epoch = self.topology.view().epoch;
        match news {
            SentinelNews::Promoting { host, port } if self.topology.view().primary.is_ok() && !self.is_switching() => {
                // Some time after a switchover of ours, Sentinel "promotes" the node that is primary already. It cuts all
                // connections to it then: nothing must be in flight.
                let takes = if self.is_primary(&host, port) { SENTINEL_CUTS } else { SENTINEL_TAKES };
                let until = now + takes.min(self.config.hold.time);
                if self.holding.begin(BY_SENTINEL.1, BY_SENTINEL.0, until, epoch, now) {
                    self.begin_event(None);
                    self.enter_hold();
                }
            }
            // By now the nodes have said who is primary; if it is the same as before, it stays.
            SentinelNews::GivenUp | SentinelNews::Switched => {
                let ended = self.holding.handle_release(BY_SENTINEL.1, false, epoch, now);
                self.hold_ended(ended, now);
            }
            SentinelNews::Promoting { .. } => {}
        }
    }

    fn is_primary(&self, host: &str, port: u16) -> bool {
        let primary = self.topology.view().primary.as_ref().ok().and_then(|node| self.config.nodes.get(node.index()));
        primary.is_some_and(|node| node.host == host && node.port == port)
    }

    /// What came of a duty.
    pub(super) fn handle_duty(&mut self, answer: hands::Answer, now: Duration) {
        let (Task::Duty(duty), Some(machine)) = (&answer.errand.task, &mut self.failover) else { return };
        let result = match answer.result {
            Ok(Found::Done(done)) => Ok(done),
            Ok(_) => Err("no answer".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let quiet = *duty == Duty::ReadFence;
        machine.handle_done(answer.node, duty, result, now);
        if !quiet {
            self.dirty = true;
            self.kick();
        }
    }

    /// Another process asks what we see. What we have seen before proves nothing: ask the node first.
    pub(super) fn handle_question(&mut self, message: &Message, about: &str, number: u64, now: Duration) {
        if let Some(about) = self.node_named(about) {
            self.question = Some(Question { about, asked: now, by: message.from.clone(), number });
            self.kick();
        }
    }

    fn answer_question(&mut self, now: Duration) {
        let Some(Question { about, asked, by, number }) = self.question.clone() else { return };
        let answers = self.topology.node(about).and_then(|state| match state.reach {
            Reach::Refused => Some(false),
            // An error is an answer.
            Reach::Answering | Reach::Erring => state.answered.filter(|answered| *answered >= asked).map(|_| true),
            _ => None,
        });
        if let Some(answers) = answers {
            self.question = None;
            self.say(Kind::Sees { about: self.node_name(about), answers, to: by, question: number }, now);
        } else if now >= asked + ANSWER_FOR {
            self.question = None;
        }
    }

    /// Another process says what it sees.
    pub(super) fn handle_sees(&mut self, message: &Message, about: &str, answers: bool, now: Duration) {
        let Some(node) = self.node_named(about) else { return };
        let beside = message.node.as_deref() == Some(about);
        let saw = if answers { Saw::Answers } else { Saw::Refused };
        if let Some(machine) = &mut self.failover {
            machine.handle_word(node, saw, beside, now);
        }
    }

    fn tell_note(&mut self, note: Note) {
        self.dirty = true;
        self.enter_failover(&note);
        match note {
            Note::Suspected(node) => tracing::info!(node = self.node_name(node), "failover: the primary seems lost"),
            Note::FalseAlarm(node) => tracing::info!(node = self.node_name(node), "failover: the primary is there"),
            Note::Parked(node) => tracing::info!(node = self.node_name(node), "failover: the replica is parked"),
            Note::Unparked(node) => tracing::info!(node = self.node_name(node), "failover: no longer parked"),
            Note::Objected(node) => {
                self.events.refusal("objected");
                tracing::warn!(node = self.node_name(node), "failover: another proxy still reaches the primary");
            }
            Note::Unfit(node, why) => {
                self.events.refusal("unfit");
                tracing::error!(node = self.node_name(node), why, "failover: the replica is not promoted");
            }
            Note::Unproven(node) => {
                self.events.refusal("unproven");
                tracing::error!(
                    node = self.node_name(node),
                    "failover: the primary is silent, and without min-replicas-to-write or a witness it may still take \
                     writes; make sure that it does not, then promote the replica (REPLICAOF NO ONE)"
                );
            }
            Note::Shut(node) => tracing::error!(
                node = self.node_name(node),
                "failover: neither the witness nor the other proxy is heard, or they have given the pair away: the node is \
                 not served, and refuses writes"
            ),
            Note::Promoting(node, proof) => {
                self.events.promotion(proof.name());
                tracing::info!(node = self.node_name(node), proof = %proof, "failover: the replica is promoted");
            }
            Note::Promoted(node, took) => tracing::info!(node = self.node_name(node), ?took, "failover: promoted"),
            Note::Rejoining(node, split_bytes) => {
                self.events.split(split_bytes.unwrap_or(0));
                tracing::warn!(node = self.node_name(node), split_bytes, "failover: becomes a replica");
            }
            Note::Saved(node, bytes) => {
                self.events.rdb_saved(true);
                tracing::info!(node = self.node_name(node), bytes, "failover: what it has is saved");
            }
            Note::LeftAlone(node) if self.config.failover.rejoin == Rejoin::Save => tracing::warn!(
                node = self.node_name(node),
                "failover: a second primary holds data; it is left as it is until the proxy beside it has saved them"
            ),
            Note::LeftAlone(node) => tracing::error!(
                node = self.node_name(node),
                "failover: a second primary holds data that the one in service lacks; it is left as it is"
            ),
            Note::Rejoined(node) => tracing::info!(node = self.node_name(node), "failover: a replica in sync"),
            Note::Failed(node, Duty::Save, why) => {
                self.events.rdb_saved(false);
                tracing::error!(
                    node = self.node_name(node),
                    why,
                    "failover: what it has cannot be saved; it is left as it is, without traffic, and tried again"
                );
            }
            Note::Failed(node, duty, why) => {
                tracing::warn!(node = self.node_name(node), duty = duty.name(), why, "failover: not done");
            }
        }
    }
}
