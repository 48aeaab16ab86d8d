//! Where a node is: its addresses, which outlive its name.
//!
//! A name that does not resolve says nothing about the node: a container's name goes with its container, a resolver may
//! be down. So the addresses that a name had last are kept and used. Invariant: a resolver that hangs occupies one thread,
//! and delays nobody who knows an address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::LinkError;
use crate::io::clock;
use crate::topology::Trouble;
use crate::topology::trouble::bounded;

/// A resolver is waited for this long where an address is known.
const PATIENCE: Duration = Duration::from_millis(150);

/// What is known of a name. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Place {
    known: Arc<ArcSwap<Known>>,
    asking: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Known {
    /// What it resolved to last.
    addresses: Vec<SocketAddr>,
    /// Why it does not resolve now.
    lost: Option<String>,
}

impl Place {
    /// Why the name does not resolve, while its last known address is used.
    pub fn lost(&self) -> Option<String> {
        self.known.load().lost.clone()
    }

    /// The addresses of `host`, in the resolver's order; those known before, if it has none now.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, LinkError> {
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let known = self.known.load_full();
        if known.addresses.is_empty() {
            self.ask(host.to_owned(), port).await;
        } else if !self.asking.swap(true, Ordering::AcqRel) {
            let (place, host) = (self.clone(), host.to_owned());
            let asked = spawn(async move {
                place.ask(host, port).await;
                place.asking.store(false, Ordering::Release);
            });
            // Whatever comes later is for the next dial.
            let _ = tokio::time::timeout_at(clock::instant(clock::now() + PATIENCE), asked).await;
        }
        let known = self.known.load_full();
        match (&known.lost, known.addresses.as_slice()) {
            (lost, []) => {
                let why = lost.clone().unwrap_or_else(|| "no address".to_owned());
                Err(LinkError::Node(Trouble::Name(why)))
            }
            (_, addresses) => Ok(addresses.to_vec()),
        }
    }

    async fn ask(&self, host: String, port: u16) {
        let found = tokio::net::lookup_host((host.as_str(), port)).await.map(Iterator::collect::<Vec<_>>);
        self.learn(&host, found);
    }

    fn learn(&self, host: &str, found: io::Result<Vec<SocketAddr>>) {
        let before = self.known.load_full();
        let why = match found {
            Ok(addresses) if !addresses.is_empty() => {
                if before.lost.is_some() {
                    tracing::info!(host, "the name resolves again");
                }
                self.known.store(Arc::new(Known { addresses, lost: None }));
                return;
            }
            Ok(_) => "no address".to_owned(),
            Err(error) => bounded(&error.to_string()),
        };
        if before.lost.is_none() && !before.addresses.is_empty() {
            let address = before.addresses.first().map(ToString::to_string);
            tracing::warn!(host, address, why, "the name does not resolve; its last known address is used");
        }
        self.known.store(Arc::new(Known { addresses: before.addresses.clone(), lost: Some(why) }));
    }
}

#[expect(clippy::disallowed_methods, reason = "the resolver's answer must outlive whoever waits for it; one at a time")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::spawn(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_name_that_vanishes_leaves_its_address() {
        let place = Place::default();
        let gone = || Err(io::Error::other("no such name"));
        place.learn("redis-a", gone());
        let none = place.addresses("does-not-exist.invalid", 1).await;
        assert!(matches!(none, Err(LinkError::Node(Trouble::Name(_)))), "{none:?}");
        place.learn("redis-a", Ok(vec![address("10.0.0.1:6379")]));
        assert_eq!(place.lost(), None);
        place.clone().learn("redis-a", gone());
        assert_eq!(place.lost().as_deref(), Some("no such name"));
        assert_eq!(place.addresses("does-not-exist.invalid", 1).await, Ok(vec![address("10.0.0.1:6379")]));
        // And when it resolves again, to another address, that one counts.
        place.learn("redis-a", Ok(vec![address("10.0.0.2:6379")]));
        assert_eq!(place.lost(), None);
    }

    #[tokio::test]
    async fn an_address_needs_no_resolver() {
        assert_eq!(Place::default().addresses("::1", 7).await, Ok(vec![address("[::1]:7")]));
        assert_eq!(Place::default().addresses("127.0.0.1", 7).await, Ok(vec![address("127.0.0.1:7")]));
    }
}
