//! What a rollout remembers, one line of JSON for each thing that happened, so that it can be resumed after a kill.
//!
//! Values and their reading; the file is written elsewhere, each record synced before what it announces is done.
//! Invariant: a step is announced before it is begun, so what the journal does not mention was not begun.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::plan::{Plan, Step};

/// Version of the lines.
pub const VERSION: u32 = 1;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// The first line: what is to be done.
    Plan {
        /// Version of the lines.
        version: u32,
        /// Distinguishes this rollout from every other; hooks are started under it.
        id: String,
        /// What is to be done.
        plan: Plan,
    },
    /// A shard was found healthy and is begun.
    ShardBegun {
        /// Which.
        shard: String,
        /// Its primary at that time.
        primary: String,
    },
    /// The work on a node is about to be begun.
    Before {
        /// Which shard.
        shard: String,
        /// Which node.
        node: String,
        /// The process of Redis that runs there.
        run_id: String,
    },
    /// A step is about to be begun.
    Begun(At),
    /// It ended well.
    Ended {
        /// Which.
        #[serde(flatten)]
        at: At,
        /// How long it took.
        took_ms: f64,
        /// What clients felt.
        #[serde(default, skip_serializing_if = "Felt::is_nothing")]
        felt: Felt,
    },
    /// It failed.
    Failed {
        /// Which.
        #[serde(flatten)]
        at: At,
        /// Why.
        why: String,
    },
    /// Every step of a node ended well.
    NodeDone {
        /// Which shard.
        shard: String,
        /// Which node.
        node: String,
    },
    /// Every node of a shard is done, and it is as it was before.
    ShardDone {
        /// Which.
        shard: String,
    },
    /// Another process went on from here.
    Resumed,
    /// Everything is done.
    Finished,
}

/// A step of a node, and which attempt it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// The shard.
    pub shard: String,
    /// The node.
    pub node: String,
    /// The step.
    pub step: Step,
    /// Counted from 1; a hook is run at most once under one number.
    pub attempt: u32,
}

/// What clients felt of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Felt {
    /// The longest that a client waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_stall_ms: Option<f64>,
    /// Sessions that were held with something to send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
    /// Connections that we closed between two commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<u64>,
    /// Connections that we cut at the drain's deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<u64>,
    /// Times that a client with something to send had to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<u64>,
    /// Error replies that the proxies gave by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<u64>,
    /// Connections that clients closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_by_clients: Option<u64>,
    /// Bytes of history that a new primary lacked after a change that was not planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_bytes: Option<u64>,
    /// What the node's server was sent until it was in sync, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resync_bytes: Option<u64>,
}

impl Felt {
    /// Whether there is nothing to tell.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a journal cannot be gone on from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// A line is damaged, and it is not the last one.
    #[error("line {0} of the journal is damaged: {1}")]
    Damaged(usize, String),
    /// It does not begin with a plan.
    #[error("the journal does not begin with a plan")]
    NoPlan,
    /// Written by another version.
    #[error("the journal has version {0}; this program reads version {VERSION}")]
    Version(u32),
    /// It speaks of something that is not in its plan.
    #[error("the journal speaks of {0}, which is not in its plan")]
    Stranger(String),
}

/// A journal that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// The rollout.
    pub id: String,
    /// What is to be done.
    pub plan: Plan,
    /// What was done, for each shard of the plan.
    pub shards: Vec<Past>,
    /// Everything is done.
    pub finished: bool,
    /// Every record after the plan, in order.
    pub records: Vec<Record>,
}

/// What was done to a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Its primary when it was begun.
    pub home: Option<usize>,
    /// Nodes that are done.
    pub done: BTreeSet<usize>,
    /// The node that was begun and is not done.
    pub under_way: Option<UnderWay>,
    /// The whole shard is done.
    pub finished: bool,
}

/// A node that was begun and is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderWay {
    /// Which.
    pub node: usize,
    /// The process of Redis that ran there before the last attempt at its work.
    pub run_id: Option<String>,
    /// How far each of its steps got.
    pub marks: BTreeMap<Step, Mark>,
}

/// How far a step got, with the number of its last attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Announced; how it ended is not known.
    Begun(u32),
    /// It ended well.
    Ended(u32),
    /// It failed.
    Failed(u32),
}

impl Mark {
    /// The number of the attempt.
    pub fn attempt(self) -> u32 {
        match self {
            Self::Begun(attempt) | Self::Ended(attempt) | Self::Failed(attempt) => attempt,
        }
    }
}

impl Past {
    /// Notes how far a step got. A switchover is not remembered: who is primary is seen, not recalled.
    pub fn mark(&mut self, node: usize, step: Step, mark: Mark) {
        if matches!(step, Step::Switchover | Step::SwitchBack) {
            return;
        }
        self.way(node).marks.insert(step, mark);
    }

    /// Notes which process runs on a node before its work.
    pub fn before(&mut self, node: usize, run_id: &str) {
        self.way(node).run_id = Some(run_id.to_owned());
    }

    fn way(&mut self, node: usize) -> &mut UnderWay {
        let fresh = || UnderWay { node, run_id: None, marks: BTreeMap::new() };
        let way = self.under_way.get_or_insert_with(fresh);
        if way.node != node {
            *way = fresh();
        }
        way
    }

    /// How far a step of a node got.
    pub fn marked(&self, node: usize, step: Step) -> Option<Mark> {
        self.under_way.as_ref().filter(|way| way.node == node).and_then(|way| way.marks.get(&step).copied())
    }

    /// The node is done.
    pub fn node_done(&mut self, node: usize) {
        self.done.insert(node);
        self.under_way = None;
    }
}

