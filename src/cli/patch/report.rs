//! The report of a rollout: every step with its time and what clients felt, from the journal's records.

use std::time::Duration;

use serde::Serialize;

use crate::io::admin::ms;
use crate::patch::journal::{Felt, Record};
use crate::patch::plan::{Plan, Step};
use crate::patch::rollout::Outcome;

/// The whole story.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// The rollout's own name; the output of its commands is kept under it.
    pub(crate) id: String,
    /// What for.
    pub(crate) kind: &'static str,
    /// `finished`, `stopped` or `halted`.
    pub(crate) outcome: &'static str,
    /// Why it stopped, and what to do.
    pub(crate) faults: Vec<FaultLine>,
    /// Nodes that are done, of how many.
    pub(crate) nodes_done: usize,
    /// How many nodes the plan has.
    pub(crate) nodes: usize,
    /// Steps in the order of their ends; earlier runs of the same rollout included.
    pub(crate) steps: Vec<StepLine>,
    /// The longest that a client waited in a switchover.
    pub(crate) longest_stall_ms: Option<f64>,
    /// Sessions that were held in all.
    pub(crate) held: u64,
    /// Connections that were closed between two commands.
    pub(crate) closed: u64,
    /// Connections that were cut at a drain's deadline.
    pub(crate) cut: u64,
    /// Times that a client with something to send had to wait.
    pub(crate) waits: u64,
    /// Error replies that proxies gave by themselves.
    pub(crate) errors: u64,
    /// Connections that clients closed.
    pub(crate) closed_by_clients: u64,
    /// Bytes of history that new primaries lacked after changes that were not planned.
    pub(crate) lost_bytes: u64,
    /// What nodes that came back were sent until they were in sync, in bytes.
    pub(crate) resync_bytes: u64,
    /// How long this run took.
    pub(crate) took_ms: f64,
}

/// Why a shard stopped.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FaultLine {
    pub(crate) shard: String,
    pub(crate) node: Option<String>,
    pub(crate) why: String,
    pub(crate) advice: String,
}

/// A step that ended.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StepLine {
    pub(crate) shard: String,
    pub(crate) node: String,
    pub(crate) step: Step,
    pub(crate) attempt: u32,
    /// `None`: it failed.
    pub(crate) took_ms: Option<f64>,
    #[serde(skip_serializing_if = "Felt::is_nothing")]
    pub(crate) felt: Felt,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<String>,
}

impl Report {
    pub(crate) fn of(id: &str, plan: &Plan, records: &[Record], outcome: &Outcome, took: Duration) -> Self {
        let steps: Vec<_> = records.iter().filter_map(StepLine::of).collect();
        let faults = match outcome {
            Outcome::Stopped(faults) => faults.as_slice(),
            Outcome::Finished | Outcome::Halted => &[],
        };
        let faults = faults.iter().filter_map(|(at, fault)| {
            let shard = plan.shards.get(*at)?;
            Some(FaultLine {
                shard: shard.name.clone(),
                node: fault.node.map(|node| shard.node(node).to_owned()),
                why: fault.why.clone(),
                advice: fault.advice.clone(),
            })
        });
        let sum = |of: fn(&Felt) -> Option<u64>| steps.iter().filter_map(|step| of(&step.felt)).sum();
        Self {
            id: id.to_owned(),
            kind: plan.kind.name(),
            outcome: match outcome {
                Outcome::Finished => "finished",
                Outcome::Stopped(_) => "stopped",
                Outcome::Halted => "halted",
            },
            faults: faults.collect(),
            nodes_done: records.iter().filter(|record| matches!(record, Record::NodeDone { .. })).count(),
            nodes: plan.nodes(),
            longest_stall_ms: steps.iter().filter_map(|step| step.felt.longest_stall_ms).reduce(f64::max),
            held: sum(|felt| felt.held),
            closed: sum(|felt| felt.closed),
            cut: sum(|felt| felt.cut),
            waits: sum(|felt| felt.waits),
            errors: sum(|felt| felt.errors),
            closed_by_clients: sum(|felt| felt.closed_by_clients),
            lost_bytes: sum(|felt| felt.lost_bytes),
            resync_bytes: sum(|felt| felt.resync_bytes),
            steps,
            took_ms: ms(took),
        }
    }
}

impl StepLine {
    fn of(record: &Record) -> Option<Self> {
        let (at, took_ms, felt, fault) = match record {
            Record::Ended { at, took_ms, felt } => (at, Some(*took_ms), *felt, None),
            Record::Failed { at, why } => (at, None, Felt::default(), Some(why.clone())),
            _ => return None,
        };
        let (shard, node) = (at.shard.clone(), at.node.clone());
        Some(Self { shard, node, step: at.step, attempt: at.attempt, took_ms, felt, fault })
    }
}
