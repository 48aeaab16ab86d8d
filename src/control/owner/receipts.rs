//! The owner and `acknowledge = "replicated"`: is there a replica that can confirm what is written?
//!
//! The primary says so itself: a replica that is online and has acknowledged within the last seconds. One that is away
//! for less than `acknowledge-time` is waited for by the writes themselves; only then do the workers hear that it is
//! missing. It decides nothing about the writes: the sessions do, by policy.

use std::time::Duration;

use super::Owner;
use crate::io::admin::status::Acknowledge;
use crate::topology::{NodeId, Reach};

/// A replica acknowledges once a second; one that has not for longer than this (seconds) may be frozen.
const LATE: u64 = 2;

/// What was last seen of the primary's replicas.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// Since when none of them could confirm anything.
    missing_since: Option<Duration>,
    told: bool,
}

impl Owner {
    /// What a write's reply promises now, for operators.
    pub(super) fn acknowledge(&self) -> Option<Acknowledge> {
        let durability = &self.config.durability;
        durability.replicated.then_some(match (self.receipts.told, durability.strict) {
            (false, _) => Acknowledge::Replicated,
            (true, false) => Acknowledge::Alone,
            (true, true) => Acknowledge::Refused,
        })
    }

    /// A replica can confirm writes, or it is not asked to.
    pub(super) fn replica_there(&mut self, now: Duration) -> bool {
        if !self.config.durability.replicated {
            return true;
        }
        let primary = self.topology.view().primary.as_ref().ok();
        let report = primary.and_then(|node| self.topology.node(*node)).and_then(|state| state.report.as_ref());
        let Some(report) = report else { return !self.receipts.told };
        if report.replication.replicas.iter().any(|replica| replica.online && replica.lag <= LATE) {
            self.receipts.missing_since = None;
        } else {
            self.receipts.missing_since.get_or_insert(now);
        }
        // One that was only cut off is back in a moment; one that does not answer us, either, is not waited for.
        let alive = (0_u8..).take(self.config.nodes.len()).map(NodeId).filter(|node| primary != Some(node));
        let alive = alive.filter_map(|node| self.topology.node(node)).any(|state| state.reach == Reach::Answering);
        let patience = if alive { self.config.durability.patience } else { Duration::ZERO };
        let missing = self.receipts.missing_since.is_some_and(|since| since + patience <= now);
        if std::mem::replace(&mut self.receipts.told, missing) != missing {
            self.dirty = true;
            let writes = if self.config.durability.strict { "refused" } else { "answered without one" };
            if missing {
                tracing::warn!("no replica is there to confirm writes: they are {writes}");
            } else {
                tracing::info!("a replica is there again: writes are answered once it has them");
            }
        }
        !missing
    }
}
