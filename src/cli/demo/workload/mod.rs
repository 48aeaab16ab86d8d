//! What one connection does, command by command, and what each reply must be.
//!
//! Pure: it appends commands to a buffer and is told the replies in order. It neither sends nor waits.
//!
//! Unique writes (`SET … NX`, so that a second execution shows), counters (each reply is the last one plus one),
//! lists (their order is compared at the end of a phase) and reads of what was just written, both in the same
//! pipeline and after the reply. One command of ten is a read.

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::ledger::{Ledger, Outcome};
use super::tally::Tally;
use super::wire::{self, Item, Line};

/// One command under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Set(u64),
    Get(u64),
    Increment,
    Push(u64),
}

/// The order of work. With ten commands a batch, the first `Get` stands in the same pipeline as the write that it
/// reads; the second one reads a write of the batch before.
const SCRIPT: [Kind; 20] = {
    use Kind::{Get, Increment, Push, Set};
    [
        Set, Get, Increment, Push, Set, Increment, Push, Increment, Push, Set, //
        Get, Set, Increment, Push, Set, Increment, Push, Increment, Push, Set,
    ]
};

#[derive(Clone, Copy)]
enum Kind {
    Set,
    Get,
    Increment,
    Push,
}

/// One connection's work and its ledger.
#[derive(Debug)]
pub(super) struct Workload {
    ledger: Ledger,
    at: usize,
    sets: u64,
    pushes: u64,
    pending: VecDeque<Step>,
}

impl Workload {
    /// Work of the given connection in the given phase.
    pub(super) fn new(phase: usize, connection: usize) -> Self {
        let ledger = Ledger { phase, connection, ..Ledger::default() };
        Self { ledger, at: 0, sets: 0, pushes: 0, pending: VecDeque::new() }
    }

    /// Commands without a reply yet.
    pub(super) fn outstanding(&self) -> usize {
        self.pending.len()
    }

    /// What was acknowledged so far.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Appends the next `count` commands to `out`.
    pub(super) fn batch(&mut self, out: &mut Vec<u8>, count: usize) {
        for _ in 0..count {
            let kind = SCRIPT.get(self.at).copied().unwrap_or(Kind::Get);
            self.at = (self.at + 1) % SCRIPT.len();
            let step = match kind {
                Kind::Set => {
                    self.sets += 1;
                    Step::Set(self.sets - 1)
                }
                Kind::Get => Step::Get(self.sets.saturating_sub(1)),
                Kind::Increment => Step::Increment,
                Kind::Push => {
                    self.pushes += 1;
                    Step::Push(self.pushes - 1)
                }
            };
            self.encode(out, step);
            self.pending.push_back(step);
        }
    }

    fn encode(&self, out: &mut Vec<u8>, step: Step) {
        let Ledger { phase, connection, .. } = self.ledger;
        let (mut key, mut value) = (Line::default(), Line::default());
        // 48 bytes hold every key: three numbers of at most 13 digits each.
        let wrote = match step {
            Step::Set(n) | Step::Get(n) => {
                write!(key, "k:{phase}:{connection}:{n}").and_then(|()| write!(value, "{n}"))
            }
            Step::Increment => write!(key, "c:{phase}:{connection}"),
            Step::Push(n) => write!(key, "l:{phase}:{connection}").and_then(|()| write!(value, "{n}")),
        };
        debug_assert!(wrote.is_ok(), "a key of more than 48 bytes");
        let (key, value) = (key.bytes(), value.bytes());
        match step {
            Step::Set(_) => wire::command(out, &[b"SET", key, value, b"NX"]),
            Step::Get(_) => wire::command(out, &[b"GET", key]),
            Step::Increment => wire::command(out, &[b"INCR", key]),
            Step::Push(_) => wire::command(out, &[b"RPUSH", key, value]),
        }
    }

    /// The reply to the oldest command under way.
    pub(super) fn reply(&mut self, item: Item<'_>, tally: &mut Tally) {
        let Some(step) = self.pending.pop_front() else {
            tally.misplaced += 1;
            return;
        };
        tally.commands += 1;
        if !matches!(step, Step::Get(_)) {
            tally.writes += 1;
        }
        if let Item::Error(text) = item {
            let outcome = if text.starts_with(b"OUTCOMEUNKNOWN") {
                tally.unknown += 1;
                Outcome::Unknown
            } else {
                tally.error(text);
                Outcome::Refused
            };
            self.failed(step, outcome);
            return;
        }
        match (step, item) {
            (Step::Set(n), Item::Simple(b"OK")) => self.ledger.sets.learn(n, None),
            (Step::Set(n), Item::Null) => {
                // The key was there already: this very command ran before.
                tally.doubled += 1;
                self.ledger.sets.learn(n, None);
            }
            (Step::Increment, Item::Integer(value)) => tally.found(self.ledger.counter.step(value)),
            (Step::Push(n), Item::Integer(_)) => self.ledger.pushes.learn(n, None),
            (Step::Get(n), Item::Bulk(value)) => {
                if !is_number(value, n) {
                    tally.misplaced += 1;
                }
            }
            (Step::Get(n), Item::Null) => {
                // Only an acknowledged write must be seen.
                if self.ledger.sets.issued > n && self.ledger.sets.outcome(n).is_none() {
                    tally.stale += 1;
                }
            }
            (step, _) => {
                // A reply of another kind belongs to another command.
                tally.misplaced += 1;
                self.failed(step, Outcome::Unknown);
            }
        }
    }

    fn failed(&mut self, step: Step, outcome: Outcome) {
        match step {
            Step::Set(n) => self.ledger.sets.learn(n, Some(outcome)),
            Step::Push(n) => self.ledger.pushes.learn(n, Some(outcome)),
            Step::Increment if outcome == Outcome::Unknown => self.ledger.counter.unknown += 1,
            Step::Increment | Step::Get(_) => {}
        }
    }

    /// The connection ended: what is under way gets no reply any more.
    pub(super) fn connection_lost(&mut self, tally: &mut Tally) {
        while let Some(step) = self.pending.pop_front() {
            tally.unanswered += 1;
            self.failed(step, Outcome::Unknown);
        }
    }
}

fn is_number(bytes: &[u8], number: u64) -> bool {
    let mut text = Line::default();
    write!(text, "{number}").is_ok() && text.bytes() == bytes
}

#[cfg(test)]
mod tests;
