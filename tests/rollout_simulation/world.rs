//! A fleet that can be patched, and all that can go wrong with it. It knows the truth, and complains.

use std::collections::BTreeMap;
use std::time::Duration;

use changeover::patch::health::{NodeSeen, Observation, Proxy, Sight};
use changeover::patch::plan::Hook;
use changeover::patch::shard::words::Unknown;

use crate::random::Random;

/// A look is at most this old when it arrives, and what happened within that time may not have been seen.
pub(crate) const OLDEST_LOOK: u64 = 700;
/// A command that hangs is killed after this time.
const DEADLINE: u64 = 6000;

pub(crate) struct Node {
    pub(crate) redis: Result<(), u64>,
    pub(crate) proxy: Result<(), u64>,
    run: u64,
    in_sync_from: u64,
    /// It goes down then, because of work.
    goes_down: Option<u64>,
    /// Work took it down, and it is not back.
    worked_on: bool,
    /// How often work was done on it to the end.
    pub(crate) patched: u32,
}

pub(crate) struct Job {
    ends: u64,
    /// `None`: nobody knows how it ended.
    well: Option<bool>,
    worked: bool,
}

pub(crate) struct Shard {
    pub(crate) group: usize,
    pub(crate) nodes: Vec<Node>,
    pub(crate) primary: usize,
    pub(crate) jobs: BTreeMap<(usize, Hook, u32), Job>,
    /// The last time that something happened that the rollout had no part in.
    pub(crate) disturbed: Option<u64>,
}

pub(crate) struct World {
    pub(crate) shards: Vec<Shard>,
    pub(crate) random: Random,
    pub(crate) now: u64,
    pub(crate) works: u64,
    pub(crate) complaint: Option<String>,
}

impl World {
    pub(crate) fn new(mut random: Random) -> Self {
        let groups = 1 + random.below(3);
        let mut shards = Vec::new();
        for group in 0..groups {
            for _ in 0..=random.below(2) {
                let nodes = if random.percent(15) { 1 } else { 2 };
                let primary = random.below(nodes) as usize;
                let nodes = (0..nodes).map(|_| Node {
                    redis: Ok(()),
                    proxy: Ok(()),
                    run: random.id(),
                    in_sync_from: 0,
                    goes_down: None,
                    worked_on: false,
                    patched: 0,
                });
                let nodes = nodes.collect();
                shards.push(Shard { group: group as usize, nodes, primary, jobs: BTreeMap::new(), disturbed: None });
            }
        }
        Self { shards, random, now: 0, works: 0, complaint: None }
    }

    fn complain(&mut self, what: String) {
        self.complaint.get_or_insert(what);
    }

    /// Time goes by: what is due happens.
    pub(crate) fn advance(&mut self, millis: u64) {
        self.now += millis;
        let now = self.now;
        for shard in &mut self.shards {
            for node in &mut shard.nodes {
                if node.goes_down.is_some_and(|at| at <= now) {
                    let back = now + 300 + self.random.below(1500);
                    let never = self.random.percent(5);
                    node.goes_down = None;
                    node.redis = Err(if never { u64::MAX } else { back });
                    node.proxy = Err(if never { u64::MAX } else { back });
                    node.run = self.random.id();
                }
                if node.redis.is_err_and(|back| back <= now) {
                    node.redis = Ok(());
                    node.in_sync_from = now + self.random.below(800);
                    node.worked_on = false;
                }
                if node.proxy.is_err_and(|back| back <= now) {
                    node.proxy = Ok(());
                }
            }
        }
    }

    fn healthy(&self, shard: usize) -> bool {
        let shard = &self.shards[shard];
        shard.nodes.iter().all(|node| node.redis.is_ok() && node.goes_down.is_none() && node.in_sync_from <= self.now)
    }

    /// Things that the rollout has no part in.
    pub(crate) fn disturb(&mut self) {
        let at = self.random.below(self.shards.len() as u64) as usize;
        let (healthy, now) = (self.healthy(at), self.now);
        let (what, back) = (self.random.below(4), now + 500 + self.random.below(1500));
        let shard = &mut self.shards[at];
        let pair = shard.nodes.len() == 2;
        let (primary, other) = (shard.primary, 1 - shard.primary.min(1));
        shard.disturbed = Some(now);
        match what {
            0 if pair && healthy => shard.primary = other,
            1 if pair && healthy => {
                shard.nodes[primary].redis = Err(back);
                shard.nodes[primary].run = self.random.id();
                shard.primary = other;
            }
            2 if shard.nodes[primary].redis.is_ok() => {
                shard.nodes[primary].redis = Err(back);
                shard.nodes[primary].run = self.random.id();
            }
            3 if shard.nodes[primary].proxy.is_ok() => shard.nodes[primary].proxy = Err(back),
            _ => {}
        }
    }

