//! The nouns: nodes, what identifies a process and a replication history, epochs.
//!
//! Nothing here decides; the rule is in `primary.rs`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::protocol::info::WireRole;

/// A node of the pair: its place in the configured list (0, or 0 and 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub u8);

impl NodeId {
    /// The place in the configured list.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Counts the views of this process; a higher one replaces every lower one. Never reused, never lowered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a node says of itself in INFO replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `role:master`
    Primary,
    /// `role:slave`
    Replica,
}

impl From<WireRole> for Role {
    fn from(role: WireRole) -> Self {
        if role.is_primary() { Self::Primary } else { Self::Replica }
    }
}
