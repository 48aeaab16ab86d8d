//! [`Topology`]: takes evidence in, applies the rule, gives views out.
//!
//! It owns the state and the deadlines; the choice itself is in `rule.rs`, the comparison of histories in
//! `lineage.rs`. It knows neither sockets nor clients. What holds at every moment:
//!
//! * a [`View`] names at most one primary, and its epoch only grows, across restarts too ([`Memory`]);
//! * silence counts only while this process itself has been running: after a pause of our own the deadlines start anew;
//! * a node is given up (`View::given_up`) when it is lost, replaced by another process, or goes on claiming to be
//!   primary in an answer to a question that was asked after another node had been named. An answer from before proves
//!   nothing: in a planned change the old primary is demoted first, and what it still answers is true;
//! * silence alone gives nobody up before [`Settings::silent_for`], unless another node is named: one command can keep
//!   Redis from answering for seconds, and its own reply is worth waiting for.

mod rule;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use super::evidence::{Evidence, Gone, NodeState, Reach};
use super::lineage::{Followed, Kinship, kinship};
use super::memory::Memory;
use super::node::{Epoch, NodeId, Role};
use super::output::{Notice, Output};
use super::view::{NoPrimary, View};
use crate::protocol::info::{FailoverState, RunId};
use rule::{Verdict, World};

/// Nodes are asked often for this long after something odd.
const RESTLESS: Duration = Duration::from_secs(1);
/// And for this long after the primary was lost; an older outage is watched at the ordinary pace.
const RESTLESS_WITHOUT_PRIMARY: Duration = Duration::from_secs(30);
/// A longer history alone is written down this often.
const REMEMBER_OFFSET_EVERY: Duration = Duration::from_secs(1);

/// What the rule has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What each node is called in the memory; its address, since that is what stays. One or two.
    pub nodes: Vec<String>,
    /// A node that has not answered for this long is silent.
    pub silent_after: Duration,
    /// A node that was silent for this long is given up, even if no other is named. Where a silent primary may be replaced
    /// by ourselves it is no longer than `silent_after`: its late replies must be out of the way before.
    pub silent_for: Duration,
}

/// Why a node cannot be adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// There is no such node.
    #[error("there is no such node")]
    NoSuchNode,
    /// There is a primary in service; change the roles in Redis instead.
    #[error("there is a primary in service: node {}", .0.0)]
    Serving(NodeId),
    /// The node does not answer.
    #[error("the node does not answer")]
    Unheard,
    /// The node does not say that it is primary; promote it first.
    #[error("the node says that it is a replica: promote it first (REPLICAOF NO ONE)")]
    NotPrimary,
}

/// Who is primary, and all that is known about it.
#[derive(Debug)]
pub struct Topology {
    settings: Settings,
    nodes: Vec<NodeState>,
    /// Which process was named in [`NodeState::named`].
    named_process: Vec<Option<RunId>>,
    followed: Option<Followed>,
    view: View,
    published: View,
    serving_since: Duration,
    none_since: Duration,
    /// The primary was lost, not demoted, since there is none.
    unplanned: bool,
    now: Duration,
    awake_since: Duration,
    restless_until: Duration,
    remembered: Option<Memory>,
    remembered_at: Duration,
    notices: Vec<Notice>,
    outputs: VecDeque<Output>,
}

