//! Leaving: readiness goes false, the workers close their sessions at quiet moments, the deadline cuts the rest.

use std::time::Duration;

use super::Owner;
use crate::io::admin::{DrainStatus, ms, whole_ms};
use crate::io::admin_events::What;
use crate::io::notify;
use crate::io::orders::Drain;
use crate::metrics::worker::{Gauge, Totals};

/// How long past their deadline workers may take to say that they have cut.
const GRACE: Duration = Duration::from_secs(1);

/// A drain under way.
#[derive(Debug)]
pub(super) struct Leaving {
    drain: Drain,
    drained: Vec<bool>,
    closed: u64,
    cut: u64,
    at_once: bool,
}

impl Leaving {
    pub(super) fn orders(&self) -> Drain {
        self.drain
    }

    fn all_drained(&self) -> bool {
        self.drained.iter().all(|drained| *drained)
    }
}

impl Owner {
    /// Begins to leave; asked a second time by the system, ends at once.
    pub(super) fn leave(&mut self, why: &str, now: Duration) {
        if let Some(leaving) = &mut self.leaving {
            if why == "SIGTERM" {
                leaving.at_once = true;
                tracing::info!("asked to leave again: ending at once");
            }
            return;
        }
        let times = self.config.drain;
        let drain = Drain { began: now, spread: times.spread, deadline: now + times.deadline };
        let drained = vec![false; self.config.workers];
        self.leaving = Some(Leaving { drain, drained, closed: 0, cut: 0, at_once: false });
        self.dirty = true;
        self.events.draining();
        tracing::info!(why, deadline = ?times.deadline, "draining");
        let open = Totals::of(&self.stats).gauge(Gauge::ConnectionsOpen);
        self.enter(What::DrainBegan { why: why.to_owned(), open, deadline_ms: whole_ms(times.deadline) });
        notify::stopping("draining", times.deadline + GRACE);
    }

    pub(super) fn handle_drained(&mut self, worker: usize, closed: u64, cut: u64) {
        let Some(leaving) = &mut self.leaving else { return };
        let Some(drained) = leaving.drained.get_mut(worker) else { return };
        if !std::mem::replace(drained, true) {
            leaving.closed += closed;
            leaving.cut += cut;
            self.events.drained(closed, cut);
            self.dirty = true;
        }
    }

    /// Whether nothing keeps the process any more. A switchover that this process runs is ended first: its own limits
    /// are shorter than any drain.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| {
            leaving.at_once || now >= leaving.drain.deadline + GRACE || (leaving.all_drained() && !self.is_switching())
        })
    }

    pub(super) fn leaving_due(&self) -> Option<Duration> {
        self.leaving.as_ref().map(|leaving| leaving.drain.deadline + GRACE)
    }

    pub(super) fn drain_status(&self, now: Duration) -> Option<DrainStatus> {
        self.leaving.as_ref().map(|leaving| DrainStatus {
            since_ms: whole_ms(now.saturating_sub(leaving.drain.began)),
            left_ms: whole_ms(leaving.drain.deadline.saturating_sub(now)),
            open: Totals::of(&self.stats).gauge(Gauge::ConnectionsOpen),
            closed: leaving.closed,
            cut: leaving.cut,
        })
    }

    /// The last words, to the log and to the pair.
    pub(super) fn farewell(&mut self, now: Duration) {
        if let Some(Leaving { drain, closed, cut, .. }) = self.leaving {
            let took = now.saturating_sub(drain.began);
            tracing::info!(closed, cut, ?took, "drained");
            self.enter(What::Drained { closed, cut, took_ms: ms(took) });
        }
        self.say_leave(now);
    }
}
