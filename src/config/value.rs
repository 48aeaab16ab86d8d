//! Texts become values. An error says what is expected, with an example.
//!
//! It touches nothing outside the text. Invariant: a value that is returned lies within the limits of its key.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::keys::Kind;
use super::{Admin, Node};

/// Longest name of a node, channel or user.
const MAX_NAME_CHARS: usize = 64;

/// A number, size (in bytes) or time (in milliseconds) within the limits of `kind`.
pub(super) fn number(kind: Kind, text: &str) -> Result<u64, String> {
    let (value, least, most) = match kind {
        Kind::Time(least, most) => (millis(text)?, least, most),
        Kind::Size(least, most) => (bytes(text)?, least, most),
        Kind::Count(least, most) => (count(text)?, least, most),
        _ => return Err("not a number".to_owned()),
    };
    if (least..=most).contains(&value) { Ok(value) } else { Err(format!("{text} is out of range: {}", kind.limits())) }
}

fn millis(text: &str) -> Result<u64, String> {
    let wrong = || format!("expected a time with its unit, such as \"15s\" or \"500ms\", not {text:?}");
    let time: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    if time.subsec_nanos() % 1_000_000 != 0 {
        return Err(format!("expected whole milliseconds, not {text:?}"));
    }
    u64::try_from(time.as_millis()).map_err(|_| wrong())
}

fn bytes(text: &str) -> Result<u64, String> {
    let size: Result<bytesize::ByteSize, _> = text.parse();
    size.map(|size| size.as_u64()).map_err(|_| format!("expected a size, such as \"64MiB\" or 65536, not {text:?}"))
}

fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number, not {text:?}"))
}

/// `IP:PORT`; `localhost` is 127.0.0.1.
pub(super) fn socket(text: &str) -> Result<SocketAddr, String> {
    let text = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    text.parse().map_err(|_| format!("expected IP:PORT, such as 127.0.0.1:6380 or [::]:6380, not {text:?}"))
}

/// Whether two hosts are the same without asking anybody: spelling apart, `localhost` is a loopback address.
pub(super) fn same_host(one: &str, other: &str) -> bool {
    let plain = |host: &str| host.trim_end_matches('.').to_ascii_lowercase();
    let address = |host: &str| host.parse::<std::net::IpAddr>().ok().map(|ip| ip.to_canonical());
    let (one, other) = (plain(one), plain(other));
    let local = |host: &str| host == "localhost" || host.ends_with(".localhost") || host == "localhost.localdomain";
    let loopback = |host: &str| {
        local(host)
            || address(host)
                .is_some_and(|ip| ip == std::net::Ipv4Addr::LOCALHOST || ip == std::net::Ipv6Addr::LOCALHOST)
    };
    match (address(&one), address(&other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other || (local(&one) || local(&other)) && loopback(&one) && loopback(&other),
    }
}

/// `unix:PATH` or `IP:PORT`.
pub(super) fn admin(text: &str) -> Result<Admin, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() {
            Err("unix: needs a path".to_owned())
        } else {
            Ok(Admin::Unix(PathBuf::from(path)))
        };
    }
    let wrong = |_| format!("expected unix:PATH or IP:PORT, such as 127.0.0.1:9380, not {text:?}");
    socket(text).map(Admin::Tcp).map_err(wrong)
}

/// A short name without blanks or control characters.
pub(super) fn name(text: &str) -> Result<String, String> {
    let fits = (1..=MAX_NAME_CHARS).contains(&text.chars().count());
    if fits && !text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Ok(text.to_owned())
    } else {
        Err(format!("expected 1 to {MAX_NAME_CHARS} characters without blanks, not {text:?}"))
    }
}

/// Whether `text` is the second of the two words of `kind`.
pub(super) fn second_word(kind: Kind, text: &str) -> Result<bool, String> {
    match kind {
        Kind::Either(one, _) if text == one => Ok(false),
        Kind::Either(_, other) if text == other => Ok(true),
        _ => Err(format!("expected {}, not {text:?}", kind.limits())),
    }
}

/// The place of `text` among the words of `kind`.
pub(super) fn one_of(kind: Kind, text: &str) -> Result<usize, String> {
    match kind {
        Kind::OneOf(words) => words.iter().position(|word| *word == text),
        _ => None,
    }
    .ok_or_else(|| format!("expected {}, not {text:?}", kind.limits()))
}

/// Directives for the log.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("expected error, warn, info, debug, trace or directives for the log: {error}")),
    }
}

/// A path; only emptiness is wrong here.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("expected a path, not nothing".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// `HOST:PORT`
pub(super) fn address(text: &str) -> Result<(String, u16), String> {
    let wrong = |_| format!("expected HOST:PORT, such as 10.0.0.1:26379, not {text:?}");
    node(&format!("x={text}")).map(|node| (node.host, node.port)).map_err(wrong)
}

/// `NAME=HOST:PORT`, for clients: some take the first colon for that of the port, and compare the host with a
/// certificate.
pub(super) fn advertised(text: &str) -> Result<Node, String> {
    let node = node(text)?;
    if node.host.contains(':') {
        return Err(format!("client libraries do not understand an IPv6 address here: {text:?}"));
    }
    if node.host.ends_with('.') {
        return Err(format!("without the dot at the end, so that certificates fit: {text:?}"));
    }
    Ok(node)
}

/// `NAME=HOST:PORT`
pub(super) fn node(text: &str) -> Result<Node, String> {
    let wrong = || format!("expected NAME=HOST:PORT, such as a=10.0.0.1:6379, not {text:?}");
    let (node_name, address) = text.split_once('=').ok_or_else(wrong)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
        Some(_) => return Err(wrong()),
        None if host.contains(':') => return Err(format!("an IPv6 address stands in brackets: {text:?}")),
        None => host,
    };
    let port: u16 = port.parse().ok().filter(|&port| port > 0).ok_or_else(wrong)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if node_name.is_empty() || !node_name.chars().all(plain) || node_name.len() > MAX_NAME_CHARS {
        return Err(format!("a node's name is made of letters, digits, `-`, `_` and `.`, not {node_name:?}"));
    }
    Ok(Node { name: node_name.to_owned(), host: name(host).map_err(|_| wrong())?, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are_one_are_known_by_their_spelling() {
        for (one, other) in [
            ("localhost", "127.0.0.1"),
            ("LOCALHOST.", "localhost"),
            ("localhost", "::1"),
            ("127.0.0.1", "::ffff:127.0.0.1"),
            ("::1", "0:0:0:0:0:0:0:1"),
            ("Redis-A.example.", "redis-a.example"),
        ] {
            assert!(same_host(one, other) && same_host(other, one), "{one} {other}");
        }
        for (one, other) in [("127.0.0.1", "127.0.0.2"), ("127.0.0.1", "::1"), ("localhost", "127.0.0.2"), ("a", "b")] {
            assert!(!same_host(one, other), "{one} {other}");
        }
    }
}
