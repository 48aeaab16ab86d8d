//! Failover explored: the real machines of both agents in thousands of random worlds, where nodes die, freeze, return empty
//! or with their data, the network is cut in parts, agents pause and crash, and messages are late or lost. A stranger on the pair's channel
//! forges, changes and repeats messages all the time.
//!
//! One seed again: `CHANGEOVER_SEED=17 cargo test --test failover_simulation`. More of them:
//! `CHANGEOVER_SEEDS=100000`. Checked at every step:
//!
//! * a node is promoted only when the one that was primary takes no writes and cannot take any when it wakes;
//! * two agents never serve two different nodes that both take writes;
//! * what was on both nodes is on whichever node is served (no wipe), unless both were lost;
//! * when the world is quiet again, there is a primary, and the other node follows it.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod agent;
mod channel;
mod voice;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use agent::{Agent, LEASE, LIMIT, Order, Outgoing, Post, perform};
use changeover::protocol::info::RunId;
use changeover::topology::failover::Duty;
use channel::Stranger;
use voice::Voice;
use world::{Random, STEP, World};

const CALM_START: Duration = Duration::from_secs(3);
const STORM: Duration = Duration::from_secs(25);
const CALM_END: Duration = Duration::from_secs(20);

struct Run {
    seed: u64,
    world: World,
    agents: [Agent; 2],
    stranger: Stranger,
    voice: Option<Voice>,
    orders: Vec<Order>,
    /// The process that was rightly primary last, and its node.
    rightful: (usize, RunId),
    /// A process whose replica was promoted although it lives.
    deposed: Option<(usize, RunId)>,
    /// Since when each node and its agent have been well.
    well: [Option<Duration>; 2],
    promotions: u64,
    /// Both nodes were lost at once, or the guardian was away when it was needed: data may be gone, and nobody may know.
    excused: bool,
    /// A primary was lost whose replica was not in sync, or had no agent: an operator has to decide.
    stranded: bool,
    died: [Option<Duration>; 2],
    /// Since when the pair has been in step before the eyes of the replica's agent, and which processes were last for
    /// long enough to be remembered, until when.
    in_step_since: Option<Duration>,
    seen_in_step: Option<([RunId; 2], Duration)>,
    /// Writes that were on both nodes at some time.
    safe: BTreeSet<u64>,
    story: Vec<String>,
}

impl Run {
    fn new(seed: u64, witness: bool, sealed: bool) -> Self {
        let fence = [None, Some(1), Some(2)][(seed % 3) as usize];
        let world = World::new(seed, fence);
        let rightful = (0, world.nodes[0].run_id);
        Self {
            seed,
            world,
            agents: [0, 1].map(|at| Agent::new(at, witness, sealed)),
            stranger: Stranger::default(),
            voice: witness.then(Voice::new),
            orders: Vec::new(),
            rightful,
            deposed: None,
            well: [None; 2],
            promotions: 0,
            excused: false,
            stranded: false,
            died: [None; 2],
            in_step_since: None,
            seen_in_step: None,
            safe: BTreeSet::new(),
            story: Vec::new(),
        }
    }

    fn tell(&mut self, what: String) {
        self.story.push(format!("{:>9.3} {what}", self.world.now.as_secs_f64()));
    }

    fn fail(&self, what: &str) -> ! {
        let story = self.story.join("\n");
        let nodes: Vec<_> = self
            .world
            .nodes
            .iter()
            .map(|node| {
                let mut short = node.clone();
                let all = short.data.len();
                short.data.clear();
                format!("{all} writes, {short:?}")
            })
            .collect();
        let view = |at: usize| format!("{:?} ({})", self.agents[at].topology.view(), self.agents[at].failover.state());
        panic!(
            "seed {}: {what}\n{story}\nagent 0: {}\nagent 1: {}\n{nodes:#?}\nagain: CHANGEOVER_SEED={}",
            self.seed,
            view(0),
            view(1),
            self.seed
        );
    }

    fn go(mut self) -> Self {
        while self.world.now < CALM_START + STORM + CALM_END {
            let now = self.world.now;
            if now >= CALM_START && now < CALM_START + STORM {
                self.disturb();
            } else if now >= CALM_START + STORM {
                self.heal();
            }
            if self.world.random.one_in(30) {
                self.attack();
            }
            self.step();
            self.check();
        }
        self.check_end();
        self
    }

