//! Mode `pair` against real servers: what dies, freezes and comes back, and how long it takes until there is a primary.

use std::time::Duration;

use super::support::{Pair, Process, config, until};
use crate::config::{Failover, FailoverMode, Rejoin};
use crate::io::client::Reply;
use crate::io::clock;

const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

fn start(pair: &Pair, name: &str, rejoin: Rejoin) -> Process {
    let mut config = config(pair, name);
    config.failover = Failover { mode: FailoverMode::Pair, rejoin };
    Process::start_as(pair, config, AT_ONCE)
}

async fn both(pair: &Pair) -> (Process, Process) {
    let processes = (start(pair, "a", Rejoin::Always), start(pair, "b", Rejoin::Always));
    for process in [&processes.0, &processes.1] {
        process.serves("a").await;
        process.until("its peer is heard", |status| status.peers.len() == 1).await;
    }
    settle().await;
    processes
}

/// After a full synchronisation nothing is streamed before the replica's next acknowledgement, up to a second later.
async fn acknowledged(pair: &Pair, primary: usize) {
    until("everything is replicated", async || pair.offset(0).await == pair.offset(1).await).await;
    assert_eq!(pair.role(primary).await, "master");
}

/// The processes have just begun and do not act yet.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(600)).await;
}

/// Twenty keys.
async fn write_all(pair: &Pair) {
    for n in 0..20 {
        pair.command(0, &["SET", &format!("k{n}"), "v"]).await;
    }
}

async fn has_all(pair: &Pair, node: usize) -> bool {
    let names: Vec<_> = (0..20).map(|n| format!("k{n}")).collect();
    let args: Vec<_> = ["EXISTS"].into_iter().chain(names.iter().map(String::as_str)).collect();
    pair.command(node, &args).await == Reply::Integer(20)
}

async fn size(pair: &Pair, node: usize) -> Reply {
    pair.command(node, &["DBSIZE"]).await
}

#[tokio::test]
async fn the_primary_is_killed_and_its_replica_takes_over_within_a_second() {
    let mut pair = Pair::start().await;
    let (a, b) = both(&pair).await;
    pair.command(0, &["SET", "k", "v"]).await;
    acknowledged(&pair, 0).await;
    let began = clock::now();
    pair.kill(0);
    b.serves("b").await;
    let took = clock::now() - began;
    a.serves("b").await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    println!("kill -9 to the next primary: {took:?}");
    assert_eq!(pair.command(1, &["SET", "k", "w"]).await, Reply::Status("OK".into()));
    assert_eq!(b.status().last_changes[0].lost_bytes, Some(0));

    // It returns empty, as a primary: never named, never asked, made a replica.
    pair.spawn(0, &[]).await;
    pair.in_sync(0).await;
    assert_eq!(pair.command(0, &["GET", "k"]).await, Reply::Bulk("w".into()));
    for process in [&a, &b] {
        assert_eq!((process.status().view.primary.as_deref(), process.status().view.epoch), (Some("b"), 2));
    }
    // And the other way round.
    settle().await;
    acknowledged(&pair, 1).await;
    pair.kill(1);
    a.serves("a").await;
    b.serves("a").await;
    pair.spawn(1, &[]).await;
    pair.in_sync(1).await;
    assert_eq!(pair.command(0, &["GET", "k"]).await, Reply::Bulk("w".into()));
}

#[tokio::test]
async fn alone_the_process_beside_the_replica_promotes_too() {
    let mut pair = Pair::start().await;
    let b = start(&pair, "b", Rejoin::Always);
    b.serves("a").await;
    settle().await;
    let began = clock::now();
    pair.kill(0);
    b.serves("b").await;
    let took = clock::now() - began;
    assert!(took < Duration::from_secs(1), "{took:?}");
    println!("kill -9 to the next primary, alone: {took:?}");
}

