//! The process beside a node while there is a primary in service: what comes back beside it becomes a replica.
//!
//! A second primary gets no traffic from the moment it is seen; that is the rule's doing. Here it is made to follow the one
//! in service, after it has been counted what it has that the other lacks, as far as that can be known.

use super::{Duty, Effect, Failover, Note, Scene, Second};
use crate::topology::evidence::{NodeReport, NodeState};
use crate::topology::lineage::{Kinship, kinship};
use crate::topology::node::NodeId;

impl Failover {
    /// One look while our node is in service.
    pub(super) fn guard(&mut self, scene: &Scene<'_>) {
        self.suspicion = None;
        self.in_sync = None;
        let Some(mine) = scene.mine.claim() else { return };
        self.rejoin(scene, (self.other, scene.other), (self.me, mine), 1);
        let follower = scene.other.current().filter(|report| report.follows(mine.replication.replid));
        let follower = follower.map(NodeReport::run_id);
        if follower.is_some() && follower != self.follower {
            self.effects.push_back(Effect::Nudge(self.other));
        }
        self.follower = follower;
        if follower.is_none() || self.errand.is_some() {
            return;
        }
        if self.rejoining.take().is_some() {
            self.tell(Note::Rejoined(self.other));
        }
        // A replica counts for the fence when it has acknowledged: until then, every write would be refused.
        let counts = mine.replication.replicas.iter().any(|replica| replica.online && replica.lag <= 1);
        if self.retry_at <= self.now
            && counts
            && let Some(min_replicas) = self.restore.take()
        {
            self.order(self.me, Duty::Restore { min_replicas });
        }
    }

    /// One look while the other node is in service.
    pub(super) fn attend(&mut self, scene: &Scene<'_>) {
        self.restore = None;
        if self.suspicion.take().is_some() {
            self.tell(Note::FalseAlarm(self.other));
        }
        let (Some(mine), Some(followed)) = (scene.mine.current(), scene.followed) else { return };
        if mine.follows(followed.id) {
            // As old as what it said, not as the moment in which we look: we may not have run in between.
            self.in_sync = Some((mine.asked_at, mine.replication.offset));
            if self.rejoining.take().is_some() {
                self.tell(Note::Rejoined(self.me));
            }
        }
        if self.settings.promotes {
            self.unpark(mine);
        }
        // The process beside the node in service comes first.
        if let (None, Some(primary)) = (&self.errand, scene.other.claim()) {
            self.rejoin(scene, (self.me, scene.mine), (self.other, primary), 4);
        }
    }

    /// Makes a second primary a replica once it has gone on claiming for `patience` times the usual.
    fn rejoin(&mut self, scene: &Scene<'_>, second: (NodeId, &NodeState), first: (NodeId, &NodeReport), patience: u32) {
        let Some(claim) = second.1.claim() else {
            self.second = None;
            return;
        };
        let process = claim.run_id();
        let known = self.second.filter(|known| known.node == second.0 && known.process == process);
        let known = known.unwrap_or(Second { node: second.0, process, since: self.now, left_alone: false });
        self.second = Some(known);
        let due = known.since + self.settings.rejoin_after * patience;
        // What it says must be newer than the decision for the other one.
        let fresh = claim.asked_at >= known.since || self.settings.rejoin_after.is_zero();
        if known.left_alone || due > self.now || !fresh || !scene.calm || self.is_blind() || self.retry_at > self.now {
            return;
        }
        let split = match kinship(claim, first.1) {
            Kinship::SecondDescends { beyond } => Some(beyond),
            _ => None,
        };
        let clean = split == Some(0);
        let only_if_empty = !clean && !self.settings.rejoin_dirty;
        if only_if_empty && (split.is_some() || self.holds_data == Some(process)) {
            self.second = Some(Second { left_alone: true, ..known });
            return self.tell(Note::LeftAlone(second.0));
        }
        let (host, port) = self.address(first.0);
        self.tell(Note::Rejoining(second.0, split));
        self.order(second.0, Duty::Demote { host, port, only_if_empty });
    }
}
