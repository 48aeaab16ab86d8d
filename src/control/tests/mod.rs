//! The control plane against real servers: following, announced switchovers of two processes, and what goes wrong.

mod failover;
mod presence;
mod support;
mod trust;

use std::time::Duration;

use crate::config::Secret;
use crate::io::admin::status::{ChangeKind, ViewState};
use crate::io::admin::{AdminRequest, Outcome, Progress, SwitchoverOrder};
use crate::io::client::{Login, Reply};
use crate::io::clock;
use support::{PATIENCE, Pair, Process, two, until};

const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

fn to(node: &str) -> SwitchoverOrder {
    SwitchoverOrder { to: Some(node.to_owned()), ..SwitchoverOrder::default() }
}

#[tokio::test]
async fn an_announced_switchover_holds_every_process_and_switches_in_milliseconds() {
    let pair = Pair::start().await;
    let (a, b) = two(&pair, AT_ONCE).await;
    let mut seen = b.orders.clone();
    let held = super::spawn(async move {
        seen.wait_for(|orders| orders.hold.is_some()).await.expect("the other process holds");
    });
    let report = a.switchover(to("b")).await;
    assert_eq!(report.outcome, Outcome::Switched, "{report:#?}");
    held.await.unwrap();
    assert_eq!((report.peers.len(), report.gates.iter().all(|gate| gate.passed)), (1, true));
    let steps: Vec<_> = report.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!((steps.first(), steps.last()), (Some(&"gates"), Some(&"rejoin")), "{steps:?}");
    let held_ms: f64 =
        report.steps.iter().filter(|s| !["gates", "rejoin"].contains(&s.name.as_str())).map(|s| s.took_ms).sum();
    // Without the nudge it would be anything up to a second.
    assert!(held_ms < 200.0, "{report:#?}");
    for process in [&a, &b] {
        let status = process.until("b, released", |s| s.view.primary.as_deref() == Some("b") && s.hold.is_none()).await;
        assert_eq!(status.last_changes[0].kind, ChangeKind::Announced, "{status:#?}");
        assert_eq!(status.last_changes[0].lost_bytes, Some(0));
    }
    pair.in_sync(0).await;
    // And back, ordered at the other process, to the only node that is left to choose.
    let back = b.switchover(SwitchoverOrder::default()).await;
    assert_eq!(back.outcome, Outcome::Switched, "{back:#?}");
    a.serves("a").await;
}

/// What our own user needs, and nothing more.
const PERMISSIONS: &[&str] = &[
    "resetkeys",
    "resetchannels",
    "-@all",
    "+info",
    "+ping",
    "+wait",
    "+publish",
    "+subscribe",
    "+failover",
    "+replconf",
    "+config|get",
    "&__changeover__",
    "&__changeover__:*",
];

#[tokio::test]
async fn a_user_with_few_permissions_is_enough() {
    let mut pair = Pair::start().await;
    for node in [0, 1] {
        pair.command(node, &[&["ACL", "SETUSER", "changeover", "on", ">secret"], PERMISSIONS].concat()).await;
    }
    let password = Secret::new(b"secret".to_vec());
    pair.login = Some(Login::new(Some("changeover".to_owned()), password, None));
    let (a, b) = two(&pair, AT_ONCE).await;
    let report = a.switchover(to("b")).await;
    assert_eq!(report.outcome, Outcome::Switched, "{report:#?}");
    let unchecked: Vec<_> = report.gates.iter().filter(|gate| gate.detail.contains("not permitted")).collect();
    assert!(unchecked.is_empty(), "{unchecked:?}");
    b.serves("b").await;
    pair.in_sync(0).await;
    // Nothing was refused on the way: the log of each node says so.
    for node in [0, 1] {
        assert_eq!(pair.command(node, &["ACL", "LOG"]).await, Reply::Array(Vec::new()));
    }
}

#[tokio::test]
async fn a_dry_run_and_a_refusal_change_nothing() {
    let pair = Pair::start().await;
    let a = Process::start(&pair, "a", AT_ONCE);
    a.serves("a").await;
    let dry = a.switchover(SwitchoverOrder { dry_run: true, ..to("b") }).await;
    assert_eq!((dry.outcome, dry.stopped), (Outcome::DryRun, None));
    let none = a.switchover(to("c")).await;
    assert_eq!(none.outcome, Outcome::Refused);
    assert_eq!(none.stopped.unwrap().why, "there is no node `c`; the nodes are a, b");
    assert_eq!(a.switchover(to("a")).await.stopped.unwrap().why, "a is primary already");
    pair.command(0, &["CONFIG", "SET", "replica-read-only", "no"]).await;
    let gate = a.switchover(to("b")).await;
    assert_eq!(gate.outcome, Outcome::Refused, "{gate:#?}");
    assert!(gate.gates.iter().any(|gate| gate.name == "replica-read-only" && !gate.passed));
    assert_eq!((pair.role(0).await, a.status().view.epoch), ("master".to_owned(), 1));
}

