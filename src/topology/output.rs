//! What the rule tells the shell to publish, keep, say or do.
//!
//! Values only; the shell logs and counts notices, and decides nothing by them.

use std::time::Duration;

use super::memory::Memory;
use super::node::NodeId;
use super::view::{Doubt, NoPrimary, View};

/// An effect, in the order in which it must be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Publish.
    View(View),
    /// Keep across a restart. Comes before the view that depends on it.
    Remember(Memory),
    /// Log and count.
    Notice(Notice),
    /// Ask every node now instead of at the next interval.
    ProbeNow,
    /// The primary waits for this replica's acknowledgement (`FAILOVER`, by whomever): send it `REPLCONF GETACK *`.
    Nudge(NodeId),
}

/// Something that an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A primary was named.
    Changed {
        /// Who was primary before, in this process' lifetime or its memory.
        from: Option<NodeId>,
        /// Who is now; may be the same node again.
        to: NodeId,
        /// The least number of bytes of the replication stream that the new primary lacks; 0 if nothing that was
        /// seen is missing, `None` if it cannot be known.
        lost_bytes: Option<u64>,
        /// How long there was no primary.
        took: Duration,
        /// The old one was lost, not demoted.
        unplanned: bool,
    },
    /// There is no primary from now on.
    Held {
        /// Who was.
        from: NodeId,
        /// Why no longer.
        reason: NoPrimary,
    },
    /// Someone claims to be primary, and nothing proves it: an operator is needed.
    Doubt(Doubt),
    /// The doubt is over.
    DoubtEnded,
    /// Another node than the primary in service claims to be primary too. It gets no traffic.
    SecondPrimary {
        /// Which.
        node: NodeId,
        /// Bytes of the replication stream that it has and the primary lacks, if that can be known.
        split_bytes: Option<u64>,
    },
    /// The only node there is came back without the followed history, and is followed nevertheless.
    FollowedAnyway(NodeId),
    /// This process did not run for so long; the deadlines of the nodes start anew.
    Slept(Duration),
}
