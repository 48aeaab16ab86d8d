//! The other processes of the pair, as heard on its channel.
//!
//! Pure. Keeps who was heard when, and lets each message through once although it may arrive through both nodes. It
//! decides nothing about holds. Bounded: at most [`MAX_PEERS`] are remembered, whoever speaks.
//!
//! # With a secret
//!
//! A seal says who made a message, not when. So each process draws a *challenge* (a random number) every
//! [`CHALLENGE_EVERY`], says it with every message, and repeats the newest challenge of each other process. A message
//! counts only if it repeats a challenge of ours that is younger than [`CHALLENGE_FOR`]. Hence:
//!
//! * A message from before this process began is never believed: its challenges did not exist yet.
//! * A message older than [`CHALLENGE_FOR`] is never believed, by our own clock. The machines' clocks may differ.
//! * A younger one is believed once: its sender is remembered for longer ([`REMEMBERED_FOR`]), with the numbers heard.
//!
//! A process that is new to the pair takes three messages: its greeting (believed by nobody yet), our presence, which
//! repeats its challenge, and its presence, which repeats ours.
//!
//! # Without a secret
//!
//! Anybody may speak in any name, so nothing is risked here: a number far ahead makes nobody deaf, a farewell counts for
//! [`GONE_FOR`], and a process is known only once it has said that it is there.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::channel::{Kind, MAX_CHALLENGES, Message, Nonce, Proof};

/// Most processes that are remembered; a newcomer beyond it is not heard until another has been silent long enough.
pub const MAX_PEERS: usize = 32;
/// How often everyone says that it is there, where somebody may hear it.
pub const PRESENCE_EVERY: Duration = Duration::from_secs(1);
/// A process that was not heard for this long is not waited for.
pub const PRESENT_FOR: Duration = Duration::from_millis(3500);
/// Between two challenges.
pub const CHALLENGE_EVERY: Duration = Duration::from_secs(10);
/// A challenge counts for this long. Shorter than [`REMEMBERED_FOR`].
pub const CHALLENGE_FOR: Duration = Duration::from_secs(30);
/// A process that was not heard for this long is asked whether it is there.
const MISSED_AFTER: Duration = Duration::from_millis(1500);
/// A process that was not heard for this long is forgotten.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// Without a secret: for this long after a farewell, late messages of the same process do not bring it back.
const GONE_FOR: Duration = Duration::from_millis(1500);
/// How far a message may arrive behind a later one of the same sender.
const WINDOW: u64 = 64;

/// Everyone that was heard.
#[derive(Debug)]
pub struct Peers {
    own: String,
    /// Our challenges with their birth, newest first.
    challenges: VecDeque<(Nonce, Duration)>,
    known: BTreeMap<String, Peer>,
}

/// One other process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The node that it runs beside.
    pub node: Option<String>,
    /// The `run_id` of each node, by the name that the process has for it.
    pub nodes: BTreeMap<String, String>,
    /// When it was last heard and believed (process clock).
    pub heard: Duration,
    /// Its clock less ours, in milliseconds, when it was last heard; `None` without a secret.
    pub clock_ahead_ms: Option<i64>,
    /// It has repeated a challenge of ours or, without a secret, said that it is there.
    believed: bool,
    /// When anything came from it, believed or not.
    met: Duration,
    /// When it said that it leaves.
    left: Option<Duration>,
    /// It said that it takes no clients.
    drained: bool,
    /// Its newest challenge.
    nonce: Option<Nonce>,
    numbers: Numbers,
}

/// The numbers of a sender that were heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Numbers {
    /// Highest number heard, under a seal.
    highest: u64,
    /// Which of the [`WINDOW`] numbers up to `highest` were heard; bit 0 is `highest` itself.
    seen: u64,
    /// Without a seal: the last [`WINDOW`] numbers, however they are ordered.
    recent: VecDeque<u64>,
}

/// What a message meant for the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Our own, heard before, or beyond the limit: to be ignored.
    Nothing,
    /// It repeats no challenge of ours: not to be believed. Our presence lets its sender prove itself.
    Unproven,
    /// Without a secret: somebody who has never said that it is there. To be ignored.
    Stranger,
    /// To be acted upon.
    New {
        /// The sender was not present before.
        joined: bool,
    },
}

