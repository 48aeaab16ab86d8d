//! The words of a shard's rollout: how long it waits, what it orders, what it is told.
//!
//! Nouns only; the machine is in `mod.rs`.

use std::time::Duration;

use crate::patch::journal::{Felt, Record};
use crate::patch::plan::Hook;

/// How long a shard waits, and what it does when it cannot know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Until the shard is healthy, before a node is begun.
    pub settle: Duration,
    /// Until a node is back and in sync after its work.
    pub back_within: Duration,
    /// When nobody knows whether the work was done (the machine that ran it died too); `None` stops and asks.
    pub unknown: Option<Unknown>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { settle: Duration::from_secs(300), back_within: Duration::from_secs(1800), unknown: None }
    }
}

/// The operator's word on work of which nobody knows whether it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Do it again.
    Again,
    /// It was done.
    Done,
}

/// What a machine says, in order: a record must be on disk before what follows it is carried out.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// For the journal.
    Record(Record),
    /// To be done; answered under the same ticket.
    Do(Order),
    /// The shard waits; told when the reason changes.
    Waiting {
        /// Which shard: its place in the plan.
        shard: usize,
        /// For what.
        why: String,
    },
}

/// Something to be done to a shard; each has one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which shard: its place in the plan.
    pub shard: usize,
    /// Tells answers apart.
    pub ticket: u64,
    /// What.
    pub task: Task,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Make this node primary.
    Switchover {
        /// The node to promote.
        to: usize,
    },
    /// Let the clients of the node's proxy go, until the process has ended. One that is gone already is drained.
    Drain {
        /// Whose proxy.
        node: usize,
    },
    /// Run the hook; at most once in the life of the rollout under the same node, hook and attempt.
    Run {
        /// For which node.
        node: usize,
        /// Which.
        hook: Hook,
        /// Counted from 1.
        attempt: u32,
    },
    /// Wait for a hook that an earlier process may have started; do not start it.
    Join {
        /// For which node.
        node: usize,
        /// Which.
        hook: Hook,
        /// Counted from 1.
        attempt: u32,
    },
}

/// The answer to an order.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Done.
    Done(Felt),
    /// It was not done, or it failed; why.
    Failed(String),
    /// Only for hooks: it was started, and nobody knows how it ended.
    Unknown,
    /// Only for [`Task::Join`]: it was never started.
    NeverStarted,
}

/// Why a shard stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The node that was under way, if any.
    pub node: Option<usize>,
    /// What happened.
    pub why: String,
    /// What to do about it.
    pub advice: String,
}
