//! What we author ourselves: commands for upstreams, replies for clients.
//!
//! Whatever text comes in, exactly one frame comes out: line ends in one-line replies become spaces, as in Redis.

use bytes::{BufMut, BytesMut};

/// One command in array form.
pub fn command(out: &mut BytesMut, args: &[&[u8]]) {
    array(out, args.len());
    for arg in args {
        bulk(out, arg);
    }
}

/// `-text`; the text begins with the error's code.
pub fn error(out: &mut BytesMut, text: &str) {
    line(out, b'-', text);
}

/// `+text`
pub fn simple(out: &mut BytesMut, text: &str) {
    line(out, b'+', text);
}

/// `:number`
pub fn integer(out: &mut BytesMut, number: i64) {
    out.put_u8(b':');
    if number < 0 {
        out.put_u8(b'-');
    }
    decimal(out, number.unsigned_abs());
    out.put_slice(b"\r\n");
}

/// A bulk string.
pub fn bulk(out: &mut BytesMut, bytes: &[u8]) {
    out.reserve(bytes.len() + 32);
    header(out, b'$', bytes.len());
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

/// The head of an array of `items` replies, which the caller appends.
pub fn array(out: &mut BytesMut, items: usize) {
    header(out, b'*', items);
}

/// The head of a map of `pairs`: a map in RESP3, an array of twice as many in RESP2.
pub fn map(out: &mut BytesMut, pairs: usize, resp3: bool) {
    if resp3 { header(out, b'%', pairs) } else { header(out, b'*', pairs.saturating_mul(2)) }
}

/// The head of a push message (an array in RESP2, where pub/sub messages are arrays).
pub fn push(out: &mut BytesMut, items: usize, resp3: bool) {
    header(out, if resp3 { b'>' } else { b'*' }, items);
}

/// The null reply.
pub fn null(out: &mut BytesMut, resp3: bool) {
    out.put_slice(if resp3 { b"_\r\n" } else { b"$-1\r\n" });
}

/// The null that stands for an array (as EXEC answers when a watched key has changed).
pub fn null_array(out: &mut BytesMut, resp3: bool) {
    out.put_slice(if resp3 { b"_\r\n" } else { b"*-1\r\n" });
}

fn line(out: &mut BytesMut, kind: u8, text: &str) {
    out.reserve(text.len() + 3);
    out.put_u8(kind);
    let from = out.len();
    out.put_slice(text.as_bytes());
    for byte in out.iter_mut().skip(from).filter(|byte| matches!(byte, b'\r' | b'\n')) {
        *byte = b' ';
    }
    out.put_slice(b"\r\n");
}

fn header(out: &mut BytesMut, kind: u8, number: usize) {
    out.put_u8(kind);
    decimal(out, number as u64);
    out.put_slice(b"\r\n");
}

fn decimal(out: &mut BytesMut, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    out.put_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn each_kind_is_written_as_resp_writes_it() {
        assert_eq!(text(|o| command(o, &[b"SET", b"k", b""])), "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
        assert_eq!(text(|o| simple(o, "OK")), "+OK\r\n");
        assert_eq!(text(|o| integer(o, 0)), ":0\r\n");
        assert_eq!(text(|o| integer(o, i64::MIN)), ":-9223372036854775808\r\n");
        assert_eq!(text(|o| integer(o, 1_234_567_890)), ":1234567890\r\n");
        assert_eq!(text(|o| array(o, 10)), "*10\r\n");
        assert_eq!(text(|o| map(o, 2, true)) + &text(|o| map(o, 2, false)), "%2\r\n*4\r\n");
        assert_eq!(text(|o| push(o, 3, true)) + &text(|o| push(o, 3, false)), ">3\r\n*3\r\n");
        assert_eq!(text(|o| null(o, false)) + &text(|o| null_array(o, false)), "$-1\r\n*-1\r\n");
        assert_eq!(text(|o| null(o, true)) + &text(|o| null_array(o, true)), "_\r\n_\r\n");
    }

    #[test]
    fn no_text_can_end_its_own_line() {
        assert_eq!(text(|o| error(o, "ERR a\r\n+OK\r\n")), "-ERR a  +OK  \r\n");
    }
}
