//! What a client sent becomes entries of the pipeline.
//!
//! Complete commands are classified by the command table and appended; inline commands are re-encoded, so that what
//! was checked is what is sent; blank lines and empty arrays vanish as they do in Redis; a command larger than the
//! re-send budget begins to stream. Nothing is sent here.

use bytes::{Bytes, BytesMut};

use crate::protocol::command::{Class, Connection, Transaction};
use crate::protocol::request::{Framed, ProtocolError, RequestFramer, Shape, Span};
use crate::protocol::{encode, inline};

use super::blocking::Deadline;
use super::entry::Entry;
use super::identity::Telling;
use super::machine::stateful;
use super::receipt::NO_REPLICAS;
use super::reserved;
use super::subscription::Confirmations;
use super::{Home, Kind, Phase, Session, WINDOW};

/// A command that changes the connection may be so many times larger than others, and so large in any case.
const STATE_FACTOR: usize = 16;
const STATE_LEAST: usize = 64 * 1024;
/// Bytes of a streamed command that may wait for the upstream.
const STREAM_BACKLOG: usize = 64 * 1024;

impl Session {
    /// Takes what the client sent; returns how much of `input` was used. What is left must be offered again, before
    /// anything newer, once something was sent or answered. Appends to `out` what the client gets at once.
    pub fn handle_input(&mut self, input: &[u8], out: &mut BytesMut) -> usize {
        let mut used = 0;
        while used < input.len() && self.may_take() {
            let rest = input.get(used..).unwrap_or_default();
            if let Some(count) = self.take_plain(rest) {
                used += count;
                continue;
            }
            let (count, framed) = match self.framer.scan(rest) {
                Ok(step) => step,
                Err(error) => {
                    self.malformed(&error);
                    used = input.len();
                    break;
                }
            };
            used += count;
            self.take(rest.get(..count).unwrap_or_default(), framed);
        }
        self.deliver(out);
        used
    }

    /// The client's next bytes have a place.
    pub fn may_take(&self) -> bool {
        if self.closing {
            return false;
        }
        match self.phase {
            Phase::Raw => self.raw.len() < STREAM_BACKLOG,
            _ if self.stream.arriving() => self.stream.backlog() < STREAM_BACKLOG,
            _ => {
                let kept = self.pipeline.len() - self.pipeline.delivered_bytes();
                let room = self.pipeline.undelivered() < WINDOW && kept < self.allowance();
                !self.stream.open()
                    && !self.transaction.barrier
                    && !self.leaving_lane()
                    && self.tail.is_none()
                    && !self.maintenance.waits()
                    && !self.naming()
                    && self.unfamiliar.is_none()
                    && (room || self.may_stream())
            }
        }
    }

    /// One step of the framer.
    fn take(&mut self, bytes: &[u8], framed: Framed) {
        if self.stream.arriving() {
            self.stream.append(bytes, framed != Framed::More);
            return;
        }
        if self.raw_passing {
            self.raw_passing = framed == Framed::More;
            return self.raw.extend_from_slice(bytes);
        }
        self.pipeline.append(bytes);
        match framed {
            Framed::More if matches!(self.phase, Phase::Raw) => self.pass_raw(),
            Framed::More if self.large_ahead() => {
                if self.ahead_is_state() {
                    return self.malformed(&ProtocolError::BulkLength);
                }
                self.moved_much();
                if self.may_stream() {
                    match self.publishes_reserved() {
                        Some(true) => self.refuse_large(Bytes::from_static(reserved::REFUSED)),
                        Some(false) => self.begin_stream(),
                        None => {}
                    }
                }
            }
            Framed::More => {}
            Framed::Nothing => self.pipeline.drop_unfinished(),
            Framed::Command(shape) => self.admit(shape),
            Framed::Inline => self.admit_inline(),
        }
    }

    fn admit_inline(&mut self) {
        let line = self.pipeline.take_unfinished();
        let words = match inline::split(line.strip_suffix(b"\n").unwrap_or(&line)) {
            Ok(words) if words.is_empty() => return,
            Ok(words) => words,
            Err(error) => return self.malformed(&error),
        };
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let mut encoded = BytesMut::new();
        encode::command(&mut encoded, &words);
        self.pipeline.append(&encoded);
        let mut framer = RequestFramer::new(self.settings.limits);
        match framer.scan(&encoded) {
            Ok((_, Framed::Command(shape))) => self.admit(shape),
            _ => self.pipeline.drop_unfinished(),
        }
        encoded.fill(0);
    }

