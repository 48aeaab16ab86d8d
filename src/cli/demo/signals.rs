//! Ctrl-C and SIGTERM: the demo ends its children before it ends itself.
//!
//! A thread of its own listens; whoever waits does so through [`Interrupt::sleep`], which fails at once then.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// Whether somebody asked us to stop. Clones share the answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt {
    state: Arc<(Mutex<bool>, Condvar)>,
}

/// The reason given for ending early.
pub(super) const INTERRUPTED: &str = "interrupted";

impl Interrupt {
    /// Starts to listen.
    pub(super) fn listen() -> Result<Self, String> {
        let interrupt = Self::default();
        let seen = interrupt.clone();
        let failed = |e: std::io::Error| format!("cannot listen for signals: {e}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let _registers_signals_here = runtime.enter();
        let mut int = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut term = signal(SignalKind::terminate()).map_err(failed)?;
        drop(_registers_signals_here);
        let listen = move || {
            runtime.block_on(async {
                tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
            });
            seen.set();
        };
        std::thread::Builder::new().name("demo-signals".to_owned()).spawn(listen).map_err(failed)?;
        Ok(interrupt)
    }

    fn set(&self) {
        *self.state.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.state.1.notify_all();
    }

    /// Sleeps, or fails as soon as we are asked to stop.
    pub(super) fn sleep(&self, time: Duration) -> Result<(), String> {
        let (stopped, changed) = &*self.state;
        let guard = stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(guard, time, |stopped| !*stopped);
        let (guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *guard { Err(INTERRUPTED.to_owned()) } else { Ok(()) }
    }
}
