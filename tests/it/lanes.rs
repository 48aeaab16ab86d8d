//! Sessions that share a worker and a lane: balanced, and never at each other's mercy.

use std::time::Duration;

use crate::support::client::{encode, pipeline};
use crate::support::value::ok;
use crate::support::{Client, Options, Pair, Proxy, Value, now, wait_until};

/// All of its clients ride one lane.
fn one_lane() -> Options {
    Options::default().arg("--workers", "1").arg("--lanes", "on")
}

/// The value of a metric without labels.
fn gauge(proxy: &Proxy, name: &str) -> u64 {
    let (_, page) = proxy.http("/metrics");
    let line = page.lines().find_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with(' ')));
    line.expect("the metric is there").trim().parse().unwrap()
}

#[test]
fn four_connections_are_spread_over_four_workers() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", Options::default().arg("--workers", "4").arg("--lanes", "on"));
    let mut clients: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.cmd("SET k v"), ok());
    }
    // A worker has one lane, however many of its clients ride it: four lanes are four workers with a client each.
    assert_eq!(gauge(&proxy, "changeover_upstreams_open"), 4);
    // Two leave, two come: they take the places that have become free.
    drop(clients.split_off(2));
    wait_until("two are gone", Duration::from_secs(5), || gauge(&proxy, "changeover_connections_open") == 2);
    clients.extend((0..2).map(|_| proxy.client()));
    for (n, client) in (1..).zip(&mut clients) {
        assert_eq!(client.cmd("INCR n").int(), n);
    }
}

/// One round of what a well-behaved client does, every reply checked; how long the slowest reply took.
fn innocent(number: usize, client: &mut Client, rounds: usize) -> Duration {
    let mut longest = Duration::ZERO;
    for round in 0..rounds {
        let (key, value) = (format!("innocent:{number}"), format!("{number}.{round}"));
        let began = now();
        client.send(&pipeline(&[&format!("SET {key} {value}"), &format!("GET {key}"), &format!("ECHO {value}")]));
        let replies = [client.read(), client.read(), client.read()];
        longest = longest.max(now() - began);
        let bulk = Value::Bulk(value.clone().into_bytes());
        assert_eq!(replies, [ok(), bulk.clone(), bulk], "client {number}, round {round}");
    }
    longest
}

/// What a neighbour may do: ask for much and read nothing, stop in the middle of a command, talk nonsense, go without
/// waiting for its replies, change what a connection means.
fn misbehave(proxy: &Proxy, kept: &mut Vec<Client>) {
    let mut deaf = proxy.client();
    deaf.send(&encode(&[b"GET", b"large"]).repeat(40));
    let mut lazy = proxy.client();
    lazy.send(&encode(&[b"GET", b"small"]).repeat(2000));
    let mut half = proxy.client();
    half.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000\r\nabc");
    let mut garbled = proxy.client();
    garbled.send(b"*2\r\n$3\r\nGET\r\n$5\r\nsmall\r\n*2\r\n$3\r\nGET\r\n:5\r\n");
    let mut gone = proxy.client();
    gone.send(&encode(&[b"GET", b"small"]).repeat(500));
    drop(gone);
    let mut other = proxy.client();
    other.send(&pipeline(&["SELECT 3", "SET small other", "MULTI", "GET small", "CLIENT REPLY OFF", "EXEC"]));
    let mut failing = proxy.client();
    failing.send(&pipeline(&["INCR large", "NO.SUCH.COMMAND", "GET", "LPUSH small x"]).repeat(50));
    kept.extend([deaf, lazy, half, garbled, other, failing]);
}

#[test]
fn a_slow_or_hostile_neighbour_neither_delays_nor_corrupts_the_others_of_its_lane() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", one_lane());
    let mut first = proxy.client();
    assert_eq!(first.call(&[b"SET", b"large", &vec![b'x'; 1 << 20]]), ok());
    assert_eq!(first.call(&[b"SET", b"small", &[b'y'; 100]]), ok());
    let clients: Vec<Client> = (0..8).map(|_| proxy.client()).collect();
    let threads: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(number, mut client)| std::thread::spawn(move || innocent(number, &mut client, 400)))
        .collect();
    let mut kept = Vec::new();
    for _ in 0..5 {
        misbehave(&proxy, &mut kept);
    }
    for thread in threads {
        let longest = thread.join().expect("every reply was the right one");
        // Nobody of the neighbours ever reads: whoever waited for them would wait for ever.
        assert!(longest < Duration::from_secs(5), "{longest:?}");
    }
    // (Asked on the lane: the first client left it with its large value.)
    let mut after = proxy.client();
    assert_eq!(after.cmd("STRLEN small").int(), 100, "what was meant for another database stayed there");
    assert_eq!(kept.len(), 30);
}

/// MiB of the value below: 512 is what Redis takes; the default is what a test run has time for.
fn mebibytes() -> usize {
    std::env::var("CHANGEOVER_TEST_VALUE_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(96)
}

#[test]
fn a_huge_value_passes_in_bounded_memory() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", one_lane());
    let mut client = proxy.client();
    assert_eq!(client.cmd("SET k v"), ok());
    let before = proxy.process.memory_kib();
    let (mib, chunk) = (mebibytes(), vec![b'x'; 1 << 20]);
    let mut most = before;
    client.send(format!("*3\r\n$3\r\nSET\r\n$4\r\nhuge\r\n${}\r\n", mib << 20).as_bytes());
    for _ in 0..mib {
        client.send(&chunk);
        most = most.max(proxy.process.memory_kib());
    }
    client.send(b"\r\n");
    assert_eq!(client.read(), ok());
    let mut reader = proxy.client();
    reader.start("GET huge");
    // It waits in the server and in sockets while nobody reads it.
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(20));
        most = most.max(proxy.process.memory_kib());
    }
    assert!(matches!(reader.read(), Value::Bulk(value) if value.len() == mib << 20));
    most = most.max(proxy.process.memory_kib());
    let grown = most - before;
    assert!(grown < 48 * 1024, "{mib} MiB passed, and the proxy grew by {grown} KiB");
}
