//! What a reply may be, and where each one ends however it is cut.

use super::*;

const NESTED: &[u8] =
    b"*3\r\n$6\r\nleader\r\n:3129659\r\n*2\r\n*3\r\n$9\r\n127.0.0.1\r\n$4\r\n9001\r\n$7\r\n3129242\r\n*0\r\n";

#[test]
fn each_kind_of_reply_is_decoded() {
    let cases: [(&[u8], Reply); 6] = [
        (b"+OK\r\n", Reply::Status(Bytes::from_static(b"OK"))),
        (b"-ERR no\r\n", Reply::Error("ERR no".to_owned())),
        (b":-7\r\n", Reply::Integer(-7)),
        (b"$4\r\na\r\nb\r\n", Reply::Bulk(Bytes::from_static(b"a\r\nb"))),
        (b"$-1\r\n", Reply::Null),
        (b"*2\r\n$-1\r\n:1\r\n", Reply::Array(vec![Reply::Null, Reply::Integer(1)])),
    ];
    for (wire, expected) in cases {
        let mut buffer = BytesMut::from(wire);
        buffer.extend_from_slice(b"+NEXT\r\n");
        assert_eq!(take(&mut buffer).unwrap(), Some(expected));
        assert_eq!(buffer.as_ref(), b"+NEXT\r\n");
    }
}

#[test]
fn a_reply_is_taken_only_when_its_last_byte_is_there() {
    for cut in 0..NESTED.len() {
        assert_eq!(take(&mut BytesMut::from(&NESTED[..cut])).unwrap(), None, "cut at {cut}");
    }
    assert!(matches!(take(&mut BytesMut::from(NESTED)).unwrap(), Some(Reply::Array(items)) if items.len() == 3));
}

#[test]
fn depth_size_and_nonsense_are_refused_before_anything_is_decoded() {
    let too_long_line = [b"+".as_slice(), &[b'x'; MAX_LINE_BYTES + 1]].concat();
    let cases: [(&[u8], &str); 7] = [
        (&b"*1\r\n".repeat(100_000), "nested too deeply"),
        (b"$9999999999\r\n", "larger than we take"),
        (b"$99999999999999999999999\r\n", "no number"),
        (b"$+5\r\nhello\r\n", "no number"),
        (b"HTTP/1.1 400 Bad Request\r\n", "unknown type"),
        (b"\r\n", "empty line"),
        (&too_long_line, "line longer"),
    ];
    for (wire, expected) in cases {
        let error = take(&mut BytesMut::from(wire)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} for {:?}", &wire[..wire.len().min(20)]);
    }
}

#[test]
fn a_huge_count_costs_nothing_until_its_items_come() {
    assert_eq!(take(&mut BytesMut::from(b"*999999999\r\n:1\r\n".as_slice())).unwrap(), None);
}
