//! Does the primary end connections of clients that take too much memory?
//!
//! `client-output-buffer-limit normal` and `maxmemory-clients` bound one connection, or all of them. Without a proxy only the
//! client that asks for too much is closed. On a lane it would be everybody. So while one of them is set, sessions keep
//! upstreams of their own. Both are off by default in Redis and Valkey.
//!
//! One worker of the process asks the primary by `CONFIG GET`, with the proxy's own user. A change takes effect within
//! [`PACE`]. If the user may not ask, lanes are used; then a session whose lane and next lane end with the same command
//! unanswered goes on alone (`downstream::upstream`).

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::io::client::{Link, LinkError, Reply};
use crate::io::clock;
use crate::topology::node::NodeId;

use super::Worker;

/// Between two questions.
const PACE: Duration = Duration::from_millis(100);
/// The same if the node does not answer such questions.
const RARELY: Duration = Duration::from_secs(5);
/// Time for one question.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of the nodes, shared by all workers.
pub(in crate::io) struct ClientLimits(Vec<AtomicBool>);

impl ClientLimits {
    /// So many nodes, of which nothing is known.
    pub(super) fn new(nodes: usize) -> Self {
        Self((0..nodes).map(|_| AtomicBool::new(false)).collect())
    }

    /// The node ends connections of clients that take too much memory.
    pub(in crate::io) fn in_force(&self, node: NodeId) -> bool {
        self.0.get(node.index()).is_some_and(|known| known.load(Ordering::Relaxed))
    }

    fn set(&self, node: NodeId, limited: bool) {
        if let Some(known) = self.0.get(node.index())
            && known.swap(limited, Ordering::Relaxed) != limited
        {
            let what = if limited { "has" } else { "has no" };
            tracing::info!(
                node = node.0,
                "the primary {what} limits on the memory of its clients, which decides about shared connections"
            );
        }
    }
}

/// Asks the primary, for as long as the worker lives.
pub(super) async fn watch(worker: Rc<Worker>) {
    let mut link: Option<(NodeId, Link)> = None;
    loop {
        let primary = worker.orders().primary;
        let pace = match primary {
            Some(node) => {
                if link.as_ref().is_some_and(|(known, _)| *known != node) {
                    link = None;
                }
                match ask(&worker, &mut link, node).await {
                    Ok(limited) => {
                        worker.client_limits.set(node, limited);
                        PACE
                    }
                    Err(LinkError::Redis(_)) => RARELY,
                    Err(_) => {
                        link = None;
                        PACE
                    }
                }
            }
            None => PACE,
        };
        tokio::time::sleep(pace).await;
    }
}

async fn ask(worker: &Worker, link: &mut Option<(NodeId, Link)>, node: NodeId) -> Result<bool, LinkError> {
    let deadline = clock::now() + PATIENCE;
    let (_, link) = match link {
        Some(known) => known,
        none => {
            let target = worker.pool.target(node).cloned().ok_or(LinkError::Refused)?;
            none.insert((node, Link::connect(&target, deadline).await?))
        }
    };
    let mut limited = false;
    for (name, judge) in
        [("client-output-buffer-limit", normal_is_limited as fn(&str) -> bool), ("maxmemory-clients", is_set)]
    {
        let reply = link.command(&[b"CONFIG", b"GET", name.as_bytes()], deadline).await?;
        let Reply::Array(pair) = reply else { continue };
        let value = pair.get(1).and_then(Reply::bytes).and_then(|bytes| std::str::from_utf8(bytes).ok());
        limited |= value.is_some_and(judge);
    }
    Ok(limited)
}

/// `normal HARD SOFT SECONDS …`: one of the first two is not 0.
fn normal_is_limited(value: &str) -> bool {
    let mut words = value.split_whitespace().skip_while(|word| *word != "normal").skip(1).take(2);
    words.any(is_set)
}

fn is_set(value: &str) -> bool {
    !value.is_empty() && value != "0"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_ordinary_clients_are_told_from_those_of_others() {
        let default = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        assert!(!normal_is_limited(default));
        assert!(normal_is_limited("normal 1048576 0 0 slave 0 0 0 pubsub 0 0 0"));
        assert!(normal_is_limited("slave 0 0 0 normal 0 1048576 60 pubsub 0 0 0"));
        assert!(!normal_is_limited("") && !is_set("0") && is_set("1000000") && is_set("5%"));
    }
}
