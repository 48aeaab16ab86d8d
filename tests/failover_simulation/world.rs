//! Two Redis nodes as they behave at a loss: processes, histories, synchronisation, the fence of a primary, and what of
//! the network is cut. Time goes in steps of [`STEP`].

use std::collections::BTreeSet;
use std::time::Duration;

use changeover::protocol::info::{
    FailoverState, Loading, PrimaryLink, ReplId, ReplicaLine, ReplicationInfo, RunId, ServerInfo, WireRole,
};
use changeover::topology::NodeReport;

/// One step of the world.
pub(crate) const STEP: Duration = Duration::from_millis(5);
/// A replica tries to connect this often.
const RECONNECT: Duration = Duration::from_secs(1);
/// A silent link is given up after this time.
const REPL_TIMEOUT: Duration = Duration::from_secs(10);

/// SplitMix64.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.below(most + 1))
    }

    fn id(&mut self) -> [u8; 40] {
        let text = format!("{:016x}{:016x}{:08x}", self.next(), self.next(), self.next() >> 32);
        text.as_bytes().try_into().expect("40 digits")
    }
}

/// A process of Redis, or the place where one was.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) alive: bool,
    pub(crate) frozen: bool,
    /// It has just begun, and loads its data until then: it takes no writes.
    pub(crate) loads_until: Duration,
    /// It answers every question with an error until then; and whether connections of before are still known to be its.
    pub(crate) errs: Option<(Duration, bool)>,
    pub(crate) run_id: RunId,
    pub(crate) primary: bool,
    /// Whom it is told to follow, when it is a replica; `None`: an address where nobody listens.
    pub(crate) follows: Option<usize>,
    pub(crate) link: bool,
    pub(crate) replid: ReplId,
    replid2: Option<ReplId>,
    fork: Option<u64>,
    pub(crate) offset: u64,
    pub(crate) data: BTreeSet<u64>,
    pub(crate) min_replicas: u64,
    pub(crate) max_lag: Duration,
    /// It was told to refuse every write.
    pub(crate) shut: bool,
    /// When its replica last acknowledged, here at the primary.
    acked: Option<Duration>,
    last_io: Duration,
    connect_at: Duration,
}

/// The pair and the network.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) random: Random,
    pub(crate) nodes: [Node; 2],
    /// Between the nodes.
    pub(crate) cut_nodes: bool,
    /// From each agent to the other node.
    pub(crate) cut_agent: [bool; 2],
    /// The node stopped listening, though it lives.
    pub(crate) deaf: [bool; 2],
    pub(crate) written: u64,
    /// What was saved before it was dropped.
    pub(crate) saved: BTreeSet<u64>,
}

impl World {
    pub(crate) fn new(seed: u64, fence: Option<u64>) -> Self {
        let mut random = Random(seed);
        let mut node = |primary: bool| Node {
            alive: true,
            frozen: false,
            loads_until: Duration::ZERO,
            errs: None,
            run_id: RunId(random.id()),
            primary,
            follows: (!primary).then_some(0),
            link: false,
            replid: ReplId(random.id()),
            replid2: None,
            fork: None,
            offset: 0,
            data: BTreeSet::new(),
            min_replicas: u64::from(fence.is_some()),
            max_lag: Duration::from_secs(fence.unwrap_or(10)),
            shut: false,
            acked: None,
            last_io: Duration::ZERO,
            connect_at: Duration::ZERO,
        };
        let nodes = [node(true), node(false)];
        Self {
            now: Duration::ZERO,
            random,
            nodes,
            cut_nodes: false,
            cut_agent: [false; 2],
            deaf: [false; 2],
            written: 0,
            saved: BTreeSet::new(),
        }
    }

    /// Whether this node would accept a write now.
    pub(crate) fn takes_writes(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        let fenced = node.min_replicas > 0 && node.acked.is_none_or(|acked| self.now > acked + node.max_lag);
        node.alive && !node.frozen && node.primary && !fenced && !node.shut && self.now >= node.loads_until
    }

    /// A client writes, past all proxies or through one that serves this node.
    pub(crate) fn write(&mut self, at: usize) -> Option<u64> {
        if !self.takes_writes(at) {
            return None;
        }
        self.written += 1;
        self.nodes[at].data.insert(self.written);
        self.nodes[at].offset += 37;
        Some(self.written)
    }

    pub(crate) fn kill(&mut self, at: usize) {
        self.nodes[at].alive = false;
        self.nodes[at].frozen = false;
        self.nodes[at].link = false;
        self.nodes[at].acked = None;
    }

    /// Starts a process again: empty, or with all the data that it had, as after a clean shutdown.
    pub(crate) fn boot(&mut self, at: usize, with_data: bool, follows: Option<usize>, loads_for: Duration) {
        let (run_id, replid) = (RunId(self.random.id()), ReplId(self.random.id()));
        let (min_replicas, now) = (self.nodes[1].min_replicas.max(self.nodes[0].min_replicas), self.now);
        let node = &mut self.nodes[at];
        (node.alive, node.shut, node.errs) = (true, false, None);
        node.loads_until = now + loads_for;
        (node.run_id, node.primary, node.follows) = (run_id, follows.is_none(), follows);
        (node.link, node.acked, node.connect_at) = (false, None, now);
        node.min_replicas = min_replicas;
        if with_data {
            (node.replid2, node.fork) = (Some(node.replid), Some(node.offset + 1));
            node.replid = replid;
        } else {
            (node.replid, node.replid2, node.fork, node.offset) = (replid, None, None, 0);
            node.data.clear();
        }
    }