    fn step(&mut self) {
        self.world.step();
        let now = self.world.now;
        let nodes = &self.world.nodes;
        let in_step = nodes.iter().all(|node| node.alive && !node.frozen) && nodes.iter().any(|node| node.link);
        self.stranded |= !in_step && self.agents.iter().any(|agent| !agent.running);
        self.watch_steps();
        for at in 0..2 {
            if self.agents[at].awake(now) {
                self.agents[at].probe(&mut self.world);
                self.agents[at].step(now);
                for outgoing in std::mem::take(&mut self.agents[at].outbox) {
                    self.send(at, outgoing);
                }
            }
        }
        if let Some(voice) = &mut self.voice {
            for (by, answer) in voice.step(now, &mut self.world.random) {
                self.agents[by].post(now, Post::Witness(answer));
            }
        }
        self.deliver();
        self.watch_health();
        // Clients: some through each agent, some past them.
        if self.world.random.one_in(4) {
            let through = self.world.random.below(2) as usize;
            if let Some(node) = self.agents[through].serves(now).filter(|_| self.agents[through].awake(now)) {
                self.world.write(node);
            }
        }
    }

    fn watch_steps(&mut self) {
        let now = self.world.now;
        let nodes = &self.world.nodes;
        let seen = nodes.iter().position(|node| node.link).is_some_and(|replica| {
            let agent = &self.agents[replica];
            nodes.iter().all(|node| node.alive && !node.frozen) && agent.awake(now) && !self.world.cut_agent[replica]
        });
        self.in_step_since = seen.then(|| self.in_step_since.unwrap_or(now));
        if self.in_step_since.is_some_and(|since| now >= since + Duration::from_secs(1)) {
            self.seen_in_step = Some(([nodes[0].run_id, nodes[1].run_id], now));
        }
    }

    fn watch_health(&mut self) {
        let now = self.world.now;
        for at in 0..2 {
            let node = &self.world.nodes[at];
            let well = self.agents[at].awake(now) && node.alive && !node.frozen;
            self.well[at] = well.then(|| self.well[at].unwrap_or(now));
            let same = |(old, process): (usize, RunId)| old == at && (node.run_id != process || !node.primary);
            if self.deposed.is_some_and(same) {
                self.deposed = None;
            }
        }
    }

    fn send(&mut self, by: usize, outgoing: Outgoing) {
        let now = self.world.now;
        match outgoing {
            Outgoing::Order(node, duty) => {
                let slow = self.world.random.one_in(20);
                let at = now + self.world.random.millis(if slow { 700 } else { 10 });
                if duty != Duty::ReadFence {
                    self.tell(format!("agent {by} orders at node {node}: {duty:?}"));
                }
                self.orders.push(Order { at, by, node, duty, late: false });
            }
            Outgoing::Consult(ask) => {
                if let Some(voice) = &mut self.voice {
                    voice.ask(by, ask, now, &mut self.world.random);
                }
            }
            Outgoing::Say(payload) => self.say(by, payload),
        }
    }

    /// Through whichever node both agents reach.
    /// A client of Redis speaks on the channel.
    fn attack(&mut self) {
        let names = [0, 1].map(|at: usize| self.agents[at].end.name.clone());
        let processes = [0, 1].map(|at: usize| self.world.nodes[at].run_id.to_string());
        let to = self.world.random.below(2) as usize;
        let payload = self.stranger.says([&names[0], &names[1]], processes, &mut self.world.random);
        self.agents[to].post(self.world.now, Post::Said(payload));
    }

    fn say(&mut self, by: usize, payload: Vec<u8>) {
        self.stranger.hears(&payload, &mut self.world.random);
        let there = |node: usize| {
            let reaches = |agent: usize| agent == node || !self.world.cut_agent[agent];
            self.world.nodes[node].alive && !self.world.nodes[node].frozen && reaches(0) && reaches(1)
        };
        if (there(0) || there(1)) && !self.world.random.one_in(4) {
            let at = self.world.now + self.world.random.millis(30);
            self.agents[1 - by].post(at, Post::Said(payload));
        }
    }

