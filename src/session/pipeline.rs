//! What one client has asked and not yet been answered, in order, with the bytes it takes to ask again.
//!
//! ```text
//!  entries   | delivered | answered | sent      | waiting      |
//!  bytes     |================================= framed ========|.. unfinished ..|
//!                                    ^ cursor: handed to the upstream up to here
//! ```
//!
//! `delivered` entries are kept only inside an open transaction, so that it can be replayed; outside of one the front
//! entry is always the oldest unanswered command. `answered` entries have their reply but must wait for an earlier
//! one. Sending again is moving the cursor back; nothing is copied.
//!
//! Invariant: `delivered, answered <= sent <= entries.len()` and `cursor <= framed <= bytes.len()`, where `framed` is
//! the sum of all entries' lengths. An entry that carries an answer is never sent (again).

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::protocol::command::{Class, Transaction};

use super::entry::{Entry, Ours};

/// See the module's picture.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    bytes: BytesMut,
    entries: VecDeque<Entry>,
    delivered: usize,
    delivered_end: usize,
    answered: usize,
    sent: usize,
    sent_end: usize,
    cursor: usize,
    framed: usize,
    /// Waiting entries that carry an answer: the bytes to send are not one piece then.
    holes: usize,
    /// Entries behind which nothing is sent until they are answered.
    stopping: usize,
    /// Entries with a reply and without a receipt.
    unconfirmed: usize,
    /// Commands were sent that want a receipt.
    written: bool,
}

impl Pipeline {
    /// Commands not yet delivered, sent or not.
    pub(super) fn undelivered(&self) -> usize {
        self.entries.len() - self.delivered
    }

    /// Commands sent and not answered, or answered and without the receipt that they want.
    pub(super) fn in_flight(&self) -> usize {
        self.unanswered() + self.unconfirmed
    }

    /// Commands that wait to be sent.
    pub(super) fn waiting(&self) -> usize {
        self.entries.len() - self.sent
    }

