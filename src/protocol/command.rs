//! What a command means for a client's session: may it run twice, does it block, does it tie the session to one
//! connection.
//!
//! Only the nouns; which command is what stands in [`super::table`]. A command that the table does not have is to be
//! treated as the worst: it may write, and its meaning may live in the connection. (`POST` and `Host:` are such: the
//! server closes the connection on them.)

pub use super::table::{learnt, lookup};

/// One command, or one sub-command of a container command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// Upper case; a sub-command's own word only.
    pub name: &'static str,
    /// What it does. Of a container: what an unknown sub-command has to be taken for.
    pub class: Class,
    /// It may wait at the server; where its time-out stands.
    pub blocks: Option<Timeout>,
    /// It may keep its connection busy in ways that nobody knows: others must not wait behind it.
    pub own: bool,
    /// Sub-commands, of a container command.
    pub subs: &'static [Command],
}

impl Command {
    /// The sub-command of that name, whatever its case.
    pub fn sub(&self, name: &[u8]) -> Option<&'static Command> {
        self.subs.iter().find(|sub| sub.name.as_bytes().eq_ignore_ascii_case(name))
    }
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Reads the data (the server's flag `readonly`); XREAD may block.
    Read,
    /// Changes the data (the server's flag `write`).
    Write,
    /// EVAL, EVALSHA, FCALL: whatever the script does.
    Script,
    /// PUBLISH, SPUBLISH.
    Publish,
    /// Neither reads nor writes the data, and running it twice is the same as running it once: PING, INFO, TIME …
    Harmless,
    /// Everything else that is about the server.
    Admin,
    /// About the state of the connection.
    Connection(Connection),
    /// About a transaction.
    Transaction(Transaction),
    /// About subscriptions.
    Subscription(Subscription),
    /// Replies no longer come one for one: MONITOR, SYNC, PSYNC, REPLCONF.
    Raw,
    /// The SCAN family: reads, but a cursor other than 0 means something to the server that gave it only.
    Scan,
}

impl Class {
    /// Running it a second time, on another node of the pair, does no harm and answers what the first would have.
    pub fn may_repeat(self) -> bool {
        matches!(self, Self::Read | Self::Harmless)
    }
}

/// Commands about the connection. CLIENT's sub-commands are here, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// AUTH
    Auth,
    /// HELLO
    Hello,
    /// SELECT
    Select,
    /// CLIENT SETNAME
    SetName,
    /// CLIENT SETINFO
    SetInfo,
    /// RESET
    Reset,
    /// QUIT
    Quit,
    /// CLIENT REPLY
    Reply,
    /// CLIENT NO-EVICT
    NoEvict,
    /// CLIENT NO-TOUCH
    NoTouch,
    /// CLIENT TRACKING
    Tracking,
    /// CLIENT CACHING
    Caching,
    /// READONLY
    ReadOnly,
    /// READWRITE
    ReadWrite,
    /// ASKING
    Asking,
    /// CLIENT ID
    Id,
    /// CLIENT INFO
    Info,
    /// CLIENT LIST
    List,
    /// CLIENT KILL
    Kill,
    /// CLIENT UNBLOCK
    Unblock,
    /// CLIENT GETREDIR, CLIENT TRACKINGINFO
    Redirection,
    /// CLIENT MAINT_NOTIFICATIONS
    MaintNotifications,
    /// Anything else whose meaning lives in the connection.
    Other,
}

/// Commands about a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// MULTI
    Multi,
    /// EXEC
    Exec,
    /// DISCARD
    Discard,
    /// WATCH
    Watch,
    /// UNWATCH
    Unwatch,
}

/// Commands about subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// SUBSCRIBE
    Subscribe,
    /// UNSUBSCRIBE
    Unsubscribe,
    /// PSUBSCRIBE
    PSubscribe,
    /// PUNSUBSCRIBE
    PUnsubscribe,
    /// SSUBSCRIBE
    SSubscribe,
    /// SUNSUBSCRIBE
    SUnsubscribe,
}

