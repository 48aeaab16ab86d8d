//! A wire across the primary's door: it reports a demotion within a tenth of a millisecond.
//!
//! A held `WAIT 1000000 0` waits for more replicas than there are, for ever; Redis answers `-UNBLOCKED` when the node
//! becomes a replica (measured on 5.0 to 8), and the connection ends when the process does. It needs no key and costs
//! the node one GETACK when it is strung. It is a hint that comes early; the probes tell who is primary instead.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::client::{Link, LinkError, Target};
use super::clock;
use super::probe::Sighting;
use crate::topology::node::{Epoch, NodeId};
use crate::topology::{Evidence, Gone, Trouble};

/// A wire is strung anew after this time, so that one whose network end has vanished does not stay for ever.
const RESTRING: Duration = Duration::from_secs(600);
/// Before it is strung again at a node that did not let us.
const PAUSE: Duration = Duration::from_millis(250);
/// The same where the login was refused: the password may be read again.
const LOGIN_PAUSE: Duration = Duration::from_secs(1);
/// The same where the answer will not change soon (no permission).
const LONG_PAUSE: Duration = Duration::from_secs(30);

/// Where it is strung.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Door {
    /// A later epoch restrings it, also at the same node.
    pub epoch: Epoch,
    /// The primary, if there is one.
    pub primary: Option<NodeId>,
}

/// Keeps the wire across the door of the current primary until nobody listens any more.
pub async fn watch(
    targets: Vec<Target>,
    limit: Duration,
    mut door: watch::Receiver<Door>,
    out: mpsc::Sender<Sighting>,
) {
    loop {
        let primary = door.borrow_and_update().primary;
        let target = primary.and_then(|node| targets.iter().find(|target| target.node == node));
        let Some(target) = target else {
            if door.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            changed = door.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            pause = string(target, limit, &out) => {
                tokio::select! {
                    changed = door.changed() => if changed.is_err() { return },
                    () = sleep_until(clock::instant(clock::now() + pause)) => {}
                }
            }
        }
    }
}

/// Strings it once, waits for the end, and says how long to wait before the next.
async fn string(target: &Target, limit: Duration, out: &mpsc::Sender<Sighting>) -> Duration {
    let (evidence, pause) = match held(target, limit).await {
        LinkError::Redis(text) if text.starts_with("UNBLOCKED") => (Some(Evidence::Tripped), PAUSE),
        LinkError::Redis(text) if text.starts_with("ERR WAIT cannot") => (Some(Evidence::RefusedCommand), PAUSE),
        LinkError::Redis(text) if is_permanent(&text) => {
            tracing::warn!(node = target.node.0, %text, "no tripwire: demotions are noticed by probes only");
            (None, LONG_PAUSE)
        }
        LinkError::Redis(text) => {
            tracing::debug!(node = target.node.0, %text, "the tripwire was refused");
            (None, PAUSE)
        }
        // An end of it is news. Everything else the probe of the same node says too, with its own deadline.
        LinkError::EndOfFile => (Some(Evidence::Gone(Gone::EndOfFile)), PAUSE),
        LinkError::Node(Trouble::Login(_)) => (None, LOGIN_PAUSE),
        _ => (None, PAUSE),
    };
    if let Some(evidence) = evidence {
        // Nobody listens any more: the caller's watch channel says so as well.
        let _ = out.send(Sighting { node: target.node, evidence, name: target.place.lost() }).await;
    }
    pause
}

/// Holds one `WAIT` until it ends; there is no good end.
async fn held(target: &Target, limit: Duration) -> LinkError {
    let mut link = match Link::connect(target, clock::now() + limit).await {
        Ok(link) => link,
        Err(error) => return error,
    };
    match link.command(&[b"WAIT", b"1000000", b"0"], clock::now() + RESTRING).await {
        Ok(_) => LinkError::TimedOut,
        Err(error) => error,
    }
}

fn is_permanent(text: &str) -> bool {
    ["NOPERM", "NOAUTH", "WRONGPASS", "ERR unknown command"].iter().any(|start| text.starts_with(start))
}