    pub(super) fn admit(&mut self, shape: Shape) {
        let command = self.pipeline.unfinished();
        let found = self.classify(command, shape.name, shape.second);
        let class = found.map_or(Class::Admin, |found| found.class);
        if found.is_none() && http(word(command, shape.name)) {
            // A browser that was lured here: Redis closes on it without a word, and so do we.
            self.pipeline.drop_unfinished();
            self.tally.malformed += 1;
            (self.closing, self.garbled) = (true, true);
            return;
        }
        if reserved::forbids(class, command, &self.settings.reserved_channel, self.is_raw()) {
            self.pipeline.drop_unfinished();
            return self.answer_ourselves(class, Bytes::from_static(reserved::REFUSED));
        }
        if class == Class::Connection(Connection::SetInfo) {
            self.note_library();
        }
        self.redirectable |= found.is_some_and(|found| found.name == "CAPA");
        if self.take_opt_in(class) {
            return self.tally.command(Kind::Connection);
        }
        if matches!(self.phase, Phase::Raw) {
            let command = self.pipeline.take_unfinished();
            self.raw.extend_from_slice(&command);
            return;
        }
        if self.keep_unfamiliar(shape, found) {
            return;
        }
        if self.refuses_write(class, found) {
            self.pipeline.drop_unfinished();
            return self.answer_ourselves(class, Bytes::from_static(NO_REPLICAS));
        }
        if self.keep_off_lane(shape, found) {
            return;
        }
        self.tally.command(Kind::of(found.map(|found| found.class), found.is_some_and(|found| found.blocks.is_some())));
        self.doomed = false;
        if let Class::Connection(kind) = class
            && self.keep_naming(kind)
        {
            return;
        }
        let blocks = found.is_some_and(|found| found.blocks.is_some());
        if class == Class::Read && blocks && !self.transaction.queueing(class) && self.resolve_tail() {
            return;
        }
        self.enter(shape);
    }

    /// The command behind everything that was taken becomes an entry.
    pub(super) fn enter(&mut self, shape: Shape) {
        self.unexplained = false;
        let command = self.pipeline.unfinished();
        let found = self.classify(command, shape.name, shape.second);
        let class = match found.map_or(Class::Admin, |found| found.class) {
            // With arguments they are refused, and begin or end nothing. (EXEC ends the transaction all the same.)
            Class::Transaction(Transaction::Multi | Transaction::Discard) | Class::Connection(Connection::Reset)
                if shape.args != 1 =>
            {
                Class::Harmless
            }
            class => class,
        };
        let resp3 = self.server.state.resp3();
        // A subscriber in RESP2 may not begin a transaction: the server says so.
        let begins_none = class == Class::Transaction(Transaction::Multi) && !resp3 && self.subscribed();
        let class = if begins_none { Class::Harmless } else { class };
        if let Some(answer) = self.transaction.admit(class, resp3) {
            self.pipeline.drop_unfinished();
            return self.answer_ourselves(class, answer);
        }
        let queued = self.transaction.queueing(class);
        self.transaction.barrier |= shape.args != 1 && matches!(class, Class::Transaction(Transaction::Exec));
        // Whether a MULTI behind it begins anything is for its reply to say.
        self.transaction.barrier |= self.transaction.lost() && matches!(class, Class::Subscription(_));
        self.close_batch(class, found);
        let receipt = self.wants_receipt(class, found, queued);
        let scan = class == Class::Scan && !queued;
        if scan {
            self.unmark_cursor();
        }
        let guards = self.transaction.guards(class);
        if guards > 0 {
            let mut questions = BytesMut::new();
            super::guard::guards(guards, &mut questions);
            self.pipeline.append(&questions);
        }
        self.pipeline.push(Entry {
            alone: self.transaction.alone(class),
            guards,
            // Asked again, a scan begins again: that does no harm.
            class: if scan { Class::Read } else { class },
            blocks: !queued && found.is_some_and(|found| found.blocks.is_some()),
            in_transaction: queued,
            harmless: self.transaction.harmless(class),
            deadline: Deadline::of(found, self.pipeline.unfinished(), self.now).filter(|_| !queued).map(Box::new),
            confirmations: Confirmations::of(class, usize::try_from(shape.args).unwrap_or(1).saturating_sub(1))
                .filter(|_| !queued)
                .map(Box::new),
            scan,
            receipt,
            telling: match class {
                Class::Connection(kind) if !queued => Telling::of(kind),
                _ => None,
            },
            named: self.naming(),
            ..Entry::new(class)
        });
    }

    pub(super) fn answer_ourselves(&mut self, class: Class, answer: Bytes) {
        let queued = self.transaction.queueing(class);
        let refused = answer.first() == Some(&b'-');
        self.tally.authored += u64::from(refused);
        if queued && refused && !self.closing {
            self.transaction.refused_dead();
            if !self.transaction.dead() {
                return self.refuse_queued(answer);
            }
        }
        self.pipeline.push(Entry { in_transaction: queued, answer: Some(answer), ..Entry::new(Class::Admin) });
    }

    /// The client is told what is wrong, after everything it is owed, and the conversation ends: as in Redis.
    fn malformed(&mut self, error: &ProtocolError) {
        self.pipeline.drop_unfinished();
        self.tally.malformed += 1;
        (self.closing, self.garbled) = (true, true);
        let mut text = BytesMut::new();
        encode::error(&mut text, &error.reply());
        self.answer_ourselves(Class::Admin, text.freeze());
    }

    // ---- streaming ----

