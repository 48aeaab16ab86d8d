//! Carries out at a node what a switchover orders there: one task for each node, one errand after another.
//!
//! It decides nothing and never tries twice: whoever ordered it must know what was sent. The link is kept between errands,
//! so that the hand-over itself needs no handshake.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;

use super::{duties, saving};
use crate::io::client::{Link, LinkError, Reply, Target};
use crate::io::clock;
use crate::protocol::info::{parse_replication, parse_server};
use crate::topology::NodeReport;
use crate::topology::failover::{Done, Duty};
use crate::topology::node::NodeId;
use crate::topology::switchover::gates::NodeFacts;

/// Errands that wait for one node.
pub const QUEUE: usize = 8;
/// A link that answered this recently is taken to be alive.
const FRESH: Duration = Duration::from_secs(1);

/// Something to be done at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// For which switchover: comes back in the answer.
    pub of: u64,
    /// What.
    pub task: Task,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Find out what the gates ask.
    Inspect,
    /// `FAILOVER TO host port TIMEOUT ms`.
    Failover {
        /// The replica, as its primary shows it.
        host: String,
        /// Its port, as its primary shows it.
        port: u16,
        /// For the first phase.
        timeout: Duration,
    },
    /// `FAILOVER ABORT`.
    Abort,
    /// Something that a failover orders.
    Duty(Duty),
}

/// What became of an errand.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Where.
    pub node: NodeId,
    /// Which.
    pub errand: Errand,
    /// What was found, or why nothing.
    pub result: Result<Found, LinkError>,
}

/// What an errand brings home.
#[derive(Clone, Debug)]
pub enum Found {
    /// It was done.
    Nothing,
    /// From [`Task::Inspect`].
    Facts(Box<NodeFacts>),
    /// From [`Task::Duty`].
    Done(Done),
}

/// Carries out errands at one node until nobody sends any more. `other` is the other node, for a last look at it; `saved` is
/// where snapshots of the node are set aside, if its files can be read here.
pub async fn carry_out(
    target: Target,
    other: Option<Target>,
    saved: Option<PathBuf>,
    limit: Duration,
    mut errands: mpsc::Receiver<Errand>,
    out: mpsc::Sender<Answer>,
) {
    let mut kept = None;
    while let Some(errand) = errands.recv().await {
        let deadline = clock::now() + limit;
        let result = match (&errand.task, &saved) {
            (Task::Duty(Duty::Save), Some(folder)) => save(&target, folder, deadline).await,
            (task, _) => one(&mut kept, &target, other.as_ref(), task, deadline).await,
        };
        if let Err(error) = &result
            && !matches!(error, LinkError::Redis(_))
        {
            kept = None;
        }
        if out.send(Answer { node: target.node, errand, result }).await.is_err() {
            return;
        }
    }
}

/// On a connection of its own, which no other errand finds half used.
async fn save(target: &Target, folder: &Path, deadline: Duration) -> Result<Found, LinkError> {
    let mut link = Link::connect(target, deadline).await?;
    saving::save(&mut link, folder).await.map(Found::Done)
}

/// A link with the time of its last answer.
struct Kept {
    link: Link,
    used: Duration,
}

async fn one(
    kept: &mut Option<Kept>,
    target: &Target,
    other: Option<&Target>,
    task: &Task,
    deadline: Duration,
) -> Result<Found, LinkError> {
    // A link that was left over may have ended meanwhile. What only asks shows whether it lives; a hand-over must not
    // be what finds out.
    if let Some(old) = kept
        && clock::now().saturating_sub(old.used) > FRESH
        && old.link.command(&[b"PING"], deadline).await.is_err()
    {
        *kept = None;
    }
    let kept = match kept {
        Some(kept) => kept,
        none => none.insert(Kept { link: Link::connect(target, deadline).await?, used: clock::now() }),
    };
    let link = &mut kept.link;
    let found = match task {
        Task::Inspect => Found::Facts(Box::new(inspect(link, deadline).await?)),
        Task::Failover { host, port, timeout } => {
            let (port, timeout) = (port.to_string(), timeout.as_millis().max(1).to_string());
            let args: [&[u8]; 6] =
                [b"FAILOVER", b"TO", host.as_bytes(), port.as_bytes(), b"TIMEOUT", timeout.as_bytes()];
            link.command(&args, deadline).await.map(|_| Found::Nothing)?
        }
        Task::Abort => link.command(&[b"FAILOVER", b"ABORT"], deadline).await.map(|_| Found::Nothing)?,
        Task::Duty(duty) => duties::perform(link, other, duty, deadline).await.map(Found::Done)?,
    };
    kept.used = clock::now();
    Ok(found)
}

async fn inspect(link: &mut Link, deadline: Duration) -> Result<NodeFacts, LinkError> {
    let asked_at = clock::now();
    let server = link.command(&[b"INFO", b"server"], deadline).await?;
    let replication = link.command(&[b"INFO", b"replication"], deadline).await?;
    let unintelligible = || LinkError::Failed("its INFO is not understood".to_owned());
    let report = NodeReport {
        server: server.bytes().and_then(parse_server).ok_or_else(unintelligible)?,
        replication: replication.bytes().and_then(parse_replication).ok_or_else(unintelligible)?,
        loading: None,
        asked_at,
    };
    let filled = |text: Vec<u8>| !text.is_empty();
    Ok(NodeFacts {
        report,
        replica_read_only: setting(link, "replica-read-only", deadline).await?.map(|text| text == b"yes"),
        requires_password: setting(link, "requirepass", deadline).await?.map(filled),
        has_primary_auth: setting(link, "masterauth", deadline).await?.map(filled),
    })
}

/// One setting; `None` when the node does not have it, or does not say.
pub(super) async fn setting(link: &mut Link, name: &str, deadline: Duration) -> Result<Option<Vec<u8>>, LinkError> {
    match link.command(&[b"CONFIG", b"GET", name.as_bytes()], deadline).await {
        Ok(Reply::Array(pair)) => Ok(pair.get(1).and_then(Reply::bytes).map(<[u8]>::to_vec)),
        Ok(_) | Err(LinkError::Redis(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
