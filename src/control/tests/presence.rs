//! That the processes of a pair know of each other, and what that costs the pair: nothing in its replication stream while
//! all is well, and never the knowledge itself.

use std::time::Duration;

use super::support::{PATIENCE, Pair, Process, config, two, until};
use super::{AT_ONCE, to};
use crate::config::Config;
use crate::control::channel::{Kind, Message};
use crate::control::peers::PRESENT_FOR;
use crate::io::admin::Outcome;
use crate::io::clock;

/// Longer than anyone is believed without being heard.
const LONG: Duration = PRESENT_FOR.saturating_add(Duration::from_millis(1500));

fn youngest_ms(process: &Process) -> u64 {
    process.status().peers.iter().map(|peer| peer.age_ms).min().unwrap_or(u64::MAX)
}

/// Looks for a while whether both hear each other all the time.
async fn stay_present(a: &Process, b: &Process) {
    let until = clock::now() + LONG;
    while clock::now() < until {
        for process in [a, b] {
            assert!(u128::from(youngest_ms(process)) < PRESENT_FOR.as_millis(), "{:#?}", process.status());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn processes_that_hear_each_other_write_nothing_into_the_replication_stream() {
    let pair = Pair::start().await;
    for node in [0, 1] {
        pair.command(node, &["CONFIG", "SET", "repl-ping-replica-period", "3600"]).await;
    }
    let (a, b) = two(&pair, AT_ONCE).await;
    stay_present(&a, &b).await;
    let before = pair.offset(0).await;
    stay_present(&a, &b).await;
    assert_eq!(pair.offset(0).await, before);
    let report = b.switchover(to("b")).await;
    assert_eq!((report.outcome, report.peers.len()), (Outcome::Switched, 1), "{report:#?}");
}

#[tokio::test]
async fn without_a_replica_they_hear_each_other_through_the_primary() {
    let mut pair = Pair::start().await;
    let (a, b) = two(&pair, AT_ONCE).await;
    pair.kill(1);
    stay_present(&a, &b).await;
    drop((a, b));
}

#[tokio::test]
async fn one_that_nobody_hears_at_the_replica_is_asked_and_answers_through_the_primary() {
    let pair = Pair::start().await;
    // As if the other's way to the replica, and from it, were cut: it knows the primary only.
    let unsealed = Config { channel_secret: None, ..config(&pair, "a") };
    let (a, stranger) = (Process::start_as(&pair, unsealed, AT_ONCE), "b-of-elsewhere");
    a.serves("a").await;
    let hello = Message { from: stranger.to_owned(), node: None, seq: 1, proof: None, kind: Kind::Hello };
    let mut heard = pair.listen(0, "__changeover__").await;
    pair.command(0, &["PUBLISH", "__changeover__", &String::from_utf8(hello.encode(None)).unwrap()]).await;
    let mut kinds = Vec::new();
    let deadline = clock::now() + PATIENCE;
    while !kinds.ends_with(&["presence", "hello"]) {
        let message = Message::decode(&heard.next(deadline).await, None).unwrap();
        match message.kind {
            _ if message.from == stranger => {}
            Kind::Presence { drained: false, .. } => kinds.push("presence"),
            Kind::Hello => kinds.push("hello"),
            other => panic!("{other:?}"),
        }
    }
    drop(a);
}

#[tokio::test]
async fn one_that_is_alone_at_its_only_node_says_nothing_more_and_hears_who_comes() {
    let pair = Pair::start().await;
    let alone = |name: &str| {
        let mut config = config(&pair, name);
        config.nodes.truncate(1);
        config.self_node = None;
        config
    };
    pair.command(0, &["CONFIG", "SET", "repl-ping-replica-period", "3600"]).await;
    let first = Process::start_as(&pair, alone("first"), AT_ONCE);
    first.serves("a").await;
    // Its greeting, once.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = pair.offset(0).await;
    // The subscription outlives the silence.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(pair.offset(0).await, before);
    let second = Process::start_as(&pair, alone("second"), AT_ONCE);
    for process in [&first, &second] {
        process.until("the other is heard", |status| status.peers.len() == 1).await;
    }
    stay_present(&first, &second).await;
    until("the stream has their presence", async || pair.offset(0).await != before).await;
}
