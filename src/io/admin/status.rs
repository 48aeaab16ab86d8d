//! Body of `GET /v1/status`: what a process knows about itself and its pair.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a write's reply promises now, with `acknowledge` = `replicated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acknowledge {
    /// A replica has it.
    Replicated,
    /// There is no replica: the primary has it, and nobody else.
    Alone,
    /// There is no replica: writes are refused.
    Refused,
}

/// Body of `GET /v1/status`: all that the process knows about itself and the pair.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the process.
    pub version: String,
    /// Distinguishes this process from every other one of the pair, restarts included.
    pub instance: String,
    /// The node that it runs beside, where configured.
    pub node: Option<String>,
    /// When this was written.
    pub at_unix_ms: u64,
    /// Since the process began.
    pub uptime_ms: u64,
    /// The nodes, in configured order.
    pub nodes: Vec<NodeStatus>,
    /// Who is primary.
    pub view: ViewStatus,
    /// What a write's reply promises, where that is more than that the primary has executed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledge: Option<Acknowledge>,
    /// The hold in force, if any.
    pub hold: Option<HoldStatus>,
    /// Client connections.
    pub connections: ConnectionsStatus,
    /// What clients of this process have felt since it began.
    #[serde(default)]
    pub felt: FeltStatus,
    /// Other processes of the pair that were heard on its channel.
    pub peers: Vec<PeerStatus>,
    /// How far the channel is trusted; `None`: by an older process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelStatus>,
    /// The newest changes, newest first (at most [`Status::CHANGES`]).
    pub last_changes: Vec<ChangeReport>,
    /// The drain under way, if any.
    pub drain: Option<DrainStatus>,
    /// What happens here when the primary is lost; `None` where nobody is promoted by us, and nothing is fenced.
    #[serde(default)]
    pub failover: Option<FailoverStatus>,
}

impl Status {
    /// Length of the ring of changes.
    pub const CHANGES: usize = 16;

    /// Whether new clients should be sent here; the error says why not. A change under way does not make a process
    /// unready as long as it can hold: a load balancer that moved its clients then would do just the harm that the
    /// hold prevents.
    pub fn ready(&self) -> Result<(), String> {
        if let Some(drain) = &self.drain {
            return Err(if drain.done && drain.open == 0 {
                "drained: `changeover undrain` ends that".to_owned()
            } else {
                format!("draining: {} connections left", drain.open)
            });
        }
        let why = self.view.reason.as_deref().unwrap_or("no reason given");
        match self.view.state {
            ViewState::Serving => Ok(()),
            ViewState::Demoted | ViewState::Lost if self.hold.as_ref().is_some_and(|hold| hold.left_ms > 0) => Ok(()),
            ViewState::Starting => Err(format!("starting: {why}")),
            ViewState::Demoted | ViewState::Lost => Err(format!("no primary: {why}")),
            ViewState::Doubt => Err(format!("doubt about who is primary: {why}")),
        }
    }
}

/// How far what is said on the pair's channel is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelStatus {
    /// Messages are authenticated with a secret; otherwise they can at most hold clients for a while.
    pub authenticated: bool,
    /// Messages that were not believed since the process began, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u64>,
    /// The proxies' names for the nodes contradict each other; in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<String>,
}

/// What is known of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// As configured.
    pub name: String,
    /// `host:port` as configured.
    pub addr: String,
    /// What it says of itself; `None` when it was never heard.
    pub role: Option<NodeRole>,
    /// Whether it answers probes.
    pub link: NodeLink,
    /// More about `link`: "connection refused", "silent for 1.2 s", "login refused (WRONGPASS)"; empty when all is well.
    #[serde(default)]
    pub detail: String,
    /// What to do about it, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// "Redis" or "Valkey".
    #[serde(default)]
    pub server: Option<String>,
    /// Version of the server: its own.
    pub redis_version: Option<String>,
    /// The process.
    pub run_id: Option<String>,
    /// The history that it writes or follows.
    pub replid: Option<String>,
    /// The history that it continued, after a promotion.
    #[serde(default)]
    pub replid2: Option<String>,
    /// How far it is in that history, in bytes.
    pub offset: Option<u64>,
    /// A replica: bytes behind the primary. `None` for a primary or when unknown.
    pub lag_bytes: Option<u64>,
    /// A replica: whether its link to the primary is up.
    #[serde(default)]
    pub primary_link_up: Option<bool>,
    /// Since its last answer; `None` when it never answered.
    pub last_heard_ms: Option<u64>,
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// It takes writes.
    Primary,
    /// It follows another.
    Replica,
}

/// Whether a node answers probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeLink {
    /// Not heard yet.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It accepts but does not answer in time.
    Silent,
    /// No connection.
    Down,
    /// It answers with errors.
    Error,
}

/// Who is primary, as every worker is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewStatus {
    /// Only grows.
    pub epoch: u64,
    /// The node, if there is one.
    pub primary: Option<String>,
    /// The same in a closed set.
    pub state: ViewState,
    /// Why there is no primary, in words for an operator.
    pub reason: Option<String>,
    /// How long this view has stood.
    pub since_ms: u64,
}

/// Whether there is a primary; if not, which kind of not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViewState {
    /// Nothing was heard yet.
    #[default]
    Starting,
    /// There is one.
    Serving,
    /// It said that it is a replica now; a successor has not spoken yet.
    Demoted,
    /// It is gone or silent.
    Lost,
    /// Someone claims it whose lineage does not fit; `changeover adopt NODE` ends this.
    Doubt,
}