impl Peers {
    /// Nobody yet; `own` is this process' instance.
    pub fn new(own: impl Into<String>) -> Self {
        Self { own: own.into(), challenges: VecDeque::new(), known: BTreeMap::new() }
    }

    /// Whether another challenge is to be drawn.
    pub fn needs_challenge(&self, now: Duration) -> bool {
        self.challenges.front().is_none_or(|(_, drawn)| now.saturating_sub(*drawn) >= CHALLENGE_EVERY)
    }

    /// Takes a random number as our challenge from now on.
    pub fn challenge(&mut self, nonce: Nonce, now: Duration) {
        self.challenges.push_front((nonce, now));
        self.challenges.retain(|(_, drawn)| now.saturating_sub(*drawn) <= CHALLENGE_FOR);
    }

    /// What our next message shows, at this time of the system's clock; `None` without a challenge.
    pub fn proof(&self, at: u64) -> Option<Proof> {
        let (nonce, _) = *self.challenges.front()?;
        let mut others: Vec<_> =
            self.known.values().filter_map(|peer| Some((peer.believed, peer.met, peer.nonce?))).collect();
        // Those that may be answered by somebody come first, where there are too many.
        others.sort_by_key(|(believed, met, _)| std::cmp::Reverse((*met, *believed)));
        let to = others.into_iter().map(|(.., nonce)| nonce).take(MAX_CHALLENGES).collect();
        Some(Proof { at, nonce, to })
    }

    /// Takes note of a message. `at`: the system's clock, in milliseconds.
    pub fn handle_message(&mut self, message: &Message, at: u64, now: Duration) -> Heard {
        if message.from == self.own {
            return Heard::Nothing;
        }
        self.forget(now);
        match &message.proof {
            Some(proof) => self.handle_sealed(message, proof, at, now),
            None => self.handle_unsealed(message, now),
        }
    }

    fn handle_sealed(&mut self, message: &Message, proof: &Proof, at: u64, now: Duration) -> Heard {
        let counts = |(_, drawn): &&(Nonce, Duration)| now.saturating_sub(*drawn) <= CHALLENGE_FOR;
        let fresh = self.challenges.iter().filter(counts).any(|(nonce, _)| proof.to.contains(nonce));
        if !self.known.contains_key(&message.from) && !self.make_room() {
            return Heard::Nothing;
        }
        let peer = self.known.entry(message.from.clone()).or_default();
        if !peer.numbers.take(message.seq) {
            return Heard::Nothing;
        }
        peer.met = now;
        let newest = message.seq == peer.numbers.highest;
        if newest {
            peer.nonce = Some(proof.nonce);
        }
        if !fresh {
            return Heard::Unproven;
        }
        let was_present = peer.is_present(now);
        (peer.heard, peer.believed) = (now, true);
        peer.node.clone_from(&message.node);
        peer.clock_ahead_ms =
            i64::try_from(proof.at).ok().zip(i64::try_from(at).ok()).map(|(theirs, ours)| theirs - ours);
        if newest {
            peer.note_presence(&message.kind);
        }
        // A message that was overtaken by the farewell does not bring its sender back.
        let leaves = message.kind == Kind::Leave;
        peer.left = if leaves { Some(now) } else { peer.left.filter(|_| !newest) };
        Heard::New { joined: !was_present && peer.left.is_none() }
    }

    fn handle_unsealed(&mut self, message: &Message, now: Duration) -> Heard {
        if !self.known.contains_key(&message.from) {
            if !matches!(message.kind, Kind::Hello | Kind::Presence { .. }) {
                return Heard::Stranger;
            }
            if self.known.len() >= MAX_PEERS {
                return Heard::Nothing;
            }
        }
        let peer = self.known.entry(message.from.clone()).or_default();
        if !peer.numbers.take_any(message.seq) {
            return Heard::Nothing;
        }
        let was_present = peer.is_present(now);
        (peer.met, peer.heard, peer.believed) = (now, now, true);
        peer.node.clone_from(&message.node);
        peer.note_presence(&message.kind);
        let leaves = message.kind == Kind::Leave;
        peer.left = if leaves { Some(now) } else { peer.left.filter(|left| now.saturating_sub(*left) < GONE_FOR) };
        Heard::New { joined: !was_present && peer.left.is_none() }
    }

