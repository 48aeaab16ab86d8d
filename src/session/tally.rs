//! What a session counted, for the shell to record.

use crate::protocol::command::Class;

/// What happened in a session since it was asked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commands taken, by [`Kind`].
    pub commands: [u64; Kind::ALL.len()],
    /// Error replies that the upstream gave and the client got.
    pub errors: u64,
    /// Error replies that are our own.
    pub authored: u64,
    /// Commands answered with an error because a hold reached a limit.
    pub expired: u64,
    /// Commands to be sent again because they were refused.
    pub resent_refused: u64,
    /// Commands to be sent again because their upstream was lost.
    pub resent_lost: u64,
    /// Commands answered with `-OUTCOMEUNKNOWN`.
    pub unknown: u64,
    /// Writes that are answered although no replica has confirmed them.
    pub alone: u64,
    /// Transactions that failed because their WATCH did not survive.
    pub watch_failed: u64,
    /// Subscriptions that may have missed messages.
    pub gaps: u64,
    /// Requests that were not RESP.
    pub malformed: u64,
}

/// Commands as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the command table's classes have the meaning")]
pub enum Kind {
    Read,
    Write,
    Script,
    Publish,
    Blocking,
    Transaction,
    Subscription,
    Connection,
    Scan,
    Harmless,
    Admin,
    Other,
}

impl Kind {
    /// All, in the order of [`Tally::commands`].
    pub const ALL: [Self; 12] = [
        Self::Read,
        Self::Write,
        Self::Script,
        Self::Publish,
        Self::Blocking,
        Self::Transaction,
        Self::Subscription,
        Self::Connection,
        Self::Scan,
        Self::Harmless,
        Self::Admin,
        Self::Other,
    ];

    pub(super) fn of(class: Option<Class>, blocks: bool) -> Self {
        match class {
            None => Self::Other,
            Some(_) if blocks => Self::Blocking,
            Some(Class::Read) => Self::Read,
            Some(Class::Write) => Self::Write,
            Some(Class::Script) => Self::Script,
            Some(Class::Publish) => Self::Publish,
            Some(Class::Transaction(_)) => Self::Transaction,
            Some(Class::Subscription(_)) => Self::Subscription,
            Some(Class::Connection(_)) => Self::Connection,
            Some(Class::Scan) => Self::Scan,
            Some(Class::Harmless) => Self::Harmless,
            Some(Class::Admin) => Self::Admin,
            Some(Class::Raw) => Self::Other,
        }
    }
}

impl Tally {
    pub(super) fn command(&mut self, kind: Kind) {
        if let Some(count) = self.commands.get_mut(kind as usize) {
            *count += 1;
        }
    }
}