/// A hold in force: requests wait and are sent later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldStatus {
    /// "switchover ordered by INSTANCE", "no primary".
    pub why: String,
    /// How long it has lasted.
    pub since_ms: u64,
    /// When it ends by itself, from now; 0 when its limit has passed (requests are answered with an error).
    pub left_ms: u64,
    /// Sessions with something to send that wait.
    pub sessions: u64,
}

/// Client connections of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionsStatus {
    /// Open now.
    pub open: u64,
    /// Accepted since the process began.
    pub accepted: u64,
    /// Commands answered since the process began.
    pub commands: u64,
    /// The most at a time: `max-connections`, or what the limit of open files leaves.
    #[serde(default)]
    pub most: u64,
    /// The limit of open files.
    #[serde(default)]
    pub open_files: u64,
}

/// What clients have felt since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeltStatus {
    /// Times that a session with something to send was held.
    pub waits: u64,
    /// Error replies that this process gave by itself.
    pub errors: u64,
    /// Connections that this process closed or cut in a drain.
    pub closed_by_us: u64,
    /// Connections that clients closed.
    pub closed_by_clients: u64,
}

/// Another process of the pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its instance.
    pub instance: String,
    /// The node that it runs beside.
    pub node: Option<String>,
    /// Since it was last heard.
    pub age_ms: u64,
    /// Its clock less ours, in milliseconds; `None` without a secret on the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i64>,
}

/// What kind of change it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A switchover that a process of the pair ran.
    Announced,
    /// The roles were switched behind our back.
    Observed,
    /// The primary was lost.
    Unplanned,
    /// An operator ended a doubt.
    Adopted,
}

impl ChangeKind {
    /// Every kind, for the metrics.
    pub const ALL: [Self; 4] = [Self::Announced, Self::Observed, Self::Unplanned, Self::Adopted];

    /// The word in JSON, in metrics and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Observed => "observed",
            Self::Unplanned => "unplanned",
            Self::Adopted => "adopted",
        }
    }
}

/// One change of primary, as this process and its clients lived it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeReport {
    /// Which kind.
    pub kind: ChangeKind,
    /// Primary before.
    pub from: Option<String>,
    /// Primary after.
    pub to: String,
    /// The epoch that began with it.
    pub epoch: u64,
    /// When the new primary was published.
    pub at_unix_ms: u64,
    /// How long there was none, or requests were held for it.
    pub took_ms: f64,
    /// The longest that a session was held; `None` until the workers have said so.
    pub longest_stall_ms: Option<f64>,
    /// Sessions that were held with something to send.
    pub held: u64,
    /// Bytes of replicated history that the new primary lacked; `None` when it cannot be known.
    pub lost_bytes: Option<u64>,
}

/// What happens when the primary is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverStatus {
    /// "pair" or "sentinel".
    pub mode: String,
    /// What is under way: "watching", "suspecting", "parked", "cut off", …
    pub state: String,
    /// Whether this process would promote the node beside it.
    pub would_promote: bool,
    /// When, or why not.
    pub why: String,
    /// The node beside it follows nobody, by our order.
    pub parked: bool,
    /// The node in service is not served here: the other may have been promoted unseen, or the lease has ended.
    pub cut_off: bool,
    /// `min-replicas-to-write` of the node in service, where that and `min-replicas-max-lag` are set.
    pub fence_replicas: Option<u64>,
    /// Its `min-replicas-max-lag`.
    pub fence_max_lag_ms: Option<u64>,
    /// The witness, where one is configured.
    pub witness: Option<WitnessStatus>,
}

/// How this process stands with the witness.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessStatus {
    /// It answers.
    pub heard: bool,
    /// Since it was last heard.
    pub age_ms: Option<u64>,
    /// Which node's proxy holds the pair, by its last word.
    pub holder: Option<String>,
    /// The term in which we last agreed with it.
    pub term: u64,
    /// How long the node beside us may still be served; `None`: it needs no lease.
    pub lease_left_ms: Option<u64>,
}

/// A drain under way, or done while the process stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainStatus {
    /// How long it has lasted.
    pub since_ms: u64,
    /// When what is left is cut, from now.
    pub left_ms: u64,
    /// Connections still open.
    pub open: u64,
    /// Closed at a quiet moment.
    pub closed: u64,
    /// Cut at the deadline.
    pub cut: u64,
    /// Left by themselves after they were told to.
    #[serde(default)]
    pub moved: u64,
    /// The process ends with it.
    #[serde(default)]
    pub stops: bool,
    /// Nobody is left.
    #[serde(default)]
    pub done: bool,
    /// Who was cut, once `done`.
    #[serde(default)]
    pub cuts: Vec<DrainCut>,
}

/// Connections that were cut at a drain's deadline, for the same reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainCut {
    /// What was unfinished: "transaction", "blocked", "raw", "speaking", "owed", "unread".
    pub why: String,
    /// What the client's library calls itself, or "unknown".
    pub library: String,
    /// How many.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_under_way_leaves_the_process_ready_as_long_as_it_can_hold() {
        let mut status = Status::default();
        assert!(status.ready().unwrap_err().contains("starting"));
        status.view.state = ViewState::Serving;
        assert_eq!(status.ready(), Ok(()));
        status.view.state = ViewState::Demoted;
        status.view.reason = Some("a became a replica".into());
        assert_eq!(status.ready(), Err("no primary: a became a replica".into()));
        status.hold = Some(HoldStatus { why: "no primary".into(), since_ms: 3, left_ms: 14_997, sessions: 1 });
        assert_eq!(status.ready(), Ok(()));
        status.view.state = ViewState::Doubt;
        assert!(status.ready().unwrap_err().contains("doubt"));
        status.view.state = ViewState::Serving;
        status.drain = Some(DrainStatus { open: 7, ..DrainStatus::default() });
        assert_eq!(status.ready(), Err("draining: 7 connections left".into()));
    }
}