    /// Whether it has just begun and loads its data.
    pub(crate) fn loads(&self, at: usize) -> bool {
        self.now < self.nodes[at].loads_until
    }

    /// Everything that it has is set aside.
    pub(crate) fn save(&mut self, at: usize) {
        let saved: Vec<_> = self.nodes[at].data.iter().copied().collect();
        self.saved.extend(saved);
    }

    /// `REPLICAOF`.
    pub(crate) fn follow(&mut self, at: usize, whom: Option<usize>) {
        let now = self.now;
        let node = &mut self.nodes[at];
        if !node.primary && node.follows == whom {
            return;
        }
        (node.primary, node.follows, node.link, node.connect_at, node.acked) = (false, whom, false, now, None);
    }

    /// `REPLICAOF NO ONE`.
    pub(crate) fn promote(&mut self, at: usize) {
        let replid = ReplId(self.random.id());
        let node = &mut self.nodes[at];
        if node.primary {
            return;
        }
        (node.replid2, node.fork) = (Some(node.replid), Some(node.offset + 1));
        (node.replid, node.primary, node.follows, node.link, node.acked) = (replid, true, None, false, None);
    }

    /// One step of replication.
    pub(crate) fn step(&mut self) {
        self.now += STEP;
        for at in 0..2 {
            self.replicate(at);
        }
    }

    fn replicate(&mut self, at: usize) {
        let now = self.now;
        let [first, second] = &mut self.nodes;
        let (replica, primary) = if at == 0 { (first, second) } else { (second, first) };
        if !replica.alive || replica.frozen || replica.primary || now < replica.loads_until {
            return;
        }
        let Some(whom) = replica.follows.filter(|whom| *whom != at) else {
            replica.link = false;
            return;
        };
        let deaf = self.deaf[whom];
        let ended = !primary.alive || !primary.primary || now > replica.last_io + REPL_TIMEOUT;
        if replica.link && ended {
            // One attempt at once, then one a second.
            (replica.link, replica.connect_at) = (false, now);
        }
        let loads = now < primary.loads_until;
        let reachable = primary.alive && !primary.frozen && !self.cut_nodes && !loads;
        if !replica.link && now >= replica.connect_at {
            replica.connect_at = now + RECONNECT;
            if reachable && primary.primary && !deaf {
                let partial = replica.replid == primary.replid && replica.offset <= primary.offset
                    || primary.replid2 == Some(replica.replid)
                        && primary.fork.is_some_and(|fork| replica.offset < fork);
                if !partial || replica.data.iter().any(|write| !primary.data.contains(write)) {
                    (replica.replid2, replica.fork) = (None, None);
                }
                (replica.link, replica.replid) = (true, primary.replid);
                (replica.last_io, primary.acked) = (now, Some(now));
                (replica.offset, replica.data) = (primary.offset, primary.data.clone());
            }
        }
        if replica.link && reachable {
            (replica.last_io, primary.acked) = (now, Some(now));
            // Now and then it lags.
            if !self.random.one_in(4) {
                (replica.offset, replica.data) = (primary.offset, primary.data.clone());
            }
        }
    }

    /// What the node would answer to a probe.
    pub(crate) fn report(&self, at: usize, asked_at: Duration) -> NodeReport {
        let (node, other) = (&self.nodes[at], &self.nodes[1 - at]);
        let attached = node.primary && other.alive && other.link && other.follows == Some(at);
        let replica = ReplicaLine { ip: "x".into(), port: 1, online: true, offset: other.offset, lag: 0 };
        let (host, port) = match node.follows {
            Some(whom) => (format!("node{whom}"), 6379),
            None => ("127.0.0.1".to_owned(), 1),
        };
        let link = PrimaryLink {
            host,
            port,
            up: node.link,
            sync_in_progress: false,
            slave_repl_offset: node.offset,
            last_io_seconds: None,
        };
        NodeReport {
            server: ServerInfo { run_id: node.run_id, version: "7.0.15".into(), valkey: None, shutdown_in_ms: None },
            replication: ReplicationInfo {
                role: if node.primary { WireRole::Master } else { WireRole::Slave },
                replid: if self.loads(at) { ReplId([b'f'; 40]) } else { node.replid },
                replid2: node.replid2.filter(|_| !self.loads(at)),
                offset: if self.loads(at) { 0 } else { node.offset },
                second_offset: node.fork.filter(|_| !self.loads(at)),
                failover: FailoverState::None,
                replicas: if attached { vec![replica] } else { Vec::new() },
                primary_link: (!node.primary).then_some(link),
            },
            loading: (self.loads(at) && node.primary).then(Loading::default),
            asked_at,
        }
    }
}
