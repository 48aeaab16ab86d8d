//! Which client library speaks, and at which moment it bears the end of its connection best.
//!
//! Known by CLIENT SETINFO LIB-NAME, which nearly all of them send. What each does with a closed connection was found
//! by running it, or read in its source (docs/clients.md). A library that is not known is treated as one that looks
//! at its connection before it uses it.

use crate::protocol::args::args;
use crate::protocol::reply::is_null;

use super::Session;

/// Bytes of a library's name that are kept.
const LONGEST_NAME: usize = 32;

/// A client library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are names")]
pub enum Library {
    #[default]
    Unknown,
    RedisPy,
    GoRedis,
    NodeRedis,
    Ioredis,
    Lettuce,
    Jedis,
    StackExchange,
    RedisRs,
    Fred,
}

/// The moment at which a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Right behind a reply, or after a long silence: a pool looks at the connection before it uses it again.
    BehindReply,
    /// In a lull: the library hears of the end by itself, and must not be about to send then.
    InLull,
    /// Instead of answering the PING with which a pool tests it; otherwise in a lull, late.
    OnPing,
    /// Right behind a reply, and only a few of a pool at a time: it cannot look, and tries four connections.
    BehindReplyFewAtOnce,
}

impl Library {
    /// The library that calls itself so.
    pub fn named(name: &[u8]) -> Self {
        let begins = |text: &str| name.get(..text.len()).is_some_and(|head| head.eq_ignore_ascii_case(text.as_bytes()));
        let known = [
            ("redis-py", Self::RedisPy),
            ("go-redis", Self::GoRedis),
            ("node-redis", Self::NodeRedis),
            ("ioredis", Self::Ioredis),
            ("lettuce", Self::Lettuce),
            ("jedis", Self::Jedis),
            ("SE.Redis", Self::StackExchange),
            ("redis-rs", Self::RedisRs),
            ("fred", Self::Fred),
        ];
        known.iter().find(|(text, _)| begins(text)).map_or(Self::Unknown, |(_, library)| *library)
    }

    /// When its connections are closed.
    pub fn moment(self, resp3: bool) -> Moment {
        match self {
            Self::Unknown | Self::RedisPy => Moment::BehindReply,
            Self::GoRedis => Moment::BehindReplyFewAtOnce,
            Self::NodeRedis | Self::Ioredis | Self::Lettuce | Self::StackExchange | Self::Fred => Moment::InLull,
            Self::RedisRs if resp3 => Moment::InLull,
            Self::Jedis | Self::RedisRs => Moment::OnPing,
        }
    }

    /// A command whose connection is closed before the reply is sent again, without an error to the application.
    pub fn sends_again(self) -> bool {
        matches!(self, Self::RedisPy | Self::GoRedis | Self::Ioredis | Self::Lettuce | Self::Fred)
    }

    /// It reads its socket at any time, so that a push is heard although nothing was asked.
    pub fn listens(self) -> bool {
        matches!(self, Self::NodeRedis | Self::Ioredis | Self::Lettuce | Self::StackExchange | Self::Fred)
    }

    /// MOVING without an endpoint is understood, although it was not asked for. (node-redis ends its process,
    /// StackExchange.Redis waits for another address in the DNS.)
    pub fn takes_no_endpoint(self) -> bool {
        !matches!(self, Self::NodeRedis | Self::StackExchange)
    }

    /// Subscriptions survive a move. (node-redis forgets them, but not when its connection is closed.)
    pub fn moves_subscriptions(self) -> bool {
        self != Self::NodeRedis
    }
}

/// A PING without a text, and nothing else.
pub fn is_ping(input: &[u8]) -> bool {
    input.eq_ignore_ascii_case(b"*1\r\n$4\r\nPING\r\n")
}

