//! The service manager: says that we are ready, reload, stop, and are alive (systemd's notify protocol).
//!
//! Where nobody listens (`$NOTIFY_SOCKET` unset) every call does nothing. A failure to notify is logged once and never
//! stops anything.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

static COMPLAINED: AtomicBool = AtomicBool::new(false);

/// We listen and serve.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload has begun; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(_) => send(&[NotifyState::Reloading]),
    }
}

/// We are on our way out; it takes up to `within`.
pub fn stopping(status: &str, within: Duration) {
    let within = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    send(&[NotifyState::Stopping, NotifyState::Status(status), NotifyState::ExtendTimeoutUsec(within)]);
}

/// One line for `systemctl status`.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// We are alive.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] must be called: half of what the service manager allows, `None` when it does not ask.
pub fn watchdog_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|every| !every.is_zero())
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states)
        && !COMPLAINED.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
