//! What everyone else may know: who is primary now, in which epoch, or why nobody is.
//!
//! A `View` names at most one primary by construction.

use super::node::{Epoch, NodeId};

/// One published answer to "who is primary".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Grows whenever `primary` changes to a node (also back to the same node after it was given up).
    pub epoch: Epoch,
    /// Whom to send to, or why to nobody.
    pub primary: Result<NodeId, NoPrimary>,
    /// Connections that were opened under this epoch or an older one are cut at once and what they still say is never
    /// delivered: their node was lost (silent, gone, or a second primary). A node that merely became a replica is
    /// not given up: it still answers what it was asked.
    pub given_up: Epoch,
}

/// Why there is no primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPrimary {
    /// Nothing has been heard yet.
    Starting,
    /// The primary said that it is a replica now; a successor has not yet said that it is primary.
    Demoted,
    /// The primary is gone (connection refused, end of file) or silent past its deadline.
    Lost,
    /// The primary's place is taken by a process that has just begun and loads its data.
    Loading(NodeId),
    /// Something answers at this node with errors, and nothing shows whether it is the primary.
    Unproven(NodeId),
    /// Someone claims it, but its lineage does not fit what was followed; says what was seen.
    Doubt(Doubt),
}

/// What made the rule refuse to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The followed node came back as another process without the followed history (restarted empty, or from an old
    /// snapshot).
    Restarted(NodeId),
    /// Both left the same history; neither descends from the other.
    Siblings,
    /// An earlier primary: what was followed descends from it, and has what was written since.
    Older(NodeId),
    /// A primary whose history is not known to us.
    Unknown(NodeId),
    /// Two claim it, and nothing decides between them.
    TwoPrimaries,
}
