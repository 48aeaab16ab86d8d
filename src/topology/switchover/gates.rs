//! What must hold before a planned switchover changes anything.
//!
//! Pure functions over reports and a few settings; each gate says what was found and what to do about it. A gate that
//! cannot be looked at (no permission for CONFIG) passes and says so: the switchover itself aborts safely.

use super::super::evidence::NodeReport;
use super::super::node::Role;
use crate::protocol::info::{FailoverState, ReplicaLine};

/// The first version with `FAILOVER`.
const FAILOVER_SINCE: (u32, u32) = (6, 2);

/// What the gates ask of a node. Settings are `None` when the node does not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// What it says of itself.
    pub report: NodeReport,
    /// `replica-read-only`
    pub replica_read_only: Option<bool>,
    /// `requirepass` is set: whoever replicates from it needs a password.
    pub requires_password: Option<bool>,
    /// It has a password to show when it replicates.
    pub has_primary_auth: Option<bool>,
}

/// The node to be promoted, as configured, and how far behind it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host as configured.
    pub host: String,
    /// Port as configured.
    pub port: u16,
    /// Bytes of the stream that it may lack when the switchover begins.
    pub max_lag_bytes: u64,
}

/// One gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateResult {
    /// Its name.
    pub name: &'static str,
    /// Whether it holds.
    pub passed: bool,
    /// What was found, or what to do about it; may be empty.
    pub detail: String,
}

/// Checks every gate. `Err` says why a node could not be asked.
pub fn check(from: Result<&NodeFacts, &str>, to: Result<&NodeFacts, &str>, target: &Target) -> Vec<GateResult> {
    let answers = |name, node: Result<&NodeFacts, &str>| {
        gate(name, node.map(|facts| format!("version {}", facts.report.server.version)).map_err(str::to_owned))
    };
    let mut gates = vec![answers("primary answers", from), answers("replica answers", to)];
    if let (Ok(from), Ok(to)) = (from, to) {
        gates.push(gate("roles", roles(&from.report, &to.report)));
        gates.push(gate("version", version(&from.report).and(version(&to.report))));
        gates.push(gate("no change under way", quiet(&from.report).and(quiet(&to.report))));
        gates.push(gate("replica in sync", in_sync(&from.report, &to.report, target)));
        gates.push(gate("replica-read-only", read_only(from).and(read_only(to))));
        gates.push(gate("replication password", password(from, to)));
    }
    gates
}

/// The target as its primary shows it: exactly what `FAILOVER TO` must be given.
pub fn address<'a>(from: &'a NodeReport, target: &Target) -> Option<&'a ReplicaLine> {
    let lines = &from.replication.replicas;
    if let [only] = lines.as_slice() {
        return Some(only);
    }
    let mut same = lines.iter().filter(|line| line.port == target.port && line.ip == target.host);
    if let (Some(line), None) = (same.next(), same.next()) {
        return Some(line);
    }
    // A host name, or an address that the nodes see differently: the port has to do, if it is the only one.
    let mut ports = lines.iter().filter(|line| line.port == target.port);
    ports.next().filter(|_| ports.next().is_none())
}

fn gate(name: &'static str, found: Result<String, String>) -> GateResult {
    let passed = found.is_ok();
    let (Ok(detail) | Err(detail)) = found;
    GateResult { name, passed, detail }
}

fn roles(from: &NodeReport, to: &NodeReport) -> Result<String, String> {
    match (from.role(), to.role()) {
        (Role::Primary, Role::Replica) => Ok(String::new()),
        (Role::Replica, _) => Err("the node to be demoted says that it is a replica already".into()),
        (_, Role::Primary) => Err("the node to be promoted says that it is primary already".into()),
    }
}

fn version(report: &NodeReport) -> Result<String, String> {
    let text = &report.server.version;
    let mut parts = text.split('.').map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= FAILOVER_SINCE => Ok(String::new()),
        _ => Err(format!("version {text}: FAILOVER needs 6.2 or later; switch by hand (REPLICAOF)")),
    }
}

fn quiet(report: &NodeReport) -> Result<String, String> {
    if report.replication.failover != FailoverState::None {
        return Err("a FAILOVER is under way (FAILOVER ABORT ends it)".into());
    }
    match report.server.shutdown_in_ms {
        Some(ms) => Err(format!("a node shuts down in {ms} ms")),
        None => Ok(String::new()),
    }
}

fn in_sync(from: &NodeReport, to: &NodeReport, target: &Target) -> Result<String, String> {
    let link = to.replication.primary_link.as_ref().ok_or("the node to be promoted follows nobody")?;
    if link.sync_in_progress {
        return Err("a full resynchronisation is under way".into());
    }
    if !link.up {
        return Err("the replica's link to the primary is down".into());
    }
    if to.replication.replid != from.replication.replid {
        return Err("the replica follows another history than the primary's".into());
    }
    if from.replication.replicas.is_empty() {
        return Err("the primary shows no replica".into());
    }
    let line = address(from, target).ok_or("the primary shows several replicas, and none at the configured address")?;
    if !line.online {
        return Err(format!("the primary shows {}:{} as not online", line.ip, line.port));
    }
    let lag = from.replication.offset.saturating_sub(to.replication.offset);
    let limit = target.max_lag_bytes;
    if lag > limit {
        Err(format!("{lag} bytes behind; the limit is {limit}"))
    } else {
        Ok(format!("{lag} bytes behind"))
    }
}

fn read_only(facts: &NodeFacts) -> Result<String, String> {
    match facts.replica_read_only {
        Some(true) => Ok(String::new()),
        Some(false) => {
            Err("a demoted node would take writes that reach nobody: CONFIG SET replica-read-only yes".into())
        }
        None => Ok("not checked: CONFIG GET is not permitted".into()),
    }
}

fn password(from: &NodeFacts, to: &NodeFacts) -> Result<String, String> {
    match (to.requires_password, from.has_primary_auth) {
        (Some(true), Some(false)) => {
            Err("the replica asks for a password that the primary does not have: set its replication password".into())
        }
        (None, _) | (Some(true), None) => Ok("not checked: CONFIG GET is not permitted".into()),
        _ => Ok(String::new()),
    }
}
