//! MULTI and WATCH across a change.
//!
//! An open transaction is kept in the pipeline and replayed: to the new primary it is as if the client had just begun.
//! WATCH cannot be replayed, since nobody watched while the roles changed; so the transaction is declared dead: its
//! commands are answered `+QUEUED` by us and EXEC is answered the null that means "a watched key changed", upon which
//! clients start over by contract. A transaction that is too large to keep dies with `-EXECABORT`, and so does one in
//! which a command was refused: it could not end in another way.
//!
//! What was answered stands in `machine.rs`; here is what is expected of commands that have no reply yet. Only a MULTI is
//! trusted to succeed: behind everything else that may begin or end a transaction nothing is taken before its reply.

use bytes::{Bytes, BytesMut};

use crate::protocol::command::{Class, Connection, Transaction};
use crate::protocol::encode;

use super::Session;
use super::admission::{ends_transaction, goes_raw};
use super::entry::Entry;
use super::machine::{ends_watch, immediate, stateful};

/// Where the client stands, as taken.
#[derive(Default)]
pub(super) struct TransactionState {
    /// The newest command taken stands between MULTI and EXEC.
    queueing: bool,
    /// What was taken since MULTI only reads, or may be run twice for another reason.
    reads: bool,
    /// What was taken since MULTI changes the connection, and how many logins are among it.
    changes: bool,
    logins: u8,
    /// Watched keys were lost with their upstream: the next EXEC fails.
    watch_lost: bool,
    /// The transaction can end only with this answer to EXEC.
    dead: Option<Death>,
    /// The open transaction cannot be replayed; this is what becomes of it on another upstream.
    unrepeatable: Option<Death>,
    /// Nothing is taken behind the newest command until it is answered.
    pub(super) barrier: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    WatchLost,
    TooLarge,
    /// It names clients, which other upstreams call otherwise.
    NamesClients,
    /// One of its commands got an error instead of being queued.
    Aborted,
}

impl TransactionState {
    /// The newest command taken stands between MULTI and EXEC.
    pub(super) fn taken(&self) -> bool {
        self.queueing
    }

    /// It is known now whether the newest command taken stands between MULTI and EXEC.
    pub(super) fn expect(&mut self, inside: bool) {
        self.queueing = inside;
    }

    /// It was lost and is not yet over for the client.
    pub(super) fn lost(&self) -> bool {
        self.watch_lost || self.dead.is_some()
    }

    /// It is over for the server, and not for the client.
    pub(super) fn dead(&self) -> bool {
        self.dead.is_some()
    }

    /// A command of this class, just taken, would be queued by the server.
    pub(super) fn queueing(&self, class: Class) -> bool {
        self.queueing && !immediate(class)
    }

    /// Follows what the client sends; an answer means that the server is not asked.
    pub(super) fn admit(&mut self, class: Class, resp3: bool) -> Option<Bytes> {
        self.barrier =
            goes_raw(class) || alone(class) || ends_for_sure(class) || self.changes && ends_transaction(class);
        let answer = match class {
            Class::Transaction(Transaction::Multi) if self.watch_lost && !self.queueing => {
                self.dead = Some(Death::WatchLost);
                Some(OK)
            }
            Class::Transaction(Transaction::Exec) => self.dead.map(|death| death.exec(resp3)),
            Class::Transaction(Transaction::Discard) => self.dead.map(|_| OK),
            Class::Transaction(Transaction::Unwatch) if !self.queueing => {
                self.watch_lost = false;
                None
            }
            _ if self.queueing => self.dead.and_then(|_| inside_dead(class)),
            _ => None,
        };
        self.reads &= !self.queueing || immediate(class) || may_repeat(class);
        if self.queueing && !immediate(class) {
            self.changes |= stateful(class);
            let logs_in = matches!(class, Class::Connection(Connection::Auth | Connection::Hello));
            self.logins = self.logins.saturating_add(u8::from(logs_in));
        }
        if matches!(class, Class::Transaction(Transaction::Multi)) {
            if !self.queueing {
                (self.reads, self.changes, self.logins) = (true, false, 0);
            }
            self.queueing = true;
        } else if ends_transaction(class) {
            self.queueing = false;
            if self.dead.take().is_some() {
                self.watch_lost = false;
            }
        }
        answer
    }

    /// The command just taken is EXEC, and running it twice does no harm.
    pub(super) fn harmless(&self, class: Class) -> bool {
        self.reads && matches!(class, Class::Transaction(Transaction::Exec))
    }

    /// The command just taken is sent alone.
    pub(super) fn alone(&self, class: Class) -> bool {
        alone(class) || self.changes && matches!(class, Class::Transaction(Transaction::Exec))
    }

    /// The command just taken is EXEC, and how many of its replies may be missing cannot be told from it.
    pub(super) fn guards(&self, class: Class) -> u8 {
        let exec = self.changes && matches!(class, Class::Transaction(Transaction::Exec));
        if exec { self.logins.saturating_add(1) } else { 0 }
    }

