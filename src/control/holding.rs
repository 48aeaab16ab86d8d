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
//! Without a secret on the channel anybody may announce a hold in any name. Then a hold by somebody else never stands in
//! the way: another announcement *joins* it, is answered as well, and a switchover of our own *takes it over*. How long
//! others' holds may last in sum is bounded by [`Budget`].
//!
//! Invariant: every hold ends, at the latest at its own deadline, whatever its coordinator does.

use std::collections::VecDeque;
use std::time::Duration;

use crate::io::orders;
use crate::topology::node::Epoch;

/// Most announcements that share a hold.
const MAX_CLAIMS: usize = 8;
/// Holds that are over and stay known: a late announcement does not begin them again.
const REMEMBERED: usize = 16;
/// Without a secret, others' holds may in the long run last this part of the time.
const SHARE: u32 = 4;
/// A hold that could not last for this long is not begun.
const LEAST: Duration = Duration::from_millis(250);

/// The hold in force, if any.
#[derive(Debug)]
pub struct Holding {
    workers: usize,
    current: Option<Ordered>,
    over: VecDeque<u64>,
}

/// For how long unauthenticated announcements of others may still have us hold.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    most: Duration,
    left: Duration,
    at: Duration,
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
    /// How the workers know it: the id with which it began.
    order: u64,
    /// Others that have announced one meanwhile: id and instance.
    joined: Vec<(u64, String)>,
    /// Joining does not make it longer than this.
    limit: Duration,
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
        Self { workers, current: None, over: VecDeque::new() }
    }

    /// Begins a hold. False if one is in force: the first one stays, and the second coordinator, not hearing that
    /// we are quiet, takes its own back.
    pub fn begin(&mut self, id: u64, by: &str, until: Duration, epoch: Epoch, now: Duration) -> bool {
        if self.current.is_some() || self.over.contains(&id) {
            return false;
        }
        self.current = Some(Ordered {
            id,
            by: by.to_owned(),
            began: now,
            until,
            epoch,
            quiesced: vec![false; self.workers],
            switched: false,
            order: id,
            joined: Vec::new(),
            limit: until,
        });
        true
    }

    /// The hold in force may be made longer by those who join, until then.
    pub fn limit(&mut self, limit: Duration) {
        if let Some(hold) = &mut self.current {
            hold.limit = limit;
        }
    }

    /// Another announcement while a hold is in force shares it. False: there is none, or it is over already.
    pub fn join(&mut self, id: u64, by: &str, until: Duration) -> bool {
        let over = self.over.contains(&id);
        let Some(hold) = self.current.as_mut().filter(|_| !over) else { return false };
        let known = (hold.id == id && hold.by == by) || hold.joined.iter().any(|(one, who)| *one == id && who == by);
        if !known {
            // The oldest gives way. Its coordinator announces it again, as long as it waits for an answer.
            if hold.joined.len() + 1 >= MAX_CLAIMS {
                hold.joined.remove(0);
            }
            hold.joined.push((id, by.to_owned()));
            hold.until = hold.until.max(until.min(hold.limit));
        }
        true
    }

    /// A hold of our own replaces the one in force; the workers do not notice. False: there is none.
    pub fn take_over(&mut self, id: u64, by: &str, until: Duration) -> bool {
        let Some(hold) = &mut self.current else { return false };
        (hold.id, hold.until, hold.limit) = (id, until, until);
        by.clone_into(&mut hold.by);
        hold.joined.clear();
        true
    }

    /// Whether every worker is quiet under the hold in force.
    pub fn is_quiet(&self) -> bool {
        self.current.as_ref().is_some_and(|hold| hold.quiesced.iter().all(|quiet| *quiet))
    }

    /// Everyone who has announced the hold in force: id and instance.
    pub fn claims(&self) -> Vec<(u64, String)> {
        let claims =
            |hold: &Ordered| std::iter::once((hold.id, hold.by.clone())).chain(hold.joined.iter().cloned()).collect();
        self.current.as_ref().map(claims).unwrap_or_default()
    }

    /// A worker is quiet. True when it was the last one: now the process may say so.
    pub fn handle_quiesced(&mut self, worker: usize, id: u64) -> bool {
        let Some(hold) = self.current.as_mut().filter(|hold| hold.order == id) else { return false };
        match hold.quiesced.get_mut(worker) {
            Some(quiet) if !*quiet => *quiet = true,
            _ => return false,
        }
        hold.quiesced.iter().all(|quiet| *quiet)
    }

    /// The coordinator ended it. With `switched`, it goes on until our own View has followed: what was held must not be
    /// sent to the node that was just demoted.
    pub fn handle_release(&mut self, id: u64, switched: bool, epoch: Epoch, now: Duration) -> Option<Ended> {
        let hold = self.current.as_mut()?;
        let joined = hold.joined.iter().position(|(one, _)| *one == id);
        if hold.id != id && joined.is_none() {
            return None;
        }
        if !switched {
            if let Some(at) = joined {
                hold.joined.remove(at);
            } else if hold.joined.is_empty() {
                return self.end(End::Released, now);
            } else {
                (hold.id, hold.by) = hold.joined.remove(0);
            }
            self.note_over(id);
            return None;
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
        self.current.as_ref().map(|hold| orders::Hold { id: hold.order, until: hold.until })
    }

    fn end(&mut self, how: End, now: Duration) -> Option<Ended> {
        let hold = self.current.take()?;
        // Not the one that ran into its deadline: it ended because nobody was heard, and may be announced again.
        if how != End::Deadline {
            self.note_over(hold.id);
            hold.joined.iter().for_each(|(id, _)| self.note_over(*id));
        }
        Some(Ended { id: hold.id, by: hold.by, lasted: now.saturating_sub(hold.began), how })
    }
}

