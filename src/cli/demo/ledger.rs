//! What one connection was told, and what the primary's data must therefore show.
//!
//! Only exceptions are stored: of the numbers below `issued`, every one that is not an exception was acknowledged.
//! Pure: the data to compare with comes in as values; `verify.rs` reads them from the primary.
//!
//! Invariant: every number issued is counted once, as acknowledged, refused or unknown.

use std::collections::BTreeMap;

use serde::Serialize;

/// Why a write is not simply acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An error reply said that it did not run.
    Refused,
    /// It may or may not have run: no reply came, or `-OUTCOMEUNKNOWN`.
    Unknown,
}

/// A numbered series of writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    /// Numbers `0..issued` were sent and their outcome is known to the client.
    pub(super) issued: u64,
    /// Those that were not acknowledged.
    pub(super) exceptions: BTreeMap<u64, Outcome>,
}

/// A counter that only this connection increments.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counter {
    /// The last value that the server told.
    pub(super) told: i64,
    /// Increments with unknown outcome since then.
    pub(super) unknown: i64,
}

/// The ledger of one connection for one phase.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// Phase number; part of every key, so that phases do not mix.
    pub(super) phase: usize,
    /// Which connection; part of every key.
    pub(super) connection: usize,
    /// `SET k:<phase>:<connection>:<n> <n> NX`
    pub(super) sets: Series,
    /// `RPUSH l:<phase>:<connection> <n>`
    pub(super) pushes: Series,
    /// `INCR c:<phase>:<connection>`
    pub(super) counter: Counter,
}

/// What was found wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Findings {
    /// Acknowledged, but not there.
    pub(super) lost: u64,
    /// Executed twice, or executed although an error reply said that it was not.
    pub(super) doubled: u64,
    /// In another order than sent.
    pub(super) reordered: u64,
}

impl Findings {
    /// Adds another's.
    pub(super) fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
    }

    /// What is here and was not in an earlier look at the same data.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            lost: self.lost.saturating_sub(earlier.lost),
            doubled: self.doubled.saturating_sub(earlier.doubled),
            reordered: self.reordered.saturating_sub(earlier.reordered),
        }
    }
}

impl Series {
    /// The outcome of one number was learnt.
    pub(super) fn learn(&mut self, number: u64, outcome: Option<Outcome>) {
        self.issued = self.issued.max(number + 1);
        if let Some(outcome) = outcome {
            self.exceptions.insert(number, outcome);
        }
    }

    /// The exception of a number, if it is one.
    pub(super) fn outcome(&self, number: u64) -> Option<Outcome> {
        self.exceptions.get(&number).copied()
    }

    /// A unique write and the value found for it.
    pub(super) fn check_value(&self, number: u64, found: Option<u64>) -> Findings {
        match (self.outcome(number), found) {
            (None, None) => Findings { lost: 1, ..Findings::default() },
            (Some(Outcome::Refused), Some(_)) => Findings { doubled: 1, ..Findings::default() },
            (_, Some(value)) if value != number => Findings { reordered: 1, ..Findings::default() },
            _ => Findings::default(),
        }
    }

    /// A list that holds the numbers in the order in which they were appended.
    pub(super) fn check_list(&self, found: &[u64]) -> Findings {
        let mut findings = Findings::default();
        let mut seen = vec![0_u32; usize::try_from(self.issued).unwrap_or(usize::MAX)];
        let mut highest: Option<u64> = None;
        for &number in found {
            match usize::try_from(number).ok().and_then(|n| seen.get_mut(n)) {
                Some(times) => *times += 1,
                None => findings.doubled += 1,
            }
            if highest.is_some_and(|h| number < h) {
                findings.reordered += 1;
            }
            highest = highest.max(Some(number));
        }
        for (number, &times) in (0_u64..).zip(&seen) {
            let allowed = match self.outcome(number) {
                Some(Outcome::Refused) => 0,
                Some(Outcome::Unknown) => times.min(1),
                None => 1,
            };
            findings.lost += u64::from(allowed.saturating_sub(times));
            findings.doubled += u64::from(times.saturating_sub(allowed));
        }
        findings
    }
}

impl Counter {
    /// The reply to the next increment; what it shows goes into `findings`, and the counter follows the server.
    pub(super) fn step(&mut self, value: i64) -> Findings {
        let findings = self.judge(value, 1);
        *self = Self { told: value, unknown: 0 };
        findings
    }

    /// The value at rest.
    pub(super) fn check(&self, value: i64) -> Findings {
        self.judge(value, 0)
    }

    fn judge(&self, value: i64, step: i64) -> Findings {
        let least = self.told.saturating_add(step);
        let most = least.saturating_add(self.unknown);
        Findings {
            lost: u64::try_from(least.saturating_sub(value)).unwrap_or(0),
            doubled: u64::try_from(value.saturating_sub(most)).unwrap_or(0),
            reordered: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(issued: u64, exceptions: &[(u64, Outcome)]) -> Series {
        Series { issued, exceptions: exceptions.iter().copied().collect() }
    }

    fn found(lost: u64, doubled: u64, reordered: u64) -> Findings {
        Findings { lost, doubled, reordered }
    }

    #[test]
    fn a_list_as_acknowledged_is_clean() {
        assert_eq!(series(4, &[]).check_list(&[0, 1, 2, 3]), found(0, 0, 0));
    }

    #[test]
    fn a_list_shows_what_was_lost_doubled_or_reordered() {
        assert_eq!(series(4, &[]).check_list(&[0, 1, 3]), found(1, 0, 0));
        assert_eq!(series(3, &[]).check_list(&[0, 1, 1, 2]), found(0, 1, 0));
        assert_eq!(series(3, &[]).check_list(&[0, 2, 1]), found(0, 0, 1));
        assert_eq!(series(2, &[]).check_list(&[0, 1, 2]), found(0, 1, 0), "nobody sent the 2");
    }

    #[test]
    fn unknown_may_be_there_or_not_but_not_twice() {
        let list = series(3, &[(1, Outcome::Unknown)]);
        assert_eq!(list.check_list(&[0, 2]), found(0, 0, 0));
        assert_eq!(list.check_list(&[0, 1, 2]), found(0, 0, 0));
        assert_eq!(list.check_list(&[0, 1, 1, 2]), found(0, 1, 0));
    }

    #[test]
    fn refused_must_not_be_there() {
        let list = series(2, &[(1, Outcome::Refused)]);
        assert_eq!(list.check_list(&[0]), found(0, 0, 0));
        assert_eq!(list.check_list(&[0, 1]), found(0, 1, 0));
        assert_eq!(list.check_value(1, Some(1)), found(0, 1, 0));
        assert_eq!(list.check_value(1, None), found(0, 0, 0));
        assert_eq!(list.check_value(0, None), found(1, 0, 0));
    }

    #[test]
    fn a_counter_moves_by_exactly_one() {
        let mut counter = Counter::default();
        assert_eq!(counter.step(1), found(0, 0, 0));
        assert_eq!(counter.step(3), found(0, 1, 0));
        assert_eq!(counter.step(3), found(1, 0, 0));
        counter.unknown = 2;
        assert_eq!(counter.check(5), found(0, 0, 0));
        assert_eq!(counter.step(6), found(0, 0, 0));
        assert_eq!(counter.check(6), found(0, 0, 0));
        assert_eq!(counter.check(5), found(1, 0, 0));
    }
}
