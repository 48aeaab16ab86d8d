//! Roles change as planned, announced or behind the proxies' back, and no client notices.

use std::time::Duration;

use crate::support::client::pipeline;
use crate::support::value::ok;
use crate::support::{Client, Load, Options, Pair, Proxy, Value, pause, wait_until};

/// A pair with a proxy beside each node, and load on both.
fn under_load() -> (Pair, [Proxy; 2], Load) {
    let pair = Pair::start();
    let proxies = [Proxy::with(&pair, "a", Options::default()), Proxy::with(&pair, "b", Options::default())];
    let load = Load::start(&[proxies[0].at, proxies[1].at], &pair.tls, 8);
    pause(500);
    (pair, proxies, load)
}

fn switch(proxy: &Proxy, to: &str) {
    let out = proxy.operate(&format!("switchover --to {to} --timeout 10s --json"));
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "switchover --to {to}: {said}");
}

fn wait_view(proxy: &Proxy, node: &str) {
    wait_until("the proxy names the new primary", Duration::from_secs(10), || proxy.primary().as_deref() == Some(node));
}

#[test]
fn announced_switchovers_are_not_noticed_under_load() {
    let (pair, proxies, load) = under_load();
    switch(&proxies[0], "b");
    pair.wait_primary_b();
    pause(300);
    switch(&proxies[0], "a");
    pair.wait_primary_a();
    pause(300);
    switch(&proxies[1], "b");
    pair.wait_primary_b();
    pause(300);
    let seen = load.stop();
    seen.assert_unnoticed(&pair.b);
    assert!(seen.longest < Duration::from_millis(500), "announced, yet somebody waited {:?}", seen.longest);
    for proxy in &proxies {
        wait_view(proxy, "b");
        assert_eq!(proxy.status()["last_changes"].as_array().map(Vec::len), Some(3), "{:#}", proxy.status());
    }
}

#[test]
fn bare_failovers_are_not_noticed_under_load() {
    let (pair, proxies, load) = under_load();
    assert_eq!(pair.a.cmd("FAILOVER"), ok());
    pair.wait_primary_b();
    pause(300);
    assert_eq!(pair.b.cmd("FAILOVER"), ok());
    pair.wait_primary_a();
    pause(300);
    load.stop().assert_unnoticed(&pair.a);
    wait_view(&proxies[0], "a");
    wait_view(&proxies[1], "a");
}

#[test]
fn roles_exchanged_with_replicaof_are_not_noticed() {
    // Demote first: the order in which nothing can be lost. Writes are fenced as an operator would fence them.
    let (pair, proxies, load) = under_load();
    assert_eq!(pair.a.cmd("CLIENT PAUSE 3000 WRITE"), ok());
    wait_until("b has everything", Duration::from_secs(2), || {
        offset(&pair.a.cmd("ROLE")) == offset(&pair.b.cmd("ROLE"))
    });
    assert_eq!(pair.a.cmd(&format!("REPLICAOF 127.0.0.1 {}", pair.b.port)), ok());
    assert_eq!(pair.b.cmd("REPLICAOF NO ONE"), ok());
    assert_eq!(pair.a.cmd("CLIENT UNPAUSE"), ok());
    pair.wait_primary_b();
    pause(300);
    load.stop().assert_unnoticed(&pair.b);
    wait_view(&proxies[0], "b");
}

/// Replication offset in ROLE's reply: second field of a primary, fifth of a replica.
fn offset(role: &Value) -> i64 {
    role.items()[if role.items().len() == 3 { 1 } else { 4 }].int()
}

