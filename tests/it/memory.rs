//! Who was primary is remembered: an old primary that comes back empty is not believed, not even by a proxy that was
//! itself restarted meanwhile.

use std::time::Duration;

use crate::support::value::ok;
use crate::support::{ANYTHING, Options, Pair, Proxy, Value, pause, wait_until};

/// `a` dies and comes back empty as a primary, while the data live on in `b` (parked, so that it is not wiped).
fn come_back_empty(pair: &mut Pair) {
    assert_eq!(pair.b.cmd("REPLICAOF 127.0.0.1 1"), ok());
    pair.a.kill();
    pair.boot_a(false);
}

fn options() -> Options {
    Options::default().arg("--hold-time", "1s").announce(ANYTHING)
}

fn start(options: Options) -> (Pair, Proxy) {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", options);
    let mut client = proxy.client();
    assert_eq!(client.cmd("SET precious 1"), ok());
    assert_eq!(client.cmd("WAIT 1 2000"), Value::from(1));
    // The memory of the followed history reaches the disk in its own time.
    pause(1200);
    (pair, proxy)
}

fn assert_doubt(proxy: &Proxy) {
    wait_until("doubt", Duration::from_secs(5), || proxy.status()["view"]["state"] == "doubt");
    let mut client = proxy.client();
    assert!(client.cmd("GET precious").is_error("LOADING"), "an empty node must not answer");
    assert!(client.cmd("SET precious 2").is_error("LOADING"));
    assert_eq!(proxy.http("/readyz").0, 503);
}

fn assert_served_by_b(proxy: &Proxy) {
    wait_until("b is served", Duration::from_secs(5), || proxy.primary().as_deref() == Some("b"));
    assert_eq!(proxy.client().cmd("GET precious"), Value::from("1"));
}

#[test]
fn an_empty_old_primary_is_not_believed() {
    let (mut pair, proxy) = start(options());
    come_back_empty(&mut pair);
    assert_doubt(&proxy);
    assert_eq!(pair.b.cmd("REPLICAOF NO ONE"), ok());
    assert_served_by_b(&proxy);
}

#[test]
fn a_restarted_proxy_does_not_believe_it_either() {
    let (mut pair, mut proxy) = start(options());
    proxy.process.signal("TERM");
    assert!(proxy.process.end(Duration::from_secs(45)).success());
    let state = proxy.state.clone();
    drop(proxy);
    come_back_empty(&mut pair);
    let proxy = Proxy::with(&pair, "a", Options { state: Some(state), ..options() });
    assert_doubt(&proxy);
    assert_eq!(pair.b.cmd("REPLICAOF NO ONE"), ok());
    assert_served_by_b(&proxy);
}

#[test]
fn an_operator_may_adopt_it_all_the_same() {
    let (mut pair, proxy) = start(options());
    come_back_empty(&mut pair);
    assert_doubt(&proxy);
    let out = proxy.operate("adopt a");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    wait_until("a is served", Duration::from_secs(5), || proxy.primary().as_deref() == Some("a"));
    assert_eq!(proxy.client().cmd("GET precious"), Value::Null);
}

#[test]
fn a_restarted_proxy_finds_the_same_primary_in_a_higher_epoch_or_the_same() {
    let (pair, mut proxy) = start(Options::default().announce(ANYTHING));
    assert_eq!(pair.a.cmd("FAILOVER"), ok());
    pair.wait_primary_b();
    wait_until("b is served", Duration::from_secs(5), || proxy.primary().as_deref() == Some("b"));
    let epoch = proxy.status()["view"]["epoch"].as_u64().unwrap();
    pause(1200);
    proxy.process.kill();
    let state = proxy.state.clone();
    let again = Proxy::with(&pair, "a", Options { state: Some(state), ..Options::default() });
    wait_until("b is served", Duration::from_secs(5), || again.primary().as_deref() == Some("b"));
    assert!(again.status()["view"]["epoch"].as_u64().unwrap() >= epoch, "epochs only grow");
}

#[test]
fn a_memory_that_cannot_be_read_is_reported_and_set_aside() {
    let (pair, mut proxy) = start(Options::default().announce(ANYTHING));
    proxy.process.kill();
    let state = proxy.state.clone();
    let mut files = 0;
    for entry in std::fs::read_dir(&state).unwrap() {
        std::fs::write(entry.unwrap().path(), b"{\"broken\": ").unwrap();
        files += 1;
    }
    assert!(files > 0, "nothing was remembered");
    let options = Options { state: Some(state.clone()), ..Options::default().announce(ANYTHING) };
    let again = Proxy::with(&pair, "a", options);
    assert_eq!(again.client().cmd("GET precious"), Value::from("1"), "one primary with its replica is no riddle");
    assert!(again.complaints().is_empty(), "{:?}", again.complaints());
    let log = again.process.log();
    let named = log.lines().any(|line| !line.contains("INFO") && line.contains(&state.display().to_string()));
    assert!(named, "a warning names the file:\n{log}");
}
