//! How each kind of client is let go by a drain, and how a drained process comes back.

use std::time::Duration;

use crate::support::value::ok;
use crate::support::{Client, Options, Pair, Proxy, Value, now, pause, wait_until};

/// A client that calls itself so. (A server before 7.2 does not know the word; the proxy has heard it all the same.)
fn named(proxy: &Proxy, library: &str) -> Client {
    let mut client = proxy.client();
    let reply = client.cmd(&format!("CLIENT SETINFO LIB-NAME {library}"));
    assert!(reply == ok() || reply.is_error("ERR unknown subcommand"), "{reply:?}");
    client
}

fn quick(deadline: &str) -> Options {
    Options::default().arg("--drain-spread", "0s").arg("--drain-deadline", deadline)
}

fn drain(proxy: &Proxy, words: &str) -> serde_json::Value {
    let out = proxy.operate(format!("drain --json {words}").trim_end());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn end(mut proxy: Proxy) {
    proxy.process.signal("TERM");
    assert!(proxy.process.end(Duration::from_secs(10)).success());
}

#[test]
fn readiness_falls_first_and_everybody_is_served_meanwhile() {
    let pair = Pair::start();
    let options = Options::default().arg("--drain-notice", "1h").arg("--drain-spread", "0s");
    let proxy = Proxy::with(&pair, "a", options);
    let mut old = proxy.client();
    old.cmd("SET k 1");
    assert!(proxy.operate("drain --no-wait").status.success());
    assert_eq!(proxy.http("/readyz").0, 503);
    // Longer than a client that comes during a drain may stay.
    let mut new = proxy.client();
    for _ in 0..30 {
        assert_eq!(old.cmd("GET k"), Value::from("1"));
        assert_eq!(new.cmd("GET k"), Value::from("1"), "a new client is served as well");
        assert_eq!(proxy.client().cmd("GET k"), Value::from("1"), "and the next one");
        pause(100);
    }
    assert!(proxy.operate("undrain").status.success());
    wait_until("it is ready again", Duration::from_secs(5), || proxy.http("/readyz").0 == 200);
    assert_eq!(old.cmd("GET k"), Value::from("1"));
}

#[test]
fn after_the_notice_the_drain_goes_on_by_itself() {
    let pair = Pair::start();
    let options = Options::default().arg("--drain-notice", "500ms").arg("--drain-spread", "0s");
    let mut proxy = Proxy::with(&pair, "a", options);
    let mut client = proxy.client();
    client.cmd("PING");
    let began = now();
    proxy.process.signal("TERM");
    assert!(client.read_to_end().is_empty());
    assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
    assert!(proxy.process.end(Duration::from_secs(20)).success());
}

#[test]
fn a_drained_process_stays_and_serves_again() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", quick("10s"));
    for round in 0..2 {
        let mut client = proxy.client();
        assert_eq!(client.cmd("SET k 1"), ok());
        wait_until("ready", Duration::from_secs(5), || proxy.http("/readyz").0 == 200);
        let told = drain(&proxy, "");
        assert_eq!((told["closed"].as_u64(), told["cut"].as_u64()), (Some(1), Some(0)), "{told}");
        assert_eq!((told["done"].as_bool(), told["stops"].as_bool()), (Some(true), Some(false)), "{told}");
        assert!(client.read_to_end().is_empty());
        assert_eq!(proxy.http("/readyz").0, 503, "round {round}");
        assert!(std::net::TcpStream::connect(proxy.at).is_err(), "the listener is closed");
        let page = String::from_utf8_lossy(&proxy.operate("status").stdout).into_owned();
        assert!(page.contains("drained: no clients are taken"), "{page}");
        let out = proxy.operate("undrain");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(proxy.client().cmd("GET k"), Value::from("1"));
        assert_eq!(proxy.http("/readyz").0, 200);
    }
    assert_eq!(proxy.operate("undrain").status.code(), Some(1), "nothing is drained");
    drain(&proxy, "");
    end(proxy);
}

