//! Which of two histories descends from the other, and what was lost on the way.
//!
//! It compares identifiers; it does not choose. A Redis process writes one history at a time (`replid`), and a replica
//! that is promoted starts a new one and remembers which one it left and where (`replid2`, `second_offset`). Only one
//! such step is visible, so an observer has to keep the chain itself: [`Followed`]. Where the fields end, so does
//! knowledge: `Standing::Unknown` is an answer.

use super::evidence::NodeReport;
use super::node::{NodeId, Role};
use crate::protocol::info::{ReplId, RunId};

/// Past histories that are kept.
pub const MAX_PAST: usize = 16;
/// Histories known to have left the followed one.
pub const MAX_BRANCHES: usize = 16;
/// Processes known to have held the followed history.
pub const MAX_KIN: usize = 4;

/// A history that left the followed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Its identifier.
    pub id: ReplId,
    /// The first offset that is its own.
    pub at: u64,
}

/// The primary that is followed, or was last: which process, which history, how far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The node; `None` if it is not among the configured ones any more.
    pub node: Option<NodeId>,
    /// The process.
    pub run_id: RunId,
    /// Its history.
    pub id: ReplId,
    /// The highest offset seen in that history.
    pub offset: u64,
    /// Histories before it, oldest first.
    pub past: Vec<ReplId>,
    /// Histories that left it and are not followed (yet).
    pub branches: Vec<Branch>,
    /// Processes that have held this history: replicas that were in sync, and the primaries before.
    pub kin: Vec<RunId>,
    /// Nothing has said that the process ceased to be primary. While this holds, the process is its own proof.
    pub unbroken: bool,
    /// The offset was seen by this process, not only remembered by the one before: it may have been longer since.
    pub certain: bool,
}

/// How a node that claims to be primary stands to what was followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The same process, primary all the time.
    Same,
    /// It continues the followed history.
    Heir {
        /// The least number of bytes that it lacks.
        lost: u64,
        /// It left the followed history by a promotion (otherwise it still writes the very same).
        descends: bool,
    },
    /// It writes a history that the followed one has left.
    Older,
    /// It left a history that the followed one has left too.
    Sibling,
    /// A new process on the followed node, without the followed history or without its end.
    Restarted,
    /// The fields do not say.
    Unknown,
}

/// How two reports stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinship {
    /// One history.
    SameHistory,
    /// The second was promoted out of the first's history; the first has so many bytes that the second lacks.
    SecondDescends {
        /// Bytes beyond the fork.
        beyond: u64,
    },
    /// The first was promoted out of the second's history.
    FirstDescends {
        /// Bytes beyond the fork.
        beyond: u64,
    },
    /// Both left the same history.
    Siblings,
    /// The fields do not say.
    Unrelated,
}

/// Bytes up to `offset` that a history lacks which left at `fork` (its first own offset).
fn beyond(offset: u64, fork: Option<u64>) -> u64 {
    offset.saturating_add(1).saturating_sub(fork.unwrap_or(0))
}

/// Compares two reports by their own words.
pub fn kinship(first: &NodeReport, second: &NodeReport) -> Kinship {
    let (a, b) = (&first.replication, &second.replication);
    if a.replid == b.replid {
        Kinship::SameHistory
    } else if b.replid2 == Some(a.replid) {
        Kinship::SecondDescends { beyond: beyond(a.offset, b.second_offset) }
    } else if a.replid2 == Some(b.replid) {
        Kinship::FirstDescends { beyond: beyond(b.offset, a.second_offset) }
    } else if a.replid2.is_some() && a.replid2 == b.replid2 {
        Kinship::Siblings
    } else {
        Kinship::Unrelated
    }
}

/// Appends without repetition; the oldest gives way.
fn keep<T: PartialEq>(ring: &mut Vec<T>, item: T, limit: usize) {
    if ring.last() == Some(&item) {
        return;
    }
    ring.retain(|known| *known != item);
    ring.push(item);
    if ring.len() > limit {
        ring.remove(0);
    }
}

