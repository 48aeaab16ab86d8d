//! The process beside a node: the real rule and the real machine, with probes, orders and messages that take their time.

use std::time::Duration;

use changeover::control::channel::{Kind, Message};
use changeover::protocol::info::RunId;
use changeover::topology::failover::witness::{Answer, Ask};
use changeover::topology::failover::{
    Done, Duty, Effect, Failover, Fence, LastLook, NoAnswer, Rejoin, Saw, Scene, Settings,
};
use changeover::topology::primary::Settings as RuleSettings;
use changeover::topology::{
    Answer as TopologyAnswer, Evidence, Gone, Memory, NodeId, Output, Reach, Role, Topology, Trouble,
};

use crate::channel::End;
use crate::world::World;

pub(crate) const LIMIT: Duration = Duration::from_millis(500);

/// What reaches an agent later.
#[expect(clippy::large_enum_variant, reason = "few, and short-lived")]
#[derive(Clone, Debug)]
pub(crate) enum Post {
    Evidence(usize, Evidence),
    Done(usize, Duty, Result<Done, String>),
    Said(Vec<u8>),
    Witness(Result<Answer, NoAnswer>),
}

/// An order on its way to a node.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) at: Duration,
    pub(crate) by: usize,
    pub(crate) node: usize,
    pub(crate) duty: Duty,
    /// The agent has given up on the answer.
    pub(crate) late: bool,
}

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) me: usize,
    witness: bool,
    pub(crate) running: bool,
    pub(crate) paused_until: Duration,
    pub(crate) topology: Topology,
    pub(crate) failover: Failover,
    memory: Option<Memory>,
    inbox: Vec<(Duration, Post)>,
    probe_at: [Duration; 2],
    asking: [bool; 2],
    /// About which node, when it was asked, by whom, and its number.
    question: Option<(usize, Duration, String, u64)>,
    asked: u64,
    pub(crate) end: End,
    pub(crate) outbox: Vec<Outgoing>,
}

/// What an agent sends.
#[derive(Clone, Debug)]
pub(crate) enum Outgoing {
    Order(usize, Duty),
    Consult(Ask),
    /// On the pair's channel.
    Say(Vec<u8>),
}

/// A lease of the witness.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

fn machines(me: usize, witness: bool, memory: Option<Memory>, now: Duration) -> (Topology, Failover) {
    let names = vec!["node0".to_owned(), "node1".to_owned()];
    let topology = Topology::new(RuleSettings { nodes: names, silent_after: LIMIT, silent_for: LIMIT }, memory, now);
    let addresses = ["node0", "node1"].map(|name| (name.to_owned(), 6379));
    let rejoin = if witness { Rejoin::Save } else { Rejoin::Always };
    let usual = Settings::usual(addresses, true, rejoin, LIMIT);
    let settings = Settings { witness: witness.then_some(LEASE), ..usual };
    (topology, Failover::new(settings, NodeId(me as u8), now))
}

impl Agent {
    pub(crate) fn new(me: usize, witness: bool, sealed: bool) -> Self {
        let (topology, failover) = machines(me, witness, None, Duration::ZERO);
        Self {
            me,
            witness,
            running: true,
            paused_until: Duration::ZERO,
            topology,
            failover,
            memory: None,
            inbox: Vec::new(),
            probe_at: [Duration::ZERO; 2],
            asking: [false; 2],
            question: None,
            asked: 0,
            end: End::new(me, sealed),
            outbox: Vec::new(),
        }
    }

    /// Starts again with what it remembers.
    pub(crate) fn restart(&mut self, now: Duration) {
        (self.topology, self.failover) = machines(self.me, self.witness, self.memory.clone(), now);
        self.inbox.clear();
        self.outbox.clear();
        self.end.restart();
        (self.asking, self.question, self.running) = ([false; 2], None, true);
    }

    pub(crate) fn awake(&self, now: Duration) -> bool {
        self.running && now >= self.paused_until
    }

    pub(crate) fn post(&mut self, at: Duration, post: Post) {
        if self.running {
            self.inbox.push((at, post));
        }
    }

    /// Whom its clients are sent to.
    pub(crate) fn serves(&self, now: Duration) -> Option<usize> {
        let node = self.topology.view().primary.as_ref().ok()?.index();
        // The workers look at the clock themselves.
        let leased = node != self.me || self.failover.lease_until().is_none_or(|until| now < until);
        (self.running && leased && !self.failover.suspends()).then_some(node)
    }

