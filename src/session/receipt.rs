//! A write is answered only when a replica has it (`acknowledge = "replicated"`).
//!
//! The reply of a write is kept until a `WAIT 1 …` that was sent behind it, on the same connection, has said that a
//! replica has everything before it: the *receipt*. One receipt serves all the writes of a batch. On an upstream of its
//! own the session asks for it; on a lane the lane does, for all its passengers, and hands the answer on
//! ([`Session::handle_receipt`]). If the upstream is lost in between, the write ran, but perhaps on a node whose data are
//! gone: its outcome is unknown.
//!
//! It does not know replicas: whether one is there is told ([`Session::handle_replica`]). What passes while replies are
//! not one for one (MONITOR, CLIENT REPLY OFF) has no receipt.
//!
//! Invariant: with a receipt asked for, no reply of a write reaches the client before its receipt.

use bytes::{Bytes, BytesMut};

use crate::protocol::command::{Class, Command, Transaction};
use crate::protocol::encode;

use super::entry::{Entry, Ours};
use super::{Home, Phase, Session};

/// What clients are promised of a write that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipts {
    /// The question, as it is sent: `WAIT 1 MILLISECONDS`.
    pub question: Bytes,
    /// Without a replica: true refuses writes, false answers them all the same.
    pub strict: bool,
}

impl Receipts {
    /// A replica may take `patience` (milliseconds) to confirm.
    pub fn new(patience: u64, strict: bool) -> Self {
        let mut question = BytesMut::new();
        encode::command(&mut question, &[b"WAIT", b"1", patience.to_string().as_bytes()]);
        Self { question: question.freeze(), strict }
    }
}

/// What a receipt says.
enum Verdict {
    /// A replica has it all.
    Replicated,
    /// No replica confirmed it in time.
    Late,
    /// The node would not say: it is no primary any more.
    Nobody,
    /// The client's user may not ask.
    Forbidden,
}

impl Verdict {
    fn of(reply: &[u8]) -> Self {
        match reply {
            b":0\r\n" => Self::Late,
            _ if reply.starts_with(b"-NOPERM") => Self::Forbidden,
            [b':', ..] => Self::Replicated,
            _ => Self::Nobody,
        }
    }
}

/// It may have changed data when it is answered.
fn writes(class: Class, found: Option<&Command>) -> bool {
    matches!(class, Class::Write | Class::Script | Class::Transaction(Transaction::Exec)) || found.is_none()
}

/// A receipt may be asked for behind it, and covers what stands before it.
fn plain(class: Class, found: Option<&Command>) -> bool {
    let data = matches!(class, Class::Read | Class::Write | Class::Script | Class::Publish | Class::Scan);
    (data || class == Class::Harmless) && found.is_some_and(|found| found.blocks.is_none())
}

impl Session {
    /// A replica is there, or there is none (for longer than a moment).
    pub fn handle_replica(&mut self, there: bool) {
        self.replica_missing = !there;
    }

    /// The lane's receipt for everything that this session has been answered so far.
    pub fn handle_receipt(&mut self, reply: &[u8], out: &mut BytesMut) {
        self.receipt(reply);
        self.deliver(out);
    }

    /// Commands were sent, since the last call, that a lane must ask a receipt for.
    pub fn take_written(&mut self) -> bool {
        self.pipeline.take_written()
    }

    /// The command, just taken, is not to be run: nobody would have it but the primary.
    pub(super) fn refuses_write(&self, class: Class, found: Option<&Command>) -> bool {
        let strict = self.settings.receipts.as_ref().is_some_and(|receipts| receipts.strict);
        let multi = matches!(class, Class::Transaction(Transaction::Multi));
        let begins = multi || writes(class, found) && !matches!(class, Class::Transaction(_));
        strict && self.replica_missing && begins && !self.transaction.queueing(class)
    }

