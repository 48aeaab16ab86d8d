//! The pair's channels, which all begin alike: what a client may not name.
//!
//! Only what stands in the command is seen; what a script does with channels is not. There the proxies' own
//! authentication protects (`control::seal`). Where replies are not told apart (after `CLIENT REPLY`), messages cannot be
//! kept from the client, so a pattern that could match is refused.

use crate::protocol::args::args;
use crate::protocol::command::{Class, Subscription};

/// What a client is told that names a channel of the pair.
pub(super) const REFUSED: &[u8] = b"-NOPERM this channel is reserved for the proxies of the pair\r\n";

/// As long as the channel of an unfinished command may still arrive, this much of it is waited for, in bytes.
const UNDECIDED: usize = 64 * 1024;

/// Whether this whole command uses a channel that begins with `reserved`.
pub(super) fn forbids(class: Class, command: &[u8], reserved: &[u8], raw: bool) -> bool {
    let mut words = args(command).skip(1);
    match class {
        Class::Publish => words.next().is_some_and(|word| word.starts_with(reserved)),
        Class::Subscription(Subscription::Subscribe | Subscription::SSubscribe) => {
            words.any(|word| word.starts_with(reserved))
        }
        Class::Subscription(Subscription::PSubscribe) if raw => words.any(|pattern| may_match(pattern, reserved)),
        Class::Subscription(Subscription::PSubscribe) => words.any(|pattern| matches_only(pattern, reserved)),
        _ => false,
    }
}

/// Whether a command whose name is known, and which has not arrived as a whole, publishes there: `Some` once that is
/// certain. `channel`: the second word, once it is there.
pub(super) fn publishes(class: Option<Class>, command: &[u8], channel: Option<&[u8]>, reserved: &[u8]) -> Option<bool> {
    match (class, channel) {
        (Some(Class::Publish), Some(channel)) => Some(channel.starts_with(reserved)),
        // A name longer than this is no channel of the pair.
        (Some(Class::Publish) | None, None) => (command.len() >= UNDECIDED).then_some(false),
        _ => Some(false),
    }
}

/// Every name that the pattern matches begins with `prefix`.
fn matches_only(pattern: &[u8], prefix: &[u8]) -> bool {
    let mut rest = pattern;
    prefix.iter().all(|expected| {
        let (literal, after) = match rest {
            [b'\\', escaped, after @ ..] => (escaped, after),
            [b'*' | b'?' | b'[', ..] | [] => return false,
            [literal, after @ ..] => (literal, after),
        };
        rest = after;
        literal == expected
    })
}

/// The pattern may match a name that begins with `prefix`. Sets of letters are taken to match any.
fn may_match(pattern: &[u8], prefix: &[u8]) -> bool {
    let mut rest = pattern;
    for expected in prefix {
        rest = match rest {
            [b'*', ..] => return true,
            [b'?', after @ ..] => after,
            [b'[', set @ ..] => after_set(set),
            [b'\\', literal, after @ ..] | [literal, after @ ..] if literal == expected => after,
            _ => return false,
        };
    }
    true
}

/// What stands behind a set of letters, as Redis reads it: one that does not end takes the rest.
fn after_set(set: &[u8]) -> &[u8] {
    let mut rest = set;
    loop {
        rest = match rest {
            [b'\\', _, after @ ..] => after,
            [b']', after @ ..] => return after,
            [_, after @ ..] => after,
            [] => return rest,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVED: &[u8] = b"__changeover__";

    #[test]
    fn a_pattern_is_refused_where_all_that_it_matches_is_reserved() {
        for pattern in
            ["__changeover__", "__changeover__*", "__changeover__:?", r"\_\_changeover__*", "__changeover__[a]"]
        {
            assert!(matches_only(pattern.as_bytes(), RESERVED), "{pattern}");
        }
        for pattern in ["*", "__change*", "__changeover_?", "_[_]changeover__", "news:*", "", r"\"] {
            assert!(!matches_only(pattern.as_bytes(), RESERVED), "{pattern}");
        }
    }

    #[test]
    fn behind_client_reply_a_pattern_is_refused_that_could_match() {
        for pattern in [
            "*",
            "__*",
            "__change*",
            "??changeover__",
            "_[_]changeover__*",
            "__changeover_?",
            r"\__changeover__",
            "_[a-z_]*",
            r"_[\]_]changeover__",
            "__changeover__:x",
        ] {
            assert!(may_match(pattern.as_bytes(), RESERVED), "{pattern}");
        }
        for pattern in ["news:*", "_", "", "__changed*", "?", "__changeover_", "a*"] {
            assert!(!may_match(pattern.as_bytes(), RESERVED), "{pattern}");
        }
    }

    /// Whatever Redis' own matching says of a reserved name, the pattern that catches it is seen.
    #[test]
    fn no_pattern_that_catches_a_reserved_name_is_missed() {
        fn glob(pattern: &[u8], name: &[u8]) -> bool {
            match (pattern, name) {
                ([], []) => true,
                ([b'*', rest @ ..], _) => (0..=name.len()).any(|at| glob(rest, &name[at..])),
                ([b'?', rest @ ..], [_, after @ ..]) => glob(rest, after),
                ([b'\\', literal, rest @ ..], [first, after @ ..]) => literal == first && glob(rest, after),
                ([b'[', letter, b']', rest @ ..], [first, after @ ..]) => letter == first && glob(rest, after),
                ([literal, rest @ ..], [first, after @ ..]) => literal == first && glob(rest, after),
                _ => false,
            }
        }
        let parts: [&[u8]; 7] = [b"*", b"?", b"a", b"b", b"\\a", b"[a]", b"[b]"];
        let (mut caught, reserved) = (0, b"ab");
        for n in 0..7_usize.pow(5) {
            let pattern: Vec<u8> = (0..5).flat_map(|at| parts[n / 7_usize.pow(at) % 7]).copied().collect();
            let names: [&[u8]; 5] = [b"ab", b"abc", b"aba", b"abab", b"abbba"];
            let catches = names.iter().any(|name| glob(&pattern, name));
            caught += usize::from(catches);
            assert!(!catches || may_match(&pattern, reserved), "{}", String::from_utf8_lossy(&pattern));
        }
        assert!(caught > 100, "{caught}");
    }
}
