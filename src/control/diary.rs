//! The newest events, for operators who ask what happened.
//!
//! Pure but for the calendar time that it is given. Invariant: bounded, and numbers only grow.

use std::sync::Arc;

use crate::io::admin::events::{AdminEvent, Tail, What};

/// How many are kept.
const KEPT: usize = 256;

/// The ring.
#[derive(Debug, Default)]
pub struct Diary {
    seq: u64,
    tail: Tail,
}

impl Diary {
    /// Enters an event; returns what is to be published.
    pub fn enter(&mut self, what: What, at_unix_ms: u64) -> Tail {
        self.seq += 1;
        while self.tail.len() >= KEPT {
            self.tail.pop_front();
        }
        self.tail.push_back(Arc::new(AdminEvent { seq: self.seq, at_unix_ms, what }));
        self.tail.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_numbers_go_on() {
        let mut diary = Diary::default();
        let tail = (0..1000).map(|at| diary.enter(What::DoubtEnded, at)).last().unwrap();
        let seqs: Vec<_> = tail.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (745..=1000).collect::<Vec<_>>());
    }
}
