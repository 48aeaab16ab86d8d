//! `--failover-rejoin save`: what an old primary has is set aside before it becomes a replica, and it stays as it is when that
//! cannot be done.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::support::process::Process;
use crate::support::value::ok;
use crate::support::{ANYTHING, Options, Pair, Proxy, Value, free_port, pause, wait_until};

fn start(pair: &Pair) -> [Proxy; 2] {
    let options = || Options::default().arg("--failover", "pair").arg("--failover-rejoin", "save").announce(ANYTHING);
    let proxies = ["a", "b"].map(|node| Proxy::with(pair, node, options()));
    for proxy in &proxies {
        wait_until("the other proxy is heard", Duration::from_secs(20), || {
            proxy.status()["peers"].as_array().is_some_and(|peers| peers.len() == 1)
        });
    }
    pair.wait_primary_a();
    pause(700);
    proxies
}

/// `a` has a snapshot, dies, is replaced, and comes back with it; then something is written there past the proxies.
fn returns_ahead(pair: &mut Pair, proxies: &[Proxy; 2]) {
    let mut client = proxies[0].client();
    assert_eq!(client.cmd("SET both 1"), ok());
    pair.wait_primary_a();
    assert_eq!(pair.a.cmd("SAVE"), ok());
    pair.a.kill();
    assert_eq!(client.cmd("SET after 1"), ok());
    assert!(pair.b.is_primary());
    pair.boot_a(false);
    wait_until("it has loaded", Duration::from_secs(5), || {
        pair.a.try_cmd("SET only-a 1").is_ok_and(|told| told == ok())
    });
}

fn saved(proxy: &Proxy) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(proxy.state.join("saved")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// What a server that loads the file knows of a key.
fn in_snapshot(pair: &Pair, file: &PathBuf, key: &str) -> String {
    let (dir, port) = (pair.dir.path().join("look"), free_port());
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::copy(file, dir.join("dump.rdb")).unwrap();
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--dir", dir.to_str().unwrap()]);
    let mut process = Process::start(&mut command, &dir.join("log"));
    process.wait_ready("it has loaded", || {
        let told = Command::new("redis-cli").args(["-p", &port.to_string(), "PING"]).output().unwrap();
        told.stdout == b"PONG\n"
    });
    let told = Command::new("redis-cli").args(["-p", &port.to_string(), "GET", key]).output().unwrap();
    process.kill();
    String::from_utf8_lossy(&told.stdout).trim().to_owned()
}

#[test]
fn what_an_old_primary_has_and_the_new_one_lacks_is_saved_before_it_is_dropped() {
    let mut pair = Pair::start();
    let proxies = start(&pair);
    returns_ahead(&mut pair, &proxies);
    pair.wait_primary_b();
    assert_eq!(pair.a.cmd("EXISTS only-a"), Value::Int(0), "it follows b now");
    assert_eq!(pair.a.cmd("GET after").text(), "1");
    let files = saved(&proxies[0]);
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(in_snapshot(&pair, &files[0], "only-a"), "1");
    assert_eq!(in_snapshot(&pair, &files[0], "both"), "1");
    let (_, metrics) = proxies[0].http("/metrics");
    assert!(metrics.contains("changeover_failover_saves_total{result=\"ok\"} 1"), "{metrics}");
    let (_, metrics) = proxies[1].http("/metrics");
    assert!(metrics.contains("changeover_failover_promotions_total{proof=\"agreed\"} 1"), "{metrics}");
    let failover = &proxies[0].status()["failover"];
    wait_until("it would promote a", Duration::from_secs(5), || {
        proxies[0].status()["failover"]["would_promote"] == true
    });
    assert_eq!(failover["mode"], "pair");
    let other = &proxies[1].status()["failover"];
    assert_eq!(
        (&other["would_promote"], &other["why"]),
        (&false.into(), &"the node beside this proxy is primary".into())
    );
}

#[test]
fn what_cannot_be_saved_is_left_alone_without_traffic() {
    let mut pair = Pair::start();
    let proxies = start(&pair);
    let file = pair.dir.path().join("a/dump.rdb");
    returns_ahead(&mut pair, &proxies);
    // Its snapshot cannot be written any more.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    wait_until("it says so", Duration::from_secs(20), || proxies[0].process.log().contains("cannot be saved"));
    pause(2000);
    assert_eq!(pair.a.cmd("GET only-a").text(), "1");
    assert!(pair.a.is_primary() && saved(&proxies[0]).is_empty());
    for proxy in &proxies {
        assert_eq!(proxy.primary().as_deref(), Some("b"));
        assert_eq!(proxy.client().cmd("EXISTS only-a"), Value::Int(0));
    }
}