impl Topology {
    /// Starts with what was remembered, if anything. Names nobody before the nodes have spoken.
    pub fn new(settings: Settings, memory: Option<Memory>, now: Duration) -> Self {
        let epoch = memory.as_ref().map_or(Epoch(0), |memory| memory.epoch);
        let view = View { epoch, primary: Err(NoPrimary::Starting), given_up: Epoch(0) };
        let followed = memory.as_ref().map(|memory| {
            let place = settings.nodes.iter().position(|name| *name == memory.node);
            memory.followed(place.and_then(|place| u8::try_from(place).ok()).map(NodeId))
        });
        Self {
            nodes: settings.nodes.iter().map(|_| NodeState::new(now)).collect(),
            named_process: settings.nodes.iter().map(|_| None).collect(),
            settings,
            followed,
            published: view.clone(),
            view,
            serving_since: now,
            none_since: now,
            unplanned: false,
            now,
            awake_since: now,
            restless_until: now + RESTLESS_WITHOUT_PRIMARY,
            remembered: memory,
            remembered_at: now,
            notices: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes in what was learnt about a node.
    pub fn handle_evidence(&mut self, node: NodeId, evidence: Evidence, now: Duration) {
        self.wake(now);
        let serving = self.view.primary == Ok(node);
        let overdue = self.silence_deadline(node).is_some_and(|deadline| deadline <= now);
        let Some(state) = self.nodes.get_mut(node.index()) else { return };
        match evidence {
            Evidence::Report(report) => {
                if !state.hear(report, now) {
                    return;
                }
                self.absorb(node, serving);
            }
            Evidence::Answers(answer) => {
                if !state.answer(answer, now) {
                    return;
                }
                if state.tripped
                    && serving
                    && let Some(followed) = &mut self.followed
                {
                    followed.unbroken = false;
                }
            }
            Evidence::Gone(Gone::Refused) => state.move_to(Reach::Refused, now),
            Evidence::Gone(gone) => {
                // What fails differently from "nobody listens" may be a process again, but not one that can be heard.
                let reach = if state.is_lost() { Reach::Silent } else { Reach::Suspect(gone) };
                if !state.is_lost() {
                    push_once(&mut self.outputs, Output::ProbeNow);
                }
                state.move_to(reach, now);
            }
            // What no longer refuses may be a process again.
            Evidence::Silent if overdue || state.reach == Reach::Refused => {
                state.trouble = None;
                state.move_to(Reach::Silent, now);
            }
            Evidence::Tripped | Evidence::RefusedCommand if serving && state.shows_demotion(&evidence) => {
                state.trip(now);
                if let Some(followed) = &mut self.followed {
                    followed.unbroken = false;
                }
                push_once(&mut self.outputs, Output::ProbeNow);
            }
            Evidence::Silent | Evidence::Tripped | Evidence::RefusedCommand => {
                push_once(&mut self.outputs, Output::ProbeNow);
                self.stay_restless(RESTLESS);
            }
        }
        self.settle();
    }

    /// Something was due; see [`Topology::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Duration) {
        self.wake(now);
        for node in (0u8..).map(NodeId).take(self.nodes.len()) {
            if self.silence_deadline(node).is_some_and(|deadline| deadline <= now)
                && let Some(state) = self.nodes.get_mut(node.index())
            {
                state.move_to(Reach::Silent, now);
            }
        }
        self.settle();
    }

    /// When [`Topology::handle_timeout`] must be called, at the latest. It comes often enough for a pause of this
    /// process to be noticed.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let heartbeat = self.now + self.settings.silent_after / 4;
        let nodes = (0u8..).map(NodeId).take(self.nodes.len());
        Some(nodes.filter_map(|node| self.silence_deadline(node)).fold(heartbeat, Duration::min))
    }

    /// The next effect, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The current answer.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What is known about a node, for status. A node that was not configured looks unheard.
    pub fn node(&self, node: NodeId) -> Option<&NodeState> {
        self.nodes.get(node.index())
    }

    /// What is followed, for status.
    pub fn followed(&self) -> Option<&Followed> {
        self.followed.as_ref()
    }

    /// Something is under way: ask the nodes often.
    pub fn unsettled(&self) -> bool {
        self.now < self.restless_until
    }

    /// An operator ends a doubt: this node is primary, whatever its history.
    pub fn adopt(&mut self, node: NodeId, now: Duration) -> Result<(), AdoptError> {
        self.wake(now);
        if let Ok(serving) = self.view.primary {
            return Err(AdoptError::Serving(serving));
        }
        let state = self.nodes.get(node.index()).ok_or(AdoptError::NoSuchNode)?;
        if state.claim().is_none() {
            let answers = state.reach == Reach::Answering;
            return Err(if answers { AdoptError::NotPrimary } else { AdoptError::Unheard });
        }
        self.apply(Verdict::Name { node, lost: None });
        self.dismiss_others();
        self.settle();
        Ok(())
    }

