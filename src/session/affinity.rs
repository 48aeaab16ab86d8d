//! Free or pinned: may a session share an upstream with others, or does something tie it to one of its own.
//!
//! A session is at home on a shared upstream (a *lane*) until it sends a command whose meaning lives in the
//! connection, or that the table does not know. Such a command is parked: what came before it is answered first, then
//! the session asks for an upstream of its own and goes on there. When nothing ties it any more it may go back.
//! On a lane, what only names the connection (CLIENT SETNAME, SETINFO) is said with a name that all have in common, so
//! that the server answers it as it would answer the client's own; that one is remembered, and said for real on an
//! upstream of the session's own.
//!
//! Invariant: on a lane no command changes what the next command of another session means.

use bytes::{Bytes, BytesMut};

use crate::protocol::args::args;
use crate::protocol::command::{Class, Command, Connection};
use crate::protocol::encode;
use crate::protocol::request::Shape;

use super::entry::Entry;
use super::{Kind, Phase, Session};

/// Which kind of upstream a session needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Home {
    /// One that is shared with sessions of the same [`super::LaneKey`].
    #[default]
    Lane,
    /// One of its own.
    Own,
}

/// What ties a session to its own upstream for good.
#[derive(Default)]
pub(super) struct Affinity {
    home: Home,
    /// A command that needs an upstream of its own, complete, behind everything that was taken.
    parked: Option<Shape>,
    /// Something was said that ties for good: the client learnt an id, or used a command that we do not know.
    tied: bool,
    /// Replies or commands are large: others on a lane would wait for them.
    large: bool,
    /// An upstream of its own was needed a short while ago.
    recent: bool,
}

/// A command or reply of more bytes than this keeps others on a lane waiting.
const LARGE: u64 = 64 * 1024;
/// What lanes are called at the server, once one of their clients has named itself.
const SHARED_NAME: &[u8] = b"changeover";

impl Affinity {
    pub(super) fn new(lanes: bool) -> Self {
        let home = if lanes { Home::Lane } else { Home::Own };
        Self { home, tied: !lanes, ..Self::default() }
    }

    /// It has an upstream of its own for good.
    pub(super) fn tied(&self) -> bool {
        self.tied
    }

    /// An upstream of its own, for good.
    pub(super) fn tie(&mut self) {
        self.tied = true;
        self.large |= self.home == Home::Lane;
    }
}

/// What a command asks of the upstream.
enum Need {
    Anything,
    /// Its own, for as long as its effect lasts (a transaction, a block, a switch).
    OwnForNow,
    /// Its own, for ever.
    OwnForGood,
    /// Said in other words while on a lane.
    Remembered,
    /// Answered by us, and the end of the conversation.
    Farewell,
}

fn need(found: Option<&Command>) -> Need {
    let Some(found) = found else { return Need::OwnForGood };
    match found.class {
        _ if found.blocks.is_some() || found.own => Need::OwnForNow,
        Class::Read | Class::Write | Class::Script | Class::Publish | Class::Harmless | Class::Scan => Need::Anything,
        Class::Connection(kind) => match kind {
            Connection::SetName | Connection::SetInfo => Need::Remembered,
            Connection::Quit => Need::Farewell,
            Connection::Id | Connection::Info | Connection::Other => Need::OwnForGood,
            Connection::Kill | Connection::Redirection | Connection::Caching | Connection::Asking => Need::OwnForGood,
            _ => Need::OwnForNow,
        },
        Class::Transaction(_) | Class::Subscription(_) => Need::OwnForNow,
        Class::Admin => Need::OwnForNow,
        Class::Raw => Need::OwnForGood,
    }
}

impl Session {
    /// The kind of upstream that this session needs now.
    pub fn home(&self) -> Home {
        self.affinity.home
    }

    /// Parks a command that may not run on a lane, or answers it; false when it may be taken as it is.
    pub(super) fn keep_off_lane(&mut self, shape: Shape, found: Option<&Command>) -> bool {
        let need = need(found);
        if self.affinity.home == Home::Own {
            self.affinity.tied |= matches!(need, Need::OwnForGood);
            self.affinity.recent |= matches!(need, Need::OwnForNow) || shape.len > LARGE;
            return false;
        }
        self.affinity.large |= shape.len > LARGE;
        match need {
            Need::Anything => return false,
            Need::Remembered if self.remember(found) => return true,
            Need::Farewell => {
                drop(self.pipeline.take_unfinished());
                self.answer_ourselves(Class::Admin, Bytes::from_static(b"+OK\r\n"));
                self.closing = true;
                return true;
            }
            _ => {}
        }
        self.affinity.parked = Some(shape);
        self.unpark();
        true
    }

