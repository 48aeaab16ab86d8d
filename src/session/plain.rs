//! The quick way: runs of ordinary commands and of ordinary replies, without a closer look at each.
//!
//! A command is *plain* when nothing but its length and its class can ever matter: it is known to read or to write, does
//! not block, is small, lies whole in what was read, no transaction is under way, and its reply needs no receipt. As long as plain commands are the
//! oldest without a reply, whole replies that are no errors go to the client as they are, many at a time.
//!
//! It decides nothing that `admission.rs` and `replies.rs` would decide otherwise: whatever is not plain takes that way,
//! and tests compare both.

use bytes::BytesMut;

use crate::protocol::command::{Class, lookup};

use super::{Kind, Phase, Session};

/// A command of more bytes is looked at: it may have to be kept, or refused, or may not stay on a lane.
const SMALL: usize = 8 * 1024;

impl Session {
    /// Takes the plain command at the beginning of `input`; says how many bytes that was. `None`: it needs a closer look.
    pub(super) fn take_plain(&mut self, input: &[u8]) -> Option<usize> {
        if self.raw_passing || self.stream.arriving() || matches!(self.phase, Phase::Raw) || self.in_transaction() {
            return None;
        }
        if self.settings.receipts.is_some() {
            return None;
        }
        let whole = self.framer.whole(input).filter(|whole| whole.len <= SMALL)?;
        let found = lookup(whole.name.of(input)?).filter(|found| found.blocks.is_none() && found.subs.is_empty())?;
        let kind = match found.class {
            Class::Read => Kind::Read,
            Class::Write => Kind::Write,
            _ => return None,
        };
        self.pipeline.push_plain(input.get(..whole.len)?, found.class).then(|| {
            self.tally.command(kind);
            self.doomed = false;
            whole.len
        })
    }

    /// How many replies, if whole and no errors, may go to the client unseen; at most `most`.
    pub fn plain_ahead(&self, most: usize) -> usize {
        let open = matches!(self.phase, Phase::Open) && self.assembly.idle() && self.cutover.is_none();
        let ordinary = self.server.subscriptions.is_empty() && !self.in_transaction() && self.tail.is_none();
        if open && ordinary { self.pipeline.plain_ahead(most) } else { 0 }
    }

    /// So many whole replies, no errors, at most as many as [`Session::plain_ahead`] said.
    pub fn handle_plain_replies(&mut self, replies: &[u8], count: usize, out: &mut BytesMut) {
        out.extend_from_slice(replies);
        self.pipeline.drop_plain(count);
        self.credit.note_many(replies.len(), count);
        self.answered += count as u64;
        self.deliver(out);
        self.enter_raw();
    }
}
