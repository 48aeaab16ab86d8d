//! One shard of a rollout: its nodes one after another, the replica first.
//!
//! ```text
//!            +--------------------------- node done ---------------------------+
//!            v                                                                 |
//! Idle -> Choosing -> switchover -> before-drain -> drain -> Guarding -> work -> Returning -> after-ready
//!            |  (healthy, permitted)                        (expendable)         (healthy)
//!            +-> switch-back -> Finished                                any failure -> Stopped
//! ```
//!
//! Every wait ends in time. Nothing is done on the strength of an old look: a look counts only when it began after
//! what was done last. A node that was begun is finished even when the window has closed or a stop was ordered,
//! because a pair with a node half done is worse than either.
//!
//! Invariant: work begins only out of `Guarding`, with the other node just seen to be primary and serving (for a drill that
//! is meant to be rude: with the whole shard just seen to be healthy).

pub mod words;

use std::collections::VecDeque;
use std::time::Duration;

use super::health::{Observation, Proxy, expendable, healthy, run_id};
use super::journal::{At, Felt, Mark, Past, Record};
use super::plan::{Hook, Plan, ShardPlan, Step};
use words::{Answer, Fault, Order, Output, Settings, Task, Unknown};

/// A switchover that was refused or taken back is tried this often; the shard must be healthy before each.
const SWITCHOVERS: u32 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Its turn has not come.
    Idle,
    /// Which node is next?
    Choosing,
    /// An order is out.
    Busy { node: usize, step: Step, attempt: u32, ticket: u64 },
    /// The last look before the work.
    Guarding { node: usize, attempt: u32 },
    /// The work was done; the node is not back yet.
    Returning { node: usize },
    /// All done.
    Finished,
    /// It stopped.
    Stopped(Fault),
}

/// The machine of one shard.
#[derive(Debug)]
pub struct Shard {
    at: usize,
    plan: ShardPlan,
    settings: Settings,
    past: Past,
    phase: Phase,
    since: Duration,
    deadline: Option<Duration>,
    why: String,
    switchovers: u32,
    tickets: u64,
    /// The node's own proxy answered when last seen.
    proxies_up: Vec<bool>,
    out: VecDeque<Output>,
}

impl Shard {
    /// The shard at this place of the plan, gone on with from what was done to it.
    pub fn new(plan: &Plan, at: usize, past: Past, settings: Settings) -> Option<Self> {
        let plan = plan.shards.get(at)?.clone();
        let phase = if past.finished { Phase::Finished } else { Phase::Idle };
        let proxies_up = vec![true; plan.nodes.len()];
        Some(Self {
            at,
            plan,
            settings,
            past,
            phase,
            since: Duration::ZERO,
            deadline: None,
            why: String::new(),
            switchovers: 0,
            tickets: 0,
            proxies_up,
            out: VecDeque::new(),
        })
    }

    /// Its turn has come. What an earlier process may have started is waited for before anything else.
    pub fn begin(&mut self, now: Duration) {
        if self.phase != Phase::Idle {
            return;
        }
        let Some(node) = self.under_way() else { return self.enter(Phase::Choosing, now) };
        for step in [Step::AfterReady, Step::Work, Step::BeforeDrain] {
            match (self.past.marked(node, step), step.hook()) {
                (Some(Mark::Begun(attempt)), Some(hook)) => {
                    return self.order(node, step, attempt, Task::Join { node, hook, attempt }, now);
                }
                (Some(Mark::Ended(_)), _) if step != Step::BeforeDrain => {
                    return self.enter(Phase::Returning { node }, now);
                }
                _ => {}
            }
        }
        self.enter(Phase::Choosing, now);
    }

    /// A look at the shard; `permit` says whether another node may be begun.
    pub fn handle_observation(&mut self, seen: &Observation, permit: bool, now: Duration) {
        if seen.asked_at < self.since {
            return;
        }
        for (up, proxy) in self.proxies_up.iter_mut().zip(&seen.proxies) {
            *up = matches!(proxy, Proxy::Up(_));
        }
        match self.phase {
            Phase::Choosing => self.choose(seen, permit, now),
            Phase::Guarding { node, attempt } => self.guard(seen, node, attempt, now),
            Phase::Returning { node } => match healthy(seen, &self.plan.nodes).and_then(|_| self.restarted(seen, node))
            {
                Ok(()) => self.returned(node, now),
                Err(why) => self.wait(why),
            },
            Phase::Idle | Phase::Busy { .. } | Phase::Finished | Phase::Stopped(_) => {}
        }
    }

