//! The rule's main cases; the full stories are in `tests/transcripts/`.

use std::time::Duration;

use super::*;
use crate::protocol::info::{PrimaryLink, ReplId, ReplicationInfo, ServerInfo, WireRole};
use crate::topology::evidence::NodeReport;
use crate::topology::view::Doubt;

const A: NodeId = NodeId(0);
const B: NodeId = NodeId(1);

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn id(c: char) -> ReplId {
    ReplId([c as u8; 40])
}

fn report(role: WireRole, process: u8, ids: &str, offset: u64, fork: Option<u64>) -> NodeReport {
    let mut names = ids.chars();
    let link = PrimaryLink {
        host: "peer".into(),
        port: 1,
        up: true,
        sync_in_progress: false,
        slave_repl_offset: offset,
        last_io_seconds: Some(0),
    };
    NodeReport {
        server: ServerInfo {
            run_id: RunId([b'0' + process; 40]),
            version: "7.0.15".into(),
            valkey: None,
            shutdown_in_ms: None,
        },
        replication: ReplicationInfo {
            role,
            replid: id(names.next().unwrap()),
            replid2: names.next().map(id),
            offset,
            second_offset: fork,
            failover: FailoverState::None,
            replicas: Vec::new(),
            primary_link: (!role.is_primary()).then_some(link),
        },
        loading: None,
        asked_at: Duration::ZERO,
    }
}

fn primary(process: u8, ids: &str, offset: u64, fork: Option<u64>) -> NodeReport {
    report(WireRole::Master, process, ids, offset, fork)
}

fn replica(process: u8, ids: &str, offset: u64, fork: Option<u64>) -> NodeReport {
    report(WireRole::Slave, process, ids, offset, fork)
}

struct Story {
    topology: Topology,
    now: u64,
}

impl Story {
    fn new(nodes: usize, memory: Option<Memory>) -> Self {
        let nodes = ["a:1", "b:1"].into_iter().take(nodes).map(String::from).collect();
        let settings = Settings { nodes, silent_after: at(1000), silent_for: at(1000) };
        Self { topology: Topology::new(settings, memory, at(0)), now: 0 }
    }

    /// A pair in service: A is primary (process 1, history a), B its replica (process 2).
    fn steady() -> Self {
        let mut story = Self::new(2, None);
        story.hear(A, primary(1, "a", 593, None)).hear(B, replica(2, "a", 593, None));
        assert_eq!(story.topology.view().primary, Ok(A));
        story
    }

    fn say(&mut self, node: NodeId, evidence: Evidence) -> &mut Self {
        self.now += 5;
        self.topology.handle_evidence(node, evidence, at(self.now));
        self
    }

    fn hear(&mut self, node: NodeId, mut report: NodeReport) -> &mut Self {
        report.asked_at = at(self.now + 4);
        self.say(node, Evidence::Report(report))
    }

    fn view(&self) -> (u64, Result<NodeId, NoPrimary>, u64) {
        let view = self.topology.view();
        (view.epoch.0, view.primary.clone(), view.given_up.0)
    }

    fn memory(&mut self) -> Memory {
        let mut last = None;
        while let Some(output) = self.topology.poll_output() {
            if let Output::Remember(memory) = output {
                last = Some(memory);
            }
        }
        last.unwrap()
    }
}

#[test]
fn a_failover_of_redis_holds_and_names_the_promoted_one() {
    let mut story = Story::steady();
    story.hear(A, replica(1, "a", 600, None));
    assert_eq!(story.view(), (1, Err(NoPrimary::Demoted), 0));
    story.hear(B, primary(2, "ba", 600, Some(601)));
    assert_eq!(story.view(), (2, Ok(B), 0), "a clean demotion gives nobody up");
    story.hear(A, replica(1, "ba", 610, Some(601)));
    assert_eq!(story.view(), (2, Ok(B), 0));
}

#[test]
fn a_promotion_seen_first_does_not_cut_the_old_one_until_it_claims_again() {
    let mut story = Story::steady();
    story.hear(B, primary(2, "ba", 593, Some(594)));
    assert_eq!(story.view(), (2, Ok(B), 0));
    story.hear(A, primary(1, "a", 705, None));
    assert_eq!(story.view(), (2, Ok(B), 1));
    let notices: Vec<_> = std::iter::from_fn(|| story.topology.poll_output()).collect();
    assert!(notices.contains(&Output::Notice(Notice::SecondPrimary { node: A, split_bytes: Some(112) })));
}