/// Why a client could not be left at a quiet moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfinished {
    /// In MULTI, or WATCH is in force.
    Transaction,
    /// In a blocking command.
    Blocked,
    /// Replies are not one for one (MONITOR, CLIENT REPLY OFF).
    Raw,
    /// It has said half a command.
    Speaking,
    /// It waits for a reply.
    Owed,
    /// It does not read what it got.
    Unread,
}

impl Unfinished {
    /// All.
    pub const ALL: [Self; 6] = [Self::Transaction, Self::Blocked, Self::Raw, Self::Speaking, Self::Owed, Self::Unread];

    /// The word in metrics, logs and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Blocked => "blocked",
            Self::Raw => "raw",
            Self::Speaking => "speaking",
            Self::Owed => "owed",
            Self::Unread => "unread",
        }
    }
}

/// A blocked client that is to be let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Unblocking {
    #[default]
    No,
    /// The node is asked to end what blocks.
    Asked,
    /// It has, with nothing taken; the command is left unanswered.
    Unanswered,
}

impl Session {
    /// The client's library.
    pub fn library(&self) -> Library {
        Library::named(&self.library)
    }

    /// CLIENT SETINFO is the command behind everything that was taken.
    pub(super) fn note_library(&mut self) {
        let mut words = args(self.pipeline.unfinished()).skip(2);
        if words.next().is_some_and(|key| key.eq_ignore_ascii_case(b"lib-name")) {
            let name = words.next().unwrap_or_default();
            self.library = name.get(..name.len().min(LONGEST_NAME)).unwrap_or_default().to_vec();
        }
    }

    /// What it calls itself, for people.
    pub fn library_name(&self) -> String {
        let plain: String = self.library.iter().copied().filter(u8::is_ascii_graphic).map(char::from).collect();
        if plain.is_empty() { "unknown".to_owned() } else { plain }
    }

    /// When this client's connection may be closed.
    pub fn moment(&self) -> Moment {
        self.library().moment(self.server.state.resp3())
    }

    /// What is unfinished; `None` at a quiet moment.
    pub fn unfinished(&self) -> Option<Unfinished> {
        if self.quiet() {
            return None;
        }
        Some(match () {
            () if self.is_raw() => Unfinished::Raw,
            () if self.in_transaction() || self.server.watching() => Unfinished::Transaction,
            () if self.blocked() => Unfinished::Blocked,
            () if self.framer.in_command() || self.stream.open() => Unfinished::Speaking,
            () => Unfinished::Owed,
        })
    }

    /// The command that blocks: `Some(None)` when it does so without an end.
    pub fn blocks_until(&self) -> Option<Option<std::time::Duration>> {
        let (entry, _) = self.pipeline.expecting().filter(|(entry, _)| entry.blocks)?;
        Some(entry.deadline.as_ref().map(|deadline| deadline.at()))
    }

    /// The node was asked to end the blocking command, and has not yet.
    pub fn unblocking(&self) -> bool {
        self.unblocking == Unblocking::Asked
    }

    /// The node will be asked to end the blocking command, as if its time were over.
    pub fn begin_unblocking(&mut self) {
        self.unblocking = Unblocking::Asked;
    }

    /// The client stays after all.
    pub fn stay(&mut self) {
        if self.unblocking == Unblocking::Asked {
            self.unblocking = Unblocking::No;
        }
    }

    /// The command that blocked without an end took nothing and is left unanswered: the client may be left.
    pub fn left_unanswered(&self) -> bool {
        self.unblocking == Unblocking::Unanswered
    }

    /// An end that the client did not ask for must not look like one that it did: a null for a command that was to
    /// block for ever is kept from it, if nothing else is owed.
    pub(super) fn keep_null(&mut self, reply: &[u8]) -> bool {
        let alone = self.unblocking == Unblocking::Asked && self.pipeline.undelivered() == 1;
        let endless = matches!(self.blocks_until(), Some(None));
        let kept = alone && endless && is_null(reply);
        if kept {
            self.unblocking = Unblocking::Unanswered;
        }
        kept
    }
}
