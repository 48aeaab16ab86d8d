//! What all conversations share: the two nodes with their connections, the orders of the moment, the clock, chance.
//!
//! Connections carry bytes in pieces of any length. It decides nothing: `change.rs` gives the orders.

use std::time::Duration;

use changeover::session::Mark;

use crate::random::Random;
use crate::redis::{Log, Node};

/// A connection to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) node: usize,
    conn: u64,
}

/// As `io::orders`, without what sessions never see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orders {
    pub(crate) version: u64,
    pub(crate) epoch: u64,
    pub(crate) primary: Option<usize>,
    pub(crate) given_up: u64,
    pub(crate) hold: bool,
}

/// What came from a node.
pub(crate) enum Read {
    Bytes(Vec<u8>),
    Nothing,
    End,
}

pub(crate) struct Stage {
    pub(crate) nodes: [Node; 2],
    pub(crate) log: Log,
    pub(crate) orders: Orders,
    pub(crate) random: Random,
    pub(crate) now: u64,
    pub(crate) hold_time: Duration,
    /// Since when nobody could send.
    pub(crate) holding_since: Option<Duration>,
    /// Markers on their way to a node.
    pub(crate) markers: Vec<(usize, Vec<u8>)>,
    next_marker: u64,
    pub(crate) story: Option<Vec<String>>,
}

pub(crate) const RESERVED: &[u8] = b"__changeover__";

impl Stage {
    pub(crate) fn new(mut random: Random, hold_time: Duration, tell: bool) -> Self {
        let nodes = [Node::new(random.id() >> 8, true), Node::new(random.id() >> 8, false)];
        Self {
            nodes,
            log: Log::default(),
            orders: Orders { version: 1, epoch: 1, primary: Some(0), given_up: 0, hold: false },
            random,
            now: 0,
            hold_time,
            holding_since: None,
            markers: Vec::new(),
            next_marker: 0,
            story: tell.then(Vec::new),
        }
    }

    pub(crate) fn tell(&mut self, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(story) = &mut self.story {
            story.push(format!("{now:>6} {}", what()));
        }
    }

    pub(crate) fn time(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        self.now += millis;
        for node in &mut self.nodes {
            node.now = self.now;
            node.serve(&mut self.log);
        }
    }

    pub(crate) fn may_begin(&self) -> bool {
        self.orders.primary.is_some() && !self.orders.hold
    }

