//! A client that reads slowly, or sends half, or keeps much, pays for it alone.

use std::time::Duration;

use crate::support::client::encode;
use crate::support::value::ok;
use crate::support::{Options, Pair, Proxy, pause, wait_until};

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
