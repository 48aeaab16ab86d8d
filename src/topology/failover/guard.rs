//! The process beside a node while there is a primary in service: what comes back beside it becomes a replica.
//!
//! A second primary gets no traffic from the moment it is seen; that is the rule's doing. Here it is made to follow the one
//! in service, after it has been counted what it has that the other lacks, as far as that can be known.

use super::{Duty, Effect, Failover, Note, Rejoin, SAY_SAVED_EVERY, Scene, Second};
use crate::protocol::info::RunId;
use crate::topology::evidence::{NodeReport, NodeState};
use crate::topology::lineage::{Kinship, kinship};
use crate::topology::node::{NodeId, Role};
use crate::topology::view::NoPrimary;
use std::time::Duration;

impl Failover {
    /// One look while our node is in service.
    pub(super) fn guard(&mut self, scene: &Scene<'_>) {
        self.suspicion = None;
        self.in_sync = None;
        self.shut_or_open(!self.may_serve());
        let Some(mine) = scene.mine.claim() else { return };
        if self.errand.is_some() {
            return;
        }
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
        self.shut_or_open(mine.role() == Role::Primary);
        // The process beside the node in service comes first.
        if let (None, Some(primary)) = (&self.errand, scene.other.claim()) {
            self.rejoin(scene, (self.me, scene.mine), (self.other, primary), 4);
        }
    }

    /// The data of this process must not be dropped.
    pub(super) fn keeps_data_of(&self, process: RunId) -> bool {
        match self.settings.rejoin {
            Rejoin::Always => false,
            Rejoin::Save => self.saved != Some(process),
            Rejoin::Clean => true,
        }
    }

    /// Our node has come back as a primary that may not be believed, and nobody is in service: whoever decides about it may
    /// want to drop what it has.
    pub(super) fn returned(&mut self, scene: &Scene<'_>) {
        let Some(claim) = scene.mine.claim().filter(|_| matches!(scene.view.primary, Err(NoPrimary::Doubt(_)))) else {
            return;
        };
        if self.settings.rejoin == Rejoin::Save && !self.is_blind() {
            self.save(claim.run_id());
        }
    }

    /// Saves what this process of our node has, or says that it is saved.
    fn save(&mut self, process: RunId) {
        if self.saved != Some(process) && self.errand.is_none() && self.save_at <= self.now {
            self.saving = Some(process);
            self.order(self.me, Duty::Save);
        }
    }

    /// Repeats, as long as it matters, that our node has been saved.
    pub(super) fn say_saved(&mut self, scene: &Scene<'_>) {
        let Some(process) = scene.mine.claim().map(NodeReport::run_id).filter(|process| self.saved == Some(*process))
        else {
            return;
        };
        if scene.view.primary != Ok(self.me) && self.said_saved + SAY_SAVED_EVERY <= self.now {
            self.said_saved = self.now;
            self.effects.push_back(Effect::Saved(process));
        }
    }

    /// The process beside the other node has saved what this process of it has.
    pub fn handle_saved(&mut self, process: RunId, now: Duration) {
        self.wake(now);
        self.saved = Some(process);
        if let Some(second) = self.second.as_mut().filter(|second| second.process == process) {
            second.left_alone = false;
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
        let only_if_empty = split != Some(0) && self.keeps_data_of(process);
        if only_if_empty && self.settings.rejoin == Rejoin::Save && second.0 == self.me {
            return self.save(process);
        }
        if only_if_empty && (split.is_some() || self.holds_data == Some(process)) {
            self.second = Some(Second { left_alone: true, ..known });
            return self.tell(Note::LeftAlone(second.0));
        }
        let (host, port) = self.address(first.0);
        self.tell(Note::Rejoining(second.0, split));
        self.demoting = Some(process);
        self.order(second.0, Duty::Demote { host, port, only_if_empty });
    }
}
