//! What strangers on the pair's channel can do: with a secret nothing, without one hold clients within stated limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::support::{PATIENCE, Pair, Process, config, secret, two, until};
use super::{AT_ONCE, to};
use crate::config::Config;
use crate::control::channel::{Kind, Message};
use crate::control::seal::Seal;
use crate::io::admin::Outcome;
use crate::io::clock;

const CHANNEL: &str = "__changeover__";

/// Anybody who may publish at Redis.
struct Stranger<'a> {
    pair: &'a Pair,
    seq: u64,
}

impl<'a> Stranger<'a> {
    fn new(pair: &'a Pair) -> Self {
        Self { pair, seq: 1_000_000 }
    }

    async fn publish(&self, payload: &[u8]) {
        self.pair.command(0, &["PUBLISH", CHANNEL, std::str::from_utf8(payload).unwrap()]).await;
    }

    async fn says(&mut self, from: &str, node: &str, kind: Kind) {
        self.seq += 1;
        self.says_as(from, node, self.seq, kind).await;
    }

    async fn says_as(&mut self, from: &str, node: &str, seq: u64, kind: Kind) {
        let message = Message { from: from.to_owned(), node: Some(node.to_owned()), seq, proof: None, kind };
        self.publish(&message.encode(None)).await;
    }
}

fn here() -> Kind {
    Kind::Presence { drained: false, nodes: std::collections::BTreeMap::new() }
}

fn hold(id: u64, deadline_ms: u64) -> Kind {
    Kind::Hold { id, deadline_ms, event: u64::MAX }
}

/// Two processes without a secret.
async fn two_unsealed(pair: &Pair) -> (Process, Process) {
    let start = |name| Process::start_as(pair, Config { channel_secret: None, ..config(pair, name) }, AT_ONCE);
    let (a, b) = (start("a"), start("b"));
    for process in [&a, &b] {
        process.serves("a").await;
        process.until("the other is heard", |status| !status.peers.is_empty()).await;
    }
    (a, b)
}

fn refused(process: &Process, reason: &str) -> u64 {
    process.status().channel.as_ref().and_then(|channel| channel.refused.get(reason).copied()).unwrap_or(0)
}

#[tokio::test]
async fn without_a_secret_a_strangers_hold_is_bounded_by_our_own_limit() {
    let pair = Pair::start().await;
    let a = Process::start_as(&pair, Config { channel_secret: None, ..config(&pair, "a") }, AT_ONCE);
    a.serves("a").await;
    let mut stranger = Stranger::new(&pair);
    stranger.publish("x".repeat(100_000).as_bytes()).await;
    stranger.publish(b"{\"v\":9}").await;
    stranger.says("stranger", "b", hold(5, u64::MAX)).await;
    a.until("it is refused", |_| refused(&a, "stranger") > 0 && refused(&a, "malformed") > 0).await;
    assert!(a.status().hold.is_none(), "it never said that it is there");
    stranger.says("stranger", "b", here()).await;
    stranger.says("stranger", "b", hold(6, u64::MAX)).await;
    let held = a.until("held", |status| status.hold.is_some()).await;
    assert!(held.hold.as_ref().unwrap().left_ms <= 3000);
    assert!(!held.channel.as_ref().unwrap().authenticated);
    a.until("let go", |status| status.hold.is_none()).await;
    assert_eq!(a.status().view.primary.as_deref(), Some("a"));
    // Said again it begins nothing: that time is used up.
    stranger.says("stranger", "b", hold(7, u64::MAX)).await;
    a.until("its time is used up", |_| refused(&a, "budget") > 0).await;
    assert!(a.status().hold.is_none());
}

