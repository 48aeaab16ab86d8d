//! Clients that number what they write and remember what they were told.
//!
//! Each has keys of its own: `log:N` gets every number once (RPUSH), `count:N` counts (INCR), `last:N` is the last number
//! (SET), and `last` of itself or of a client of the other proxy is read. Clients behave like a pool with both proxies'
//! addresses: when a connection ends, or a machine has been unreachable for a second, they go to the other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::{Client, Value};

/// How many clients there are; the even ones prefer the first proxy.
pub(crate) const CLIENTS: usize = 6;
/// A client waits this long for an answer; longer than any hold.
const PATIENCE: Duration = Duration::from_secs(25);
/// A machine that is out of reach is given up after so long, as by a client's own timeout.
const GIVES_UP: Duration = Duration::from_secs(1);
/// Between two looks whether it is.
const SLICE: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(4);

/// What all clients share.
pub(crate) struct Shared {
    pub(crate) proxies: [SocketAddr; 2],
    /// Since when a proxy's machine has been out of reach, in milliseconds of the cell; 0: it is not.
    gone: [AtomicU64; 2],
    stop: AtomicBool,
    floors: [AtomicU64; CLIENTS],
    pub(crate) began: Instant,
    pub(crate) tls: Arc<rustls::ClientConfig>,
}

/// What one client was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Numbers of `log` that were acknowledged, with the time.
    pub(crate) logged: Vec<(u64, Duration)>,
    /// Numbers of `log` that may have been written.
    pub(crate) unknown: Vec<u64>,
    /// Numbers of `log` that were refused.
    pub(crate) refused: Vec<u64>,
    /// Numbers of `last` that were acknowledged, with the time.
    pub(crate) last: Vec<(u64, Duration)>,
    /// Numbers of `last` that may have been written.
    pub(crate) last_unknown: Vec<u64>,
    /// Increments that were sent and not refused.
    pub(crate) increments: u64,
    /// Counts told that did not grow: when, before, after.
    pub(crate) shrunk: Vec<(Duration, u64, u64)>,
    /// Reads older than what had been acknowledged before they were sent: when, whose, acknowledged, read.
    pub(crate) stale: Vec<(Duration, usize, u64, u64)>,
    /// Every acknowledged write.
    pub(crate) acknowledged: Vec<Duration>,
    /// How long one answer took at most, and when it came.
    pub(crate) longest: (Duration, Duration),
    /// Errors by their first word.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Connections that ended.
    pub(crate) closed: u64,
    /// What must not be.
    pub(crate) wrong: Vec<String>,
}

/// What became of a command.
enum Fate {
    Answered(Value),
    Refused,
    Unknown,
}

pub(crate) struct Load {
    pub(crate) shared: Arc<Shared>,
    threads: Vec<JoinHandle<Told>>,
}

impl Load {
    pub(crate) fn start(proxies: [SocketAddr; 2], tls: Arc<rustls::ClientConfig>, began: Instant) -> Self {
        let shared = Arc::new(Shared {
            proxies,
            gone: Default::default(),
            stop: AtomicBool::new(false),
            floors: Default::default(),
            began,
            tls,
        });
        let threads = (0..CLIENTS).map(|number| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || One::new(number, shared).work())
        });
        let threads = threads.collect();
        Self { shared, threads }
    }

    /// Whether this proxy's machine is out of reach.
    pub(crate) fn unreachable(&self, proxy: usize, so: bool) {
        let now = u64::try_from(self.shared.began.elapsed().as_millis()).unwrap();
        self.shared.gone[proxy].store(if so { now } else { 0 }, Ordering::Relaxed);
    }

    pub(crate) fn stop(self) -> Vec<Told> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
    }
}

struct One {
    number: usize,
    shared: Arc<Shared>,
    at: usize,
    client: Option<Client>,
    told: Told,
}

impl One {
    fn new(number: usize, shared: Arc<Shared>) -> Self {
        Self { number, shared, at: number % 2, client: None, told: Told::default() }
    }

    fn work(mut self) -> Told {
        let (mut n, mut counted) = (0, 0);
        while !self.shared.stop.load(Ordering::Relaxed) {
            n += 1;
            self.log(n);
            counted = self.count(counted);
            self.set(n);
            self.read(if n % 2 == 0 { self.number } else { (self.number + 1) % CLIENTS });
            std::thread::sleep(PAUSE);
        }
        self.told
    }

    fn log(&mut self, n: u64) {
        match self.ask(&format!("RPUSH log:{} {n}", self.number)) {
            Fate::Answered(_) => {
                let at = self.acknowledged();
                self.told.logged.push((n, at));
            }
            Fate::Refused => self.told.refused.push(n),
            Fate::Unknown => self.told.unknown.push(n),
        }
    }

