//! What all connections together saw in one phase.
//!
//! Plain counts that the driver's one thread keeps; nothing here judges whether a count is a broken promise
//! (`report.rs` does).

use std::collections::BTreeMap;

use serde::Serialize;

use super::ledger::Findings;
use super::stateful;

/// Counts of one phase.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    /// Replies received.
    pub(super) commands: u64,
    /// Of these, replies to writes.
    pub(super) writes: u64,
    /// Error replies by their first word; `OUTCOMEUNKNOWN` is counted in `unknown` instead.
    pub(super) errors: BTreeMap<String, u64>,
    /// Connections that ended without our doing.
    pub(super) closed: u64,
    /// Attempts to connect again that failed.
    pub(super) refused_connections: u64,
    /// `-OUTCOMEUNKNOWN` replies.
    pub(super) unknown: u64,
    /// Commands that never got a reply.
    pub(super) unanswered: u64,
    /// Reads that did not see the connection's own acknowledged write.
    pub(super) stale: u64,
    /// Replies that belong to another command.
    pub(super) misplaced: u64,
    /// Acknowledged writes that are gone.
    pub(super) lost: u64,
    /// Writes that ran twice, or ran although they were refused.
    pub(super) doubled: u64,
    /// List elements in another order than sent.
    pub(super) reordered: u64,
    /// Subscribers, workers, transactions; their errors and closed connections are among the others'.
    pub(super) stateful: stateful::Counts,
}

impl Tally {
    /// An error reply, without the dash.
    pub(super) fn error(&mut self, text: &[u8]) {
        let word = text.split(|&b| b == b' ').next().unwrap_or_default();
        let word = String::from_utf8_lossy(word.get(..word.len().min(32)).unwrap_or_default()).into_owned();
        *self.errors.entry(word).or_default() += 1;
    }

    /// What a check of data showed.
    pub(super) fn found(&mut self, findings: Findings) {
        self.lost += findings.lost;
        self.doubled += findings.doubled;
        self.reordered += findings.reordered;
    }

    /// Replies and messages of all clients.
    pub(super) fn answered(&self) -> u64 {
        self.commands + self.stateful.commands
    }

    /// Error replies of every kind.
    pub(super) fn errors(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Anything that shows a broken order: lists, replies, reads of one's own writes.
    pub(super) fn order_broken(&self) -> u64 {
        self.reordered + self.misplaced + self.stale
    }
}
