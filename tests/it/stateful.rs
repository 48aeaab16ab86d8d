//! Nothing changes: commands whose meaning lives in the connection.

use crate::support::client::pipeline;
use crate::support::value::ok;
use crate::support::{Client, Options, Pair, Proxy, Value, pause};

fn queued() -> Value {
    Value::Simple("QUEUED".to_owned())
}

/// A pair, its proxy, and two clients that must not disturb each other.
fn two() -> (Pair, Proxy, Client, Client) {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    let (one, other) = (proxy.client(), proxy.client());
    (pair, proxy, one, other)
}

#[test]
fn the_database_name_and_protocol_of_one_client_are_not_those_of_another() {
    let (_pair, _proxy, mut one, mut other) = two();
    assert_eq!(one.cmd("SELECT 5"), ok());
    assert_eq!(one.cmd("SET k five"), ok());
    assert_eq!(one.cmd("CLIENT SETNAME one"), ok());
    one.cmd("HELLO 3");
    assert_eq!(other.cmd("GET k"), Value::Null);
    assert_eq!(other.cmd("HGETALL nokey"), Value::Array(vec![]));
    assert_eq!(one.cmd("HGETALL nokey"), Value::Map(vec![]));
    assert_eq!(one.cmd("CLIENT GETNAME"), Value::from("one"));
    assert!(other.cmd("CLIENT GETNAME") != Value::from("one"));
    assert_eq!(one.cmd("GET k"), Value::from("five"));
    assert_eq!(one.cmd("RESET"), Value::Simple("RESET".into()));
    assert_eq!(one.cmd("GET k"), Value::Null, "RESET selects database 0");
    assert_eq!(one.cmd("HGETALL nokey"), Value::Array(vec![]), "and RESP2");
}

#[test]
fn transactions_run_and_are_discarded() {
    let (_pair, _proxy, mut one, mut other) = two();
    one.send(&pipeline(&["MULTI", "SET k 1", "INCR k", "GET k", "EXEC", "GET k"]));
    assert_eq!(one.read(), ok());
    for _ in 0..3 {
        assert_eq!(one.read(), queued());
    }
    assert_eq!(one.read(), Value::Array(vec![ok(), Value::from(2), Value::from("2")]));
    assert_eq!(one.read(), Value::from("2"));
    one.cmd("MULTI");
    one.cmd("SET k 9");
    assert_eq!(other.cmd("GET k"), Value::from("2"), "another client is not in the transaction");
    assert_eq!(one.cmd("DISCARD"), ok());
    assert_eq!(one.cmd("GET k"), Value::from("2"));
    assert!(one.cmd("EXEC").is_error("ERR EXEC without MULTI"));
    one.cmd("MULTI");
    assert!(one.cmd("NOSUCH").is_error("ERR unknown command"));
    assert!(one.cmd("EXEC").is_error("EXECABORT"));
}

#[test]
fn a_watched_key_that_another_client_changes_stops_the_transaction() {
    let (_pair, _proxy, mut one, mut other) = two();
    assert_eq!(one.cmd("WATCH k"), ok());
    assert_eq!(other.cmd("SET k theirs"), ok());
    one.send(&pipeline(&["MULTI", "SET k mine", "EXEC"]));
    assert_eq!([one.read(), one.read(), one.read()], [ok(), queued(), Value::Null]);
    assert_eq!(one.cmd("GET k"), Value::from("theirs"));
    one.cmd("WATCH k");
    one.send(&pipeline(&["MULTI", "SET k mine", "EXEC"]));
    assert_eq!([one.read(), one.read(), one.read()], [ok(), queued(), Value::Array(vec![ok()])]);
}

#[test]
fn what_belongs_to_one_connection_never_reaches_the_neighbours_on_a_lane() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", Options::default().arg("--workers", "1"));
    let (mut one, mut other) = (proxy.client(), proxy.client());
    for client in [&mut one, &mut other] {
        assert_eq!(client.cmd("SET k v"), ok(), "both ride the lane");
    }
    assert_eq!(one.cmd("MULTI"), ok());
    assert_eq!((one.cmd("GET k"), other.cmd("GET k")), (queued(), "v".into()));
    assert_eq!(one.cmd("EXEC").items(), ["v".into()]);
    let (mut one, mut another) = (proxy.client(), proxy.client());
    assert_eq!((one.cmd("GET k"), another.cmd("GET k")), ("v".into(), "v".into()));
    one.start("BLPOP list 0");
    another.start("SUBSCRIBE c");
    assert_eq!(another.read().items()[0], "subscribe".into());
    assert_eq!((other.cmd("PUBLISH c m"), other.cmd("RPUSH list x")), (1.into(), 1.into()));
    assert_eq!(one.read().items(), ["list".into(), "x".into()]);
    assert_eq!(another.read().items()[2], "m".into());
}

