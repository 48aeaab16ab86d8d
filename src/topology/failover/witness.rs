//! The witness of many pairs: who holds which pair, and who may take it over. Needs no Redis.
//!
//! It is the third voice. The process beside the node in service *holds* the pair by renewing a lease here; the process
//! beside the replica is given the pair (a *vote*) only when that lease has run out, was released, or when the process
//! that held it is dead. It never looks at a node itself, and knows nothing of data: who may be promoted at all is for the
//! process beside it to know.
//!
//! Invariant: the term of a pair grows with every change of its holder, and each term has one holder. A change is kept
//! ([`Tenure`] as text, by whoever runs this) before it is answered, so that a witness that restarts gives no vote twice; and
//! after a restart every lease counts as renewed just now.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::topology::node::NodeId;

/// Pairs that one witness takes.
pub const MAX_PAIRS: usize = 4096;
/// The longest lease.
pub const MAX_LEASE: Duration = Duration::from_secs(60);
/// A lease counts here for so much longer than at its holder, which counts from when it asked: clocks that run at
/// different speeds, and the time to fence.
pub const SLACK: Duration = Duration::from_secs(1);
/// A holder that is there has renewed within this time. (It renews only while its node answers.)
pub const QUIET: Duration = Duration::from_millis(500);

/// What a process asks of the witness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The node that it runs beside.
    pub node: NodeId,
    /// What it asks for.
    pub want: Want,
    /// The latest term about which it agreed with the witness.
    pub term: u64,
    /// The process of Redis that this is about: its own for [`Want::Hold`], the one it follows for [`Want::Vote`].
    pub process: String,
    /// How long a lease it wants, in milliseconds.
    pub lease_ms: u64,
}

/// What for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// Only to know.
    Watch,
    /// "My node is in service": renew the lease, or begin one.
    Hold,
    /// "My node is not in service, and will not be by this term": the other may have the pair.
    Release,
    /// "My node was in service, and is dead": the other may have the pair, if it has agreed about this term.
    Dead,
    /// "The node that I follow is silent": the pair, once the lease has run out.
    Vote,
    /// "The process that I follow refuses connections": the pair, unless the process beside it has just renewed.
    VoteDead,
}

/// What the witness says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The term that is in force now.
    pub term: u64,
    /// Who holds the pair by it.
    pub holder: Option<NodeId>,
    /// Whether what was asked for was done.
    pub granted: bool,
}

/// Who holds a pair; what must survive a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenure {
    /// Grows with every change of the holder.
    pub term: u64,
    /// The node whose process holds the pair.
    pub holder: Option<NodeId>,
    /// The length of its lease, in milliseconds.
    pub lease_ms: u64,
}

/// One pair.
#[derive(Clone, Debug, Default)]
struct Pair {
    kept: Tenure,
    /// No vote before this time.
    until: Duration,
    /// The holder has renewed here then.
    renewed: Option<Duration>,
    /// The process of Redis that the holder has named.
    process: String,
    /// By a process that sees the other node in service.
    released: bool,
    /// The holder says that its node is.
    dead: bool,
    /// The latest connection on which the process beside each node has asked.
    lines: BTreeMap<NodeId, u64>,
    /// Before there is a holder: who has claimed with the highest term, and when the first did.
    claimed: Option<(u64, NodeId, Duration)>,
}

/// The machine.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    pairs: BTreeMap<String, Pair>,
}

impl Witness {
    /// With what was kept.
    pub fn new(kept: BTreeMap<String, Tenure>, now: Duration) -> Self {
        let pair = |kept: Tenure| {
            let lease = lease(kept.lease_ms);
            Pair { until: now + lease + SLACK, kept, ..Pair::default() }
        };
        Self { pairs: kept.into_iter().take(MAX_PAIRS).map(|(name, kept)| (name, pair(kept))).collect() }
    }

    /// What must be kept.
    pub fn kept(&self) -> BTreeMap<String, Tenure> {
        self.pairs.iter().map(|(name, pair)| (name.clone(), pair.kept.clone())).collect()
    }

