//! What subscribers, workers and transactions saw, and what of it was wrong.
//!
//! Pure. Whether a count is a broken promise is decided in `report.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::super::ledger::{Findings, Series};

/// Counts of one phase.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(in super::super) struct Counts {
    /// Replies and messages.
    pub(in super::super) commands: u64,
    /// The longest wait for a reply, in microseconds; blocking commands are left out.
    pub(in super::super) stall_us: u64,
    /// Messages, as often as they were delivered.
    pub(in super::super) messages: u64,
    /// Messages that a subscriber did not hear.
    pub(in super::super) missed: u64,
    /// Messages that a subscriber heard again.
    pub(in super::super) messages_doubled: u64,
    /// Messages that a subscriber heard after a later one.
    pub(in super::super) messages_reordered: u64,
    /// Jobs that workers took.
    pub(in super::super) jobs: u64,
    /// Jobs of the queue that no worker got.
    pub(in super::super) jobs_lost: u64,
    /// Jobs that workers got twice, or whose enqueueing was refused.
    pub(in super::super) jobs_doubled: u64,
    /// Transactions that completed.
    pub(in super::super) transactions: u64,
    /// Transactions that a WATCH made to begin again.
    pub(in super::super) retried: u64,
    /// Transactions that ended in an error.
    pub(in super::super) failed: u64,
    /// Completed transactions whose effects are gone.
    pub(in super::super) transactions_lost: u64,
    /// Transactions that ran twice.
    pub(in super::super) transactions_doubled: u64,
    /// Transactions of which a part ran, or that ran although the watched key had changed.
    pub(in super::super) sums_broken: u64,
}

impl Counts {
    /// A reply came after this time.
    pub(super) fn waited(&mut self, stall: Duration) {
        self.stall_us = self.stall_us.max(u64::try_from(stall.as_micros()).unwrap_or(u64::MAX));
    }

    /// A subscriber's phase.
    pub(super) fn listened(&mut self, ear: &Ear, published: u64) {
        self.messages += ear.heard;
        self.missed += ear.missed(published);
        self.messages_doubled += ear.doubled;
        self.messages_reordered += ear.reordered;
    }

    /// All workers' phase.
    pub(super) fn worked(&mut self, jobs: &Jobs) {
        let Findings { lost, doubled, .. } = jobs.queue.check_list(&jobs.taken);
        self.jobs += u64::try_from(jobs.taken.len()).unwrap_or(u64::MAX);
        self.jobs_lost += lost;
        self.jobs_doubled += doubled;
    }

    /// A transaction's effects compared with what was told.
    pub(super) fn compared(&mut self, found: Findings) {
        self.transactions_lost += found.lost;
        self.transactions_doubled += found.doubled;
    }
}

/// One subscriber's ear: messages are numbered from 0.
#[derive(Debug, Default)]
pub(super) struct Ear {
    next: u64,
    missing: BTreeSet<u64>,
    heard: u64,
    doubled: u64,
    reordered: u64,
}

impl Ear {
    /// A message.
    pub(super) fn hear(&mut self, number: u64) {
        self.heard += 1;
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
        } else if self.missing.remove(&number) {
            self.reordered += 1;
        } else {
            self.doubled += 1;
        }
    }

    /// It heard the latest message.
    pub(super) fn is_level(&self, published: u64) -> bool {
        self.next >= published
    }

    fn missed(&self, published: u64) -> u64 {
        u64::try_from(self.missing.len()).unwrap_or(u64::MAX) + published.saturating_sub(self.next)
    }
}

/// The queue's books: jobs are numbered from 0.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    /// What was put in.
    pub(super) queue: Series,
    /// What workers got.
    pub(super) taken: Vec<u64>,
}

impl Jobs {
    /// As many were taken as were certainly put in.
    pub(super) fn all_taken(&self) -> bool {
        self.taken.len() + self.queue.exceptions.len() >= usize::try_from(self.queue.issued).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ledger::Outcome;
    use super::*;

    fn heard(numbers: &[u64], published: u64) -> [u64; 3] {
        let mut ear = Ear::default();
        numbers.iter().for_each(|&number| ear.hear(number));
        let mut counts = Counts::default();
        counts.listened(&ear, published);
        assert_eq!(counts.messages, numbers.len() as u64);
        [counts.missed, counts.messages_doubled, counts.messages_reordered]
    }

    #[test]
    fn an_ear_tells_missed_doubled_and_reordered_messages_apart() {
        assert_eq!(heard(&[0, 1, 2, 3], 4), [0, 0, 0]);
        assert_eq!(heard(&[0, 3], 5), [3, 0, 0], "1, 2 and the last");
        assert_eq!(heard(&[0, 1, 1, 2], 3), [0, 1, 0]);
        assert_eq!(heard(&[0, 2, 1, 3], 4), [0, 0, 1]);
        assert_eq!(heard(&[0, 2, 1, 1], 3), [0, 1, 1]);
        assert_eq!(heard(&[], 2), [2, 0, 0]);
    }

    #[test]
    fn jobs_are_lost_or_doubled_but_may_be_taken_in_any_order() {
        let mut jobs = Jobs::default();
        (0..4).for_each(|number| jobs.queue.learn(number, None));
        jobs.queue.learn(4, Some(Outcome::Unknown));
        jobs.queue.learn(5, Some(Outcome::Refused));
        jobs.taken = vec![1, 0, 3];
        assert!(!jobs.all_taken());
        jobs.taken.push(2);
        assert!(jobs.all_taken());
        let mut counts = Counts::default();
        counts.worked(&jobs);
        assert_eq!((counts.jobs, counts.jobs_lost, counts.jobs_doubled), (4, 0, 0));
        jobs.taken = vec![0, 1, 1, 4, 5];
        let mut counts = Counts::default();
        counts.worked(&jobs);
        assert_eq!((counts.jobs, counts.jobs_lost, counts.jobs_doubled), (5, 2, 2));
    }
}