    /// CLIENT SETNAME or SETINFO on a lane; a name that the server might refuse needs an upstream of its own.
    fn remember(&mut self, found: Option<&Command>) -> bool {
        let Some(Class::Connection(kind)) = found.map(|found| found.class) else { return false };
        let command = self.pipeline.unfinished();
        let said: Vec<&[u8]> = args(command).take(3).collect();
        let words: Vec<&[u8]> = args(command).skip(2).collect();
        let plain = |word: &[u8]| word.iter().all(|byte| (b'!'..=b'~').contains(byte));
        let known = match (kind, words.as_slice()) {
            (Connection::SetName, [name]) => plain(name),
            (Connection::SetInfo, [key, value]) => {
                let key = key.eq_ignore_ascii_case(b"lib-name") || key.eq_ignore_ascii_case(b"lib-ver");
                key && plain(value) && !value.is_empty()
            }
            _ => false,
        };
        if known {
            let mut shared = said;
            shared.truncate(words.len() + 1);
            shared.push(SHARED_NAME);
            let mut encoded = BytesMut::new();
            encode::command(&mut encoded, &shared);
            let own = self.pipeline.take_unfinished().freeze();
            self.pipeline.append(&encoded);
            self.tally.command(Kind::Connection);
            let class = Class::Connection(kind);
            self.pipeline.push(Entry { remembers: Some(Box::new(own)), ..Entry::new(class) });
        }
        known
    }

    /// The session is about to leave its lane: it takes nothing before it has.
    pub(super) fn leaving_lane(&self) -> bool {
        self.affinity.parked.is_some() || self.affinity.large
    }

    /// Once the lane owes it nothing, the session leaves it with what waits, and takes the parked command.
    pub(super) fn unpark(&mut self) {
        if self.pipeline.in_flight() > 0 {
            return;
        }
        if std::mem::take(&mut self.affinity.large) {
            (self.affinity.home, self.affinity.recent) = (Home::Own, true);
        }
        self.recall_receipts();
        if let Some(shape) = self.affinity.parked.take() {
            (self.affinity.home, self.affinity.recent) = (Home::Own, true);
            self.admit(shape);
        }
    }

    /// The session leaves its lane because of what it moves.
    pub(super) fn moves_much(&self) -> bool {
        self.affinity.large
    }

    /// The session goes on with an upstream of its own, without waiting for what the lane owes it.
    pub(super) fn leave_at_once(&mut self) {
        self.affinity.large = false;
        (self.affinity.home, self.affinity.recent) = (Home::Own, true);
    }

    /// The client reads too slowly for a lane: the session goes on with an upstream of its own.
    pub fn leave_lane(&mut self, out: &mut bytes::BytesMut) {
        self.moved_much();
        self.deliver(out);
    }

    /// A command or a reply was so large that others on a lane have to wait for it.
    pub(super) fn moved_much(&mut self) {
        match self.affinity.home {
            Home::Lane => self.affinity.large = true,
            Home::Own => self.affinity.recent = true,
        }
    }

    /// Nothing has needed an upstream of its own since the last call.
    pub fn rested(&mut self) -> bool {
        !std::mem::take(&mut self.affinity.recent)
    }

    /// Nothing ties the session to its own upstream, and nothing is under way on it.
    pub fn free(&self) -> bool {
        let sending = self.pipeline.undelivered() > 0 || self.begun() || self.naming() || self.unfamiliar.is_some();
        let under_way = sending || self.is_raw() || self.large_ahead();
        let state = self.transaction_ties() || self.server.state.switched() || self.subscribed();
        !under_way && !state && !self.affinity.tied && matches!(self.phase, Phase::Open | Phase::Detached)
    }

    /// Back to a lane, if the session is [`Session::free`].
    pub fn share(&mut self) {
        if self.free() {
            self.affinity.home = Home::Lane;
        }
    }
}
