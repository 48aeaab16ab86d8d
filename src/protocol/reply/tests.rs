//! Promises of the reply framer, in plain words.

use super::*;

type Ends = Result<Vec<(u64, ReplyEnd)>, ReplyError>;

fn frames(limits: ReplyLimits, pieces: &[&[u8]]) -> Ends {
    let mut framer = ReplyFramer::new(limits);
    let (mut ends, mut offset) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let (used, end) = framer.scan(rest)?;
            rest = &rest[used..];
            offset += used as u64;
            if end == ReplyEnd::More {
                assert!(rest.is_empty() && framer.in_reply(), "More takes everything");
            } else {
                assert!(used > 0 && !framer.in_reply());
                assert_eq!(framer.is_push(), end == ReplyEnd::Push);
                ends.push((offset, end));
            }
        }
    }
    Ok(ends)
}

/// The same ends whatever the cuts: whole, byte by byte, at every pair of points.
fn at_every_split(bytes: &[u8]) -> Ends {
    let expected = frames(ReplyLimits::default(), &[bytes]);
    let single: Vec<_> = bytes.chunks(1).collect();
    assert_eq!(frames(ReplyLimits::default(), &single), expected, "byte by byte");
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            assert_eq!(frames(ReplyLimits::default(), &pieces), expected, "cut at {first} and {second}");
        }
    }
    expected
}

fn one(bytes: &[u8], end: ReplyEnd) {
    // The same reply twice: the second must begin where the first ends.
    let twice = [bytes, bytes].concat();
    let len = bytes.len() as u64;
    assert_eq!(at_every_split(&twice), Ok(vec![(len, end), (2 * len, end)]), "{:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn every_type_is_one_reply() {
    for bytes in [
        "+OK\r\n",
        "+\r\n",
        "-ERR no\r\n",
        ":-12\r\n",
        "$0\r\n\r\n",
        "$4\r\na\r\nb\r\n",
        "$-1\r\n",
        "*0\r\n",
        "*-1\r\n",
        "*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
        "_\r\n",
        "#t\r\n",
        ",-inf\r\n",
        "(3492890328409238509324850943850943825024385\r\n",
        "!5\r\nERR x\r\n",
        "=6\r\ntxt:ab\r\n",
        "%2\r\n+a\r\n*1\r\n:1\r\n$1\r\nb\r\n_\r\n",
        "%0\r\n",
        "~2\r\n+a\r\n%1\r\n+b\r\n:1\r\n",
        "*3\r\n*0\r\n*-1\r\n$-1\r\n",
    ] {
        one(bytes.as_bytes(), ReplyEnd::Reply);
    }
}

#[test]
fn an_attribute_belongs_to_what_follows() {
    one(b"|1\r\n+ttl\r\n:3600\r\n+OK\r\n", ReplyEnd::Reply);
    one(b"|0\r\n_\r\n", ReplyEnd::Reply);
    one(b"|1\r\n+a\r\n*1\r\n|1\r\n+b\r\n+c\r\n:1\r\n*1\r\n:2\r\n", ReplyEnd::Reply);
    one(b"*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n", ReplyEnd::Reply);
    one(b"|1\r\n+a\r\n+b\r\n>1\r\n+x\r\n", ReplyEnd::Push);
}

#[test]
fn only_a_push_at_the_top_is_out_of_band() {
    one(b">2\r\n+invalidate\r\n_\r\n", ReplyEnd::Push);
    // SUBSCRIBE inside MULTI, RESP3: the confirmation is an element of EXEC's array.
    one(b"*1\r\n>3\r\n+subscribe\r\n+c\r\n:1\r\n", ReplyEnd::Reply);
    one(b"|1\r\n+a\r\n>1\r\n+b\r\n+OK\r\n", ReplyEnd::Reply);
}

#[test]
fn what_is_no_reply_is_refused() {
    for (bytes, expected) in [
        ("?\r\n", ReplyError::Type(b'?')),
        ("OK\r\n", ReplyError::Type(b'O')),
        ("\r\n", ReplyError::Type(b'\r')),
        ("$?\r\n", ReplyError::Length),
        ("*?\r\n", ReplyError::Length),
        ("$-2\r\n", ReplyError::Length),
        ("%-1\r\n", ReplyError::Length),
        ("!-1\r\n", ReplyError::Length),
        ("$01\r\n", ReplyError::Length),
        ("$\r\n", ReplyError::Length),
        ("$1\rx", ReplyError::LineEnd),
        ("+a\rb\r\n", ReplyError::LineEnd),
        ("$1\r\nabc", ReplyError::LineEnd),
        ("%9223372036854775807\r\n", ReplyError::TooBig),
        ("*9223372036854775807\r\n", ReplyError::TooBig),
        ("$9223372036854775807\r\n", ReplyError::TooBig),
    ] {
        assert_eq!(at_every_split(bytes.as_bytes()), Err(expected), "{bytes:?}");
    }
}

#[test]
fn limits_hold_at_their_edge() {
    let limits = ReplyLimits { max_bulk: 4, max_items: 4 };
    for good in ["$4\r\nabcd\r\n", "+abcd\r\n", "*3\r\n:1\r\n:1\r\n:1\r\n"] {
        assert!(frames(limits, &[good.as_bytes()]).is_ok(), "{good:?}");
    }
    for bad in ["$5\r\n", "+abcde\r\n", "+abcde", "*4\r\n", "%2\r\n", "*2\r\n*3\r\n"] {
        assert_eq!(frames(limits, &[bad.as_bytes()]), Err(ReplyError::TooBig), "{bad:?}");
    }
    assert_eq!(frames(limits, &[b"+abc", b"de"]), Err(ReplyError::TooBig));
}

#[test]
fn a_million_levels_need_no_stack() {
    let mut bytes = b"*1\r\n".repeat(1_000_000);
    bytes.extend_from_slice(b":1\r\n");
    assert_eq!(frames(ReplyLimits::default(), &[&bytes]), Ok(vec![(bytes.len() as u64, ReplyEnd::Reply)]));
}
