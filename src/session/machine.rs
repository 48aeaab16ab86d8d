//! The server's own state machine of one connection, as far as its replies have shown it.
//!
//! [`Machine::answered`] gets every command with its reply, in order, when the client gets that reply. A command counts
//! if and only if its own reply says so. `+QUEUED` never counts: a queued command counts when its element in the array
//! of EXEC is no error.
//!
//! ```text
//!             MULTI: +OK                    +QUEUED: noted
//!  ordinary -------------> transaction ----.  error: not noted (EXEC will abort)
//!      ^                     |    ^--------'
//!      +---------------------+
//!        EXEC: any reply of 6.2 and later; DISCARD: +OK; RESET: +RESET
//! ```
//!
//! It predicts nothing (`transaction.rs` does) and knows no upstream. Invariant: it holds no data commands, and at most
//! [`MOST`] bytes of commands that wait for EXEC.

use zeroize::Zeroizing;

use crate::protocol::args::args;
use crate::protocol::command::{Class, Connection, Subscription, Transaction};
use crate::protocol::reply::{ReplyEnd, ReplyFramer, ReplyLimits};

use super::notice::Kind;
use super::preamble::{ConnectionState, login};
use super::subscription::Subscriptions;

/// Bytes of commands about the connection that may wait for EXEC in one transaction.
const MOST: usize = 16 * 1024 * 1024;
/// What a noted command costs besides its bytes.
const OVERHEAD: usize = 64;
const QUEUED: &[u8] = b"+QUEUED\r\n";

/// See the module.
#[derive(Default)]
pub(super) struct Machine {
    pub(super) state: ConnectionState,
    pub(super) subscriptions: Subscriptions,
    queue: Option<Queue>,
    executed: Option<Executed>,
    watching: bool,
    doubt: Option<Doubt>,
}

/// An open transaction.
#[derive(Default)]
struct Queue {
    /// Commands that were answered `+QUEUED`.
    count: usize,
    /// Those of them that change the connection.
    noted: Vec<Noted>,
    bytes: usize,
}

struct Noted {
    /// Its place among the queued commands.
    at: usize,
    class: Class,
    command: Zeroizing<Vec<u8>>,
}

/// The reply to EXEC, as far as it has come.
struct Executed {
    framer: ReplyFramer,
    /// The array's first line is over; what has come of it before.
    begun: bool,
    line: Vec<u8>,
    /// The first byte of the frame under way.
    head: Option<u8>,
    /// The queued command that the next frame belongs to, and the next noted one.
    at: usize,
    noted: usize,
    /// Confirmations that a SUBSCRIBE or its like is still owed.
    owed: usize,
    /// As they are at this point of the transaction.
    subscriptions: Subscriptions,
    failed: Vec<usize>,
}

/// A HELLO failed that 6.2 and 7.0 may have executed in part: they log in, and set the name, before they read the rest.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// Users, with the AUTH that was tried.
    logins: Vec<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    names: Vec<Vec<u8>>,
}

/// What a command has brought about that is not in the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// QUIT: the server closes the connection.
    pub ended: bool,
    /// The server has to be asked who it takes the client for ([`Machine::user_is`], [`Machine::name_is`]).
    pub doubt: bool,
    /// The reply to EXEC fits the queued commands not at all, or more waited for EXEC than is kept.
    pub lost: bool,
}

/// Inside MULTI these are executed at once, or refused at once; never queued.
pub(super) fn immediate(class: Class) -> bool {
    use Transaction::{Discard, Exec, Multi, Watch};
    matches!(class, Class::Transaction(Multi | Exec | Discard | Watch))
        || matches!(class, Class::Connection(Connection::Reset | Connection::Quit))
}

/// It may change what the server keeps of the connection.
pub(super) fn stateful(class: Class) -> bool {
    use Connection::{Auth, Hello, NoEvict, NoTouch, ReadOnly, ReadWrite, Select, SetInfo, SetName, Tracking};
    match class {
        Class::Subscription(_) => true,
        Class::Connection(kind) => matches!(
            kind,
            Auth | Hello | NoEvict | NoTouch | ReadOnly | ReadWrite | Select | SetInfo | SetName | Tracking
        ),
        _ => false,
    }
}

fn is_error(head: u8) -> bool {
    head == b'-' || head == b'!'
}

/// Before 6.2 an EXEC with a wrong number of arguments, or without permission, ended nothing.
fn stays_open(reply: &[u8]) -> bool {
    let words = [&b"-ERR "[..], b"-NOPERM ", b"-NOAUTH "];
    words.iter().any(|word| reply.starts_with(word)) && !reply.starts_with(b"-ERR EXEC without MULTI")
}

/// This reply to an EXEC outside MULTI says that watched keys are watched no longer. `EXEC without MULTI` leaves them.
pub(super) fn ends_watch(reply: &[u8]) -> bool {
    reply.starts_with(b"-EXECABORT ")
}

