//! Carries the pair's channel: one subscription and one publisher at each node.
//!
//! It carries bytes and does not read them, except that what is too long is dropped before it takes room. A message may
//! arrive twice (through both nodes) or not at all; the owner numbers and repeats. Queues are bounded; an old message is
//! dropped rather than sent late.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::client::{Heard, Link, LinkError, Target};
use super::clock;
use crate::topology::node::NodeId;

/// Messages that wait for one publisher.
pub const QUEUE: usize = 32;
/// A message that could not be published in this time is dropped.
const STALE: Duration = Duration::from_millis(1000);
/// A subscription that hears nothing for this long is asked whether it lives; after as long again it is opened anew.
const QUIET: Duration = Duration::from_millis(2500);
/// Between attempts to reach a node.
const PAUSE: Duration = Duration::from_millis(250);

/// What a subscription hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// It has just begun (again): what was said before was not heard.
    Joined(NodeId),
    /// Somebody spoke.
    Said(Bytes),
}

/// A message for a publisher.
#[derive(Clone, Debug)]
pub struct Post {
    /// What.
    pub payload: Vec<u8>,
    /// When it was handed over (process clock).
    pub at: Duration,
}

/// Listens at one node until nobody listens to us any more. Longer payloads than `longest` are dropped.
pub async fn listen(target: Target, limit: Duration, channel: String, longest: usize, out: mpsc::Sender<Word>) {
    let mut last = None;
    loop {
        let Err(error) = subscribed(&target, limit, &channel, longest, &out).await else { return };
        if let LinkError::Redis(text) = &error
            && last.as_ref() != Some(&error)
        {
            tracing::warn!(node = target.node.0, %text, channel, "cannot subscribe to the pair's channel");
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
    channel: &str,
    longest: usize,
    out: &mpsc::Sender<Word>,
) -> Result<(), LinkError> {
    let deadline = clock::now() + limit;
    let mut link = Link::connect(target, deadline).await?;
    link.subscribe(channel, deadline).await?;
    if out.send(Word::Joined(target.node)).await.is_err() {
        return Ok(());
    }
    loop {
        let heard = match link.next_message(clock::now() + QUIET).await {
            Err(LinkError::TimedOut) => {
                link.send_only(&[b"PING"], clock::now() + QUIET).await?;
                link.next_message(clock::now() + QUIET).await?
            }
            heard => heard?,
        };
        let Heard::Message { payload, .. } = heard else { continue };
        if payload.len() <= longest && out.send(Word::Said(payload)).await.is_err() {
            return Ok(());
        }
    }
}

/// Publishes at one node what comes through the queue, until the queue is closed.
pub async fn publish(target: Target, limit: Duration, channel: String, mut queue: mpsc::Receiver<Post>) {
    // Opened before it is needed: a hold should not wait for a handshake.
    let mut link = Link::connect(&target, clock::now() + limit).await.ok();
    let mut refused = String::new();
    while let Some(post) = queue.recv().await {
        // A first failure may be that of a connection that had ended long ago; numbers make a double harmless.
        for _ in 0..2 {
            if clock::now().saturating_sub(post.at) > STALE {
                break;
            }
            match once(&mut link, &target, &channel, &post.payload, post.at + STALE.min(limit)).await {
                Ok(()) => break,
                Err(LinkError::Redis(text)) if text != refused => {
                    tracing::warn!(node = target.node.0, %text, channel, "cannot publish on the pair's channel");
                    refused = text;
                }
                Err(_) => {}
            }
            link = None;
        }
    }
}

async fn once(
    link: &mut Option<Link>,
    target: &Target,
    channel: &str,
    payload: &[u8],
    deadline: Duration,
) -> Result<(), LinkError> {
    let link = match link {
        Some(link) => link,
        none => none.insert(Link::connect(target, deadline).await?),
    };
    link.command(&[b"PUBLISH", channel.as_bytes(), payload], deadline).await.map(drop)
}
