//! What Redis refuses, we refuse in the same words; what Redis swallows, we swallow; what Redis splits, we split alike.

use std::time::Duration;

use changeover::protocol::inline;
use changeover::protocol::request::{Framed, Limits, ProtocolError, RequestFramer};

use super::server::Server;
use super::which::about;

const PATIENCE: Duration = Duration::from_millis(300);

fn ours(bytes: &[u8]) -> Result<Vec<Framed>, ProtocolError> {
    let (mut framer, mut rest, mut found) = (RequestFramer::new(Limits::default()), bytes, Vec::new());
    while !rest.is_empty() {
        let (used, framed) = framer.scan(rest)?;
        if framed == Framed::Inline {
            inline::split(&rest[..used])?;
        }
        found.push(framed);
        rest = &rest[used..];
    }
    Ok(found)
}

#[test]
fn refusals_have_the_same_words() {
    let server = Server::start();
    for bytes in [
        &b"*x\r\n"[..],
        b"*\r\n",
        b"*01\r\n",
        b"*+1\r\n",
        b"*-0\r\n",
        b"*99999999999\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$04\r\n",
        b"*1\r\n$\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$9999999999\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n*1\r\n",
        b"*1\r\n\r\n\r\n",
        b"*2\r\n$4\r\nPING\r\nx\r\n",
        b"GET \"a\r\n",
        b"GET 'a'b\r\n",
    ] {
        let shown = String::from_utf8_lossy(bytes);
        if bytes == b"GET 'a'b\r\n" && about().valkey && about().version >= (9, 0) {
            about().left_out("text right behind a closing quote", "Valkey 9 joins it, the proxy refuses it");
            continue;
        }
        let reply = ours(bytes).expect_err(&shown).reply();
        let theirs = server.answer(bytes, PATIENCE);
        assert_eq!(String::from_utf8_lossy(&theirs), format!("-{reply}\r\n"), "{shown:?}");
    }
    let long = vec![b'a'; 70 * 1024];
    assert_eq!(server.answer(&long, PATIENCE), format!("-{}\r\n", ours(&long).unwrap_err().reply()).into_bytes());
}

#[test]
fn what_is_swallowed_has_no_reply() {
    let server = Server::start();
    let ping = b"*1\r\n$4\r\nPING\r\n";
    for bytes in [&b"\r\n"[..], b"\n", b"   \t\r\n", b"*0\r\n", b"*-1\r\n", b"*-5\r\n", b"\r\n*0\r\n\n"] {
        assert!(ours(bytes).unwrap().iter().all(|framed| *framed == Framed::Nothing), "{bytes:?}");
        assert_eq!(server.answer(&[bytes, ping].concat(), PATIENCE), b"+PONG\r\n", "{bytes:?}");
    }
}

#[test]
fn inline_lines_mean_the_same() {
    let server = Server::start();
    for word in [
        &b"plain"[..],
        b"\"a b\"",
        b"'a \\' b'",
        b"\"\\x41\\n\\t\\q\\\\\\\"\"",
        b"mid\"dle\"",
        b"\"\"",
        b"''",
        b"a\x0bb",
        b"\"\\xzz\"",
        b"'\\n'",
        b"\xc3\xa9",
    ] {
        let line = [b"\"\\x45CHO\" ", word, b" \r\n"].concat();
        let words = inline::split(&line).unwrap();
        assert_eq!(words[0], b"ECHO");
        let expected = [format!("${}\r\n", words[1].len()).as_bytes(), &words[1], b"\r\n"].concat();
        assert_eq!(server.answer(&line, PATIENCE), expected, "{:?}", String::from_utf8_lossy(&line));
    }
}
