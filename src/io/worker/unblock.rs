//! Has a node end blocking commands before their clients are let go (`CLIENT UNBLOCK … TIMEOUT`).
//!
//! To close the connection of a blocked client could lose what the node pops for it at that moment. The node itself ends
//! the command either with something or with nothing, and says which. It knows the connection by its address; so the
//! list of clients is asked for first. Where the process' own user may do neither, or an address is translated on the
//! way, nobody is unblocked, and the deadline of the drain decides.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::io::client::{Link, LinkError, Target};
use crate::io::clock;
use crate::topology::node::NodeId;

/// Time to unblock those who wait.
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests that wait; and most that are carried out with one list.
const QUEUE: usize = 4096;

/// Takes requests.
pub(in crate::io) struct Unblocker(mpsc::Sender<Request>);

/// The node, and the address from which the blocked connection was opened.
pub(super) type Request = (NodeId, SocketAddr);

impl Unblocker {
    pub(super) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (queue, requests) = mpsc::channel(QUEUE);
        (Self(queue), requests)
    }

    /// Asks; forgotten when too many wait.
    pub(in crate::io) fn ask(&self, node: NodeId, from: SocketAddr) {
        let _full = self.0.try_send((node, from));
    }
}

/// Carries out what was asked, as long as the worker runs.
pub(super) async fn unblock(targets: Vec<Target>, mut requests: mpsc::Receiver<Request>) {
    let mut batch = Vec::new();
    let mut complained = false;
    while requests.recv_many(&mut batch, QUEUE).await > 0 {
        for target in &targets {
            let from: Vec<_> = batch.iter().filter(|(node, _)| *node == target.node).map(|(_, from)| *from).collect();
            if from.is_empty() {
                continue;
            }
            if let Err(error) = unblock_at(target, &from).await
                && !std::mem::replace(&mut complained, true)
            {
                tracing::warn!(%error, node = target.node.0, "clients in blocking commands cannot be let go early");
            }
        }
        batch.clear();
    }
}

async fn unblock_at(target: &Target, from: &[SocketAddr]) -> Result<(), LinkError> {
    let deadline = clock::now() + PATIENCE;
    let mut link = Link::connect(target, deadline).await?;
    let list = link.command(&[b"CLIENT", b"LIST", b"TYPE", b"normal"], deadline).await?;
    for id in ids(list.bytes().unwrap_or_default(), from) {
        link.command(&[b"CLIENT", b"UNBLOCK", id.as_bytes(), b"TIMEOUT"], deadline).await?;
    }
    Ok(())
}

/// The ids of the connections from these addresses, in a list of clients.
fn ids<'a>(list: &'a [u8], from: &[SocketAddr]) -> Vec<&'a str> {
    let text = std::str::from_utf8(list).unwrap_or_default();
    let found = text.lines().filter_map(|line| {
        let id = line.strip_prefix("id=")?.split(' ').next()?;
        let address = line.split(' ').find_map(|field| field.strip_prefix("addr="))?;
        from.contains(&address.parse().ok()?).then_some(id)
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_found_by_the_address_that_they_come_from() {
        let list = b"id=3 addr=127.0.0.1:5000 laddr=127.0.0.1:6379 name= db=0\nid=14 addr=[::1]:5001 name=addr=x\n";
        let at = |text: &str| text.parse().unwrap();
        assert_eq!(ids(list, &[at("127.0.0.1:5000")]), ["3"]);
        assert_eq!(ids(list, &[at("[::1]:5001"), at("127.0.0.1:5000")]), ["3", "14"]);
        assert!(ids(list, &[at("127.0.0.1:6379")]).is_empty());
    }
}