/// Where a blocking command says how long it waits. 0 is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// The last argument, in seconds (BLPOP).
    Last,
    /// The first argument after the name, in seconds (BLMPOP).
    First,
    /// Behind this option, in milliseconds; without it the command does not block (XREAD).
    AfterKeyword(&'static str),
    /// The last argument, in milliseconds (WAIT).
    Wait,
    /// Nobody knows (a command of a module).
    Unknown,
}

impl Timeout {
    /// One second of the time-out in the unit of the argument.
    pub fn per_second(self) -> u64 {
        match self {
            Self::Last | Self::First | Self::Unknown => 1,
            Self::AfterKeyword(_) | Self::Wait => 1000,
        }
    }

    /// Which argument it is, the name being number 0; `None` when this call does not block.
    pub fn position<'a>(self, args: impl Iterator<Item = &'a [u8]>) -> Option<usize> {
        match self {
            Self::First => Some(1),
            Self::Unknown => None,
            Self::Last | Self::Wait => args.count().checked_sub(1),
            Self::AfterKeyword(keyword) => after_option(keyword, args),
        }
    }
}

/// Options end at STREAMS; what follows GROUP and COUNT is no option, whatever it is called.
fn after_option<'a>(keyword: &str, args: impl Iterator<Item = &'a [u8]>) -> Option<usize> {
    let mut args = args.enumerate().skip(1);
    loop {
        let (at, option) = args.next()?;
        let is = |word: &str| option.eq_ignore_ascii_case(word.as_bytes());
        if is(keyword) {
            return args.next().map(|_| at + 1);
        }
        let values = if is("STREAMS") {
            return None;
        } else if is("GROUP") {
            2
        } else {
            usize::from(is("COUNT"))
        };
        for _ in 0..values {
            args.next()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(line: &str) -> Option<usize> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        lookup(words[0])?.blocks?.position(words.iter().copied())
    }

    #[test]
    fn the_time_out_is_found() {
        assert_eq!(position("BLPOP a b 5"), Some(3));
        assert_eq!(position("BLMPOP 1.5 1 a LEFT"), Some(1));
        assert_eq!(position("WAIT 1 0"), Some(2));
        assert_eq!(position("WAITAOF 1 1 100"), Some(3));
        assert_eq!(position("xread count 5 block 100 streams a $"), Some(4));
        assert_eq!(position("XREADGROUP GROUP block BLOCK NOACK BLOCK 7 STREAMS a >"), Some(6));
        assert_eq!(position("XREAD COUNT 5 STREAMS BLOCK 0"), None);
        assert_eq!(position("XREAD BLOCK"), None);
        assert_eq!(position("XREADGROUP GROUP a"), None);
        assert_eq!(position("GET a"), None);
    }

    #[test]
    fn only_reads_and_the_harmless_may_run_twice() {
        for (name, may) in [
            ("GET", true),
            ("PING", true),
            ("XREAD", true),
            ("EVAL_RO", true),
            ("SET", false),
            ("EVAL", false),
            ("PUBLISH", false),
            ("SCAN", false),
            ("EXEC", false),
            ("WAIT", false),
            ("BLPOP", false),
            ("SORT", false),
            ("SHUTDOWN", false),
        ] {
            assert_eq!(lookup(name.as_bytes()).unwrap().class.may_repeat(), may, "{name}");
        }
    }

    #[test]
    fn sub_commands_are_found_whatever_their_case() {
        let client = lookup(b"client").unwrap();
        assert_eq!(client.class, Class::Connection(Connection::Other));
        assert_eq!(client.sub(b"setname").unwrap().class, Class::Connection(Connection::SetName));
        assert_eq!(
            client.sub(b"Maint_Notifications").unwrap().class,
            Class::Connection(Connection::MaintNotifications)
        );
        assert_eq!(client.sub(b"nonsense"), None);
        assert_eq!(lookup(b"GET").unwrap().sub(b"x"), None);
        assert_eq!(lookup(b"CONFIG").unwrap().sub(b"GET").unwrap().class, Class::Harmless);
    }
}
