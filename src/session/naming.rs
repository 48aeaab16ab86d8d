//! Commands that name clients by their ids: CLIENT KILL, UNBLOCK, TRACKING … REDIRECT, LIST.
//!
//! A client may have been told an id on another upstream, or another node, than the one that its connection has now.
//! So such a command waits alone: what came before it is answered first, then the caller is asked where those clients
//! are now ([`Session::question`]), and the command goes up with the ids that the server knows them by. It never names
//! a connection of which nobody knows whether it is the one that was meant: then it names none.
//!
//! ```text
//!  taken ----> waiting ----(answered)----> in the pipeline ----> answered: forgotten
//!                 ^                              |
//!                 +------ upstream lost ---------+      asked again: ids are others on another upstream
//! ```

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};

use crate::protocol::args::args;
use crate::protocol::command::Connection;
use crate::protocol::encode;
use crate::protocol::request::{Framed, RequestFramer};

use super::{Phase, Session};

/// Such a command, as the client knows it.
pub(super) struct Naming {
    words: Vec<Bytes>,
    /// Which of the words are ids.
    ids: Vec<usize>,
    kind: Connection,
    /// It is in the pipeline.
    sent: bool,
    /// How many clients it has killed, as far as that is known.
    reached: u64,
}

impl Naming {
    /// The command as the client knows it.
    pub(super) fn told(&self) -> BytesMut {
        encoded(&self.words)
    }
}

/// A CLIENT KILL spares the connection that it came through, unless it says SKIPME no, or nothing but an address.
fn spares_nobody(command: &[u8]) -> bool {
    let mut words = args(command).skip(2);
    let address = words.clone().count() == 1;
    let spares = words.find(|word| word.eq_ignore_ascii_case(b"skipme")).and(words.next());
    address || spares.is_some_and(|word| word.eq_ignore_ascii_case(b"no"))
}

fn encoded(words: &[Bytes]) -> BytesMut {
    let words: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
    let mut command = BytesMut::new();
    encode::command(&mut command, &words);
    command
}

/// What a session has to know before it can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Where are the clients with these ids?
    pub ids: Vec<u64>,
    /// What has everybody been told?
    pub everyone: bool,
    /// The clients are about to be killed.
    pub kills: bool,
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// What clients have been told.
    pub told: u64,
    /// What its connection is called now by the server that the session's upstream leads to; `None`: there is no such
    /// client.
    pub actual: Option<u64>,
}

/// No connection has this id.
const NOBODY: u64 = i64::MAX as u64;

/// Which words of the command are ids.
fn ids(kind: Connection, words: &[Bytes]) -> Vec<usize> {
    let number = |at: &usize| words.get(*at).is_some_and(|word| parsed(word).is_some());
    let is = |at: usize, text: &str| words.get(at).is_some_and(|word| word.eq_ignore_ascii_case(text.as_bytes()));
    match kind {
        Connection::Unblock => vec![2].into_iter().filter(number).collect(),
        Connection::Tracking => (3..words.len()).filter(|at| is(at - 1, "REDIRECT")).filter(number).collect(),
        // ID a [b …], and filters of other kinds before and behind.
        Connection::Kill | Connection::List => {
            let mut found = Vec::new();
            let mut open = false;
            for at in 2..words.len() {
                let begins = is(at, "ID") || is(at, "NOT-ID");
                open = begins || open && number(&at);
                if open && !begins {
                    found.push(at);
                }
            }
            found
        }
        _ => Vec::new(),
    }
}

fn parsed(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word).ok()?.parse().ok().filter(|id| *id > 0)
}

impl Session {
    /// What is to be found out now.
    pub fn question(&self) -> Option<Question> {
        if let Phase::Asking = self.phase {
            let ids = self.server.state.redirection().into_iter().collect();
            return Some(Question { ids, everyone: false, kills: false });
        }
        let naming = self.naming.as_ref().filter(|naming| !naming.sent)?;
        let ready = matches!(self.phase, Phase::Open) && self.pipeline.undelivered() == 0;
        ready.then(|| Question {
            ids: naming.ids.iter().filter_map(|at| parsed(naming.words.get(*at)?)).collect(),
            everyone: naming.kind == Connection::List,
            kills: naming.kind == Connection::Kill && !self.in_transaction(),
        })
    }