#[test]
fn a_drain_can_be_taken_back_half_way() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", Options::default().arg("--drain-spread", "2s"));
    let (mut idle, mut busy) = (proxy.client(), proxy.client());
    assert_eq!((idle.cmd("PING"), busy.cmd("MULTI")), (Value::Simple("PONG".into()), ok()));
    drain(&proxy, "--no-wait");
    assert!(idle.read_to_end().is_empty());
    assert_eq!(proxy.client().cmd("GET k"), Value::Null, "as long as connections are closed, one is still taken");
    assert!(proxy.operate("undrain").status.success());
    pause(300);
    assert_eq!(busy.cmd("SET k 1"), Value::Simple("QUEUED".into()));
    assert_eq!(busy.cmd("EXEC"), Value::Array(vec![ok()]));
    pause(500);
    assert_eq!(busy.cmd("GET k"), Value::from("1"), "nobody is sent away any more");
    assert_eq!(proxy.client().cmd("GET k"), Value::from("1"));
}

#[test]
fn a_blocked_pop_is_let_go_and_no_element_is_lost() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", quick("3s"));
    let mut blocked: Vec<Client> = (0..20).map(|_| named(&proxy, "redis-py")).collect();
    for client in &mut blocked {
        client.start("BLPOP q 0");
    }
    pause(200);
    drain(&proxy, "--no-wait");
    let mut pushed = 0_u64;
    let until = now() + Duration::from_secs(4);
    while now() < until {
        pair.a.cmd("RPUSH q x");
        pushed += 1;
        // About as many as there are clients, spread over the drain.
        pause(200);
    }
    let element = Value::Array(vec!["q".into(), "x".into()]);
    let mut popped = 0_u64;
    for client in &mut blocked {
        let said = client.read_to_end();
        assert!(said.is_empty() || said == vec![element.clone()], "{said:?}");
        popped += said.len() as u64;
    }
    let left: u64 = pair.a.cmd("LLEN q").text().parse().unwrap();
    assert_eq!(popped + left, pushed);
    assert!(popped > 0 && left > 0, "some were served, some were let go: {popped} and {left}");
    let told = proxy.status()["drain"].clone();
    assert_eq!((told["closed"].as_u64(), told["cut"].as_u64()), (Some(20), Some(0)), "{told}");
    end(proxy);
}

#[test]
fn a_block_with_a_time_limit_ends_as_if_it_had_passed() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", quick("3s"));
    let (mut long, mut short) = (proxy.client(), proxy.client());
    long.start("BLPOP q 60");
    short.start("BLPOP q 0.5");
    pause(100);
    let began = now();
    let told = drain(&proxy, "");
    assert!(began.elapsed() < Duration::from_secs(3), "before the deadline: {told}");
    for client in [&mut long, &mut short] {
        assert_eq!(client.read_to_end(), [Value::Null], "{told}");
    }
    assert_eq!((told["closed"].as_u64(), told["cut"].as_u64()), (Some(2), Some(0)), "{told}");
    end(proxy);
}

#[test]
fn what_was_cut_is_told_with_its_reason_and_everything_owed_has_an_answer() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", quick("1s").announce("cut at"));
    let (mut open, mut owed, mut blocked) = (named(&proxy, "lettuce"), proxy.client(), named(&proxy, "jedis"));
    assert_eq!(open.cmd("MULTI"), ok());
    blocked.start("BLPOP q 0");
    pause(100);
    pair.a.cmd("CLIENT PAUSE 3000 WRITE");
    owed.start("INCR n");
    pause(100);
    let told = drain(&proxy, "");
    let said = owed.read_to_end();
    assert!(said.iter().any(|value| value.text().starts_with("OUTCOMEUNKNOWN")), "{said:?}");
    assert!(open.read_to_end().is_empty() && blocked.read_to_end().is_empty());
    assert_eq!(told["cut"].as_u64(), Some(3), "{told}");
    let cuts = told["cuts"].as_array().unwrap();
    let has = |why: &str, library: &str| {
        cuts.iter().any(|cut| cut["why"] == why && cut["library"] == library && cut["count"] == 1)
    };
    assert!(has("transaction", "lettuce") && has("owed", "unknown") && has("blocked", "jedis"), "{told}");
    let metrics = proxy.http("/metrics").1;
    assert!(metrics.contains("changeover_drain_cuts_total{why=\"transaction\"} 1"), "{metrics}");
    end(proxy);
}

