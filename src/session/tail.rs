//! XREAD BLOCK … `$` across a change: "entries after the last one, as of now" must keep its "now".
//!
//! Issued again later, `$` would skip what was added in between. So before such a command goes up, the last entry of
//! each stream is asked for, and its id takes the place of `$`. The client gets no reply of that; the two commands have
//! the effect of one at the time of the first.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};

use crate::protocol::args::args;
use crate::protocol::command::Class;
use crate::protocol::encode;
use crate::protocol::request::{Framed, RequestFramer};

use super::Session;
use super::entry::{Entry, Ours};

/// An XREAD whose `$` are being replaced.
pub(super) struct Tail {
    words: Vec<Bytes>,
    /// Which words are `$`, and not yet replaced: for each stream that is asked about, in the order of the questions. A
    /// stream that is named more than once is asked about once.
    open: VecDeque<Vec<usize>>,
}

/// The words of an XREAD that blocks on `$`, and which of them those are; `None` for any other command.
fn tail(command: &[u8]) -> Option<Tail> {
    let words: Vec<Bytes> = args(command).map(Bytes::copy_from_slice).collect();
    let is = |word: &Bytes, text: &str| word.eq_ignore_ascii_case(text.as_bytes());
    let streams = words.iter().position(|word| is(word, "STREAMS"))?;
    if !is(words.first()?, "XREAD") || !words.get(..streams)?.iter().any(|word| is(word, "BLOCK")) {
        return None;
    }
    let names = words.len() - streams - 1;
    let ids = (names.is_multiple_of(2)).then_some(streams + 1 + names / 2)?;
    let mut places: HashMap<&Bytes, usize> = HashMap::new();
    let mut open: VecDeque<Vec<usize>> = VecDeque::new();
    for at in (ids..words.len()).filter(|at| words.get(*at).is_some_and(|word| word == "$")) {
        let place = *places.entry(words.get(at - names / 2)?).or_insert(open.len());
        match open.get_mut(place) {
            Some(same) => same.push(at),
            None => open.push_back(vec![at]),
        }
    }
    (!open.is_empty()).then_some(Tail { words, open })
}

/// The id of the one entry in a reply of XREVRANGE; of an empty stream, the id before all others.
fn last_id(reply: &[u8]) -> Option<Bytes> {
    if reply == b"*0\r\n" {
        return Some(Bytes::from_static(b"0-0"));
    }
    let rest = reply.strip_prefix(b"*1\r\n*2\r\n$")?;
    let line = memchr::memchr(b'\r', rest)?;
    let len: usize = std::str::from_utf8(rest.get(..line)?).ok()?.parse().ok()?;
    Some(Bytes::copy_from_slice(rest.get(line + 2..(line + 2).checked_add(len)?)?))
}

impl Session {
    /// The command just taken blocks on `$`: asks for the last entries first, and keeps it until they are known.
    pub(super) fn resolve_tail(&mut self) -> bool {
        let Some(tail) = tail(self.pipeline.unfinished()) else { return false };
        self.pipeline.drop_unfinished();
        let names = tail.words.iter().position(|word| word.eq_ignore_ascii_case(b"STREAMS")).unwrap_or(0) + 1;
        let count = (tail.words.len() - names) / 2;
        for at in &tail.open {
            let Some(key) = at.first().and_then(|at| tail.words.get(at - count)) else { continue };
            let mut question = BytesMut::new();
            encode::command(&mut question, &[b"XREVRANGE", key, b"+", b"-", b"COUNT", b"1"]);
            self.pipeline.append(&question);
            self.pipeline.push(Entry { silent: Some(Ours::Tail), ..Entry::new(Class::Read) });
        }
        self.tail = Some(tail);
        true
    }

    /// The last entry of the next stream is known, or cannot be (then `$` stays).
    pub(super) fn resolved(&mut self, reply: &[u8]) {
        let Some(tail) = &mut self.tail else { return };
        let Some(places) = tail.open.pop_front() else { return };
        let Some(id) = last_id(reply) else { return };
        for at in places {
            if let Some(word) = tail.words.get_mut(at) {
                *word = id.clone();
            }
        }
    }

    /// Takes the command again once everything is known; false when there is none, or more is to be known.
    pub(super) fn take_tail(&mut self) -> bool {
        let Some(tail) = self.tail.take_if(|tail| tail.open.is_empty()) else { return false };
        let words: Vec<&[u8]> = tail.words.iter().map(|word| &word[..]).collect();
        let mut command = BytesMut::new();
        encode::command(&mut command, &words);
        self.pipeline.append(&command);
        match RequestFramer::new(self.settings.limits).scan(&command) {
            Ok((_, Framed::Command(shape))) => self.enter(shape),
            _ => self.pipeline.drop_unfinished(),
        }
        true
    }
}
