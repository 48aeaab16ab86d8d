//! What a worker counts: plain integers, one writer, read by whoever scrapes.
//!
//! Each worker owns one [`WorkerStats`] and is its only writer, so an update is a relaxed load and a relaxed store (no
//! locked instruction); readers see each number whole, but not several numbers of the same instant. Nothing here
//! formats, and nothing allocates after [`WorkerStats::new`]. Which metric a number belongs to is in `catalogue.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::catalogue::{self, Family};

macro_rules! series {
    ($(#[$doc:meta])* $enum:ident { $($variant:ident = $family:ident $($value:literal)*,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the catalogue has the meaning of every series")]
        pub enum $enum { $($variant),+ }

        impl $enum {
            /// Every series, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The metric.
            pub fn family(self) -> &'static Family {
                match self { $(Self::$variant => &catalogue::$family),+ }
            }

            /// The values of the family's labels.
            pub fn values(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($value),*]),+ }
            }
        }
    };
}

series! {
    /// A number that only grows.
    Counter {
        ConnectionsAccepted = CONNECTIONS_ACCEPTED,
        ClosedByClient = CONNECTIONS_CLOSED "client",
        ClosedReset = CONNECTIONS_CLOSED "reset",
        ClosedHandshake = CONNECTIONS_CLOSED "handshake",
        ClosedProtocol = CONNECTIONS_CLOSED "protocol",
        ClosedSlow = CONNECTIONS_CLOSED "slow",
        ClosedLimit = CONNECTIONS_CLOSED "limit",
        ClosedIdle = CONNECTIONS_CLOSED "idle",
        ClosedDrain = CONNECTIONS_CLOSED "drain",
        ClosedMoved = CONNECTIONS_CLOSED "moved",
        ClosedDrainCut = CONNECTIONS_CLOSED "drain_cut",
        ClosedStateLost = CONNECTIONS_CLOSED "state_lost",
        ClosedHalf = CONNECTIONS_CLOSED "half_reply",
        ClosedServer = CONNECTIONS_CLOSED "server",
        ClosedTlsKey = CONNECTIONS_CLOSED "tls_key",
        ClosedKilled = CONNECTIONS_CLOSED "killed",
        HandshakeFull = HANDSHAKES "full",
        HandshakeResumed = HANDSHAKES "resumed",
        HandshakeTimeout = HANDSHAKES "timeout",
        HandshakeCertificate = HANDSHAKES "certificate",
        HandshakeNotTls = HANDSHAKES "not_tls",
        HandshakeFailed = HANDSHAKES "failed",
        CommandsRead = COMMANDS "read",
        CommandsWrite = COMMANDS "write",
        CommandsScript = COMMANDS "script",
        CommandsPublish = COMMANDS "publish",
        CommandsBlocking = COMMANDS "blocking",
        CommandsTransaction = COMMANDS "transaction",
        CommandsSubscription = COMMANDS "subscription",
        CommandsConnection = COMMANDS "connection",
        CommandsScan = COMMANDS "scan",
        CommandsHarmless = COMMANDS "harmless",
        CommandsAdmin = COMMANDS "admin",
        CommandsOther = COMMANDS "other",
        BytesFromClients = BYTES "client" "in",
        BytesToClients = BYTES "client" "out",
        BytesFromRedis = BYTES "redis" "in",
        BytesToRedis = BYTES "redis" "out",
        ErrorsFromRedis = ERROR_REPLIES "redis",
        ErrorsAuthored = ERROR_REPLIES "changeover",
        ProtocolErrorsClient = PROTOCOL_ERRORS "client",
        ProtocolErrorsRedis = PROTOCOL_ERRORS "redis",
        HoldsReleased = HOLDS "released",
        HoldsRefused = HOLDS "refused",
        HoldsLimitTime = HOLDS "limit_time",
        HoldsLimitBytes = HOLDS "limit_bytes",
        HoldsLimitRequests = HOLDS "limit_requests",
        HoldsClosed = HOLDS "closed",
        RefusedCommands = REFUSED_COMMANDS,
        ResentRefused = RESENT_COMMANDS "refused",
        ResentLost = RESENT_COMMANDS "lost",
        UnknownOutcomes = UNKNOWN_OUTCOMES,
        WritesAlone = WRITES_ALONE,
        WatchFailed = WATCH_FAILED,
        MessageGaps = MESSAGE_GAPS,
        ToldMoving = NOTIFICATIONS "moving",
        ToldFailingOver = NOTIFICATIONS "failing_over",
        ToldFailedOver = NOTIFICATIONS "failed_over",
        ToldStackExchange = NOTIFICATIONS "stackexchange",
        ToldAzure = NOTIFICATIONS "azure",
        CutTransaction = DRAIN_CUTS "transaction",
        CutBlocked = DRAIN_CUTS "blocked",
        CutRaw = DRAIN_CUTS "raw",
        CutSpeaking = DRAIN_CUTS "speaking",
        CutOwed = DRAIN_CUTS "owed",
        CutUnread = DRAIN_CUTS "unread",
        UpstreamConnected = UPSTREAM_CONNECTS "ok",
        UpstreamReused = UPSTREAM_CONNECTS "reused",
        UpstreamConnectFailed = UPSTREAM_CONNECTS "failed",
        UpstreamLost = UPSTREAMS_LOST,
    }
}

series! {
    /// A number that goes up and down.
    Gauge {
        ConnectionsOpen = CONNECTIONS_OPEN,
        HeldSessions = HELD_SESSIONS,
        HeldBytes = HELD_BYTES,
        UpstreamsOpen = UPSTREAMS_OPEN,
    }
}

series! {
    /// Times, counted in fixed buckets.
    Histogram {
        Handshake = HANDSHAKE_SECONDS,
        Added = ADDED_SECONDS,
        Hold = HOLD_SECONDS,
    }
}