    /// Everything kept, in bytes, the unfinished command included.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of complete commands that wait to be sent.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.framed - self.cursor.min(self.framed)
    }

    /// Part of a command has been handed to the upstream, and not its end.
    pub(super) fn mid_command(&self) -> bool {
        self.cursor > self.sent_end
    }

    // ---- what the client adds ----

    /// Appends bytes of the command under way.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes after the last complete command.
    pub(super) fn unfinished(&self) -> &[u8] {
        self.bytes.get(self.framed..).unwrap_or_default()
    }

    /// Forgets the bytes after the last complete command.
    pub(super) fn drop_unfinished(&mut self) {
        self.bytes.truncate(self.framed);
    }

    /// Takes the bytes after the last complete command out.
    pub(super) fn take_unfinished(&mut self) -> BytesMut {
        self.bytes.split_off(self.framed)
    }

    /// The unfinished bytes are now a command; its length is filled in here.
    pub(super) fn push(&mut self, mut entry: Entry) {
        entry.len = self.bytes.len() - self.framed;
        self.framed = self.bytes.len();
        self.holes += usize::from(entry.answer.is_some());
        self.stopping += usize::from(entry.stops());
        self.entries.push_back(entry);
        self.settle();
    }

    /// A whole plain command; false when it would stand behind an unfinished one.
    pub(super) fn push_plain(&mut self, command: &[u8], class: Class) -> bool {
        if self.framed != self.bytes.len() {
            return false;
        }
        self.bytes.extend_from_slice(command);
        self.framed += command.len();
        self.entries.push_back(Entry { len: command.len(), plain: true, ..Entry::new(class) });
        true
    }

    // ---- what goes to the upstream ----

    /// The next bytes for the upstream; empty when there are none.
    pub(super) fn to_send(&self) -> &[u8] {
        let end = match (self.holes, self.stopping) {
            (0, 0) => self.framed,
            _ if self.behind_blocking() => self.cursor,
            _ => self.run_end(),
        };
        self.bytes.get(self.cursor..end).unwrap_or_default()
    }

    /// What was sent last can block, or stands alone, and is not answered. Nothing is sent behind it: the server would not
    /// run it before, and whatever becomes of the blocked command, what was not sent has not run.
    pub(super) fn behind_blocking(&self) -> bool {
        let last = self.sent.checked_sub(1).filter(|last| *last >= self.answered);
        last.and_then(|last| self.entries.get(last)).is_some_and(|entry| entry.stops() && entry.answer.is_none())
    }

    /// The rest of a command that was begun; empty when none was.
    pub(super) fn to_finish(&self) -> &[u8] {
        if !self.mid_command() {
            return &[];
        }
        let end = self.sent_end + self.entries.get(self.sent).map_or(0, |entry| entry.len);
        self.bytes.get(self.cursor..end).unwrap_or_default()
    }

    fn run_end(&self) -> usize {
        let mut end = self.sent_end;
        let mut first = self.unanswered() == 0;
        for entry in self.entries.iter().skip(self.sent).take_while(|entry| !entry.holds_up()) {
            if entry.alone && !first {
                break;
            }
            first = false;
            end += entry.len;
            if entry.stops() {
                break;
            }
        }
        end
    }

    /// The bytes of the next `count` commands that wait in one piece.
    pub(super) fn bytes_of_next(&self, count: usize) -> usize {
        if self.waiting() <= count {
            return usize::MAX;
        }
        let next = self.entries.range(self.sent..).take_while(|entry| !entry.holds_up()).take(count);
        next.map(|entry| entry.len).sum()
    }

    /// This holds for everything that is sent and unanswered.
    pub(super) fn in_flight_all(&self, test: impl Fn(&Entry) -> bool) -> bool {
        self.entries.range(self.answered.min(self.sent)..self.sent).all(test)
    }

    /// The upstream took `count` of [`Pipeline::to_send`]; says how many commands that completed.
    pub(super) fn advance(&mut self, count: usize) -> usize {
        let before = self.sent;
        self.cursor += count;
        while let Some(entry) = self.entries.get(self.sent) {
            if entry.answer.is_some() || self.sent_end + entry.len > self.cursor || entry.len == 0 {
                break;
            }
            self.sent_end += entry.len;
            self.sent += 1;
            self.written |= entry.receipt;
        }
        let completed = self.sent - before;
        self.settle();
        completed
    }

    /// The last `count` sent commands never left: they wait again.
    pub(super) fn retract(&mut self, count: usize) {
        let from = self.sent.saturating_sub(count).max(self.answered);
        let bytes: usize = self.entries.range(from..self.sent).map(|entry| entry.len).sum();
        self.sent = from;
        self.sent_end -= bytes;
        self.cursor = self.sent_end;
        self.holes = self.entries.iter().skip(self.sent).filter(|entry| entry.holds_up()).count();
    }

    /// The next command to be sent is WAIT or WAITAOF.
    pub(super) fn waits_for_replicas(&self) -> bool {
        self.entries.get(self.sent).is_some_and(|entry| entry.blocks && entry.class == Class::Admin)
    }

    /// The streamed command at the end has been handed over outside of the buffer.
    pub(super) fn streamed_sent(&mut self) {
        if self.entries.get(self.sent).is_some_and(|entry| entry.streamed) {
            self.sent += 1;
            self.settle();
        }
    }

    /// Skips what needs no sending, and no reply from the upstream.
    fn settle(&mut self) {
        while self.cursor == self.sent_end {
            match self.entries.get(self.sent) {
                Some(entry) if entry.answer.is_some() => {
                    self.sent_end += entry.len;
                    self.cursor += entry.len;
                    self.sent += 1;
                    self.holes -= 1;
                }
                _ => break,
            }
        }
        while self.answered < self.sent && self.entries.get(self.answered).is_some_and(|e| e.answer.is_some()) {
            self.answered += 1;
        }
    }

    // ---- what comes back ----

    /// [`Pipeline::expecting`], to be changed.
    pub(super) fn expecting_mut(&mut self) -> Option<(&mut Entry, Turn)> {
        let turn = self.expecting()?.1;
        self.entries.get_mut(self.answered).map(|entry| (entry, turn))
    }

    /// The command whose reply comes next, and whether that reply is its client's first (not a replay's).
    pub(super) fn expecting(&self) -> Option<(&Entry, Turn)> {
        if self.answered >= self.sent {
            return None;
        }
        let turn = match self.answered.cmp(&self.delivered) {
            std::cmp::Ordering::Less => Turn::Replayed,
            std::cmp::Ordering::Equal => Turn::Next,
            std::cmp::Ordering::Greater => Turn::Early,
        };
        self.entries.get(self.answered).map(|entry| (entry, turn))
    }

    /// The reply of [`Pipeline::expecting`] is dealt with: it was discarded, or is kept as the entry's answer.
    pub(super) fn set_aside(&mut self, answer: Option<Bytes>) {
        if let Some(entry) = self.entries.get_mut(self.answered) {
            entry.unconfirmed = entry.receipt && answer.is_some();
            self.unconfirmed += usize::from(entry.unconfirmed);
            entry.answer = answer;
            self.answered += 1;
            self.settle();
        }
    }

    /// The reply of [`Pipeline::expecting`], whose turn was [`Turn::Next`], has gone to the client.
    pub(super) fn answered_in_turn(&mut self) {
        self.answered += 1;
        self.settle();
    }

    /// How many of the oldest commands are plain, sent, and without a reply; at most `most`.
    pub(super) fn plain_ahead(&self, most: usize) -> usize {
        if self.delivered > 0 || self.answered > 0 {
            return 0;
        }
        let sent = self.entries.iter().take(self.sent.min(most));
        sent.take_while(|entry| entry.plain && entry.answer.is_none()).count()
    }

    /// The client has the replies of the `count` oldest commands; see [`Pipeline::plain_ahead`].
    pub(super) fn drop_plain(&mut self, count: usize) {
        self.delivered = count.min(self.sent);
        self.answered = self.delivered;
        self.delivered_end = self.entries.range(..self.delivered).map(|entry| entry.len).sum();
        self.release();
        self.settle();
    }

    /// The oldest undelivered command, its bytes, and its answer if that is known.
    pub(super) fn front(&self) -> Option<(&Entry, &[u8])> {
        let entry = self.entries.get(self.delivered)?;
        Some((entry, self.bytes.get(self.delivered_end..self.delivered_end + entry.len).unwrap_or_default()))
    }

    /// The front's answer, when it may be delivered now.
    pub(super) fn take_front_answer(&mut self) -> Option<Bytes> {
        if self.delivered >= self.answered {
            return None;
        }
        self.entries.get_mut(self.delivered).filter(|entry| !entry.unconfirmed)?.answer.take()
    }

    /// Waiting commands want a receipt, and none that would cover them has been asked for.
    pub(super) fn receipt_missing(&self) -> bool {
        let mut waiting = self.entries.range(self.sent..).rev();
        waiting.find(|entry| entry.receipt || entry.silent == Some(Ours::Receipt)).is_some_and(|entry| entry.receipt)
    }

    /// Commands sent and not answered.
    pub(super) fn unanswered(&self) -> usize {
        self.sent.saturating_sub(self.answered)
    }

    /// Commands that want a receipt were sent since the last call.
    pub(super) fn take_written(&mut self) -> bool {
        std::mem::take(&mut self.written)
    }

    /// What has its reply has its receipt now, or `instead` of the reply unless that is an error. Says how many
    /// commands that were.
    pub(super) fn confirm(&mut self, instead: Option<&'static [u8]>) -> u64 {
        if std::mem::take(&mut self.unconfirmed) == 0 {
            return 0;
        }
        let mut count = 0;
        for entry in self.entries.range_mut(self.delivered..).filter(|entry| entry.unconfirmed) {
            entry.unconfirmed = false;
            let failed = entry.answer.as_ref().is_some_and(|answer| answer.first() == Some(&b'-'));
            count += u64::from(!failed);
            if let (Some(text), false) = (instead, failed) {
                entry.answer = Some(Bytes::from_static(text));
            }
        }
        count
    }

    /// The front has been delivered. `keep`: it belongs to an open transaction; `wipe`: its bytes are a secret.
    pub(super) fn deliver_front(&mut self, keep: bool, wipe: bool) {
        let Some(entry) = self.entries.get(self.delivered) else { return };
        let (start, end) = (self.delivered_end, self.delivered_end + entry.len);
        if wipe
            && !keep
            && let Some(secret) = self.bytes.get_mut(start..end)
        {
            secret.fill(0);
        }
        if keep && start == end {
            // Nothing of it could be sent again; a replay must not wait for its reply.
            self.stopping -= usize::from(entry.stops());
            self.entries.remove(self.delivered);
            self.answered -= 1;
            self.sent -= 1;
            return;
        }
        self.delivered += 1;
        self.delivered_end = end;
        if !keep {
            self.release();
        }
    }

    /// Drops what was kept for a transaction; what may hold a secret is wiped.
    pub(super) fn release_delivered(&mut self) {
        let mut at = 0;
        for entry in self.entries.range(..self.delivered) {
            let end = at + entry.len;
            if matches!(entry.class, Class::Connection(_))
                && let Some(secret) = self.bytes.get_mut(at..end)
            {
                secret.fill(0);
            }
            at = end;
        }
        self.release();
    }

    /// Forgets everything; what may hold a secret is wiped.
    pub(super) fn clear(&mut self) {
        self.bytes.fill(0);
        *self = Self::default();
    }

    fn release(&mut self) {
        let (count, bytes) = (std::mem::take(&mut self.delivered), std::mem::take(&mut self.delivered_end));
        if count == 1 {
            self.stopping -= usize::from(self.entries.pop_front().is_some_and(|entry| entry.stops()));
        } else {
            self.stopping -= self.entries.drain(..count).filter(Entry::stops).count();
        }
        self.bytes.advance(bytes);
        self.answered = self.answered.saturating_sub(count);
        self.sent = self.sent.saturating_sub(count);
        self.sent_end = self.sent_end.saturating_sub(bytes);
        self.cursor = self.cursor.saturating_sub(bytes);
        self.framed -= bytes;
        if self.holes > 0 {
            self.settle();
        }
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_CAPACITY {
            self.bytes = BytesMut::new();
        }
    }

    // ---- another upstream ----

    /// Everything without an answer is to be sent again, from its first byte; says how many commands that are.
    pub(super) fn rewind(&mut self) -> u64 {
        let again = self.entries.range(..self.sent).filter(|entry| entry.answer.is_none()).count();
        for confirmations in self.entries.iter_mut().filter_map(|entry| entry.confirmations.as_mut()) {
            confirmations.restart();
        }
        (self.answered, self.sent, self.sent_end, self.cursor) = (0, 0, 0, 0);
        // What was queued is not run in the open: a MULTI that is replayed has to be accepted first.
        if let Some(multi) = self.entries.front_mut().filter(|_| self.delivered > 0) {
            multi.alone = true;
        }
        self.stopping = self.entries.iter().filter(|entry| entry.stops()).count();
        self.holes = self.entries.iter().filter(|entry| entry.holds_up()).count();
        self.settle();
        u64::try_from(again).unwrap_or(u64::MAX)
    }

    /// The commands that are sent, unanswered, and without a reply for the client; newest last.
    pub(super) fn in_flight_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Entry> {
        let from = self.answered.max(self.delivered).min(self.sent);
        self.entries.range_mut(from..self.sent)
    }

    /// The next command to be sent; empty when there is none, or a part of it was sent.
    pub(super) fn next(&self) -> &[u8] {
        let next = self.entries.get(self.sent).filter(|entry| entry.answer.is_none() && self.cursor == self.sent_end);
        next.and_then(|entry| self.bytes.get(self.sent_end..self.sent_end + entry.len)).unwrap_or_default()
    }

    /// Nothing is sent behind the next command until it is answered.
    pub(super) fn send_next_alone(&mut self) {
        if let Some(next) = self.entries.get_mut(self.sent) {
            next.alone = true;
        }
        self.reckon_stops();
    }

    /// A MULTI was sent, and its reply has not come.
    pub(super) fn multi_in_flight(&self) -> bool {
        let from = self.answered.min(self.sent);
        let mut sent = self.entries.range(from..self.sent);
        sent.any(|entry| matches!(entry.class, Class::Transaction(Transaction::Multi)))
    }

    /// Replaces the bytes of waiting commands by what `change` returns for them.
    pub(super) fn rewrite_waiting(&mut self, mut change: impl FnMut(&Entry, &[u8]) -> Option<BytesMut>) {
        if !self
            .entries
            .range(self.sent..)
            .any(|entry| entry.scan || entry.deadline.is_some() || entry.remembers.is_some())
            || self.mid_command()
        {
            return;
        }
        let tail = self.bytes.split_off(self.sent_end);
        let mut at = 0;
        for entry in self.entries.range_mut(self.sent..) {
            let old = tail.get(at..at + entry.len).unwrap_or_default();
            at += entry.len;
            match change(entry, old) {
                Some(new) => {
                    entry.len = new.len();
                    self.bytes.extend_from_slice(&new);
                }
                None => self.bytes.extend_from_slice(old),
            }
        }
        self.framed = self.bytes.len();
        self.bytes.extend_from_slice(tail.get(at..).unwrap_or_default());
    }

    /// The newest command names clients, and has no answer.
    pub(super) fn last_is_named(&self) -> bool {
        self.entries.back().is_some_and(|entry| entry.named && entry.answer.is_none())
    }

    /// Takes that command out again, before it is sent (again); false when there is none.
    pub(super) fn take_last_named(&mut self) -> bool {
        let found = self.last_is_named() && self.sent < self.entries.len() && !self.mid_command();
        if let Some(entry) = if found { self.entries.pop_back() } else { None } {
            self.framed -= entry.len;
            let unfinished = self.bytes.split_off(self.framed + entry.len);
            self.bytes.truncate(self.framed);
            self.bytes.extend_from_slice(&unfinished);
        }
        found
    }

    /// The commands that wait to be sent, and that the client has no reply of.
    pub(super) fn waiting_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Entry> {
        self.entries.range_mut(self.sent.max(self.delivered)..)
    }

    /// The MULTI in front was accepted, so that what followed it was not run (`None`); or it was not, and nobody knows:
    /// those get this answer. Says how many those are.
    pub(super) fn settle_doubts(&mut self, answer: Option<&Bytes>) -> u64 {
        let mut count = 0;
        for entry in self.entries.iter_mut().filter(|entry| entry.doubtful) {
            entry.doubtful = false;
            entry.answer = entry.answer.take().or_else(|| answer.cloned());
            count += 1;
        }
        if count > 0 {
            self.skip_answered();
        }
        count
    }

    /// Call after answers were given to waiting commands: they are skipped from now on.
    pub(super) fn skip_answered(&mut self) {
        self.holes = self.entries.iter().skip(self.sent).filter(|entry| entry.holds_up()).count();
        self.settle();
    }

    /// All commands that the client has no reply of, oldest first.
    pub(super) fn undelivered_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Entry> {
        self.entries.range_mut(self.delivered..)
    }

    /// All commands that the client has no reply of, with their bytes.
    pub(super) fn undelivered_with_bytes(&mut self) -> impl Iterator<Item = (&mut Entry, &[u8])> {
        let mut at = self.delivered_end;
        let bytes = &self.bytes;
        self.entries.range_mut(self.delivered..).map(move |entry| {
            let start = at;
            at += entry.len;
            (entry, bytes.get(start..at).unwrap_or_default())
        })
    }

    /// Call after it was changed which of them can block.
    pub(super) fn reckon_stops(&mut self) {
        self.stopping = self.entries.iter().filter(|entry| entry.stops()).count();
    }

    /// Bytes kept for an open transaction.
    pub(super) fn delivered_bytes(&self) -> usize {
        self.delivered_end
    }

    /// The oldest command in flight can block.
    pub(super) fn blocked(&self) -> bool {
        self.unanswered() > 0 && self.entries.get(self.answered).is_some_and(|entry| entry.blocks)
    }
}

/// An idle session gives its buffer back when it is larger than this.
const KEPT_CAPACITY: usize = 4096;

/// Where a reply stands relative to what the client has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The client already has it: this is a transaction being replayed.
    Replayed,
    /// The client waits for exactly this one.
    Next,
    /// An earlier command of the client is still without a reply.
    Early,
}
