//! The nouns of the admin API: what operators ask, and what they are told.
//!
//! `io::http` moves these to and from JSON, `control` answers them, `cli` shows them to people. Nothing here decides.
//! Every request carries the channel for its own answer; dropping that channel unanswered means "the process ended",
//! and the asker is told so. Fields ending in `_ms` are milliseconds (fractions where a change is quicker than one),
//! `_unix_ms` is calendar time. Readers ignore fields that they do not know, so that fields may be added.

pub mod access;
pub mod client;
pub mod events;
pub mod examination;
pub mod hooks;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::io::admin::events::Tail;
use crate::io::admin::examination::Look;
use crate::io::admin::hooks::HookAsked;
use crate::io::admin::status::{DrainStatus, Status, ViewStatus};

/// How many lines of progress a switchover may be ahead of its reader; the owner uses `try_send` and drops what does
/// not fit, except the report, so that a slow reader can never slow a switchover.
pub const PROGRESS_LINES: usize = 64;

/// How the admin server reaches the owner.
#[derive(Clone, Debug)]
pub struct AdminHandle {
    /// Requests for the owner (bounded; a full queue is answered "busy").
    pub requests: mpsc::Sender<AdminRequest>,
    /// The newest snapshot. The owner publishes on every change, and at least once a second.
    pub status: watch::Receiver<Arc<Status>>,
    /// The newest events.
    pub events: watch::Receiver<Tail>,
    /// To the one who looks at the nodes.
    pub looks: mpsc::Sender<Look>,
    /// To the one who runs hooks.
    pub hooks: mpsc::Sender<HookAsked>,
}

/// What an operator asks of the owner.
#[derive(Debug)]
pub enum AdminRequest {
    /// Make the other node primary.
    Switchover {
        /// What exactly.
        order: SwitchoverOrder,
        /// Gates and steps as they happen; the last message is always [`Progress::Report`].
        progress: mpsc::Sender<Progress>,
    },
    /// Leave: readiness goes false, sessions are closed at quiet moments. Answered at once; asking again while a drain
    /// is under way is answered the same way.
    Drain {
        /// Then the process ends; otherwise it stays until it is told to serve again.
        stop: bool,
        /// The drain as it begins.
        reply: oneshot::Sender<Result<DrainStatus, Refused>>,
    },
    /// Serve again after a drain that did not end the process. Answered at once; done when the status shows no drain.
    Undrain {
        /// The drain as it was.
        reply: oneshot::Sender<Result<DrainStatus, Refused>>,
    },
    /// End a doubt: follow this node although its lineage does not prove it.
    Adopt {
        /// The node's name.
        node: String,
        /// The view after it.
        reply: oneshot::Sender<Result<ViewStatus, Refused>>,
    },
}

/// Body of `POST /v1/switchover`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchoverOrder {
    /// The node to promote; without it, the one that is not primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The longest that the whole may take before it is aborted, in milliseconds; without it, the process' own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Only check the gates.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `POST /v1/drain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainOrder {
    /// The process ends when it is drained.
    #[serde(default)]
    pub stop: bool,
}

/// Body of `POST /v1/adopt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptOrder {
    /// The node's name.
    pub node: String,
}

/// A request that was not carried out; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    /// Why, in words for an operator.
    pub error: String,
}

impl Refused {
    /// With this reason.
    pub fn because(error: impl Into<String>) -> Self {
        Self { error: error.into() }
    }
}

/// One line of a switchover's progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Progress {
    /// A gate was checked.
    Gate(GateReport),
    /// A step was finished.
    Step(StepReport),
    /// The end; always the last line.
    Report(SwitchoverReport),
}

/// One condition that must hold before anything is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateReport {
    /// Short name, such as "replica in sync".
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// What was found, or what to do about it; may be empty.
    #[serde(default)]
    pub detail: String,
}

/// One step of a switchover.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Short name, such as "hold", "quiesce", "hand over".
    pub name: String,
    /// When it ended, since the switchover began.
    pub at_ms: f64,
    /// How long it took.
    pub took_ms: f64,
}

/// How a switchover ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The other node is primary and clients go on there.
    Switched,
    /// It was begun and taken back: clients go on at the old primary, nothing was lost.
    Aborted,
    /// A gate failed or another change was under way: nothing was begun.
    Refused,
    /// Every gate passed; nothing was begun, as asked.
    DryRun,
}

/// The whole story of a switchover; ends the stream of `POST /v1/switchover`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwitchoverReport {
    /// How it ended.
    pub outcome: Outcome,
    /// Primary before.
    pub from: Option<String>,
    /// The node to promote.
    pub to: Option<String>,
    /// For aborted and refused: at which step, and why.
    #[serde(default)]
    pub stopped: Option<Stopped>,
    /// Every gate, in order.
    pub gates: Vec<GateReport>,
    /// Every finished step, in order.
    pub steps: Vec<StepReport>,
    /// From the order to the release.
    pub took_ms: f64,
    /// The longest that a client of this process waited, where one did.
    #[serde(default)]
    pub longest_stall_ms: Option<f64>,
    /// Sessions of this process that were held with something to send.
    #[serde(default)]
    pub held: Option<u64>,
    /// The other processes of the pair that took part.
    #[serde(default)]
    pub peers: Vec<String>,
}

/// Where and why a switchover stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// The step that was under way.
    pub step: String,
    /// In words for an operator.
    pub why: String,
}

/// A time as the API writes it: milliseconds with fractions down to a microsecond.
pub fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// A time in whole milliseconds, saturating.
pub fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_one_flat_json_object_that_names_its_event() {
        let step = Progress::Step(StepReport { name: "hold".into(), at_ms: 1.25, took_ms: 0.5 });
        let line = serde_json::to_string(&step).unwrap();
        assert_eq!(line, r#"{"event":"step","name":"hold","at_ms":1.25,"took_ms":0.5}"#);
        assert_eq!(serde_json::from_str::<Progress>(&line).unwrap(), step);
    }

    #[test]
    fn a_misspelt_order_is_refused_rather_than_ignored() {
        assert!(serde_json::from_str::<SwitchoverOrder>(r#"{"dryrun":true}"#).is_err());
        assert_eq!(serde_json::from_str::<SwitchoverOrder>("{}").unwrap(), SwitchoverOrder::default());
    }

    #[test]
    fn milliseconds_keep_three_decimals() {
        assert_eq!(ms(Duration::from_nanos(2_503_400)), 2.503);
        assert_eq!(whole_ms(Duration::from_micros(2_900)), 2);
    }
}
