//! Listens to one Sentinel. What it says is a hint: the nodes are asked at once, and only they say who is primary.
//!
//! It carries news and decides nothing. A Sentinel that cannot be reached is tried again for ever; the others speak too.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::client::{Heard, Link, LinkError, Target};
use super::clock;
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
