//! What a client is subscribed to, and the confirmations it is owed.
//!
//! SUBSCRIBE has one confirmation for each name instead of one reply; messages come at any time. Both are told apart
//! from replies here, so that everything else of the session stays one for one. Messages on the pair's channels, which
//! a pattern may match, are kept from clients.
//!
//! Another upstream is subscribed again before anything else (`preamble.rs`); when the old one is still there,
//! `cutover.rs` sees to it that nothing is missed in between.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};

use crate::protocol::command::Class;
use crate::protocol::encode;

use super::machine::kinds;
use super::notice::{Kind, Notice, notice};
use super::pipeline::Turn;
use super::preamble::Preamble;
use super::{Phase, Session};

/// Names of all of a client's subscriptions may take this many bytes; a client with more is let go.
const MOST: usize = 16 * 1024 * 1024;
/// What a name costs besides its letters.
const OVERHEAD: usize = 64;
const TOO_MANY: &[u8] = b"-ERR the names of this client's subscriptions take more than 16 MiB; closing\r\n";

/// Everything that a client is subscribed to.
#[derive(Clone, Debug, Default)]
pub(super) struct Subscriptions {
    channels: BTreeSet<Vec<u8>>,
    patterns: BTreeSet<Vec<u8>>,
    shards: BTreeSet<Vec<u8>>,
    /// What they are reckoned to take.
    bytes: usize,
}

/// The confirmations that a command is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Confirmations {
    kind: Kind,
    /// `None`: UNSUBSCRIBE without names, which confirms the end of each subscription of its kind.
    total: Option<usize>,
    /// Seen on this upstream.
    seen: usize,
    /// Shown to the client, on whatever upstream.
    shown: usize,
}

impl Confirmations {
    /// What a command of this class, with so many names, is owed.
    pub(super) fn of(class: Class, names: usize) -> Option<Self> {
        let Class::Subscription(subscription) = class else { return None };
        let (kind, begins) = kinds(subscription);
        let total = if !begins && names == 0 { None } else { Some(names) };
        Some(Self { kind, total, seen: 0, shown: 0 })
    }

    /// The command is sent once more: all confirmations come again.
    pub(super) fn restart(&mut self) {
        self.seen = 0;
        if self.total.is_none() {
            self.shown = 0;
        }
    }
}

impl Subscriptions {
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty() && self.shards.is_empty()
    }

    /// What they are reckoned to take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// CLIENT TRACKING … REDIRECT sends its invalidations to this channel.
    pub(super) fn hears_invalidations(&self) -> bool {
        self.channels.contains(&b"__redis__:invalidate"[..])
    }

    fn of(&mut self, kind: Kind) -> &mut BTreeSet<Vec<u8>> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shards,
        }
    }

    /// Names of this kind.
    pub(super) fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channel => self.channels.len(),
            Kind::Pattern => self.patterns.len(),
            Kind::Shard => self.shards.len(),
        }
    }

    /// All of this kind have ended.
    pub(super) fn clear(&mut self, kind: Kind) {
        let cost: usize = std::mem::take(self.of(kind)).iter().map(|name| name.len() + OVERHEAD).sum();
        self.bytes = self.bytes.saturating_sub(cost);
    }

    pub(super) fn change(&mut self, kind: Kind, begun: bool, name: &[u8]) {
        let names = self.of(kind);
        let cost = name.len() + OVERHEAD;
        if begun && names.insert(name.to_vec()) {
            self.bytes += cost;
        } else if !begun && names.remove(name) {
            self.bytes = self.bytes.saturating_sub(cost);
        }
    }

    /// Adds the commands that bring them about to a preamble.
    pub(super) fn say(&self, preamble: &mut Preamble) {
        let kinds: [(&[u8], &BTreeSet<Vec<u8>>); 3] =
            [(b"SUBSCRIBE", &self.channels), (b"PSUBSCRIBE", &self.patterns), (b"SSUBSCRIBE", &self.shards)];
        for (word, names) in kinds.into_iter().filter(|(_, names)| !names.is_empty()) {
            let words: Vec<&[u8]> = std::iter::once(word).chain(names.iter().map(Vec::as_slice)).collect();
            preamble.subscribe(&words);
        }
    }
}

