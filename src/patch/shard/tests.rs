//! What happens to one shard, step by step.

use std::time::Duration;

use super::words::{Answer, Output, Settings, Task, Unknown};
use super::*;
use crate::patch::health::{NodeSeen, Sight};
use crate::patch::journal::UnderWay;
use crate::patch::plan::{Kind, Steps};

const ALL: Steps = Steps {
    before_drain: true,
    drain: true,
    after_ready: true,
    switch_back: true,
    restarts: false,
    rude: false,
    blip_ms: 0,
};

struct Story {
    shard: Shard,
    now: Duration,
    primary: usize,
    proxies: [bool; 2],
    run_ids: [u32; 2],
    last: Option<Order>,
}

impl Story {
    fn new(with: Steps, past: Past, settings: Settings) -> Self {
        let nodes = vec!["a".to_owned(), "b".to_owned()];
        let plan = ShardPlan { group: "g".into(), name: "s".into(), targets: vec![0, 1], nodes, with };
        let plan = Plan { kind: Kind::Patch, shards: vec![plan] };
        let mut shard = Shard::new(&plan, 0, past, settings).unwrap();
        shard.begin(Duration::ZERO);
        Self { shard, now: Duration::ZERO, primary: 0, proxies: [true; 2], run_ids: [1; 2], last: None }
    }

    fn seen(&self) -> Observation {
        let node = |node: usize| NodeSeen {
            up: Ok(()),
            primary: self.primary == node,
            run_id: Some(self.run_ids[node].to_string()),
            in_sync: Ok(()),
        };
        let sight = Sight { ready: Ok(()), primary: Some(self.primary), nodes: vec![node(0), node(1)] };
        let proxy = |up: bool| if up { Proxy::Up(sight.clone()) } else { Proxy::Down("gone".into()) };
        Observation { asked_at: self.now, proxies: self.proxies.iter().map(|up| proxy(*up)).collect() }
    }

    /// A second goes by, then the shard is looked at; what it does, in words.
    fn look(&mut self, permit: bool) -> String {
        self.now += Duration::from_secs(1);
        let seen = self.seen();
        self.shard.handle_observation(&seen, permit, self.now);
        self.said()
    }

    /// A second goes by, then the open order is answered.
    fn answer(&mut self, answer: Answer) -> String {
        self.now += Duration::from_secs(1);
        let ticket = self.last.as_ref().unwrap().ticket;
        self.shard.handle_answer(ticket, answer, self.now);
        self.said()
    }

    fn done(&mut self) -> String {
        self.answer(Answer::Done(Felt::default()))
    }

    fn said(&mut self) -> String {
        let mut said = Vec::new();
        while let Some(output) = self.shard.poll_output() {
            said.push(match output {
                Output::Do(order) => {
                    self.last = Some(order.clone());
                    match order.task {
                        Task::Switchover { to } => format!("switchover to {to}"),
                        Task::Drain { node } => format!("drain {node}"),
                        Task::Run { node, hook, attempt } => format!("run {hook:?} {node} #{attempt}"),
                        Task::Join { node, hook, attempt } => format!("join {hook:?} {node} #{attempt}"),
                    }
                }
                Output::Record(Record::NodeDone { node, .. }) => format!("{node} done"),
                Output::Record(Record::ShardDone { .. }) => "shard done".to_owned(),
                Output::Record(_) => continue,
                Output::Waiting { why, .. } => why,
            });
        }
        said.join(", ")
    }
}

fn fresh(with: Steps) -> Story {
    Story::new(with, Past::default(), Settings::default())
}

fn half(step: Step, mark: Mark, settings: Settings) -> Story {
    let mut past = Past { home: Some(0), ..Past::default() };
    past.under_way = Some(UnderWay { node: 1, run_id: None, marks: [(step, mark)].into() });
    let with = Steps { before_drain: false, drain: false, ..ALL };
    Story::new(with, past, settings)
}

#[test]
fn the_replica_first_then_the_primary_behind_a_switchover_then_back() {
    let mut story = fresh(ALL);
    for (node, name) in [(1, "b"), (0, "a")] {
        if node == 0 {
            assert_eq!(story.look(true), "switchover to 1");
            story.primary = 1;
            assert_eq!(story.done(), "");
        }
        assert_eq!(story.look(true), format!("run BeforeDrain {node} #1"));
        assert_eq!(story.done(), format!("drain {node}"));
        story.proxies[node] = false;
        assert_eq!(story.done(), "");
        assert_eq!(story.look(true), format!("run Work {node} #1"));
        assert_eq!(story.done(), "");
        assert_eq!(story.look(true), format!("the proxy of {name}: gone"));
        story.proxies[node] = true;
        assert_eq!(story.look(true), format!("run AfterReady {node} #1"));
        assert_eq!(story.done(), format!("{name} done"));
    }
    assert_eq!(story.look(true), "switchover to 0");
    story.primary = 0;
    assert_eq!(story.done(), "");
    assert_eq!(story.look(true), "shard done");
    assert!(story.shard.is_finished());
}

#[test]
fn without_permission_no_node_is_begun_but_one_that_was_begun_is_finished() {
    let mut story = fresh(Steps { before_drain: false, drain: false, ..ALL });
    assert!(story.look(false).contains("waits for permission"));
    assert!(story.shard.is_resting() && story.shard.poll_timeout().is_none());
    assert_eq!(story.look(true), "");
    assert_eq!(story.look(false), "run Work 1 #1");
    story.done();
    assert_eq!(story.look(false), "run AfterReady 1 #1");
    assert_eq!(story.done(), "b done");
    assert!(story.look(false).contains("waits for permission"));
}

