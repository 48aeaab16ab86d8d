//! Connections to Redis end in the middle of large replies: a client gets the rest from the same connection, or is closed.

use crate::support::client::{encode, pipeline};
use crate::support::value::ok;
use crate::support::{Client, Options, Pair, Proxy};

/// Bytes that differ everywhere.
fn noise(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| b'a' + u8::try_from((at * 7 + at / 251 + at / 65_521) % 26).unwrap_or(0)).collect()
}

fn fill(pair: &Pair) {
    let mut direct = pair.direct();
    assert_eq!(direct.call(&[b"SET", b"big", &noise(6_000_000)]), ok());
    for batch in noise(3_000_000).chunks(150_000) {
        let list: Vec<&[u8]> = [&b"RPUSH"[..], b"list"].into_iter().chain(batch.chunks(100)).collect();
        direct.call(&list);
        let fields = batch
            .chunks(100)
            .enumerate()
            .map(|(at, value)| [format!("{at}:{}", value[0]).into_bytes(), value.to_vec()]);
        let words: Vec<Vec<u8>> = fields.flatten().collect();
        let hash: Vec<&[u8]> = [&b"HSET"[..], b"hash"].into_iter().chain(words.iter().map(Vec::as_slice)).collect();
        direct.call(&hash);
    }
}

/// Reads until `enough` bytes have come, or the connection is closed.
fn read(client: &mut Client, got: &mut Vec<u8>, enough: usize) -> bool {
    while got.len() < enough {
        let piece = client.read_bytes((enough - got.len()).min(16_384));
        if piece.is_empty() {
            return false;
        }
        got.extend(piece);
    }
    true
}

const ASKED: [(&str, &[&str]); 5] = [
    ("a string", &["GET big"]),
    ("an array", &["LRANGE list 0 -1"]),
    ("a map", &["HGETALL hash"]),
    ("a pipeline", &["SET k v", "GET big", "STRLEN big", "GET k"]),
    ("what EXEC answers", &["MULTI", "GET k", "GET big", "LRANGE list 0 -1", "EXEC", "PING"]),
];

/// Asks for everything in `ASKED`, and has the server end all connections of clients after a random number of bytes.
fn half(options: Options, prepare: &[&str]) {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", options);
    fill(&pair);
    let (mut cut, mut at) = (0, 987_654_321_u64);
    for (what, commands) in ASKED {
        let bytes = pipeline(commands);
        let mut direct = pair.direct();
        prepare.iter().for_each(|command| drop(direct.cmd(command)));
        direct.send(&[bytes.clone(), encode(&[b"ECHO", b"the end of it"])].concat());
        let mut whole = Vec::new();
        while !whole.ends_with(b"the end of it\r\n") {
            whole.extend(direct.read_bytes(1 << 20));
        }
        let whole = whole.strip_suffix(b"$13\r\nthe end of it\r\n").unwrap().to_vec();
        for _ in 0..6 {
            let mut client = proxy.client();
            prepare.iter().for_each(|command| drop(client.cmd(command)));
            at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let place = usize::try_from(at >> 33).unwrap() % (whole.len() / 2);
            client.send(&bytes);
            let mut got = Vec::new();
            assert!(read(&mut client, &mut got, place), "{what}: closed although nothing was lost");
            pair.a.cmd("CLIENT KILL TYPE normal");
            let complete = read(&mut client, &mut got, whole.len());
            let right = got.iter().zip(&whole).take_while(|(a, b)| a == b).count();
            assert_eq!(right, got.len(), "{what}: the first wrong byte, behind a connection that was lost at {place}");
            assert!(complete || client.read_bytes(1).is_empty(), "{what}");
            cut += usize::from(!complete);
        }
    }
    assert!(cut > 5, "hardly a reply was cut: {cut}");
    let metrics = proxy.http("/metrics").1;
    let counted = format!("changeover_connections_closed_total{{reason=\"half_reply\"}} {cut}");
    assert!(metrics.contains(&counted), "{counted}");
}

#[test]
fn whatever_was_half_delivered_by_a_shared_connection_is_completed_or_the_client_is_closed() {
    half(Options::default(), &[]);
}

#[test]
fn whatever_was_half_delivered_by_a_connection_of_its_own_is_completed_or_the_client_is_closed() {
    half(Options::default().arg("--lanes", "off"), &["HELLO 3"]);
}
