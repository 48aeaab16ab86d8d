//! What the upstream said finds its command, in order.
//!
//! A reply that can go to the client goes at once, in pieces if it is large. Error replies are looked at whole: one
//! that means "not executed, I am not primary" is kept from the client and turns the session to [`Phase::Refused`].
//! From then on replies of harmless commands are thrown away (they are asked again, so that a client always reads its
//! own writes), and replies of commands that did run are kept for their turn (so that nothing runs twice).

use bytes::{Bytes, BytesMut};

use crate::protocol::command::{Class, Transaction};
use crate::protocol::encode;
use crate::protocol::refusal::{Refusal, refusal};

use super::entry::{Entry, Ours};
use super::identity::{LIST_MOST, Telling, killed};
use super::machine::Effect;
use super::naming::Naming;
use super::pipeline::Turn;
use super::{Heard, Phase, Session};

/// A reply is delivered in pieces only when it is larger than this: until then the loss of its upstream leaves the
/// client with nothing half said.
const WHOLE: usize = 64 * 1024;

/// A string of more bytes is not passed on from a lane, if it can be avoided.
const HUGE: u64 = 1024 * 1024;

/// What counts as the size of a reply that is huge, however large it is.
const LARGEST: usize = 1024 * 1024;
/// An aggregate of more elements counts as huge.
const MANY: u64 = 64 * 1024;

/// What a reply announces at its beginning: bytes if it is one string, otherwise elements.
fn huge(begun: &[u8]) -> bool {
    let Some((kind, digits)) = begun.split_first() else { return false };
    let limit = match kind {
        b'$' | b'=' => HUGE,
        b'*' | b'~' => MANY,
        b'%' => MANY / 2,
        _ => return false,
    };
    let end = memchr::memchr(b'\r', digits.get(..digits.len().min(20)).unwrap_or_default());
    let text = end.and_then(|end| std::str::from_utf8(digits.get(..end)?).ok());
    text.and_then(|text| text.parse::<u64>().ok()).is_some_and(|announced| announced > limit)
}

/// The reply or push that is arriving.
#[derive(Default)]
pub(super) struct Assembly {
    mode: Mode,
    /// It answers no command.
    aside: bool,
    partial: BytesMut,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Whole,
    /// Its beginning has gone to the client.
    Passing,
    /// Nobody will see it.
    Dropping,
    /// Nobody will see it here: it is asked for again, on an upstream of the session's own.
    Again,
}

impl Assembly {
    /// The client has seen the beginning of a reply, and not its end.
    pub(super) fn half_delivered(&self) -> bool {
        self.mode == Mode::Passing
    }

    /// Nothing of a reply has been heard yet.
    pub(super) fn idle(&self) -> bool {
        self.mode == Mode::Whole && self.partial.is_empty()
    }

    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// The beginning of a reply has been collected elsewhere.
    pub(super) fn resume(&mut self, partial: BytesMut) {
        self.partial = partial;
    }
}

impl Session {
    /// A piece of what the upstream sent: all of a reply or push, or (`last` is false) a part of one.
    pub fn handle_reply(&mut self, piece: &[u8], push: bool, last: bool, out: &mut BytesMut) {
        if self.severed {
            return;
        }
        if self.assembly.mode == Mode::Whole {
            if last && self.assembly.partial.is_empty() {
                self.credit.note(piece.len());
                self.complete(piece, push, out);
            } else {
                self.assembly.partial.extend_from_slice(piece);
                if last {
                    let whole = std::mem::take(&mut self.assembly.partial);
                    self.credit.note(whole.len());
                    self.complete(&whole, push, out);
                } else if self.assembly.partial.len() > WHOLE {
                    self.begin_large(push, out);
                }
            }
        } else {
            let (mode, aside) = (self.assembly.mode, self.assembly.aside);
            if mode == Mode::Passing {
                self.follow_exec(piece);
                out.extend_from_slice(piece);
            }
            if last {
                self.assembly.reset();
                match mode {
                    _ if aside => {}
                    Mode::Passing => self.delivered_directly(b"$"),
                    Mode::Again if self.pipeline.unanswered() == 1 => self.pipeline.retract(1),
                    // What comes behind it is asked again as well, once the session has left the lane.
                    Mode::Again => self.assembly.mode = Mode::Again,
                    _ => self.pipeline.set_aside(None),
                }
            }
        }
        if last {
            self.deliver(out);
            self.enter_raw();
        }
    }