    fn deliver(&mut self) {
        let now = self.world.now;
        for mut order in std::mem::take(&mut self.orders) {
            let node = &self.world.nodes[order.node];
            let cut = order.node != order.by && self.world.cut_agent[order.by];
            let stuck = cut || node.frozen;
            if now < order.at {
                self.orders.push(order);
            } else if stuck && !order.late && now >= order.at + LIMIT {
                let (by, at, duty) = (order.by, order.node, order.duty.clone());
                self.agents[by].post(now, Post::Done(at, duty, Err("no answer in time".into())));
                // What lies in a frozen node's socket is executed when it wakes.
                order.late = true;
                if node.frozen && self.world.random.one_in(2) {
                    self.orders.push(order);
                }
            } else if stuck {
                self.orders.push(order);
            } else if !node.alive {
                let (by, at) = (order.by, order.node);
                self.agents[by].post(now, Post::Done(at, order.duty, Err("connection refused".into())));
            } else {
                self.execute(&order);
            }
        }
    }

    fn execute(&mut self, order: &Order) {
        let was_primary = self.world.nodes[order.node].primary;
        let result = perform(&mut self.world, order);
        let promoted =
            matches!(order.duty, Duty::Promote { .. }) && !was_primary && self.world.nodes[order.node].primary;
        if promoted {
            self.tell(format!("node {} is promoted", order.node));
            self.promotions += 1;
            self.check_promotion(order.node);
            let (old, process) = self.rightful;
            let node = &self.world.nodes[old];
            let lives = old != order.node && node.alive && node.run_id == process && node.primary;
            // Behind a fence that has closed it may be asked for a moment more; nothing is written there.
            let open = self.voice.is_some() && node.min_replicas == 0;
            self.deposed = (open && lives).then_some((old, process));
            self.rightful = (order.node, self.world.nodes[order.node].run_id);
        }
        if !order.late {
            let at = self.world.now + self.world.random.millis(5);
            self.agents[order.by].post(at, Post::Done(order.node, order.duty.clone(), result));
        }
    }

    /// The moment of a promotion: the one that was primary must be unable to take writes, now and later.
    fn check_promotion(&self, promoted: usize) {
        let (old, process) = self.rightful;
        let node = &self.world.nodes[old];
        if old == promoted || !node.alive || node.run_id != process || !node.primary {
            return;
        }
        if self.voice.is_some() {
            return self.check_vote(old);
        }
        if self.world.takes_writes(old) {
            self.fail("promoted while the old primary takes writes");
        }
        if node.min_replicas == 0 {
            self.fail("promoted while the old primary is only frozen, and has no fence");
        }
    }

    /// With a witness the old primary may live: if there is somebody beside it, it takes no writes.
    fn check_vote(&self, old: usize) {
        let long = LEASE + Duration::from_secs(2);
        if self.world.takes_writes(old) && self.well[old].is_some_and(|since| since + long < self.world.now) {
            self.fail("promoted while the old primary takes writes, beside an agent that is well");
        }
    }

    fn check_deposed(&self) {
        let now = self.world.now;
        for agent in &self.agents {
            if let (Some((old, _)), true) = (self.deposed, agent.awake(now))
                && agent.serves(now) == Some(old)
            {
                self.fail(&format!("agent {} serves node {old}, whose replica was promoted", agent.me));
            }
        }
    }

    fn check(&mut self) {
        self.check_deposed();
        let now = self.world.now;
        let serves = [self.agents[0].serves(now), self.agents[1].serves(now)];
        // With a witness not even a node that happens to be shut; behind a fence that has closed, reads may last a moment.
        let unfenced = self.voice.is_some() && self.world.nodes.iter().all(|node| node.min_replicas == 0);
        let awake = [0, 1].map(|at| self.agents[at].awake(self.world.now));
        if let [Some(first), Some(second)] = serves
            && awake == [true, true]
            && first != second
            && (unfenced || self.world.takes_writes(0) && self.world.takes_writes(1))
            && self.world.nodes.iter().all(|node| node.alive && !node.frozen && node.primary)
            && !self.excused
        {
            self.fail("two nodes are served, and both take writes");
        }
        let nodes = &self.world.nodes;
        if self.excused || !self.world.now.as_millis().is_multiple_of(500) {
            return;
        }
        for node in serves.into_iter().flatten().filter(|node| nodes[*node].alive) {
            if !self.safe.is_subset(&nodes[node].data) {
                self.fail("what was on both nodes is not on the node that is served");
            }
        }
        if nodes.iter().all(|node| node.alive) {
            self.safe.extend(nodes[0].data.intersection(&nodes[1].data));
        }
    }

