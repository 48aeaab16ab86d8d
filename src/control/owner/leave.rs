//! Leaving: readiness goes false, the workers close their sessions at quiet moments, the deadline cuts the rest.
//!
//! ```text
//!            drain                       last session ended
//!   serving -------> draining -----------------------------------> drained
//!      ^                | undrain            undrain                  |
//!      +----------------+---- returning <-----------------------------+
//!        listener is open again
//! ```
//!
//! A drain begins with its notice: readiness is false, the pair knows, and the workers know nothing yet. Load balancers
//! look away while every client is served.
//!
//! With `stop` (SIGTERM, `drain --stop`) the process ends once it is drained; otherwise it goes on without clients, and
//! still follows the roles and holds with the pair, until it is told to serve again or to stop.

use std::time::Duration;

use super::Owner;
use crate::control::channel::Kind;
use crate::io::admin::events::What;
use crate::io::admin::status::{DrainCut, DrainStatus};
use crate::io::admin::{Refused, ms, whole_ms};
use crate::io::notify;
use crate::io::orders::{Drain, DrainTally, Elsewhere};
use crate::metrics::worker::{Counter, Gauge, Totals};

/// How long past their deadline workers may take to say that they have cut.
const GRACE: Duration = Duration::from_secs(1);

/// A drain, from its order to the end of the process or to the return.
#[derive(Debug)]
pub(super) struct Leaving {
    /// When it was ordered: the notice begins.
    since: Duration,
    drain: Drain,
    drained: Vec<bool>,
    tally: DrainTally,
    /// What the workers had counted when it began.
    before: Totals,
    /// The process ends with it.
    stop: bool,
    at_once: bool,
    /// Told to serve again; the listener is not open yet.
    returning: bool,
    /// The workers know of it: the notice is over.
    told: bool,
}

impl Leaving {
    /// What the workers are told; nothing before the notice is over.
    pub(super) fn orders(&mut self, now: Duration) -> Option<Drain> {
        self.told |= now >= self.drain.began;
        (self.told && !self.returning).then_some(self.drain)
    }

    fn all_drained(&self) -> bool {
        self.drained.iter().all(|drained| *drained)
    }

    fn since(&self, totals: &Totals, counter: Counter) -> u64 {
        totals.counter(counter).saturating_sub(self.before.counter(counter))
    }
}

impl Owner {
    /// The system asks to leave; asked a second time, the process ends at once.
    pub(super) fn leave_by_signal(&mut self, now: Duration) {
        if let Some(leaving) = self.leaving.as_mut().filter(|leaving| leaving.stop) {
            leaving.at_once = true;
            tracing::info!("asked to leave again: ending at once");
            return;
        }
        self.leave("SIGTERM", true, now);
    }

    /// Begins to leave; with `stop`, the process ends afterwards. One that drains already only learns that it ends.
    pub(super) fn leave(&mut self, why: &str, stop: bool, now: Duration) {
        let times = self.config.drain;
        match self.leaving.as_mut().filter(|leaving| !leaving.returning) {
            Some(leaving) if leaving.stop || !stop => return,
            Some(leaving) => {
                leaving.stop = true;
                tracing::info!(why, "the process ends with this drain");
            }
            None => {
                let id = self.begin_event(None);
                let began = now + times.notice;
                let drain = Drain { id, began, spread: times.spread, deadline: began + times.deadline };
                let before = Totals::of(&self.stats);
                let drained = vec![false; self.config.workers];
                let tally = DrainTally::default();
                let returning = false;
                let (told, at_once) = (false, false);
                let leaving = Leaving { since: now, drain, drained, tally, before, stop, at_once, returning, told };
                self.leaving = Some(leaving);
                self.events.draining(true);
                tracing::info!(why, stop, notice = ?times.notice, deadline = ?times.deadline, "draining");
                let open = Totals::of(&self.stats).gauge(Gauge::ConnectionsOpen);
                self.enter(What::DrainBegan {
                    why: why.to_owned(),
                    open,
                    deadline_ms: whole_ms(times.notice + times.deadline),
                });
                if self.elsewhere(now) == Elsewhere::Nowhere {
                    tracing::info!(
                        "no other process of the pair is heard that serves: clients are not told where to go"
                    );
                }
                self.say_presence(now);
            }
        }
        self.dirty = true;
        if stop {
            notify::stopping("draining", times.notice + times.deadline + GRACE);
        } else {
            notify::status("draining");
        }
    }

    /// Serves again, as soon as the listener is open.
    pub(super) fn undrain(&mut self, now: Duration) -> Result<DrainStatus, Refused> {
        let Some(leaving) = &mut self.leaving else { return Err(Refused::because("no drain is under way")) };
        if leaving.stop {
            return Err(Refused::because("the process is ending"));
        }
        leaving.returning = true;
        self.dirty = true;
        tracing::info!("told to serve again");
        if !leaving.told {
            // Their listener was never shut.
            let status = self.drain_status(now);
            self.handle_listening(now);
            return status.ok_or_else(|| Refused::because("no drain is under way"));
        }
        self.drain_status(now).ok_or_else(|| Refused::because("no drain is under way"))
    }