    /// The answer to the order with this ticket; one to an older order is of no interest any more.
    pub fn handle_answer(&mut self, ticket: u64, answer: Answer, now: Duration) {
        let Phase::Busy { node, step, attempt, ticket: open } = self.phase else { return };
        if ticket != open {
            return;
        }
        match (answer, step.hook()) {
            (Answer::Done(felt), _) => self.ended(node, step, attempt, felt, now),
            (Answer::NeverStarted, Some(Hook::Work)) => self.enter(Phase::Guarding { node, attempt }, now),
            (Answer::NeverStarted, Some(hook)) => self.run(node, step, hook, attempt, now),
            (Answer::Unknown, Some(Hook::Work)) => self.unknown(node, attempt, now),
            (Answer::Unknown, Some(hook)) => {
                // Documented as safe to run twice.
                self.failed(node, step, attempt, "interrupted: nobody knows how it ended".to_owned());
                self.run(node, step, hook, attempt + 1, now);
            }
            (Answer::Failed(why), _) => self.fail(node, step, attempt, why, now),
            (Answer::Unknown | Answer::NeverStarted, None) => {
                self.fail(node, step, attempt, "no answer".to_owned(), now);
            }
        }
    }

    /// The time that was asked for has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        let why = if self.why.is_empty() { "it was not seen".to_owned() } else { self.why.clone() };
        let name = |node: usize| self.plan.node(node).to_owned();
        let fault = match self.phase {
            Phase::Choosing => Fault {
                node: None,
                why: format!("not healthy in time: {why}"),
                advice: "nothing more was begun: mend it, then run the same command again".to_owned(),
            },
            Phase::Guarding { node, .. } => Fault {
                node: Some(node),
                why: format!("{} cannot be taken down: {why}", name(node)),
                advice: "its work was not begun: mend it, then run the same command again".to_owned(),
            },
            Phase::Returning { node } => Fault {
                node: Some(node),
                why: format!("{} is not back and in sync in time: {why}", name(node)),
                advice: format!(
                    "its work was done and the other node serves: see why {} is not in sync, then run the same \
                     command again; the work is not repeated",
                    name(node)
                ),
            },
            _ => return self.deadline = None,
        };
        self.stop(fault);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.deadline
    }

    /// What it has to say next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// All done.
    pub fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// Why it stopped.
    pub fn fault(&self) -> Option<&Fault> {
        if let Phase::Stopped(fault) = &self.phase { Some(fault) } else { None }
    }

    /// No node is half done and nothing is out: it can be left alone.
    pub fn is_resting(&self) -> bool {
        match self.phase {
            Phase::Choosing => self.under_way().is_none(),
            Phase::Idle | Phase::Finished | Phase::Stopped(_) => true,
            Phase::Busy { .. } | Phase::Guarding { .. } | Phase::Returning { .. } => false,
        }
    }

    /// A node was begun and is not done.
    pub fn is_half_done(&self) -> bool {
        self.under_way().is_some()
    }

    /// It wants to be looked at.
    pub fn is_watching(&self) -> bool {
        matches!(self.phase, Phase::Choosing | Phase::Guarding { .. } | Phase::Returning { .. })
    }

    fn choose(&mut self, seen: &Observation, permit: bool, now: Duration) {
        let health = healthy(seen, &self.plan.nodes);
        if let Some(node) = self.under_way() {
            self.arm(self.settings.settle, now);
            return match (expendable(seen, &self.plan.nodes, node), health) {
                (Ok(()), _) => self.go_on(node, now),
                (_, Ok(_)) if self.plan.with.rude => self.go_on(node, now),
                (Err(_), Ok(primary)) if primary == node => self.switch(node, Step::Switchover, now),
                (Err(why), _) => self.wait(why),
            };
        }
        if !permit {
            self.deadline = None;
            let waits = || "waits for permission: the window, a pause or a stop".to_owned();
            return self.wait(health.err().unwrap_or_else(waits));
        }
        self.arm(self.settings.settle, now);
        let primary = match health {
            Ok(primary) => primary,
            Err(why) => return self.wait(why),
        };
        if self.past.home.is_none() {
            self.past.home = Some(primary);
            self.record(Record::ShardBegun { shard: self.plan.name.clone(), primary: self.plan.node(primary).into() });
        }
        let left = |node: &&usize| !self.past.done.contains(node);
        let targets = &self.plan.targets;
        let next = targets.iter().filter(left).min_by_key(|node| **node == primary).copied();
        match (next, self.past.home) {
            (Some(node), _) if node == primary && self.plan.is_pair() && !self.plan.with.rude => {
                self.switch(node, Step::Switchover, now)
            }
            (Some(node), _) => self.go_on(node, now),
            (None, Some(home)) if self.plan.with.switch_back && home != primary && self.plan.is_pair() => {
                self.switch(home, Step::SwitchBack, now);
            }
            (None, _) => {
                self.record(Record::ShardDone { shard: self.plan.name.clone() });
                self.past.finished = true;
                self.enter(Phase::Finished, now);
            }
        }
    }

    /// From a node that is not primary towards its work.
    fn go_on(&mut self, node: usize, now: Duration) {
        let mark = self.past.marked(node, Step::BeforeDrain);
        if self.plan.with.before_drain && !self.plan.with.rude && !matches!(mark, Some(Mark::Ended(_))) {
            return self.run(node, Step::BeforeDrain, Hook::BeforeDrain, mark.map_or(0, Mark::attempt) + 1, now);
        }
        self.drain(node, now);
    }

    fn drain(&mut self, node: usize, now: Duration) {
        let up = self.proxies_up.get(node).copied().unwrap_or_default();
        if self.plan.with.drain && !self.plan.with.rude && self.plan.is_pair() && up {
            let attempt = self.past.marked(node, Step::Drain).map_or(0, Mark::attempt) + 1;
            self.announce(node, Step::Drain, attempt);
            return self.order(node, Step::Drain, attempt, Task::Drain { node }, now);
        }
        self.enter(Phase::Guarding { node, attempt: self.next_work(node) }, now);
    }

    fn guard(&mut self, seen: &Observation, node: usize, attempt: u32, now: Duration) {
        let health = healthy(seen, &self.plan.nodes);
        match expendable(seen, &self.plan.nodes, node) {
            Err(why) if !(self.plan.with.rude && health.is_ok()) => match health {
                // The roles were switched meanwhile: from the beginning.
                Ok(primary) if primary == node => self.switch(node, Step::Switchover, now),
                _ => self.wait(why),
            },
            _ => {
                self.remember(seen, node);
                self.run(node, Step::Work, Hook::Work, attempt, now);
            }
        }
    }

    /// Another node than `node` becomes primary (or `node` itself, when switching back).
    fn switch(&mut self, node: usize, step: Step, now: Duration) {
        self.switchovers += 1;
        let to = if step == Step::SwitchBack { node } else { 1 - node.min(1) };
        self.announce(node, step, self.switchovers);
        self.order(node, step, self.switchovers, Task::Switchover { to }, now);
    }

    fn run(&mut self, node: usize, step: Step, hook: Hook, attempt: u32, now: Duration) {
        self.announce(node, step, attempt);
        self.order(node, step, attempt, Task::Run { node, hook, attempt }, now);
    }

    fn ended(&mut self, node: usize, step: Step, attempt: u32, felt: Felt, now: Duration) {
        let took_ms = milliseconds(now.saturating_sub(self.since));
        self.past.mark(node, step, Mark::Ended(attempt));
        self.record(Record::Ended { at: self.step(node, step, attempt), took_ms, felt });
        match step {
            Step::Switchover | Step::SwitchBack => {
                self.switchovers = 0;
                self.enter(Phase::Choosing, now);
            }
            Step::BeforeDrain => self.drain(node, now),
            Step::Drain => self.enter(Phase::Guarding { node, attempt: self.next_work(node) }, now),
            Step::Work => self.enter(Phase::Returning { node }, now),
            Step::Sync | Step::AfterReady => self.node_done(node, now),
        }
    }

    /// A command such as `reboot` returns before the node goes down: until then it still looks healthy.
    fn restarted(&self, seen: &Observation, node: usize) -> Result<(), String> {
        let before = self.past.under_way.as_ref().and_then(|way| way.run_id.as_deref());
        if self.plan.with.restarts && before.is_some() && before == run_id(seen, node) {
            return Err(format!("Redis of {} has not restarted yet", self.plan.node(node)));
        }
        Ok(())
    }

    /// Notes which process runs on a node before its work; again before each attempt, because one that failed may have
    /// restarted it.
    fn remember(&mut self, seen: &Observation, node: usize) {
        let Some(run_id) = run_id(seen, node) else { return };
        self.past.before(node, run_id);
        let (shard, node) = (self.plan.name.clone(), self.plan.node(node).to_owned());
        self.record(Record::Before { shard, node, run_id: run_id.to_owned() });
    }

    fn returned(&mut self, node: usize, now: Duration) {
        let mark = self.past.marked(node, Step::AfterReady);
        if !matches!(self.past.marked(node, Step::Sync), Some(Mark::Ended(_))) {
            let took_ms = milliseconds(now.saturating_sub(self.since));
            self.past.mark(node, Step::Sync, Mark::Ended(1));
            self.record(Record::Ended { at: self.step(node, Step::Sync, 1), took_ms, felt: Felt::default() });
        }
        if self.plan.with.after_ready && !matches!(mark, Some(Mark::Ended(_))) {
            return self.run(node, Step::AfterReady, Hook::AfterReady, mark.map_or(0, Mark::attempt) + 1, now);
        }
        self.node_done(node, now);
    }

    fn node_done(&mut self, node: usize, now: Duration) {
        self.past.node_done(node);
        self.record(Record::NodeDone { shard: self.plan.name.clone(), node: self.plan.node(node).to_owned() });
        self.enter(Phase::Choosing, now);
    }

    fn unknown(&mut self, node: usize, attempt: u32, now: Duration) {
        match self.settings.unknown {
            Some(Unknown::Done) => self.ended(node, Step::Work, attempt, Felt::default(), now),
            Some(Unknown::Again) => {
                self.failed(node, Step::Work, attempt, "interrupted: to be done again".to_owned());
                self.enter(Phase::Guarding { node, attempt: attempt + 1 }, now);
            }
            // Not marked as failed: the answer is still owed.
            None => self.stop(Fault {
                node: Some(node),
                why: format!("nobody knows whether the work on {} was done", self.plan.node(node)),
                advice: "look at the node, then run the same command again with --work-was done or --work-was \
                         interrupted"
                    .to_owned(),
            }),
        }
    }

    fn fail(&mut self, node: usize, step: Step, attempt: u32, why: String, now: Duration) {
        self.failed(node, step, attempt, why.clone());
        if matches!(step, Step::Switchover | Step::SwitchBack) && self.switchovers < SWITCHOVERS {
            return self.enter(Phase::Choosing, now);
        }
        let name = self.plan.node(node);
        let advice = match step {
            Step::Work => format!(
                "the other node serves: mend {name}, then run the same command again; the work is then done once more"
            ),
            _ => "the other node serves: mend it, then run the same command again".to_owned(),
        };
        let why = format!("{} of {name} failed: {why}", step.name());
        self.stop(Fault { node: Some(node), why, advice });
    }

    fn failed(&mut self, node: usize, step: Step, attempt: u32, why: String) {
        self.past.mark(node, step, Mark::Failed(attempt));
        self.record(Record::Failed { at: self.step(node, step, attempt), why });
    }

    fn stop(&mut self, fault: Fault) {
        self.deadline = None;
        self.phase = Phase::Stopped(fault);
    }

    fn enter(&mut self, phase: Phase, now: Duration) {
        self.since = now;
        self.why.clear();
        self.deadline = match phase {
            Phase::Guarding { .. } => Some(now + self.settings.settle),
            Phase::Returning { .. } => Some(now + self.settings.back_within),
            _ => None,
        };
        self.phase = phase;
    }

    /// The wait for health counts from when it is wanted, not from when the window was still closed.
    fn arm(&mut self, wait: Duration, now: Duration) {
        self.deadline.get_or_insert(now + wait);
    }

    fn wait(&mut self, why: String) {
        if self.why != why {
            self.out.push_back(Output::Waiting { shard: self.at, why: why.clone() });
            self.why = why;
        }
    }

    fn order(&mut self, node: usize, step: Step, attempt: u32, task: Task, now: Duration) {
        self.tickets += 1;
        let ticket = self.tickets;
        self.enter(Phase::Busy { node, step, attempt, ticket }, now);
        self.out.push_back(Output::Do(Order { shard: self.at, ticket, task }));
    }

    fn announce(&mut self, node: usize, step: Step, attempt: u32) {
        self.past.mark(node, step, Mark::Begun(attempt));
        self.record(Record::Begun(self.step(node, step, attempt)));
    }

    fn record(&mut self, record: Record) {
        self.out.push_back(Output::Record(record));
    }

    fn step(&self, node: usize, step: Step, attempt: u32) -> At {
        At { shard: self.plan.name.clone(), node: self.plan.node(node).to_owned(), step, attempt }
    }

    fn under_way(&self) -> Option<usize> {
        self.past.under_way.as_ref().map(|way| way.node)
    }

    /// The number of the next attempt at the work: one that was only announced is still free.
    fn next_work(&self, node: usize) -> u32 {
        match self.past.marked(node, Step::Work) {
            None => 1,
            Some(Mark::Begun(attempt)) => attempt,
            Some(Mark::Failed(attempt) | Mark::Ended(attempt)) => attempt + 1,
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests;