    /// A command that is not kept was taken.
    pub(super) fn streamed(&mut self) {
        if self.queueing {
            self.unrepeatable = Some(Death::TooLarge);
            self.reads = false;
        }
    }

    /// One of its commands was refused: whatever happens, it can only be aborted.
    pub(super) fn refused(&mut self) {
        self.unrepeatable = Some(Death::Aborted);
    }

    /// The client is refused a command inside a transaction that is dead: then it fails as in Redis.
    pub(super) fn refused_dead(&mut self) {
        self.dead = self.dead.map(|_| Death::Aborted);
    }

    /// One of its commands names clients by what the present upstream calls them.
    pub(super) fn names_clients(&mut self) {
        self.unrepeatable.get_or_insert(Death::NamesClients);
    }
}

impl Death {
    fn exec(self, resp3: bool) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::WatchLost if resp3 => encode::null(&mut out, true),
            Self::WatchLost => encode::null_array(&mut out, false),
            Self::TooLarge => encode::error(&mut out, TOO_LARGE),
            Self::NamesClients => encode::error(&mut out, NAMES_CLIENTS),
            Self::Aborted => encode::error(&mut out, ABORTED),
        }
        out.freeze()
    }
}

/// Sent only when everything before it is answered: several servers drop the reply of a login that fails behind another
/// reply.
fn alone(class: Class) -> bool {
    matches!(class, Class::Connection(Connection::Auth | Connection::Hello))
}

/// Whether it ends the transaction is for its reply to say; or it ends the connection.
fn ends_for_sure(class: Class) -> bool {
    matches!(class, Class::Transaction(Transaction::Discard))
        || matches!(class, Class::Connection(Connection::Reset | Connection::Quit))
}

/// Inside MULTI; EXEC may be run again if all of it may.
fn may_repeat(class: Class) -> bool {
    class.may_repeat() || stateful(class)
}

/// The reply to a command inside a transaction that the server does not know of. `None`: the server is asked.
fn inside_dead(class: Class) -> Option<Bytes> {
    match class {
        Class::Transaction(Transaction::Multi) => Some(NESTED),
        Class::Transaction(Transaction::Watch) => Some(WATCH_INSIDE),
        class if immediate(class) => None,
        _ => Some(QUEUED),
    }
}

impl Session {
    /// Between MULTI and EXEC, as answered or as taken.
    pub(super) fn in_transaction(&self) -> bool {
        self.server.in_multi() || self.transaction.taken()
    }

    /// A transaction is open, or begun by WATCH, or was lost and is not yet over for the client.
    pub(super) fn transaction_ties(&self) -> bool {
        self.in_transaction() || self.server.watching() || self.transaction.lost()
    }

    /// The upstream has queued commands of a transaction that is to be ended here.
    pub(super) fn half_queued(&self) -> bool {
        self.server.in_multi() && !matches!(self.phase, super::Phase::Detached)
    }

    /// A command was answered with `reply`; called before its entry is let go, with what the machine made of it. Returns
    /// whether the entry must be kept for a replay.
    pub(super) fn follow_transaction(&mut self, class: Class, queued: bool, reply: &[u8], was_open: bool) -> bool {
        let (failed, aborted) = (reply.first() == Some(&b'-'), ends_watch(reply));
        let open = self.server.in_multi();
        match class {
            Class::Transaction(Transaction::Multi) if open && !was_open => self.drop_doubts(),
            Class::Transaction(Transaction::Multi) if !open => self.multi_failed(),
            Class::Transaction(Transaction::Exec | Transaction::Discard) | Class::Connection(Connection::Reset) => {
                if open {
                    // It did not end it after all; nothing was taken behind it.
                    self.transaction.queueing = true;
                } else {
                    // Outside MULTI, an EXEC or DISCARD that fails leaves watched keys watched.
                    self.transaction.watch_lost &= failed && !was_open && !aborted;
                    self.transaction.unrepeatable = None;
                    return false;
                }
            }
            _ if open && queued && failed => self.transaction.refused(),
            _ => {}
        }
        if open && self.pipeline.delivered_bytes() > self.budget {
            self.transaction.unrepeatable.get_or_insert(Death::TooLarge);
        }
        open && self.transaction.unrepeatable.is_none()
    }

    fn drop_doubts(&mut self) {
        self.pipeline.settle_doubts(None);
    }

    /// MULTI was answered with an error: what was taken behind it is not queued but run.
    fn multi_failed(&mut self) {
        self.tally.unknown += self.pipeline.settle_doubts(Some(&Bytes::from_static(super::change::UNKNOWN)));
        self.expect_outside();
    }

    /// The replay of an open transaction began with an error: the client has to hear that it failed.
    pub(super) fn replay_failed(&mut self) {
        self.transaction.refused();
        self.lose_transaction();
        self.pipeline.skip_answered();
    }

