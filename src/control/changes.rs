//! The newest changes of primary, with what the clients of this process felt of each.
//!
//! Pure. A change is entered when the new primary is published; the workers tell later how long they held their
//! sessions for it. Bounded: a ring of [`Status::CHANGES`].

use std::collections::VecDeque;
use std::time::Duration;

use crate::io::admin::ms;
use crate::io::admin::status::{ChangeKind, ChangeReport, Status};

/// How long workers may take to say what a change felt like.
const SETTLES_IN: Duration = Duration::from_secs(2);

/// The ring, newest first.
#[derive(Debug, Default)]
pub struct Changes {
    ring: VecDeque<ChangeReport>,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    kind: ChangeKind,
    until: Duration,
    missing: usize,
    longest: Duration,
    told: bool,
}

/// What was felt of a change; told once for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Felt {
    /// Of which kind of change.
    pub kind: ChangeKind,
    /// The longest that a session was held.
    pub longest: Duration,
}

impl Changes {
    /// A new primary was published; so many workers will tell. Returns what was still open of the change before it.
    pub fn begin(&mut self, report: ChangeReport, workers: usize, now: Duration) -> Option<Felt> {
        let before = self.settle();
        self.open = Some(Open {
            kind: report.kind,
            until: now + SETTLES_IN,
            missing: workers,
            longest: Duration::ZERO,
            told: false,
        });
        self.ring.truncate(Status::CHANGES - 1);
        self.ring.push_front(report);
        before
    }

    /// A worker's sessions went on.
    pub fn handle_resumed(&mut self, longest: Duration, held: u64) -> Option<Felt> {
        let (open, report) = (self.open.as_mut()?, self.ring.front_mut()?);
        open.told = true;
        open.longest = open.longest.max(longest);
        open.missing = open.missing.saturating_sub(1);
        report.longest_stall_ms = Some(ms(open.longest));
        report.held = report.held.saturating_add(held);
        if open.missing == 0 { self.settle() } else { None }
    }

    /// Stops waiting for workers that had nothing to tell.
    pub fn handle_timeout(&mut self, now: Duration) -> Option<Felt> {
        if self.open.is_some_and(|open| now >= open.until) { self.settle() } else { None }
    }

    /// When to call [`Changes::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.open.map(|open| open.until)
    }

    /// The newest change.
    pub fn newest(&self) -> Option<&ChangeReport> {
        self.ring.front()
    }

    /// Newest first.
    pub fn reports(&self) -> Vec<ChangeReport> {
        self.ring.iter().cloned().collect()
    }

    fn settle(&mut self) -> Option<Felt> {
        let open = self.open.take()?;
        open.told.then_some(Felt { kind: open.kind, longest: open.longest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn change(epoch: u64) -> ChangeReport {
        ChangeReport {
            kind: ChangeKind::Observed,
            from: None,
            to: "b".to_owned(),
            epoch,
            at_unix_ms: 0,
            took_ms: 1.0,
            longest_stall_ms: None,
            held: 0,
            lost_bytes: Some(0),
        }
    }

    #[test]
    fn what_was_felt_is_told_once_when_every_worker_has_spoken() {
        let mut changes = Changes::default();
        assert_eq!(changes.begin(change(1), 2, at(0)), None);
        assert_eq!(changes.handle_resumed(at(5), 10), None);
        let felt = Felt { kind: ChangeKind::Observed, longest: at(5) };
        assert_eq!(changes.handle_resumed(at(3), 1), Some(felt));
        assert_eq!(changes.handle_resumed(at(99), 1), None, "belongs to no change");
        let newest = changes.newest().unwrap();
        assert_eq!((newest.longest_stall_ms, newest.held), (Some(5.0), 11));
    }

    #[test]
    fn a_worker_without_sessions_says_nothing() {
        let mut changes = Changes::default();
        changes.begin(change(1), 2, at(0));
        changes.handle_resumed(at(5), 1);
        assert_eq!(changes.handle_timeout(at(1999)), None);
        assert_eq!(changes.handle_timeout(at(2000)).unwrap().longest, at(5));
        changes.begin(change(2), 2, at(3000));
        assert_eq!(changes.handle_timeout(at(9000)), None, "nobody felt anything");
        assert_eq!(changes.newest().unwrap().longest_stall_ms, None);
    }

    #[test]
    fn the_ring_keeps_the_newest() {
        let mut changes = Changes::default();
        for epoch in 1..=100 {
            changes.begin(change(epoch), 1, at(epoch));
        }
        let epochs: Vec<_> = changes.reports().iter().map(|report| report.epoch).collect();
        assert_eq!(epochs, (85..=100).rev().collect::<Vec<_>>());
    }
}
