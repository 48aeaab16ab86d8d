//! The primary is lost, frozen, doubled or nowhere: every command ends in a definite reply, nothing runs twice.

use std::time::Duration;

use crate::support::value::ok;
use crate::support::{ANYTHING, Options, Pair, Proxy, Value, now, pause, wait_until};

fn start(options: Options) -> (Pair, Proxy) {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", options.announce(ANYTHING));
    (pair, proxy)
}

#[test]
fn after_kill_9_and_a_promotion_writes_in_flight_are_unknown_and_reads_are_answered() {
    let (mut pair, proxy) = start(Options::default());
    let (mut writer, mut reader, mut idle) = (proxy.client(), proxy.client(), proxy.client());
    assert_eq!(writer.cmd("SET n 1"), ok());
    assert_eq!(writer.cmd("WAIT 1 2000"), Value::from(1));
    assert_eq!([reader.cmd("GET n"), idle.cmd("PING")], ["1".into(), Value::Simple("PONG".into())]);
    // In flight for certain: the server has stopped reading. It dies before it reads again.
    pair.a.signal("STOP");
    writer.start("INCR n");
    reader.start("GET n");
    pause(100);
    pair.a.kill();
    let unknown = writer.read();
    assert!(unknown.is_error("OUTCOMEUNKNOWN"), "{unknown:?}");
    writer.start("SET later 1");
    writer.expect_silence(300);
    assert_eq!(pair.b.cmd("REPLICAOF NO ONE"), ok());
    assert_eq!(reader.read(), Value::from("1"), "a read is asked again");
    assert_eq!(writer.read(), ok(), "what was sent while nobody was primary waited");
    assert_eq!(idle.cmd("GET n"), Value::from("1"));
    assert_eq!(writer.cmd("INCR n"), Value::from(2));
    assert_eq!(proxy.status()["last_changes"][0]["kind"], "unplanned");
}

#[test]
fn an_idle_subscriber_is_subscribed_again_at_once() {
    let (mut pair, proxy) = start(Options::default());
    let (mut hears, mut speaks) = (proxy.client(), proxy.client());
    hears.cmd("SUBSCRIBE news");
    assert_eq!(speaks.cmd("PUBLISH news one"), Value::from(1));
    assert_eq!(hears.read().items()[2], "one".into());
    pair.a.kill();
    assert_eq!(pair.b.cmd("REPLICAOF NO ONE"), ok());
    wait_until("the subscriber is back", Duration::from_secs(5), || speaks.cmd("PUBLISH news two") == Value::from(1));
    assert_eq!(hears.read().items()[2], "two".into());
}

#[test]
fn a_pipeline_in_flight_at_kill_9_gets_one_reply_for_each_command() {
    let (mut pair, proxy) = start(Options::default());
    let mut client = proxy.client();
    assert_eq!(client.cmd("SET k 1"), ok());
    assert_eq!(client.cmd("WAIT 1 2000"), Value::from(1));
    pair.a.signal("STOP");
    for command in ["GET k", "INCR n", "GET k", "INCR n"] {
        client.start(command);
    }
    pause(100);
    pair.a.kill();
    assert_eq!(pair.b.cmd("REPLICAOF NO ONE"), ok());
    let replies: Vec<Value> = (0..4).map(|_| client.read()).collect();
    assert_eq!([&replies[0], &replies[2]], [&"1".into(), &"1".into()], "{replies:?}");
    assert!(replies[1].is_error("OUTCOMEUNKNOWN") && replies[3].is_error("OUTCOMEUNKNOWN"), "{replies:?}");
    assert_eq!(client.cmd("INCR n"), Value::from(1), "neither was executed twice, nor on the new primary");
}

#[test]
fn a_late_reply_of_a_frozen_primary_is_never_delivered() {
    let (pair, proxy) = start(Options::default());
    let mut client = proxy.client();
    assert_eq!(client.cmd("SET n 10"), ok());
    assert_eq!(client.cmd("WAIT 1 2000"), Value::from(1));
    pair.a.signal("STOP");
    client.start("INCR n");
    pause(1500);
    assert_eq!(pair.b.cmd("REPLICAOF NO ONE"), ok());
    let unknown = client.read();
    assert!(unknown.is_error("OUTCOMEUNKNOWN"), "{unknown:?}");
    assert_eq!(client.cmd("SET n 20"), ok());
    pair.a.signal("CONT");
    // It now believes itself primary, and executes what lay in its sockets.
    pause(500);
    for n in 21..40 {
        assert_eq!(client.cmd("INCR n"), Value::from(n));
    }
    assert_eq!(pair.b.cmd("GET n").text(), "39");
    assert_eq!(proxy.primary().as_deref(), Some("b"));
}