    /// The open transaction is over, before its EXEC's turn to be delivered: nothing of it is kept, or watched.
    pub(super) fn end_transaction(&mut self) {
        self.server.end_transaction();
        self.server.unwatch();
        (self.transaction.watch_lost, self.transaction.unrepeatable) = (false, None);
        self.pipeline.release_delivered();
    }

    /// Transactions are over whose EXEC was in flight when the upstream was lost.
    pub(super) fn settled(&mut self, settled: Settled) {
        if settled.any {
            self.server.unwatch();
        }
        if settled.open {
            self.end_transaction();
        }
    }

    /// A command of an open transaction was answered with an error of ours, and the server has not seen it: as in Redis,
    /// EXEC can only fail now.
    pub(super) fn abort_transaction(&mut self) {
        if self.server.in_multi() {
            self.server.end_transaction();
            self.transaction.dead = Some(Death::Aborted);
            self.pipeline.release_delivered();
        }
    }

    /// The upstream is gone: decides what becomes of WATCH and of an open transaction.
    pub(super) fn lose_transaction(&mut self) {
        self.server.forget_reply();
        self.transaction.watch_lost |= self.server.unwatch();
        let open = self.server.in_multi();
        let state = &mut self.transaction;
        let death = if let Some(death) = state.unrepeatable.filter(|_| open) {
            death
        } else if state.watch_lost {
            Death::WatchLost
        } else {
            return;
        };
        let mut inside = open;
        if open {
            self.server.end_transaction();
            self.pipeline.release_delivered();
        }
        self.tally.watch_failed += u64::from(death == Death::WatchLost && inside);
        let resp3 = self.server.state.resp3();
        let mut ended = false;
        for entry in self.pipeline.undelivered_mut().filter(|entry| entry.answer.is_none()) {
            match (entry.class, inside) {
                (Class::Transaction(Transaction::Multi), false) => {
                    // For us it begins nothing: its end will be answered by us as well.
                    (inside, entry.answer, entry.class) = (true, Some(OK), Class::Admin);
                }
                (Class::Transaction(Transaction::Unwatch), false) => ended = true,
                (Class::Transaction(Transaction::Exec), true) => {
                    (ended, entry.answer) = (true, Some(death.exec(resp3)));
                }
                (Class::Transaction(Transaction::Discard), true) => (ended, entry.answer) = (true, Some(OK)),
                (class, true) => {
                    entry.answer = inside_dead(class);
                    if matches!(class, Class::Transaction(_)) {
                        entry.class = Class::Admin;
                    }
                }
                (_, false) => {}
            }
            if ended {
                break;
            }
        }
        let state = &mut self.transaction;
        if ended {
            (state.watch_lost, state.unrepeatable) = (false, None);
        } else if inside {
            state.dead = Some(death);
        }
    }
}

/// The upstream is lost with these in flight. Behind a MULTI without a reply, writes were queued, or run if it was
/// refused (no permission): which of the two, its reply on the next upstream will tell.
pub(super) fn doubt_queued<'a>(in_flight: impl Iterator<Item = &'a mut Entry>) {
    let mut open = false;
    for entry in in_flight.filter(|entry| entry.answer.is_none()) {
        match entry.class {
            Class::Transaction(Transaction::Multi) => open = true,
            class if ends_transaction(class) => open = false,
            class => entry.doubtful |= open && entry.in_transaction && !class.may_repeat(),
        }
    }
}

/// What became of transactions whose EXEC was in flight.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// There was one: what was watched before it is watched no longer.
    any: bool,
    /// It began with commands that the client has replies of.
    open: bool,
}

/// EXEC has its answer (it ran, or nobody knows): the commands of its transaction are not to be sent again.
pub(super) fn settle_exec<'a>(undelivered: impl DoubleEndedIterator<Item = &'a mut Entry>) -> Settled {
    let (mut inside, mut any) = (false, false);
    for entry in undelivered.rev() {
        match entry.class {
            Class::Transaction(Transaction::Exec) => {
                inside = entry.answer.is_some();
                any |= inside;
            }
            Class::Transaction(Transaction::Multi) if inside => {
                inside = false;
                entry.answer.get_or_insert(OK);
            }
            _ if inside && entry.in_transaction => drop(entry.answer.get_or_insert(QUEUED)),
            _ => {}
        }
    }
    Settled { any, open: inside }
}

const OK: Bytes = Bytes::from_static(b"+OK\r\n");
const QUEUED: Bytes = Bytes::from_static(b"+QUEUED\r\n");
const NESTED: Bytes = Bytes::from_static(b"-ERR MULTI calls can not be nested\r\n");
const WATCH_INSIDE: Bytes = Bytes::from_static(b"-ERR WATCH inside MULTI is not allowed\r\n");
/// In Redis' words.
const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";
const TOO_LARGE: &str = "EXECABORT Transaction discarded because of: the primary changed, and the transaction was too large to be sent again";
const NAMES_CLIENTS: &str =
    "EXECABORT Transaction discarded because of: the primary changed, and the transaction names clients by their ids";
