//! What is tied to its connection survives a change of primary: subscriptions, blocked commands, transactions, cursors.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::client::{encode, pipeline};
use crate::support::value::ok;
use crate::support::{Client, Options, Pair, Proxy, Value, now, pause, wait_until};

fn both(pair: &Pair) -> [Proxy; 2] {
    [Proxy::with(pair, "a", Options::default()), Proxy::with(pair, "b", Options::default())]
}

fn switch(proxy: &Proxy, to: &str) {
    let out = proxy.operate(&format!("switchover --to {to} --timeout 10s"));
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
}

/// Numbers that a subscriber heard, until it hears "end".
fn listen(mut client: Client) -> std::thread::JoinHandle<Vec<u64>> {
    std::thread::spawn(move || {
        let mut heard = Vec::new();
        loop {
            let message = client.read();
            let text = message.items().last().unwrap().text();
            match text.as_str() {
                "end" => return heard,
                number => heard.push(number.parse().unwrap()),
            }
        }
    })
}

/// Publishes 0, 1, 2 … in small batches through one client until told to stop; returns how many there were.
fn publish(mut client: Client, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let (mut next, began) = (0_u64, now());
        while !stop.load(Ordering::Relaxed) {
            let batch: Vec<String> = (next..next + 20).map(|number| format!("PUBLISH news {number}")).collect();
            client.send(&pipeline(&batch.iter().map(String::as_str).collect::<Vec<_>>()));
            for _ in 0..20 {
                client.read().int();
            }
            next += 20;
            // About 10,000 messages a second.
            let due = Duration::from_micros(next * 100);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        assert!(client.cmd("PUBLISH news end").int() >= 0);
        next
    })
}

fn subscribers(proxies: &[Proxy; 2]) -> Vec<std::thread::JoinHandle<Vec<u64>>> {
    let mut all = Vec::new();
    for proxy in proxies {
        for (resp3, subscribe) in
            [(false, "SUBSCRIBE news"), (true, "SUBSCRIBE news other"), (false, "PSUBSCRIBE ne?s")]
        {
            let mut client = proxy.client();
            if resp3 {
                client.cmd("HELLO 3");
            }
            client.start(subscribe);
            for _ in 1..subscribe.split(' ').count() {
                client.read();
            }
            all.push(listen(client));
        }
    }
    all
}

#[test]
fn subscribers_miss_double_and_reorder_nothing_in_announced_switchovers() {
    let pair = Pair::start();
    let proxies = both(&pair);
    let listeners = subscribers(&proxies);
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = publish(proxies[1].client(), Arc::clone(&stop));
    for to in ["b", "a", "b", "a"] {
        pause(300);
        switch(&proxies[0], to);
        if to == "a" { pair.wait_primary_a() } else { pair.wait_primary_b() }
    }
    pause(500);
    stop.store(true, Ordering::Relaxed);
    let count = publisher.join().unwrap();
    let all: Vec<u64> = (0..count).collect();
    for (number, listener) in listeners.into_iter().enumerate() {
        let heard = listener.join().unwrap();
        assert!(heard == all, "listener {number}: heard {} of {count}", heard.len());
    }
    assert!(count > 100, "only {count} messages were published");
}

#[test]
fn subscribers_hear_nothing_twice_or_out_of_order_in_bare_failovers() {
    let pair = Pair::start();
    let proxies = both(&pair);
    let listeners = subscribers(&proxies);
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = publish(proxies[0].client(), Arc::clone(&stop));
    pause(300);
    assert_eq!(pair.a.cmd("FAILOVER"), ok());
    pair.wait_primary_b();
    pause(300);
    assert_eq!(pair.b.cmd("FAILOVER"), ok());
    pair.wait_primary_a();
    pause(1500);
    stop.store(true, Ordering::Relaxed);
    let count = publisher.join().unwrap();
    for listener in listeners {
        let heard = listener.join().unwrap();
        assert!(heard.is_sorted_by(|one, two| one < two), "in order, and each once");
        // A PUBLISH that a demoted node ran reaches its own subscribers only: announced switchovers have no such gap.
        assert!(count - heard.len() as u64 <= 200, "heard {} of {count}", heard.len());
    }
}

