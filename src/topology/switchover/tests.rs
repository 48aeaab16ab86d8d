//! Stories of the machine: what it orders, what it is told, how it ends.

use std::time::Duration;

use super::gates::{NodeFacts, Target, check};
use super::*;
use crate::protocol::info::{PrimaryLink, ReplicaLine, ReplicationInfo, RunId, ServerInfo, WireRole};

const A: NodeId = NodeId(0);
const B: NodeId = NodeId(1);

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn id(c: char) -> ReplId {
    ReplId([c as u8; 40])
}

fn report(role: WireRole, ids: &str) -> NodeReport {
    let mut names = ids.chars();
    let line = ReplicaLine { ip: "10.0.0.2".into(), port: 7002, online: true, offset: 900, lag: 0 };
    let link = PrimaryLink {
        host: "10.0.0.1".into(),
        port: 7001,
        up: true,
        sync_in_progress: false,
        slave_repl_offset: 1000,
        last_io_seconds: Some(0),
    };
    NodeReport {
        server: ServerInfo { run_id: RunId([b'1'; 40]), version: "7.0.15".into(), valkey: None, shutdown_in_ms: None },
        replication: ReplicationInfo {
            role,
            replid: id(names.next().unwrap()),
            replid2: names.next().map(id),
            offset: 1000,
            second_offset: None,
            failover: FailoverState::None,
            replicas: if role.is_primary() { vec![line] } else { Vec::new() },
            primary_link: (!role.is_primary()).then_some(link),
        },
        loading: None,
        asked_at: Duration::ZERO,
    }
}

fn facts(role: WireRole, ids: &str) -> NodeFacts {
    NodeFacts {
        report: report(role, ids),
        replica_read_only: Some(true),
        requires_password: Some(false),
        has_primary_auth: Some(false),
    }
}

fn target() -> Target {
    Target { host: "b.example".into(), port: 7002, max_lag_bytes: 1 << 20 }
}

struct Story {
    machine: Switchover,
    now: u64,
}

impl Story {
    fn new(peers: &[&str]) -> Self {
        let peers = peers.iter().map(|name| PeerId((*name).into())).collect();
        Self { machine: Switchover::new(Settings::default(), A, B, peers, at(0)), now: 0 }
    }

    /// Gates passed, everybody quiet, FAILOVER accepted: what was ordered until then is not looked at again.
    fn handing_over() -> Self {
        let mut story = Self::new(&["p1"]);
        story.hear(A, report(WireRole::Master, "a"), FailoverState::None);
        story.tell(Event::GatesChecked(Vec::new())).tell(Event::QuiescedBy(PeerId("p1".into())));
        story.tell(Event::FailoverAccepted);
        story.effects();
        story
    }

    fn tell(&mut self, event: Event) -> &mut Self {
        self.now += 1;
        self.machine.handle_event(event, at(self.now));
        self
    }

    fn hear(&mut self, node: NodeId, mut report: NodeReport, failover: FailoverState) -> &mut Self {
        report.asked_at = at(self.now + 1);
        report.replication.failover = failover;
        self.now += 1;
        self.tell(Event::Reported(node, report))
    }

    fn pass(&mut self, ms: u64) -> &mut Self {
        self.now += ms;
        self.machine.handle_timeout(at(self.now));
        self
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.machine.poll_effect()).collect()
    }

    fn outcome(&self) -> Outcome {
        self.machine.outcome().unwrap().outcome.clone()
    }

    fn aborted(&self) -> (&'static str, String) {
        match self.outcome() {
            Outcome::Aborted { step, why } => (step, why),
            other => panic!("not aborted: {other:?}"),
        }
    }
}

