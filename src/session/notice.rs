//! Replies and pushes of pub/sub: what kind, about which channel.
//!
//! In RESP2 they come as arrays among the replies, in RESP3 as pushes; apart from the first byte they look alike. It
//! reads only the beginning of what it is given.

/// What a pub/sub frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice<'a> {
    /// A message on this channel.
    Message(&'a [u8]),
    /// A subscription of this kind to this name began (`true`) or ended. No name: there was none to end.
    Confirmed(Kind, bool, Option<&'a [u8]>),
}

/// What can be subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// SUBSCRIBE
    Channel,
    /// PSUBSCRIBE
    Pattern,
    /// SSUBSCRIBE
    Shard,
}

/// Reads a frame's beginning; `None` when it is none of pub/sub.
pub(super) fn notice(frame: &[u8]) -> Option<Notice<'_>> {
    let (&first, rest) = frame.split_first()?;
    if first != b'*' && first != b'>' {
        return None;
    }
    // *3 or *4, in one digit.
    let rest = rest.get(1..)?.strip_prefix(b"\r\n")?;
    let (word, rest) = bulk(rest)?;
    let begun = |kind, rest| Some(Notice::Confirmed(kind, true, bulk(rest).map(|(name, _)| name)));
    let ended = |kind, rest| Some(Notice::Confirmed(kind, false, bulk(rest).map(|(name, _)| name)));
    match word {
        b"message" | b"smessage" => Some(Notice::Message(bulk(rest)?.0)),
        b"pmessage" => Some(Notice::Message(bulk(bulk(rest)?.1)?.0)),
        b"subscribe" => begun(Kind::Channel, rest),
        b"psubscribe" => begun(Kind::Pattern, rest),
        b"ssubscribe" => begun(Kind::Shard, rest),
        b"unsubscribe" => ended(Kind::Channel, rest),
        b"punsubscribe" => ended(Kind::Pattern, rest),
        b"sunsubscribe" => ended(Kind::Shard, rest),
        _ => None,
    }
}

/// The bulk string at the beginning, and what follows it.
fn bulk(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(b"$")?;
    let line = memchr::memchr(b'\r', rest.get(..rest.len().min(12))?)?;
    let len: usize = std::str::from_utf8(rest.get(..line)?).ok()?.parse().ok()?;
    let start = line + 2;
    let end = start.checked_add(len)?;
    Some((rest.get(start..end)?, rest.get(end + 2..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_and_nothing_else() {
        let cases: [(&[u8], Option<Notice<'_>>); 8] = [
            (b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n", Some(Notice::Message(b"c"))),
            (b">4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\nc\r\n$2\r\nhi\r\n", Some(Notice::Message(b"c"))),
            (b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", Some(Notice::Confirmed(Kind::Channel, true, Some(b"c")))),
            (b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n", Some(Notice::Confirmed(Kind::Channel, false, None))),
            (b">3\r\n$12\r\nsunsubscribe\r\n_\r\n:0\r\n", Some(Notice::Confirmed(Kind::Shard, false, None))),
            (b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", None),
            (b"*12\r\n$7\r\nmessage\r\n", None),
            (b"+OK\r\n", None),
        ];
        for (frame, expected) in cases {
            assert_eq!(notice(frame), expected, "{}", String::from_utf8_lossy(frame));
        }
    }
}