    fn check_end(&self) {
        let now = self.world.now;
        if self.excused || self.stranded {
            return;
        }
        let serves = [self.agents[0].serves(now), self.agents[1].serves(now)];
        let (Some(first), Some(second)) = (serves[0], serves[1]) else {
            self.fail("nobody is served at the end");
        };
        let (primary, replica) = (&self.world.nodes[first], &self.world.nodes[1 - first]);
        if first != second || replica.primary || !replica.link {
            self.fail("the other node does not follow at the end");
        }
        if primary.data.is_empty() {
            self.fail("everything was lost");
        }
    }

    /// Something goes wrong, now and then.
    fn disturb(&mut self) {
        let now = self.world.now;
        for at in 0..2 {
            if !self.agents[at].running && self.world.random.one_in(100) {
                if let Some(voice) = &mut self.voice {
                    voice.hang_up(at);
                }
                self.agents[at].restart(now);
                self.tell(format!("agent {at} restarts"));
            }
        }
        // From a few misfortunes to one after the other.
        if !self.world.random.one_in([1000, 500, 250, 100][(self.seed / 3 % 4) as usize]) {
            return;
        }
        let at = self.world.random.below(2) as usize;
        let what = self.world.random.below(if self.voice.is_some() { 20 } else { 15 });
        let done = if what >= 15 {
            self.disturb_voice(at, what - 1)
        } else if what < 8 {
            self.disturb_node(at, what)
        } else {
            self.disturb_others(at, what - 1)
        };
        if let Some(done) = done {
            self.tell(format!("{at} {done}"));
        }
    }