impl Holding {
    fn note_over(&mut self, id: u64) {
        // Sentinel's holds all have this number.
        if id != 0 {
            self.over.truncate(REMEMBERED - 1);
            self.over.push_front(id);
        }
    }
}

impl Budget {
    /// A full one.
    pub fn new(most: Duration, now: Duration) -> Self {
        Self { most, left: most, at: now }
    }

    /// How long a hold that begins now may last; `None`: it may not begin.
    pub fn grant(&mut self, now: Duration) -> Option<Duration> {
        let grown = now.saturating_sub(self.at) / SHARE;
        (self.left, self.at) = ((self.left + grown).min(self.most), now);
        (self.left >= LEAST.min(self.most)).then_some(self.left)
    }

    /// A hold that was granted has lasted for so long.
    pub fn spend(&mut self, lasted: Duration, now: Duration) {
        (self.left, self.at) = (self.left.saturating_sub(lasted), now);
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

    #[test]
    fn an_announcement_that_joins_is_answered_and_shares_the_end() {
        let mut holding = holding();
        holding.limit(at(150));
        assert!(holding.join(8, "c-1", at(1000)));
        assert!(holding.join(8, "c-1", at(9000)), "said again");
        assert_eq!(holding.orders(), Some(orders::Hold { id: 7, until: at(150) }));
        assert_eq!(holding.claims(), [(7, "b-1".to_owned()), (8, "c-1".to_owned())]);
        assert!(!holding.is_quiet());
        holding.handle_quiesced(0, 7);
        assert!(holding.handle_quiesced(1, 7) && holding.is_quiet());
        assert_eq!(holding.handle_release(7, false, Epoch(3), at(5)), None);
        assert_eq!(holding.orders(), Some(orders::Hold { id: 7, until: at(150) }), "the workers see one hold");
        assert_eq!(holding.handle_release(8, false, Epoch(3), at(6)).unwrap().lasted, at(6));
        assert!(!holding.begin(7, "b-1", at(100), Epoch(3), at(7)), "a late announcement");
        assert!(!holding.begin(8, "c-1", at(100), Epoch(3), at(7)), "a late announcement");
    }

    #[test]
    fn our_own_hold_takes_over_what_others_have_begun() {
        let mut holding = holding();
        holding.join(8, "c-1", at(90));
        assert!(holding.take_over(9, "a-1", at(300)));
        assert_eq!(holding.claims(), [(9, "a-1".to_owned())]);
        assert_eq!(holding.orders(), Some(orders::Hold { id: 7, until: at(300) }));
        assert_eq!(holding.handle_release(7, false, Epoch(3), at(5)), None);
        assert_eq!(holding.handle_release(9, false, Epoch(3), at(5)).unwrap().by, "a-1");
    }

    #[test]
    fn a_crowd_that_joins_is_bounded() {
        let mut holding = holding();
        assert!((100..1000).all(|id| holding.join(id, "!", at(90))));
        assert_eq!(holding.claims().len(), MAX_CLAIMS);
        assert!(holding.claims().contains(&(999, "!".to_owned())), "the newest is answered");
    }

    /// However others announce, they hold us at most for the whole budget at once and then for a quarter of the time.
    #[test]
    fn what_others_hold_in_sum_is_bounded() {
        for asked in [1, 10, 40, 250, 1000, 100_000] {
            let mut budget = Budget::new(at(5000), at(0));
            let (mut now, mut held) = (0, 0);
            while now < 600_000 {
                match budget.grant(at(now)) {
                    Some(most) => {
                        let lasted = asked.min(u64::try_from(most.as_millis()).unwrap());
                        (now, held) = (now + lasted, held + lasted);
                        budget.spend(at(lasted), at(now));
                    }
                    None => now += 1,
                }
            }
            assert!(held <= 5000 + 600_000 / 4 + 100, "{asked}: {held}");
        }
    }
}