    /// Whether the reply of a command that is being taken is kept for a receipt. `queued`: it stands inside MULTI.
    pub(super) fn wants_receipt(&mut self, class: Class, found: Option<&Command>, queued: bool) -> bool {
        if self.settings.receipts.is_none() || queued || !writes(class, found) {
            return false;
        }
        let strict = self.settings.receipts.as_ref().is_some_and(|receipts| receipts.strict);
        let wanted = strict || !self.replica_missing;
        self.tally.alone += u64::from(!wanted);
        self.receipt_due |= wanted && self.home() == Home::Own;
        wanted
    }

    /// What was taken on a lane, and waits, goes on an upstream of the session's own, which nobody asks for receipts
    /// but the session.
    pub(super) fn recall_receipts(&mut self) {
        self.receipt_due |= self.pipeline.receipt_missing();
    }

    /// A command is about to be taken behind which a receipt would say nothing about what stands before it.
    pub(super) fn close_batch(&mut self, class: Class, found: Option<&Command>) {
        if self.receipt_due && !plain(class, found) {
            self.ask_receipt();
        }
    }

    /// Asks for the receipt of what was taken, once per batch. Only on an upstream of the session's own.
    pub(super) fn ask_due_receipt(&mut self) {
        let queueing = self.transaction.queueing(Class::Harmless);
        let open = self.stream.open() || queueing || matches!(self.phase, Phase::Raw);
        if self.receipt_due && !open && self.home() == Home::Own && self.tail.is_none() {
            self.ask_receipt();
        }
    }

    fn ask_receipt(&mut self) {
        self.receipt_due = false;
        let Some(receipts) = self.settings.receipts.clone() else { return };
        let unfinished = self.pipeline.take_unfinished();
        // WAIT covers what was written before the last command of its connection began: a command that blocked wrote
        // later than that, so another one stands between.
        self.pipeline.append(PING);
        self.pipeline.push(Entry { silent: Some(Ours::Nothing), ..Entry::new(Class::Harmless) });
        self.pipeline.append(&receipts.question);
        self.pipeline.push(Entry { silent: Some(Ours::Receipt), ..Entry::new(Class::Harmless) });
        self.pipeline.append(&unfinished);
    }

    /// What was answered so far is settled by this receipt.
    pub(super) fn receipt(&mut self, reply: &[u8]) {
        let strict = self.settings.receipts.as_ref().is_some_and(|receipts| receipts.strict);
        match Verdict::of(reply) {
            Verdict::Replicated => drop(self.pipeline.confirm(None)),
            Verdict::Late if !strict => self.tally.alone += self.pipeline.confirm(None),
            Verdict::Late => self.tally.unknown += self.pipeline.confirm(Some(LATE)),
            Verdict::Forbidden => self.tally.unknown += self.pipeline.confirm(Some(FORBIDDEN)),
            // The upstream is about to be left: then it is known what is to be sent again.
            Verdict::Nobody if self.refusing() => {}
            Verdict::Nobody => self.tally.unknown += self.pipeline.confirm(Some(NOBODY)),
        }
    }

    /// The upstream is gone, and with it the receipts that it owed.
    pub(super) fn lose_receipts(&mut self) {
        self.tally.unknown += self.pipeline.confirm(Some(NOBODY));
    }
}

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
/// In Redis' words (`min-replicas-to-write`).
pub(super) const NO_REPLICAS: &[u8] = b"-NOREPLICAS Not enough good replicas to write.\r\n";
const LATE: &[u8] =
    b"-OUTCOMEUNKNOWN the primary has executed the command, but no replica confirmed it in time; it may yet be lost\r\n";
const FORBIDDEN: &[u8] =
    b"-OUTCOMEUNKNOWN the primary has executed the command; this user may not ask whether a replica has it (ACL: +wait)\r\n";
const NOBODY: &[u8] =
    b"-OUTCOMEUNKNOWN the primary had executed the command, and was lost before a replica confirmed it\r\n";