    /// Makes room for a newcomer under a seal: whoever never proved itself gives way. False if there is none.
    fn make_room(&mut self) -> bool {
        if self.known.len() < MAX_PEERS {
            return true;
        }
        let unproven = self.known.iter().filter(|(_, peer)| !peer.believed).min_by_key(|(_, peer)| peer.met);
        match unproven.map(|(name, _)| name.clone()) {
            Some(name) => self.known.remove(&name).is_some(),
            None => false,
        }
    }

    /// Instances that are to be waited for, in order of their names.
    pub fn present(&self, now: Duration) -> Vec<String> {
        self.known.iter().filter(|(_, peer)| peer.is_present(now)).map(|(name, _)| name.clone()).collect()
    }

    /// Whether this instance is to be waited for.
    pub fn is_present(&self, instance: &str, now: Duration) -> bool {
        self.known.get(instance).is_some_and(|peer| peer.is_present(now))
    }

    /// The nodes beside which present processes take clients.
    pub fn serving(&self, now: Duration) -> impl Iterator<Item = &str> {
        let serving = self.known.values().filter(move |peer| peer.is_present(now) && !peer.drained);
        serving.filter_map(|peer| peer.node.as_deref())
    }

    /// What present processes say of the nodes: its own instance, a node's name, and the `run_id` there.
    pub fn claims(&self, now: Duration) -> impl Iterator<Item = (&str, &str, &str)> {
        let present = self.known.iter().filter(move |(_, peer)| peer.is_present(now));
        present.flat_map(|(who, peer)| {
            peer.nodes.iter().map(|(name, process)| (who.as_str(), name.as_str(), process.as_str()))
        })
    }

    /// Everyone that is remembered and has not said farewell, for status.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Peer)> {
        let known = self.known.iter().filter(|(_, peer)| peer.believed && peer.left.is_none());
        known.map(|(name, peer)| (name.as_str(), peer))
    }

    /// Whether another process may be there: it was heard, not too long ago, and has not said farewell.
    pub fn is_anybody_there(&self, now: Duration) -> bool {
        self.known.values().any(|peer| peer.is_remembered(now))
    }

    /// Whether one of them is late. Whoever misses somebody may be missed as well, so both should speak up.
    pub fn is_anybody_missed(&self, now: Duration) -> bool {
        let late = |peer: &Peer| now.saturating_sub(if peer.believed { peer.heard } else { peer.met }) > MISSED_AFTER;
        self.known.values().any(|peer| peer.is_remembered(now) && late(peer))
    }

    /// Under a seal nobody is forgotten while its messages could be believed; `make_room` sees to crowds there.
    fn forget(&mut self, now: Duration) {
        let crowded = self.known.len() >= MAX_PEERS;
        let over = |peer: &Peer| if crowded && peer.nonce.is_none() { PRESENT_FOR } else { REMEMBERED_FOR };
        self.known.retain(|_, peer| now.saturating_sub(peer.met) <= over(peer));
    }
}

impl Peer {
    fn is_present(&self, now: Duration) -> bool {
        self.believed && self.left.is_none() && now.saturating_sub(self.heard) <= PRESENT_FOR
    }

    fn is_remembered(&self, now: Duration) -> bool {
        self.left.is_none() && now.saturating_sub(self.met) <= REMEMBERED_FOR
    }

    fn note_presence(&mut self, kind: &Kind) {
        if let Kind::Presence { drained, nodes } = kind {
            self.drained = *drained;
            self.nodes.clone_from(nodes);
        }
    }
}

impl Numbers {
    /// Marks a number as heard; false if it was heard before or is too old to tell.
    fn take(&mut self, seq: u64) -> bool {
        if seq > self.highest {
            let ahead = seq - self.highest;
            self.seen = if ahead >= WINDOW { 1 } else { (self.seen << ahead) | 1 };
            self.highest = seq;
            return true;
        }
        let behind = self.highest - seq;
        if behind >= WINDOW || self.seen & (1 << behind) != 0 {
            return false;
        }
        self.seen |= 1 << behind;
        true
    }

    /// The same where numbers may be forged: none of them makes another one old.
    fn take_any(&mut self, seq: u64) -> bool {
        if self.recent.contains(&seq) {
            return false;
        }
        if self.recent.len() as u64 >= WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(seq);
        true
    }
}

#[cfg(test)]
mod tests;
