//! An inline line to arguments, by the rules of Redis' `sdssplitargs`.
//!
//! Names are compared only after this, and what goes on to Redis is the array form: `"\x50ING"` is PING to Redis, and
//! so it is here. Work and memory are bounded by the line, which the framer has bounded.

use super::request::ProtocolError;

/// C's `isspace`.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// The arguments of one line (with or without its line end); none on a blank one.
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut rest = line.strip_suffix(b"\r").unwrap_or(line);
    if memchr::memchr(0, rest).is_some() {
        return Err(ProtocolError::InlineNul);
    }
    let mut arguments = Vec::new();
    loop {
        while let [first, tail @ ..] = rest
            && is_space(*first)
        {
            rest = tail;
        }
        if rest.is_empty() {
            return Ok(arguments);
        }
        let (argument, tail) = token(rest)?;
        arguments.push(argument);
        rest = tail;
    }
}

/// One argument, and what follows it. An argument ends at a space outside quotes, or with its first closing quote.
fn token(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), ProtocolError> {
    let mut argument = Vec::new();
    loop {
        match rest {
            // Redis skips vertical tabs and form feeds between arguments, yet keeps them inside one.
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Ok((argument, rest)),
            [b'"', tail @ ..] => return double_quoted(argument, tail),
            [b'\'', tail @ ..] => return single_quoted(argument, tail),
            [byte, tail @ ..] => {
                argument.push(*byte);
                rest = tail;
            }
        }
    }
}

fn double_quoted(mut argument: Vec<u8>, mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), ProtocolError> {
    loop {
        let (byte, tail) = match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'"', tail @ ..] => return closed(argument, tail),
            [b'\\', b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high) * 16 + hex(*low), tail)
            }
            [b'\\', escaped, tail @ ..] => (unescape(*escaped), tail),
            [byte, tail @ ..] => (*byte, tail),
        };
        argument.push(byte);
        rest = tail;
    }
}

fn single_quoted(mut argument: Vec<u8>, mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), ProtocolError> {
    loop {
        let (byte, tail) = match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'\\', b'\'', tail @ ..] => (b'\'', tail),
            [b'\'', tail @ ..] => return closed(argument, tail),
            [byte, tail @ ..] => (*byte, tail),
        };
        argument.push(byte);
        rest = tail;
    }
}

/// A closing quote must be followed by a space or by nothing.
fn closed(argument: Vec<u8>, rest: &[u8]) -> Result<(Vec<u8>, &[u8]), ProtocolError> {
    match rest.first() {
        Some(&byte) if !is_space(byte) => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok((argument, rest)),
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Vec<Vec<u8>> {
        split(line).unwrap()
    }

    #[test]
    fn lines_split_as_redis_splits_them() {
        let table: &[(&[u8], &[&[u8]])] = &[
            (b"PING\r\n", &[b"PING"]),
            (b"PING\n", &[b"PING"]),
            (b"  SET  k\tv \r\n", &[b"SET", b"k", b"v"]),
            (b"\r\n", &[]),
            (b" \t\x0b\x0c\r\n", &[]),
            (b"SET k \"a b\"\r\n", &[b"SET", b"k", b"a b"]),
            (b"SET k 'a \\'b\\n'\r\n", &[b"SET", b"k", b"a 'b\\n"]),
            (b"\"\\x50ING\"\r\n", &[b"PING"]),
            (b"\"\\n\\r\\t\\b\\a\\q\\\\\\\"\"\n", &[b"\n\r\t\x08\x07q\\\""]),
            (b"\"\\xzz\\x4\"\n", &[b"xzzx4"]),
            (b"SET k \"\"\n", &[b"SET", b"k", b""]),
            (b"fo\"o b\" x\n", &[b"foo b", b"x"]),
            (b"a\x0bb\x0cc d\n", &[b"a\x0bb\x0cc", b"d"]),
            (b"a\r\r\n", &[b"a"]),
            (b"\"\\x0a\\xFf\"\n", &[b"\n\xff"]),
        ];
        for (line, expected) in table {
            assert_eq!(words(line), *expected, "{:?}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn a_nul_is_refused_wherever_it_stands() {
        for line in [&b"\0"[..], b"a\0", b"a \0 b\n", b"\"\0\""] {
            assert_eq!(split(line), Err(ProtocolError::InlineNul));
        }
    }

    #[test]
    fn quotes_must_close_and_stand_apart() {
        for line in [&b"\"abc\n"[..], b"'abc\n", b"\"a\"b\n", b"'a'b\n", b"\"a\\\"\n", b"SET k \"a\"\"b\"\n", b"\"a\\"]
        {
            assert_eq!(split(line), Err(ProtocolError::UnbalancedQuotes), "{:?}", String::from_utf8_lossy(line));
        }
    }
}