    /// A large command of a raw session goes through while it arrives, once it is clear that it may.
    fn pass_raw(&mut self) {
        let command = self.pipeline.unfinished();
        if command.len() < self.budget {
            return;
        }
        let Some(publishes) = self.publishes_reserved() else { return };
        let (name, second) = (self.framer.name(), self.framer.second());
        let class = name.and_then(|name| self.classify(command, name, second)).map(|found| found.class);
        if name.is_none() || publishes || matches!(class, Some(Class::Subscription(_))) {
            return self.malformed(&ProtocolError::BulkLength);
        }
        let bytes = self.pipeline.take_unfinished();
        self.raw.extend_from_slice(&bytes);
        self.raw_passing = true;
    }

    /// The unfinished command publishes on a channel of the pair; `None`: that cannot be told yet.
    fn publishes_reserved(&self) -> Option<bool> {
        let (command, second) = (self.pipeline.unfinished(), self.framer.second());
        let class = self
            .framer
            .name()
            .map(|name| self.classify(command, name, second).map_or(Class::Admin, |found| found.class));
        let channel = second.map(|second| word(command, second));
        reserved::publishes(class, command, channel, &self.settings.reserved_channel)
    }

    /// The unfinished command is over the budget, and everything before it has been sent.
    fn may_stream(&self) -> bool {
        let own = self.home() == Home::Own;
        own && self.large_ahead()
            && matches!(self.phase, Phase::Open)
            && self.pipeline.waiting() == 0
            && !self.pipeline.mid_command()
            && !self.pipeline.behind_blocking()
    }

    /// The unfinished command is over the budget.
    pub(super) fn large_ahead(&self) -> bool {
        !self.is_raw() && self.pipeline.unfinished().len() >= self.allowance()
    }

    /// Bytes that an unfinished command may have and still be kept. What changes the connection has to be known to the
    /// end, since another upstream must be told the same.
    fn allowance(&self) -> usize {
        let long = self.pipeline.unfinished().len() >= self.budget;
        if long && self.ahead_is_state() { (self.budget * STATE_FACTOR).max(STATE_LEAST) } else { self.budget }
    }

    /// The unfinished command changes the connection, or a transaction.
    fn ahead_is_state(&self) -> bool {
        let command = self.pipeline.unfinished();
        let found = self.framer.name().and_then(|name| self.classify(command, name, self.framer.second()));
        found.is_some_and(|found| stateful(found.class) || matches!(found.class, Class::Transaction(_)))
    }

    /// The unfinished large command gets this answer; what still arrives of it is dropped.
    pub(super) fn refuse_large(&mut self, answer: Bytes) {
        drop(self.pipeline.take_unfinished());
        self.stream.begin(BytesMut::new());
        self.stream.lose();
        self.answer_ourselves(Class::Admin, answer);
    }

    fn begin_stream(&mut self) {
        let command = self.pipeline.unfinished();
        let found = self.framer.name().and_then(|name| self.classify(command, name, self.framer.second()));
        let class = found.map_or(Class::Admin, |found| found.class);
        if self.refuses_write(class, found) {
            return self.refuse_large(Bytes::from_static(NO_REPLICAS));
        }
        let bytes = self.pipeline.take_unfinished();
        self.tally.command(Kind::of(Some(class), false));
        self.transaction.streamed();
        let queued = self.transaction.queueing(class);
        let receipt = self.wants_receipt(class, found, queued);
        self.pipeline.push(Entry { in_transaction: queued, streamed: true, receipt, ..Entry::new(class) });
        self.stream.begin(bytes);
    }
}

impl Session {
    /// A MULTI was refused: what was taken behind it as queued is not.
    pub(super) fn expect_outside(&mut self) {
        let mut pipeline = std::mem::take(&mut self.pipeline);
        let mut inside = false;
        for (entry, command) in pipeline.undelivered_with_bytes().skip(1) {
            match entry.class {
                Class::Transaction(Transaction::Multi) => inside = true,
                class if ends_transaction(class) => inside = false,
                class if entry.in_transaction && !inside => {
                    entry.in_transaction = false;
                    let Ok((_, Framed::Command(shape))) = RequestFramer::new(self.settings.limits).scan(command) else {
                        continue;
                    };
                    let found = self.classify(command, shape.name, shape.second);
                    let names = usize::try_from(shape.args).unwrap_or(1).saturating_sub(1);
                    entry.blocks = found.is_some_and(|found| found.blocks.is_some());
                    entry.confirmations = Confirmations::of(class, names).map(Box::new);
                }
                _ => {}
            }
        }
        pipeline.reckon_stops();
        self.pipeline = pipeline;
        self.transaction.expect(inside);
    }
}

fn word(command: &[u8], span: Span) -> &[u8] {
    span.of(command).unwrap_or_default()
}

/// The first word of a line of HTTP.
fn http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:")
}

/// After this command replies are not one for one.
pub(super) fn goes_raw(class: Class) -> bool {
    matches!(class, Class::Raw | Class::Connection(Connection::Reply))
}

/// These end MULTI's queueing, for better or worse.
pub(super) fn ends_transaction(class: Class) -> bool {
    let ended = matches!(class, Class::Transaction(Transaction::Exec | Transaction::Discard));
    ended || matches!(class, Class::Connection(Connection::Reset))
}
