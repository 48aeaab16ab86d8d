//! A client that reads slowly, or sends half, or keeps much, pays for it alone.

use std::time::Duration;

use crate::support::client::encode;
use crate::support::value::ok;
use crate::support::{Options, Pair, Proxy, Value, pause, wait_until};

#[test]
fn a_large_command_that_stays_half_sent_stops_no_switchover() {
    let pair = Pair::start();
    let proxies = [Proxy::with(&pair, "a", Options::default()), Proxy::with(&pair, "b", Options::default())];
    let mut stuck = proxies[0].client();
    let whole = encode(&[b"SET", b"k", &vec![b'x'; 5_000_000]]);
    stuck.send(&whole[..2_000_000]);
    pause(600);
    let out = proxies[0].operate("switchover --to b --timeout 10s");
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    pair.wait_primary_b();
    // It comes to its end, and is told that it was not executed.
    stuck.send(&whole[2_000_000..]);
    let reply = stuck.read();
    assert!(reply.is_error("LOADING"), "{reply:?}");
    assert_eq!(stuck.cmd("EXISTS k").int(), 0);
}

#[test]
fn a_subscriber_that_the_server_ends_for_its_slowness_is_closed_and_misses_nothing_silently() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    let mut direct = pair.direct();
    assert_eq!(direct.call(&[b"CONFIG", b"SET", b"client-output-buffer-limit", b"pubsub 4mb 0 0"]), ok());
    for subscribe in ["SUBSCRIBE news", "PSUBSCRIBE n*"] {
        let mut slow = proxy.client();
        slow.cmd(subscribe);
        let text = vec![b'x'; 40_000];
        let mut said = 0_u64;
        wait_until("the server has ended it", Duration::from_secs(20), || {
            (0..40).any(|_| {
                said += 1;
                let message = [format!("{said:08}:").as_bytes(), &text].concat();
                direct.call(&[b"PUBLISH", b"news", &message]).int() == 0
            })
        });
        let heard = slow.read_to_end();
        let numbers: Vec<u64> = heard
            .iter()
            .map(|message| message.items().last().map(|text| text.text()[..8].parse().unwrap()).unwrap())
            .collect();
        let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, expected, "from the first on, without a gap, until the end");
    }
    let metrics = proxy.http("/metrics").1;
    assert!(metrics.contains("changeover_connections_closed_total{reason=\"server\"} 2"), "{metrics}");
}

#[test]
fn a_subscriber_whose_connection_alone_is_killed_is_closed_as_by_redis() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    let mut hears = proxy.client();
    hears.cmd("SUBSCRIBE news");
    wait_until("it is known to the server", Duration::from_secs(5), || pair.a.cmd("PUBLISH news x").int() == 1);
    assert_eq!(hears.read().items()[2], "x".into());
    // The proxies' own subscriptions end as well, and come back.
    pair.a.cmd("CLIENT KILL TYPE pubsub");
    assert!(hears.is_closed(5000));
}

#[test]
fn clients_that_do_not_read_cost_their_neighbours_nothing() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", Options::default().arg("--keep-bytes", "16MiB").arg("--workers", "1"));
    let mut first = proxy.client();
    assert_eq!(first.call(&[b"SET", b"large", &vec![b'x'; 12_000_000]]), ok());
    let deaf: Vec<_> = (0..4)
        .map(|_| {
            let mut client = proxy.client();
            client.cmd("CLIENT ID");
            client.send(&encode(&[b"GET", b"large"]).repeat(3));
            client
        })
        .collect();
    let kept = || {
        let metrics = proxy.http("/metrics").1;
        let line = metrics
            .lines()
            .find(|line| {
                line.starts_with("changeover_traffic_bytes_total") && line.contains("redis") && line.contains("\"in\"")
            })
            .unwrap()
            .to_owned();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    wait_until("much is kept", Duration::from_secs(10), || kept() > 20_000_000.0);
    // 47 KB of names, and a tracking client with 300 prefixes, are commands as others.
    let names: Vec<String> = (0..400).map(|at| format!("channel:{at:04}:{}", "x".repeat(100))).collect();
    let words: Vec<&[u8]> =
        ["SUBSCRIBE"].into_iter().chain(names.iter().map(String::as_str)).map(str::as_bytes).collect();
    let mut hears = proxy.client();
    hears.send(&encode(&words));
    for _ in &names {
        assert_eq!(hears.read().items()[0], "subscribe".into());
    }
    assert_eq!(first.cmd(&format!("PUBLISH {} hello", names[7])).int(), 1);
    assert_eq!(hears.read().items()[2], "hello".into());
    drop(deaf);
}