    /// The answer to [`Session::question`]: one for each id, in order; and what clients were told, by what they are
    /// called now, where it is not just marked.
    pub fn answer(&mut self, found: &[Found], names: HashMap<u64, u64>, out: &mut BytesMut) {
        if let Phase::Asking = self.phase {
            match found.first().and_then(|found| found.actual) {
                Some(actual) => self.greet(Some(actual)),
                None => self.lose_redirection(),
            }
            return self.deliver(out);
        }
        let Some(naming) = self.naming.as_mut().filter(|naming| !naming.sent) else { return };
        let mut actual = naming.words.clone();
        for (at, found) in naming.ids.iter().zip(found) {
            if let (Some(word), Some(told)) = (actual.get_mut(*at), naming.words.get_mut(*at)) {
                *word = found.actual.unwrap_or(NOBODY).to_string().into();
                *told = found.told.to_string().into();
            }
        }
        naming.sent = true;
        self.identity.names = names;
        let command = encoded(&actual);
        self.pipeline.append(&command);
        match RequestFramer::new(self.settings.limits).scan(&command) {
            Ok((_, Framed::Command(shape))) => self.enter(shape),
            _ => self.pipeline.drop_unfinished(),
        }
        if !self.pipeline.last_is_named() {
            // Answered by us.
            self.naming = None;
            self.deliver(out);
        } else if self.in_transaction() {
            self.transaction.names_clients();
        }
    }

    /// The command just taken names clients: it is kept until it is known where they are.
    pub(super) fn keep_naming(&mut self, kind: Connection) -> bool {
        if !matches!(kind, Connection::Kill | Connection::Unblock | Connection::Tracking | Connection::List) {
            return false;
        }
        let words: Vec<Bytes> = args(self.pipeline.unfinished()).map(Bytes::copy_from_slice).collect();
        let ids = ids(kind, &words);
        if ids.is_empty() && kind != Connection::List {
            return false;
        }
        self.pipeline.drop_unfinished();
        self.naming = Some(Naming { words, ids, kind, sent: false, reached: 0 });
        true
    }

    /// Such a command is under way: nothing is taken behind it.
    pub(super) fn naming(&self) -> bool {
        self.naming.is_some()
    }

    /// It waits to be sent.
    pub(super) fn naming_waits(&self) -> bool {
        self.naming.as_ref().is_some_and(|naming| !naming.sent)
    }

    /// It was not sent, and is answered with this.
    pub(super) fn answer_naming(&mut self, answer: &Bytes) -> bool {
        let waits = self.naming_waits();
        if waits {
            self.naming = None;
            self.answer_ourselves(crate::protocol::command::Class::Admin, answer.clone());
        }
        waits
    }

    /// The command that names clients is answered, and the client has the answer.
    pub(super) fn named(&mut self) {
        if let Some(Naming { kind: Connection::Kill, reached, .. }) = self.naming.take_if(|naming| naming.sent) {
            self.verdict = Some(reached);
        }
    }

    /// A CLIENT KILL was answered: it has reached so many.
    pub(super) fn follow_kill(&mut self, count: u64) {
        if let Some(naming) = &mut self.naming {
            naming.reached = count;
        }
        self.doomed = count > 0 && self.pipeline.front().is_some_and(|(_, command)| spares_nobody(command));
    }

    /// How many clients the CLIENT KILL has reached whose ids were asked for last, once.
    pub fn take_verdict(&mut self) -> Option<u64> {
        self.verdict.take()
    }

    /// This client has just killed connections, perhaps its own: if that ends now, so does the client's.
    pub fn doomed(&self) -> bool {
        self.doomed && self.pipeline.undelivered() == 0
    }

    /// The upstream is gone: what names clients by their ids there is asked anew.
    pub(super) fn recall_naming(&mut self) {
        let Some(naming) = self.naming.as_mut().filter(|naming| naming.sent) else { return };
        if self.pipeline.take_last_named() {
            naming.sent = false;
        }
    }
}
