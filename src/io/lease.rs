//! How long replies of the node beside us may be delivered: set by the owner, looked at by every worker.
//!
//! The owner cannot be the one that stops a worker: after the whole machine was frozen, a worker may find the replies of a
//! primary that woke with it before the owner has run at all. So the worker itself looks, after it has read and before it
//! delivers. Invariant: without a limit nothing is ever held up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::clock;
use crate::topology::node::NodeId;

/// No limit.
const ENDLESS: u64 = u64::MAX;

/// The limit, shared with the owner.
#[derive(Clone, Debug)]
pub struct LeaseGate {
    node: Option<NodeId>,
    until: Arc<AtomicU64>,
}

impl PartialEq for LeaseGate {
    /// It is the same gate, wherever it stands.
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node && Arc::ptr_eq(&self.until, &other.until)
    }
}

impl Eq for LeaseGate {}

impl LeaseGate {
    /// For the node beside us, if there is one.
    pub fn new(node: Option<NodeId>) -> Self {
        Self { node, until: Arc::new(AtomicU64::new(ENDLESS)) }
    }

    /// The owner says until when (process clock); `None`: without a limit.
    pub fn set(&self, until: Option<Duration>) {
        let millis = until.map_or(ENDLESS, |until| u64::try_from(until.as_millis()).unwrap_or(ENDLESS));
        self.until.store(millis, Ordering::Release);
    }

    /// Whether what this node has said may be delivered now.
    pub fn allows(&self, node: NodeId) -> bool {
        if Some(node) != self.node {
            return true;
        }
        let until = self.until.load(Ordering::Acquire);
        until == ENDLESS || clock::now().as_millis() < u128::from(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_node_beside_us_has_a_limit_and_only_when_one_is_set() {
        let gate = LeaseGate::new(Some(NodeId(0)));
        assert!(gate.allows(NodeId(0)));
        gate.set(Some(Duration::ZERO));
        assert!(!gate.allows(NodeId(0)) && gate.allows(NodeId(1)));
        gate.clone().set(Some(clock::now() + Duration::from_secs(60)));
        assert!(gate.allows(NodeId(0)));
        gate.set(None);
        assert!(gate.allows(NodeId(0)));
        assert!(LeaseGate::new(None).allows(NodeId(0)));
    }
}
