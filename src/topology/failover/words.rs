//! The words of a failover: what the machine orders, what comes back, what is said about it.
//!
//! Values only.

use std::fmt;
use std::time::Duration;

use super::super::node::NodeId;
use super::witness::Ask;
use crate::protocol::info::RunId;

/// Where a parked replica looks for its primary: nobody listens there.
pub const PARKED: (&str, u16) = ("127.0.0.1", 1);

/// What becomes of what an old primary has and the one in service lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rejoin {
    /// It is counted, and dropped when the old primary becomes a replica.
    #[default]
    Always,
    /// It is saved before.
    Save,
    /// It is left as it is, without traffic: an operator decides.
    Clean,
}

/// How this process takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Promote the node beside us when its primary is lost (mode `pair`). Otherwise somebody else promotes, and only
    /// what comes back is seen to.
    pub promotes: bool,
    /// Each node's address, as both nodes can reach it.
    pub nodes: [(String, u16); 2],
    /// The primary's port must have refused connections for this long, unless the process beside it agrees.
    pub confirm: Duration,
    /// A replica that was last in sync longer ago is not promoted.
    pub fresh_within: Duration,
    /// The same where only the remembered offset is known, after a restart of this process: bytes it may lack.
    pub max_lag_bytes: u64,
    /// What the fence of a primary needs beyond its `min-replicas-max-lag` until it has closed for certain.
    pub fence_slack: Duration,
    /// A second primary is made a replica when it has gone on claiming for this long.
    pub rejoin_after: Duration,
    /// What becomes of data that would be dropped.
    pub rejoin: Rejoin,
    /// An order that has not been answered for this long counts as not answered.
    pub errand_limit: Duration,
    /// A gap of this length in our own running suspends acting.
    pub pause: Duration,
    /// There is a witness, and a lease is so long.
    pub witness: Option<Duration>,
}

impl Settings {
    /// The usual times, for nodes whose probes have this deadline.
    pub fn usual(nodes: [(String, u16); 2], promotes: bool, rejoin: Rejoin, limit: Duration) -> Self {
        let millis = Duration::from_millis;
        Self {
            promotes,
            nodes,
            confirm: millis(250),
            fresh_within: Duration::from_secs(5),
            max_lag_bytes: 1024 * 1024,
            fence_slack: Duration::from_secs(4),
            rejoin_after: if promotes { millis(500) } else { Duration::ZERO },
            rejoin,
            errand_limit: limit * 2 + millis(100),
            pause: limit / 2,
            witness: None,
        }
    }
}

/// Something to be done at a node. Not to be tried twice by whoever does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Keep everything, follow nobody: `REPLICAOF` an address where nobody listens.
    Park,
    /// Follow the primary again.
    Unpark {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
    },
    /// Become a replica of this node.
    Demote {
        /// The other's host.
        host: String,
        /// The other's port.
        port: u16,
        /// Not if it has a single key.
        only_if_empty: bool,
    },
    /// Become primary, if it is still this process.
    Promote {
        /// The process that was judged.
        process: RunId,
        /// What must be so at the other node, immediately before.
        last_look: LastLook,
    },
    /// Read the settings by which a primary without its replica refuses writes.
    ReadFence,
    /// Save everything that it has, and set the file aside. Takes its time.
    Save,
    /// Have it refuse every write: `min-replicas-to-write` beyond any number of replicas.
    Shut,
    /// Set that back, if it is so.
    Open,
    /// Set `min-replicas-to-write` back to what it was before the promotion.
    Restore {
        /// The number.
        min_replicas: u64,
    },
}

impl Duty {
    /// In a word, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Park => "park",
            Self::Unpark { .. } => "unpark",
            Self::Demote { .. } => "demote",
            Self::Promote { .. } => "promote",
            Self::ReadFence => "read fence",
            Self::Save => "save",
            Self::Shut => "shut",
            Self::Open => "open",
            Self::Restore { .. } => "restore fence",
        }
    }
}

/// What is looked at once more at the old primary's address, immediately before a promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLook {
    /// Nothing: the proof does not depend on what happens there now.
    Needless,
    /// It still refuses connections.
    Refuses,
    /// This process still loads its data.
    Loads(RunId),
}

