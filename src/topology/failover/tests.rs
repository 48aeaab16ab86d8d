//! The machine's main stories; the random ones are in `tests/failover_simulation`.

use super::*;
use crate::protocol::info::{
    FailoverState, Loading, PrimaryLink, ReplId, ReplicaLine, ReplicationInfo, ServerInfo, WireRole,
};
use crate::topology::{Answer, Topology, Trouble, primary};

const A: NodeId = NodeId(0);
const B: NodeId = NodeId(1);
const HOME: (&str, u16) = ("a", 6379);

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn says(role: WireRole, replid: char, offset: u64) -> ReplicationInfo {
    let link = PrimaryLink {
        host: HOME.0.into(),
        port: HOME.1,
        up: true,
        sync_in_progress: false,
        slave_repl_offset: offset,
        last_io_seconds: Some(0),
    };
    ReplicationInfo {
        role,
        replid: ReplId([replid as u8; 40]),
        replid2: None,
        offset,
        second_offset: None,
        failover: FailoverState::None,
        replicas: Vec::new(),
        primary_link: (!role.is_primary()).then_some(link),
    }
}

/// The process beside B, told what its probes see.
struct Story {
    topology: Topology,
    machine: Failover,
    now: u64,
    b: ReplicationInfo,
}

impl Story {
    /// A (process 1) is primary, B (process 2) its replica in sync, and both have been seen for a while.
    fn steady() -> Self {
        let names = vec!["a:6379".to_owned(), "b:6379".to_owned()];
        let rule = primary::Settings { nodes: names, silent_after: at(1000), silent_for: at(1000) };
        let addresses = [("a".to_owned(), 6379), ("b".to_owned(), 6379)];
        let settings = Settings::usual(addresses, true, Rejoin::Always, at(1000));
        let mut story = Self {
            topology: Topology::new(rule, None, at(0)),
            machine: Failover::new(settings, B, at(0)),
            now: 0,
            b: says(WireRole::Slave, 'a', 500),
        };
        for _ in 0..20 {
            story.a(says(WireRole::Master, 'a', 500), '1');
            story.hear_b();
            story.wait(50);
        }
        assert_eq!(story.topology.view().primary, Ok(A));
        assert_eq!(story.orders(), [(A, Duty::ReadFence)]);
        story
    }

    fn see(&mut self, node: NodeId, evidence: Evidence) {
        self.now += 5;
        self.machine.handle_evidence(node, &evidence, at(self.now));
        self.topology.handle_evidence(node, evidence, at(self.now));
        self.look();
    }

    fn report(&mut self, node: NodeId, process: char, replication: ReplicationInfo) {
        let run_id = RunId([process as u8; 40]);
        let server = ServerInfo { run_id, version: "7.0.15".into(), valkey: None, shutdown_in_ms: None };
        let asked_at = at(self.now + 1);
        self.see(node, Evidence::Report(NodeReport { server, replication, loading: None, asked_at }));
    }

    fn a(&mut self, replication: ReplicationInfo, process: char) {
        self.report(A, process, replication);
    }

    fn hear_b(&mut self) {
        self.report(B, '2', self.b.clone());
    }

    /// A answers with an error, on a connection of process 1 or of nobody knows which.
    fn errs(&mut self, trouble: Trouble, known: bool) {
        let process = known.then_some((RunId([b'1'; 40]), Some(Role::Primary)));
        let asked_at = at(self.now + 1);
        self.see(A, Evidence::Answers(Answer { trouble, process, asked_at }));
    }

    /// A's place is taken by process 3, which loads its data.
    fn loads(&mut self) {
        let server =
            ServerInfo { run_id: RunId([b'3'; 40]), version: "7.0.15".into(), valkey: None, shutdown_in_ms: None };
        let (replication, loading) = (says(WireRole::Master, 'x', 0), Some(Loading::default()));
        let asked_at = at(self.now + 1);
        self.see(A, Evidence::Report(NodeReport { server, replication, loading, asked_at }));
    }

    fn gone(&mut self, gone: Gone) {
        self.see(A, Evidence::Gone(gone));
    }

    fn wait(&mut self, ms: u64) {
        self.now += ms;
        self.topology.handle_timeout(at(self.now));
        self.look();
    }

    fn look(&mut self) {
        while self.topology.poll_output().is_some() {}
        let scene = Scene {
            view: self.topology.view(),
            followed: self.topology.followed(),
            mine: self.topology.node(B).unwrap(),
            other: self.topology.node(A).unwrap(),
            calm: true,
        };
        self.machine.look(&scene, at(self.now));
    }

