//! MULTI and WATCH across a change.
//!
//! An open transaction is kept in the pipeline and replayed: to the new primary it is as if the client had just begun.
//! WATCH cannot be replayed, since nobody watched while the roles changed; so the transaction is declared dead: its
//! commands are answered `+QUEUED` by us and EXEC is answered the null that means "a watched key changed", upon which
//! clients start over by contract. A transaction that is too large to keep dies with `-EXECABORT`.

use bytes::{Bytes, BytesMut};

use crate::protocol::command::{Class, Transaction};
use crate::protocol::encode;

use super::Session;
use super::admission::{ends_transaction, goes_raw};
use super::entry::Entry;

/// Where the client stands, as taken (`queueing`) and as answered (`open`, `watching`).
#[derive(Default)]
pub(super) struct TransactionState {
    /// The newest command taken stands between MULTI and EXEC.
    queueing: bool,
    /// What was taken since MULTI only reads.
    reads: bool,
    /// MULTI was answered; EXEC was not.
    open: bool,
    /// WATCH was answered.
    watching: bool,
    /// Watched keys were lost with their upstream: the next EXEC fails.
    watch_lost: bool,
    /// The transaction can end only with this answer to EXEC.
    dead: Option<Death>,
    /// The open transaction cannot be replayed; this is what becomes of it on another upstream.
    unrepeatable: Option<Death>,
    /// The newest command taken makes replies not one for one: nothing is taken behind it until it is answered.
    pub(super) raw_ahead: bool,
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
    pub(super) fn open(&self) -> bool {
        self.open || self.queueing
    }

    /// It is open, or begun by WATCH, or was lost and is not yet over for the client.
    pub(super) fn ties(&self) -> bool {
        self.watching || self.watch_lost || self.dead.is_some()
    }

    pub(super) fn watching(&self) -> bool {
        self.watching
    }

    /// A command of this class, just taken, would be queued by the server.
    pub(super) fn queueing(&self, class: Class) -> bool {
        self.queueing && !ends_transaction(class) && !matches!(class, Class::Transaction(Transaction::Multi))
    }

    /// Follows what the client sends; an answer means that the server is not asked.
    pub(super) fn admit(&mut self, class: Class, resp3: bool) -> Option<Bytes> {
        self.raw_ahead = goes_raw(class);
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
            _ if self.queueing && !ends_transaction(class) => self.dead.map(|_| QUEUED),
            _ => None,
        };
        self.reads &= !self.queueing || ends_transaction(class) || class.may_repeat();
        if matches!(class, Class::Transaction(Transaction::Multi)) {
            self.reads |= !self.queueing;
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

    /// A command that is not kept was taken.
    pub(super) fn streamed(&mut self) {
        if self.queueing {
            self.unrepeatable = Some(Death::TooLarge);
            self.reads = false;
        }
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

impl Session {
    /// A command was answered with something that begins with `head`; called before its entry is let go. Returns
    /// whether the entry must be kept for a replay.
    pub(super) fn follow_transaction(&mut self, class: Class, in_transaction: bool, head: &[u8]) -> bool {
        let failed = head.first() == Some(&b'-');
        let state = &mut self.transaction;
        match class {
            Class::Transaction(Transaction::Multi) if !failed && !in_transaction => {
                state.open = true;
                self.pipeline.settle_doubts(None);
            }
            Class::Transaction(Transaction::Multi) if !in_transaction => self.multi_failed(),
            Class::Transaction(Transaction::Watch) if !failed && !in_transaction => state.watching = true,
            Class::Transaction(Transaction::Unwatch) if !in_transaction => state.watching = false,
            _ if ends_transaction(class) && state.open && head.starts_with(b"-ERR") => {}
            _ if ends_transaction(class) => {
                if state.open && !failed && head != b"*-1\r\n" && head != b"_\r\n" {
                    self.accept_queued();
                }
                let state = &mut self.transaction;
                (state.open, state.watching, state.watch_lost, state.unrepeatable) = (false, false, false, None);
                return false;
            }
            _ => {}
        }
        if self.transaction.open && self.pipeline.delivered_bytes() > self.budget {
            self.transaction.unrepeatable = Some(Death::TooLarge);
        }
        self.transaction.open && self.transaction.unrepeatable.is_none()
    }

    /// MULTI was answered with an error: what was taken behind it is not queued but run.
    fn multi_failed(&mut self) {
        self.tally.unknown += self.pipeline.settle_doubts(Some(&Bytes::from_static(super::change::UNKNOWN)));
        let behind = self.pipeline.undelivered_mut().skip(1);
        for entry in behind {
            if ends_transaction(entry.class) || matches!(entry.class, Class::Transaction(Transaction::Multi)) {
                return;
            }
            entry.in_transaction = false;
        }
        self.transaction.queueing = false;
    }

    /// The open transaction is over, before its EXEC's turn to be delivered: nothing of it is kept, or watched.
    pub(super) fn end_transaction(&mut self) {
        let state = &mut self.transaction;
        (state.open, state.watching, state.watch_lost, state.unrepeatable) = (false, false, false, None);
        self.pipeline.release_delivered();
    }

    /// Transactions are over whose EXEC was in flight when the upstream was lost.
    pub(super) fn settled(&mut self, settled: Settled) {
        self.transaction.watching &= !settled.any;
        if settled.open {
            self.end_transaction();
        }
    }

    /// A command of an open transaction was answered with an error of ours: as in Redis, EXEC can only fail now.
    pub(super) fn abort_transaction(&mut self) {
        if std::mem::take(&mut self.transaction.open) {
            self.transaction.dead = Some(Death::Aborted);
            self.pipeline.release_delivered();
        }
    }

    /// EXEC ran: what it did to the connection counts now.
    fn accept_queued(&mut self) {
        let Self { pipeline, state, .. } = self;
        for (entry, bytes) in pipeline.delivered() {
            if let Class::Connection(kind) = entry.class {
                state.accepted(kind, bytes);
            }
        }
    }

    /// The upstream is gone: decides what becomes of WATCH and of an open transaction.
    pub(super) fn lose_transaction(&mut self) {
        let state = &mut self.transaction;
        state.watch_lost |= std::mem::take(&mut state.watching);
        let death = if let Some(death) = state.unrepeatable.filter(|_| state.open) {
            death
        } else if state.watch_lost {
            Death::WatchLost
        } else {
            return;
        };
        let mut inside = state.open;
        if state.open {
            state.open = false;
            self.pipeline.release_delivered();
        }
        self.tally.watch_failed += u64::from(death == Death::WatchLost && inside);
        let resp3 = self.state.resp3();
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
                (_, true) => entry.answer = Some(QUEUED),
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
/// In Redis' words.
const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";
const TOO_LARGE: &str = "EXECABORT Transaction discarded because of: the primary changed, and the transaction was too large to be sent again";
const NAMES_CLIENTS: &str =
    "EXECABORT Transaction discarded because of: the primary changed, and the transaction names clients by their ids";