impl Followed {
    /// Starts to follow this process, after `before` if something was followed.
    pub fn start(node: NodeId, report: &NodeReport, before: Option<Self>) -> Self {
        let (mut past, mut kin) = (Vec::new(), Vec::new());
        if let Some(before) = before {
            past = before.past;
            kin = before.kin;
            keep(&mut past, before.id, MAX_PAST);
            keep(&mut kin, before.run_id, MAX_KIN);
        }
        let info = &report.replication;
        if let Some(parent) = info.replid2 {
            keep(&mut past, parent, MAX_PAST);
        }
        past.retain(|id| *id != info.replid);
        Self {
            node: Some(node),
            run_id: report.run_id(),
            id: info.replid,
            offset: info.offset,
            past,
            branches: Vec::new(),
            kin,
            unbroken: true,
            certain: true,
        }
    }

    /// The followed process reports as primary: its history may have got another name, and is longer.
    pub fn advance(&mut self, report: &NodeReport) {
        let info = &report.replication;
        self.certain = true;
        if info.replid == self.id {
            self.offset = self.offset.max(info.offset);
            return;
        }
        keep(&mut self.past, self.id, MAX_PAST);
        if let Some(parent) = info.replid2 {
            keep(&mut self.past, parent, MAX_PAST);
        }
        self.past.retain(|id| *id != info.replid);
        self.id = info.replid;
        self.offset = info.offset;
        self.branches.clear();
    }

    /// Learns from any node's report what it says about the followed history.
    pub fn learn(&mut self, report: &NodeReport) {
        let info = &report.replication;
        if info.replid == self.id {
            let itself = self.unbroken && report.run_id() == self.run_id;
            if itself || report.role() == Role::Replica {
                self.offset = self.offset.max(info.offset);
                self.certain |= itself;
            }
            if report.follows(self.id) && !self.is_kin(report.run_id()) {
                keep(&mut self.kin, report.run_id(), MAX_KIN);
            }
            return;
        }
        if self.past.contains(&info.replid) {
            return;
        }
        let fork = match info.replid2 {
            Some(parent) if parent == self.id => info.second_offset,
            Some(parent) => self.branch(parent),
            None => self.branch(info.replid),
        };
        // A node that restarted with an old snapshot shows the same marks as one that was promoted. Only of a process
        // that was seen to hold the history it is known that it left it where it says.
        match fork.filter(|_| self.is_kin(report.run_id())) {
            Some(_) if self.branch(info.replid).is_some() => {}
            Some(at) => keep(&mut self.branches, Branch { id: info.replid, at }, MAX_BRANCHES),
            // Its data were replaced by somebody else's.
            None if report.role() == Role::Replica => self.kin.retain(|kin| *kin != report.run_id()),
            None => {}
        }
    }

    /// Whether this process has held the followed history.
    pub fn is_kin(&self, run_id: RunId) -> bool {
        self.run_id == run_id || self.kin.contains(&run_id)
    }

    fn branch(&self, id: ReplId) -> Option<u64> {
        self.branches.iter().find(|branch| branch.id == id).map(|branch| branch.at)
    }

    /// How a claimant stands to what is followed.
    pub fn standing(&self, node: NodeId, report: &NodeReport) -> Standing {
        let here = self.node == Some(node);
        let same_process = report.run_id() == self.run_id;
        if here && same_process && self.unbroken {
            return Standing::Same;
        }
        let info = &report.replication;
        let (lost, descends) = if info.replid == self.id {
            (Some(self.offset.saturating_sub(info.offset)), false)
        } else {
            let fork = match info.replid2 {
                Some(parent) if parent == self.id => Some(info.second_offset),
                parent => self.branch(info.replid).or_else(|| self.branch(parent?)).map(Some),
            };
            (fork.map(|at| beyond(self.offset, at)), true)
        };
        match lost {
            Some(lost) if lost == 0 || same_process || !here => Standing::Heir { lost, descends },
            _ if here && !same_process => Standing::Restarted,
            _ if self.past.contains(&info.replid) => Standing::Older,
            _ if info.replid2.is_some_and(|parent| self.past.contains(&parent)) => Standing::Sibling,
            _ => Standing::Unknown,
        }
    }
}