impl Machine {
    /// MULTI was accepted, and nothing has ended it.
    pub(super) fn in_multi(&self) -> bool {
        self.queue.is_some()
    }

    /// Keys are watched.
    pub(super) fn watching(&self) -> bool {
        self.watching
    }

    /// The upstream is gone, and with it what it has executed and not said.
    pub(super) fn forget_reply(&mut self) {
        self.executed = None;
    }

    /// The transaction is over without the server: nothing of it counts.
    pub(super) fn end_transaction(&mut self) {
        (self.queue, self.executed) = (None, None);
    }

    /// Keys are watched no longer; says whether any were.
    pub(super) fn unwatch(&mut self) -> bool {
        std::mem::take(&mut self.watching)
    }

    /// `command` got this reply (or its beginning, if it is none of EXEC).
    pub(super) fn answered(&mut self, class: Class, command: &[u8], reply: &[u8]) -> Effect {
        let failed = reply.first().is_none_or(|head| is_error(*head));
        let mut effect = Effect::default();
        if reply == QUEUED {
            effect.lost = !self.note(class, command);
            return effect;
        }
        if self.in_multi() && !immediate(class) {
            return effect;
        }
        match class {
            Class::Transaction(Transaction::Exec) => return self.exec(reply),
            Class::Transaction(Transaction::Multi) if !failed => self.queue = Some(Queue::default()),
            Class::Transaction(Transaction::Discard) if !failed => {
                self.end_transaction();
                self.watching = false;
            }
            Class::Transaction(Transaction::Watch) => self.watching |= !failed,
            Class::Transaction(Transaction::Unwatch) => self.watching &= failed,
            Class::Connection(Connection::Quit) => effect.ended = !failed,
            Class::Connection(Connection::Hello) if failed => effect.doubt = self.doubt(command, reply),
            Class::Connection(Connection::Reset) if !failed => {
                self.end_transaction();
                self.watching = false;
                self.subscriptions = Subscriptions::default();
                self.state.accepted(Connection::Reset, command);
            }
            Class::Connection(kind) if !failed => self.state.accepted(kind, command),
            _ => {}
        }
        effect
    }

    /// The command was queued; false when more waits for EXEC than is kept.
    fn note(&mut self, class: Class, command: &[u8]) -> bool {
        let Some(queue) = &mut self.queue else { return true };
        // A message may stand before the reply to PUBLISH, when its own client is subscribed.
        if stateful(class) || class == Class::Publish {
            let kept = if class == Class::Publish { &[] } else { command };
            queue.bytes += kept.len() + OVERHEAD;
            queue.noted.push(Noted { at: queue.count, class, command: Zeroizing::new(kept.to_vec()) });
        }
        queue.count += 1;
        queue.bytes <= MOST
    }

    /// A piece of the reply to EXEC, before its end has come.
    pub(super) fn exec_piece(&mut self, piece: &[u8]) {
        let Some(queue) = self.queue.as_ref().filter(|queue| !queue.noted.is_empty()) else { return };
        let executed = self.executed.get_or_insert_with(|| Executed::new(&self.subscriptions));
        executed.hear(piece, queue);
    }

    fn exec(&mut self, reply: &[u8]) -> Effect {
        let mut effect = Effect::default();
        if self.in_multi() && stays_open(reply) {
            return effect;
        }
        if !self.in_multi() && !ends_watch(reply) {
            return effect;
        }
        if self.executed.is_none() {
            self.exec_piece(reply);
        }
        self.watching = false;
        let (Some(queue), Some(executed)) = (self.queue.take(), self.executed.take()) else { return effect };
        if !executed.begun {
            // An error, or the null that means that a watched key has changed.
            return effect;
        }
        effect.lost = executed.at != queue.count;
        for (place, noted) in queue.noted.iter().enumerate() {
            let failed = executed.failed.contains(&place);
            match noted.class {
                Class::Subscription(kind) if !failed => self.subscriptions.executed(kind, &noted.command),
                Class::Connection(Connection::Hello) if failed => effect.doubt |= self.doubt(&noted.command, b"-ERR "),
                Class::Connection(kind) if !failed => self.state.accepted(kind, &noted.command),
                _ => {}
            }
        }
        effect
    }

    // ---- a HELLO that failed ----

    /// Notes what a failed HELLO may have done; false when that is nothing.
    fn doubt(&mut self, command: &[u8], reply: &[u8]) -> bool {
        let unread = [&b"-NOPROTO"[..], b"-NOPERM", b"-ERR Can't execute", b"-ERR Protocol version"];
        if unread.iter().any(|text| reply.starts_with(text)) {
            return false;
        }
        let (mut logins, mut names) = (Vec::new(), Vec::new());
        let mut words = args(command).skip(2);
        while let Some(word) = words.next() {
            if word.eq_ignore_ascii_case(b"setname") {
                names.extend(words.next().map(<[u8]>::to_vec));
            } else if word.eq_ignore_ascii_case(b"auth") {
                let (user, secret) = (words.next(), words.next());
                logins.extend(user.zip(secret).map(|(user, secret)| (user.to_vec(), login(user, secret))));
            }
        }
        let any = !logins.is_empty() || !names.is_empty();
        if any {
            let doubt = self.doubt.get_or_insert_with(Doubt::default);
            doubt.logins.extend(logins);
            doubt.names.extend(names);
        }
        any
    }