    /// What was ordered since the last time.
    fn orders(&mut self) -> Vec<(NodeId, Duty)> {
        let effects = std::iter::from_fn(|| self.machine.poll_effect());
        effects
            .filter_map(|effect| match effect {
                Effect::Do { node, duty } => Some((node, duty)),
                _ => None,
            })
            .collect()
    }

    fn done(&mut self, node: NodeId, duty: &Duty, done: Done) {
        self.now += 1;
        self.machine.handle_done(node, duty, Ok(done), at(self.now));
        self.look();
    }

    /// A dies, B notices and is parked.
    fn parked(&mut self) {
        self.gone(Gone::EndOfFile);
        self.gone(Gone::Refused);
        self.b.primary_link.as_mut().unwrap().up = false;
        self.hear_b();
        assert_eq!(self.orders(), [(B, Duty::Park)]);
        let link = self.b.primary_link.as_mut().unwrap();
        (link.host, link.port) = (PARKED.0.to_owned(), PARKED.1);
        self.done(B, &Duty::Park, Done::Plainly);
        self.hear_b();
    }
}

fn promote() -> Duty {
    Duty::Promote { process: RunId([b'2'; 40]), last_look: LastLook::Refuses }
}

#[test]
fn a_dead_primary_is_replaced_after_it_has_refused_for_long_enough() {
    let mut story = Story::steady();
    story.parked();
    assert_eq!(story.orders(), [], "not yet");
    for _ in 0..10 {
        story.gone(Gone::Refused);
        story.hear_b();
        story.wait(20);
    }
    assert_eq!(story.orders(), [(B, promote())]);
}

#[test]
fn the_process_beside_it_may_shorten_that_and_any_other_may_object() {
    let mut story = Story::steady();
    story.parked();
    story.gone(Gone::Refused);
    story.machine.handle_word(A, Saw::Refused, false, at(story.now));
    story.hear_b();
    assert_eq!(story.orders(), [], "it is not beside it");
    story.machine.handle_word(A, Saw::Answers, false, at(story.now));
    story.machine.handle_word(A, Saw::Refused, true, at(story.now));
    for _ in 0..15 {
        story.gone(Gone::Refused);
        story.hear_b();
        story.wait(20);
    }
    assert_eq!(story.orders(), [], "somebody had an answer from it");
    story.wait(400);
    story.gone(Gone::Refused);
    story.hear_b();
    story.wait(250);
    assert_eq!(story.orders(), [(B, promote())], "an objection does not count for ever");
}

#[test]
fn a_primary_that_only_stopped_listening_is_left_alone() {
    let mut story = Story::steady();
    for _ in 0..100 {
        story.gone(Gone::Refused);
        story.hear_b();
        story.wait(20);
    }
    assert!(story.orders().iter().all(|(_, duty)| *duty == Duty::ReadFence), "its replica still hears it");
}

#[test]
fn a_hang_up_alone_is_nothing() {
    let mut story = Story::steady();
    story.gone(Gone::EndOfFile);
    story.hear_b();
    story.a(says(WireRole::Master, 'a', 500), '1');
    assert_eq!((story.orders(), story.machine.state()), (vec![], "watching"));
}

#[test]
fn a_primary_that_answers_again_gets_its_replica_back() {
    let mut story = Story::steady();
    story.parked();
    story.a(says(WireRole::Master, 'a', 500), '1');
    let unpark = Duty::Unpark { host: HOME.0.into(), port: HOME.1 };
    assert_eq!(story.orders(), [(B, unpark)]);
}

#[test]
fn one_that_returns_empty_is_demoted_first_and_only_then_is_the_replica_promoted() {
    let mut story = Story::steady();
    story.parked();
    story.a(says(WireRole::Master, 'x', 0), '3');
    let demote = Duty::Demote { host: "b".into(), port: 6379, only_if_empty: false };
    assert_eq!(story.orders(), [(A, demote.clone())]);
    story.done(A, &demote, Done::Plainly);
    story.hear_b();
    assert_eq!(story.orders(), [], "it has not said so itself");
    story.a(says(WireRole::Slave, 'x', 0), '3');
    let promote = Duty::Promote { process: RunId([b'2'; 40]), last_look: LastLook::Needless };
    assert_eq!(story.orders(), [(B, promote)]);
}