#[test]
fn silence_gives_nobody_up_before_the_patience_is_over_or_another_is_named() {
    let nodes = ["a:1", "b:1"].map(String::from).to_vec();
    let settings = Settings { nodes, silent_after: at(1000), silent_for: at(5000) };
    let silent = || {
        let mut story = Story { topology: Topology::new(settings.clone(), None, at(0)), now: 0 };
        story.hear(A, primary(1, "a", 593, None)).hear(B, replica(2, "a", 593, None));
        for now in (250..=3000).step_by(250) {
            story.topology.handle_timeout(at(now));
        }
        story.now = 3000;
        assert_eq!(story.view(), (1, Err(NoPrimary::Lost), 0));
        story
    };
    let mut back = silent();
    back.hear(A, primary(1, "a", 600, None)).hear(B, replica(2, "a", 600, None));
    assert_eq!(back.view(), (2, Ok(A), 0), "its replies still count");
    let mut replaced = silent();
    replaced.hear(B, primary(2, "ba", 593, Some(594)));
    assert_eq!(replaced.view(), (2, Ok(B), 1));
    let mut restarted = silent();
    restarted.hear(A, primary(9, "z", 0, None));
    assert_eq!(restarted.view().2, 1);
    let mut gone = silent();
    for now in (3250..=5250).step_by(250) {
        gone.topology.handle_timeout(at(now));
    }
    assert_eq!(gone.view(), (1, Err(NoPrimary::Lost), 1));
}

#[test]
fn a_primary_that_restarts_empty_is_a_doubt_until_adopted() {
    let mut story = Story::steady();
    story.say(A, Evidence::Gone(Gone::EndOfFile));
    assert_eq!(story.view(), (1, Ok(A), 0), "an end of file alone is no loss");
    story.say(A, Evidence::Gone(Gone::Refused));
    assert_eq!(story.view(), (1, Err(NoPrimary::Lost), 1));
    story.hear(A, primary(9, "z", 0, None)).hear(B, replica(2, "z", 0, None));
    assert_eq!(story.view().1, Err(NoPrimary::Doubt(Doubt::Restarted(A))));
    story.topology.adopt(A, at(100)).unwrap();
    assert_eq!(story.view(), (2, Ok(A), 1));
}

#[test]
fn an_answer_to_a_question_from_before_the_loss_is_dropped() {
    let mut story = Story::steady();
    story.say(A, Evidence::Gone(Gone::Refused)).hear(B, replica(2, "a", 640, None));
    let mut late = primary(1, "a", 650, None);
    late.asked_at = at(5);
    story.say(A, Evidence::Report(late));
    assert_eq!(story.view(), (1, Err(NoPrimary::Lost), 1));
}

#[test]
fn a_replica_restarted_with_an_old_snapshot_does_not_take_over() {
    let mut story = Story::steady();
    story.say(B, Evidence::Gone(Gone::Refused)).hear(B, primary(8, "ya", 0, Some(1)));
    assert_eq!(story.view(), (1, Ok(A), 0));
    story.say(A, Evidence::Gone(Gone::Refused));
    assert_eq!(story.view().1, Err(NoPrimary::Doubt(Doubt::Restarted(B))));
}

#[test]
fn memory_survives_a_restart_and_the_epoch_goes_on() {
    let memory = Story::steady().memory();
    let mut story = Story::new(2, Some(Memory::from_text(&memory.to_text()).unwrap()));
    story.hear(A, primary(1, "a", 700, None));
    assert_eq!(story.view(), (1, Err(NoPrimary::Starting), 0), "the other one may be the successor");
    story.hear(B, primary(2, "ba", 650, Some(640)));
    assert_eq!(story.view().1, Ok(B));
    assert_eq!(story.view().0, 2);
}

#[test]
fn a_single_node_is_followed_whatever_it_is() {
    let mut story = Story::new(1, None);
    story.hear(A, primary(1, "a", 0, None));
    assert_eq!(story.view(), (1, Ok(A), 0));
    story.say(A, Evidence::Gone(Gone::Refused)).hear(A, primary(2, "b", 0, None));
    assert_eq!(story.view(), (2, Ok(A), 1));
}

#[test]
fn silence_counts_only_while_we_are_awake() {
    let mut story = Story::steady();
    let mut now = story.now;
    story.topology.handle_timeout(at(now + 5000));
    assert_eq!(story.topology.view().primary, Ok(A), "it was we who slept");
    now += 5000;
    let end = now + 1000;
    while now < end {
        now = u64::try_from(story.topology.poll_timeout().unwrap().as_millis()).unwrap();
        story.topology.handle_timeout(at(now));
    }
    assert_eq!(story.topology.view().primary, Err(NoPrimary::Lost));
}
