//! Carries out at a node what a failover orders there.
//!
//! It decides nothing, but looks once more before what cannot be taken back: whether it is still the process that was
//! judged, and whether the old primary still refuses connections. The machine's reasons are in `topology/failover`.

use std::time::Duration;

use crate::io::client::{Link, LinkError, Reply, Target, dial};
use crate::io::clock;
use crate::protocol::info::{RunId, parse_loading, parse_server};
use crate::topology::failover::{Done, Duty, Fence, LastLook, PARKED};

/// A port where nobody listens refuses within this time.
const LOOK: Duration = Duration::from_millis(200);
/// The setting by which a primary without enough replicas refuses writes.
const MIN_REPLICAS: &str = "min-replicas-to-write";
/// Added to that, it refuses every write, and says what it was before.
const SHUT: u64 = 1_000_000;
/// How old their last acknowledgement may be, in seconds.
const MAX_LAG: &str = "min-replicas-max-lag";

/// Does it, or says why it was left undone.
pub async fn perform(
    link: &mut Link,
    other: Option<&Target>,
    duty: &Duty,
    deadline: Duration,
) -> Result<Done, LinkError> {
    match duty {
        Duty::Park => follow(link, PARKED.0, PARKED.1, deadline).await,
        Duty::Unpark { host, port } => follow(link, host, *port, deadline).await,
        Duty::Demote { host, port, only_if_empty } => {
            if *only_if_empty && link.command(&[b"DBSIZE"], deadline).await? != Reply::Integer(0) {
                return Ok(Done::Declined("it holds data"));
            }
            follow(link, host, *port, deadline).await
        }
        Duty::Promote { process, last_look } => {
            let server = link.command(&[b"INFO", b"server"], deadline).await?;
            if server.bytes().and_then(parse_server).is_none_or(|server| server.run_id != *process) {
                return Ok(Done::Declined("another process stands there now"));
            }
            promote(link, other, *last_look, deadline).await
        }
        Duty::ReadFence => {
            let min_replicas = number(link, MIN_REPLICAS, deadline).await?.unwrap_or(0) % SHUT;
            let max_lag = Duration::from_secs(number(link, MAX_LAG, deadline).await?.unwrap_or(0));
            Ok(Done::Fence(Fence { min_replicas, max_lag }))
        }
        // See `saving`: it needs a folder, and its own time.
        Duty::Save => Ok(Done::Declined("its files are not here")),
        Duty::Shut => match number(link, MIN_REPLICAS, deadline).await?.unwrap_or(0) {
            open if open < SHUT => set(link, MIN_REPLICAS, SHUT + open, deadline).await,
            _ => Ok(Done::Plainly),
        },
        Duty::Open => match number(link, MIN_REPLICAS, deadline).await?.unwrap_or(0) {
            shut if shut >= SHUT => set(link, MIN_REPLICAS, shut % SHUT, deadline).await,
            _ => Ok(Done::Plainly),
        },
        Duty::Restore { min_replicas } => set(link, MIN_REPLICAS, *min_replicas, deadline).await,
    }
}

async fn follow(link: &mut Link, host: &str, port: u16, deadline: Duration) -> Result<Done, LinkError> {
    let port = port.to_string();
    link.command(&[b"REPLICAOF", host.as_bytes(), port.as_bytes()], deadline).await.map(|_| Done::Plainly)
}

/// The last look comes immediately before the order; what can be asked or done earlier is.
async fn promote(
    link: &mut Link,
    other: Option<&Target>,
    look: LastLook,
    deadline: Duration,
) -> Result<Done, LinkError> {
    let min_replicas = number(link, MIN_REPLICAS, deadline).await.unwrap_or_default().unwrap_or(0);
    // A primary without replicas would refuse every write by the fence that it has for others. On a replica the setting
    // has no effect, so that it is lifted first: afterwards would be too late for the first writes.
    if min_replicas > 0 {
        set(link, MIN_REPLICAS, 0, deadline).await?;
    }
    let limit = (clock::now() + LOOK).min(deadline);
    let still_so = match (look, other) {
        (LastLook::Needless, _) => true,
        (LastLook::Refuses, Some(target)) => matches!(dial(target, limit).await, Err(LinkError::Refused)),
        (LastLook::Loads(process), Some(target)) => loads(target, process, deadline).await.unwrap_or(false),
        (_, None) => false,
    };
    let ordered =
        if still_so { link.command(&[b"REPLICAOF", b"NO", b"ONE"], deadline).await.map(Some) } else { Ok(None) };
    if min_replicas > 0 && !matches!(ordered, Ok(Some(_))) {
        set(link, MIN_REPLICAS, min_replicas, deadline).await?;
    }
    Ok(match ordered? {
        Some(_) => Done::Promoted { min_replicas: min_replicas % SHUT },
        None => Done::Declined("the old primary is no longer as it was"),
    })
}

/// Whether this process stands there, and still loads its data. The process is asked first: what is asked of
/// the same connection after that is said by it.
async fn loads(target: &Target, process: RunId, deadline: Duration) -> Result<bool, LinkError> {
    let mut link = Link::connect(target, deadline).await?;
    link.send(&[b"INFO", b"server"], deadline).await?;
    link.send(&[b"INFO", b"persistence"], deadline).await?;
    let server = link.reply(deadline).await?;
    let same = server.bytes().and_then(parse_server).is_some_and(|server| server.run_id == process);
    let persistence = link.reply(deadline).await?;
    Ok(same && persistence.bytes().and_then(parse_loading).is_some())
}

async fn set(link: &mut Link, name: &str, value: u64, deadline: Duration) -> Result<Done, LinkError> {
    let value = value.to_string();
    link.command(&[b"CONFIG", b"SET", name.as_bytes(), value.as_bytes()], deadline).await.map(|_| Done::Plainly)
}

/// A setting that is a number; `None` when the node does not have it.
async fn number(link: &mut Link, name: &str, deadline: Duration) -> Result<Option<u64>, LinkError> {
    let Reply::Array(pair) = link.command(&[b"CONFIG", b"GET", name.as_bytes()], deadline).await? else {
        return Ok(None);
    };
    let text = pair.get(1).and_then(Reply::bytes).and_then(|bytes| std::str::from_utf8(bytes).ok());
    Ok(text.and_then(|text| text.parse().ok()))
}