/// Upper bounds of the buckets, in nanoseconds; one more bucket takes what is longer. From 10 us, below which a
/// reading says more about the clock than about us, to twice the default hold limit.
pub const BOUNDS: [u64; 21] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    STALL_FELT,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    15_000_000_000,
    30_000_000_000,
];

/// A hold that is longer than this (nanoseconds) counts as felt: client libraries' default time-outs are not shorter.
/// It must be one of [`BOUNDS`].
pub const STALL_FELT: u64 = 1_000_000_000;

const COUNTERS: usize = Counter::ALL.len();
const GAUGES: usize = Gauge::ALL.len();
const HISTOGRAMS: usize = Histogram::ALL.len();

/// The counts of one worker. Aligned so that two workers never share a cache line.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerStats {
    counters: [AtomicU64; COUNTERS],
    gauges: [AtomicU64; GAUGES],
    histograms: [Buckets; HISTOGRAMS],
}

#[derive(Debug)]
struct Buckets {
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; BOUNDS.len() + 1], nanos: AtomicU64::new(0) }
    }
}

fn bump(number: &AtomicU64, by: u64) {
    number.store(number.load(Relaxed).wrapping_add(by), Relaxed);
}

impl Default for WorkerStats {
    fn default() -> Self {
        Self {
            counters: [const { AtomicU64::new(0) }; COUNTERS],
            gauges: [const { AtomicU64::new(0) }; GAUGES],
            histograms: std::array::from_fn(|_| Buckets::default()),
        }
    }
}

impl WorkerStats {
    /// All zero; one for each worker, shared with those who read.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds to a counter. Only the worker may call it, as all that follow which write.
    #[inline]
    pub fn add(&self, counter: Counter, by: u64) {
        if let Some(number) = self.counters.get(counter as usize) {
            bump(number, by);
        }
    }

    /// Sets a gauge.
    #[inline]
    pub fn set(&self, gauge: Gauge, value: u64) {
        if let Some(number) = self.gauges.get(gauge as usize) {
            number.store(value, Relaxed);
        }
    }

    /// Moves a gauge up.
    #[inline]
    pub fn raise(&self, gauge: Gauge, by: u64) {
        self.set(gauge, self.gauge(gauge).saturating_add(by));
    }

    /// Moves a gauge down, to 0 at the least.
    #[inline]
    pub fn lower(&self, gauge: Gauge, by: u64) {
        self.set(gauge, self.gauge(gauge).saturating_sub(by));
    }

    /// Counts a time.
    #[inline]
    pub fn observe(&self, histogram: Histogram, time: Duration) {
        self.observe_many(histogram, time, 1);
    }

    /// Counts the same time `times` times: the commands of one wake-up.
    #[inline]
    pub fn observe_many(&self, histogram: Histogram, time: Duration, times: u64) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let Some(buckets) = self.histograms.get(histogram as usize) else { return };
        // Most times are short: the search from below ends early.
        let at = BOUNDS.iter().position(|bound| nanos <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = buckets.counts.get(at) {
            bump(count, times);
        }
        bump(&buckets.nanos, nanos.wrapping_mul(times));
    }

    /// Reads a counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.get(counter as usize).map_or(0, |number| number.load(Relaxed))
    }

    /// Reads a gauge.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges.get(gauge as usize).map_or(0, |number| number.load(Relaxed))
    }
}

/// The counts of all workers, added up at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    counters: [u64; COUNTERS],
    gauges: [u64; GAUGES],
    histograms: [Times; HISTOGRAMS],
}

/// One histogram, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// How many fell in each bucket (not cumulative); the last is above every bound.
    pub counts: [u64; BOUNDS.len() + 1],
    /// Their sum.
    pub nanos: u64,
}

impl Times {
    /// How many in all.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many were longer than `bound`, which is one of [`BOUNDS`].
    pub fn above(&self, bound: u64) -> u64 {
        BOUNDS.iter().chain([&u64::MAX]).zip(self.counts).filter(|(at, _)| **at > bound).map(|(_, count)| count).sum()
    }
}

impl Totals {
    /// Adds the workers up.
    pub fn of(workers: &[Arc<WorkerStats>]) -> Self {
        let sum = |read: &dyn Fn(&WorkerStats) -> u64| {
            workers.iter().fold(0_u64, |total, worker| total.wrapping_add(read(worker)))
        };
        Self {
            counters: std::array::from_fn(|at| sum(&|worker| worker.counters.get(at).map_or(0, |n| n.load(Relaxed)))),
            gauges: std::array::from_fn(|at| sum(&|worker| worker.gauges.get(at).map_or(0, |n| n.load(Relaxed)))),
            histograms: std::array::from_fn(|at| Times {
                counts: std::array::from_fn(|bucket| {
                    sum(&|worker| {
                        let buckets = worker.histograms.get(at).and_then(|times| times.counts.get(bucket));
                        buckets.map_or(0, |n| n.load(Relaxed))
                    })
                }),
                nanos: sum(&|worker| worker.histograms.get(at).map_or(0, |times| times.nanos.load(Relaxed))),
            }),
        }
    }

    /// A counter of all workers.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.get(counter as usize).copied().unwrap_or(0)
    }

    /// Commands of every class.
    pub fn commands(&self) -> u64 {
        let classes = Counter::ALL.iter().filter(|counter| *counter.family() == catalogue::COMMANDS);
        classes.map(|counter| self.counter(*counter)).sum()
    }

    /// A gauge of all workers.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges.get(gauge as usize).copied().unwrap_or(0)
    }

    /// A histogram of all workers.
    pub fn histogram(&self, histogram: Histogram) -> Times {
        self.histograms.get(histogram as usize).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
