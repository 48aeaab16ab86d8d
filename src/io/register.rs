//! Who of this process' clients was told which id, and what its connection is called now.
//!
//! One for the process: a client names another by its id whatever workers the two are on. Locked only when somebody is
//! told an id, gets another upstream, or names somebody; never for an ordinary command. Clients of other proxies are
//! not in it: their ids are understood as long as the process that gave them is primary, and name nobody after that.
//!
//! Invariant: an id never leads to a connection that may be another client's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::session::{Found, Mark, Whereabouts};

/// A client that was told an id, as others see it.
#[derive(Debug)]
pub(super) struct Member {
    /// What it was told.
    pub told: u64,
    signs: AtomicU8,
    /// Of its conversation.
    waker: Waker,
}

/// What others have to tell a member's conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Sign {
    /// Somebody names it: it needs an upstream of its own.
    Summoned = 1,
    /// It is about to be killed: when its upstream ends, so does it.
    Condemned = 2,
    /// It was killed.
    Killed = 4,
    /// What its client has cached is void.
    Void = 8,
}

impl Member {
    /// Somebody has told it something.
    pub(super) fn any(&self) -> bool {
        self.signs.load(Relaxed) != 0
    }

    /// Somebody has told it this.
    pub(super) fn shows(&self, sign: Sign) -> bool {
        self.signs.load(Relaxed) & sign as u8 != 0
    }

    /// Tells it.
    pub(super) fn raise(&self, sign: Sign) {
        self.signs.fetch_or(sign as u8, Relaxed);
        self.waker.wake_by_ref();
    }

