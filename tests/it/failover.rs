//! `--failover pair`: the primary dies and nobody is there to help; what comes back is not believed and becomes a replica.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::value::ok;
use crate::support::{ANYTHING, Client, Options, Pair, PairOptions, Proxy, Value, now, pause, wait_until};

fn options() -> Options {
    Options::default().arg("--failover", "pair").announce(ANYTHING)
}

fn start(pair: &Pair) -> [Proxy; 2] {
    let proxies = [Proxy::with(pair, "a", options()), Proxy::with(pair, "b", options())];
    for proxy in &proxies {
        wait_until("the other proxy is heard", Duration::from_secs(10), || {
            proxy.status()["peers"].as_array().is_some_and(|peers| peers.len() == 1)
        });
    }
    in_step(pair);
    // They look around for half a second before they act.
    pause(700);
    proxies
}

/// The replica has everything. (After a full synchronisation it gets nothing before its next acknowledgement.)
fn in_step(pair: &Pair) {
    let offset = |redis: &crate::support::redis::Redis| {
        let info = redis.try_cmd("INFO replication").map(|value| value.text()).unwrap_or_default();
        info.lines().find_map(|line| line.strip_prefix("master_repl_offset:").map(str::to_owned))
    };
    wait_until("the replica has everything", Duration::from_secs(15), || {
        let offsets = (offset(&pair.a), offset(&pair.b));
        offsets.0.is_some() && offsets.0 == offsets.1
    });
}

/// Increments a counter of its own until told to stop. Every acknowledged number must be new, and no command may
/// count twice: the counter never runs ahead of what was sent.
fn count(mut client: Client, key: String, stop: Arc<AtomicBool>) -> JoinHandle<Counted> {
    std::thread::spawn(move || {
        let mut counted = Counted::default();
        let mut told = 0;
        let mut unknown = 0;
        while !stop.load(Ordering::Relaxed) {
            let sent = now();
            match client.cmd(&format!("INCR {key}")) {
                Value::Int(n) if n > told && n <= told + 1 + unknown => (told, unknown) = (n, 0),
                Value::Int(n) => counted.wrong.push(format!("{key}: {n} after {told}, {unknown} unknown")),
                reply if reply.is_error("OUTCOMEUNKNOWN") => {
                    unknown += 1;
                    counted.unknown += 1;
                }
                reply => counted.wrong.push(format!("{key}: {reply:?}")),
            }
            counted.commands += 1;
            counted.longest = counted.longest.max(sent.elapsed());
            pause(1);
        }
        counted
    })
}

#[derive(Debug, Default)]
struct Counted {
    commands: u64,
    unknown: u64,
    longest: Duration,
    wrong: Vec<String>,
}

/// Under load: kills the primary, waits for the other one, and says what the clients saw.
fn kill_under_load(pair: &mut Pair, proxies: &[Proxy]) -> Counted {
    let stop = Arc::new(AtomicBool::new(false));
    let counters: Vec<_> =
        (0..8).map(|n| count(proxies[n % proxies.len()].client(), format!("n:{n}"), Arc::clone(&stop))).collect();
    pause(500);
    pair.a.kill();
    pause(1500);
    stop.store(true, Ordering::Relaxed);
    let mut all = Counted::default();
    for counter in counters {
        let one = counter.join().expect("a counting client");
        all.commands += one.commands;
        all.unknown += one.unknown;
        all.longest = all.longest.max(one.longest);
        all.wrong.extend(one.wrong);
    }
    assert!(all.commands > 500 && all.wrong.is_empty(), "{all:?}");
    // A dying process closes one connection after the other, so a client may meet more than one of them.
    assert!(all.unknown <= 24, "hardly more than what was in flight: {all:?}");
    assert!(all.longest < Duration::from_secs(1), "{all:?}");
    assert!(pair.b.is_primary());
    all
}

