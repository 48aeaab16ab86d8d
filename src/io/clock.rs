//! The only reader of the clock.
//!
//! Pure code is told the time as a [`Duration`] since this process' clock began; calendar time is needed only where
//! people or other processes read it.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static BEGAN: LazyLock<Instant> = LazyLock::new(read);

#[expect(clippy::disallowed_methods, reason = "this file is the one reader of the clock")]
fn read() -> Instant {
    Instant::now()
}

/// Monotonic time since the first call in this process.
pub fn now() -> Duration {
    read().saturating_duration_since(*BEGAN)
}

/// The instant that [`now`] would return as `at`, for timers of the runtime.
pub fn instant(at: Duration) -> tokio::time::Instant {
    tokio::time::Instant::from_std(*BEGAN + at)
}

/// Milliseconds since the Unix epoch, for what people and other processes read.
#[expect(clippy::disallowed_methods, reason = "this file is the one reader of the clock")]
pub fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// The calendar time.
pub fn timestamp() -> jiff::Timestamp {
    let millis = i64::try_from(unix_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX)
}

/// How long ago a calendar time was; `None` when it is still to come.
#[expect(clippy::disallowed_methods, reason = "this file is the one reader of the clock")]
pub fn since(at: SystemTime) -> Option<Duration> {
    SystemTime::now().duration_since(at).ok()
}