impl Session {
    /// The client is subscribed to something.
    pub fn subscribed(&self) -> bool {
        !self.server.subscriptions.is_empty()
    }

    /// The client gets a message on `channel` from us, if it is subscribed to it by name; says whether it is.
    pub fn tell_channel(&self, channel: &[u8], payload: &[u8], out: &mut BytesMut) -> bool {
        let listens = self.server.subscriptions.channels.contains(channel);
        if listens {
            encode::push(out, 3, self.server.state.resp3());
            [b"message".as_slice(), channel, payload].into_iter().for_each(|part| encode::bulk(out, part));
        }
        listens
    }

    /// A whole push, or a reply in RESP2 that may be one of pub/sub; true when it was, and is dealt with.
    pub(super) fn hear_notice(&mut self, frame: &[u8], push: bool, out: &mut BytesMut) -> bool {
        let owed = match self.pipeline.expecting() {
            Some((entry, _)) => entry.confirmations.is_some(),
            None => false,
        };
        let greeting = matches!(self.phase, Phase::Greeting(_));
        if !push && !owed && !greeting && self.server.subscriptions.is_empty() {
            return false;
        }
        match notice(frame) {
            Some(Notice::Message(channel)) => {
                if self.may_hear(channel) {
                    out.extend_from_slice(frame);
                }
            }
            Some(Notice::Confirmed(kind, begun, name)) => self.confirmed(kind, begun, name, frame, out),
            None if push => match self.tell_broken_redirection(frame) {
                Some(frame) => out.extend_from_slice(&frame),
                None => out.extend_from_slice(frame),
            },
            None => return false,
        }
        true
    }

    /// The beginning of a large push, or of a large message in RESP2: goes it to the client? `None`: it is a reply.
    pub(super) fn large_notice(&mut self, beginning: &[u8], push: bool) -> Option<bool> {
        match notice(beginning) {
            Some(Notice::Message(channel)) if push || self.subscribed() => Some(self.may_hear(channel)),
            _ if push => Some(true),
            _ => None,
        }
    }

    /// The client may get what is said on this channel, from the upstream that it has.
    fn may_hear(&mut self, channel: &[u8]) -> bool {
        if channel.starts_with(&self.settings.reserved_channel) {
            self.heard_marker(channel);
            return false;
        }
        !self.cut_over()
    }

    fn confirmed(&mut self, kind: Kind, begun: bool, name: Option<&[u8]>, frame: &[u8], out: &mut BytesMut) {
        if let Phase::Greeting(greeting) = &mut self.phase {
            if greeting.confirmed() {
                self.phase = Phase::Open;
            }
            return;
        }
        if let Some(marker) = name.filter(|name| name.starts_with(&self.settings.reserved_channel)) {
            return self.confirmed_marker(marker, begun);
        }
        if let Some(name) = name {
            self.server.subscriptions.change(kind, begun, name);
        }
        let left = self.server.subscriptions.of(kind).is_empty();
        let Some((entry, turn)) = self.pipeline.expecting_mut() else {
            // The server ended a subscription by itself.
            return out.extend_from_slice(frame);
        };
        let Some(owed) = entry.confirmations.as_mut().filter(|_| turn == Turn::Next) else {
            return out.extend_from_slice(frame);
        };
        owed.seen += 1;
        if owed.seen > owed.shown {
            owed.shown = owed.seen;
            out.extend_from_slice(frame);
        }
        if owed.total.map_or(left, |total| owed.seen >= total) {
            self.delivered_directly(b"*");
        }
        if self.server.subscriptions.bytes() > MOST && !self.closing {
            self.turned_away(TOO_MANY);
            if self.pipeline.undelivered() == 0 {
                self.answer_ourselves(Class::Admin, Bytes::from_static(TOO_MANY));
            }
            self.overfull = true;
        }
    }
}