#[test]
fn published_messages_arrive_in_resp2_and_resp3() {
    let (_pair, proxy, mut one, mut other) = two();
    let mut third = proxy.client();
    third.cmd("HELLO 3");
    assert_eq!(one.cmd("SUBSCRIBE news"), Value::Array(vec!["subscribe".into(), "news".into(), 1.into()]));
    assert_eq!(one.cmd("PSUBSCRIBE n*"), Value::Array(vec!["psubscribe".into(), "n*".into(), 2.into()]));
    assert_eq!(third.cmd("SUBSCRIBE news"), Value::Push(vec!["subscribe".into(), "news".into(), 1.into()]));
    assert_eq!(other.cmd("PUBLISH news hello"), Value::from(3));
    assert_eq!(one.read(), Value::Array(vec!["message".into(), "news".into(), "hello".into()]));
    assert_eq!(one.read(), Value::Array(vec!["pmessage".into(), "n*".into(), "news".into(), "hello".into()]));
    assert_eq!(third.read(), Value::Push(vec!["message".into(), "news".into(), "hello".into()]));
    assert_eq!(third.cmd("PING"), Value::Simple("PONG".into()), "RESP3 takes commands meanwhile");
    assert_eq!(one.cmd("PING"), Value::Array(vec!["pong".into(), "".into()]));
    assert!(one.cmd("GET k").is_error("ERR Can't execute 'get'"));
    one.send(&pipeline(&["UNSUBSCRIBE", "PUNSUBSCRIBE", "PING"]));
    assert_eq!(one.read(), Value::Array(vec!["unsubscribe".into(), "news".into(), 1.into()]));
    assert_eq!(one.read(), Value::Array(vec!["punsubscribe".into(), "n*".into(), 0.into()]));
    assert_eq!(one.read(), Value::Simple("PONG".into()));
}

#[test]
fn a_blocked_client_waits_and_the_others_do_not() {
    let (_pair, _proxy, mut one, mut other) = two();
    one.start("BLPOP queue 0");
    one.expect_silence(200);
    for n in 1..100 {
        assert_eq!(other.cmd("INCR n"), Value::from(n));
    }
    other.cmd("RPUSH queue job");
    assert_eq!(one.read(), Value::Array(vec!["queue".into(), "job".into()]));
    assert_eq!(one.cmd("BLPOP queue 0.1"), Value::Null);
    one.send(&pipeline(&["XADD s 1-1 f v", "XREAD BLOCK 0 STREAMS s 0", "PING"]));
    assert_eq!(one.read(), Value::from("1-1"));
    assert!(matches!(one.read(), Value::Array(_)));
    assert_eq!(one.read(), Value::Simple("PONG".into()));
}

#[test]
fn wait_covers_the_clients_own_writes() {
    let (_pair, _proxy, mut one, _other) = two();
    for n in 1..=5 {
        assert_eq!(one.cmd("INCR n"), Value::from(n));
        assert_eq!(one.cmd("WAIT 1 2000"), Value::from(1));
    }
}

#[test]
fn invalidations_reach_the_client_that_tracks() {
    let (_pair, _proxy, mut one, mut other) = two();
    one.cmd("HELLO 3");
    other.cmd("SET k 1");
    assert_eq!(one.cmd("CLIENT TRACKING ON"), ok());
    assert_eq!(one.cmd("GET k"), Value::from("1"));
    other.cmd("SET k 2");
    assert_eq!(one.read(), Value::Push(vec!["invalidate".into(), Value::Array(vec!["k".into()])]));
    assert_eq!(one.cmd("GET k"), Value::from("2"));
    assert_eq!(one.cmd("CLIENT TRACKING OFF"), ok());
}

#[test]
fn replies_switched_off_stay_off_for_that_client_only() {
    let (_pair, _proxy, mut one, mut other) = two();
    one.send(&pipeline(&["CLIENT REPLY SKIP", "SET a 1", "PING"]));
    assert_eq!(one.read(), Value::Simple("PONG".into()));
    one.send(&pipeline(&["CLIENT REPLY OFF", "SET b 1", "INCR b"]));
    pause(200);
    assert_eq!(other.cmd("GET b"), Value::from("2"));
    one.send(&pipeline(&["GET b", "CLIENT REPLY ON", "ECHO back"]));
    assert_eq!([one.read(), one.read()], [ok(), Value::from("back")]);
}

#[test]
fn a_client_keeps_its_id_and_sees_itself() {
    let (_pair, _proxy, mut one, mut other) = two();
    let id = one.cmd("CLIENT ID");
    assert_eq!(one.cmd("CLIENT ID"), id);
    assert!(other.cmd("CLIENT ID") != id);
    assert!(one.cmd("CLIENT INFO").text().contains(&format!("id={} ", id.int())));
}

#[test]
fn monitor_shows_what_others_do() {
    let (_pair, _proxy, mut one, mut other) = two();
    assert_eq!(one.cmd("MONITOR"), ok());
    other.cmd("SET watched 1");
    while !one.read().text().contains("\"SET\" \"watched\"") {}
}

#[test]
fn a_scan_sees_every_key() {
    let (_pair, _proxy, mut one, _other) = two();
    for n in 0..1000 {
        one.start(&format!("SET key:{n} x"));
    }
    for _ in 0..1000 {
        assert_eq!(one.read(), ok());
    }
    let (mut cursor, mut keys) = ("0".to_owned(), std::collections::BTreeSet::new());
    loop {
        let reply = one.cmd(&format!("SCAN {cursor} COUNT 50"));
        keys.extend(reply.items()[1].items().iter().map(Value::text));
        cursor = reply.items()[0].text();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(keys.len(), 1000);
}

#[test]
fn quit_is_answered_before_the_connection_ends() {
    let (_pair, _proxy, mut one, mut other) = two();
    one.send(&pipeline(&["SET k 1", "QUIT"]));
    assert_eq!(one.read_to_end(), [ok(), ok()]);
    assert_eq!(other.cmd("GET k"), Value::from("1"));
}
