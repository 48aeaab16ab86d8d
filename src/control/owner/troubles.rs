//! The owner and what is wrong with a node: said once per change, in the log, as an event, as a metric and in the status.
//!
//! It decides nothing about who is primary. Invariant: one kind of trouble of one node is logged at most once in
//! [`QUIET`], however often it comes and goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Owner;
use crate::io::admin::events::What;
use crate::topology::{NoPrimary, NodeId, Reach, Trouble};

/// The same trouble of the same node is not logged again within this time.
const QUIET: Duration = Duration::from_secs(10);
/// Clients are answered when nothing has shown for this long which process answers with errors.
const UNPROVEN_FOR: Duration = Duration::from_millis(500);

/// What was told of one node.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Why its name does not resolve, while its last known address is used.
    name: Option<String>,
    /// The kind that was told last; `None`: all is well.
    kind: Option<&'static str>,
    /// When each kind was logged last.
    logged: BTreeMap<&'static str, Duration>,
}

impl Owner {
    /// A node was heard, or not: says what has changed.
    pub(super) fn tell_trouble(&mut self, node: NodeId, name: Option<String>, now: Duration) {
        if let Some(told) = self.told.get_mut(node.index()) {
            told.name = name;
        }
        let trouble = self.trouble(node);
        let kind = trouble.as_ref().map(Trouble::kind);
        let Some(told) = self.told.get_mut(node.index()).filter(|told| told.kind != kind) else { return };
        told.kind = kind;
        let quiet = kind.is_some_and(|kind| told.logged.get(kind).is_some_and(|at| *at + QUIET > now));
        if let (Some(kind), false) = (kind, quiet) {
            told.logged.insert(kind, now);
        }
        self.dirty = true;
        self.events.trouble(node, kind);
        let node = self.node_name(node);
        match trouble {
            _ if quiet => {}
            Some(trouble) => {
                let (reason, remedy) = (trouble.to_string(), trouble.remedy());
                tracing::warn!(node, reason, remedy, "the node gives no usable answer");
                self.enter(What::NodeTrouble { node, why: reason, remedy: remedy.to_owned() });
            }
            None => {
                tracing::info!(node, "the node answers as it should");
                self.enter(What::NodeWell { node });
            }
        }
    }

    /// What is wrong with a node now, if it is known.
    pub(super) fn trouble(&self, node: NodeId) -> Option<Trouble> {
        let state = self.topology.node(node)?;
        let loads = |report: &crate::topology::NodeReport| report.loading.is_some();
        let loading = state.reach == Reach::Answering && state.report.as_ref().is_some_and(loads);
        let name = || self.told.get(node.index())?.name.clone().map(Trouble::Name);
        state.trouble.clone().or_else(|| loading.then_some(Trouble::Loading)).or_else(name)
    }

    /// What is wrong with a node, for the status: the reason, and what to do.
    pub(super) fn trouble_in_words(&self, node: NodeId) -> Option<(String, String)> {
        let trouble = self.trouble(node)?;
        let loading = self.topology.node(node).and_then(|state| state.report.as_ref()?.loading);
        let reason = match (&trouble, loading) {
            (Trouble::Loading, Some(loading)) => {
                let left = loading.eta_seconds.map(|eta| format!(", about {eta} s left")).unwrap_or_default();
                format!("loading its data: {} %{left}", loading.percent)
            }
            _ => trouble.to_string(),
        };
        Some((reason, trouble.remedy().to_owned()))
    }

    /// What clients are answered at once, where waiting helps nobody: the primary's node answers with errors, and nothing
    /// shows which process that is.
    pub(super) fn refuses(&self, now: Duration) -> Option<Arc<str>> {
        let Err(NoPrimary::Unproven(node)) = self.topology.view().primary else { return None };
        let trouble = self.trouble(node).filter(|_| self.view_since + UNPROVEN_FOR <= now)?;
        Some(trouble.for_clients(&self.node_name(node)).into())
    }
}
