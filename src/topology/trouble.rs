//! Why a node gives no usable answer: a closed list, with the words for operators.
//!
//! It classifies; it decides nothing. Invariant: [`Trouble::answers`] is true only if something at the
//! node's address has spoken. An error reply, or a handshake that fails, never counts as death.

use std::fmt;

/// Longest text of a server or of the system that is kept.
const MAX_TEXT: usize = 200;

/// Why a node gives no usable answer. Refused connections and silence are told apart elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// `-BUSY`: a script or function runs for long.
    Busy,
    /// `-LOADING`, in answer to a question that Redis answers while it loads.
    Loading,
    /// The login of the proxy's own user is refused; the server's words.
    Login(String),
    /// The proxy's user may not run a command that it needs; the server's words.
    Denied(String),
    /// The server takes no further connections (`maxclients`).
    Full(String),
    /// Any other error reply; the server's words.
    Error(String),
    /// What came back is no RESP, or no INFO that is understood; says which.
    Unintelligible(String),
    /// It answers on a connection that is open, and takes no new ones.
    Deaf,
    /// TLS is configured, and the node speaks plaintext.
    NotTls,
    /// The node speaks TLS, and none is configured.
    SpeaksTls,
    /// The node's certificate has expired, or is not valid yet.
    Expired,
    /// The node's certificate is not signed by the configured authority.
    Untrusted,
    /// The node's certificate has other names.
    WrongName,
    /// TLS fails otherwise; says how.
    Tls(String),
    /// The name does not resolve, and no address is known from before; the resolver's words.
    Name(String),
    /// No route, or no answer to the connection attempt; the system's words.
    Unreachable(String),
    /// This machine cannot open the connection (ports, descriptors, memory); the system's words.
    Local(String),
}

impl Trouble {
    /// Every kind with its meaning, for metrics.
    pub const KINDS: [(&'static str, &'static str); 17] = [
        ("busy", "A script or function runs for long: `-BUSY`."),
        ("loading", "It loads its data."),
        ("login", "The login of the proxy's user is refused."),
        ("denied", "The proxy's user lacks a permission."),
        ("full", "It takes no further connections: `maxclients`."),
        ("error", "It answers with another error."),
        ("unintelligible", "What it answers is not understood."),
        ("deaf", "It takes no new connections, and answers on an open one."),
        ("not-tls", "TLS is configured, and it speaks plaintext."),
        ("speaks-tls", "It speaks TLS, and none is configured."),
        ("expired", "Its certificate has expired, or is not valid yet."),
        ("untrusted", "Its certificate is not signed by `redis-ca`."),
        ("wrong-name", "Its certificate has other names."),
        ("tls", "TLS fails otherwise."),
        ("name", "Its name does not resolve."),
        ("unreachable", "No route, or no answer to the connection attempt."),
        ("local", "This machine cannot open a connection."),
    ];

    /// From an error reply. `login`: it answers AUTH.
    pub fn from_reply(text: &str, login: bool) -> Self {
        let kept = || bounded(text);
        let first = text.split(' ').next().unwrap_or_default();
        match first {
            "BUSY" => Self::Busy,
            "LOADING" => Self::Loading,
            "NOPERM" => Self::Denied(kept()),
            _ if text.contains("max number of clients") => Self::Full(kept()),
            "NOAUTH" | "WRONGPASS" => Self::Login(kept()),
            _ if login => Self::Login(kept()),
            _ => Self::Error(kept()),
        }
    }

    /// Something at the node's address has spoken: the machine lives, and so does a process there.
    pub fn answers(&self) -> bool {
        !matches!(self, Self::Name(_) | Self::Unreachable(_) | Self::Local(_))
    }

