//! A planned switchover, from the gates to the release.
//!
//! One process of the pair, the coordinator, runs this machine; it says what is to be done ([`Effect`]) and is told
//! what became of it ([`Event`]). It does not decide who is primary: every process believes the nodes themselves
//! ([`Topology`](super::Topology)), and a release is only the word that nobody needs to wait for *this* any longer.
//!
//! ```text
//! Gates --all pass--> Quiesce --everybody quiet--> HandOver --target says primary--> Rejoin --> switched
//!   |                    |                            |   \
//!   | one fails          | limit, loss, cancel        |    \ the server gave up by itself, FAILOVER refused,
//!   v                    v                            |     \ old primary lost
//! refused             aborted <-----------------------)------+
//!                        ^                            | watchdog, target lost, cancel
//!                        |                            v
//!                        +--old one says primary-- TakeBack --target says primary after all--> Rejoin
//! ```
//!
//! Why the watchdog: the TIMEOUT of `FAILOVER` covers only its first phase. If the target dies after it has caught up,
//! the old primary waits as a replica for ever, with its writes hanging; `FAILOVER ABORT` makes it primary again. But
//! if the target had been promoted by then, there would be two primaries that descend from one history. So the machine
//! aborts only when it has heard, since the watchdog went off, that the target is a replica still, or gone.
//!
//! Invariants: until `FAILOVER` is sent nothing was changed; every hold that was announced is released exactly once;
//! everybody is released within [`Settings::total`] of the last gate, and the machine ends within `rejoin` after that.

pub mod gates;
#[cfg(test)]
mod tests;
mod words;

use std::collections::VecDeque;
use std::time::Duration;

use super::evidence::NodeReport;
use super::node::{NodeId, Role};
use crate::protocol::info::{FailoverState, ReplId};
pub use gates::GateResult;
pub use words::{Effect, Event, Outcome, PeerId, Report, Settings, Step};

#[derive(Debug)]
enum Phase {
    Gates,
    Quiesce { waiting: Vec<PeerId> },
    HandOver { accepted_at: Option<Duration>, demoted: bool },
    TakeBack { why: String, asked: bool },
    Rejoin,
    Ended,
}

/// The machine.
#[derive(Debug)]
pub struct Switchover {
    settings: Settings,
    from: NodeId,
    to: NodeId,
    peers: Vec<PeerId>,
    began: Duration,
    phase: Phase,
    phase_since: Duration,
    step_since: Duration,
    deadline: Duration,
    /// The history that the target must descend from.
    history: Option<ReplId>,
    gates: Vec<GateResult>,
    steps: Vec<Step>,
    effects: VecDeque<Effect>,
    report: Option<Report>,
}

impl Switchover {
    /// Begins: the first effect is [`Effect::CheckGates`]. What the nodes reported when the gates were looked at is
    /// told ([`Event::Reported`]) before their result: it says which history the target must descend from.
    pub fn new(settings: Settings, from: NodeId, to: NodeId, peers: Vec<PeerId>, now: Duration) -> Self {
        Self {
            settings,
            from,
            to,
            peers,
            began: now,
            phase: Phase::Gates,
            phase_since: now,
            step_since: now,
            deadline: now + settings.gates,
            history: None,
            gates: Vec::new(),
            steps: Vec::new(),
            effects: VecDeque::from([Effect::CheckGates]),
            report: None,
        }
    }

    /// Takes in what happened.
    pub fn handle_event(&mut self, event: Event, now: Duration) {
        match (&mut self.phase, event) {
            (Phase::Ended, _) => {}
            (Phase::Gates, Event::GatesChecked(gates)) => self.gates_checked(gates, now),
            (Phase::Quiesce { waiting }, Event::QuiescedBy(peer) | Event::PeerLeft(peer)) => {
                waiting.retain(|other| *other != peer);
                self.go_when_quiet(now);
            }
            (Phase::HandOver { accepted_at, .. }, Event::FailoverAccepted) => *accepted_at = Some(now),
            (Phase::HandOver { .. }, Event::FailoverRefused(why)) => {
                self.abort(format!("FAILOVER was refused: {why}"), now)
            }
            (Phase::TakeBack { .. }, Event::AbortRefused(_) | Event::AbortAccepted) => {
                // Either way the nodes themselves say what has become of it.
                self.effects.push_back(Effect::PollFast(true));
            }
            (_, Event::Reported(node, report)) => self.reported(node, &report, now),
            (_, Event::Lost(node)) => self.lost(node, now),
            (Phase::Gates | Phase::Quiesce { .. }, Event::Cancelled(why)) => self.abort(why, now),
            (Phase::HandOver { .. }, Event::Cancelled(why)) => self.take_back(why, now),
            _ => {}
        }
    }

