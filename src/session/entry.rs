//! One command of the client, as the pipeline keeps it: what is known of it, and what may be done with it.
//!
//! It holds no bytes of the command (the pipeline does) and decides nothing about its fellows.

use bytes::Bytes;

use crate::protocol::command::{Class, Connection, Transaction};

use super::blocking::Deadline;
use super::identity::Telling;
use super::subscription::Confirmations;

/// What we asked for ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ours {
    /// The last entry of a stream (`tail.rs`).
    Tail,
    /// Whether a replica has what stands before (`receipt.rs`).
    Receipt,
    /// Nothing: the command matters, not its reply.
    Nothing,
    /// Who the server takes the client for, and what it calls it (`machine.rs`).
    User,
    /// See `User`.
    Name,
}

/// One command of the client.
#[derive(Debug)]
pub(super) struct Entry {
    /// Bytes in the pipeline's buffer; 0 for what is never sent from there (answered by us, or streamed through).
    pub len: usize,
    /// What the command table says of it.
    pub class: Class,
    /// It can block (BLPOP …), and so does not say that the server is busy. (What is queued in a transaction cannot.)
    pub blocks: bool,
    /// It was sent inside MULTI: it is queued, not run; sending it again does no harm.
    pub in_transaction: bool,
    /// Nothing else about it can matter (see `plain.rs`).
    pub plain: bool,
    /// It is EXEC, of a transaction that only reads.
    pub harmless: bool,
    /// It blocks no longer than until then.
    pub deadline: Option<Box<Deadline>>,
    /// It has confirmations instead of a reply.
    pub confirmations: Option<Box<Confirmations>>,
    /// It is of the SCAN family: its cursor is marked in the reply, and void on another upstream.
    pub scan: bool,
    /// What the client said, when something else is sent that is answered alike.
    pub remembers: Option<Box<Bytes>>,
    /// Which ids stand in its reply.
    pub telling: Option<Telling>,
    /// It names other clients by ids that only its upstream understands.
    pub named: bool,
    /// We asked, not the client: the reply is ours.
    pub silent: Option<Ours>,
    /// Its reply is kept until a receipt has come (`receipt.rs`).
    pub receipt: bool,
    /// It has its reply, and not its receipt.
    pub unconfirmed: bool,
    /// Whether it was queued or run is known only from the reply of its MULTI: it is not sent again before that.
    pub doubtful: bool,
    /// It was passed through without being kept: it cannot be sent again.
    pub streamed: bool,
    /// It is sent only when everything before it is answered, and nothing is sent behind it until it is answered.
    pub alone: bool,
    /// It is EXEC, and ends with so many questions that are ours (`guard.rs`).
    pub guards: u8,
    /// The client gets this instead of the reply: it stands for a command that we refuse, so that the server aborts the
    /// transaction as well.
    pub instead: Option<Box<Bytes>>,
    /// The reply, when it is known before its turn.
    pub answer: Option<Bytes>,
}

impl Entry {
    /// A command of this class, and nothing special about it.
    pub(super) fn new(class: Class) -> Self {
        Self {
            len: 0,
            class,
            blocks: false,
            in_transaction: false,
            plain: false,
            harmless: false,
            deadline: None,
            confirmations: None,
            scan: false,
            remembers: None,
            telling: None,
            named: false,
            silent: None,
            receipt: false,
            unconfirmed: false,
            doubtful: false,
            streamed: false,
            alone: false,
            guards: 0,
            instead: None,
            answer: None,
        }
    }

    /// What stands behind it cannot leave in one piece with what stands before.
    pub(super) fn holds_up(&self) -> bool {
        self.answer.is_some() || self.doubtful
    }

    /// Nothing is sent behind it until it is answered.
    pub(super) fn stops(&self) -> bool {
        self.blocks || self.alone
    }

    /// Sending it twice has the effect of sending it once.
    pub(super) fn may_repeat(&self) -> bool {
        let harmless = match self.class {
            // (The second might reach what is blocked now because the first has been.)
            Class::Connection(kind) => kind != Connection::Unblock,
            Class::Subscription(_) => true,
            Class::Transaction(kind) => kind != Transaction::Exec || self.harmless,
            class => class.may_repeat(),
        };
        !self.streamed && (self.in_transaction || harmless)
    }
}