#[test]
fn a_blocked_client_is_served_by_the_next_primary_and_waits_no_longer_than_it_wanted() {
    let pair = Pair::start();
    let proxies = both(&pair);
    let (mut waits, mut gives_up) = (proxies[0].client(), proxies[1].client());
    waits.start("BLPOP queue 20");
    let began = now();
    gives_up.start("BLPOP nothing 2");
    pause(300);
    switch(&proxies[0], "b");
    pair.wait_primary_b();
    assert_eq!(proxies[1].client().cmd("RPUSH queue job"), Value::from(1));
    assert_eq!(waits.read(), Value::Array(vec![Value::from("queue"), Value::from("job")]));
    assert_eq!(gives_up.read(), Value::Null);
    let waited = began.elapsed();
    assert!(waited > Duration::from_millis(1900) && waited < Duration::from_millis(2900), "{waited:?}");
    assert_eq!(waits.cmd("LLEN queue"), Value::from(0));
}

#[test]
fn an_open_transaction_completes_and_a_watch_fails_it_as_if_the_key_had_changed() {
    let pair = Pair::start();
    let proxies = both(&pair);
    let (mut plain, mut watching) = (proxies[0].client(), proxies[1].client());
    assert_eq!(plain.cmd("MULTI"), ok());
    assert_eq!(plain.cmd("SET one 1").text(), "QUEUED");
    assert_eq!(watching.cmd("WATCH two"), ok());
    assert_eq!(watching.cmd("GET two"), Value::Null);
    switch(&proxies[0], "b");
    pair.wait_primary_b();
    assert_eq!(plain.cmd("INCR one").text(), "QUEUED");
    assert_eq!(plain.cmd("EXEC"), Value::Array(vec![ok(), Value::from(2)]));
    assert_eq!(watching.cmd("MULTI"), ok());
    assert_eq!(watching.cmd("SET two 2").text(), "QUEUED");
    assert_eq!(watching.cmd("EXEC"), Value::Null);
    assert_eq!(watching.cmd("GET two"), Value::Null);
    // It tries again, as clients do, and succeeds.
    assert_eq!(watching.cmd("WATCH two"), ok());
    assert_eq!(watching.cmd("MULTI"), ok());
    assert_eq!(watching.cmd("SET two 2").text(), "QUEUED");
    assert_eq!(watching.cmd("EXEC"), Value::Array(vec![ok()]));
}

#[test]
fn a_scan_that_meets_a_change_still_sees_every_key() {
    let pair = Pair::start();
    let proxies = both(&pair);
    let mut client = proxies[0].client();
    for chunk in (0..5000).collect::<Vec<_>>().chunks(500) {
        let sets: Vec<String> = chunk.iter().map(|key| format!("SET key:{key} x")).collect();
        client.send(&pipeline(&sets.iter().map(String::as_str).collect::<Vec<_>>()));
        for _ in chunk {
            assert_eq!(client.read(), ok());
        }
    }
    let (mut seen, mut cursor, mut calls) = (BTreeSet::new(), "0".to_owned(), 0);
    loop {
        let reply = client.cmd(&format!("SCAN {cursor} COUNT 50"));
        cursor = reply.items()[0].text();
        seen.extend(reply.items()[1].items().iter().map(Value::text));
        calls += 1;
        if calls == 40 {
            switch(&proxies[0], "b");
            pair.wait_primary_b();
            // The other proxy understands the cursor just as well.
            client = proxies[1].client();
        }
        assert!(calls < 400, "the scan ends");
        if cursor == "0" {
            break;
        }
        assert!(cursor.parse::<u64>().unwrap() < 1 << 53);
    }
    assert_eq!(seen.len(), 5000);
}

#[test]
fn a_large_message_reaches_its_subscriber_whole() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    let (mut hears, mut speaks) = (proxy.client(), proxy.client());
    hears.cmd("SUBSCRIBE news");
    let large = vec![b'x'; 3 << 20];
    speaks.send(&encode(&[b"PUBLISH", b"news", &large]));
    assert_eq!(speaks.read(), Value::from(1));
    assert_eq!(hears.read().items()[2], Value::Bulk(large));
    wait_until("it is one subscriber", Duration::from_secs(1), || speaks.cmd("PUBLISH news y") == Value::from(1));
    assert_eq!(hears.read().items()[2], Value::from("y"));
}