    fn count(&mut self, before: u64) -> u64 {
        self.told.increments += 1;
        match self.ask(&format!("INCR count:{}", self.number)) {
            Fate::Answered(Value::Int(after)) => {
                let (at, after) = (self.acknowledged(), u64::try_from(after).unwrap());
                if after <= before {
                    self.told.shrunk.push((at, before, after));
                }
                if after > self.told.increments {
                    self.told.wrong.push(format!("count:{} is {after} after fewer increments", self.number));
                }
                after
            }
            Fate::Answered(other) => {
                self.told.wrong.push(format!("INCR: {other:?}"));
                before
            }
            Fate::Refused => {
                self.told.increments -= 1;
                before
            }
            Fate::Unknown => before,
        }
    }

    fn set(&mut self, n: u64) {
        match self.ask(&format!("SET last:{} {n}", self.number)) {
            Fate::Answered(_) => {
                let at = self.acknowledged();
                self.told.last.push((n, at));
                self.shared.floors[self.number].store(n, Ordering::SeqCst);
            }
            Fate::Unknown => self.told.last_unknown.push(n),
            Fate::Refused => {}
        }
    }

    fn read(&mut self, whose: usize) {
        let floor = self.shared.floors[whose].load(Ordering::SeqCst);
        if let Fate::Answered(value) = self.ask(&format!("GET last:{whose}")) {
            let seen = match &value {
                Value::Bulk(text) => std::str::from_utf8(text).unwrap().parse().unwrap(),
                _ => 0,
            };
            if seen < floor {
                self.told.stale.push((self.shared.began.elapsed(), whose, floor, seen));
            }
        }
    }

    fn acknowledged(&mut self) -> Duration {
        let at = self.shared.began.elapsed();
        self.told.acknowledged.push(at);
        at
    }

    /// One command, once. It is not sent again whatever happens.
    fn ask(&mut self, words: &str) -> Fate {
        let asked = self.shared.began.elapsed();
        let fate = self.exchange(words, asked);
        let took = self.shared.began.elapsed().saturating_sub(asked);
        if took > self.told.longest.0 {
            self.told.longest = (took, asked + took);
        }
        fate
    }

    fn exchange(&mut self, words: &str, asked: Duration) -> Fate {
        if !self.connect() {
            return Fate::Refused;
        }
        let Some(client) = self.client.as_mut() else { return Fate::Refused };
        let parts: Vec<_> = words.split(' ').map(str::as_bytes).collect();
        if client.try_send(&crate::support::client::encode(&parts)).is_err() {
            return self.lost();
        }
        loop {
            match client.try_read() {
                Ok(Value::Error(text)) => return self.error(&text),
                Ok(value) => return Fate::Answered(value),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return self.lost(),
            }
            let now = self.shared.began.elapsed();
            if is_given_up(&self.shared, self.at, now) {
                return self.lost();
            }
            if now > asked + PATIENCE {
                self.told.wrong.push(format!("{words}: no answer within {PATIENCE:?}"));
                return self.lost();
            }
        }
    }

    fn lost(&mut self) -> Fate {
        self.client = None;
        self.told.closed += 1;
        self.at = 1 - self.at;
        Fate::Unknown
    }

    fn error(&mut self, text: &str) -> Fate {
        let word = text.split(' ').next().unwrap_or_default().to_owned();
        let unknown = word == "OUTCOMEUNKNOWN";
        *self.told.errors.entry(word).or_default() += 1;
        if unknown {
            return Fate::Unknown;
        }
        // A refusal at once must not become a storm.
        std::thread::sleep(PAUSE * 5);
        Fate::Refused
    }

    /// Connects to one proxy or the other; false when it is time to stop.
    fn connect(&mut self) -> bool {
        let mut attempts = 0;
        while self.client.is_none() {
            if self.shared.stop.load(Ordering::Relaxed) {
                return false;
            }
            // Back to the own proxy when there is a choice.
            let now = self.shared.began.elapsed();
            if attempts > 0 || is_given_up(&self.shared, self.at, now) {
                self.at = 1 - self.at;
            }
            attempts += 1;
            let at = self.shared.proxies[self.at];
            match Client::try_connect_within(at, &self.shared.tls, GIVES_UP) {
                Ok(client) => {
                    client.wait_at_most(SLICE);
                    self.client = Some(client);
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
        true
    }
}

fn is_given_up(shared: &Shared, proxy: usize, now: Duration) -> bool {
    let since = shared.gone[proxy].load(Ordering::Relaxed);
    since > 0 && now >= Duration::from_millis(since) + GIVES_UP
}
