//! Framing held against random input: cut anywhere, mutated, and beside another decoder.
//!
//! Where both our framers and `redis-protocol` accept, they must agree on where a frame ends.

use bytes::BytesMut;
use changeover::protocol::args::args;
use changeover::protocol::encode;
use changeover::protocol::inline;
use changeover::protocol::reply::{ReplyEnd, ReplyError, ReplyFramer, ReplyLimits};
use changeover::protocol::request::{Framed, Limits, ProtocolError, RequestFramer};
use proptest::collection::vec;
use proptest::prelude::*;

/// Scans `bytes` in pieces of the given sizes (repeated) and returns every end with its offset.
fn ends<End, Error>(
    bytes: &[u8],
    sizes: &[usize],
    mut scan: impl FnMut(&[u8]) -> Result<(usize, Option<End>), Error>,
) -> Result<Vec<(usize, End)>, Error> {
    let (mut found, mut at, mut sizes) = (Vec::new(), 0, sizes.iter().cycle());
    while at < bytes.len() {
        let to = (at + sizes.next().copied().unwrap_or(usize::MAX).max(1)).min(bytes.len());
        while at < to {
            let (used, end) = scan(&bytes[at..to])?;
            assert!(used > 0 && used <= to - at);
            at += used;
            match end {
                Some(end) => found.push((at, end)),
                None => assert_eq!(at, to, "what has not ended takes everything"),
            }
        }
    }
    Ok(found)
}

fn requests(bytes: &[u8], sizes: &[usize]) -> Result<Vec<(usize, Framed)>, ProtocolError> {
    let mut framer = RequestFramer::new(Limits::default());
    ends(bytes, sizes, |input| {
        let (used, framed) = framer.scan(input)?;
        Ok((used, (framed != Framed::More).then_some(framed)))
    })
}

fn replies(bytes: &[u8], sizes: &[usize]) -> Result<Vec<(usize, ReplyEnd)>, ReplyError> {
    let mut framer = ReplyFramer::new(ReplyLimits::default());
    ends(bytes, sizes, |input| {
        let (used, end) = framer.scan(input)?;
        Ok((used, (end != ReplyEnd::More).then_some(end)))
    })
}

fn whole() -> &'static [usize] {
    &[usize::MAX]
}

/// Bytes that look like RESP more often than chance would have it.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            &b"\r\n"[..], b"*1\r\n", b"*2\r\n", b"*0\r\n", b"*-1\r\n", b"$0\r\n\r\n", b"$1\r\na\r\n", b"$-1\r\n", b"$4\r\nPING\r\n",
            b"+OK\r\n", b"-ERR\r\n", b":1\r\n", b"_\r\n", b"#t\r\n", b",1.5\r\n", b"(1\r\n", b"%1\r\n", b"~1\r\n", b">1\r\n", b"|1\r\n",
            b"=5\r\ntxt:a\r\n", b"!3\r\nERR\r\n", b"PING\r\n", b"\"a b\" 'c'\n", b"\r", b"\n", b"*", b"$", b"01", b"-",
        ]).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 1..4),
    ];
    vec(piece, 1..24).prop_map(|pieces| pieces.concat())
}

/// One reply; with `resp3`, of that protocol's types, too.
fn reply(resp3: bool) -> impl Strategy<Value = Vec<u8>> {
    let two = prop_oneof![
        "[ -~]{0,8}".prop_map(|text| format!("+{text}\r\n").into_bytes()),
        "[ -~]{0,8}".prop_map(|text| format!("-{text}\r\n").into_bytes()),
        any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
        vec(any::<u8>(), 0..20).prop_map(|bytes| blob('$', &bytes)),
        Just(b"$-1\r\n".to_vec()),
        Just(b"*-1\r\n".to_vec()),
    ];
    let three = prop_oneof![
        prop::sample::select(vec!["_", "#t", "#f", ",1.25", ",inf", "(12345678901234567890"])
            .prop_map(|line| format!("{line}\r\n").into_bytes()),
        vec(any::<u8>(), 0..20).prop_map(|bytes| blob('=', &[b"txt:", &bytes[..]].concat())),
        vec(any::<u8>(), 0..20).prop_map(|bytes| blob('!', &bytes)),
    ];
    let leaf = if resp3 { prop_oneof![two, three].boxed() } else { two.boxed() };
    leaf.prop_recursive(4, 32, 4, move |inner| {
        let array = (Just('*'), vec(inner.clone(), 0..4)).prop_map(aggregate);
        if !resp3 {
            return array.boxed();
        }
        let set = (Just('~'), vec(inner.clone(), 0..4)).prop_map(aggregate);
        let pairs = vec((inner.clone(), inner.clone()), 0..3).prop_map(|pairs| map('%', &pairs));
        let attributed = (vec((inner.clone(), inner.clone()), 0..3), inner)
            .prop_map(|(pairs, value)| [map('|', &pairs), value].concat());
        prop_oneof![array, set, pairs, attributed].boxed()
    })
}

