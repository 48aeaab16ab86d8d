//! The keys about Sentinels.
//!
//! Invariant: with `failover` = `sentinel` there is at least one address, and the name that Sentinels call the pair.

use super::{Reader, keys, password, value};
use crate::config::{FailoverMode, Sentinels, UpstreamTls};

impl Reader<'_> {
    pub(super) fn sentinels(&mut self, mode: FailoverMode, nodes: Option<&UpstreamTls>) -> Sentinels {
        let mut sentinels = Sentinels::default();
        for one in self.texts(&keys::SENTINEL) {
            match value::address(&one.value) {
                Ok(address) => sentinels.addresses.push(address),
                Err(message) => self.problems.add(one.place, message),
            }
        }
        let name = self.one(&keys::SENTINEL_NAME, value::name);
        let file = self.one(&keys::SENTINEL_PASSWORD_FILE, value::path);
        sentinels.user = self.one(&keys::SENTINEL_USER, value::name);
        if sentinels.user.is_some() && file.is_none() {
            self.problems.add(self.place(&keys::SENTINEL_USER), "needs sentinel-password-file as well");
        }
        if let Some(file) = file {
            match password(&file) {
                Ok(password) => sentinels.password = Some(password),
                Err(message) => self.problems.add(self.place(&keys::SENTINEL_PASSWORD_FILE), message),
            }
        }
        sentinels.tls = self.sentinel_tls(nodes);
        let place = self.place(&keys::FAILOVER);
        if mode == FailoverMode::Sentinel && self.sources.of(&keys::SENTINEL).is_empty() {
            self.problems.add(place.clone(), "needs `sentinel` as well: the address of each");
        }
        if mode == FailoverMode::Sentinel && name.is_none() && self.sources.of(&keys::SENTINEL_NAME).is_empty() {
            self.problems.add(place, "needs `sentinel-name` as well: what the Sentinels call the pair");
        }
        sentinels.name = name.unwrap_or_default();
        sentinels
    }

    /// What is not given is as with the nodes.
    fn sentinel_tls(&mut self, nodes: Option<&UpstreamTls>) -> Option<UpstreamTls> {
        let off = self.one(&keys::SENTINEL_TLS, |text| value::second_word(keys::SENTINEL_TLS.kind, text));
        let ca = self.one(&keys::SENTINEL_CA, value::path);
        let cert = self.one(&keys::SENTINEL_CERT, value::path);
        let key = self.one(&keys::SENTINEL_KEY, value::path);
        let server_name = self.one(&keys::SENTINEL_SERVER_NAME, value::name);
        for (given, present, other, other_present) in [
            (&keys::SENTINEL_CERT, cert.is_some(), "sentinel-key", key.is_some()),
            (&keys::SENTINEL_KEY, key.is_some(), "sentinel-cert", cert.is_some()),
        ] {
            if present && !other_present {
                self.problems.add(self.place(given), format!("needs {other} as well"));
            }
        }
        let ca = ca.or_else(|| nodes.map(|nodes| nodes.ca.clone()));
        let more = [&keys::SENTINEL_CERT, &keys::SENTINEL_SERVER_NAME];
        let wants_tls = (off == Some(false)).then_some(&keys::SENTINEL_TLS);
        let wants_tls = wants_tls.or_else(|| more.into_iter().find(|key| !self.sources.of(key).is_empty()));
        if let (Some(key), None) = (wants_tls, &ca) {
            self.problems.add(self.place(key), "needs sentinel-ca as well");
        }
        if off == Some(true) {
            return None;
        }
        let client = cert.zip(key).or_else(|| nodes.and_then(|nodes| nodes.client.clone()));
        let server_name = server_name.or_else(|| nodes.and_then(|nodes| nodes.server_name.clone()));
        Some(UpstreamTls { ca: ca?, client, server_name })
    }
}