#[tokio::test]
async fn without_a_secret_a_rain_of_holds_stops_no_switchover() {
    let pair = Pair::start().await;
    let (a, b) = two_unsealed(&pair).await;
    let names = [a.status().instance.clone(), b.status().instance.clone(), "!".to_owned()];
    let mut stranger = Stranger::new(&pair);
    let mut switched = 0;
    let rain = async {
        for drop in 0_u64.. {
            let name = &names[usize::try_from(drop).unwrap() % names.len()];
            if name != "!" {
                stranger.says(name, "b", here()).await;
            }
            stranger.says(name, "b", hold(1000 + drop, 40 + drop % 2 * 60_000)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let switchovers = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        for round in 0..6 {
            let target = if round % 2 == 0 { "b" } else { "a" };
            let by = if round % 3 == 0 { &a } else { &b };
            let report = by.switchover(to(target)).await;
            assert_eq!(report.outcome, Outcome::Switched, "{round}: {report:#?}");
            for process in [&a, &b] {
                process.serves(target).await;
            }
            pair.in_sync(usize::from(target == "a")).await;
            switched += 1;
        }
    };
    tokio::select! {
        () = rain => {}
        () = switchovers => {}
    }
    assert_eq!(switched, 6);
}

#[tokio::test]
async fn without_a_secret_a_number_far_ahead_or_a_farewell_deafens_nobody() {
    let pair = Pair::start().await;
    let (a, b) = two_unsealed(&pair).await;
    let mut stranger = Stranger::new(&pair);
    let name = b.status().instance.clone();
    stranger.says_as(&name, "b", u64::MAX, here()).await;
    stranger.says_as(&name, "b", u64::MAX - 1, Kind::Leave).await;
    tokio::time::sleep(Duration::from_millis(4000)).await;
    a.until("b is heard", |status| status.peers.iter().any(|peer| peer.instance == name && peer.age_ms < 2000)).await;
    assert_eq!(b.switchover(to("b")).await.outcome, Outcome::Switched);
}

#[tokio::test]
async fn with_a_secret_nothing_that_a_stranger_says_counts() {
    let pair = Pair::start().await;
    let (a, b) = two(&pair, AT_ONCE).await;
    let name = b.status().instance.clone();
    let mut stranger = Stranger::new(&pair);
    let mine = a.status().instance.clone();
    for kind in [
        here(),
        hold(9, 60_000),
        Kind::Leave,
        Kind::Suspect { about: "a".to_owned(), question: 1 },
        Kind::Sees { about: "a".to_owned(), answers: true, to: mine.clone(), question: 1 },
        Kind::Lease { plea: 1, lease_ms: 60_000 },
        Kind::Leased { to: mine, plea: 1 },
        Kind::Saved { process: "5".repeat(40) },
    ] {
        stranger.says_as(&name, "b", u64::MAX, kind).await;
    }
    a.until("all are refused", |_| refused(&a, "unsigned") >= 8).await;
    let other = crate::config::ChannelSecret { secrets: vec![crate::config::Secret::new(vec![b'y'; 32])], ..secret() };
    let message = Message { from: name.clone(), node: None, seq: u64::MAX, proof: None, kind: hold(9, 60_000) };
    stranger.publish(&Seal::new(&other, CHANNEL).close(&message.encode(None))).await;
    a.until("another secret is refused", |_| refused(&a, "forged") > 0).await;
    let status = a.status();
    assert!(status.hold.is_none() && status.channel.as_ref().unwrap().authenticated);
    assert_eq!(status.peers.len(), 1, "{status:#?}");
    assert_eq!(b.switchover(to("b")).await.outcome, Outcome::Switched);
}

/// Records what is said in a switchover, and says it again: at once, in another order, and after a restart.
#[tokio::test]
async fn what_was_recorded_is_not_believed_again() {
    let pair = Pair::start().await;
    let (a, b) = two(&pair, AT_ONCE).await;
    let mut ear = pair.listen(0, CHANNEL).await;
    assert_eq!(b.switchover(to("b")).await.outcome, Outcome::Switched);
    assert_eq!(b.switchover(to("a")).await.outcome, Outcome::Switched);
    let (mut recorded, mut holds) = (Vec::<Bytes>::new(), 0);
    while holds < 2 {
        let payload = ear.next(clock::now() + PATIENCE).await;
        let message = Message::decode(&payload, Some(&Seal::new(&secret(), CHANNEL))).unwrap();
        holds += usize::from(matches!(message.kind, Kind::Release { .. }));
        recorded.push(payload);
    }
    let stranger = Stranger::new(&pair);
    let replay = async || {
        for payload in recorded.iter().rev().chain(&recorded) {
            stranger.publish(payload).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    let changes = Arc::clone(&a.status()).last_changes.len();
    replay().await;
    let held = |process: &Process| process.status().hold.is_some();
    assert!(!held(&a) && !held(&b));
    // The sender is gone, and the receiver is another process.
    b.task.abort();
    a.task.abort();
    let again = Process::start(&pair, "a", AT_ONCE);
    again.serves("a").await;
    let mut seen = again.orders.clone();
    replay().await;
    assert!(!held(&again) && !seen.has_changed().unwrap() || seen.borrow_and_update().hold.is_none());
    assert!(again.status().peers.is_empty(), "nobody is there: {:#?}", again.status());
    assert!(changes <= 3);
}

#[tokio::test]
async fn one_without_the_secret_is_not_heard_and_both_say_why() {
    let pair = Pair::start().await;
    let a = Process::start(&pair, "a", AT_ONCE);
    let b = Process::start_as(&pair, Config { channel_secret: None, ..config(&pair, "b") }, AT_ONCE);
    a.until("a refuses", |_| refused(&a, "unsigned") > 0).await;
    b.until("b refuses", |_| refused(&b, "no-secret") > 0).await;
    assert!(a.status().peers.is_empty() && b.status().peers.is_empty());
}

#[tokio::test]
async fn names_that_are_swapped_on_one_proxy_are_said_by_both() {
    let pair = Pair::start().await;
    for sealed in [true, false] {
        let start = |name: &str, swap: bool| {
            let mut config = config(&pair, name);
            if swap {
                config.nodes[0].name = "b".to_owned();
                config.nodes[1].name = "a".to_owned();
            }
            config.channel_secret = config.channel_secret.filter(|_| sealed);
            Process::start_as(&pair, config, AT_ONCE)
        };
        let (a, b) = (start("a", false), start("b", true));
        for process in [&a, &b] {
            let says = |names: &str| names.contains("swapped");
            process
                .until("it is said", |status| {
                    status.channel.as_ref().and_then(|channel| channel.names.as_deref()).is_some_and(says)
                })
                .await;
        }
        a.task.abort();
        b.task.abort();
        until("they end", async || a.task.is_finished() && b.task.is_finished()).await;
    }
}