    /// Decides what becomes of something large whose beginning has been collected.
    fn begin_large(&mut self, push: bool, out: &mut BytesMut) {
        let begun = std::mem::take(&mut self.assembly.partial);
        let begun_size = if huge(&begun) { LARGEST } else { begun.len() };
        let mut scan = false;
        let mode = if let Some(shown) = self.large_notice(&begun, push) {
            self.assembly.aside = true;
            if shown { Mode::Passing } else { Mode::Dropping }
        } else {
            match self.pipeline.expecting() {
                _ if begun.first() == Some(&b'-') => Mode::Whole,
                Some((entry, _)) if entry.telling.is_some() && begun.len() < LIST_MOST => Mode::Whole,
                Some((entry, _)) if self.refusing() && entry.may_repeat() => Mode::Dropping,
                Some((entry, Turn::Next)) if self.too_large_for_a_lane(entry, &begun) => Mode::Again,
                Some((entry, Turn::Next)) if self.may_pass(entry) => {
                    scan = entry.scan;
                    Mode::Passing
                }
                _ => Mode::Whole,
            }
        };
        self.assembly.mode = mode;
        match mode {
            Mode::Whole => self.assembly.partial = begun,
            Mode::Passing => {
                self.follow_exec(&begun);
                self.pass(&begun, scan, out);
            }
            Mode::Dropping | Mode::Again => {}
        }
        if mode != Mode::Whole {
            self.credit.note(begun_size);
            self.moved_much();
        }
    }

    /// A client that reads more slowly than the node answers would keep the lane's other sessions waiting, or the rest of
    /// this reply in memory. A read that nothing but reads stands behind can as well be asked again elsewhere.
    fn too_large_for_a_lane(&self, entry: &Entry, begun: &[u8]) -> bool {
        self.may_shed() && self.may_pass(entry) && huge(begun)
    }

    /// The reply of this entry may go to the client in pieces.
    fn may_pass(&self, entry: &Entry) -> bool {
        matches!(self.phase, Phase::Open) && entry.silent.is_none() && !entry.receipt && entry.guards == 0
    }

    /// A whole reply or push.
    fn complete(&mut self, reply: &[u8], push: bool, out: &mut BytesMut) {
        if self.hear_guarded(reply, push, out) || self.hear_notice(reply, push, out) {
            return;
        }
        if matches!(self.phase, Phase::Greeting(_)) {
            return self.greeted(reply);
        }
        if self.keep_null(reply) {
            return self.pipeline.set_aside(None);
        }
        match self.retold(reply) {
            Some(reply) => self.settle(&reply, out),
            None => self.settle(reply, out),
        }
    }

    /// A whole reply that is to be told in other words.
    fn retold(&mut self, reply: &[u8]) -> Option<BytesMut> {
        let (entry, turn) = self.pipeline.expecting()?;
        if let Some(instead) =
            entry.instead.as_ref().filter(|_| turn != Turn::Replayed && self.refusal(reply).is_none())
        {
            return Some(BytesMut::from(&instead[..]));
        }
        let telling = entry.telling.filter(|_| turn != Turn::Replayed && reply.first() != Some(&b'-'))?;
        if telling == Telling::Killed {
            self.follow_kill(killed(reply));
        }
        self.tell(telling, reply)
    }

