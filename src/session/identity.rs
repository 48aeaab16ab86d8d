//! The id that a client has been told, and the one that its upstream has: two numbers, once the upstream is another.
//!
//! What a client is told is the id of the connection on which it asked first, with a mark of the process that gave it
//! ([`Mark::id`]); it is told the same for as long as it lives. Here ids in replies become what clients are to see:
//! CLIENT ID, HELLO, CLIENT INFO and LIST, GETREDIR and TRACKINGINFO. Ids in commands are the other direction:
//! `naming.rs`. Who else has been told what, only the caller knows.
//!
//! Ids inside EXEC's reply, and in a list that is too large to be kept, go unmarked: for as long as the process stays,
//! they mean what they say.

use std::collections::HashMap;

use bytes::BytesMut;

use crate::protocol::command::Connection;
use crate::protocol::encode;

use super::{Mark, Phase, Session};

/// A CLIENT LIST of more bytes goes through as it is.
pub(super) const LIST_MOST: usize = 8 * 1024 * 1024;

/// What a session knows of ids.
#[derive(Default)]
pub(super) struct Identity {
    /// What the client has been told.
    pub(super) told: Option<u64>,
    /// What the present upstream is called by its server, as far as that was learnt.
    pub(super) actual: Option<u64>,
    /// Somebody needs the session to have an upstream of its own.
    pub(super) summoned: bool,
    /// Ids of others as clients were told them, where that is not the mark and the id; of one CLIENT LIST.
    pub(super) names: HashMap<u64, u64>,
}

/// Where a client that has been told an id is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// The id.
    pub told: u64,
    /// The process that its own upstream leads to, and what it is called there; `None` while it has no such upstream.
    pub at: Option<(Mark, u64)>,
}

/// Which ids stand in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    /// The client's own: CLIENT ID, HELLO, CLIENT INFO.
    Own(Connection),
    /// Everybody's: CLIENT LIST.
    Everyone,
    /// The one that tracking is redirected to: CLIENT GETREDIR, TRACKINGINFO.
    Redirection,
    /// None; but it says how many were killed.
    Killed,
}

impl Telling {
    pub(super) fn of(kind: Connection) -> Option<Self> {
        match kind {
            Connection::Id | Connection::Hello | Connection::Info => Some(Self::Own(kind)),
            Connection::List => Some(Self::Everyone),
            Connection::Redirection => Some(Self::Redirection),
            Connection::Kill => Some(Self::Killed),
            _ => None,
        }
    }
}

impl Session {
    /// Where this client is, once it has been told an id.
    pub fn whereabouts(&self) -> Option<Whereabouts> {
        let told = self.identity.told?;
        let there = matches!(self.phase, Phase::Open | Phase::Refused(_) | Phase::Raw);
        let actual = self.identity.actual.filter(|_| there);
        Some(Whereabouts { told, at: self.upstream_mark.zip(actual) })
    }

    /// Somebody means this client by its id: it gets an upstream of its own, and keeps it.
    pub fn summon(&mut self, out: &mut BytesMut) {
        self.affinity.tie();
        self.identity.summoned = self.identity.actual.is_none();
        self.deliver(out);
    }

    /// The upstream is called so.
    pub(super) fn learn(&mut self, actual: u64) {
        (self.identity.actual, self.identity.summoned) = (Some(actual), false);
    }

    /// A reply (no error) as the client is to see it; `None`: as it is.
    pub(super) fn tell(&mut self, telling: Telling, reply: &[u8]) -> Option<BytesMut> {
        let mark = self.upstream_mark?;
        match telling {
            Telling::Own(Connection::Info) => self.rewrite_list(mark, reply),
            Telling::Own(kind) => {
                let (at, actual) = if kind == Connection::Id { whole_number(reply)? } else { field(reply, b"id")? };
                if self.identity.told.is_none() && mark.id(actual) != actual {
                    self.identity.told = Some(mark.id(actual));
                }
                self.learn(actual);
                Some(spliced(reply, at, self.identity.told?))
            }
            Telling::Everyone => {
                let list = self.rewrite_list(mark, reply);
                self.identity.names = HashMap::new();
                list
            }
            Telling::Redirection => {
                let (at, actual) = whole_number(reply).or_else(|| field(reply, b"redirect"))?;
                let told = self.server.state.redirection().unwrap_or(mark.id(actual));
                Some(spliced(reply, at, told))
            }
            Telling::Killed => None,
        }
    }

    /// What clients are told instead of `actual`.
    fn shown(&self, mark: Mark, actual: u64) -> u64 {
        let own = self.identity.told.filter(|_| self.identity.actual == Some(actual));
        own.or_else(|| self.identity.names.get(&actual).copied()).unwrap_or_else(|| mark.id(actual))
    }

