//! What the system asks of the process.
//!
//! Only turns signals into words; the owner decides what they mean.

use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// A signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: leave; a second one ends at once.
    Leave,
    /// SIGHUP: read certificates again.
    Reload,
}

/// The signals that we listen to.
#[derive(Debug)]
pub struct Signals {
    terminate: Stream,
    interrupt: Stream,
    hang_up: Stream,
}

impl Signals {
    /// From now on these signals come here instead of ending the process.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.terminate.recv() => Signal::Leave,
            Some(()) = self.interrupt.recv() => Signal::Leave,
            Some(()) = self.hang_up.recv() => Signal::Reload,
            else => std::future::pending().await,
        }
    }
}