    /// A connection to a node has ended.
    pub(crate) fn hang_up(&mut self, node: usize, at: Duration) {
        self.post(at, Post::Evidence(node, Evidence::Gone(Gone::EndOfFile)));
    }

    /// Asks the nodes when it is time to.
    pub(crate) fn probe(&mut self, world: &mut World) {
        let now = world.now;
        for node in 0..2 {
            if self.asking[node] || now < self.probe_at[node] {
                continue;
            }
            self.asking[node] = true;
            let cut = node != self.me && world.cut_agent[self.me];
            let delay = if world.random.one_in(50) { world.random.millis(300) } else { world.random.millis(8) };
            let evidence = if cut || world.nodes[node].frozen {
                Evidence::Silent
            } else if !world.nodes[node].alive || world.deaf[node] && world.random.one_in(2) {
                Evidence::Gone(Gone::Refused)
            } else if let Some(error) = self.error(world, node) {
                error
            } else {
                Evidence::Report(world.report(node, now))
            };
            let at = if evidence == Evidence::Silent { now + LIMIT } else { now + delay };
            self.inbox.push((at, Post::Evidence(node, evidence)));
        }
    }

    /// What a node answers that errs: `-BUSY` on the connection that was open before, or an error of nobody knows which.
    fn error(&self, world: &World, at: usize) -> Option<Evidence> {
        let node = &world.nodes[at];
        let (_, known) = node.errs.filter(|(until, _)| world.now < *until)?;
        let reported = self.topology.node(NodeId(at as u8)).and_then(|state| state.report.as_ref());
        let same = known && reported.is_some_and(|report| report.run_id() == node.run_id);
        let role = if node.primary { Role::Primary } else { Role::Replica };
        let process = same.then_some((node.run_id, Some(role)));
        let trouble = if known { Trouble::Busy } else { Trouble::Login("WRONGPASS".into()) };
        Some(Evidence::Answers(TopologyAnswer { trouble, process, asked_at: world.now }))
    }

    /// Takes in what is due, looks, and says what is to be sent.
    pub(crate) fn step(&mut self, now: Duration) {
        let mut due: Vec<_> = Vec::new();
        self.inbox.retain(|(at, post)| {
            let ready = *at <= now;
            if ready {
                due.push((*at, post.clone()));
            }
            !ready
        });
        due.sort_by_key(|(at, _)| *at);
        for (_, post) in due {
            match post {
                Post::Evidence(node, evidence) => {
                    if !matches!(evidence, Evidence::Gone(Gone::EndOfFile)) {
                        self.asking[node] = false;
                        let pace = if self.topology.unsettled() { 10 } else { 100 };
                        self.probe_at[node] = now + Duration::from_millis(pace);
                    }
                    self.failover.handle_evidence(NodeId(node as u8), &evidence, now);
                    self.topology.handle_evidence(NodeId(node as u8), evidence, now);
                }
                Post::Done(node, duty, result) => self.failover.handle_done(NodeId(node as u8), &duty, result, now),
                Post::Witness(answer) => self.failover.handle_answer(answer, now),
                Post::Said(payload) => {
                    if let Some(message) = self.end.hear(&payload, now) {
                        self.obey(message, now);
                    }
                }
            }
            self.look(now);
        }
        if self.topology.poll_timeout().is_some_and(|at| at <= now) {
            self.topology.handle_timeout(now);
        }
        self.look(now);
        let presence = self.end.presence(now);
        self.outbox.extend(presence.map(Outgoing::Say));
    }

    fn say(&mut self, kind: Kind, now: Duration) {
        let said = self.end.say(kind, now);
        self.outbox.extend(said.map(Outgoing::Say));
    }

    /// As the owner does.
    fn obey(&mut self, message: Message, now: Duration) {
        let node = |name: &str| usize::from(name == "node1");
        let by_the_other = message.node == Some(format!("node{}", 1 - self.me));
        match message.kind {
            Kind::Suspect { about, question } => {
                self.question = Some((node(&about), now, message.from, question));
                self.probe_at[node(&about)] = now;
            }
            Kind::Sees { about, answers, to, question } => {
                let counts = to == self.end.name && question <= self.asked && question + 5 > self.asked;
                let (beside, saw) =
                    (message.node.as_ref() == Some(&about), if answers { Saw::Answers } else { Saw::Refused });
                if counts {
                    self.failover.handle_word(NodeId(node(&about) as u8), saw, beside, now);
                }
            }
            Kind::Lease { plea, .. } if by_the_other && self.failover.handle_plea(LEASE, now) => {
                self.say(Kind::Leased { to: message.from, plea }, now);
            }
            Kind::Leased { to, plea } if by_the_other && to == self.end.name => self.failover.handle_promise(plea, now),
            Kind::Saved { process } if by_the_other => {
                if let Ok(process) = process.as_bytes().try_into() {
                    self.failover.handle_saved(RunId(process), now);
                }
            }
            _ => {}
        }
    }