#[test]
fn what_belongs_to_the_connection_survives() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    let mut client = proxy.client();
    client.cmd("HELLO 3 SETNAME traveller");
    client.cmd("SELECT 7");
    client.cmd("SET k seven");
    switch(&proxy, "b");
    assert_eq!(client.cmd("GET k"), Value::from("seven"), "same database");
    assert_eq!(client.cmd("HGETALL nokey"), Value::Map(vec![]), "same protocol");
    assert_eq!(client.cmd("CLIENT GETNAME"), Value::from("traveller"), "same name");
    assert_eq!(pair.b.cmd("CLIENT LIST").text().matches("name=traveller").count(), 1);
    pair.wait_primary_b();
    assert_eq!(pair.b.cmd("FAILOVER"), ok());
    pair.wait_primary_a();
    assert_eq!(client.cmd("SET k again"), ok());
    assert_eq!(client.cmd("GET k"), Value::from("again"));
    assert_eq!(client.cmd("CLIENT GETNAME"), Value::from("traveller"));
}

#[test]
fn an_idle_client_of_either_proxy_goes_on_as_if_nothing_had_happened() {
    let pair = Pair::start();
    let proxies = [Proxy::with(&pair, "a", Options::default()), Proxy::with(&pair, "b", Options::default())];
    let mut clients: Vec<Client> = proxies.iter().flat_map(|p| [p.client(), p.client()]).collect();
    switch(&proxies[1], "b");
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&pipeline(&["INCR n", "GET n"]));
        let n = i64::try_from(n).unwrap() + 1;
        assert_eq!([client.read(), client.read()], [Value::from(n), Value::from(n.to_string().as_str())]);
    }
}

#[test]
fn a_pipeline_sent_while_writes_are_paused_is_answered_in_order() {
    // The server takes the pipeline and pauses in it; the demotion refuses the writes; reads behind them must still
    // see them.
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    let mut client = proxy.client();
    client.cmd("SET k 0");
    assert_eq!(pair.a.cmd("CLIENT PAUSE 5000 WRITE"), ok());
    client.send(&pipeline(&["GET k", "SET k 1", "GET k", "INCR k", "GET k", "PING"]));
    pause(100);
    assert_eq!(pair.a.cmd(&format!("REPLICAOF 127.0.0.1 {}", pair.b.port)), ok());
    assert_eq!(pair.b.cmd("REPLICAOF NO ONE"), ok());
    pause(200);
    // Only now does the demoted node go on reading, and refuse.
    assert_eq!(pair.a.cmd("CLIENT UNPAUSE"), ok());
    let replies: Vec<Value> = (0..6).map(|_| client.read()).collect();
    let wanted = ["0".into(), ok(), "1".into(), 2.into(), "2".into(), Value::Simple("PONG".into())];
    assert_eq!(replies, wanted);
}

#[test]
fn a_switchover_that_cannot_work_changes_nothing() {
    let mut pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", Options::default().announce("switchover"));
    let mut client = proxy.client();
    client.cmd("SET k 1");
    for wrong in ["switchover --to a", "switchover --to nobody"] {
        assert!(!proxy.operate(wrong).status.success(), "{wrong}");
    }
    pair.b.kill();
    pause(300);
    assert!(!proxy.operate("switchover --to b --timeout 2s").status.success(), "to a dead node");
    assert_eq!(client.cmd("INCR k"), Value::from(2));
    assert_eq!(proxy.primary().as_deref(), Some("a"));
}

#[test]
fn a_dry_run_checks_and_changes_nothing() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    wait_view(&proxy, "a");
    assert!(proxy.operate("switchover --to b --dry-run").status.success());
    assert!(pair.a.is_primary());
}

/// What it asked for may never be answered; that must not keep anybody else waiting, nor veto a switchover.
#[test]
fn a_client_that_left_is_not_waited_for_although_its_reply_never_comes() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    let open = || proxy.status()["connections"]["open"].as_u64();
    let mut boss = pair.direct();
    let mut client = proxy.client();
    assert_eq!(client.cmd("SET k 1"), ok());
    assert_eq!(boss.cmd("CLIENT PAUSE 120000 WRITE"), ok());
    client.start("APPEND k 2");
    let there = Duration::from_secs(20);
    wait_until("the node has the write", there, || boss.cmd("CLIENT LIST").text().contains("cmd=append"));
    drop(client);
    wait_until("the client is let go", Duration::from_secs(60), || open() == Some(0));
    assert_eq!(boss.cmd("CLIENT UNPAUSE"), ok());
}