    /// How many pairs are known.
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Answers; true when [`Witness::kept`] has changed and must be saved before the answer leaves. `line` numbers the
    /// connections in the order in which they were accepted: a process has one at a time, and what is still read from an
    /// older one was given up by it. `None`: that, or there is no room for another pair.
    pub fn handle_ask(&mut self, name: &str, line: u64, ask: &Ask, now: Duration) -> Option<(Answer, bool)> {
        if ask.node.index() > 1 {
            return None;
        }
        if !self.pairs.contains_key(name) && (self.pairs.len() >= MAX_PAIRS || ask.want != Want::Hold) {
            let unknown = Answer { term: 0, holder: None, granted: false };
            return (ask.want != Want::Hold).then_some((unknown, false));
        }
        let pair = self.pairs.entry(name.to_owned()).or_default();
        let latest = pair.lines.entry(ask.node).or_default();
        if line < *latest {
            return None;
        }
        *latest = line;
        let before = pair.kept.clone();
        let granted = pair.judge(ask, now);
        let answer = Answer { term: pair.kept.term, holder: pair.kept.holder, granted };
        Some((answer, pair.kept != before))
    }
}

impl Pair {
    fn judge(&mut self, ask: &Ask, now: Duration) -> bool {
        let mine = self.kept.holder == Some(ask.node);
        let others = self.kept.holder.is_some() && !mine;
        let agreed = ask.term == self.kept.term;
        let expired = self.released || self.dead || self.until <= now;
        let gives_way = match ask.want {
            Want::Watch => return false,
            Want::Release | Want::Dead => {
                let releases = mine && agreed;
                self.released |= releases && ask.want == Want::Release;
                self.dead |= releases && ask.want == Want::Dead;
                return releases || others;
            }
            Want::Hold if self.kept.holder.is_none() => self.first(ask, now),
            // Released by whoever sees it in service; or it has moved on from a state that it had agreed about. Whoever has missed
            // a change of the holder may have missed writes as well: that the other's node is dead proves nothing for it.
            Want::Hold => mine || others && (self.released || expired && agreed),
            Want::Vote => mine || others && expired && agreed,
            Want::VoteDead => mine || others && agreed && (expired || self.is_dead(ask, now)),
        };
        if gives_way {
            self.give(ask, now);
        }
        gives_way
    }

    /// The process is the one that the holder had named, and the holder no longer does.
    fn is_dead(&self, ask: &Ask, now: Duration) -> bool {
        self.process == ask.process && self.renewed.is_some_and(|renewed| renewed + QUIET <= now)
    }

    /// Nobody holds it. On a first start whoever asks has it. Who has agreed about a term with us before shows that what was
    /// kept is lost: then everybody gets the time to ask, and the one with the highest term has it.
    fn first(&mut self, ask: &Ask, now: Duration) -> bool {
        if ask.term == 0 {
            return self.claimed.is_none();
        }
        let (best, node, since) = self.claimed.unwrap_or((ask.term, ask.node, now));
        let (best, node) = if ask.term > best { (ask.term, ask.node) } else { (best, node) };
        self.claimed = Some((best, node, since));
        since + lease(ask.lease_ms) + SLACK <= now && node == ask.node
    }

    fn give(&mut self, ask: &Ask, now: Duration) {
        if self.kept.holder != Some(ask.node) {
            self.kept.term = self.kept.term.max(ask.term) + 1;
            self.kept.holder = Some(ask.node);
        }
        let length = lease(ask.lease_ms);
        self.kept.lease_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        (self.until, self.released, self.dead, self.claimed) = (now + length + SLACK, false, false, None);
        (self.renewed, self.process) = match ask.want {
            Want::Hold => (Some(now), ask.process.clone()),
            _ => (None, String::new()),
        };
    }
}

fn lease(millis: u64) -> Duration {
    Duration::from_millis(millis).min(MAX_LEASE)
}

#[cfg(test)]
mod tests;