    /// The label in metrics; one of [`Trouble::KINDS`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Loading => "loading",
            Self::Login(_) => "login",
            Self::Denied(_) => "denied",
            Self::Full(_) => "full",
            Self::Error(_) => "error",
            Self::Unintelligible(_) => "unintelligible",
            Self::Deaf => "deaf",
            Self::NotTls => "not-tls",
            Self::SpeaksTls => "speaks-tls",
            Self::Expired => "expired",
            Self::Untrusted => "untrusted",
            Self::WrongName => "wrong-name",
            Self::Tls(_) => "tls",
            Self::Name(_) => "name",
            Self::Unreachable(_) => "unreachable",
            Self::Local(_) => "local",
        }
    }

    /// What an operator can do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Busy => "wait, or end it with SCRIPT KILL or FUNCTION KILL",
            Self::Loading => "wait until the data is loaded",
            Self::Login(_) => "write the right password into redis-password-file, or correct redis-user",
            Self::Denied(_) => "give the proxy's user the permissions that docs/operations.md lists",
            Self::Full(_) => "raise maxclients, or close connections",
            Self::Error(_) | Self::Unintelligible(_) => "ask the node with redis-cli INFO as the proxy's user",
            Self::Deaf => "look at the node's log and its backlog of connections",
            Self::NotTls => "use the node's TLS port, or remove redis-ca",
            Self::SpeaksTls => "set redis-ca, or use the node's plaintext port",
            Self::Expired => "renew the node's certificate, and look at both clocks",
            Self::Untrusted => "set redis-ca to the authority that signed the node's certificate",
            Self::WrongName => "give the certificate the node's configured host name",
            Self::Tls(_) => "compare the node's TLS settings with redis-ca, redis-cert and redis-key",
            Self::Name(_) => "correct the node's host name, or the resolver",
            Self::Unreachable(_) => "look at the network between the proxy and the node",
            Self::Local(_) => "look at the limits of open files and local ports of this machine",
        }
    }

    /// What a client is told whose command cannot be sent because of this.
    pub fn for_clients(&self, node: &str) -> String {
        match self {
            Self::Busy => {
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.".into()
            }
            Self::Loading => "LOADING Redis is loading the dataset in memory".to_owned(),
            // The server's own words, for they are true of a client as well.
            Self::Full(text) | Self::Error(text) => text.clone(),
            other => format!("ERR changeover cannot use node {node}: {other}; the command was not executed"),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("busy with a script or function (BUSY)"),
            Self::Loading => f.write_str("loading its data (LOADING)"),
            Self::Login(text) => write!(f, "login refused ({})", named(text)),
            Self::Denied(text) => write!(f, "permission denied ({text})"),
            Self::Full(_) => f.write_str("takes no further connections (max number of clients reached)"),
            Self::Error(text) => write!(f, "answers with an error ({text})"),
            Self::Unintelligible(why) => write!(f, "its answer is not understood ({why})"),
            Self::Deaf => f.write_str("takes no new connections, but answers on an open one"),
            Self::NotTls => f.write_str("not TLS: the node speaks plaintext"),
            Self::SpeaksTls => f.write_str("speaks TLS, and none is configured for it"),
            Self::Expired => f.write_str("certificate expired, or not valid yet"),
            Self::Untrusted => f.write_str("certificate not signed by the configured authority"),
            Self::WrongName => f.write_str("certificate has another name than the node's host"),
            Self::Tls(why) => write!(f, "TLS fails ({why})"),
            Self::Name(why) => write!(f, "name does not resolve ({why})"),
            Self::Unreachable(why) => write!(f, "unreachable ({why})"),
            Self::Local(why) => write!(f, "this machine cannot open a connection ({why})"),
        }
    }
}

/// The error's own name, where it has one.
fn named(text: &str) -> &str {
    let first = text.split(' ').next().unwrap_or_default();
    if first.len() > 3 && first.bytes().all(|byte| byte.is_ascii_uppercase()) { first } else { text }
}

/// One line of bounded length.
pub fn bounded(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reply_is_told_by_its_name_and_by_what_it_answers() {
        let of = |text: &str| Trouble::from_reply(text, false).kind();
        assert_eq!(of("BUSY Redis is busy running a script."), "busy");
        assert_eq!(of("NOPERM this user has no permissions to run the 'info' command"), "denied");
        assert_eq!(of("NOAUTH Authentication required."), "login");
        assert_eq!(of("ERR max number of clients reached"), "full");
        assert_eq!(of("ERR unknown command 'INFO'"), "error");
        assert_eq!(of("DENIED Redis is running in protected mode"), "error");
        assert_eq!(of("MISCONF Redis is configured to save"), "error");
        assert_eq!(Trouble::from_reply("ERR invalid password", true).kind(), "login");
        assert_eq!(Trouble::from_reply("WRONGPASS invalid", true).to_string(), "login refused (WRONGPASS)");
    }

    #[test]
    fn only_what_was_never_reached_says_nothing_about_life() {
        assert!(!Trouble::Name("no such host".into()).answers());
        assert!(!Trouble::Unreachable("no route".into()).answers());
        assert!(!Trouble::Local("too many open files".into()).answers());
        assert!(Trouble::Expired.answers() && Trouble::NotTls.answers() && Trouble::Busy.answers());
    }

    #[test]
    fn a_hostile_text_stays_one_short_line() {
        let trouble = Trouble::from_reply(&"ERR \r\n\u{1b}[31m".repeat(100), false);
        let text = trouble.to_string();
        assert!(text.chars().count() < 300 && !text.chars().any(char::is_control), "{text:?}");
    }
}