    pub(crate) fn look(&self, at: usize) -> Observation {
        let shard = &self.shards[at];
        let node = |(index, node): (usize, &Node)| NodeSeen {
            up: node.redis.map_err(|_| "connection refused".to_owned()),
            primary: index == shard.primary,
            run_id: node.redis.is_ok().then(|| node.run.to_string()),
            in_sync: if node.in_sync_from <= self.now && shard.nodes[shard.primary].redis.is_ok() {
                Ok(())
            } else {
                Err("link down".to_owned())
            },
        };
        let serving = shard.nodes[shard.primary].redis.is_ok();
        let sight = Sight {
            ready: if serving { Ok(()) } else { Err("no primary".to_owned()) },
            primary: serving.then_some(shard.primary),
            nodes: shard.nodes.iter().enumerate().map(node).collect(),
        };
        let proxies = shard.nodes.iter().map(|node| match node.proxy {
            Ok(()) => Proxy::Up(sight.clone()),
            Err(_) => Proxy::Down("nobody answers".to_owned()),
        });
        Observation { asked_at: Duration::from_millis(self.now), proxies: proxies.collect() }
    }

    pub(crate) fn switch(&mut self, at: usize, to: usize) -> bool {
        let possible = self.healthy(at) && !self.random.percent(10);
        if possible {
            self.shards[at].primary = to;
        }
        possible
    }

    /// A command is started, unless it was before. The rules are checked here, where a breach would do harm.
    pub(crate) fn start(&mut self, at: usize, node: usize, hook: Hook, attempt: u32) {
        if self.shards[at].jobs.contains_key(&(node, hook, attempt)) {
            return;
        }
        let now = self.now;
        if hook != Hook::Work {
            let job = Job { ends: now + 100, well: Some(!self.random.percent(3)), worked: true };
            self.shards[at].jobs.insert((node, hook, attempt), job);
            return;
        }
        self.check(at, node);
        self.works += 1;
        let takes = 200 + self.random.below(800);
        let luck = self.random.below(100);
        let target = &mut self.shards[at].nodes[node];
        let (ends, well, goes_down) = match luck {
            // It fails before it has done anything.
            0..6 => (now + 50, false, None),
            // It fails half-way: the node is down.
            6..10 => (now + takes, false, Some(now + 50)),
            // It hangs, and is killed.
            10..13 => (now + DEADLINE, false, None),
            // It returns before the node goes down, as `reboot` does.
            13..50 => (now + 20, true, Some(now + 300)),
            _ => (now + takes, true, Some(now + 50)),
        };
        target.goes_down = goes_down;
        target.worked_on = goes_down.is_some();
        target.patched += u32::from(well);
        let twice = target.patched > 1;
        self.shards[at].jobs.insert((node, hook, attempt), Job { ends, well: Some(well), worked: well });
        if twice {
            self.complain(format!("shard {at} node {node}: work that was done is done again"));
        }
    }

    fn check(&mut self, at: usize, node: usize) {
        let now = self.now;
        let shard = &self.shards[at];
        let seen = shard.disturbed.is_none_or(|disturbed| disturbed + OLDEST_LOOK < now);
        if shard.nodes.len() == 2 && seen {
            let other = 1 - node;
            if shard.primary == node || shard.nodes[other].redis.is_err() || shard.nodes[other].proxy.is_err() {
                return self.complain(format!("shard {at} node {node}: taken down while the other does not serve"));
            }
        }
        let group = shard.group;
        for (index, shard) in self.shards.iter().enumerate().filter(|(_, shard)| shard.group == group) {
            let other = |at_node: usize| (index, at_node) != (at, node);
            let down = shard.nodes.iter().enumerate().any(|(at_node, seen)| other(at_node) && seen.worked_on);
            let running = |((at_node, hook, _), job): (&(usize, Hook, u32), &Job)| {
                other(*at_node) && *hook == Hook::Work && job.ends > now
            };
            if down || shard.jobs.iter().any(running) {
                return self.complain(format!("shard {at} node {node}: begun while shard {index} is worked on"));
            }
        }
    }

    /// How a command ended: `None` while it runs or when it was never started (see `started`).
    pub(crate) fn ended(&self, at: usize, key: (usize, Hook, u32)) -> Option<Option<bool>> {
        self.shards[at].jobs.get(&key).filter(|job| job.ends <= self.now).map(|job| job.well)
    }

    pub(crate) fn started(&self, at: usize, key: (usize, Hook, u32)) -> bool {
        self.shards[at].jobs.contains_key(&key)
    }

    /// The machine of the rollout dies with the commands that it ran: nobody knows how one of them ended.
    pub(crate) fn forget_one(&mut self) {
        let now = self.now;
        if self.truth().is_some() {
            return;
        }
        let jobs = self.shards.iter_mut().flat_map(|shard| shard.jobs.values_mut());
        if let Some(job) = jobs.filter(|job| job.ends > now).last() {
            job.ends = now;
            job.well = None;
        }
    }

    /// What an operator finds who looks at a node of which nobody knows whether its work was done.
    pub(crate) fn truth(&self) -> Option<Unknown> {
        let jobs = self.shards.iter().flat_map(|shard| &shard.jobs);
        let mut lost = jobs.filter(|((_, hook, _), job)| *hook == Hook::Work && job.well.is_none());
        lost.next().map(|(_, job)| if job.worked { Unknown::Done } else { Unknown::Again })
    }

    /// The operator mends everything, and waits until nothing runs any more.
    pub(crate) fn mend(&mut self) {
        self.advance(DEADLINE + 3000);
        for node in self.shards.iter_mut().flat_map(|shard| &mut shard.nodes) {
            node.redis = Ok(());
            node.proxy = Ok(());
            node.goes_down = None;
            node.worked_on = false;
            node.in_sync_from = 0;
        }
    }
}