#[test]
fn after_kill_9_writes_work_again_within_a_second_and_an_empty_old_primary_becomes_a_replica() {
    let mut pair = Pair::start();
    let proxies = start(&pair);
    let seen = kill_under_load(&mut pair, &proxies);
    println!("kill -9 under load, both proxies: {seen:?}");
    assert_eq!(proxies[1].status()["last_changes"][0]["kind"], "unplanned");
    // It comes back empty, as a primary. Nobody ever asks it anything.
    let mut client = proxies[0].client();
    assert_eq!(client.cmd("SET after 1"), ok());
    pair.boot_a(false);
    for _ in 0..200 {
        assert_eq!(client.cmd("GET after"), Value::from("1"));
        pause(5);
    }
    pair.wait_primary_b();
    in_step(&pair);
    assert_eq!(pair.a.cmd("GET after").text(), "1");
    for proxy in &proxies {
        assert_eq!(proxy.primary().as_deref(), Some("b"));
    }
    // The other node dies in turn.
    pause(700);
    pair.b.kill();
    let began = now();
    assert_eq!(client.cmd("SET after 2"), ok());
    println!("and back: {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(pair.a.is_primary());
}

#[test]
fn without_the_proxy_of_the_dead_node_it_takes_a_little_longer() {
    let mut pair = Pair::start();
    let [a, b] = start(&pair);
    drop(a);
    pause(200);
    let seen = kill_under_load(&mut pair, &[b]);
    println!("kill -9 under load, one proxy: {seen:?}");
}

#[test]
fn with_passwords_and_a_fence_it_works_as_well() {
    let mut pair = Pair::with(&PairOptions { password: Some("secret"), ..PairOptions::default() });
    for redis in [&pair.a, &pair.b] {
        assert_eq!(redis.cmd("CONFIG SET min-replicas-to-write 1"), ok());
    }
    let proxies = start(&pair);
    let mut client = proxies[0].client();
    assert_eq!(client.cmd("AUTH secret"), ok());
    assert_eq!(client.cmd("SET k 1"), ok());
    in_step(&pair);
    pair.a.kill();
    let began = now();
    let reply = client.cmd("SET k 2");
    assert!(reply == ok() || reply.is_error("OUTCOMEUNKNOWN"), "{reply:?}");
    assert_eq!(client.cmd("SET k 3"), ok());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    pair.boot_a(false);
    pair.wait_primary_b();
    wait_until(
        "the fence is back",
        Duration::from_secs(10),
        || matches!(pair.b.cmd("CONFIG GET min-replicas-to-write"), Value::Array(pair) if pair[1].text() == "1"),
    );
}

#[test]
fn a_proxy_that_is_killed_with_its_node_finds_the_new_primary_when_it_returns() {
    let mut pair = Pair::start();
    let [mut a, b] = start(&pair);
    let mut client = b.client();
    assert_eq!(client.cmd("SET k 1"), ok());
    in_step(&pair);
    let state = a.state.clone();
    a.process.kill();
    pair.a.kill();
    assert_eq!(client.cmd("SET k 2"), ok());
    pair.boot_a(false);
    let again = Proxy::with(&pair, "a", Options { state: Some(state), ..options() });
    wait_until("b is served", Duration::from_secs(5), || again.primary().as_deref() == Some("b"));
    assert_eq!(again.client().cmd("GET k"), Value::from("2"));
    pair.wait_primary_b();
}

#[test]
fn a_proxy_that_was_frozen_while_the_primary_died_looks_again_and_then_promotes() {
    let mut pair = Pair::start();
    let proxies = start(&pair);
    assert_eq!(proxies[0].client().cmd("SET k 1"), ok());
    in_step(&pair);
    proxies[1].process.signal("STOP");
    pair.a.kill();
    pause(2500);
    assert!(!pair.b.is_primary(), "nobody else promotes it");
    proxies[1].process.signal("CONT");
    let began = now();
    assert_eq!(proxies[0].client().cmd("SET k 2"), ok());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(pair.b.is_primary());
}

#[test]
fn without_the_mode_nobody_is_promoted() {
    let mut pair = Pair::start();
    let proxy = Proxy::with(&pair, "b", Options::default().announce(ANYTHING));
    proxy.client().cmd("SET k 1");
    pair.a.kill();
    pause(1500);
    assert!(!pair.b.is_primary());
    assert_eq!(pair.b.cmd("REPLICAOF NO ONE"), ok());
}
