//! Many shards: groups side by side, the shards of one group one after another; stops everything when one shard stops.
//!
//! It decides when a shard's turn comes and whether another node may be begun; what is done to a shard is `shard/`'s
//! business. Invariant: of each group at most one shard is not at rest, and of all groups at most `parallel`.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::health::Observation;
use super::journal::{History, Past, Record};
use super::plan::{Plan, ShardPlan};
use super::shard::Shard;
use super::shard::words::{Answer, Fault, Output, Settings};

/// How a rollout goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Groups that are worked on at the same time; at least one.
    pub parallel: usize,
    /// How each shard goes.
    pub shard: Settings,
}

/// What an operator may say while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Begin no further node until told to go on.
    Pause,
    /// Go on.
    Continue,
    /// Finish the nodes that were begun, then end; the journal allows to go on later.
    Stop,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is done.
    Finished,
    /// These shards (places in the plan) stopped.
    Stopped(Vec<(usize, Fault)>),
    /// It was told to stop, and no node is half done.
    Halted,
}

/// The machine of a rollout.
#[derive(Debug)]
pub struct Rollout {
    plan: Plan,
    parallel: usize,
    shards: Vec<Shard>,
    window_open: bool,
    paused: bool,
    stopping: bool,
    finished: bool,
    out: VecDeque<Output>,
}

impl Rollout {
    /// From the beginning; the journal holds the plan already.
    pub fn new(plan: Plan, manner: Manner, now: Duration) -> Self {
        let pasts = vec![Past::default(); plan.shards.len()];
        Self::with(plan, pasts, manner, now)
    }

    /// From where the journal ends.
    pub fn resume(history: History, manner: Manner, now: Duration) -> Self {
        let mut rollout = Self::with(history.plan, history.shards, manner, now);
        rollout.out.push_front(Output::Record(Record::Resumed));
        rollout
    }

    fn with(plan: Plan, pasts: Vec<Past>, manner: Manner, now: Duration) -> Self {
        let shards = pasts.into_iter().enumerate().filter_map(|(at, past)| Shard::new(&plan, at, past, manner.shard));
        let mut rollout = Self {
            shards: shards.collect(),
            plan,
            parallel: manner.parallel.max(1),
            window_open: true,
            paused: false,
            stopping: false,
            finished: false,
            out: VecDeque::new(),
        };
        rollout.settle(now);
        rollout
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The maintenance window has opened or closed.
    pub fn handle_window(&mut self, open: bool, now: Duration) {
        self.window_open = open;
        self.settle(now);
    }

    /// The operator said something.
    pub fn handle_word(&mut self, word: Word, now: Duration) {
        match word {
            Word::Pause => self.paused = true,
            Word::Continue => self.paused = false,
            Word::Stop => self.stopping = true,
        }
        self.settle(now);
    }

    /// A look at a shard.
    pub fn handle_observation(&mut self, shard: usize, seen: &Observation, now: Duration) {
        let permit = self.window_open && !self.paused && !self.stopping;
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.handle_observation(seen, permit, now);
        }
        self.settle(now);
    }

    /// The answer to an order.
    pub fn handle_answer(&mut self, shard: usize, ticket: u64, answer: Answer, now: Duration) {
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.handle_answer(ticket, answer, now);
        }
        self.settle(now);
    }

    /// The time that was asked for has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.shards.iter_mut().for_each(|shard| shard.handle_timeout(now));
        self.settle(now);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.shards.iter().filter_map(Shard::poll_timeout).min()
    }

    /// What is to be recorded and done next, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// The shards that want to be looked at.
    pub fn watching(&self) -> Vec<usize> {
        let watching = self.shards.iter().enumerate().filter(|(_, shard)| shard.is_watching());
        watching.map(|(at, _)| at).collect()
    }

    /// How it ended, once nothing is under way any more.
    pub fn outcome(&self) -> Option<Outcome> {
        if !self.out.is_empty() {
            return None;
        }
        if self.finished {
            return Some(Outcome::Finished);
        }
        if !self.stopping || !self.shards.iter().all(Shard::is_resting) {
            return None;
        }
        let faults = self.shards.iter().enumerate().filter_map(|(at, shard)| Some((at, shard.fault()?.clone())));
        let faults: Vec<_> = faults.collect();
        Some(if faults.is_empty() { Outcome::Halted } else { Outcome::Stopped(faults) })
    }

    /// Lets the next shards begin, gathers what all have to say, and notices the end.
    fn settle(&mut self, now: Duration) {
        self.begin_next(now);
        for shard in &mut self.shards {
            while let Some(output) = shard.poll_output() {
                self.out.push_back(output);
            }
        }
        if self.shards.iter().any(|shard| shard.fault().is_some()) {
            self.stopping = true;
        }
        if !self.finished && self.shards.iter().all(Shard::is_finished) {
            self.finished = true;
            self.out.push_back(Output::Record(Record::Finished));
        }
    }

    fn begin_next(&mut self, now: Duration) {
        if self.stopping {
            return;
        }
        let mut groups = BTreeSet::new();
        // What was half done by an earlier process comes before what was not begun.
        for half_done in [true, false] {
            for (plan, shard) in self.plan.shards.iter().zip(&mut self.shards) {
                let ShardPlan { group, .. } = plan;
                let skip = shard.is_finished() || shard.is_half_done() != half_done;
                if skip || groups.contains(group) || groups.len() >= self.parallel {
                    continue;
                }
                groups.insert(group.clone());
                shard.begin(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::plan::{Kind, Steps};

    fn rollout(groups: &[&str], parallel: usize) -> Rollout {
        let shards = groups.iter().enumerate().map(|(at, group)| ShardPlan {
            group: (*group).to_owned(),
            name: format!("s{at}"),
            nodes: vec!["a".to_owned(), "b".to_owned()],
            targets: vec![0, 1],
            with: Steps::default(),
        });
        let plan = Plan { kind: Kind::Patch, shards: shards.collect() };
        Rollout::new(plan, Manner { parallel, shard: Settings::default() }, Duration::ZERO)
    }

    #[test]
    fn one_shard_of_a_group_at_a_time_and_no_more_groups_than_allowed() {
        assert_eq!(rollout(&["x", "x", "y", "z"], 2).watching(), [0, 2]);
        assert_eq!(rollout(&["x", "x", "y", "z"], 1).watching(), [0]);
        assert_eq!(rollout(&["x", "y", "z"], 9).watching(), [0, 1, 2]);
    }

    #[test]
    fn a_stop_before_anything_was_begun_ends_at_once() {
        let mut rollout = rollout(&["x"], 1);
        assert_eq!(rollout.outcome(), None);
        rollout.handle_word(Word::Stop, Duration::ZERO);
        assert_eq!(rollout.outcome(), Some(Outcome::Halted));
    }

    #[test]
    fn a_shard_that_is_not_healthy_in_time_stops_everything() {
        let mut rollout = rollout(&["x", "y"], 1);
        let seen = Observation { asked_at: Duration::ZERO, proxies: Vec::new() };
        rollout.handle_observation(0, &seen, Duration::ZERO);
        while rollout.poll_output().is_some() {}
        let at = rollout.poll_timeout().unwrap();
        rollout.handle_timeout(at);
        let Some(Outcome::Stopped(faults)) = rollout.outcome() else { panic!("{:?}", rollout.outcome()) };
        assert_eq!((faults.len(), faults[0].0), (1, 0));
        assert!(faults[0].1.why.contains("not every proxy was asked"), "{faults:?}");
    }
}