#[test]
fn a_primary_that_was_frozen_for_a_moment_goes_on() {
    let (pair, proxy) = start(Options::default());
    let mut client = proxy.client();
    client.cmd("SET n 1");
    pair.a.signal("STOP");
    client.start("INCR other");
    pause(2500);
    pair.a.signal("CONT");
    assert_eq!(client.read(), Value::from(1), "nobody else was named, so its own reply counts");
    assert_eq!(client.cmd("GET n"), Value::from("1"));
    assert_eq!(client.cmd("INCR n"), Value::from(2));
    assert_eq!(proxy.primary().as_deref(), Some("a"));
}

#[test]
fn a_command_that_keeps_redis_busy_is_answered_and_takes_nothing_from_others() {
    let (_pair, proxy) = start(Options::default());
    let (mut busy, mut other, mut inside, mut hears) = (proxy.client(), proxy.client(), proxy.client(), proxy.client());
    assert_eq!([inside.cmd("MULTI"), inside.cmd("INCR n")], [ok(), Value::Simple("QUEUED".into())]);
    hears.cmd("SUBSCRIBE news");
    busy.start("DEBUG SLEEP 2.5");
    pause(100);
    other.start("INCR m");
    assert_eq!(busy.read(), ok());
    assert_eq!(other.read(), Value::from(1));
    assert_eq!(inside.cmd("EXEC"), Value::Array(vec![Value::from(1)]));
    assert_eq!(other.cmd("PUBLISH news one"), Value::from(1));
    assert_eq!(hears.read().items()[2], "one".into());
    assert_eq!(proxy.primary().as_deref(), Some("a"));
}

#[test]
fn of_two_primaries_the_successor_is_served_by_everyone() {
    let pair = Pair::start();
    let options = || Options::default().announce(ANYTHING);
    let proxies = [Proxy::with(&pair, "a", options()), Proxy::with(&pair, "b", options())];
    let mut clients = [proxies[0].client(), proxies[1].client()];
    for client in &mut clients {
        client.cmd("INCR n");
    }
    assert_eq!(pair.b.cmd("REPLICAOF NO ONE"), ok());
    for proxy in &proxies {
        wait_until("the successor is named", Duration::from_secs(10), || proxy.primary().as_deref() == Some("b"));
    }
    let before = pair.a.cmd("GET n").text();
    for client in &mut clients {
        for _ in 0..50 {
            let reply = client.cmd("INCR n");
            assert!(matches!(reply, Value::Int(_)), "{reply:?}");
        }
    }
    assert_eq!(pair.a.cmd("GET n").text(), before, "the old primary got nothing more");
    assert_eq!(pair.b.cmd("GET n").text(), "102");
}

#[test]
fn without_any_node_requests_are_held_and_then_refused_with_loading() {
    let (mut pair, proxy) = start(Options::default().arg("--hold-time", "1s"));
    let mut client = proxy.client();
    client.cmd("SET n 1");
    pair.b.kill();
    pair.a.kill();
    pause(200);
    let began = now();
    let reply = client.cmd("GET n");
    assert!(reply.is_error("LOADING"), "{reply:?}");
    assert!(began.elapsed() >= Duration::from_millis(500), "it was not held: {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(client.cmd("SET n 2").is_error("LOADING"), "the connection stays open");
    assert_eq!(proxy.http("/livez").0, 200);
    assert_eq!(proxy.http("/readyz").0, 503);
}

#[test]
fn a_proxy_that_starts_before_its_nodes_serves_when_they_come() {
    let mut pair = Pair::start();
    pair.b.kill();
    pair.a.kill();
    let proxy = Proxy::with(&pair, "a", Options::default().announce(ANYTHING));
    let mut client = proxy.client();
    client.start("INCR n");
    client.expect_silence(300);
    pair.boot_a(false);
    assert_eq!(client.read(), Value::from(1));
}

#[test]
fn a_replica_that_dies_is_not_noticed() {
    let (mut pair, proxy) = start(Options::default());
    let mut client = proxy.client();
    for n in 1..=100 {
        if n == 50 {
            pair.b.kill();
        }
        assert_eq!(client.cmd("INCR n"), Value::from(n));
        pause(5);
    }
}