    /// Takes it back, or has heard it.
    pub(super) fn lower(&self, sign: Sign) {
        self.signs.fetch_and(!(sign as u8), Relaxed);
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Register {
    inner: Mutex<Inner>,
}

/// A process, and what it calls a connection.
type Place = (Mark, u64);

#[derive(Debug, Default)]
struct Inner {
    members: HashMap<u64, (Arc<Member>, Option<Place>)>,
    /// Who is called so by that process.
    places: HashMap<Place, u64>,
    /// To be woken when somebody has got an upstream.
    waiting: Vec<Waker>,
}

/// What became of the search for a client.
#[derive(Debug)]
pub(super) enum Search {
    /// This is what is known; with the member, if it is one of ours.
    Done(Found, Option<Arc<Member>>),
    /// It has no upstream of its own yet; the asker is woken.
    Later,
}

impl Register {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client was told an id. `None` when the number is taken already: whoever has it keeps it.
    pub(super) fn enter(&self, told: u64, waker: Waker) -> Option<Arc<Member>> {
        let mut inner = self.lock();
        if inner.members.contains_key(&told) {
            return None;
        }
        let member = Arc::new(Member { told, signs: AtomicU8::new(0), waker });
        inner.members.insert(told, (Arc::clone(&member), None));
        Some(member)
    }

    /// It is there now, or nowhere.
    pub(super) fn place(&self, member: &Member, at: Option<Place>) {
        let mut inner = self.lock();
        let Some((_, place)) = inner.members.get_mut(&member.told) else { return };
        let before = std::mem::replace(place, at);
        if let Some(before) = before {
            inner.places.remove(&before);
        }
        if let Some(at) = at {
            inner.places.insert(at, member.told);
            member.lower(Sign::Summoned);
            inner.waiting.drain(..).for_each(Waker::wake);
        }
    }

    /// The client is gone.
    pub(super) fn leave(&self, member: &Member) {
        self.place(member, None);
        let mut inner = self.lock();
        inner.members.remove(&member.told);
        inner.waiting.drain(..).for_each(Waker::wake);
    }

    /// Who has been told this.
    pub(super) fn member(&self, told: u64) -> Option<Arc<Member>> {
        self.lock().members.get(&told).map(|(member, _)| Arc::clone(member))
    }

    /// What the process marked `mark` calls the client that `id` names. An id without a mark is that process' own.
    pub(super) fn find(&self, id: u64, mark: Option<Mark>, waker: &Waker) -> Search {
        let mut inner = self.lock();
        let marked = Mark::of_id(id);
        let named = marked.or_else(|| mark.map(|mark| (mark, id)));
        let told = if inner.members.contains_key(&id) {
            Some(id)
        } else {
            named.and_then(|at| inner.places.get(&at).copied())
        };
        let Some((member, at)) = told.and_then(|told| inner.members.get(&told)) else {
            let actual = match marked {
                Some((given, actual)) => Some(actual).filter(|_| mark == Some(given)),
                None => Some(id),
            };
            let told = marked.map_or_else(|| mark.map_or(id, |mark| mark.id(id)), |_| id);
            return Search::Done(Found { told, actual }, None);
        };
        match at {
            Some((place, actual)) if Some(*place) == mark => {
                Search::Done(Found { told: member.told, actual: Some(*actual) }, Some(Arc::clone(member)))
            }
            _ => {
                member.raise(Sign::Summoned);
                if !inner.waiting.iter().any(|known| known.will_wake(waker)) {
                    inner.waiting.push(waker.clone());
                }
                Search::Later
            }
        }
    }

    /// What clients were told, by what the process marked `mark` calls them now, where it is not just marked.
    pub(super) fn names(&self, mark: Mark) -> HashMap<u64, u64> {
        let inner = self.lock();
        let there = inner.places.iter().filter(|((place, actual), told)| *place == mark && mark.id(*actual) != **told);
        there.map(|((_, actual), told)| (*actual, *told)).collect()
    }
}

/// Puts a conversation into the register as soon as it has been told an id, and keeps that true.
#[derive(Debug, Default)]
pub(super) struct Entry {
    member: Option<Arc<Member>>,
    at: Option<Place>,
    /// The id that could not be entered.
    turned_away: Option<u64>,
}

impl Entry {
    /// As others see it.
    pub(super) fn member(&self) -> Option<&Arc<Member>> {
        self.member.as_ref()
    }

    /// The session is there now.
    pub(super) fn follow(&mut self, register: &Register, now: Option<Whereabouts>, waker: &Waker) {
        let Some(now) = now else { return };
        if self.member.is_none() && self.turned_away != Some(now.told) {
            self.member = register.enter(now.told, waker.clone());
            self.turned_away = Some(now.told);
        }
        if let Some(member) = self.member.as_ref().filter(|_| self.at != now.at) {
            register.place(member, now.at);
            self.at = now.at;
        }
    }

    /// The conversation is over.
    pub(super) fn leave(&mut self, register: &Register) {
        if let Some(member) = self.member.take() {
            register.leave(&member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> (Mark, Mark) {
        (Mark::new(0, b"a"), Mark::new(1, b"b"))
    }

    fn found(register: &Register, id: u64, mark: Mark) -> Option<Option<u64>> {
        match register.find(id, Some(mark), Waker::noop()) {
            Search::Done(found, _) => Some(found.actual),
            Search::Later => None,
        }
    }

    #[test]
    fn an_id_leads_to_its_client_wherever_that_is_now_and_never_to_another() {
        let (a, b) = marks();
        let register = Register::default();
        let told = a.id(57);
        let member = register.enter(told, Waker::noop().clone()).unwrap();
        assert_eq!(found(&register, told, a), None, "it has no upstream of its own");
        assert!(member.shows(Sign::Summoned));
        register.place(&member, Some((a, 57)));
        assert!(!member.any());
        assert_eq!([found(&register, told, a), found(&register, 57, a)], [Some(Some(57)); 2]);
        assert_eq!(found(&register, told, b), None, "after a change it is asked to come there, too");
        register.place(&member, Some((b, 91)));
        assert_eq!(
            [found(&register, told, b), found(&register, 91, b), found(&register, b.id(91), b)],
            [Some(Some(91)); 3]
        );
        // Another connection is called 57 there.
        assert_eq!([found(&register, 57, b), found(&register, b.id(57), b)], [Some(Some(57)); 2]);
        assert_eq!(register.names(b), HashMap::from([(91, told)]));
        register.leave(&member);
        assert_eq!(found(&register, told, b), Some(None), "gone: nobody, and not whoever is called 57 there");
        assert_eq!(found(&register, b.id(91), b), Some(Some(91)));
        assert!(register.names(b).is_empty());
    }

    #[test]
    fn ids_of_other_proxies_are_good_until_the_primary_is_another() {
        let (a, b) = marks();
        let register = Register::default();
        assert_eq!(found(&register, a.id(57), a), Some(Some(57)));
        assert_eq!(found(&register, a.id(57), b), Some(None));
        assert_eq!(found(&register, 57, b), Some(Some(57)), "without a mark: the server's own");
    }
}
