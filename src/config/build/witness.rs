//! The settings of the third voice.
//!
//! Invariant: a token is sent, and an answer believed, over TLS or loopback only.

use super::super::Witness;
use super::{FailoverMode, Node, Reader, UpstreamTls, keys, password, value};

impl Reader<'_> {
    pub(super) fn witness(&mut self, nodes: &[Node], mode: FailoverMode) -> Option<Witness> {
        let address = self.one(&keys::WITNESS, value::address);
        let lease = self.time(&keys::WITNESS_LEASE);
        let pair = self.one(&keys::WITNESS_PAIR, value::name);
        let tls = self.witness_tls();
        let token = self.one(&keys::WITNESS_TOKEN_FILE, value::path).and_then(|file| {
            let token = password(&file).and_then(|token| match std::str::from_utf8(token.expose()) {
                Ok(_) => Ok(token),
                Err(_) => Err(format!("{} is not text", file.display())),
            });
            token.map_err(|message| self.problems.add(self.place(&keys::WITNESS_TOKEN_FILE), message)).ok()
        });
        let (host, port) = address?;
        let place = self.place(&keys::WITNESS);
        if mode != FailoverMode::Pair {
            self.problems.add(place.clone(), "is for `failover` = `pair` only");
        }
        let local = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        if tls.is_none() && !local && self.sources.of(&keys::WITNESS_CA).is_empty() {
            self.problems.add(place, "needs `witness-ca` as well: whoever answers in its place decides who is primary");
        }
        let made = || nodes.iter().map(|node| format!("{}={}:{}", node.name, node.host, node.port));
        let pair = pair.unwrap_or_else(|| made().collect::<Vec<_>>().join(","));
        Some(Witness { host, port, tls, token, lease, pair })
    }

    fn witness_tls(&mut self) -> Option<UpstreamTls> {
        let ca = self.one(&keys::WITNESS_CA, value::path);
        let cert = self.one(&keys::WITNESS_CERT, value::path);
        let key = self.one(&keys::WITNESS_KEY, value::path);
        for (given, present, other, other_present) in [
            (&keys::WITNESS_CERT, cert.is_some(), "witness-key", key.is_some()),
            (&keys::WITNESS_KEY, key.is_some(), "witness-cert", cert.is_some()),
            (&keys::WITNESS_CERT, cert.is_some(), "witness-ca", ca.is_some()),
        ] {
            if present && !other_present {
                self.problems.add(self.place(given), format!("needs {other} as well"));
            }
        }
        Some(UpstreamTls { ca: ca?, client: cert.zip(key), server_name: None })
    }
}