#[tokio::test]
async fn a_primary_that_returns_empty_at_once_neither_wipes_its_replica_nor_is_served() {
    let mut pair = Pair::start().await;
    // Without the other process nobody agrees that it is dead, so it is back before it was given up.
    let b = start(&pair, "b", Rejoin::Always);
    b.serves("a").await;
    settle().await;
    write_all(&pair).await;
    acknowledged(&pair, 0).await;
    pair.kill(0);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(pair.role(1).await, "slave", "parked, not yet promoted");
    pair.spawn(0, &[]).await;
    b.serves("b").await;
    pair.in_sync(0).await;
    for node in [1, 0] {
        assert!(has_all(&pair, node).await, "node {node}");
    }
    assert_eq!((b.status().view.epoch, b.status().last_changes[0].lost_bytes), (2, Some(0)));
}

#[tokio::test]
async fn roles_go_to_and_fro_with_every_death() {
    let mut pair = Pair::start().await;
    let (a, b) = both(&pair).await;
    write_all(&pair).await;
    for round in 0..4 {
        let (dies, takes) = if round % 2 == 0 { (0, "b") } else { (1, "a") };
        acknowledged(&pair, dies).await;
        pair.kill(dies);
        tokio::time::sleep(Duration::from_millis(20)).await;
        pair.spawn(dies, &[]).await;
        for process in [&a, &b] {
            process.serves(takes).await;
        }
        pair.in_sync(dies).await;
        for node in [0, 1] {
            assert!(has_all(&pair, node).await, "round {round}, node {node}");
        }
        settle().await;
    }
}

#[tokio::test]
async fn a_frozen_primary_without_a_fence_is_not_replaced_and_goes_on_when_it_wakes() {
    let pair = Pair::start().await;
    let (a, b) = both(&pair).await;
    pair.signal(0, "-STOP");
    b.until("held", |status| status.view.primary.is_none()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(pair.role(1).await, "slave");
    pair.signal(0, "-CONT");
    a.serves("a").await;
    b.serves("a").await;
    pair.in_sync(1).await;
}

#[tokio::test]
async fn a_frozen_primary_is_replaced_once_its_own_fence_must_have_closed() {
    let pair = Pair::start().await;
    for node in 0..2 {
        pair.command(node, &["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
        pair.command(node, &["CONFIG", "SET", "min-replicas-max-lag", "1"]).await;
    }
    let (a, b) = both(&pair).await;
    let began = clock::now();
    pair.signal(0, "-STOP");
    b.until("held", |status| status.view.primary.is_none()).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(pair.role(1).await, "slave", "not before the fence has closed");
    b.serves("b").await;
    println!("freeze to the next primary, max-lag 1: {:?}", clock::now() - began);
    assert_eq!(pair.command(1, &["SET", "k", "v"]).await, Reply::Status("OK".into()));
    pair.signal(0, "-CONT");
    pair.in_sync(0).await;
    a.serves("b").await;
    until("the fence is back", async || {
        pair.command(1, &["CONFIG", "GET", "min-replicas-to-write"]).await
            == Reply::Array(vec![Reply::Bulk("min-replicas-to-write".into()), Reply::Bulk("1".into())])
    })
    .await;
}

#[tokio::test]
async fn a_second_primary_with_data_of_its_own_is_left_alone_where_the_policy_says_so() {
    let mut pair = Pair::start().await;
    let b = start(&pair, "b", Rejoin::Clean);
    b.serves("a").await;
    settle().await;
    pair.kill(0);
    b.serves("b").await;
    pair.command(1, &["SET", "k", "v"]).await;
    // Served by nobody of ours, but somebody writes to it before it is found.
    pair.spawn(0, &["--maxclients", "100"]).await;
    pair.command(0, &["SET", "other", "v"]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((pair.role(0).await.as_str(), size(&pair, 0).await), ("master", Reply::Integer(1)));
    assert_eq!(b.status().view.primary.as_deref(), Some("b"));
    // Emptied by an operator, it is welcome.
    pair.kill(0);
    pair.spawn(0, &[]).await;
    pair.in_sync(0).await;
}

#[tokio::test]
async fn a_replica_that_dies_changes_nothing() {
    let mut pair = Pair::start().await;
    let (a, b) = both(&pair).await;
    pair.kill(1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for process in [&a, &b] {
        assert_eq!((process.status().view.primary.as_deref(), process.status().view.epoch), (Some("a"), 1));
    }
    // It returns empty and as a primary.
    pair.spawn(1, &[]).await;
    pair.in_sync(1).await;
    a.serves("a").await;
}
