//! Promises of the request framer, in plain words.

use super::*;

type Ends = Result<Vec<(u64, Framed)>, ProtocolError>;

/// Scans `bytes` in the given pieces; each end with its offset in the whole.
fn frames(limits: Limits, pieces: &[&[u8]]) -> Ends {
    let mut framer = RequestFramer::new(limits);
    let (mut ends, mut offset) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let (used, framed) = framer.scan(rest)?;
            rest = &rest[used..];
            offset += used as u64;
            match framed {
                Framed::More => assert!(rest.is_empty(), "More takes everything"),
                _ => {
                    assert!(used > 0 && !framer.in_command());
                    ends.push((offset, framed));
                }
            }
        }
    }
    Ok(ends)
}

fn whole(bytes: &[u8]) -> Ends {
    frames(Limits::default(), &[bytes])
}

/// The same ends whatever the cuts: whole, byte by byte, at every pair of points.
fn at_every_split(bytes: &[u8]) -> Ends {
    let expected = whole(bytes);
    let single: Vec<_> = bytes.chunks(1).collect();
    assert_eq!(frames(Limits::default(), &single), expected, "byte by byte");
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            assert_eq!(frames(Limits::default(), &pieces), expected, "cut at {first} and {second}");
        }
    }
    expected
}

fn error(bytes: &[u8]) -> String {
    at_every_split(bytes).expect_err("must be refused").reply()
}

#[test]
fn commands_end_where_their_last_argument_ends() {
    let bytes = b"*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n";
    let ends = at_every_split(bytes).unwrap();
    let ping = Shape { args: 1, name: Span { at: 8, len: 4 }, second: None, len: 14 };
    let set = Shape {
        args: 3,
        name: Span { at: 8, len: 3 },
        second: Some(Span { at: 17, len: 1 }),
        len: bytes.len() as u64 - 14,
    };
    assert_eq!(ends, [(14, Framed::Command(ping)), (bytes.len() as u64, Framed::Command(set))]);
    assert_eq!(set.name.of(&bytes[14..]), Some(&b"SET"[..]));
    assert_eq!(set.second.and_then(|s| s.of(&bytes[14..])), Some(&b"k"[..]));
}

#[test]
fn what_redis_swallows_silently_is_nothing() {
    for bytes in [&b"*0\r\n"[..], b"*-1\r\n", b"*-5\r\n", b"\r\n", b"\n", b"  \t\r\n"] {
        assert_eq!(at_every_split(bytes).unwrap(), [(bytes.len() as u64, Framed::Nothing)], "{bytes:?}");
    }
    let ends = at_every_split(b"*0\r\n\r\nPING\r\n*1\r\n$1\r\nx\r\n").unwrap();
    let kinds: Vec<_> = ends.iter().map(|(_, f)| matches!(f, Framed::Nothing)).collect();
    assert_eq!(kinds, [true, true, false, false]);
}

#[test]
fn inline_lines_end_at_their_line_feed() {
    assert_eq!(at_every_split(b"PING\r\nGET k\n").unwrap(), [(6, Framed::Inline), (12, Framed::Inline)]);
    assert_eq!(at_every_split(b"$5\r\n").unwrap(), [(4, Framed::Inline)]);
    assert_eq!(error(b"PI\0NG\r\n"), "ERR Protocol error: NUL byte in inline request");
}

#[test]
fn errors_have_redis_words() {
    for count in ["*", "*x", "*01", "*+1", "*-0", "*1 ", "*3000000000", "*99999999999999999999", "*1\rx"] {
        assert_eq!(error(format!("{count}\r\n").as_bytes()), "ERR Protocol error: invalid multibulk length", "{count}");
    }
    for length in ["", "-1", "04", "+4", "x", "9999999999", "9223372036854775808", "4\rx"] {
        let bytes = format!("*1\r\n${length}\r\n");
        assert_eq!(error(bytes.as_bytes()), "ERR Protocol error: invalid bulk length", "{length}");
    }
    assert_eq!(error(b"*1\r\n:1\r\n"), "ERR Protocol error: expected '$', got ':'");
    assert_eq!(error(b"*1\r\n\r\n"), "ERR Protocol error: expected '$', got ' '");
    assert_eq!(error(b"*1\r\n\0"), "ERR Protocol error: expected '$', got '?'");
    assert_eq!(error(b"*1\r\n*1\r\n"), "ERR Protocol error: expected '$', got '*'");
    assert_eq!(error(b"*1\r\n$4\r\nPINGxx"), "ERR Protocol error: expected CRLF after bulk");
    assert_eq!(error(b"*1\r\n$4\r\nPING\r\r"), "ERR Protocol error: expected CRLF after bulk");
}

#[test]
fn limits_hold_at_their_edge() {
    let limits = Limits { max_bulk: 4, max_args: 2, max_inline: 8, unauthenticated: false };
    assert!(frames(limits, &[b"*2\r\n$4\r\nabcd\r\n$4\r\nabcd\r\n"]).is_ok());
    assert_eq!(frames(limits, &[b"*3\r\n"]), Err(ProtocolError::MultibulkLength));
    assert_eq!(frames(limits, &[b"*1\r\n$5\r\n"]), Err(ProtocolError::BulkLength));
    assert!(frames(limits, &[b"123456\r\n"]).is_ok());
    assert_eq!(frames(limits, &[b"1234567\r\n"]), Err(ProtocolError::BigInline));
    assert_eq!(frames(limits, &[b"12345", b"6789"]), Err(ProtocolError::BigInline));

    let stranger = Limits::before_auth();
    let words = |bytes: &[u8]| frames(stranger, &[bytes]).expect_err("refused").reply();
    assert_eq!(words(b"*11\r\n"), "ERR Protocol error: unauthenticated multibulk length");
    assert_eq!(words(b"*1\r\n$16385\r\n"), "ERR Protocol error: unauthenticated bulk length");
    assert!(frames(stranger, &[b"*10\r\n$16384\r\n"]).is_ok());
}

#[test]
fn a_large_command_is_known_before_its_end() {
    let mut framer = RequestFramer::new(Limits::default());
    assert_eq!(framer.scan(b"*3\r\n$3\r\nSE"), Ok((10, Framed::More)));
    assert_eq!(framer.name(), None);
    assert_eq!(framer.scan(b"T\r\n$1\r\nk\r\n$1000000\r\nxxxx"), Ok((24, Framed::More)));
    assert!(framer.in_command());
    assert_eq!(framer.name(), Some(Span { at: 8, len: 3 }));
    assert_eq!(framer.second(), Some(Span { at: 17, len: 1 }));
    assert_eq!(framer.scan(&vec![b'x'; 999_996]), Ok((999_996, Framed::More)));
    assert!(matches!(framer.scan(b"\r\n*1\r\n"), Ok((2, Framed::Command(s))) if s.len == 20 + 10 + 1_000_002));
    assert_eq!(framer.name(), None);
}