#[test]
fn a_pool_that_tests_its_connections_finds_them_closed_by_the_test() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", quick("20s"));
    let (mut jedis, mut other) = (named(&proxy, "jedis"), named(&proxy, "redis-py"));
    drain(&proxy, "--no-wait");
    assert!(other.read_to_end().is_empty());
    pause(500);
    // It still serves, because its application would see the end of the connection.
    assert_eq!(jedis.cmd("SET k 1"), ok());
    jedis.start("PING");
    assert!(jedis.read_to_end().is_empty(), "the PING of the pool's test is what fails");
    end(proxy);
}

#[test]
fn of_a_pool_that_cannot_look_three_connections_are_closed_at_a_time() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", quick("6s").arg("--workers", "2"));
    let mut pool: Vec<Client> = (0..8).map(|_| named(&proxy, "go-redis(,go1.25)")).collect();
    drain(&proxy, "--no-wait");
    pause(500);
    let mut closed = Vec::new();
    for (number, client) in pool.iter_mut().enumerate() {
        // Each is served; whether it is closed behind the reply is seen by silence or its end.
        assert_eq!(client.cmd("INCR n").int(), number as i64 + 1, "idle connections were left open");
        if client.is_closed(100) {
            closed.push(number);
        }
    }
    assert_eq!(closed, [0, 1, 2]);
    // The pool has noticed one, and drops it: the next may be closed.
    pool.remove(0);
    pause(200);
    pool[4].cmd("INCR n");
    assert!(pool[4].is_closed(1000));
    drop(pool);
    end(proxy);
}

/// Sends, waits, and looks whether the connection has ended before it sends again; an end while it waits is an error.
fn strict(proxy: &Proxy, library: &str, pause_ms: u64) -> std::thread::JoinHandle<Result<u64, String>> {
    let (mut client, key) = (named(proxy, library), format!("strict:{library}"));
    std::thread::spawn(move || {
        for count in 1.. {
            match client.try_cmd(&format!("INCR {key}")) {
                Ok(value) if value.int() == count as i64 => {}
                other => return Err(format!("{key}: {other:?} after {count}")),
            }
            if client.is_closed(pause_ms) {
                return Ok(count);
            }
        }
        unreachable!()
    })
}

#[test]
fn a_client_that_takes_an_end_for_an_error_only_while_it_waits_sees_none() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", Options::default().arg("--drain-spread", "1s"));
    let pauses = [1, 7, 25, 60, 400];
    let libraries = ["hiredis", "node-redis", "ioredis", "SE.Redis", "lettuce"];
    let clients: Vec<_> =
        libraries.iter().flat_map(|library| pauses.map(|pause| (library, pause))).enumerate().collect();
    let clients: Vec<_> =
        clients.into_iter().map(|(n, (library, pause))| strict(&proxy, &format!("{library}-{n}"), pause)).collect();
    pause(500);
    let told = drain(&proxy, "");
    for client in clients {
        let count = client.join().unwrap().unwrap_or_else(|error| panic!("{error}: {told}"));
        assert!(count > 0);
    }
    assert_eq!((told["closed"].as_u64(), told["cut"].as_u64()), (Some(25), Some(0)), "{told}");
    end(proxy);
}