fn blob(kind: char, bytes: &[u8]) -> Vec<u8> {
    [format!("{kind}{}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn aggregate((kind, items): (char, Vec<Vec<u8>>)) -> Vec<u8> {
    [format!("{kind}{}\r\n", items.len()).into_bytes(), items.concat()].concat()
}

fn map(kind: char, pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = format!("{kind}{}\r\n", pairs.len()).into_bytes();
    for (key, value) in pairs {
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_quick_way_through_a_command_ends_where_the_scan_ends(
        bytes in prop_oneof![noise(), vec(vec(vec(any::<u8>(), 0..12), 1..5), 1..4).prop_map(|commands| {
            let mut out = BytesMut::new();
            for words in &commands {
                encode::command(&mut out, &words.iter().map(Vec::as_slice).collect::<Vec<_>>());
            }
            out.to_vec()
        })],
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = &bytes[..cut.index(bytes.len() + 1)];
        let mut framer = RequestFramer::new(Limits::default());
        let found = framer.whole(bytes);
        match (found, framer.scan(bytes)) {
            (Some(whole), Ok((used, Framed::Command(shape)))) => {
                prop_assert_eq!((whole.len, whole.name), (used, shape.name));
            }
            (Some(whole), scanned) => prop_assert!(false, "{whole:?} but {scanned:?}"),
            (None, _) => {}
        }
    }

    #[test]
    fn a_run_of_replies_ends_where_the_scan_ends(
        bytes in prop_oneof![noise(), vec(reply(true), 1..6).prop_map(|replies| replies.concat())],
        cut in any::<prop::sample::Index>(),
        most in 0_usize..8,
    ) {
        let bytes = &bytes[..cut.index(bytes.len() + 1)];
        let mut framer = ReplyFramer::new(ReplyLimits::default());
        let (count, used) = framer.run(bytes, most);
        prop_assert!(count <= most);
        let mut at = 0;
        for _ in 0..count {
            prop_assert_ne!(bytes[at], b'-');
            let (len, end) = framer.scan(&bytes[at..]).unwrap();
            prop_assert_eq!(end, ReplyEnd::Reply);
            at += len;
        }
        prop_assert_eq!(at, used);
    }

    #[test]
    fn commands_come_back_as_they_were_sent(
        commands in vec(vec(vec(any::<u8>(), 0..40), 1..6), 1..6),
        sizes in vec(1_usize..64, 1..8),
    ) {
        let mut stream = BytesMut::new();
        let mut expected = Vec::new();
        for command in &commands {
            let parts: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
            encode::command(&mut stream, &parts);
            expected.push(stream.len());
        }
        let found = requests(&stream, &sizes).unwrap();
        prop_assert_eq!(found.iter().map(|(at, _)| *at).collect::<Vec<_>>(), expected);
        let mut from = 0;
        for ((to, framed), command) in found.into_iter().zip(&commands) {
            let bytes = &stream[from..to];
            let Framed::Command(shape) = framed else { panic!("not a command: {framed:?}") };
            prop_assert_eq!(shape.len, bytes.len() as u64);
            prop_assert_eq!(shape.args as usize, command.len());
            prop_assert_eq!(shape.name.of(bytes), Some(&command[0][..]));
            prop_assert_eq!(shape.second.and_then(|span| span.of(bytes)), command.get(1).map(Vec::as_slice));
            prop_assert_eq!(&args(bytes).map(<[u8]>::to_vec).collect::<Vec<_>>(), command);
            from = to;
        }
    }

    #[test]
    fn cuts_change_nothing(bytes in noise(), sizes in vec(1_usize..16, 1..6)) {
        prop_assert_eq!(requests(&bytes, &sizes), requests(&bytes, whole()));
        prop_assert_eq!(replies(&bytes, &sizes), replies(&bytes, whole()));
    }

    #[test]
    fn requests_end_where_another_decoder_ends_them(bytes in noise()) {
        let (mut framer, mut from) = (RequestFramer::new(Limits::default()), 0);
        while let Ok((used, framed)) = framer.scan(&bytes[from..]) {
            if let Framed::Command(_) = framed {
                let other = redis_protocol::resp2::decode::decode(&bytes[from..]);
                prop_assert!(matches!(other, Ok(Some((_, theirs))) if theirs == used), "{:?}", other);
            }
            from += used;
            if from == bytes.len() {
                break;
            }
        }
    }

    #[test]
    fn every_reply_is_one_reply(value in reply(true), sizes in vec(1_usize..16, 1..6)) {
        let twice = [&value[..], &value[..]].concat();
        let expected = vec![(value.len(), ReplyEnd::Reply), (twice.len(), ReplyEnd::Reply)];
        prop_assert_eq!(replies(&twice, &sizes), Ok(expected));
        let pushed = [b">2\r\n+x\r\n", &value[..]].concat();
        prop_assert_eq!(replies(&pushed, &sizes), Ok(vec![(pushed.len(), ReplyEnd::Push)]));
    }

    #[test]
    fn replies_end_where_another_decoder_ends_them(
        value in reply(false),
        at in any::<prop::sample::Index>(),
        byte in prop::option::of(any::<u8>()),
    ) {
        let mut bytes = value;
        if let Some(byte) = byte {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let ours = replies(&bytes, whole()).ok().and_then(|found| found.first().map(|(at, _)| *at));
        // Only what is RESP2 to both of us.
        if let (Some(ours), Ok(Some((_, theirs)))) = (ours, redis_protocol::resp2::decode::decode(&bytes)) {
            prop_assert_eq!(ours, theirs, "{:?}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn any_line_splits_or_is_refused(line in vec(any::<u8>(), 0..64)) {
        if let Ok(words) = inline::split(&line) {
            prop_assert!(words.iter().map(Vec::len).sum::<usize>() <= line.len());
        }
    }

    #[test]
    fn words_without_quotes_split_at_spaces(words in vec("[!#-&(-~]{1,8}", 1..6)) {
        let line = words.join(" ") + "\r\n";
        let expected: Vec<_> = words.iter().map(|word| word.clone().into_bytes()).collect();
        prop_assert_eq!(inline::split(line.as_bytes()), Ok(expected));
    }
}