#[test]
fn silence_promotes_only_behind_a_fence_and_only_after_it_has_closed() {
    for fence in [Fence::default(), Fence { min_replicas: 1, max_lag: at(2000) }] {
        let mut story = Story::steady();
        story.done(A, &Duty::ReadFence, Done::Fence(fence));
        let mut parked_at = None;
        let mut promoted_at = None;
        for _ in 0..500 {
            story.wait(20);
            story.see(A, Evidence::Silent);
            story.hear_b();
            for (node, duty) in story.orders() {
                if duty == Duty::Park {
                    parked_at = Some(story.now);
                    let link = story.b.primary_link.as_mut().unwrap();
                    (link.host, link.port, link.up) = (PARKED.0.to_owned(), PARKED.1, false);
                    story.done(node, &duty, Done::Plainly);
                } else if matches!(duty, Duty::Promote { .. }) {
                    promoted_at = promoted_at.or(Some(story.now));
                }
            }
        }
        match (fence.is_armed(), parked_at, promoted_at) {
            (false, None, None) => {}
            (true, Some(parked), Some(promoted)) => assert!((6000..6200).contains(&(promoted - parked))),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn after_a_pause_of_our_own_every_proof_starts_anew() {
    let mut story = Story::steady();
    story.parked();
    story.gone(Gone::Refused);
    story.wait(20_000);
    story.gone(Gone::Refused);
    story.gone(Gone::Refused);
    story.hear_b();
    assert_eq!(story.orders(), [], "it has just woken up");
    for _ in 0..20 {
        story.gone(Gone::Refused);
        story.hear_b();
        story.wait(20);
    }
    assert_eq!(story.orders(), [(B, promote())]);
}

#[test]
fn a_replica_that_has_begun_to_take_over_other_data_is_not_promoted() {
    let mut story = Story::steady();
    story.parked();
    story.b.offset = 0;
    for _ in 0..50 {
        story.gone(Gone::Refused);
        story.hear_b();
        story.wait(20);
    }
    assert_eq!(story.orders(), []);
}

#[test]
fn what_was_seen_before_a_pause_is_as_old_as_it_is() {
    let mut story = Story::steady();
    let before = at(story.now);
    story.now += 20_000;
    // It had arrived before the pause and is read only now.
    let server = ServerInfo { run_id: RunId([b'1'; 40]), version: "7.0.15".into(), valkey: None, shutdown_in_ms: None };
    let old = NodeReport { server, replication: says(WireRole::Master, 'a', 500), loading: None, asked_at: before };
    story.see(A, Evidence::Report(old));
    story.orders();
    story.parked();
    for _ in 0..50 {
        story.gone(Gone::Refused);
        story.hear_b();
        story.wait(20);
    }
    assert_eq!(story.orders(), [], "whether it had everything 20 seconds later, nobody knows");
}

#[test]
fn the_fence_comes_back_only_when_the_new_replica_counts() {
    let mut story = Story::steady();
    story.parked();
    for _ in 0..10 {
        story.gone(Gone::Refused);
        story.hear_b();
        story.wait(20);
    }
    assert_eq!(story.orders(), [(B, promote())]);
    story.b = says(WireRole::Master, 'b', 500);
    (story.b.replid2, story.b.second_offset) = (Some(ReplId([b'a'; 40])), Some(501));
    story.done(B, &promote(), Done::Promoted { min_replicas: 1 });
    let restore = (B, Duty::Restore { min_replicas: 1 });
    for counts in [false, true] {
        if counts {
            let (ip, port) = (HOME.0.to_owned(), HOME.1);
            story.b.replicas = vec![ReplicaLine { ip, port, online: true, offset: 500, lag: 0 }];
        }
        for _ in 0..5 {
            story.hear_b();
            story.a(says(WireRole::Slave, 'b', 500), '3');
            story.wait(20);
        }
        assert_eq!(story.topology.view().primary, Ok(B));
        assert_eq!(story.orders().contains(&restore), counts, "a replica that does not count yet closes the fence");
    }
}

#[test]
fn what_answers_with_an_error_is_not_replaced_however_long_it_lasts() {
    for known in [true, false] {
        let mut story = Story::steady();
        story.done(A, &Duty::ReadFence, Done::Fence(Fence { min_replicas: 1, max_lag: at(2000) }));
        for _ in 0..500 {
            story.wait(20);
            story.errs(if known { Trouble::Busy } else { Trouble::Login("WRONGPASS".into()) }, known);
            story.hear_b();
            let orders = story.orders();
            assert!(orders.iter().all(|(_, duty)| *duty == Duty::ReadFence), "{orders:?}");
        }
        assert_eq!(story.topology.view().primary.is_ok(), known);
    }
}

#[test]
fn a_newcomer_that_loads_is_looked_at_once_more_before_the_replica_is_promoted() {
    let mut story = Story::steady();
    story.parked();
    let mut orders = Vec::new();
    for _ in 0..20 {
        story.wait(20);
        story.loads();
        story.hear_b();
        orders.extend(story.orders());
    }
    let last_look = LastLook::Loads(RunId([b'3'; 40]));
    assert_eq!(orders, [(B, Duty::Promote { process: RunId([b'2'; 40]), last_look })]);
}
