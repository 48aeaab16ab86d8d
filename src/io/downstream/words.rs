//! A conversation whose client uses a command that the table does not have: it is explained, or taken for the worst.

use std::task::Context;
use std::time::Duration;

use super::Conversation;

/// A command waits so long to be explained.
const PATIENCE: Duration = Duration::from_millis(250);

impl Conversation {
    /// Called in each round.
    pub(super) fn follow_words(&mut self, cx: &Context<'_>) -> bool {
        let dictionary = &self.worker.dictionary;
        if self.session.handle_vocabulary(&dictionary.vocabulary(), &mut self.out) {
            self.words_until = None;
            return true;
        }
        let Some(name) = self.session.unfamiliar() else { return false };
        let until = *self.words_until.get_or_insert(self.now + PATIENCE);
        let primary = self.worker.orders().primary.filter(|_| self.now < until);
        if primary.is_some_and(|node| dictionary.ask(node, name, cx.waker(), self.now)) {
            return false;
        }
        self.words_until = None;
        self.session.take_unfamiliar(&mut self.out)
    }

    /// When a command is no longer waited for to be explained.
    pub(super) fn words_deadline(&self) -> Option<Duration> {
        self.words_until
    }
}
