//! The ordered hold of this process: at most one, from whomever it came, and its end.
//!
//! Pure. It neither speaks on the channel nor to the workers; the owner carries its orders and its answers. A hold for
//! want of a primary is not its business: sessions hold by themselves when the View names nobody.
//!
//! ```text
//!            begin                  every worker: quiesced
//!   (none) --------> holding -------------------------------> holding, answered
//!     ^                 |                                          |
//!     |   released, not switched | a View of a later epoch | deadline
//!     +-----------------+------------------------------------------+
//!                       |  released as switched, but our own View still names the old primary
//!                       +--> holding on: until that View comes, or the deadline
//! ```
//!
//! Invariant: every hold ends, at the latest at its own deadline, whatever its coordinator does.

use std::time::Duration;

use crate::io::orders;
use crate::topology::node::Epoch;

/// The hold in force, if any.
#[derive(Debug)]
pub struct Holding {
    workers: usize,
    current: Option<Ordered>,
}

/// One ordered hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// As the coordinator named it.
    pub id: u64,
    /// The coordinator's instance.
    pub by: String,
    /// When it began (process clock).
    pub began: Duration,
    /// When it ends by itself (process clock).
    pub until: Duration,
    epoch: Epoch,
    quiesced: Vec<bool>,
    switched: bool,
}

/// A hold that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub id: u64,
    /// The coordinator's instance.
    pub by: String,
    /// How long it lasted.
    pub lasted: Duration,
    /// Why it ended.
    pub how: End,
}

/// Why a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its coordinator said so: the primary is the same as before.
    Released,
    /// Another node is primary.
    Switched,
    /// Nobody ended it in time.
    Deadline,
}

impl Holding {
    /// No hold; `workers` answer for this process.
    pub fn new(workers: usize) -> Self {
        Self { workers, current: None }
    }

    /// Begins a hold. False if one is in force: the first one stays, and the second coordinator, not hearing that
    /// we are quiet, takes its own back.
    pub fn begin(&mut self, id: u64, by: &str, until: Duration, epoch: Epoch, now: Duration) -> bool {
        if self.current.is_some() {
            return false;
        }
        let quiesced = vec![false; self.workers];
        self.current = Some(Ordered { id, by: by.to_owned(), began: now, until, epoch, quiesced, switched: false });
        true
    }

    /// A worker is quiet. True when it was the last one: now the process may say so.
    pub fn handle_quiesced(&mut self, worker: usize, id: u64) -> bool {
        let Some(hold) = self.current.as_mut().filter(|hold| hold.id == id) else { return false };
        match hold.quiesced.get_mut(worker) {
            Some(quiet) if !*quiet => *quiet = true,
            _ => return false,
        }
        hold.quiesced.iter().all(|quiet| *quiet)
    }

    /// The coordinator ended it. With `switched`, it goes on until our own View has followed: what was held must not be
    /// sent to the node that was just demoted.
    pub fn handle_release(&mut self, id: u64, switched: bool, epoch: Epoch, now: Duration) -> Option<Ended> {
        let hold = self.current.as_mut().filter(|hold| hold.id == id)?;
        if !switched {
            return self.end(End::Released, now);
        }
        hold.switched = true;
        self.handle_view(epoch, now)
    }

    /// A View was published.
    pub fn handle_view(&mut self, epoch: Epoch, now: Duration) -> Option<Ended> {
        let hold = self.current.as_ref()?;
        if epoch > hold.epoch { self.end(End::Switched, now) } else { None }
    }

    /// Ends what is past its deadline.
    pub fn handle_timeout(&mut self, now: Duration) -> Option<Ended> {
        let hold = self.current.as_ref()?;
        if now >= hold.until { self.end(End::Deadline, now) } else { None }
    }

    /// When to call [`Holding::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.current.as_ref().map(|hold| hold.until)
    }

    /// The hold in force.
    pub fn current(&self) -> Option<&Ordered> {
        self.current.as_ref()
    }

    /// The coordinator said that the roles were switched; we wait for our own evidence.
    pub fn awaits_view(&self) -> bool {
        self.current.as_ref().is_some_and(|hold| hold.switched)
    }

    /// What the workers are told.
    pub fn orders(&self) -> Option<orders::Hold> {
        self.current.as_ref().map(|hold| orders::Hold { id: hold.id, until: hold.until })
    }

    fn end(&mut self, how: End, now: Duration) -> Option<Ended> {
        let hold = self.current.take()?;
        Some(Ended { id: hold.id, by: hold.by, lasted: now.saturating_sub(hold.began), how })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn holding() -> Holding {
        let mut holding = Holding::new(2);
        assert!(holding.begin(7, "b-1", at(100), Epoch(3), at(0)));
        holding
    }

    #[test]
    fn the_process_is_quiet_once_every_worker_is() {
        let mut holding = holding();
        assert!(!holding.handle_quiesced(0, 7));
        assert!(!holding.handle_quiesced(0, 7), "the same worker again");
        assert!(!holding.handle_quiesced(1, 8), "another hold");
        assert!(!holding.handle_quiesced(2, 7), "no such worker");
        assert!(holding.handle_quiesced(1, 7));
        assert!(!holding.handle_quiesced(1, 7), "said once");
    }

    #[test]
    fn a_second_coordinator_does_not_replace_the_first() {
        let mut holding = holding();
        assert!(!holding.begin(8, "c-1", at(200), Epoch(3), at(1)));
        assert_eq!(holding.handle_release(8, false, Epoch(3), at(2)), None);
        assert_eq!(holding.orders(), Some(orders::Hold { id: 7, until: at(100) }));
    }

    #[test]
    fn taken_back_it_ends_at_once() {
        let mut holding = holding();
        let ended = holding.handle_release(7, false, Epoch(3), at(5)).unwrap();
        assert_eq!(ended, Ended { id: 7, by: "b-1".to_owned(), lasted: at(5), how: End::Released });
        assert_eq!(holding.orders(), None);
    }

    #[test]
    fn released_as_switched_it_waits_for_our_own_view() {
        let mut holding = holding();
        assert_eq!(holding.handle_release(7, true, Epoch(3), at(5)), None);
        assert!(holding.awaits_view());
        assert_eq!(holding.handle_view(Epoch(3), at(6)), None);
        assert_eq!(holding.handle_view(Epoch(4), at(7)).unwrap().how, End::Switched);
        assert!(!holding.awaits_view());
    }

    #[test]
    fn without_a_word_it_ends_at_its_deadline() {
        let mut holding = holding();
        assert_eq!(holding.poll_timeout(), Some(at(100)));
        assert_eq!(holding.handle_timeout(at(99)), None);
        assert_eq!(holding.handle_timeout(at(100)).unwrap().how, End::Deadline);
        assert_eq!(holding.poll_timeout(), None);
    }
}
