//! The places on one HTTP listener, and who gives its place up when all are taken.
//!
//! A connection that opens and says nothing must not keep a load balancer from `/readyz`. If every place is taken, the
//! connection that has waited longest without a request under way is closed, and the newest one gets its place.
//!
//! A request that is being answered keeps its place: its answer has a deadline. A stream of events keeps its place for
//! as long as it lasts; `events` bounds their number. Invariant: at most `most` connections are open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// In the extensions of a response whose body goes on for as long as the reader likes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lasting;

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Counts what has happened: the order of the connections' last signs of life.
    clock: u64,
    open: usize,
    /// The connections without a request under way, longest silent first.
    silent: BTreeMap<u64, CancellationToken>,
}

/// One connection's place. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    close: CancellationToken,
    /// Its key among the silent ones.
    silent_since: Mutex<Option<u64>>,
}

impl Seats {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// Whether a further connection can be let in, now or after [`Self::take`] has closed another.
    pub(super) fn has_room(&self) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.open < self.most || !taken.silent.is_empty()
    }

    /// A place for a new connection. If none is free, the connection that is silent longest loses its own.
    pub(super) fn take(self: &Arc<Self>) -> Seat {
        let close = CancellationToken::new();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.open >= self.most
            && let Some((_, longest)) = taken.silent.pop_first()
        {
            longest.cancel();
            taken.open -= 1;
        }
        taken.open += 1;
        let at = taken.next(close.clone());
        drop(taken);
        Seat { seats: Arc::clone(self), close, silent_since: Mutex::new(Some(at)) }
    }
}

impl Taken {
    fn next(&mut self, close: CancellationToken) -> u64 {
        self.clock += 1;
        self.silent.insert(self.clock, close);
        self.clock
    }
}

impl Seat {
    /// Cancelled when another connection needs the place.
    pub(super) fn closed(&self) -> CancellationToken {
        self.close.clone()
    }

    /// A request has come: the place is kept until [`Self::answered`].
    pub(super) fn asked(&self) {
        let mut since = self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = since.take()
            && taken.silent.remove(&at).is_none()
        {
            // It has lost its place in this moment; the token says so.
            *since = Some(at);
        }
    }

    /// The answer has begun. From now on the reader counts as silent, however slowly it reads.
    pub(super) fn answered(&self) {
        let mut since = self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none() {
            let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
            *since = Some(taken.next(self.close.clone()));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let since = *self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever was closed for another gave its place back at that moment.
        if since.is_none_or(|at| taken.silent.remove(&at).is_some()) {
            taken.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(seats: &Seats) -> usize {
        seats.taken.lock().unwrap().open
    }

    #[test]
    fn the_longest_silent_connection_makes_room() {
        let seats = Seats::new(2);
        let (first, second) = (seats.take(), seats.take());
        let third = seats.take();
        assert!(first.closed().is_cancelled() && !second.closed().is_cancelled());
        drop(first);
        assert_eq!(open(&seats), 2);
        second.asked();
        second.answered();
        let fourth = seats.take();
        assert!(third.closed().is_cancelled() && !second.closed().is_cancelled(), "an answer is a sign of life");
        drop((second, third, fourth));
        assert_eq!((open(&seats), seats.taken.lock().unwrap().silent.len()), (0, 0));
    }

    #[test]
    fn a_request_under_way_keeps_its_place() {
        let seats = Seats::new(1);
        let busy = seats.take();
        busy.asked();
        assert!(!seats.has_room());
        busy.answered();
        assert!(seats.has_room());
        let next = seats.take();
        assert!(busy.closed().is_cancelled());
        busy.asked();
        drop((busy, next));
        assert_eq!(open(&seats), 0);
    }
}
