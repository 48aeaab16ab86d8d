//! What the stories are told with: servers, proxies, clients, certificates, load.

pub(crate) mod certs;
pub(crate) mod client;
pub(crate) mod load;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod redis;
pub(crate) mod value;

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub(crate) use certs::Certs;
pub(crate) use client::Client;
pub(crate) use load::Load;
pub(crate) use proxy::{ANYTHING, Options, Proxy};
pub(crate) use redis::{Pair, PairOptions};
pub(crate) use value::Value;

/// The clock, for tests.
#[expect(clippy::disallowed_methods, reason = "tests measure real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits until it is so; a test that waits in vain fails with `what`.
pub(crate) fn wait_until(what: &str, patience: Duration, mut so: impl FnMut() -> bool) {
    let until = now() + patience;
    while !so() {
        assert!(now() < until, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A pause that is part of the story.
pub(crate) fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

/// A port that is free now, below the range of outgoing connections.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 1000).unwrap() * 11;
    loop {
        let port = 20_000 + offset.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 11_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