    /// Draws from a report that was just heard what it says about the followed history.
    fn absorb(&mut self, node: NodeId, serving: bool) {
        let Some(report) = self.nodes.get(node.index()).and_then(|state| state.report.as_ref()) else { return };
        if let Some(followed) = &mut self.followed {
            if followed.node == Some(node) && followed.run_id == report.run_id() {
                match report.role() {
                    Role::Primary if serving => followed.advance(report),
                    Role::Primary => {}
                    Role::Replica => followed.unbroken = false,
                }
            }
            followed.learn(report);
        }
        if serving && report.replication.failover == FailoverState::WaitingForSync && self.nodes.len() == 2 {
            push_once(&mut self.outputs, Output::Nudge(NodeId(1 - node.0)));
        }
    }

    /// Notices that time has passed, and whether this process slept through it.
    fn wake(&mut self, now: Duration) {
        let gap = now.saturating_sub(self.now);
        if gap > self.settings.silent_after / 2 {
            self.awake_since = now;
            self.notices.push(Notice::Slept(gap));
            push_once(&mut self.outputs, Output::ProbeNow);
        }
        self.now = self.now.max(now);
    }

    fn silence_deadline(&self, node: NodeId) -> Option<Duration> {
        let state = self.nodes.get(node.index())?;
        (!state.is_lost()).then_some(self.heard_at(state) + self.settings.silent_after)
    }

    /// Since when silence counts.
    fn heard_at(&self, state: &NodeState) -> Duration {
        state.heard_at.unwrap_or_default().max(state.alive_at).max(self.awake_since)
    }

    /// Asks the rule, and publishes what changed.
    fn settle(&mut self) {
        // Naming a node may show the other one in a new light, so the rule is asked until it names nobody else.
        for _ in 0..=self.nodes.len() {
            let verdict = rule::decide(&self.world());
            let named = matches!(verdict, Verdict::Name { .. });
            self.apply(verdict);
            if !named {
                break;
            }
        }
        self.give_up();
        self.dismiss_others();
        if self.nodes.iter().any(NodeState::is_restless) {
            self.stay_restless(RESTLESS);
        }
        self.publish();
    }