    /// The listener is open again.
    pub(super) fn handle_listening(&mut self, now: Duration) {
        if self.leaving.take_if(|leaving| leaving.returning).is_some() {
            self.dirty = true;
            self.events.draining(false);
            tracing::info!("serving again");
            notify::status(&self.headline());
            self.say_presence(now);
        }
    }

    pub(super) fn handle_drained(&mut self, worker: usize, drain: u64, tally: DrainTally, now: Duration) {
        let Some(leaving) = self.leaving.as_mut().filter(|leaving| leaving.drain.id == drain) else { return };
        let Some(drained) = leaving.drained.get_mut(worker) else { return };
        if std::mem::replace(drained, true) {
            return;
        }
        self.events.drained(tally.closed, tally.moved, tally.cuts());
        leaving.tally.add(tally);
        self.dirty = true;
        if !leaving.all_drained() {
            return;
        }
        let (tally, took) = (&leaving.tally, now.saturating_sub(leaving.since));
        for ((why, library), count) in &tally.cut {
            tracing::warn!(why = why.name(), library, count, "cut at the drain's deadline");
        }
        let (closed, moved, cut, stop) = (tally.closed, tally.moved, tally.cuts(), leaving.stop);
        tracing::info!(closed, moved, cut, ?took, "drained");
        self.enter(What::Drained { closed: closed + moved, cut, took_ms: ms(took) });
        if !stop {
            notify::status("drained; `changeover undrain` to serve again");
        }
    }

    /// Where the clients of this process may go: to the proxy beside the other node, if it is heard and serves.
    pub(super) fn elsewhere(&self, now: Duration) -> Elsewhere {
        let mut configured = Elsewhere::Nowhere;
        for node in self.peers.serving(now).filter(|node| self.me.node.as_deref() != Some(*node)) {
            configured = Elsewhere::Configured;
            let at = self.node_named(node).map(|node| node.index());
            let told = at.and_then(|at| self.config.notices.advertise.get(at));
            let (name, address) = told.map_or((None, None), |told| (told.name.as_deref(), told.address.as_deref()));
            if let Some((name, address)) = name.or(address).zip(address.or(name)) {
                return Elsewhere::At { name: name.into(), address: address.into() };
            }
        }
        configured
    }

    /// Whether nothing keeps the process any more. A switchover that this process runs is ended first: its own limits
    /// are shorter than any drain.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        self.leaving.as_ref().filter(|leaving| leaving.stop).is_some_and(|leaving| {
            leaving.at_once || now >= leaving.drain.deadline + GRACE || (leaving.all_drained() && !self.is_switching())
        })
    }

    /// The end of the notice, then the end of the process.
    pub(super) fn leaving_due(&self, now: Duration) -> Option<Duration> {
        let leaving = self.leaving.as_ref()?;
        if now < leaving.drain.began {
            return Some(leaving.drain.began);
        }
        leaving.stop.then_some(leaving.drain.deadline + GRACE)
    }

    pub(super) fn drain_status(&self, now: Duration) -> Option<DrainStatus> {
        let leaving = self.leaving.as_ref()?;
        let totals = Totals::of(&self.stats);
        let cuts = leaving.tally.cut.iter().map(|((why, library), count)| DrainCut {
            why: why.name().to_owned(),
            library: library.clone(),
            count: *count,
        });
        Some(DrainStatus {
            since_ms: whole_ms(now.saturating_sub(leaving.since)),
            left_ms: whole_ms(leaving.drain.deadline.saturating_sub(now)),
            open: totals.gauge(Gauge::ConnectionsOpen),
            closed: leaving.since(&totals, Counter::ClosedDrain),
            cut: leaving.since(&totals, Counter::ClosedDrainCut),
            moved: leaving.since(&totals, Counter::ClosedMoved),
            stops: leaving.stop,
            done: leaving.all_drained(),
            cuts: cuts.collect(),
        })
    }

    /// The last words to the pair.
    pub(super) fn farewell(&mut self, now: Duration) {
        if let Some(leaving) = self.leaving.as_ref().filter(|leaving| !leaving.all_drained()) {
            let open = Totals::of(&self.stats).gauge(Gauge::ConnectionsOpen);
            let took = now.saturating_sub(leaving.since);
            tracing::info!(open, ?took, "ending although not everybody has left");
        }
        self.say(Kind::Leave, now);
    }

    /// A change, or a drain, begins: clients are told by this number which. `told` is what the process that runs it
    /// calls it; it is not believed when it is far from our own clock, because clients ignore whatever is lower than
    /// the last they heard.
    pub(super) fn begin_event(&mut self, told: Option<u64>) -> u64 {
        let own = crate::io::clock::unix_millis();
        let told = told.filter(|told| told.abs_diff(own) <= PLAUSIBLE_MS);
        if told != Some(self.event) {
            // The end of the last one has the next number.
            self.event = told.unwrap_or(own).max(self.event + 2);
        }
        self.event
    }
}

/// How far the clocks of the nodes of a pair may differ, generously.
const PLAUSIBLE_MS: u64 = 3_600_000;
