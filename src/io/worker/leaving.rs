//! A worker under a drain: whose turn it is when, how sessions ended, and when the last one has.
//!
//! The turns are spread over the drain's time, those that have been idle longest first; what a conversation does when
//! its turn has come is its own business (`downstream::departure`).

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use crate::io::orders::{DrainTally, News};
use crate::session::Unfinished;

use super::{Seat, Worker};

/// Nobody is sent away before it could say what it came for.
const NEWCOMER: Duration = Duration::from_secs(2);

/// How a session ended under a drain.
pub(in crate::io) enum Left {
    /// We closed it at a quiet moment.
    Closed,
    /// It left by itself, after it had been told to.
    Moved,
    /// It was cut: what was unfinished, and its library's name.
    Cut(Unfinished, String),
}

/// Connections that were closed and whose clients have not noticed yet, by pool: a client that cannot look at an idle
/// connection tries only so many of them. Shared by all workers, because a pool's connections are spread over them;
/// touched under a drain only. Two pools in one place only make each other wait.
#[derive(Debug)]
pub(in crate::io) struct Unnoticed([AtomicU8; 256]);

impl Default for Unnoticed {
    fn default() -> Self {
        Self([const { AtomicU8::new(0) }; 256])
    }
}

impl Unnoticed {
    /// So many may be closed at a time: go-redis tries four.
    const MOST: u8 = 3;

    /// One more of the pool at `peer` is closed, if it may be; gives the place for [`Unnoticed::noticed`].
    pub(in crate::io) fn close_one(&self, peer: IpAddr, library: &str) -> Option<usize> {
        let mut hasher = DefaultHasher::new();
        (peer, library).hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % 256).unwrap_or(0);
        let more = |count: u8| (count < Self::MOST).then_some(count + 1);
        self.0.get(place)?.fetch_update(Relaxed, Relaxed, more).is_ok().then_some(place)
    }

    /// Its client has closed its side, or is not waited for any more.
    pub(in crate::io) fn noticed(&self, place: usize) {
        if let Some(count) = self.0.get(place) {
            // It was raised before, so this never fails.
            let _was = count.fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1));
        }
    }
}

impl Worker {
    /// A conversation has ended under a drain.
    pub(in crate::io) fn left(&self, how: Left) {
        let mut tally = self.tally.borrow_mut();
        match how {
            Left::Closed => tally.closed += 1,
            Left::Moved => tally.moved += 1,
            Left::Cut(why, library) => tally.note_cut(why, library),
        }
    }

    /// When the turn of somebody who comes during a drain comes.
    pub(super) fn turn_of_newcomer(&self, now: Duration) -> Option<Duration> {
        self.orders().drain.map(|_| now + NEWCOMER)
    }

    /// Spreads the conversations over the drain's time, the longest idle ones first; takes it back when there is none.
    pub(super) fn assign_departures(&self) {
        let seats = self.seats.borrow();
        let Some(drain) = self.orders().drain else {
            seats.iter().flatten().for_each(|seat| seat.leave_at.set(None));
            *self.tally.borrow_mut() = DrainTally::default();
            return self.told.set(None);
        };
        let mut staying: Vec<&Rc<Seat>> = seats.iter().flatten().filter(|seat| seat.leave_at.get().is_none()).collect();
        staying.sort_by_key(|seat| seat.last_heard.get());
        let count = u32::try_from(staying.len()).unwrap_or(u32::MAX).max(1);
        for (place, seat) in (0_u32..).zip(staying) {
            seat.leave_at.set(Some(drain.began + drain.spread * place / count));
        }
    }

    /// Tells the owner, once for each drain, that nobody is left and that nobody will come: the listener was `shut`.
    pub(super) async fn tell_drained(&self, shut: u64) {
        let current = self.orders().drain.is_some_and(|drain| drain.id == shut);
        if current && self.told.replace(Some(shut)) != Some(shut) {
            let tally = std::mem::take(&mut *self.tally.borrow_mut());
            let _owner_gone = self.news.send(News::Drained { worker: self.index, drain: shut, tally }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_one_pool_three_connections_are_closed_at_a_time() {
        let (unnoticed, peer) = (Unnoticed::default(), IpAddr::from([10, 0, 0, 1]));
        let places: Vec<_> = (0..4).map(|_| unnoticed.close_one(peer, "go-redis")).collect();
        assert!(places[..3].iter().all(Option::is_some) && places[3].is_none(), "{places:?}");
        unnoticed.noticed(places[0].unwrap());
        assert_eq!(unnoticed.close_one(peer, "go-redis"), places[0]);
        unnoticed.noticed(255 - places[0].unwrap());
    }
}