    fn world(&self) -> World<'_> {
        World {
            nodes: &self.nodes,
            followed: self.followed.as_ref(),
            serving: self.view.primary.as_ref().ok().copied(),
            none_since: self.none_since,
        }
    }

    /// Makes a verdict the view.
    fn apply(&mut self, verdict: Verdict) {
        let before = self.view.primary.clone();
        match verdict {
            Verdict::Stay => {}
            Verdict::Nobody(reason) => {
                self.unplanned |= rule::followed_is_lost(&self.world());
                if before == Err(reason.clone()) {
                    return;
                }
                if let Ok(from) = before {
                    self.none_since = self.now;
                    self.notices.push(Notice::Held { from, reason: reason.clone() });
                    self.stay_restless(RESTLESS_WITHOUT_PRIMARY);
                }
                self.note_doubt(before.err(), Some(&reason));
                self.view.primary = Err(reason);
            }
            Verdict::Name { node, lost } => {
                let Some(report) = self.nodes.get(node.index()).and_then(|state| state.report.clone()) else { return };
                let took = if before.is_ok() { Duration::ZERO } else { self.now.saturating_sub(self.none_since) };
                let from = self.followed.as_ref().and_then(|followed| followed.node);
                let known = self.followed.as_ref().is_some_and(|followed| followed.is_kin(report.run_id()));
                match &mut self.followed {
                    Some(followed) if from == Some(node) && followed.run_id == report.run_id() => {
                        followed.unbroken = true;
                        followed.advance(&report);
                    }
                    followed => *followed = Some(Followed::start(node, &report, followed.take())),
                }
                if let Some(followed) = &mut self.followed {
                    self.nodes.iter().filter_map(NodeState::current).for_each(|report| followed.learn(report));
                }
                self.note_doubt(before.err(), None);
                if self.nodes.len() == 1 && from.is_some() && !known && lost != Some(0) {
                    self.notices.push(Notice::FollowedAnyway(node));
                }
                self.name(node, report.run_id());
                let unplanned = std::mem::take(&mut self.unplanned);
                self.notices.push(Notice::Changed { from, to: node, lost_bytes: lost, took, unplanned });
            }
        }
    }

    fn name(&mut self, node: NodeId, process: RunId) {
        self.view.epoch = Epoch(self.view.epoch.0.saturating_add(1));
        self.view.primary = Ok(node);
        self.serving_since = self.now;
        self.stay_restless(RESTLESS);
        if let Some(state) = self.nodes.get_mut(node.index()) {
            state.named = self.view.epoch;
        }
        if let Some(named) = self.named_process.get_mut(node.index()) {
            *named = Some(process);
        }
    }

    fn note_doubt(&mut self, before: Option<NoPrimary>, after: Option<&NoPrimary>) {
        if let Some(NoPrimary::Doubt(doubt)) = after {
            self.notices.push(Notice::Doubt(doubt.clone()));
        } else if matches!(before, Some(NoPrimary::Doubt(_))) {
            self.notices.push(Notice::DoubtEnded);
        }
    }

    /// Whom to cut: lost, replaced, or a second primary; see the head of this file.
    fn give_up(&mut self) {
        let serving = self.view.primary.clone().ok();
        for ((node, state), process) in (0u8..).map(NodeId).zip(&self.nodes).zip(&self.named_process) {
            if Some(node) == serving || state.named <= self.view.given_up {
                continue;
            }
            let replaced = state.report.as_ref().is_some_and(|report| Some(report.run_id()) != *process);
            let second = serving.is_some() && state.claim().is_some_and(|claim| claim.asked_at >= self.serving_since);
            let lost = match state.reach {
                // Nothing shows what it is, and another is.
                Reach::Erring => serving.is_some(),
                Reach::Silent => serving.is_some() || self.heard_at(state) + self.settings.silent_for <= self.now,
                _ => state.is_lost(),
            };
            if lost || replaced || second {
                self.view.given_up = state.named;
            }
        }
    }

    /// Remembers who else claims to be primary while one is in service, and says so once.
    fn dismiss_others(&mut self) {
        let Ok(serving) = self.view.primary else { return };
        let primary = self.nodes.get(serving.index()).and_then(|state| state.report.clone());
        for (node, state) in (0u8..).map(NodeId).zip(&mut self.nodes).filter(|(node, _)| *node != serving) {
            let claim = state.claim().map(|claim| (claim.run_id(), claim.replication.replid));
            if claim.is_none() && state.current().is_some() {
                state.dismissed = None;
            }
            let Some(report) = state.claim().filter(|claim| claim.asked_at >= self.serving_since) else { continue };
            if state.dismissed != claim {
                let split_bytes = match primary.as_ref().map(|primary| kinship(report, primary)) {
                    Some(Kinship::SecondDescends { beyond }) => Some(beyond),
                    _ => None,
                };
                self.notices.push(Notice::SecondPrimary { node, split_bytes });
                state.dismissed = claim;
            }
        }
    }

    fn stay_restless(&mut self, time: Duration) {
        self.restless_until = self.restless_until.max(self.now + time);
    }

    /// Memory first, then the view that depends on it, then what is to be said about it.
    fn publish(&mut self) {
        if let Some(followed) = &self.followed {
            let name = followed.node.and_then(|node| self.settings.nodes.get(node.index()));
            let name = name.or(self.remembered.as_ref().map(|memory| &memory.node)).cloned().unwrap_or_default();
            let memory = Memory::of(name, followed, self.view.epoch);
            let due = self.now >= self.remembered_at + REMEMBER_OFFSET_EVERY;
            let news = self.remembered.as_ref().is_none_or(|last| !last.differs_in_offset_only(&memory));
            if self.remembered.as_ref() != Some(&memory) && (news || due) {
                self.remembered = Some(memory.clone());
                self.remembered_at = self.now;
                self.outputs.push_back(Output::Remember(memory));
            }
        }
        if self.view != self.published {
            self.published = self.view.clone();
            self.outputs.push_back(Output::View(self.view.clone()));
        }
        self.outputs.extend(self.notices.drain(..).map(Output::Notice));
    }
}

fn push_once(outputs: &mut VecDeque<Output>, output: Output) {
    if !outputs.contains(&output) {
        outputs.push_back(output);
    }
}