    /// The server's answer to ACL WHOAMI; false when it does not say.
    pub(super) fn user_is(&mut self, reply: &[u8]) -> bool {
        let Some(doubt) = &mut self.doubt else { return true };
        let logins = std::mem::take(&mut doubt.logins);
        if reply.starts_with(b"-NOAUTH ") {
            // It is nobody: none of them was accepted.
            return true;
        }
        let Some(user) = bulk(reply) else { return logins.is_empty() };
        if let Some((_, auth)) = logins.into_iter().rev().find(|(tried, _)| tried == user)
            && self.state.user() != user
        {
            self.state.log_in(auth);
        }
        true
    }

    /// The server's answer to CLIENT GETNAME.
    pub(super) fn name_is(&mut self, reply: &[u8]) {
        let Some(doubt) = self.doubt.take() else { return };
        if let Some(name) = bulk(reply).filter(|name| doubt.names.iter().any(|tried| tried == name)) {
            self.state.set_name(name);
        }
    }
}

fn bulk(reply: &[u8]) -> Option<&[u8]> {
    let line = memchr::memchr(b'\n', reply)?;
    (reply.first() == Some(&b'$')).then(|| reply.get(line + 1..)?.strip_suffix(b"\r\n"))?
}

impl Executed {
    fn new(subscriptions: &Subscriptions) -> Self {
        Self {
            framer: ReplyFramer::new(ReplyLimits::default()),
            begun: false,
            line: Vec::new(),
            head: None,
            at: 0,
            noted: 0,
            owed: 0,
            subscriptions: subscriptions.clone(),
            failed: Vec::new(),
        }
    }

    fn hear(&mut self, mut bytes: &[u8], queue: &Queue) {
        if !self.begun {
            let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
            let (line, rest) = bytes.split_at(end);
            self.line.extend_from_slice(line);
            let array = self.line.first() == Some(&b'*') && !self.line.starts_with(b"*-");
            self.begun = array && self.line.ends_with(b"\n");
            if !self.begun {
                return;
            }
            bytes = rest;
        }
        while let Some(first) = bytes.first() {
            let head = *self.head.get_or_insert(*first);
            let Ok((used, end)) = self.framer.scan(bytes) else { return };
            if end != ReplyEnd::More {
                self.head = None;
                self.frame(head, queue);
            }
            bytes = bytes.get(used..).unwrap_or_default();
        }
    }

    /// A whole frame that begins with `head`.
    fn frame(&mut self, head: u8, queue: &Queue) {
        let noted = queue.noted.get(self.noted).filter(|noted| noted.at == self.at);
        match noted.map(|noted| noted.class) {
            Some(Class::Subscription(kind)) if !is_error(head) => {
                let command = noted.map(|noted| &noted.command[..]).unwrap_or_default();
                if self.owed == 0 {
                    self.owed = self.subscriptions.confirmations(kind, command);
                }
                self.owed -= 1;
                if self.owed > 0 {
                    return;
                }
                self.subscriptions.executed(kind, command);
            }
            // Not the reply, but a message that the command has caused.
            Some(Class::Publish) if head == b'*' => return,
            _ if head == b'>' => return,
            Some(_) if is_error(head) => self.failed.push(self.noted),
            _ => {}
        }
        self.noted += usize::from(noted.is_some());
        self.at += 1;
    }
}

impl Subscriptions {
    /// How many confirmations this command has now; at least one.
    fn confirmations(&self, kind: Subscription, command: &[u8]) -> usize {
        let names = args(command).count().saturating_sub(1);
        let (kind, begins) = kinds(kind);
        if begins || names > 0 { names.max(1) } else { self.count(kind).max(1) }
    }

    /// The command was executed.
    fn executed(&mut self, kind: Subscription, command: &[u8]) {
        let (kind, begins) = kinds(kind);
        let mut names = args(command).skip(1).peekable();
        if names.peek().is_none() && !begins {
            return self.clear(kind);
        }
        names.for_each(|name| self.change(kind, begins, name));
    }
}

/// What it is about, and whether it begins.
pub(super) fn kinds(subscription: Subscription) -> (Kind, bool) {
    match subscription {
        Subscription::Subscribe => (Kind::Channel, true),
        Subscription::PSubscribe => (Kind::Pattern, true),
        Subscription::SSubscribe => (Kind::Shard, true),
        Subscription::Unsubscribe => (Kind::Channel, false),
        Subscription::PUnsubscribe => (Kind::Pattern, false),
        Subscription::SUnsubscribe => (Kind::Shard, false),
    }
}

#[cfg(test)]
mod tests;