    /// New orders; their version is filled in here.
    pub(crate) fn order(&mut self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.orders);
        self.orders.version += 1;
        let since = self.holding_since.or(Some(self.time()));
        self.holding_since = if self.may_begin() { None } else { since };
        let orders = self.orders;
        self.tell(|| format!("orders {orders:?}"));
    }

    pub(crate) fn mark(&self) -> Option<Mark> {
        let primary = self.orders.primary?;
        let node = u8::try_from(primary).unwrap();
        Some(Mark::new(node, &self.nodes[primary].process.to_be_bytes()))
    }

    pub(crate) fn marker_channel(&mut self) -> Vec<u8> {
        self.next_marker += 1;
        [RESERVED, format!(":{}", self.next_marker).as_bytes()].concat()
    }

    // ---- connections ----

    pub(crate) fn connect(&mut self, node: usize) -> Option<Link> {
        let conn = self.nodes[node].connect()?;
        Some(Link { node, conn })
    }

    /// The node takes some of the bytes; `None` when the connection is known to be broken.
    pub(crate) fn write(&mut self, link: Link, bytes: &[u8]) -> Option<usize> {
        let count = self.some_of(bytes.len());
        let broken = self.random.percent(50);
        let node = &mut self.nodes[link.node];
        match node.conns.get_mut(&link.conn) {
            Some(conn) if node.alive && !conn.closed => conn.input.extend(&bytes[..count]),
            // What was written after the other side had closed goes nowhere.
            _ if broken => return None,
            _ => {}
        }
        Some(count)
    }

    pub(crate) fn read(&mut self, link: Link) -> Read {
        let Some(conn) = self.nodes[link.node].conns.get(&link.conn) else { return Read::End };
        let (len, closed) = (conn.output.len(), conn.closed);
        if len == 0 {
            return if closed { Read::End } else { Read::Nothing };
        }
        let count = self.some_of(len);
        let conn = self.nodes[link.node].conns.get_mut(&link.conn).unwrap();
        Read::Bytes(conn.output.drain(..count).collect())
    }

    /// Our side closes: what the node has not taken it may take or not, and nobody hears what it says.
    pub(crate) fn close(&mut self, link: Link) {
        let reads_on = self.random.percent(50);
        let node = &mut self.nodes[link.node];
        let Some(conn) = node.conns.get_mut(&link.conn) else { return };
        (conn.left, conn.blocked) = (true, None);
        if !reads_on && !node.frozen {
            node.conns.remove(&link.conn);
        }
    }

    /// A node loses everything that it has not said, and some of what it has.
    pub(crate) fn kill(&mut self, at: usize) {
        let random = &mut self.random;
        let node = &mut self.nodes[at];
        (node.alive, node.paused) = (false, false);
        for conn in node.conns.values_mut() {
            conn.closed = true;
            conn.blocked = None;
            let said = usize::try_from(random.below(conn.output.len() as u64 + 1)).unwrap();
            conn.output.truncate(said);
        }
    }

    /// The server ends one of its connections, as CLIENT KILL does: what it had not said yet is lost from a random byte on.
    /// One with much to say is taken first. False when there was none.
    pub(crate) fn cut(&mut self, at: usize) -> bool {
        let random = &mut self.random;
        let open = self.nodes[at].conns.iter_mut().filter(|(_, conn)| !conn.closed && !conn.left);
        let mut open: Vec<_> = open.collect();
        if open.is_empty() {
            return false;
        }
        let large = open.iter().position(|(_, conn)| conn.output.len() > 20_000);
        let place = large.unwrap_or(usize::try_from(random.below(open.len() as u64)).unwrap());
        let (id, conn) = &mut open[place];
        let said = usize::try_from(random.below(conn.output.len() as u64 + 1)).unwrap();
        let (id, lost) = (**id, conn.output.len() - said);
        (conn.closed, conn.blocked) = (true, None);
        conn.output.truncate(said);
        self.tell(|| format!("node {at} closes connection {id}, and {lost} bytes are lost"));
        true
    }

    /// Between 1 and `len`; small pieces of what is small, all of it quite often.
    pub(crate) fn some_of(&mut self, len: usize) -> usize {
        if self.random.percent(40) {
            return len;
        }
        let most = if self.random.percent(50) { len.min(16) } else { len };
        1 + usize::try_from(self.random.below(most as u64)).unwrap()
    }

    /// One of the nodes takes a command of one of its connections, or the replica takes a piece of the log.
    pub(crate) fn serve(&mut self) -> bool {
        let at = usize::try_from(self.random.below(2)).unwrap();
        let mut moved = false;
        for node in [at, 1 - at] {
            let ids: Vec<u64> = self.nodes[node].conns.keys().copied().collect();
            if ids.is_empty() {
                continue;
            }
            let from = usize::try_from(self.random.below(ids.len() as u64)).unwrap();
            for place in 0..ids.len() {
                let id = ids[(from + place) % ids.len()];
                let took = self.nodes[node].step(id, &mut self.log);
                moved |= took;
                let conn = &self.nodes[node].conns[&id];
                if conn.left && !took {
                    self.nodes[node].conns.remove(&id);
                }
                if took && self.random.percent(60) {
                    return true;
                }
            }
        }
        moved
    }

    /// The replica takes the next piece of the log.
    pub(crate) fn replicate(&mut self) -> bool {
        let Some(from) = self.nodes.iter().position(|node| node.primary && !node.stale && node.runs()) else {
            return false;
        };
        let to = &mut self.nodes[1 - from];
        if !to.runs() || to.primary {
            return false;
        }
        let Some(entry) = self.log.entries.get(to.applied) else { return false };
        to.apply(entry);
        let applied = to.applied;
        to.serve(&mut self.log);
        self.nodes[from].acknowledged(applied);
        true
    }
}