    fn look(&mut self, now: Duration) {
        while let Some(output) = self.topology.poll_output() {
            match output {
                Output::Remember(memory) => self.memory = Some(memory),
                Output::ProbeNow => self.probe_at = [now; 2],
                _ => {}
            }
        }
        self.answer(now);
        let node = |at: usize| self.topology.node(NodeId(at as u8)).expect("two nodes");
        let scene = Scene {
            view: self.topology.view(),
            followed: self.topology.followed(),
            mine: node(self.me),
            other: node(1 - self.me),
            calm: true,
        };
        self.failover.look(&scene, now);
        while let Some(effect) = self.failover.poll_effect() {
            match effect {
                Effect::Do { node, duty } => self.outbox.push(Outgoing::Order(node.index(), duty)),
                Effect::Ask(node) => {
                    self.asked += 1;
                    self.say(Kind::Suspect { about: format!("node{}", node.index()), question: self.asked }, now);
                }
                Effect::Consult(ask) => self.outbox.push(Outgoing::Consult(ask)),
                Effect::Saved(process) => self.say(Kind::Saved { process: process.to_string() }, now),
                Effect::Plead(plea) => self.say(Kind::Lease { plea, lease_ms: 0 }, now),
                Effect::Nudge(_) | Effect::Tell(_) => {}
            }
        }
    }

    fn answer(&mut self, now: Duration) {
        let Some((about, asked, to, question)) = self.question.clone() else { return };
        let Some(state) = self.topology.node(NodeId(about as u8)) else { return };
        let answers = match state.reach {
            Reach::Refused => false,
            Reach::Answering | Reach::Erring if state.answered.is_some_and(|answered| answered >= asked) => true,
            _ => return,
        };
        self.question = None;
        self.say(Kind::Sees { about: format!("node{about}"), answers, to, question }, now);
    }
}

/// Carries an order out at its node; what a real agent's hands do.
pub(crate) fn perform(world: &mut World, order: &Order) -> Result<Done, String> {
    let at = order.node;
    match &order.duty {
        Duty::Park => world.follow(at, None),
        Duty::Demote { only_if_empty: true, .. } if !world.nodes[at].data.is_empty() => {
            return Ok(Done::Declined("it holds data"));
        }
        Duty::Demote { .. } | Duty::Save if world.loads(at) => return Err("LOADING".into()),
        Duty::Unpark { host, .. } | Duty::Demote { host, .. } => {
            world.follow(at, Some(usize::from(host == "node1")));
        }
        Duty::Promote { process, last_look } => {
            let other = 1 - at;
            if world.nodes[at].run_id != *process {
                return Ok(Done::Declined("another process"));
            }
            let old = &world.nodes[other];
            let still_so = match last_look {
                LastLook::Needless => true,
                LastLook::Refuses => !old.alive || world.deaf[other],
                LastLook::Loads(process) => {
                    old.alive && !old.frozen && !world.deaf[other] && old.run_id == *process && world.loads(other)
                }
            };
            let looked = *last_look != LastLook::Needless;
            if looked && (world.cut_agent[at] || !still_so) {
                return Ok(Done::Declined("it is no longer as it was"));
            }
            let min_replicas = world.nodes[at].min_replicas;
            world.promote(at);
            (world.nodes[at].min_replicas, world.nodes[at].shut) = (0, false);
            return Ok(Done::Promoted { min_replicas });
        }
        Duty::ReadFence => {
            let node = &world.nodes[at];
            return Ok(Done::Fence(Fence { min_replicas: node.min_replicas, max_lag: node.max_lag }));
        }
        Duty::Save => {
            world.save(at);
            return Ok(Done::Saved { bytes: 1 });
        }
        Duty::Shut => world.nodes[at].shut = true,
        Duty::Open => world.nodes[at].shut = false,
        Duty::Restore { min_replicas } => world.nodes[at].min_replicas = *min_replicas,
    }
    Ok(Done::Plainly)
}
