//! The demo's own reading and writing of RESP: what a client needs for the few commands that it sends.
//!
//! It shares no code with the proxy's framing on purpose: the checker must not have the defects of what it checks.
//! Of RESP3 it reads what HELLO, SUBSCRIBE and messages need; it trusts the server as far as sizes go.

use std::fmt::Write as _;

/// One item of a reply. An array is only its header here: its items follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// `+OK`
    Simple(&'a [u8]),
    /// `-ERR …`, without the dash.
    Error(&'a [u8]),
    /// `:1`
    Integer(i64),
    /// `$3 abc`
    Bulk(&'a [u8]),
    /// `$-1`, `*-1` or `_`
    Null,
    /// `*n`, `>n`, or `%n` with twice as many: n items follow.
    Array(usize),
}

/// What cannot be a reply; the connection is of no use any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) String);

/// Takes one item from the start of `input`: the item and the bytes it used, or `None` while it is incomplete.
pub(super) fn item(input: &[u8]) -> Result<Option<(Item<'_>, usize)>, Malformed> {
    let Some(end) = memchr::memchr(b'\n', input) else { return Ok(None) };
    let line = input.get(..end).and_then(|line| line.strip_suffix(b"\r")).unwrap_or_default();
    let used = end + 1;
    let Some((&kind, rest)) = line.split_first() else { return Err(malformed(line)) };
    let found = match kind {
        b'+' => Item::Simple(rest),
        b'-' => Item::Error(rest),
        b':' => Item::Integer(number(rest).ok_or_else(|| malformed(line))?),
        b'_' => Item::Null,
        b'$' | b'*' | b'>' | b'%' => match (kind, number(rest)) {
            (b'$' | b'*', Some(-1)) => Item::Null,
            (b'*' | b'>', Some(items)) => Item::Array(usize::try_from(items).map_err(|_| malformed(line))?),
            (b'%', Some(items)) => Item::Array(usize::try_from(items).map_err(|_| malformed(line))?.saturating_mul(2)),
            (_, Some(length)) => {
                let length = usize::try_from(length).map_err(|_| malformed(line))?;
                let Some(body) = input.get(used..used + length + 2) else { return Ok(None) };
                return Ok(Some((Item::Bulk(body.get(..length).unwrap_or_default()), used + length + 2)));
            }
            (_, None) => return Err(malformed(line)),
        },
        _ => return Err(malformed(line)),
    };
    Ok(Some((found, used)))
}

fn number(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn malformed(line: &[u8]) -> Malformed {
    let shown = line.get(..line.len().min(80)).unwrap_or_default();
    Malformed(format!("not a reply: {:?}", String::from_utf8_lossy(shown)))
}

/// Appends one command in array form.
pub(super) fn command(out: &mut Vec<u8>, args: &[&[u8]]) {
    header(out, '*', args.len());
    for arg in args {
        header(out, '$', arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

fn header(out: &mut Vec<u8>, kind: char, count: usize) {
    // A short stack-like buffer: no allocation for each argument.
    let mut line = Line::default();
    if write!(line, "{kind}{count}\r\n").is_ok() {
        out.extend_from_slice(line.bytes());
    }
}

/// A short text that is written without an allocation: keys, numbers, headers.
#[derive(Clone, Copy)]
pub(super) struct Line {
    text: [u8; 48],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { text: [0; 48], len: 0 }
    }
}

impl Line {
    /// The text so far.
    pub(super) fn bytes(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }
}

impl std::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.text.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_taken_once_it_is_whole_and_not_before() {
        let cases: [(&[u8], Item<'_>); 10] = [
            (b"+OK\r\n", Item::Simple(b"OK")),
            (b"-ERR no\r\n", Item::Error(b"ERR no")),
            (b":-7\r\n", Item::Integer(-7)),
            (b"$3\r\na\r\n\r\n", Item::Bulk(b"a\r\n")),
            (b"$0\r\n\r\n", Item::Bulk(b"")),
            (b"$-1\r\n", Item::Null),
            (b"*2\r\n", Item::Array(2)),
            (b">3\r\n", Item::Array(3)),
            (b"%3\r\n", Item::Array(6)),
            (b"_\r\n", Item::Null),
        ];
        for (bytes, wanted) in cases {
            for cut in 0..bytes.len() {
                let Some(part) = bytes.get(..cut) else { continue };
                assert_eq!(item(part), Ok(None), "{part:?}");
            }
            let mut longer = bytes.to_vec();
            longer.extend_from_slice(b"+next\r\n");
            assert_eq!(item(&longer), Ok(Some((wanted, bytes.len()))));
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for bytes in [&b"hello\r\n"[..], b":x\r\n", b"$x\r\n", b"*-2\r\n", b">-1\r\n", b"\r\n"] {
            assert!(item(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = Vec::new();
        command(&mut out, &[b"SET", b"k", b""]);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
    }
}
