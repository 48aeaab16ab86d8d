//! The hooks of a node's agent: the nouns of `POST /v1/hook` and `GET /v1/hook`.
//!
//! A hook is asked for by name and id, never by its command. Asking again under the same id begins nothing again.

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::io::admin::Refused;

/// Body of `POST /v1/hook`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookOrder {
    /// Which: `patch`, `roll-back`, `reboot`, `crash`, `before-drain` or `after-ready`.
    pub hook: String,
    /// It is begun at most once under this id.
    pub id: String,
    /// It is killed after this time.
    pub deadline_ms: u64,
    /// For `{group}` in the command.
    pub group: String,
    /// For `{shard}`.
    pub shard: String,
    /// For `{node}`.
    pub node: String,
    /// For `{blip}`.
    #[serde(default)]
    pub blip_ms: u64,
}

/// What a hook has come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    /// In a closed set.
    pub state: HookState,
    /// For one that ended badly: how, with its last words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What a hook has come to, in a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookState {
    /// It runs.
    Running,
    /// It ended with exit code 0.
    Well,
    /// Otherwise, or it could not be started.
    Badly,
    /// The machine was started again while it ran: for a reboot, that is its end.
    Rebooted,
    /// It was begun, and nobody knows how it ended.
    Unknown,
    /// It was never begun.
    NeverStarted,
}

/// What is asked of the one who runs hooks, with the channel for its answer.
#[derive(Debug)]
pub enum HookAsked {
    /// Begin it, unless it was begun before.
    Begin(HookOrder, oneshot::Sender<Result<HookStatus, Refused>>),
    /// Say what this id has come to.
    Look(String, oneshot::Sender<Result<HookStatus, Refused>>),
}
