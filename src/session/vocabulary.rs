//! Commands that the table does not have, as the server has explained them.
//!
//! A session that meets a command which is neither in the table nor here keeps it until it is explained
//! ([`Session::unfamiliar`]), or until it is told that it will not be: then the command is taken for the worst. Bounded:
//! whatever clients send, so many names are kept.

use std::collections::HashMap;
use std::rc::Rc;

use crate::protocol::command::{Command, lookup};
use crate::protocol::request::{Shape, Span};

use super::Session;

/// Names that are kept.
const MOST: usize = 512;
/// A longer name is not asked about.
const LONGEST: usize = 64;

/// What was explained; `None`: the server does not know the command either, or it is something unusual.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    words: HashMap<Vec<u8>, Option<&'static Command>>,
}

impl Vocabulary {
    /// A name, in upper case, has been explained.
    pub fn learn(&mut self, name: Vec<u8>, meaning: Option<&'static Command>) {
        if self.words.len() >= MOST {
            self.words.retain(|_, meaning| meaning.is_some());
        }
        if self.words.len() < MOST {
            self.words.insert(name, meaning);
        }
    }

    /// Nothing more can be kept.
    pub fn full(&self) -> bool {
        self.words.len() >= MOST && self.words.values().all(Option::is_some)
    }

    /// What is known of a name, whatever its case.
    pub fn find(&self, name: &[u8]) -> Option<Option<&'static Command>> {
        if self.words.is_empty() || name.len() > LONGEST {
            return None;
        }
        self.words.get(&name.to_ascii_uppercase()).copied()
    }
}

impl Session {
    /// What has been explained so far. True when the session waited for that.
    pub fn handle_vocabulary(&mut self, vocabulary: &Rc<Vocabulary>, out: &mut bytes::BytesMut) -> bool {
        if Rc::ptr_eq(&self.vocabulary, vocabulary) {
            return false;
        }
        self.vocabulary = Rc::clone(vocabulary);
        let known = self.unfamiliar().is_some_and(|name| self.vocabulary.find(name).is_some());
        known && self.take_unfamiliar(out)
    }

    /// The command that waits to be explained.
    pub fn unfamiliar(&self) -> Option<&[u8]> {
        self.unfamiliar?.name.of(self.pipeline.unfinished())
    }

    /// It goes on: with what is known of it, or taken for the worst. False when there is none.
    pub fn take_unfamiliar(&mut self, out: &mut bytes::BytesMut) -> bool {
        let Some(shape) = self.unfamiliar.take() else { return false };
        self.unexplained = true;
        self.admit(shape);
        self.deliver(out);
        true
    }

    /// The command just taken is in no table: it waits to be explained.
    pub(super) fn keep_unfamiliar(&mut self, shape: Shape, found: Option<&Command>) -> bool {
        let name = shape.name.of(self.pipeline.unfinished()).unwrap_or_default();
        let ask = found.is_none() && self.explains && !self.unexplained && (1..=LONGEST).contains(&name.len());
        let keep = ask && self.vocabulary.find(name).is_none();
        if keep {
            self.unfamiliar = Some(shape);
        }
        keep
    }

    /// Somebody explains commands ([`Session::unfamiliar`]).
    pub fn handle_explanations(&mut self, explains: bool) {
        self.explains = explains;
    }

    /// What the table, or the server, says of a command; of its sub-command where it has some.
    pub(super) fn classify(&self, command: &[u8], name: Span, second: Option<Span>) -> Option<&'static Command> {
        let word = name.of(command).unwrap_or_default();
        let found = lookup(word).or_else(|| self.vocabulary.find(word).flatten())?;
        if found.subs.is_empty() {
            return Some(found);
        }
        Some(second.and_then(|second| found.sub(second.of(command)?)).unwrap_or(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nothing_make_room_and_the_rest_is_bounded() {
        let mut vocabulary = Vocabulary::default();
        let get = lookup(b"GET");
        vocabulary.learn(b"READIT".to_vec(), get);
        for number in 0..10 * MOST {
            vocabulary.learn(number.to_string().into_bytes(), None);
            assert!(vocabulary.words.len() <= MOST);
        }
        assert_eq!(vocabulary.find(b"ReadIt"), Some(get));
        for number in 0..10 * MOST {
            vocabulary.learn(number.to_string().into_bytes(), get);
        }
        assert!(vocabulary.full() && vocabulary.words.len() == MOST);
    }
}
