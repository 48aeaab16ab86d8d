//! Random rollouts over random faults, killed at any moment and resumed from their journals; every failure replays.
//!
//! Hooks fail, hang, return before the node goes down, leave it down; switchovers are refused, or done without an
//! answer; roles are switched behind the rollout's back, nodes and proxies crash; looks are late or lost; operators
//! pause, stop and mend; windows close; the orchestrator is killed before and after any record, its machine too. What
//! must hold:
//!
//! * work on a node of a pair begins only while the other node serves (as far as that could be seen);
//! * no two nodes of a group are ever worked on at the same time;
//! * work that was done is never done again;
//! * in the end every node is patched, and every pair that was left alone has its first primary again.
//!
//! `CHANGEOVER_SEED=17` replays one seed and tells its story; `CHANGEOVER_SEEDS=100000` runs more of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../simulation/random.rs"]
mod random;
mod world;

use std::collections::VecDeque;
use std::time::Duration;

use changeover::patch::health::Observation;
use changeover::patch::journal::{self, Felt, Record, VERSION};
use changeover::patch::plan::{Hook, Kind, Plan, ShardPlan, Steps};
use changeover::patch::rollout::{Manner, Outcome, Rollout, Word};
use changeover::patch::shard::words::{Answer, Order, Output, Settings, Task, Unknown};
use random::Random;
use world::{OLDEST_LOOK, World};

const SEEDS: u64 = 1000;
const STEP: u64 = 50;
const STEPS: u64 = 20_000;

struct Story {
    world: World,
    plan: Plan,
    first_primaries: Vec<usize>,
    journal: String,
    rollout: Option<Rollout>,
    unknown: Option<Unknown>,
    looks: VecDeque<(u64, usize, Observation)>,
    orders: Vec<(u64, Order)>,
    kills: u64,
    mended: u64,
    tell: bool,
}

