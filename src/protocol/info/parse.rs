//! From INFO's text to [`super::ReplicationInfo`], [`super::ServerInfo`] and [`super::Loading`].
//!
//! One pass over the lines, no recursion; unknown fields are skipped, so that newer servers are understood.

use super::{FailoverState, Loading, PrimaryLink, ReplId, ReplicaLine, ReplicationInfo, RunId, ServerInfo, WireRole};

/// More attached replicas than this are not listed.
const MAX_REPLICAS: usize = 64;
/// Longest host name or address (Redis' `NET_HOST_STR_LEN`).
const MAX_HOST: usize = 256;
/// Longest version text.
const MAX_VERSION: usize = 64;

/// INFO replication; `None` when it does not say everything that it must.
pub fn parse_replication(text: &[u8]) -> Option<ReplicationInfo> {
    let mut fields = Replication::default();
    for (key, value) in lines(text) {
        fields.take(key, value)?;
    }
    fields.finish()
}

/// INFO server; `None` when it does not say everything that it must.
pub fn parse_server(text: &[u8]) -> Option<ServerInfo> {
    let (mut run_id, mut version, mut shutdown) = (None, None, None);
    let (mut server_name, mut valkey) = (None, None);
    for (key, value) in lines(text) {
        match key {
            "run_id" => once(&mut run_id, value)?,
            "redis_version" => once(&mut version, value)?,
            "server_name" => once(&mut server_name, value)?,
            "valkey_version" => once(&mut valkey, value)?,
            "shutdown_in_milliseconds" => once(&mut shutdown, value)?,
            _ => {}
        }
    }
    let valkey = valkey.filter(|_| server_name.is_none_or(|name| name == "valkey"));
    Some(ServerInfo {
        run_id: RunId::parse(run_id?.as_bytes())?,
        version: short(version?, MAX_VERSION)?,
        valkey: valkey.map(|version| short(version, MAX_VERSION)).map_or(Some(None), |version| version.map(Some))?,
        shutdown_in_ms: unless_negative(shutdown)?,
    })
}

/// INFO persistence: `None` unless the server has just begun and loads its data.
pub fn parse_loading(text: &[u8]) -> Option<Loading> {
    let field = |name: &str| lines(text).find(|(key, _)| *key == name).map(|(_, value)| value);
    // A replica that loads what its primary sent beside what it has goes on to answer.
    if field("loading") != Some("1") || field("async_loading") == Some("1") {
        return None;
    }
    let percent = field("loading_loaded_perc").and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    let eta = field("loading_eta_seconds").and_then(|text| text.parse::<u64>().ok());
    Some(Loading { percent: percent.clamp(0.0, 100.0) as u8, eta_seconds: eta })
}

/// The fields of INFO replication as they stand there.
#[derive(Default)]
struct Replication<'a> {
    role: Option<&'a str>,
    replid: Option<&'a str>,
    replid2: Option<&'a str>,
    offset: Option<&'a str>,
    second_offset: Option<&'a str>,
    failover: Option<&'a str>,
    host: Option<&'a str>,
    port: Option<&'a str>,
    link: Option<&'a str>,
    last_io: Option<&'a str>,
    syncing: Option<&'a str>,
    link_offset: Option<&'a str>,
    replicas: Vec<ReplicaLine>,
}

impl<'a> Replication<'a> {
    fn take(&mut self, key: &str, value: &'a str) -> Option<()> {
        let slot = match key {
            "role" => &mut self.role,
            "master_replid" => &mut self.replid,
            "master_replid2" => &mut self.replid2,
            "master_repl_offset" => &mut self.offset,
            "second_repl_offset" => &mut self.second_offset,
            "master_failover_state" => &mut self.failover,
            "master_host" => &mut self.host,
            "master_port" => &mut self.port,
            "master_link_status" => &mut self.link,
            "master_last_io_seconds_ago" => &mut self.last_io,
            "master_sync_in_progress" => &mut self.syncing,
            "slave_repl_offset" => &mut self.link_offset,
            _ => {
                if is_replica_line(key) && self.replicas.len() < MAX_REPLICAS {
                    self.replicas.push(replica(value)?);
                }
                return Some(());
            }
        };
        once(slot, value)
    }

    fn finish(self) -> Option<ReplicationInfo> {
        let role = match self.role? {
            "master" => WireRole::Master,
            "slave" => WireRole::Slave,
            _ => return None,
        };
        let failover = match self.failover {
            None | Some("no-failover") => FailoverState::None,
            Some("waiting-for-sync") => FailoverState::WaitingForSync,
            Some("failover-in-progress") => FailoverState::InProgress,
            Some(_) => return None,
        };
        let primary_link = if role == WireRole::Slave { Some(self.link()?) } else { None };
        // All zero until there was a history before this one.
        let replid2 = match self.replid2 {
            None => None,
            Some(id) => Some(ReplId::parse(id.as_bytes())?).filter(|id| id.0 != [b'0'; 40]),
        };
        Some(ReplicationInfo {
            role,
            replid: ReplId::parse(self.replid?.as_bytes())?,
            replid2,
            offset: self.offset?.parse().ok()?,
            second_offset: unless_negative(self.second_offset)?,
            failover,
            replicas: self.replicas,
            primary_link,
        })
    }

    fn link(&self) -> Option<PrimaryLink> {
        Some(PrimaryLink {
            host: short(self.host?, MAX_HOST)?,
            port: self.port?.parse().ok()?,
            up: self.link? == "up",
            sync_in_progress: self.syncing? == "1",
            slave_repl_offset: unless_negative(self.link_offset)?.unwrap_or(0),
            last_io_seconds: unless_negative(self.last_io)?,
        })
    }
}

/// `slave0`, not `slave_priority`.
fn is_replica_line(key: &str) -> bool {
    key.strip_prefix("slave").is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// `ip=127.0.0.1,port=7002,state=online,offset=593,lag=0`
fn replica(value: &str) -> Option<ReplicaLine> {
    let (mut ip, mut port, mut state, mut offset, mut lag) = (None, None, None, None, None);
    for part in value.split(',') {
        let (key, value) = part.split_once('=')?;
        match key {
            "ip" => once(&mut ip, value)?,
            "port" => once(&mut port, value)?,
            "state" => once(&mut state, value)?,
            "offset" => once(&mut offset, value)?,
            "lag" => once(&mut lag, value)?,
            _ => {}
        }
    }
    Some(ReplicaLine {
        ip: short(ip?, MAX_HOST)?,
        port: port?.parse().ok()?,
        online: state? == "online",
        offset: unless_negative(offset)?.unwrap_or(0),
        // Negative when the server's clock was set back.
        lag: unless_negative(lag)?.unwrap_or(0),
    })
}

/// Fields in their order. What is no text has no key that we know.
fn lines(text: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    text.split(|&byte| byte == b'\n').filter_map(|line| {
        let line = std::str::from_utf8(line).ok()?;
        line.strip_suffix('\r').unwrap_or(line).split_once(':')
    })
}

/// A field may be there once.
fn once<'a>(slot: &mut Option<&'a str>, value: &'a str) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

/// A number; absent and negative are "none", anything else is no report.
fn unless_negative(value: Option<&str>) -> Option<Option<u64>> {
    match value {
        None => Some(None),
        Some(text) => Some(u64::try_from(text.parse::<i64>().ok()?).ok()),
    }
}

fn short(text: &str, longest: usize) -> Option<String> {
    (text.len() <= longest).then(|| text.to_owned())
}