    /// A whole reply, as the client is to see it, finds its command.
    pub(super) fn settle(&mut self, reply: &[u8], out: &mut BytesMut) {
        let failed = reply.first() == Some(&b'-');
        if failed && self.pipeline.in_flight() == 0 && self.refused_marker() {
            return;
        }
        let Some((entry, turn)) = self.pipeline.expecting() else {
            // Nobody asked: the upstream ends the conversation with a word (limits, protocol errors).
            out.extend_from_slice(reply);
            self.closing = true;
            return;
        };
        // A receipt that a replica refuses has a meaning of its own.
        let receipt = entry.silent == Some(Ours::Receipt);
        if failed && let Some(why) = self.refusal(reply).filter(|why| !receipt || *why != Refusal::Wait) {
            if !entry.streamed {
                return self.refuse(why);
            }
            self.phase = Phase::Refused(why);
            return self.pipeline.set_aside(Some(Bytes::from_static(TOO_LARGE)));
        }
        match (&self.phase, turn) {
            (Phase::Refused(_), _) if entry.silent == Some(Ours::Receipt) => {
                self.pipeline.set_aside(None);
                self.receipt(reply);
            }
            (Phase::Refused(_), _) => {
                let aborted = failed && matches!(entry.class, Class::Transaction(_));
                let again = entry.may_repeat() || aborted;
                let kept = (!again).then(|| Bytes::copy_from_slice(reply));
                self.pipeline.set_aside(kept);
            }
            (_, Turn::Replayed) => {
                let failed = failed && matches!(entry.class, Class::Transaction(Transaction::Multi)) && entry.alone;
                self.pipeline.set_aside(None);
                if failed {
                    self.replay_failed();
                }
            }
            _ if entry.silent == Some(Ours::Receipt) => {
                self.pipeline.set_aside(Some(Bytes::from_static(b"+")));
                self.receipt(reply);
            }
            (_, Turn::Early) => self.pipeline.set_aside(Some(Bytes::copy_from_slice(reply))),
            (_, Turn::Next) if entry.receipt => self.pipeline.set_aside(Some(Bytes::copy_from_slice(reply))),
            (_, Turn::Next) if let Some(question) = entry.silent => {
                self.answered_to_us(question, reply);
                self.delivered_directly(reply);
            }
            (_, Turn::Next) => {
                self.pass(reply, entry.scan, out);
                if !failed && entry.class == Class::Raw {
                    return self.go_raw();
                }
                self.tally.errors += u64::from(failed);
                self.delivered_directly(reply);
            }
        }
    }

    /// What this reply refuses, if it is a refusal for this client.
    pub(super) fn refusal(&self, reply: &[u8]) -> Option<Refusal> {
        refusal(reply).filter(|why| *why != Refusal::Redirect || self.redirectable)
    }

    fn refuse(&mut self, why: Refusal) {
        if !matches!(self.phase, Phase::Refused(_)) {
            self.phase = Phase::Refused(why);
        }
        self.pipeline.set_aside(None);
    }

    /// The client has the front's reply (which began with `head`): its entry goes.
    pub(super) fn delivered_directly(&mut self, head: &[u8]) {
        self.pipeline.answered_in_turn();
        self.let_go(head);
    }

    /// Delivers answers whose turn has come.
    ///
    /// While the client has only the beginning of a reply or a push, nothing is: it would stand in the middle.
    pub(super) fn deliver(&mut self, out: &mut BytesMut) {
        if self.assembly.half_delivered() {
            return;
        }
        if self.severed {
            return self.pipeline.clear();
        }
        loop {
            while let Some(answer) = self.pipeline.take_front_answer() {
                match self.pipeline.front().and_then(|(entry, _)| entry.silent) {
                    Some(question) => self.answered_to_us(question, &answer),
                    None => out.extend_from_slice(&answer),
                }
                self.let_go(&answer);
            }
            if self.leaving_lane() && self.pipeline.in_flight() == 0 {
                self.unpark();
            } else if self.pipeline.undelivered() > 0 || !(self.answer_opt_in() || self.take_tail()) {
                break;
            }
        }
        self.ask_due_receipt();
    }