/// How a primary without its replica refuses writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// `min-replicas-to-write`; 0 is no fence.
    pub min_replicas: u64,
    /// `min-replicas-max-lag`; zero is no fence.
    pub max_lag: Duration,
}

impl Fence {
    /// Whether it ever closes.
    pub fn is_armed(self) -> bool {
        self.min_replicas > 0 && !self.max_lag.is_zero()
    }
}

/// What came of a duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was done.
    Plainly,
    /// Promoted; the number that [`Duty::Restore`] will need.
    Promoted {
        /// `min-replicas-to-write` before it was lifted.
        min_replicas: u64,
    },
    /// Everything was saved.
    Saved {
        /// The size of the file.
        bytes: u64,
    },
    /// The fence as it is set.
    Fence(Fence),
    /// Not done, since the world had changed meanwhile; says how.
    Declined(&'static str),
}

/// What another process of the pair sees of a node, when asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saw {
    /// It answered, after we had asked.
    Answers,
    /// It refuses connections.
    Refused,
}

/// What the machine wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Have this done; answer with `handle_done`.
    Do {
        /// Where.
        node: NodeId,
        /// What.
        duty: Duty,
    },
    /// Ask the other processes of the pair what they see of this node.
    Ask(NodeId),
    /// It has just come into sync: have it acknowledge. Redis streams nothing to it before its first acknowledgement,
    /// which by itself may take a second.
    Nudge(NodeId),
    /// Ask the witness; answer with `handle_answer`.
    Consult(Ask),
    /// Ask the process beside the other node for a lease; it answers with this number, to `handle_promise`.
    Plead(u64),
    /// Tell the process beside the other node that this process of ours has been saved, and may lose what it has.
    Saved(RunId),
    /// Log and count.
    Tell(Note),
}

/// What proves that nobody can write to the old primary any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Its port refuses connections, its replica lost it too, and nobody objects.
    Refused,
    /// The same, and the process beside it sees the same.
    Agreed,
    /// Another process stands in its place, and follows us.
    Replaced,
    /// Another process stands in its place, and still loads its data: it takes no writes.
    Loading,
    /// It is silent, and its own fence must have closed.
    Fenced,
    /// It is silent, and the witness gave us the pair: the process beside it is cut off, and does not serve it.
    Voted,
}

impl Proof {
    /// In a word, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Agreed => "agreed",
            Self::Replaced => "replaced",
            Self::Loading => "loading",
            Self::Fenced => "fenced",
            Self::Voted => "voted",
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "its port refuses connections and its replica has lost it",
            Self::Agreed => "its port refuses connections, and the process beside it sees the same",
            Self::Replaced => "another process stands in its place, and is a replica now",
            Self::Loading => "another process stands in its place, and still loads its data",
            Self::Fenced => "it is silent, and its own fence has closed",
            Self::Voted => "it is silent, and the witness has not heard the process beside it either",
        })
    }
}

/// Something that an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The primary seems lost.
    Suspected(NodeId),
    /// The primary answers again; nothing was changed.
    FalseAlarm(NodeId),
    /// Our node follows nobody for now.
    Parked(NodeId),
    /// Our node follows its primary again.
    Unparked(NodeId),
    /// Another process of the pair says that it answers.
    Objected(NodeId),
    /// Our node will not be promoted; says why.
    Unfit(NodeId, &'static str),
    /// The primary is silent, and nothing guarantees that it takes no writes: an operator is needed.
    Unproven(NodeId),
    /// Our node is cut off from the witness and from the other process, and refuses writes from now on.
    Shut(NodeId),
    /// Our node is promoted; what proved it.
    Promoting(NodeId, Proof),
    /// It is done, so long after the suspicion.
    Promoted(NodeId, Duration),
    /// A second primary is made a replica; bytes that it has and the primary lacks, if that can be known.
    Rejoining(NodeId, Option<u64>),
    /// A second primary is left as it is: it may hold data that the primary lacks.
    LeftAlone(NodeId),
    /// What it has is saved; bytes, if there was any.
    Saved(NodeId, Option<u64>),
    /// It is a replica in sync.
    Rejoined(NodeId),
    /// A duty came to nothing.
    Failed(NodeId, Duty, String),
}
