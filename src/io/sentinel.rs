//! Listens to each Sentinel, and tells one of them when the roles were switched by us.
//!
//! What a Sentinel says is a hint: the nodes are asked at once, and only they say who is primary. A Sentinel that cannot be
//! reached is tried again for ever; the others speak too.
//!
//! By itself Sentinel takes half a minute to notice a switchover, and could replace nobody until then. Asked for a failover it
//! "promotes" the replica that it knows, which is primary already, and has followed within about a second. It is asked
//! only where it knows that replica and no other: it must have no choice.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::client::{Heard, Link, LinkError, Reply, Target};
use super::clock;
use crate::protocol::info::RunId;
use crate::protocol::sentinel::{CHANNELS, SentinelNews, news};

/// Between attempts to reach it.
const PAUSE: Duration = Duration::from_secs(1);
/// It is asked whether it is still there after this long without news.
const QUIET: Duration = Duration::from_secs(5);

/// Listens until nobody listens to us any more. `name` is what the Sentinels call the pair.
pub async fn listen(target: Target, limit: Duration, name: String, out: mpsc::Sender<SentinelNews>) {
    let mut last = None;
    loop {
        let Err(error) = subscribed(&target, limit, &name, &out).await else { return };
        if last.as_ref() != Some(&error) {
            tracing::warn!(sentinel = format!("{}:{}", target.host, target.port), %error, "a Sentinel is not heard");
        }
        last = Some(error);
        sleep_until(clock::instant(clock::now() + PAUSE)).await;
        if out.is_closed() {
            return;
        }
    }
}

/// One subscription, from its beginning to its failure. `Ok`: nobody listens to us any more.
async fn subscribed(
    target: &Target,
    limit: Duration,
    name: &str,
    out: &mpsc::Sender<SentinelNews>,
) -> Result<(), LinkError> {
    let mut link = Link::connect(target, clock::now() + limit).await?;
    for channel in CHANNELS {
        link.subscribe(channel, clock::now() + limit).await?;
    }
    loop {
        let heard = match link.next_message(clock::now() + QUIET).await {
            Err(LinkError::TimedOut) => {
                link.send_only(&[b"PING"], clock::now() + limit).await?;
                link.next_message(clock::now() + limit).await?
            }
            heard => heard?,
        };
        if let Heard::Message { channel, payload } = heard
            && let Some(news) = news(&channel, &payload, name)
            && out.send(news).await.is_err()
        {
            return Ok(());
        }
    }
}

/// Tells a Sentinel whenever `switched` names another process that was made primary, until nobody does any more.
pub async fn tell(targets: Vec<Target>, limit: Duration, name: String, mut switched: watch::Receiver<Option<RunId>>) {
    while switched.changed().await.is_ok() {
        let promoted = *switched.borrow_and_update();
        let Some(promoted) = promoted else { continue };
        for target in &targets {
            let sentinel = format!("{}:{}", target.host, target.port);
            match ask_to_follow(target, limit, &name, promoted).await {
                Ok(true) => {
                    tracing::info!(sentinel, "a Sentinel was told of the switchover");
                    break;
                }
                Ok(false) => {
                    tracing::info!(sentinel, "the Sentinels know another replica, or know it already: not told");
                    break;
                }
                Err(error) => tracing::info!(sentinel, %error, "a Sentinel cannot be told of the switchover"),
            }
        }
    }
}

/// False when it knows already, or has a choice.
async fn ask_to_follow(target: &Target, limit: Duration, name: &str, promoted: RunId) -> Result<bool, LinkError> {
    let deadline = clock::now() + limit;
    let mut link = Link::connect(target, deadline).await?;
    let known = link.command(&[b"SENTINEL", b"REPLICAS", name.as_bytes()], deadline).await?;
    let only = match &known {
        Reply::Array(replicas) => match replicas.as_slice() {
            [Reply::Array(fields)] => process(fields) == Some(promoted),
            _ => false,
        },
        _ => false,
    };
    if only {
        link.command(&[b"SENTINEL", b"FAILOVER", name.as_bytes()], deadline).await?;
    }
    Ok(only)
}

/// The `runid` among names and values in turn.
fn process(fields: &[Reply]) -> Option<RunId> {
    let (pairs, _) = fields.as_chunks::<2>();
    let value = pairs.iter().find(|[name, _]| name.bytes() == Some(b"runid")).map(|[_, value]| value)?;
    value.bytes().and_then(RunId::parse)
}