    fn disturb_node(&mut self, at: usize, what: u64) -> Option<&'static str> {
        let now = self.world.now;
        let node = &mut self.world.nodes[at];
        match (what, node.alive, node.frozen) {
            (0 | 1, true, _) => {
                self.note_death(at);
                self.world.kill(at);
                self.died[at] = Some(now);
                for agent in 0..2 {
                    if agent == at || !self.world.cut_agent[agent] {
                        self.agents[agent].hang_up(at, now + Duration::from_millis(1));
                    }
                }
                Some("dies")
            }
            (2 | 3, false, _) => {
                self.note_return(at);
                let with_data = self.world.random.one_in(3);
                let follows = self.world.random.one_in(3).then_some(1 - at);
                let loads_for =
                    if self.world.random.one_in(3) { self.world.random.millis(6000) } else { Duration::ZERO };
                self.world.boot(at, with_data, follows, loads_for);
                Some(match (with_data, follows) {
                    (true, None) => "returns with its data",
                    (false, None) => "returns empty",
                    (_, Some(_)) => "returns as a replica",
                })
            }
            (7, true, false) => {
                let busy = self.world.random.one_in(2);
                node.errs = Some((now + self.world.random.millis(5000), busy));
                Some(if busy { "is busy" } else { "refuses the login" })
            }
            (4, true, false) => {
                node.frozen = true;
                Some("freezes")
            }
            (5 | 6, true, true) => {
                node.frozen = false;
                Some("wakes")
            }
            _ => None,
        }
    }

    fn disturb_others(&mut self, at: usize, what: u64) -> Option<&'static str> {
        let now = self.world.now;
        match what {
            7 => {
                self.world.cut_nodes = !self.world.cut_nodes;
                Some("node link toggled")
            }
            8 | 9 => {
                self.world.cut_agent[at] = !self.world.cut_agent[at];
                Some("agent's link to the other node toggled")
            }
            10 => {
                self.agents[at].paused_until = now + self.world.random.millis(4000);
                Some("agent pauses")
            }
            11 if self.world.random.one_in(2) => {
                self.agents[at].running = false;
                Some("agent crashes")
            }
            12 => {
                self.world.cut_nodes = false;
                (self.world.cut_agent, self.world.deaf) = ([false; 2], [false; 2]);
                Some("the network is whole again")
            }
            13 if self.world.random.one_in(2) => {
                self.world.deaf[at] = !self.world.deaf[at];
                Some("deafness toggled")
            }
            _ => None,
        }
    }

    fn disturb_voice(&mut self, at: usize, what: u64) -> Option<&'static str> {
        let now = self.world.now;
        let pause = self.world.random.millis(6000);
        let voice = self.voice.as_mut()?;
        match (what, voice.up) {
            (14 | 15, _) => {
                voice.cut[at] = !voice.cut[at];
                Some("agent's link to the witness toggled")
            }
            (16, true) => {
                voice.stop();
                Some("the witness stops")
            }
            (16 | 17, false) => {
                voice.start(now);
                Some("the witness starts again")
            }
            (17, true) => {
                voice.paused_until = now + pause;
                Some("the witness pauses")
            }
            // The whole machine, or all of its network.
            (18, _) if pause.as_millis().is_multiple_of(2) => {
                self.world.nodes[at].frozen = self.world.nodes[at].alive;
                self.agents[at].paused_until = now + pause;
                Some("and its node freeze")
            }
            (18, _) => {
                (voice.cut[at], self.world.cut_nodes, self.world.cut_agent) = (true, true, [true; 2]);
                Some("and its node are cut off")
            }
            _ => None,
        }
    }

    /// A death after which data may be gone: the other one is not there, or does not have all of it.
    fn note_death(&mut self, at: usize) {
        let other = &self.world.nodes[1 - at];
        let whole = self.world.nodes[at].data.iter().all(|write| other.data.contains(write));
        self.excused |= !other.alive || !whole && self.rightful.0 == at;
        let processes = [self.world.nodes[0].run_id, self.world.nodes[1].run_id];
        let lately = |seen: Duration| self.world.nodes[at].frozen || self.world.now < seen + Duration::from_secs(4);
        let seen = self.seen_in_step.is_some_and(|(known, seen)| known == processes && lately(seen));
        self.stranded |= self.rightful.0 == at && !(other.link && seen);
    }

    /// A return before the guardian could do anything: it was away, cut off, or had no time.
    fn note_return(&mut self, at: usize) {
        let guardian = &self.agents[1 - at];
        let now = self.world.now;
        let in_time = self.died[at].is_some_and(|died| now > died + Duration::from_millis(1500));
        let there = guardian.awake(now) && guardian.paused_until + Duration::from_millis(1500) < now;
        self.excused |= !in_time || !there || self.world.nodes[1 - at].frozen;
    }

    /// The storm is over.
    fn heal(&mut self) {
        let now = self.world.now;
        if let Some(voice) = &mut self.voice {
            voice.cut = [false; 2];
            voice.paused_until = voice.paused_until.min(now);
            if !voice.up {
                voice.start(now);
            }
        }
        self.world.cut_nodes = false;
        (self.world.cut_agent, self.world.deaf) = ([false; 2], [false; 2]);
        for at in 0..2 {
            (self.world.nodes[at].frozen, self.world.nodes[at].errs) = (false, None);
            self.agents[at].paused_until = self.agents[at].paused_until.min(now);
            if !self.agents[at].running {
                self.agents[at].restart(now);
            }
            if !self.world.nodes[at].alive && now > CALM_START + STORM + Duration::from_secs(5) {
                self.note_return(at);
                self.world.boot(at, false, None, Duration::ZERO);
                self.tell(format!("{at} returns empty in the end"));
            }
        }
    }
}

/// Worlds, one after another; how much happened in them.
fn explore(witness: bool, sealed: bool, usual: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("CHANGEOVER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CHANGEOVER_SEEDS").unwrap_or(usual),
    };
    let (mut promotions, mut judged, mut total) = (0, 0, 0);
    for seed in seeds.clone() {
        let run = Run::new(Random(seed).next() ^ seed, witness, sealed);
        let mut run = Run { seed, ..run };
        run.story.push(format!("step {STEP:?}"));
        let ended = run.go();
        promotions += ended.promotions;
        judged += u64::from(!ended.excused && !ended.stranded);
        total += 1;
    }
    println!("{total} worlds, {promotions} promotions, {judged} judged to the end");
    assert!(seeds.end - seeds.start < 100 || promotions > 20, "hardly anything happened: {promotions} promotions");
}

#[test]
fn never_two_and_never_wiped() {
    explore(false, true, 120);
}

#[test]
fn with_a_witness_silence_promotes_and_still_nobody_serves_two() {
    explore(true, true, 60);
}

#[test]
fn without_a_secret_strangers_have_nobody_promoted_or_served_and_a_proven_death_still_promotes() {
    explore(false, false, 30);
}