#[test]
fn an_old_look_and_an_old_answer_count_for_nothing() {
    let mut story = fresh(Steps { before_drain: false, drain: false, ..ALL });
    story.now = Duration::from_secs(5);
    let stale = story.seen();
    story.look(true);
    story.shard.handle_observation(&stale, true, story.now);
    assert_eq!(story.said(), "");
    assert_eq!(story.look(true), "run Work 1 #1");
    story.shard.handle_answer(77, Answer::Failed("of another".into()), story.now);
    assert!(story.shard.fault().is_none());
}

#[test]
fn the_work_does_not_begin_when_the_roles_were_switched_meanwhile() {
    let mut story = fresh(Steps { before_drain: false, drain: false, ..ALL });
    story.look(true);
    story.primary = 1;
    assert_eq!(story.look(true), "switchover to 0");
}

#[test]
fn a_node_is_not_back_before_another_process_runs_there() {
    let mut story = fresh(Steps { before_drain: false, drain: false, after_ready: false, restarts: true, ..ALL });
    story.look(true);
    assert_eq!(story.look(true), "run Work 1 #1");
    story.done();
    assert_eq!(story.look(true), "Redis of b has not restarted yet");
    story.run_ids[1] = 2;
    assert_eq!(story.look(true), "b done");
}

#[test]
fn a_failure_stops_the_shard_and_says_what_to_do() {
    let mut story = fresh(Steps { before_drain: false, drain: false, ..ALL });
    story.look(true);
    story.look(true);
    story.answer(Answer::Failed("exit code 7".into()));
    let fault = story.shard.fault().unwrap();
    assert_eq!((fault.node, fault.why.as_str()), (Some(1), "work of b failed: exit code 7"));
    assert!(fault.advice.contains("run the same command again"), "{fault:?}");
    assert!(story.shard.is_resting());
}

#[test]
fn a_switchover_that_was_taken_back_is_tried_again_but_not_for_ever() {
    let mut story = fresh(ALL);
    story.shard.past.node_done(1);
    for _ in 0..SWITCHOVERS {
        assert_eq!(story.look(true), "switchover to 1");
        story.answer(Answer::Failed("a gate failed".into()));
    }
    assert!(story.shard.fault().is_some());
}

#[test]
fn work_that_an_earlier_process_began_is_joined_and_never_begun_twice() {
    let mut story = half(Step::Work, Mark::Begun(1), Settings::default());
    assert_eq!(story.said(), "join Work 1 #1");
    assert_eq!(story.done(), "");
    assert_eq!(story.look(false), "run AfterReady 1 #1");

    let mut story = half(Step::Work, Mark::Begun(1), Settings::default());
    story.said();
    assert_eq!(story.answer(Answer::NeverStarted), "");
    assert_eq!(story.look(false), "run Work 1 #1");

    let mut story = half(Step::Work, Mark::Failed(1), Settings::default());
    assert_eq!(story.look(false), "");
    assert_eq!(story.look(false), "run Work 1 #2");

    let mut story = half(Step::Work, Mark::Ended(1), Settings::default());
    assert_eq!(story.look(false), "run AfterReady 1 #1");
}

#[test]
fn when_nobody_knows_whether_the_work_was_done_the_operator_is_asked() {
    let mut story = half(Step::Work, Mark::Begun(1), Settings::default());
    story.said();
    story.answer(Answer::Unknown);
    assert!(story.shard.fault().unwrap().advice.contains("--work-was"));

    let again = Settings { unknown: Some(Unknown::Again), ..Settings::default() };
    let mut story = half(Step::Work, Mark::Begun(1), again);
    story.said();
    story.answer(Answer::Unknown);
    assert_eq!(story.look(false), "run Work 1 #2");

    let done = Settings { unknown: Some(Unknown::Done), ..Settings::default() };
    let mut story = half(Step::Work, Mark::Begun(1), done);
    story.said();
    story.answer(Answer::Unknown);
    assert_eq!(story.look(false), "run AfterReady 1 #1");
}

#[test]
fn a_node_that_does_not_come_back_stops_the_shard_in_time() {
    let mut story = half(Step::Work, Mark::Ended(1), Settings::default());
    story.proxies[1] = false;
    story.look(true);
    let at = story.shard.poll_timeout().unwrap();
    story.shard.handle_timeout(at);
    let fault = story.shard.fault().unwrap();
    assert!(fault.why.contains("not back") && fault.why.contains("gone"), "{fault:?}");
}

#[test]
fn a_rude_drill_does_nothing_before_the_work_but_begins_only_in_a_healthy_pair() {
    let mut story = fresh(Steps { rude: true, switch_back: false, after_ready: false, restarts: true, ..ALL });
    story.shard.past.node_done(1);
    story.proxies[1] = false;
    assert_eq!(story.look(true), "the proxy of b: gone");
    story.proxies[1] = true;
    assert_eq!(story.look(true), "");
    assert_eq!(story.look(true), "run Work 0 #1");
    story.done();
    (story.run_ids[0], story.primary) = (2, 1);
    assert_eq!(story.look(true), "a done");
    assert_eq!(story.look(true), "shard done");
}
