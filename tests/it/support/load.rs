//! A load that checks itself: each thread increments a counter of its own and must see every value once, in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::{Client, encode};
use super::now;
use super::redis::Redis;
use super::value::Value;

/// Fewer commands than this show nothing.
const LEAST: u64 = 100;

pub(crate) struct Load {
    /// Commands that were answered.
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Seen>>,
}

/// What the threads saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) commands: u64,
    /// Replies that were not the next number.
    pub(crate) wrong: Vec<String>,
    pub(crate) closed: u64,
    pub(crate) longest: Duration,
    /// Key and last value told.
    pub(crate) counters: Vec<(String, i64)>,
}

impl Load {
    /// Threads spread over the addresses; every other one sends ten at a time. About 1,000 commands/s for each.
    pub(crate) fn start(addresses: &[SocketAddr], tls: &Arc<rustls::ClientConfig>, threads: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..threads)
            .map(|number| {
                let client = Client::connect(addresses[(number / 2) % addresses.len()], tls);
                let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
                let depth = if number % 2 == 0 { 1 } else { 10 };
                std::thread::spawn(move || work(client, format!("load:{number}"), depth, &stop, &done))
            })
            .collect();
        Self { stop, done, threads }
    }

    /// Ends it, on a busy machine only once there was a load at all.
    pub(crate) fn stop(self) -> Seen {
        let until = now() + Duration::from_secs(30);
        let working = || self.threads.iter().any(|thread| !thread.is_finished());
        while self.done.load(Ordering::Relaxed) <= LEAST && working() && now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for thread in self.threads {
            let seen = thread.join().expect("a load thread");
            all.commands += seen.commands;
            all.wrong.extend(seen.wrong);
            all.closed += seen.closed;
            all.longest = all.longest.max(seen.longest);
            all.counters.extend(seen.counters);
        }
        all
    }
}

fn work(mut client: Client, key: String, depth: usize, stop: &AtomicBool, done: &AtomicU64) -> Seen {
    let mut seen = Seen::default();
    let batch = encode(&[b"INCR", key.as_bytes()]).repeat(depth);
    let mut value = 0;
    'work: while !stop.load(Ordering::Relaxed) {
        let sent = now();
        if client.try_send(&batch).is_err() {
            seen.closed += 1;
            break;
        }
        for _ in 0..depth {
            match client.try_read() {
                Ok(Value::Int(n)) if n == value + 1 => value = n,
                Ok(other) => seen.wrong.push(format!("{key}: {other:?} after {value}")),
                Err(_) => {
                    seen.closed += 1;
                    break 'work;
                }
            }
            seen.commands += 1;
            done.fetch_add(1, Ordering::Relaxed);
        }
        seen.longest = seen.longest.max(sent.elapsed());
        std::thread::sleep(Duration::from_millis(u64::try_from(depth).unwrap()));
    }
    seen.counters.push((key, value));
    seen
}

impl Seen {
    /// No client noticed anything, and the primary has exactly what was acknowledged.
    pub(crate) fn assert_unnoticed(&self, primary: &Redis) {
        assert!(self.commands > LEAST, "hardly a load: {self:?}");
        assert!(self.wrong.is_empty() && self.closed == 0, "clients noticed: {self:?}");
        for (key, told) in &self.counters {
            assert_eq!(primary.cmd(&format!("GET {key}")).text(), told.to_string(), "{key} on {}", primary.name);
        }
    }
}