/// Neighbours write and read on one lane until they are told to stop; says how many operations that were.
fn neighbours<T>(proxy: &Proxy, greedy: impl FnOnce() -> T) -> (T, u64) {
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let (mut client, stop) = (proxy.client(), &stop);
                scope.spawn(move || {
                    let mut count = 0;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        count += 1;
                        assert_eq!(client.cmd(&format!("INCR n{number}")), Value::from(count), "a neighbour");
                    }
                    u64::try_from(count).unwrap()
                })
            })
            .collect();
        pause(500);
        let result = greedy();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        (result, threads.into_iter().map(|thread| thread.join().unwrap()).sum())
    })
}

/// A limit of the server is reached by one client on purpose.
fn limited(setting: &str, value: &str, options: Options) {
    let pair = Pair::start();
    let mut direct = pair.direct();
    assert_eq!(direct.call(&[b"SET", b"large", &vec![b'x'; 20_000_000]]), ok());
    assert_eq!(direct.call(&[b"CONFIG", b"SET", setting.as_bytes(), value.as_bytes()]), ok());
    let proxy = Proxy::with(&pair, "a", options.arg("--workers", "1"));
    let connections = || {
        let info = pair.a.cmd("INFO stats").text();
        let line = info.lines().find_map(|line| line.strip_prefix("total_connections_received:")).unwrap().to_owned();
        line.parse::<u64>().unwrap()
    };
    let (asked, operations) = neighbours(&proxy, || {
        let before = connections();
        let mut greedy = proxy.client();
        greedy.start("GET large");
        assert!(greedy.is_closed(10_000), "the greedy client is closed, as by Redis");
        pause(300);
        connections() - before
    });
    assert!(asked < 12, "asked again and again: {asked} connections");
    assert!(operations > 10);
    // What it had not been sent yet, or the rest of it.
    let metrics = proxy.http("/metrics").1;
    let counted = |reason| metrics.contains(&format!("changeover_connections_closed_total{{reason=\"{reason}\"}} 1"));
    assert!(counted("server") || counted("half_reply"), "{metrics}");
}

#[test]
fn an_output_limit_of_the_server_closes_the_greedy_client_only() {
    limited("client-output-buffer-limit", "normal 1mb 0 0", Options::default());
    limited("client-output-buffer-limit", "normal 1mb 0 0", Options::default().arg("--lanes", "off"));
}

#[test]
fn client_eviction_closes_the_greedy_client_only() {
    limited("maxmemory-clients", "10mb", Options::default());
}

#[test]
fn a_client_that_reads_large_replies_late_gets_all_of_them_and_its_neighbours_do_not_wait() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", Options::default().arg("--workers", "1"));
    let mut first = proxy.client();
    for (count, size) in [(120, 1_000_000), (300, 250_000), (2000, 30_000)] {
        assert_eq!(first.call(&[b"SET", b"large", &vec![b'x'; size]]), ok());
        let (mut late, _) = neighbours(&proxy, || {
            let mut late = proxy.client();
            late.send(&encode(&[b"GET", b"large"]).repeat(count));
            pause(1000);
            late
        });
        (0..4).for_each(|number| drop(first.cmd(&format!("DEL n{number}"))));
        for _ in 0..count {
            assert_eq!(late.read(), Value::Bulk(vec![b'x'; size]));
        }
    }
}
