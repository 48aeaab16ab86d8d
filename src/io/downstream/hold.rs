//! How long one conversation's commands are held, and how that ends.
//!
//! A conversation is held while it has commands to send and may not, or cannot. The hold ends when the first of them
//! is sent, or at a limit: then everything that waits is answered with `-LOADING …`, the refusal that most client
//! libraries retry. When nobody of the worker can send, all holds count from when that began: a command that comes
//! late in a long outage is not held for another full time.

use std::time::Duration;

use crate::io::worker::Worker;
use crate::metrics::worker::{Counter, Histogram};

use super::Conversation;

/// So long an ordered hold waits for the rest of a large command, however busily the client sends it.
const GRACE: Duration = Duration::from_millis(600);
/// And so long for a client that sends nothing.
const SILENCE: Duration = Duration::from_millis(250);

/// The hold of one conversation.
#[derive(Default)]
pub(super) struct Held {
    /// When its own hold began.
    since: Option<Duration>,
    /// What it holds back, as last told to the worker: requests and bytes.
    reckoned: (u64, u64),
}

impl Held {
    fn reckon(&mut self, worker: &Worker, now: (u64, u64)) -> Result<(), &'static str> {
        worker.reckon_held(std::mem::replace(&mut self.reckoned, now), now)
    }

    /// The conversation ends while it is held.
    pub(super) fn abandon(&mut self, worker: &Worker, now: Duration) {
        if let Some(since) = self.since.take() {
            worker.stats.add(Counter::HoldsClosed, 1);
            worker.end_hold(now.saturating_sub(since));
        }
        let _lower = self.reckon(worker, (0, 0));
    }
}

impl Conversation {
    /// Called in each round: begins, reckons and ends this conversation's hold.
    pub(super) fn watch_hold(&mut self) -> bool {
        let waits = self.session.waits() || self.session.refusing();
        if !waits || self.may_send() {
            return self.release();
        }
        if self.held.since.is_none() && self.connecting() {
            return false;
        }
        let since = *self.held.since.get_or_insert_with(|| {
            self.worker.begin_hold();
            self.now
        });
        self.tell_held(since);
        let (requests, bytes) = self.session.waiting();
        let within = self.held.reckon(&self.worker, (requests as u64, bytes as u64));
        let began = self.worker.holding_since().map_or(since, |all| all.min(since));
        let limit = self.worker.limits.hold.time;
        let refuse = self.worker.orders().refuse.clone();
        if let (Ok(()), Some(text)) = (within, &refuse) {
            return self.answer_held(text, Counter::HoldsRefused);
        }
        let (why, counter) = match within {
            Err("bytes") => ("too many bytes are held back", Counter::HoldsLimitBytes),
            Err(_) => ("too many requests are held back", Counter::HoldsLimitRequests),
            Ok(()) if began + limit <= self.now => ("no primary was found in time", Counter::HoldsLimitTime),
            Ok(()) => return false,
        };
        self.answer_held(&format!("LOADING {why}; the command was not executed, try again"), counter)
    }

    /// Everything that waits is answered with this error.
    fn answer_held(&mut self, text: &str, counter: Counter) -> bool {
        if self.session.must_leave_to_expire() {
            self.drop_upstream();
        }
        self.session.expire(text, &mut self.out);
        self.worker.stats.add(counter, 1);
        let _lower = self.held.reckon(&self.worker, (0, 0));
        if let Some(since) = self.held.since.take() {
            self.observe(since);
        }
        true
    }

    /// A client that is slow to send the rest of a large command must not keep the others waiting: under an ordered hold it
    /// gets a moment, then the command waits where it is. It has not run, and will not before the hold is over.
    pub(super) fn stalls(&mut self) -> bool {
        let ordered = self.worker.ordered_hold(self.now);
        self.stalled = ordered && (self.stalled || self.stall_due().is_some_and(|due| due <= self.now));
        self.stalled
    }

    /// When the ordered hold under way waits no longer for the rest of a large command.
    pub(super) fn stall_due(&self) -> Option<Duration> {
        let since = self.worker.holding_since().filter(|_| self.session.half_sent() && !self.stalled)?;
        Some((since + GRACE).min(self.seat.last_heard.get() + SILENCE))
    }

    /// Its commands are held now.
    pub(super) fn is_held(&self) -> bool {
        self.held.since.is_some()
    }

    /// When the hold reaches its time limit.
    pub(super) fn hold_deadline(&self) -> Option<Duration> {
        let since = self.held.since?;
        Some(self.worker.holding_since().map_or(since, |all| all.min(since)) + self.worker.limits.hold.time)
    }

    fn release(&mut self) -> bool {
        let Some(since) = self.held.since.take() else { return false };
        self.worker.stats.add(Counter::HoldsReleased, 1);
        let _lower = self.held.reckon(&self.worker, (0, 0));
        self.observe(since);
        false
    }

    fn observe(&self, since: Duration) {
        let time = self.now.saturating_sub(since);
        self.worker.stats.observe(Histogram::Hold, time);
        self.worker.end_hold(time);
    }
}