#[test]
fn everything_goes_well() {
    let mut story = Story::new(&["p1", "p2"]);
    assert_eq!(story.effects(), [Effect::CheckGates]);
    story.hear(A, report(WireRole::Master, "a"), FailoverState::None).tell(Event::GatesChecked(Vec::new()));
    assert_eq!(story.effects(), [Effect::AnnounceHold { deadline: at(3 + 4500) }, Effect::PollFast(true)]);
    story.tell(Event::QuiescedBy(PeerId("p1".into())));
    assert_eq!(story.effects(), []);
    story.tell(Event::PeerLeft(PeerId("p2".into())));
    let nudge = Effect::Nudge { replica: B };
    assert_eq!(story.effects(), [Effect::SendFailover { to: B, timeout: at(2000) }, nudge.clone()]);
    story.tell(Event::FailoverAccepted);
    story.hear(A, report(WireRole::Master, "a"), FailoverState::WaitingForSync);
    assert_eq!(story.effects(), [nudge]);
    story.hear(A, report(WireRole::Slave, "a"), FailoverState::InProgress);
    story.hear(B, report(WireRole::Slave, "a"), FailoverState::None);
    assert_eq!(story.effects(), []);
    story.hear(B, report(WireRole::Master, "ba"), FailoverState::None);
    assert_eq!(story.effects(), [Effect::AnnounceRelease { switched: true }]);
    story.hear(A, report(WireRole::Slave, "ba"), FailoverState::None);
    assert_eq!(story.effects(), [Effect::PollFast(false), Effect::Done]);
    assert_eq!(story.outcome(), Outcome::Switched { rejoined: true });
    let names: Vec<_> = story.machine.steps().iter().map(|step| step.name).collect();
    assert_eq!(names, ["gates", "quiesce", "sync", "promote", "rejoin"]);
    assert_eq!(story.machine.poll_timeout(), None);
}

#[test]
fn a_failed_gate_begins_nothing() {
    let mut story = Story::new(&["p1"]);
    story.effects();
    story.tell(Event::GatesChecked(vec![GateResult { name: "roles", passed: false, detail: "no".into() }]));
    assert_eq!(story.outcome(), Outcome::Refused { why: "roles: no".into() });
    assert_eq!(story.effects(), [Effect::PollFast(false), Effect::Done]);
}

#[test]
fn whoever_stays_busy_is_named_and_everybody_is_released() {
    let mut story = Story::new(&["p1", "p2"]);
    story.tell(Event::GatesChecked(Vec::new())).tell(Event::QuiescedBy(PeerId("p1".into())));
    story.effects();
    story.pass(1000);
    assert_eq!(story.aborted(), ("quiesce", "still busy at the limit: p2".into()));
    assert_eq!(story.effects()[0], Effect::AnnounceRelease { switched: false });
}

#[test]
fn a_refused_failover_releases_to_the_old_primary() {
    let mut story = Story::handing_over();
    story.tell(Event::FailoverRefused("ERR FAILOVER requires connected replicas.".into()));
    assert_eq!(story.aborted().1, "FAILOVER was refused: ERR FAILOVER requires connected replicas.");
}

#[test]
fn the_server_gives_up_by_itself() {
    let mut story = Story::handing_over();
    story.hear(A, report(WireRole::Master, "a"), FailoverState::WaitingForSync);
    assert!(story.machine.outcome().is_none());
    story.hear(A, report(WireRole::Master, "a"), FailoverState::None);
    assert_eq!(story.aborted(), ("sync", "the server gave the failover up by itself".into()));
}

#[test]
fn the_watchdog_aborts_only_when_the_target_was_heard_as_a_replica() {
    let mut story = Story::handing_over();
    story.hear(A, report(WireRole::Slave, "a"), FailoverState::InProgress).pass(2500);
    assert_eq!(story.effects(), [Effect::PollFast(true)]);
    story.hear(B, report(WireRole::Slave, "a"), FailoverState::None);
    assert_eq!(story.effects(), [Effect::SendAbort]);
    story.tell(Event::AbortAccepted).hear(A, report(WireRole::Master, "ca"), FailoverState::None);
    assert_eq!(story.aborted(), ("take back", "the target was not promoted in time".into()));
}

#[test]
fn a_target_that_was_promoted_after_all_is_not_taken_back() {
    let mut story = Story::handing_over();
    story.hear(A, report(WireRole::Slave, "a"), FailoverState::InProgress).pass(2500);
    story.hear(B, report(WireRole::Master, "ba"), FailoverState::None);
    assert_eq!(story.effects(), [Effect::PollFast(true), Effect::AnnounceRelease { switched: true }]);
}

#[test]
fn a_target_that_dies_after_catching_up_is_given_up_at_once() {
    let mut story = Story::handing_over();
    story.hear(A, report(WireRole::Slave, "a"), FailoverState::InProgress).tell(Event::Lost(B));
    assert_eq!(story.effects(), [Effect::PollFast(true), Effect::SendAbort]);
    story.tell(Event::AbortAccepted).pass(1000);
    assert!(story.aborted().1.starts_with("the target was lost; the abort had no effect in time"));
}

