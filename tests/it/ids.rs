//! The id that a client was told names it as long as it lives, whatever connection and node it is on.

use std::time::Duration;

use crate::support::value::ok;
use crate::support::{Client, Options, Pair, Proxy, Value, pause, wait_until};

type Change = fn(&Pair, &Proxy);

/// Two ways of changing the primary from a to b: announced by a proxy, and behind its back.
fn changes() -> [(&'static str, Change); 2] {
    fn announced(_: &Pair, proxy: &Proxy) {
        let out = proxy.operate("switchover --to b --timeout 10s");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    fn bare(pair: &Pair, _: &Proxy) {
        assert_eq!(pair.a.cmd("FAILOVER"), ok());
    }
    [("announced", announced), ("bare", bare)]
}

fn id(client: &mut Client) -> i64 {
    client.cmd("CLIENT ID").int()
}

#[test]
fn clients_list_and_kill_each_other_by_the_ids_that_they_were_told() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", Options::default());
    let (mut one, mut other, mut third) = (proxy.client(), proxy.client(), proxy.client());
    let (first, second) = (id(&mut one), id(&mut other));
    assert!(first != second);
    let list = one.cmd(&format!("CLIENT LIST ID {first} {second}")).text();
    let ids: Vec<&str> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(ids, [format!("id={first}"), format!("id={second}")]);
    // On a lane, with an id from HELLO; its neighbours on the lane must not be hurt.
    let hello = third.cmd("HELLO 3");
    let at = hello.items().iter().position(|item| *item == Value::from("id")).unwrap();
    let third_id = hello.items()[at + 1].int();
    let mut neighbour = proxy.client();
    neighbour.cmd("HELLO 3");
    pause(700);
    assert_eq!((third.cmd("SET k v"), neighbour.cmd("GET k")), (ok(), "v".into()));
    let before = neighbour.cmd("INFO stats").text();
    assert!(before.contains("total_connections_received"));
    assert_eq!(one.cmd(&format!("CLIENT KILL ID {third_id}")), Value::from(1));
    assert_eq!(third.read_to_end(), []);
    assert_eq!(neighbour.cmd("GET k"), "v".into());
    assert_eq!(one.cmd(&format!("CLIENT KILL ID {third_id}")), Value::from(0), "it is gone");
    assert_eq!(one.cmd(&format!("CLIENT KILL ID {second}")), Value::from(1));
    assert_eq!(other.read_to_end(), []);
    // Itself, as Redis does it.
    assert_eq!(one.cmd(&format!("CLIENT KILL ID {first}")), Value::from(0), "SKIPME is the default");
    assert_eq!(one.cmd(&format!("CLIENT KILL ID {first} SKIPME no")), Value::from(1));
    assert_eq!(one.read_to_end(), []);
}

#[test]
fn after_a_change_an_id_names_the_same_client_and_no_other() {
    for (how, change) in changes() {
        let pair = Pair::start();
        let proxies = [Proxy::with(&pair, "a", Options::default()), Proxy::with(&pair, "b", Options::default())];
        let (mut one, mut other, mut blocked) = (proxies[0].client(), proxies[0].client(), proxies[0].client());
        let (first, second, third) = (id(&mut one), id(&mut other), id(&mut blocked));
        let mut elsewhere = proxies[1].client();
        let theirs = id(&mut elsewhere);
        blocked.start("BLPOP queue 0");
        pause(100);
        change(&pair, &proxies[0]);
        pair.wait_primary_b();
        assert_eq!(id(&mut one), first, "{how}");
        // Newcomers, among which the server gives the numbers that it gave before the change.
        let mut newcomers: Vec<Client> = (0..40).map(|_| proxies[0].client()).collect();
        for newcomer in &mut newcomers {
            let told = id(newcomer);
            assert!(![first, second, third, theirs].contains(&told), "{how}: {told} was told twice");
        }
        let list = one.cmd("CLIENT LIST").text();
        assert!(list.lines().any(|line| line.starts_with(&format!("id={first} "))), "{how}: {list}");
        assert_eq!(one.cmd(&format!("CLIENT UNBLOCK {third}")), Value::from(1), "{how}");
        assert_eq!(blocked.read(), Value::Null, "{how}");
        // It has had no upstream since the change.
        assert_eq!(one.cmd(&format!("CLIENT KILL ID {second}")), Value::from(1), "{how}");
        assert_eq!(other.read_to_end(), [], "{how}");
        assert_eq!(one.cmd(&format!("CLIENT KILL ID {second}")), Value::from(0), "{how}");
        // One of the other proxy cannot be found after a change; it is not somebody else.
        assert_eq!(one.cmd(&format!("CLIENT KILL ID {theirs}")), Value::from(0), "{how}");
        assert_eq!(id(&mut elsewhere), theirs, "{how}");
        for client in newcomers.iter_mut().chain([&mut one, &mut blocked]) {
            assert_eq!(client.cmd("PING"), Value::Simple("PONG".into()), "{how}");
        }
    }
}

#[test]
fn redirected_invalidations_go_on_after_a_change_and_begin_with_everything_being_void() {
    for (how, change) in changes() {
        let pair = Pair::start();
        let proxy = Proxy::with(&pair, "a", Options::default());
        let (mut hears, mut tracks, mut writes) = (proxy.client(), proxy.client(), proxy.client());
        let target = id(&mut hears);
        assert_eq!(hears.cmd("SUBSCRIBE __redis__:invalidate").items()[0], "subscribe".into());
        assert_eq!(tracks.cmd(&format!("CLIENT TRACKING ON REDIRECT {target}")), ok());
        assert_eq!(tracks.cmd("CLIENT GETREDIR").int(), target);
        let void = |keys: Value| Value::Array(vec!["message".into(), "__redis__:invalidate".into(), keys]);
        writes.cmd("SET k 1");
        assert_eq!(tracks.cmd("GET k"), "1".into());
        writes.cmd("SET k 2");
        assert_eq!(hears.read(), void(Value::Array(vec!["k".into()])), "{how}");
        assert_eq!(tracks.cmd("GET k"), "2".into());
        change(&pair, &proxy);
        pair.wait_primary_b();
        assert_eq!(tracks.cmd("GET k"), "2".into(), "{how}");
        assert_eq!(tracks.cmd("CLIENT GETREDIR").int(), target, "{how}");
        assert_eq!(hears.read(), void(Value::Null), "{how}");
        writes.cmd("SET k 3");
        let told = void(Value::Array(vec!["k".into()]));
        // Both the client that tracks and the one that hears have changed: it may be said for each.
        let mut heard = hears.read();
        while heard == void(Value::Null) {
            heard = hears.read();
        }
        assert_eq!(heard, told, "{how}");
        // Without its target it would believe its cache for ever.
        assert_eq!(writes.cmd(&format!("CLIENT KILL ID {target}")), Value::from(1), "{how}");
        hears.read_to_end();
    }
}

#[test]
fn whoever_loses_the_target_of_its_invalidations_is_closed_when_the_primary_changes() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", Options::default());
    let (mut hears, mut tracks) = (proxy.client(), proxy.client());
    let target = id(&mut hears);
    assert_eq!(tracks.cmd(&format!("CLIENT TRACKING ON REDIRECT {target}")), ok());
    drop(hears);
    assert_eq!(pair.a.cmd("FAILOVER"), ok());
    pair.wait_primary_b();
    tracks.start("GET k");
    let last = tracks.read_to_end();
    assert!(last.len() == 1 && last[0].is_error("ERR the primary changed, and the client that"), "{last:?}");
}

#[test]
fn a_kill_by_other_filters_ends_upstreams_and_no_client_notices() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", Options::default());
    let (mut one, mut pinned) = (proxy.client(), proxy.client());
    assert_eq!(one.cmd("SET k v"), ok());
    let told = id(&mut pinned);
    let killed = pair.a.cmd("CLIENT KILL TYPE normal").int();
    assert!(killed >= 2, "{killed}");
    assert_eq!((one.cmd("GET k"), id(&mut pinned)), ("v".into(), told));
    let gone = || proxy.http("/metrics").1.contains("changeover_connections_closed_total{reason=\"killed\"} 0");
    wait_until("nobody counts as killed", Duration::from_secs(5), gone);
}
