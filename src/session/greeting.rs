//! The replay of a client's connection state on a fresh upstream.
//!
//! AUTH goes first and alone (see `preamble.rs`); the rest follows in one batch. It knows neither the upstream nor the client.

use super::identity::id_in;
use super::preamble::Preamble;

/// A replay under way.
pub struct Greeting {
    preamble: Preamble,
    /// Handed to the upstream, of the current part.
    sent: usize,
    /// How many of those that go alone are answered.
    alone: usize,
    /// Replies of the rest seen.
    replies: usize,
    /// Confirmations of subscriptions seen; they come after the replies.
    confirmations: usize,
    /// What the upstream is called, once it has said so.
    learnt: Option<u64>,
}

/// What a reply meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// More replies are to come.
    More,
    /// The upstream is in the client's state.
    Done,
    /// The upstream refuses it: this reply says why.
    TurnedAway,
}

impl Greeting {
    /// `None` when there is nothing to say.
    pub(super) fn new(preamble: Preamble) -> Option<Self> {
        let needed = !preamble.first.is_empty() || preamble.replies > 0 || preamble.confirmations > 0;
        needed.then_some(Self { preamble, sent: 0, alone: 0, replies: 0, confirmations: 0, learnt: None })
    }

    /// The next bytes for the upstream.
    pub fn to_send(&self) -> &[u8] {
        let bytes: &[u8] = self.preamble.first.get(self.alone).map_or(&self.preamble.rest, |alone| alone);
        bytes.get(self.sent..).unwrap_or_default()
    }

    /// The upstream took `count` of them.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
    }

    /// The upstream gave a whole reply.
    pub fn heard(&mut self, reply: &[u8]) -> Heard {
        let failed = reply.first() == Some(&b'-');
        let fatal = if self.authenticating() {
            (self.alone, self.sent) = (self.alone + 1, 0);
            failed
        } else {
            self.replies += 1;
            if self.preamble.id_in == Some(self.replies) {
                self.learnt = id_in(reply);
            }
            // Behind the replies an error can only be that of a subscription.
            failed && (self.replies <= self.preamble.essential || self.replies > self.preamble.replies)
        };
        match (fatal, self.done()) {
            (true, _) => Heard::TurnedAway,
            (false, true) => Heard::Done,
            (false, false) => Heard::More,
        }
    }

    /// The upstream confirmed a subscription; true when that was all.
    pub(super) fn confirmed(&mut self) -> bool {
        self.confirmations += 1;
        self.done()
    }

    /// Everything but the last subscription has been accepted.
    pub(super) fn only_last_missing(&self) -> bool {
        let replies = self.replies > self.preamble.replies;
        !self.authenticating() && replies && self.confirmations + 1 == self.preamble.confirmations
    }

    fn authenticating(&self) -> bool {
        self.alone < self.preamble.first.len()
    }

    /// What the upstream is called.
    pub(super) fn learnt(&self) -> Option<u64> {
        self.learnt
    }

    fn done(&self) -> bool {
        let replies = self.replies >= self.preamble.replies;
        !self.authenticating() && replies && self.confirmations >= self.preamble.confirmations
    }
}