    /// What we asked for ourselves was answered.
    fn answered_to_us(&mut self, question: Ours, reply: &[u8]) {
        match question {
            Ours::Tail => self.resolved(reply),
            Ours::User if !self.server.user_is(reply) => {
                self.uncertain = true;
                self.affinity.tie();
            }
            Ours::Name => self.server.name_is(reply),
            Ours::User | Ours::Receipt | Ours::Nothing => {}
        }
    }

    fn let_go(&mut self, head: &[u8]) {
        self.answered += 1;
        let Some((entry, bytes)) = self.pipeline.front() else { return };
        let (class, queued, entry_named) = (entry.class, entry.in_transaction, entry.named);
        let connection = matches!(class, Class::Connection(_));
        let keep = match class {
            // The hot path: nothing of a transaction anywhere near.
            Class::Read | Class::Write if !self.in_transaction() => false,
            _ => {
                let named = if entry.named { self.naming.as_ref().map(Naming::told) } else { None };
                let said = named.as_deref().or(entry.remembers.as_deref().map(|own| &own[..])).unwrap_or(bytes);
                let was_open = self.server.in_multi();
                let effect = self.server.answered(class, said, head);
                self.follow_effect(effect);
                if connection && !self.server.state.resp3() {
                    self.maintenance.forget();
                }
                self.follow_transaction(class, queued, head, was_open)
            }
        };
        if entry_named {
            self.named();
        }
        self.pipeline.deliver_front(keep, connection);
        self.transaction.barrier &= self.pipeline.undelivered() > 0;
    }

    /// A piece of a reply that passes: the machine looks on if it is EXEC's.
    fn follow_exec(&mut self, piece: &[u8]) {
        let exec = |entry: &Entry| matches!(entry.class, Class::Transaction(Transaction::Exec));
        if !self.assembly.aside && self.pipeline.front().is_some_and(|(entry, _)| exec(entry)) {
            self.server.exec_piece(piece);
        }
    }

    fn follow_effect(&mut self, effect: Effect) {
        self.closing |= effect.ended;
        if effect.lost {
            (self.closing, self.lost) = (true, true);
        }
        if effect.doubt && !self.closing {
            self.ask_who();
        }
    }

    /// Asks the server whom it takes the client for, and how it is called.
    fn ask_who(&mut self) {
        let unfinished = self.pipeline.take_unfinished();
        for (question, words) in [(Ours::User, [&b"ACL"[..], b"WHOAMI"]), (Ours::Name, [b"CLIENT", b"GETNAME"])] {
            let mut command = BytesMut::new();
            encode::command(&mut command, &words);
            self.pipeline.append(&command);
            self.pipeline.push(Entry { silent: Some(question), ..Entry::new(Class::Harmless) });
        }
        self.pipeline.append(&unfinished);
    }

    /// A reply to the replay of the client's connection state.
    fn greeted(&mut self, reply: &[u8]) {
        let Phase::Greeting(greeting) = &mut self.phase else { return };
        let heard = greeting.heard(reply);
        if let Some(actual) = greeting.learnt() {
            self.learn(actual);
        }
        match heard {
            Heard::More => {}
            Heard::Done => self.phase = Phase::Open,
            Heard::TurnedAway if is_busy(reply) && !self.transaction_ties() && !self.subscribed() => {
                self.turned_away(reply);
                (self.closing, self.misplaced) = (false, true);
            }
            Heard::TurnedAway => self.turned_away(reply),
        }
    }

    /// The upstream does not accept the client's state: the client is told in the server's words, and let go.
    pub(super) fn turned_away(&mut self, reply: &[u8]) {
        let reply = Bytes::copy_from_slice(reply);
        for entry in self.pipeline.undelivered_mut().filter(|entry| entry.answer.is_none()) {
            entry.answer = Some(reply.clone());
        }
        self.pipeline.skip_answered();
        self.answer_naming(&reply);
        self.closing = true;
    }
}

/// A script, or a function, keeps the server busy.
pub(super) fn is_busy(reply: &[u8]) -> bool {
    reply.starts_with(b"-BUSY ")
}

const TOO_LARGE: &[u8] =
    b"-LOADING the primary changed and this command was too large to be sent again; it was not executed\r\n";