/// Reads a journal. A last line that was cut by a kill is as if it had not been written.
///
/// # Errors
/// Why it cannot be gone on from.
pub fn read(text: &str) -> Result<History, JournalError> {
    // What has no newline was being written: nothing that it announces was begun.
    let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
    let mut records = Vec::new();
    for (at, line) in whole.lines().enumerate() {
        let record = serde_json::from_str(line).map_err(|error| JournalError::Damaged(at + 1, error.to_string()))?;
        records.push(record);
    }
    let mut records = records.into_iter();
    let Some(Record::Plan { version, id, plan }) = records.next() else { return Err(JournalError::NoPlan) };
    if version != VERSION {
        return Err(JournalError::Version(version));
    }
    let shards = vec![Past::default(); plan.shards.len()];
    let mut history = History { id, plan, shards, finished: false, records: Vec::new() };
    for record in records {
        history.apply(&record)?;
        history.records.push(record);
    }
    Ok(history)
}

impl History {
    fn apply(&mut self, record: &Record) -> Result<(), JournalError> {
        match record {
            Record::Plan { .. } => return Err(JournalError::Stranger("a second plan".to_owned())),
            Record::Resumed => {}
            Record::Finished => self.finished = true,
            Record::ShardBegun { shard, primary } => {
                let (past, node) = self.at(shard, primary)?;
                past.home = Some(node);
            }
            Record::Before { shard, node, run_id } => {
                let (past, node) = self.at(shard, node)?;
                past.before(node, run_id);
            }
            Record::Begun(at) => self.mark(at, Mark::Begun(at.attempt))?,
            Record::Ended { at, .. } => self.mark(at, Mark::Ended(at.attempt))?,
            Record::Failed { at, .. } => self.mark(at, Mark::Failed(at.attempt))?,
            Record::NodeDone { shard, node } => {
                let (past, node) = self.at(shard, node)?;
                past.node_done(node);
            }
            Record::ShardDone { shard } => {
                let at = self.plan.shard(shard).and_then(|at| self.shards.get_mut(at));
                at.ok_or_else(|| JournalError::Stranger(shard.clone()))?.finished = true;
            }
        }
        Ok(())
    }

    fn mark(&mut self, at: &At, mark: Mark) -> Result<(), JournalError> {
        let (past, node) = self.at(&at.shard, &at.node)?;
        past.mark(node, at.step, mark);
        Ok(())
    }

    fn at(&mut self, shard: &str, node: &str) -> Result<(&mut Past, usize), JournalError> {
        let stranger = || JournalError::Stranger(format!("{shard}/{node}"));
        let at = self.plan.shard(shard).ok_or_else(stranger)?;
        let names = self.plan.shards.get(at).map_or(&[][..], |shard| shard.nodes.as_slice());
        let found = names.iter().position(|name| name == node).ok_or_else(stranger)?;
        self.shards.get_mut(at).map(|past| (past, found)).ok_or_else(stranger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::plan::{Kind, ShardPlan, Steps};

    fn plan() -> Plan {
        let nodes = vec!["a".to_owned(), "b".to_owned()];
        let shard = ShardPlan {
            group: "g".into(),
            name: "s".into(),
            nodes,
            targets: vec![0, 1],
            with: Steps { drain: true, ..Steps::default() },
        };
        Plan { kind: Kind::Patch, shards: vec![shard] }
    }

    fn at(node: &str, step: Step, attempt: u32) -> At {
        At { shard: "s".into(), node: node.into(), step, attempt }
    }

    fn lines(records: &[Record]) -> String {
        records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect()
    }

    #[test]
    fn what_was_done_is_read_back_and_a_cut_line_was_never_written() {
        let felt = Felt { longest_stall_ms: Some(3.5), ..Felt::default() };
        let records = [
            Record::Plan { version: VERSION, id: "x".into(), plan: plan() },
            Record::ShardBegun { shard: "s".into(), primary: "a".into() },
            Record::Begun(at("b", Step::Work, 1)),
            Record::Ended { at: at("b", Step::Work, 1), took_ms: 12.0, felt },
            Record::NodeDone { shard: "s".into(), node: "b".into() },
            Record::Begun(at("a", Step::Switchover, 1)),
            Record::Begun(at("a", Step::Drain, 1)),
            Record::Failed { at: at("a", Step::Drain, 1), why: "hung".into() },
        ];
        let text = lines(&records) + r#"{"record":"begun","shard":"s","node":"a","step":"wo"#;
        let history = read(&text).unwrap();
        let past = &history.shards[0];
        assert_eq!((past.home, past.done.contains(&1), past.finished), (Some(0), true, false));
        assert_eq!(past.marked(0, Step::Drain), Some(Mark::Failed(1)));
        assert_eq!((past.marked(0, Step::Work), past.marked(0, Step::Switchover)), (None, None));
        assert_eq!(history.records, records[1..]);
    }

    #[test]
    fn a_journal_that_cannot_be_trusted_is_refused_with_the_line() {
        let first = Record::Plan { version: VERSION, id: "x".into(), plan: plan() };
        assert_eq!(read(""), Err(JournalError::NoPlan));
        assert_eq!(read(&lines(&[Record::Finished])), Err(JournalError::NoPlan));
        let stranger = Record::ShardDone { shard: "t".into() };
        assert_eq!(read(&lines(&[first.clone(), stranger])), Err(JournalError::Stranger("t".into())));
        let damaged = lines(std::slice::from_ref(&first)) + "nonsense\n" + &lines(&[Record::Finished]);
        assert!(matches!(read(&damaged), Err(JournalError::Damaged(2, _))));
        let Record::Plan { id, plan, .. } = first else { unreachable!() };
        assert_eq!(read(&lines(&[Record::Plan { version: 9, id, plan }])), Err(JournalError::Version(9)));
    }
}