#[tokio::test]
async fn whoever_stays_busy_is_waited_for_no_longer_than_promised_and_all_are_released() {
    let pair = Pair::start().await;
    let (a, b) = two(&pair, None).await;
    let report = a.switchover(SwitchoverOrder { timeout_ms: Some(1000), ..to("b") }).await;
    assert_eq!(report.outcome, Outcome::Aborted, "{report:#?}");
    assert!(report.stopped.unwrap().why.starts_with("still busy at the limit: b-"));
    for process in [&a, &b] {
        process.until("released", |status| status.hold.is_none()).await;
        assert_eq!(process.status().view.epoch, 1);
    }
    assert_eq!(pair.role(0).await, "master");
}

#[tokio::test]
async fn when_the_coordinator_dies_the_others_let_go_at_the_deadline() {
    let pair = Pair::start().await;
    let (a, b) = two(&pair, None).await;
    let order = SwitchoverOrder { timeout_ms: Some(1500), ..to("b") };
    let (progress, _lines) = tokio::sync::mpsc::channel(64);
    a.admin.requests.send(AdminRequest::Switchover { order, progress }).await.unwrap();
    let held = b.until("b holds", |status| status.hold.is_some()).await;
    assert!(held.hold.as_ref().unwrap().why.starts_with("switchover ordered by a-"));
    a.task.abort();
    let began = clock::now();
    b.until("b lets go", |status| status.hold.is_none()).await;
    let waited = clock::now() - began;
    assert!(waited < Duration::from_millis(1600), "{waited:?}");
    assert_eq!(b.status().view.primary.as_deref(), Some("a"));
    // And the pair can be switched by whoever is left.
    until("a is missed", async || b.status().peers.iter().all(|peer| peer.age_ms > 3500)).await;
    let report = b.switchover(SwitchoverOrder { timeout_ms: Some(1000), dry_run: true, ..to("b") }).await;
    assert_eq!((report.outcome, report.peers.len()), (Outcome::DryRun, 0), "{report:#?}");
}

#[tokio::test]
async fn when_the_coordinator_dies_after_the_hand_over_began_the_others_follow_the_nodes() {
    let pair = Pair::start().await;
    let (a, b) = two(&pair, Some(Duration::from_millis(150))).await;
    let (progress, mut lines) = tokio::sync::mpsc::channel(64);
    a.admin.requests.send(AdminRequest::Switchover { order: to("b"), progress }).await.unwrap();
    while !matches!(lines.recv().await.unwrap(), Progress::Gate(_)) {}
    // The replica cannot acknowledge: the hand-over has to wait for it.
    pair.signal(1, "-STOP");
    until("FAILOVER waits", async || pair.failover_state(0).await == "waiting-for-sync").await;
    a.task.abort();
    pair.signal(1, "-CONT");
    let status = b.until("b, released", |s| s.view.primary.as_deref() == Some("b") && s.hold.is_none()).await;
    assert_eq!(status.last_changes[0].kind, ChangeKind::Announced, "{status:#?}");
}

#[tokio::test]
async fn two_coordinators_at_once_end_with_one_primary_and_no_hold() {
    let pair = Pair::start().await;
    let (a, b) = two(&pair, AT_ONCE).await;
    let (one, other) = tokio::join!(a.switchover(to("b")), b.switchover(to("b")));
    let switched = [&one, &other].iter().filter(|report| report.outcome == Outcome::Switched).count();
    assert!(switched <= 1, "{one:#?} {other:#?}");
    for process in [&a, &b] {
        process.until("released", |status| status.hold.is_none()).await;
    }
    assert_eq!(a.status().view.primary, b.status().view.primary);
    assert_ne!(pair.role(0).await, pair.role(1).await);
}

#[tokio::test]
async fn a_failover_by_hand_is_nudged_and_followed() {
    let pair = Pair::start().await;
    let (a, b) = two(&pair, AT_ONCE).await;
    // Something that is not acknowledged yet, or FAILOVER would have nothing to wait for.
    pair.command(0, &["SET", "k", "v"]).await;
    let began = clock::now();
    pair.command(0, &["FAILOVER", "TO", "127.0.0.1", &pair.port(1), "TIMEOUT", "10000"]).await;
    for process in [&a, &b] {
        let status = process.serves("b").await;
        assert_eq!(status.last_changes[0].kind, ChangeKind::Observed);
    }
    // One poll of 100 ms may pass before it is seen.
    let took = clock::now() - began;
    assert!(took < Duration::from_millis(300), "{took:?}");
}