    /// Lines of `id=5 … redir=3 …`, as CLIENT LIST and CLIENT INFO give them.
    fn rewrite_list(&self, mark: Mark, reply: &[u8]) -> Option<BytesMut> {
        let line = memchr::memchr(b'\n', reply)?;
        let verbatim = reply.first() == Some(&b'=');
        let body = reply.get(line + 1..)?.strip_suffix(b"\r\n")?;
        let body = if verbatim { body.strip_prefix(b"txt:")? } else { body };
        let mut text = Vec::with_capacity(body.len() + body.len() / 16);
        if verbatim {
            text.extend_from_slice(b"txt:");
        }
        for line in body.split_inclusive(|byte| *byte == b'\n') {
            for (at, word) in line.split_inclusive(|byte| *byte == b' ').enumerate() {
                let id = word.strip_prefix(b"id=").filter(|_| at == 0).or_else(|| word.strip_prefix(b"redir="));
                match id.and_then(leading_number) {
                    Some((digits, actual)) => {
                        let keep = word.len() - id.map_or(0, <[u8]>::len);
                        text.extend_from_slice(word.get(..keep).unwrap_or_default());
                        text.extend_from_slice(self.shown(mark, actual).to_string().as_bytes());
                        text.extend_from_slice(word.get(keep + digits..).unwrap_or_default());
                    }
                    None => text.extend_from_slice(word),
                }
            }
        }
        let mut out = BytesMut::new();
        encode::bulk(&mut out, &text);
        if let (true, Some(first)) = (verbatim, out.first_mut()) {
            *first = b'=';
        }
        Some(out)
    }

    /// A push that names the connection which invalidations went to, as the client knows it.
    pub(super) fn tell_broken_redirection(&self, push: &[u8]) -> Option<BytesMut> {
        const BROKEN: &[u8] = b">2\r\n$21\r\ntracking-redir-broken\r\n";
        let (at, actual) = whole_number(push.strip_prefix(BROKEN)?)?;
        let told = self.server.state.redirection().or_else(|| self.upstream_mark.map(|mark| mark.id(actual)))?;
        Some(spliced(push, at.start + BROKEN.len()..at.end + BROKEN.len(), told))
    }

    // ---- invalidations ----

    /// The client whose invalidations are redirected to this one has lost what the server knew of it: everything that
    /// it has cached is void. False when this is not the moment to say so (half a reply is out): ask again.
    pub fn void_cache(&mut self, out: &mut BytesMut) -> bool {
        if self.is_raw() || self.severed {
            return true;
        }
        if self.assembly.half_delivered() {
            return false;
        }
        if self.server.state.resp3() {
            out.extend_from_slice(super::change::FLUSH_ALL);
        } else if self.server.subscriptions.hears_invalidations() {
            out.extend_from_slice(FLUSH_ALL_MESSAGE);
        }
        true
    }

    /// Invalidations of this client go to another.
    pub fn redirects(&self) -> bool {
        self.server.state.redirection().is_some()
    }

    /// The process that the upstream leads to.
    pub fn upstream_mark(&self) -> Option<Mark> {
        self.upstream_mark
    }

    /// To whom invalidations of this client were redirected when its upstream was lost, once.
    pub fn take_voided(&mut self) -> Option<u64> {
        self.voided.take()
    }

    /// The upstream is another from now on: what the client has cached is void, wherever it hears of that.
    pub(super) fn void_tracked(&mut self, out: &mut BytesMut) {
        if self.severed {
            return;
        }
        if self.server.state.tracking() {
            match self.server.state.redirection() {
                Some(told) => self.voided = Some(told),
                None if self.server.state.resp3() => out.extend_from_slice(super::change::FLUSH_ALL),
                None => {}
            }
        }
        if self.server.subscriptions.hears_invalidations() && !self.server.state.resp3() {
            out.extend_from_slice(FLUSH_ALL_MESSAGE);
        }
    }

    /// Invalidations can go nowhere any more: the client is told so, and let go. Nothing else would make it stop
    /// believing what it has cached.
    pub(super) fn lose_redirection(&mut self) {
        self.phase = Phase::Open;
        self.turned_away(LOST);
        self.lost = true;
    }
}

/// What Redis says to a subscriber of this channel when everything is void.
const FLUSH_ALL_MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n$-1\r\n";
const LOST: &[u8] =
    b"-ERR the primary changed, and the client that invalidations were redirected to is gone; not executed\r\n";

/// `:57`: where its digits are, and the number, if it is above 0.
fn whole_number(reply: &[u8]) -> Option<(std::ops::Range<usize>, u64)> {
    let (digits, number) = leading_number(reply.strip_prefix(b":")?)?;
    Some((1..1 + digits, number))
}

/// The number that follows this field's name in a map.
fn field(reply: &[u8], name: &[u8]) -> Option<(std::ops::Range<usize>, u64)> {
    let mut key = BytesMut::new();
    encode::bulk(&mut key, name);
    let at = memchr::memmem::find(reply, &key)? + key.len();
    let (digits, number) = whole_number(reply.get(at..)?)?;
    Some((at + digits.start..at + digits.end, number))
}

/// The decimal number above 0 at the beginning, and how many digits it has.
fn leading_number(text: &[u8]) -> Option<(usize, u64)> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number: u64 = std::str::from_utf8(text.get(..digits)?).ok()?.parse().ok()?;
    (number > 0).then_some((digits, number))
}

fn spliced(reply: &[u8], at: std::ops::Range<usize>, number: u64) -> BytesMut {
    let mut out = BytesMut::with_capacity(reply.len() + 16);
    out.extend_from_slice(reply.get(..at.start).unwrap_or_default());
    out.extend_from_slice(number.to_string().as_bytes());
    out.extend_from_slice(reply.get(at.end..).unwrap_or_default());
    out
}

/// The id in a reply of HELLO or CLIENT ID.
pub(super) fn id_in(reply: &[u8]) -> Option<u64> {
    whole_number(reply).or_else(|| field(reply, b"id")).map(|(_, id)| id)
}

/// How many clients a CLIENT KILL has reached.
pub(super) fn killed(reply: &[u8]) -> u64 {
    match whole_number(reply) {
        Some((_, count)) => count,
        // The old form, with an address.
        None => u64::from(reply.starts_with(b"+")),
    }
}
