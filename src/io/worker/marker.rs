//! Publishes markers on the new primary for subscribers that go over (`session::cutover`).
//!
//! One link for a worker, opened when it is needed, with the login of the process itself. A marker that cannot be
//! published is forgotten: its subscriber goes over without it, after a while.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::io::client::{Link, Target};
use crate::io::clock;
use crate::topology::node::NodeId;

/// Time to publish one marker.
const PATIENCE: Duration = Duration::from_millis(500);
/// Markers on their way.
const QUEUE: usize = 4096;

/// Hands markers over, and names their channels.
pub(in crate::io) struct Markers {
    prefix: Vec<u8>,
    next: Cell<u64>,
    queue: mpsc::Sender<(NodeId, Vec<u8>)>,
}

/// What is to be published.
pub(super) type Queue = mpsc::Receiver<(NodeId, Vec<u8>)>;

impl Markers {
    /// Channels begin with `prefix`, which no other worker of the pair has.
    pub(super) fn new(prefix: Vec<u8>) -> (Self, Queue) {
        let (queue, markers) = mpsc::channel(QUEUE);
        (Self { prefix, next: Cell::new(0), queue }, markers)
    }

    /// A channel that was never used.
    pub(super) fn channel(&self) -> Vec<u8> {
        let number = self.next.get();
        self.next.set(number + 1);
        [&self.prefix, number.to_string().as_bytes()].concat()
    }

    /// Publishes on `channel` through `node`; forgotten when too many wait.
    pub(super) fn publish(&self, node: NodeId, channel: Vec<u8>) {
        let _full = self.queue.try_send((node, channel));
    }
}

/// Publishes one after another, as long as the worker runs.
pub(super) async fn publish(targets: Vec<Target>, mut markers: Queue) {
    let mut link: Option<(NodeId, Link)> = None;
    while let Some((node, channel)) = markers.recv().await {
        // The second try is for a link that has died since it was used last.
        for _ in 0..2 {
            let deadline = clock::now() + PATIENCE;
            if link.as_ref().is_none_or(|(to, _)| *to != node) {
                let Some(target) = targets.get(node.index()) else { break };
                link = Link::connect(target, deadline).await.ok().map(|link| (node, link));
            }
            let Some((_, open)) = &mut link else { break };
            match open.command(&[b"PUBLISH", &channel, b""], deadline).await {
                Ok(_) => break,
                Err(error) if error.leaves_link_usable() => break,
                Err(_) => link = None,
            }
        }
    }
}
