//! The page as people see it.

use jiff::tz::TimeZone;

use super::page::page;
use crate::cli::show::Paint;
use crate::io::admin::status::{
    ChangeKind, ChangeReport, ChannelStatus, ConnectionsStatus, DrainStatus, FailoverStatus, FeltStatus, HoldStatus,
    NodeLink, NodeRole, NodeStatus, PeerStatus, Status, ViewState, ViewStatus, WitnessStatus,
};

fn node(name: &str, role: NodeRole, lag: Option<u64>) -> NodeStatus {
    NodeStatus {
        name: name.into(),
        addr: format!("{name}.cache.example:6379"),
        role: Some(role),
        link: NodeLink::Up,
        redis_version: Some("7.2.4".into()),
        run_id: Some("c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00".into()),
        replid: Some("8f3a12c48f3a12c48f3a12c48f3a12c48f3a12c4".into()),
        offset: Some(1_234_567_890),
        lag_bytes: lag,
        last_heard_ms: Some(41),
        ..NodeStatus::default()
    }
}

fn change(kind: ChangeKind, at_unix_ms: u64, took_ms: f64, lost_bytes: Option<u64>) -> ChangeReport {
    ChangeReport {
        kind,
        from: Some("a".into()),
        to: "b".into(),
        epoch: 7,
        at_unix_ms,
        took_ms,
        longest_stall_ms: Some(took_ms + 0.6),
        held: 14,
        lost_bytes,
    }
}

fn well() -> Status {
    let mut primary = node("b", NodeRole::Primary, None);
    primary.replid2 = Some("77aa01de77aa01de77aa01de77aa01de77aa01de".into());
    Status {
        felt: FeltStatus::default(),
        version: "0.1.0".into(),
        instance: "5f2c77aa01de".into(),
        node: Some("a".into()),
        at_unix_ms: 1_796_000_000_000,
        uptime_ms: 275_000_000,
        nodes: vec![node("a", NodeRole::Replica, Some(0)), primary],
        view: ViewStatus {
            epoch: 7,
            primary: Some("b".into()),
            state: ViewState::Serving,
            reason: None,
            since_ms: 8_000_000,
        },
        acknowledge: None,
        hold: None,
        connections: ConnectionsStatus {
            open: 212,
            accepted: 8_412,
            commands: 91_234_567,
            most: 10_000,
            open_files: 1 << 20,
        },
        peers: vec![PeerStatus { instance: "1f3c".into(), node: Some("b".into()), age_ms: 430, clock_ahead_ms: None }],
        channel: Some(ChannelStatus { authenticated: true, ..ChannelStatus::default() }),
        last_changes: vec![
            change(ChangeKind::Announced, 1_795_992_000_000, 2.53, Some(0)),
            change(ChangeKind::Unplanned, 1_795_900_000_000, 1_310.0, Some(1_536)),
        ],
        drain: None,
        failover: None,
    }
}

fn shown(status: &Status) -> String {
    page(status, Paint::plain(), &TimeZone::UTC)
}

#[test]
fn all_is_well() {
    let expected = "\
changeover 0.1.0 beside a, up 3 d 4 h

● b is primary  (view 7, for 2 h 13 min)

  Clients  212 open of at most 10,000, 8,412 accepted, 91,234,567 commands answered
  Peers    beside b, heard 430 ms ago

  Node  Address               Says     Link         Offset  Behind      Heard  Server  History
 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
  a     a.cache.example:6379  replica  up    1,234,567,890     0 B  41 ms ago  7.2.4   8f3a12c4
  b     b.cache.example:6379  primary  up    1,234,567,890          41 ms ago  7.2.4   8f3a12c4 after 77aa01de

  Change     From  To  When                    Took  Longest stall         Held     Lost
 ───────────────────────────────────────────────────────────────────────────────────────
  announced  a     b   2026-11-29 22:40:00  2.53 ms        3.13 ms  14 sessions      0 B
  unplanned  a     b   2026-11-28 21:06:40    1.3 s          1.3 s  14 sessions  1.5 KiB
";
    let page = shown(&well());
    println!("{page}");
    assert_eq!(page, expected);
}

#[test]
fn a_doubt_says_what_to_do() {
    let mut status = well();
    status.view = ViewStatus {
        epoch: 7,
        primary: None,
        state: ViewState::Doubt,
        reason: Some("a came back without the data that was followed".into()),
        since_ms: 12_300,
    };
    status.hold = Some(HoldStatus { why: "no primary".into(), since_ms: 12_300, left_ms: 2_700, sessions: 41 });
    status.nodes[0].role = Some(NodeRole::Primary);
    status.nodes[0].lag_bytes = None;
    status.nodes[1].link = NodeLink::Down;
    status.nodes[1].detail = "connection refused".into();
    status.peers.clear();
    let page = shown(&status);
    println!("{page}");
    assert!(page.contains("▲ no primary, in doubt: a came back without the data that was followed"));
    assert!(page.contains("changeover adopt NODE"));
    assert!(page.contains("Hold     41 sessions for 12 s, ends by itself in 2.7 s: no primary\n"));
    assert!(page.contains("  ▲ a says that it is primary, but is not followed\n  ▲ b: connection refused\n"));
    assert!(page.contains("was primary  down"));
    assert!(page.contains("none heard"));
}

#[test]
fn a_drain_and_a_node_never_heard() {
    let mut status = well();
    status.drain =
        Some(DrainStatus { since_ms: 1_400, left_ms: 28_600, open: 120, closed: 92, ..DrainStatus::default() });
    status.nodes[0] = NodeStatus { name: "a".into(), addr: "a.cache.example:6379".into(), ..NodeStatus::default() };
    status.last_changes.clear();
    let page = shown(&status);
    println!("{page}");
    assert!(page.contains("▲ draining: 120 connections left, cut in 29 s  (92 closed, 0 moved, 0 cut, for 1.4 s)\n"));
    assert!(page.contains("never"));
    assert!(!page.contains("  ▲"), "a node that was not heard yet is not amiss");
    assert!(!page.contains("Longest stall"));
}

#[test]
fn who_may_promote_and_how_the_witness_stands() {
    let mut status = well();
    let mut failover = FailoverStatus {
        mode: "pair".into(),
        state: "watching".into(),
        would_promote: true,
        why: "when the primary is dead, or silent for longer than its lease".into(),
        fence_replicas: Some(1),
        fence_max_lag_ms: Some(3000),
        ..FailoverStatus::default()
    };
    failover.witness =
        Some(WitnessStatus { heard: true, age_ms: Some(20), holder: Some("b".into()), term: 4, lease_left_ms: None });
    status.failover = Some(failover.clone());
    let page = shown(&status);
    let told = "Failover pair, watching; would promote: when the primary is dead, or silent for longer than its lease; \
                fence: 1 replica within 3.0 s";
    assert!(page.contains(told), "{page}");
    assert!(page.contains("Witness  heard, the pair is held beside b (term 4)\n"), "{page}");
    failover.would_promote = false;
    failover.cut_off = true;
    failover.why = "it holds another history than the primary".into();
    failover.witness = Some(WitnessStatus { lease_left_ms: Some(0), ..WitnessStatus::default() });
    status.failover = Some(failover);
    let page = shown(&status);
    assert!(
        page.contains("cut off: the node in service is not served here; would not promote: it holds another"),
        "{page}"
    );
    assert!(page.contains("Witness  never heard (term 0), lease ends in 0 ms\n"), "{page}");
}
