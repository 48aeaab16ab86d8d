//! The replies to INFO server, replication and persistence, as facts.
//!
//! Shapes and parsers only: who is believed is decided elsewhere. A text is believed whole or not at all: a field that is
//! missing, malformed, or there twice (a replica may announce an address with line ends in it) makes it no report.
//! What is kept of it is bounded.

mod parse;

pub use parse::{parse_loading, parse_replication, parse_server};

use std::fmt;

/// Which process: `run_id`, 40 hexadecimal digits, new at every start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub [u8; 40]);

/// Which replication history: `master_replid`, 40 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplId(pub [u8; 40]);

impl RunId {
    /// From 40 hexadecimal digits.
    pub fn parse(digits: &[u8]) -> Option<Self> {
        hexadecimal(digits).map(Self)
    }
}

impl ReplId {
    /// From 40 hexadecimal digits.
    pub fn parse(digits: &[u8]) -> Option<Self> {
        hexadecimal(digits).map(Self)
    }
}

fn hexadecimal(digits: &[u8]) -> Option<[u8; 40]> {
    let digits: [u8; 40] = digits.try_into().ok()?;
    digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)
}

fn forty(f: &mut fmt::Formatter<'_>, digits: &[u8; 40]) -> fmt::Result {
    f.write_str(std::str::from_utf8(digits).unwrap_or("(not text)"))
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        forty(f, &self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        forty(f, &self.0)
    }
}

impl fmt::Display for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        forty(f, &self.0)
    }
}

impl fmt::Debug for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        forty(f, &self.0)
    }
}

/// `role:` of INFO replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireRole {
    /// `role:master`
    Master,
    /// `role:slave`
    Slave,
}

impl WireRole {
    /// `role:master`.
    pub const fn is_primary(self) -> bool {
        matches!(self, Self::Master)
    }
}

/// `master_failover_state:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailoverState {
    /// `no-failover`, or a server that does not know the field.
    None,
    /// `waiting-for-sync`: still primary, writes paused, waits for the replica's acknowledgement.
    WaitingForSync,
    /// `failover-in-progress`: already a replica, the target is being promoted.
    InProgress,
}

/// One `slaveN:` line of a primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaLine {
    /// As announced: what `FAILOVER TO` must be given.
    pub ip: String,
    /// As announced.
    pub port: u16,
    /// `state=online`.
    pub online: bool,
    /// Acknowledged offset.
    pub offset: u64,
    /// Seconds since the last acknowledgement.
    pub lag: u64,
}

/// A replica's link to its primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryLink {
    /// `master_host`
    pub host: String,
    /// `master_port`
    pub port: u16,
    /// `master_link_status:up`
    pub up: bool,
    /// `master_sync_in_progress:1`
    pub sync_in_progress: bool,
    /// `slave_repl_offset`
    pub slave_repl_offset: u64,
    /// `master_last_io_seconds_ago`; `None` for -1.
    pub last_io_seconds: Option<u64>,
}

/// INFO replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationInfo {
    /// What the node says it is.
    pub role: WireRole,
    /// `master_replid`
    pub replid: ReplId,
    /// `master_replid2`; `None` for all zero.
    pub replid2: Option<ReplId>,
    /// `master_repl_offset`
    pub offset: u64,
    /// `second_repl_offset`; `None` for -1.
    pub second_offset: Option<u64>,
    /// A `FAILOVER` under way.
    pub failover: FailoverState,
    /// Attached replicas, at most 64.
    pub replicas: Vec<ReplicaLine>,
    /// Present on a replica.
    pub primary_link: Option<PrimaryLink>,
}

/// INFO server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// The process.
    pub run_id: RunId,
    /// `redis_version`, as text. Of Valkey: the version of Redis that it is compatible with.
    pub version: String,
    /// `valkey_version`, as text, where the server is Valkey.
    pub valkey: Option<String>,
    /// A graceful SHUTDOWN is pending.
    pub shutdown_in_ms: Option<u64>,
}

impl ServerInfo {
    /// The server's name and its own version.
    pub fn product(&self) -> (&'static str, &str) {
        self.valkey.as_ref().map_or(("Redis", self.version.as_str()), |version| ("Valkey", version.as_str()))
    }
}

/// INFO persistence, while `loading:1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loading {
    /// `loading_loaded_perc`, whole percent.
    pub percent: u8,
    /// `loading_eta_seconds`, if it says so.
    pub eta_seconds: Option<u64>,
}

#[cfg(test)]
mod tests;
