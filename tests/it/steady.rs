//! Nothing changes: what a client gets through the proxy is what Redis itself would have answered.
//!
//! Each story runs twice, against the server's own TLS port and through the proxy, and the answers are compared.

use crate::support::client::{encode, pipeline};
use crate::support::value::ok;
use crate::support::{Client, Pair, Proxy, Value};

/// Tells the story to the server itself, then through the proxy (after a FLUSHALL), and compares.
fn same<T: PartialEq + std::fmt::Debug>(story: impl Fn(&mut Client) -> T) -> T {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    let direct = story(&mut pair.direct());
    pair.a.cmd("FLUSHALL");
    let proxied = story(&mut proxy.client());
    assert_eq!(proxied, direct, "through the proxy (left), directly (right)");
    proxied
}

const MANY: &[&str] = &[
    "PING",
    "ECHO hello",
    "SET k v",
    "GET k",
    "GET nokey",
    "APPEND k w",
    "STRLEN k",
    "INCR n",
    "INCRBYFLOAT f 1.5",
    "SET k v NX",
    "SET k w GET",
    "SETEX e 100 v",
    "MSET a 1 b 2",
    "MGET a b c",
    "DEL a b c",
    "EXISTS k",
    "RPUSH l 1 2 3",
    "LRANGE l 0 -1",
    "LPOP l 2",
    "LPOS l 3",
    "SADD s x",
    "SISMEMBER s x",
    "SMEMBERS s",
    "HSET h f 1 g 2",
    "HGETALL h",
    "HGET h nofield",
    "HRANDFIELD nokey",
    "ZADD z 1.5 m",
    "ZSCORE z m",
    "ZADD z INCR 2 m",
    "ZRANGE z 0 -1 WITHSCORES",
    "XADD x 1-1 f v",
    "XRANGE x - +",
    "XLEN x",
    "SETBIT bits 7 1",
    "BITCOUNT bits",
    "PFADD p a b",
    "PFCOUNT p",
    "GEOADD g 13.36 38.11 Palermo",
    "GEOPOS g Palermo nowhere",
    "TYPE k",
    "OBJECT ENCODING n",
    "EVAL return{1,'two',false,{ok='fine'}} 0",
    "EVAL return{err='ERR_mine'} 0",
    "EVAL return#KEYS 2 a b",
    "SCRIPT EXISTS abc",
    "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0",
    "DBSIZE",
    "EXPIRE k 100",
    "CONFIG GET maxmemory-policy",
    "COMMAND COUNT",
    "CLIENT GETNAME",
    "CLIENT NOSUCH",
    "NOSUCHCOMMAND a b",
    "GET",
    "GET a b",
    "LPUSH k 1",
    "SELECT 99",
    "SELECT 3",
    "DBSIZE",
    "SET in3 1",
    "DBSIZE",
    "SELECT 0",
    "SORT l",
    "WAIT 0 0",
    "DEBUG JMAP",
];

#[test]
fn commands_of_every_kind_are_answered_alike_in_resp2() {
    same(|client| MANY.iter().map(|command| client.cmd(command)).collect::<Vec<_>>());
}

#[test]
fn commands_of_every_kind_are_answered_alike_in_resp3() {
    same(|client| {
        let hello = client.cmd("HELLO 3");
        assert!(matches!(hello, Value::Map(_)), "{hello:?}");
        MANY.iter().map(|command| client.cmd(command)).collect::<Vec<_>>()
    });
}

#[test]
fn every_type_of_resp3_passes() {
    same(|client| {
        client.cmd("HELLO 3");
        let types =
            ["string", "integer", "double", "null", "array", "set", "map", "attrib", "verbatim", "true", "false"];
        types.map(|t| client.cmd(&format!("DEBUG PROTOCOL {t}")))
    });
}

#[test]
fn many_commands_in_one_write_are_answered_in_order() {
    let replies = same(|client| {
        client.send(&pipeline(MANY));
        MANY.iter().map(|_| client.read()).collect::<Vec<_>>()
    });
    assert_eq!(replies[1], Value::from("hello"));
}

#[test]
fn a_pipeline_cut_at_odd_places_is_read_like_a_whole_one() {
    same(|client| {
        let bytes = pipeline(MANY);
        // Record lengths 1, 2, 3, 5, 8 ... so that every kind of place is cut.
        let (mut rest, mut next, mut last) = (bytes.as_slice(), 1, 1);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(next.min(rest.len()));
            client.send(now);
            rest = later;
            (last, next) = (next, if next > 60 { 1 } else { next + last });
        }
        MANY.iter().map(|_| client.read()).collect::<Vec<_>>()
    });
}

#[test]
fn inline_commands_blank_lines_and_empty_arrays_are_taken_as_redis_takes_them() {
    let replies = same(|client| {
        client.send(b"PING\r\n\r\n*0\r\n*-1\r\nset inline \"a b\\x41\\n\"\nGET inline\r\nECHO 'it''s'\r\nECHO ok\r\n");
        (0..3).map(|_| client.read()).collect::<Vec<_>>()
    });
    assert_eq!(replies, [Value::Simple("PONG".into()), ok(), Value::from("a bA\n")]);
}

#[test]
fn unbalanced_quotes_end_the_connection_with_redis_own_words() {
    let replies = same(|client| {
        client.send(b"ECHO \"open\r\n");
        client.read_to_end()
    });
    assert!(replies[0].is_error("ERR Protocol error"), "{replies:?}");
}

#[test]
fn large_values_pass_in_both_directions() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    let mut client = proxy.client();
    for size in [64 << 10, 1 << 20, 64 << 20] {
        let value: Vec<u8> = (0..size).map(|n: u32| (n % 251) as u8).collect();
        assert_eq!(client.call(&[b"SET", b"large", &value]), ok(), "{size} bytes");
        let Value::Bulk(back) = client.cmd("GET large") else { panic!("no value of {size} bytes") };
        assert!(back == value, "{size} bytes came back changed");
        assert_eq!(client.cmd("STRLEN large").int(), i64::from(size));
    }
}

#[test]
fn a_large_value_does_not_stop_the_other_clients() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    let (mut slow, mut other) = (proxy.client(), proxy.client());
    let value = vec![b'x'; 64 << 20];
    assert_eq!(slow.call(&[b"SET", b"large", &value]), ok());
    // Half of a large command, and a large reply that nobody reads.
    slow.start("GET large");
    let half = encode(&[b"SET", b"half", &value[..8 << 20]]);
    let mut stuck = proxy.client();
    stuck.send(&half[..half.len() / 2]);
    for n in 1..=200 {
        assert_eq!(other.cmd("INCR n"), Value::from(n));
    }
    stuck.send(&half[half.len() / 2..]);
    assert_eq!(stuck.read(), ok());
    assert_eq!(slow.read(), Value::Bulk(value));
}

#[test]
fn many_clients_get_their_own_replies() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    let mut clients: Vec<Client> = (0..50).map(|_| proxy.client()).collect();
    for round in 0..20 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(&pipeline(&[&format!("SET k:{number} {round}"), &format!("ECHO {number}.{round}")]));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.read(), ok());
            assert_eq!(client.read().text(), format!("{number}.{round}"));
        }
    }
}