#[test]
fn the_death_of_the_old_primary_ends_the_plan() {
    let mut story = Story::handing_over();
    story.tell(Event::Lost(A));
    assert_eq!(story.aborted(), ("sync", "the old primary was lost".into()));
    assert_eq!(story.effects(), [Effect::AnnounceRelease { switched: false }, Effect::PollFast(false), Effect::Done]);
}

#[test]
fn a_primary_of_another_history_is_not_believed() {
    let mut story = Story::handing_over();
    story.hear(B, report(WireRole::Master, "zy"), FailoverState::None);
    assert_eq!(story.effects(), []);
    assert!(story.machine.outcome().is_none());
}

#[test]
fn every_hold_is_released_exactly_once_and_the_machine_ends_whatever_is_told_when() {
    // Every order of up to four events out of all kinds, with every deadline let pass at the end.
    let kinds: Vec<Event> = vec![
        Event::GatesChecked(Vec::new()),
        Event::QuiescedBy(PeerId("p1".into())),
        Event::FailoverAccepted,
        Event::FailoverRefused("no".into()),
        Event::Reported(A, report(WireRole::Master, "a")),
        Event::Reported(A, report(WireRole::Slave, "a")),
        Event::Reported(B, report(WireRole::Master, "ba")),
        Event::Reported(B, report(WireRole::Slave, "a")),
        Event::Lost(A),
        Event::Lost(B),
        Event::AbortAccepted,
        Event::Cancelled("operator".into()),
    ];
    let count = kinds.len();
    for order in 0..count.pow(4) {
        let mut story = Story::new(&["p1"]);
        story.tell(Event::GatesChecked(Vec::new())).tell(Event::QuiescedBy(PeerId("p1".into())));
        let mut rest = order;
        for _ in 0..4 {
            let mut event = kinds[rest % count].clone();
            rest /= count;
            if let Event::Reported(_, report) = &mut event {
                report.asked_at = at(story.now + 1);
            }
            story.tell(event);
        }
        for _ in 0..4 {
            story.pass(5000);
        }
        assert!(story.machine.outcome().is_some(), "order {order} does not end");
        let effects = story.effects();
        let releases = effects.iter().filter(|effect| matches!(effect, Effect::AnnounceRelease { .. })).count();
        assert_eq!(releases, 1, "order {order}: {effects:?}");
    }
}

#[test]
fn gates_say_what_is_wrong() {
    let (good_from, good_to) = (facts(WireRole::Master, "a"), facts(WireRole::Slave, "a"));
    let failed = |from: &NodeFacts, to: &NodeFacts| -> Vec<&'static str> {
        check(Ok(from), Ok(to), &target()).into_iter().filter(|gate| !gate.passed).map(|gate| gate.name).collect()
    };
    assert_eq!(failed(&good_from, &good_to), Vec::<&str>::new());
    type Spoil = fn(&mut NodeFacts, &mut NodeFacts);
    let cases: [(&str, Spoil); 10] = [
        ("roles", |from, _| from.report.replication.role = WireRole::Slave),
        ("version", |from, _| from.report.server.version = "6.0.20".into()),
        ("no change under way", |from, _| from.report.replication.failover = FailoverState::WaitingForSync),
        ("no change under way", |_, to| to.report.server.shutdown_in_ms = Some(900)),
        ("replica in sync", |_, to| to.report.replication.primary_link.as_mut().unwrap().up = false),
        ("replica in sync", |_, to| to.report.replication.replid = id('x')),
        ("replica in sync", |from, _| from.report.replication.offset = 1 << 30),
        ("replica in sync", |from, _| from.report.replication.replicas[0].online = false),
        ("replica-read-only", |from, _| from.replica_read_only = Some(false)),
        ("replication password", |_, to| to.requires_password = Some(true)),
    ];
    for (name, spoil) in cases {
        let (mut from, mut to) = (good_from.clone(), good_to.clone());
        spoil(&mut from, &mut to);
        assert_eq!(failed(&from, &to), [name]);
    }
    let gates = check(Ok(&good_from), Err("connection refused"), &target());
    assert_eq!(gates.last().unwrap().detail, "connection refused");
}

#[test]
fn of_several_replicas_the_configured_one_is_the_target() {
    let mut from = report(WireRole::Master, "a");
    let other = ReplicaLine { ip: "10.0.0.3".into(), port: 7003, online: true, offset: 900, lag: 0 };
    from.replication.replicas.insert(0, other.clone());
    assert_eq!(gates::address(&from, &target()).map(|line| line.port), Some(7002));
    from.replication.replicas = vec![other.clone(), other];
    assert_eq!(gates::address(&from, &target()), None);
}