impl Story {
    fn new(seed: u64, tell: bool) -> Self {
        let mut random = Random::new(seed);
        let with = Steps {
            before_drain: random.percent(50),
            drain: random.percent(50),
            after_ready: random.percent(50),
            switch_back: true,
            restarts: true,
            rude: false,
            blip_ms: 0,
        };
        let world = World::new(random);
        let shards = world.shards.iter().enumerate().map(|(at, shard)| ShardPlan {
            group: format!("g{}", shard.group),
            name: format!("s{at}"),
            nodes: ["a", "b"].iter().take(shard.nodes.len()).map(|name| (*name).to_owned()).collect(),
            targets: (0..shard.nodes.len()).collect(),
            with,
        });
        let plan = Plan { kind: Kind::Patch, shards: shards.collect() };
        let first = Record::Plan { version: VERSION, id: "x".into(), plan: plan.clone() };
        Self {
            first_primaries: world.shards.iter().map(|shard| shard.primary).collect(),
            world,
            plan,
            journal: serde_json::to_string(&first).unwrap() + "\n",
            rollout: None,
            unknown: None,
            looks: VecDeque::new(),
            orders: Vec::new(),
            kills: 0,
            mended: 0,
            tell,
        }
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.world.now)
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.tell {
            println!("{:7} {}", self.world.now, what());
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.world.advance(STEP);
            if self.world.random.percent(2) && self.world.now < 60_000 {
                self.world.disturb();
            }
            if self.rollout.is_none() {
                self.launch()?;
            }
            self.chance();
            self.deliver();
            self.carry_out();
            if let Some(complaint) = self.world.complaint.take() {
                return Err(complaint);
            }
            let Some(outcome) = self.rollout.as_ref().and_then(Rollout::outcome) else { continue };
            match outcome {
                Outcome::Finished => return self.check_end(),
                Outcome::Halted => self.rollout = None,
                Outcome::Stopped(faults) => {
                    self.say(|| format!("stopped: {faults:?}"));
                    self.rollout = None;
                    self.mended += 1;
                    self.world.mend();
                    self.unknown = self.world.truth();
                }
            }
        }
        Err("it does not end".to_owned())
    }

    fn launch(&mut self) -> Result<(), String> {
        let history = journal::read(&self.journal).map_err(|error| format!("the journal: {error}"))?;
        // A line that was cut is removed, as the file does.
        let whole = self.journal.rfind('\n').map_or(0, |end| end + 1);
        self.journal.truncate(whole);
        let shard = Settings {
            settle: Duration::from_secs(20),
            back_within: Duration::from_secs(20),
            unknown: self.unknown.take(),
        };
        self.rollout = Some(Rollout::resume(history, Manner { parallel: 2, shard }, self.now()));
        Ok(())
    }

    /// What operators and windows do.
    fn chance(&mut self) {
        let now = self.now();
        let luck = self.world.random.below(1000);
        let Some(rollout) = &mut self.rollout else { return };
        match luck {
            0..5 => rollout.handle_window(false, now),
            5..30 => rollout.handle_window(true, now),
            30..33 => rollout.handle_word(Word::Pause, now),
            33..60 => rollout.handle_word(Word::Continue, now),
            60..62 => rollout.handle_word(Word::Stop, now),
            _ => {}
        }
    }

    /// Looks that arrive, and orders that end.
    fn deliver(&mut self) {
        let (now, at) = (self.now(), self.world.now);
        let watching = self.rollout.as_ref().map(Rollout::watching).unwrap_or_default();
        for shard in watching {
            if self.world.random.percent(60) {
                let arrives = at + self.world.random.below(OLDEST_LOOK - STEP);
                self.looks.push_back((arrives, shard, self.world.look(shard)));
            }
        }
        let (due, later) = std::mem::take(&mut self.looks).into_iter().partition(|(arrives, ..)| *arrives <= at);
        self.looks = later;
        let due: VecDeque<_> = due;
        let mut answers = Vec::new();
        for (ends, order) in std::mem::take(&mut self.orders) {
            match self.answer(ends, &order) {
                Some(answer) => answers.push((order, answer)),
                None => self.orders.push((ends, order)),
            }
        }
        let Some(rollout) = &mut self.rollout else { return };
        for (_, shard, seen) in due {
            rollout.handle_observation(shard, &seen, now);
        }
        for (order, answer) in answers {
            rollout.handle_answer(order.shard, order.ticket, answer, now);
        }
        rollout.handle_timeout(now);
    }

    /// The answer to an order, when it is due.
    fn answer(&mut self, ends: u64, order: &Order) -> Option<Answer> {
        let done = Some(Answer::Done(Felt::default()));
        let late = self.world.now < ends;
        match order.task {
            _ if late && !matches!(order.task, Task::Run { .. }) => None,
            Task::Switchover { to } => match self.world.switch(order.shard, to) {
                true if self.world.random.percent(5) => Some(Answer::Failed("the answer was cut".into())),
                true => done,
                false => Some(Answer::Failed("a gate failed".into())),
            },
            Task::Drain { .. } if self.world.random.percent(2) => Some(Answer::Failed("busy".into())),
            Task::Drain { node } => {
                self.world.shards[order.shard].nodes[node].proxy = Err(u64::MAX);
                done
            }
            Task::Run { node, hook, attempt } => self.job(order.shard, (node, hook, attempt)),
            Task::Join { node, hook, attempt } if self.world.started(order.shard, (node, hook, attempt)) => {
                self.job(order.shard, (node, hook, attempt))
            }
            Task::Join { .. } => Some(Answer::NeverStarted),
        }
    }

    fn job(&self, shard: usize, key: (usize, Hook, u32)) -> Option<Answer> {
        Some(match self.world.ended(shard, key)? {
            Some(true) => Answer::Done(Felt::default()),
            Some(false) => Answer::Failed("it failed".into()),
            None => Answer::Unknown,
        })
    }

    /// What the rollout says is written and begun, until it is killed.
    fn carry_out(&mut self) {
        loop {
            let killed = self.kills < 40 && self.world.random.percent(4);
            let Some(output) = self.rollout.as_mut().and_then(Rollout::poll_output) else { return };
            self.say(|| format!("{}{output:?}", if killed { "killed at " } else { "" }));
            match output {
                Output::Record(record) => {
                    let line = serde_json::to_string(&record).unwrap() + "\n";
                    let cut = if killed { self.world.random.below(line.len() as u64 + 1) as usize } else { line.len() };
                    self.journal.push_str(&line[..cut]);
                }
                // A kill may come before it is begun, or after.
                Output::Do(order) if !killed || self.world.random.percent(50) => {
                    if let Task::Run { node, hook, attempt } = order.task {
                        self.world.start(order.shard, node, hook, attempt);
                    }
                    let takes = if matches!(order.task, Task::Join { .. }) { 2000 } else { 250 };
                    self.orders.push((self.world.now + takes, order));
                }
                Output::Do(_) | Output::Waiting { .. } => {}
            }
            if killed {
                return self.kill();
            }
        }
    }

    fn kill(&mut self) {
        self.kills += 1;
        self.rollout = None;
        self.looks.clear();
        // What was ordered from others may still be done; nobody hears the answer.
        for (_, order) in std::mem::take(&mut self.orders) {
            match order.task {
                Task::Switchover { to } if self.world.random.percent(50) => drop(self.world.switch(order.shard, to)),
                Task::Drain { node } => self.world.shards[order.shard].nodes[node].proxy = Err(u64::MAX),
                _ => {}
            }
        }
        if self.world.random.percent(10) {
            self.world.forget_one();
        }
    }

    fn check_end(&self) -> Result<(), String> {
        for (at, shard) in self.world.shards.iter().enumerate() {
            if let Some(node) = shard.nodes.iter().position(|node| node.patched == 0) {
                return Err(format!("shard {at} node {node} is not patched"));
            }
            if shard.disturbed.is_none() && shard.primary != self.first_primaries[at] {
                return Err(format!("shard {at}: node {} is primary", shard.primary));
            }
        }
        let history = journal::read(&self.journal).map_err(|error| error.to_string())?;
        let whole = history.finished && history.plan == self.plan;
        if whole { Ok(()) } else { Err("the journal does not end well".to_owned()) }
    }
}

#[test]
fn whatever_happens_the_other_node_serves_and_in_the_end_everything_is_patched() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let one = number("CHANGEOVER_SEED");
    let seeds = one.map_or(0..number("CHANGEOVER_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let (mut kills, mut mended, mut works, mut count, mut bad) = (0, 0, 0, 0, Vec::new());
    for seed in seeds {
        let mut story = Story::new(seed, one.is_some());
        if let Err(why) = story.run() {
            bad.push(format!("seed {seed} at {} ms: {why} (CHANGEOVER_SEED={seed} replays it)", story.world.now));
        }
        kills += story.kills;
        mended += story.mended;
        works += story.world.works;
        count += 1;
    }
    let shown = bad.iter().take(12).cloned().collect::<Vec<_>>().join("\n");
    assert!(bad.is_empty(), "{} of {count} seeds failed:\n{shown}", bad.len());
    let much = kills > count && works > 2 * count && mended > count / 20;
    assert!(one.is_some() || much, "hardly anything happened: {kills} kills, {works} works, {mended} mended");
}