    /// Something was due.
    pub fn handle_timeout(&mut self, now: Duration) {
        if now < self.deadline {
            return;
        }
        match &self.phase {
            Phase::Ended => {}
            Phase::Gates => self.abort("the nodes were not heard in time".into(), now),
            Phase::Quiesce { waiting } => {
                let names: Vec<_> = waiting.iter().map(|peer| peer.0.as_str()).collect();
                self.abort(format!("still busy at the limit: {}", names.join(", ")), now);
            }
            Phase::HandOver { .. } => self.take_back("the target was not promoted in time".into(), now),
            Phase::TakeBack { why, asked } => {
                let what = if *asked { "the abort had no effect in time" } else { "the target could not be heard" };
                self.abort(format!("{why}; {what}: see INFO replication of both nodes, then FAILOVER ABORT"), now);
            }
            Phase::Rejoin => self.end(Outcome::Switched { rejoined: false }, now),
        }
    }

    /// When [`Switchover::handle_timeout`] must be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.report.is_none().then_some(self.deadline)
    }

    /// The next effect, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The report, once it has ended.
    pub fn outcome(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// The steps that have ended so far, for live progress.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The gates, once they were checked.
    pub fn gates(&self) -> &[GateResult] {
        &self.gates
    }

    fn step_name(&self) -> &'static str {
        match &self.phase {
            Phase::Gates => "gates",
            Phase::Quiesce { .. } => "quiesce",
            Phase::HandOver { demoted: false, .. } => "sync",
            Phase::HandOver { demoted: true, .. } => "promote",
            Phase::TakeBack { .. } => "take back",
            Phase::Rejoin | Phase::Ended => "rejoin",
        }
    }

    fn end_step(&mut self, name: &'static str, now: Duration) {
        let (at, took) = (now.saturating_sub(self.began), now.saturating_sub(self.step_since));
        self.steps.push(Step { name, at, took });
        self.step_since = now;
    }

    /// The one door between phases: ends the step, sets the new deadline.
    fn enter(&mut self, phase: Phase, now: Duration) {
        let whole = matches!((&self.phase, &phase), (Phase::HandOver { demoted: false, .. }, Phase::Rejoin));
        self.end_step(if whole { "hand over" } else { self.step_name() }, now);
        let limit = match &phase {
            Phase::Gates => self.settings.gates,
            Phase::Quiesce { .. } => self.settings.quiesce,
            Phase::HandOver { .. } => self.settings.hand_over,
            Phase::TakeBack { .. } => self.settings.take_back,
            Phase::Rejoin => self.settings.rejoin,
            Phase::Ended => Duration::ZERO,
        };
        self.phase = phase;
        self.phase_since = now;
        self.deadline = now + limit;
    }

    fn gates_checked(&mut self, gates: Vec<GateResult>, now: Duration) {
        let failed: Vec<_> = gates.iter().filter(|gate| !gate.passed).collect();
        let why = failed.iter().map(|gate| format!("{}: {}", gate.name, gate.detail)).collect::<Vec<_>>().join("; ");
        let passed = failed.is_empty();
        self.gates = gates;
        if !passed {
            self.end_step(self.step_name(), now);
            self.end(Outcome::Refused { why }, now);
        } else if self.settings.dry_run {
            self.end_step(self.step_name(), now);
            self.end(Outcome::DryRun, now);
        } else {
            self.enter(Phase::Quiesce { waiting: self.peers.clone() }, now);
            self.effects.push_back(Effect::AnnounceHold { deadline: now + self.settings.total() });
            self.effects.push_back(Effect::PollFast(true));
            self.go_when_quiet(now);
        }
    }

    fn go_when_quiet(&mut self, now: Duration) {
        if matches!(&self.phase, Phase::Quiesce { waiting } if waiting.is_empty()) {
            self.enter(Phase::HandOver { accepted_at: None, demoted: false }, now);
            // The server gives up before the watchdog does.
            let timeout = self.settings.hand_over * 4 / 5;
            self.effects.push_back(Effect::SendFailover { to: self.to, timeout });
            self.effects.push_back(Effect::Nudge { replica: self.to });
        }
    }

    fn reported(&mut self, node: NodeId, report: &NodeReport, now: Duration) {
        if node == self.from {
            self.old_primary_reported(report, now);
        } else if node == self.to {
            self.target_reported(report, now);
        }
    }

    fn old_primary_reported(&mut self, report: &NodeReport, now: Duration) {
        let info = &report.replication;
        match (&mut self.phase, report.role()) {
            (Phase::Gates | Phase::Quiesce { .. }, Role::Primary) => self.history = Some(info.replid),
            (Phase::Quiesce { .. }, Role::Replica) => self.abort("somebody else demoted the primary".into(), now),
            (Phase::HandOver { accepted_at, .. }, Role::Primary) => {
                let began = accepted_at.is_some_and(|at| report.asked_at > at);
                if !began || info.failover != FailoverState::None {
                    self.history = Some(info.replid);
                }
                match info.failover {
                    FailoverState::WaitingForSync => self.effects.push_back(Effect::Nudge { replica: self.to }),
                    FailoverState::None if began => self.abort("the server gave the failover up by itself".into(), now),
                    FailoverState::None | FailoverState::InProgress => {}
                }
            }
            (Phase::HandOver { demoted: false, .. }, Role::Replica) => {
                self.end_step(self.step_name(), now);
                if let Phase::HandOver { demoted, .. } = &mut self.phase {
                    *demoted = true;
                }
            }
            (Phase::TakeBack { why, .. }, Role::Primary)
                if info.failover == FailoverState::None && report.asked_at > self.phase_since =>
            {
                let why = std::mem::take(why);
                self.abort(why, now);
            }
            (Phase::Rejoin, Role::Replica) if report.replication.primary_link.as_ref().is_some_and(|link| link.up) => {
                self.end_step(self.step_name(), now);
                self.end(Outcome::Switched { rejoined: true }, now);
            }
            _ => {}
        }
    }

    fn target_reported(&mut self, report: &NodeReport, now: Duration) {
        let descends = self.history.is_some() && report.replication.replid2 == self.history;
        match (&mut self.phase, report.role()) {
            (Phase::Quiesce { .. }, Role::Primary) => self.abort("somebody else promoted the target".into(), now),
            (Phase::HandOver { .. } | Phase::TakeBack { .. }, Role::Primary) if descends => {
                self.enter(Phase::Rejoin, now);
                self.effects.push_back(Effect::AnnounceRelease { switched: true });
            }
            (Phase::TakeBack { asked, .. }, Role::Replica) if !*asked && report.asked_at >= self.phase_since => {
                *asked = true;
                self.effects.push_back(Effect::SendAbort);
            }
            _ => {}
        }
    }

    fn lost(&mut self, node: NodeId, now: Duration) {
        let old = node == self.from;
        match &mut self.phase {
            Phase::Gates | Phase::Quiesce { .. } => {
                let which = if old { "the primary" } else { "the target" };
                self.abort(format!("{which} was lost"), now);
            }
            Phase::HandOver { .. } | Phase::TakeBack { .. } if old => {
                self.abort("the old primary was lost".into(), now)
            }
            Phase::HandOver { .. } => {
                self.take_back("the target was lost".into(), now);
                self.lost(node, now);
            }
            Phase::TakeBack { asked, .. } if !*asked => {
                *asked = true;
                self.effects.push_back(Effect::SendAbort);
            }
            Phase::Rejoin if old => self.end(Outcome::Switched { rejoined: false }, now),
            _ => {}
        }
    }

    fn take_back(&mut self, why: String, now: Duration) {
        self.enter(Phase::TakeBack { why, asked: false }, now);
        self.effects.push_back(Effect::PollFast(true));
    }

    fn abort(&mut self, why: String, now: Duration) {
        let step = self.step_name();
        if !matches!(self.phase, Phase::Gates) {
            self.effects.push_back(Effect::AnnounceRelease { switched: false });
        }
        self.end(Outcome::Aborted { step, why }, now);
    }

    fn end(&mut self, outcome: Outcome, now: Duration) {
        self.phase = Phase::Ended;
        self.effects.push_back(Effect::PollFast(false));
        self.effects.push_back(Effect::Done);
        self.report = Some(Report {
            outcome,
            gates: self.gates.clone(),
            steps: self.steps.clone(),
            took: now.saturating_sub(self.began),
        });
    }
}