#[tokio::test]
async fn roles_switched_by_hand_demote_first_are_followed_at_once() {
    let pair = Pair::start().await;
    let a = Process::start(&pair, "a", AT_ONCE);
    a.serves("a").await;
    pair.command(0, &["REPLICAOF", "127.0.0.1", &pair.port(1)]).await;
    let demoted = a.until("demoted", |status| status.view.state == ViewState::Demoted).await;
    assert_eq!(demoted.view.primary, None);
    pair.command(1, &["REPLICAOF", "NO", "ONE"]).await;
    let status = a.serves("b").await;
    assert_eq!(status.last_changes[0].kind, ChangeKind::Observed);
    assert_eq!(status.last_changes[0].lost_bytes, Some(0), "{status:#?}");
}

#[tokio::test]
async fn a_killed_primary_is_given_up_and_the_promoted_replica_followed() {
    let mut pair = Pair::start().await;
    let a = Process::start(&pair, "a", AT_ONCE);
    a.serves("a").await;
    pair.kill(0);
    let lost = a.until("lost", |status| status.view.state == ViewState::Lost).await;
    assert_eq!(lost.ready(), Ok(()), "it holds");
    assert_eq!(a.orders.borrow().primary, None);
    pair.command(1, &["REPLICAOF", "NO", "ONE"]).await;
    let status = a.serves("b").await;
    assert_eq!(status.last_changes[0].kind, ChangeKind::Unplanned);
    let orders = a.orders.borrow().clone();
    assert!(orders.given_up < orders.epoch && orders.given_up.0 > 0, "{orders:?}");
}

#[tokio::test]
async fn a_frozen_primary_is_silent_after_the_deadline_and_comes_back() {
    let pair = Pair::start().await;
    let a = Process::start(&pair, "a", AT_ONCE);
    a.serves("a").await;
    pair.signal(0, "-STOP");
    let began = clock::now();
    a.until("lost", |status| status.view.state == ViewState::Lost).await;
    let took = clock::now() - began;
    assert!((Duration::from_millis(350)..Duration::from_millis(1500)).contains(&took), "{took:?}");
    pair.signal(0, "-CONT");
    let back = a.serves("a").await;
    assert_eq!(back.view.epoch, 2);
}

#[tokio::test]
async fn a_restarted_process_does_not_believe_an_empty_old_primary() {
    let mut pair = Pair::start().await;
    let a = Process::start(&pair, "a", AT_ONCE);
    a.serves("a").await;
    drain(a).await;
    pair.kill(0);
    pair.command(1, &["REPLICAOF", "NO", "ONE"]).await;
    pair.spawn(0, &[]).await;
    let again = Process::start(&pair, "a", AT_ONCE);
    let status = again.serves("b").await;
    assert!(status.view.epoch >= 2, "epochs only grow, restarts included: {}", status.view.epoch);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_and_a_memory_that_is_damaged_do_not_stop_serving() {
    let pair = Pair::start().await;
    let state = support::config(&pair, "a").state_dir;
    // No directory can be made where a file is; unlike permissions, this holds for root as well.
    std::fs::write(&state, "in the way").unwrap();
    let a = Process::start(&pair, "a", AT_ONCE);
    a.serves("a").await;
    drain(a).await;
    std::fs::remove_file(&state).unwrap();
    let again = Process::start(&pair, "a", AT_ONCE);
    again.serves("a").await;
    drain(again).await;
    let file = std::fs::read_dir(&state).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&file, "{}").unwrap();
    let third = Process::start(&pair, "a", AT_ONCE);
    third.serves("a").await;
    drain(third).await;
    let names: Vec<_> = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "the damaged text is kept aside: {names:?}");
}

#[tokio::test]
async fn a_drain_ends_the_process_and_says_farewell() {
    let pair = Pair::start().await;
    let (a, b) = two(&pair, AT_ONCE).await;
    drain(a).await;
    b.until("a has left", |status| status.peers.is_empty()).await;
}

async fn drain(process: Process) {
    let (reply, answer) = tokio::sync::oneshot::channel();
    process.admin.requests.send(AdminRequest::Drain { stop: true, reply }).await.unwrap();
    assert!(answer.await.unwrap().is_ok());
    tokio::time::timeout(PATIENCE, process.task).await.expect("it ends").unwrap();
}
