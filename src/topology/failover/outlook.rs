//! What this process would do if the primary were lost now, for people: who may promote, and why not.
//!
//! It decides nothing; it asks what decides. Invariant: "it would" is never said where a check of the machine says no.

use std::time::Duration;

use super::{Failover, PARKED, Scene, Suspicion};
use crate::topology::node::NodeId;

/// How a loss of the primary would go, or goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// This process would promote the node beside it.
    pub would_promote: bool,
    /// When, or why not; in words for an operator.
    pub why: String,
    /// The node beside it follows nobody, by our order.
    pub parked: bool,
    /// The fence of the node in service: replicas that it needs to take writes, and how old their last word may be.
    pub fence: Option<(u64, Duration)>,
}

/// How we stand with the witness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WitnessOutlook {
    /// When it was heard last.
    pub heard: Option<Duration>,
    /// It was heard lately.
    pub hears: bool,
    /// Who holds the pair by its last word.
    pub holder: Option<NodeId>,
    /// The term in which we last agreed with it.
    pub term: u64,
    /// Until when our node may be served; `None`: without a limit.
    pub lease_until: Option<Duration>,
}

impl Failover {
    /// How it would go now.
    pub fn outlook(&self, scene: &Scene<'_>) -> Outlook {
        let (would_promote, why) = match self.prospects(scene) {
            Ok(when) => (true, when),
            Err(why) => (false, why),
        };
        let fence = self.fence.filter(|(_, fence, _)| fence.is_armed());
        Outlook {
            would_promote,
            why: why.to_owned(),
            parked: scene.mine.current().is_some_and(|mine| {
                mine.replication.primary_link.as_ref().is_some_and(|link| (link.host.as_str(), link.port) == PARKED)
            }),
            fence: fence.map(|(_, fence, _)| (fence.min_replicas, fence.max_lag)),
        }
    }

    /// How we stand with the witness, if there is one.
    pub fn witness_outlook(&self) -> Option<WitnessOutlook> {
        let lease = self.lease.as_ref()?;
        let (holder, term) = lease.held_by();
        let (heard, hears) = (lease.heard(), lease.hears_witness(self.now));
        Some(WitnessOutlook { heard, hears, holder, term, lease_until: lease.until() })
    }

    fn prospects(&self, scene: &Scene<'_>) -> Result<&'static str, &'static str> {
        if !self.settings.promotes {
            return Err("Sentinel promotes");
        }
        if scene.view.primary == Ok(self.me) {
            return Err("the node beside this proxy is primary");
        }
        let Some(followed) = scene.followed.filter(|followed| followed.node == Some(self.other)) else {
            return Err("nobody is followed whom it could succeed");
        };
        let Some(mine) = scene.mine.current() else { return Err("the node beside this proxy does not answer") };
        let now = Suspicion {
            since: self.now,
            parked_at: None,
            asked: None,
            found_parked: false,
            told_unfit: false,
            told_unproven: false,
            told_objected: false,
            told_left: false,
        };
        if let Some(why) = self.unfit(followed, mine, self.suspicion.unwrap_or(now)) {
            return Err(why);
        }
        if !scene.calm {
            return Err("a switchover is under way");
        }
        if self.is_blind() {
            return Err("this proxy has just begun to look, or was paused");
        }
        let heard = self.lease.as_ref().is_some_and(|lease| lease.hears_witness(self.now));
        Ok(if heard {
            "when the primary is dead, or silent for longer than its lease"
        } else if self.armed(followed.run_id).is_some() {
            "when the primary is dead, or silent until its fence must have closed"
        } else {
            "when the primary is dead; silence alone proves nothing without a witness or a fence"
        })
    }
}
