//! The words of a switchover: how long each step may take, what the machine is told, what it orders, how it ended.
//!
//! Nouns only; the machine is in `mod.rs`.

use std::time::Duration;

use super::gates::GateResult;
use crate::topology::evidence::NodeReport;
use crate::topology::node::NodeId;

/// A process that takes part: its instance name on the pair's channel. The coordinator itself is one of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub String);

/// How long each step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// To look at the nodes.
    pub gates: Duration,
    /// Until everybody says that nothing is in flight.
    pub quiesce: Duration,
    /// Until the target says that it is primary: the watchdog.
    pub hand_over: Duration,
    /// Until a hand-over that the watchdog ended is taken back.
    pub take_back: Duration,
    /// Until the old primary follows the new one; clients go on meanwhile.
    pub rejoin: Duration,
    /// Only check the gates.
    pub dry_run: bool,
}

impl Settings {
    /// Shares out the longest time that clients may be held.
    pub fn within(total: Duration, dry_run: bool) -> Self {
        Self {
            gates: Duration::from_secs(2),
            quiesce: total / 5,
            hand_over: total / 2,
            take_back: total / 5,
            rejoin: Duration::from_secs(2),
            dry_run,
        }
    }

    /// The longest that clients are held.
    pub fn total(&self) -> Duration {
        self.quiesce + self.hand_over + self.take_back
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::within(Duration::from_secs(5), false)
    }
}

/// What the machine is told.
#[expect(clippy::large_enum_variant, reason = "moved once per probe, never stored")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Answer to [`Effect::CheckGates`].
    GatesChecked(Vec<GateResult>),
    /// This process has nothing in flight.
    QuiescedBy(PeerId),
    /// This process has gone; nobody waits for it.
    PeerLeft(PeerId),
    /// Answer to [`Effect::SendFailover`]: begun.
    FailoverAccepted,
    /// Answer to [`Effect::SendFailover`]: not begun; the server's words. Only for an error reply: a connection that
    /// broke says nothing about what the server has done, and is left to the watchdog.
    FailoverRefused(String),
    /// A node's report, each one that comes in.
    Reported(NodeId, NodeReport),
    /// A node is gone, or silent past its deadline.
    Lost(NodeId),
    /// Answer to [`Effect::SendAbort`].
    AbortAccepted,
    /// Answer to [`Effect::SendAbort`]; the server's words.
    AbortRefused(String),
    /// An operator, or the end of the coordinator's own hold, ends it; says why.
    Cancelled(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Look at the nodes, and answer [`Event::GatesChecked`].
    CheckGates,
    /// Every process of the pair holds from now on, until the release or this time (process clock) at the latest.
    AnnounceHold {
        /// When everybody lets go by himself.
        deadline: Duration,
    },
    /// `FAILOVER TO (the target as its primary shows it) TIMEOUT timeout` at the old primary.
    SendFailover {
        /// Whom to promote.
        to: NodeId,
        /// For the server's first phase.
        timeout: Duration,
    },
    /// `REPLCONF GETACK *` to this node, again and again for the next milliseconds.
    Nudge {
        /// The node that is to be promoted.
        replica: NodeId,
    },
    /// Ask the nodes as often as possible, or no longer.
    PollFast(bool),
    /// `FAILOVER ABORT` at the old primary.
    SendAbort,
    /// Everybody goes on.
    AnnounceRelease {
        /// At the new primary.
        switched: bool,
    },
    /// The report is ready.
    Done,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target is primary.
    Switched {
        /// The old primary follows it, in sync.
        rejoined: bool,
    },
    /// Begun, and ended without a switch.
    Aborted {
        /// The step that was under way.
        step: &'static str,
        /// In words for an operator.
        why: String,
    },
    /// A gate failed; nothing was begun.
    Refused {
        /// The failed gates, in words.
        why: String,
    },
    /// Every gate passed; nothing was begun, as asked.
    DryRun,
}

/// A step that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// When it ended, since the switchover began.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
}

/// The whole story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Every gate.
    pub gates: Vec<GateResult>,
    /// Every step that has ended, in order.
    pub steps: Vec<Step>,
    /// From the order to the end.
    pub took: Duration,
}
