//! The other processes of the pair, as heard on its channel.
//!
//! Pure. Keeps who was heard when, and lets each message through once although it may arrive through both nodes. It
//! decides nothing about holds. Bounded: at most [`MAX_PEERS`] are remembered, whoever speaks.

use std::collections::BTreeMap;
use std::time::Duration;

use super::channel::{Kind, Message};

/// Most processes that are remembered; a newcomer beyond it is not heard until another has been silent long enough.
pub const MAX_PEERS: usize = 32;
/// How often everyone says that it is there, where somebody may hear it.
pub const PRESENCE_EVERY: Duration = Duration::from_secs(1);
/// A process that was not heard for this long is not waited for.
pub const PRESENT_FOR: Duration = Duration::from_millis(3500);
/// A process that was not heard for this long is asked whether it is there.
const MISSED_AFTER: Duration = Duration::from_millis(1500);
/// A process that was not heard for this long is forgotten.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// How far a message may arrive behind a later one of the same sender.
const WINDOW: u64 = 64;

/// Everyone that was heard.
#[derive(Debug)]
pub struct Peers {
    own: String,
    known: BTreeMap<String, Peer>,
}

/// One other process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The node that it runs beside.
    pub node: Option<String>,
    /// When it was last heard (process clock).
    pub heard: Duration,
    /// It said that it leaves.
    left: bool,
    /// It said that it takes no clients.
    drained: bool,
    /// Highest number heard.
    highest: u64,
    /// Which of the [`WINDOW`] numbers up to `highest` were heard; bit 0 is `highest` itself.
    seen: u64,
}

/// What a message meant for the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Our own, heard before, or beyond the limit: to be ignored.
    Nothing,
    /// To be acted upon.
    New {
        /// The sender was not present before.
        joined: bool,
    },
}

impl Peers {
    /// Nobody yet; `own` is this process' instance.
    pub fn new(own: impl Into<String>) -> Self {
        Self { own: own.into(), known: BTreeMap::new() }
    }

    /// Takes note of a message.
    pub fn handle_message(&mut self, message: &Message, now: Duration) -> Heard {
        if message.from == self.own {
            return Heard::Nothing;
        }
        self.forget(now);
        let Some(peer) = self.known.get_mut(&message.from) else {
            if self.known.len() >= MAX_PEERS {
                return Heard::Nothing;
            }
            let left = message.kind == Kind::Leave;
            let drained = message.kind == Kind::Presence { drained: true };
            let peer = Peer { node: message.node.clone(), heard: now, left, drained, highest: message.seq, seen: 1 };
            self.known.insert(message.from.clone(), peer);
            return Heard::New { joined: !left };
        };
        if !peer.take(message.seq) {
            return Heard::Nothing;
        }
        let was_present = peer.is_present(now);
        peer.heard = now;
        peer.node.clone_from(&message.node);
        if let Kind::Presence { drained } = message.kind
            && message.seq == peer.highest
        {
            peer.drained = drained;
        }
        // A message that was overtaken by the farewell does not bring its sender back.
        peer.left = message.kind == Kind::Leave || (peer.left && message.seq < peer.highest);
        Heard::New { joined: !was_present && !peer.left }
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

    /// Everyone that is remembered and has not said farewell, for status.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Peer)> {
        self.known.iter().filter(|(_, peer)| !peer.left).map(|(name, peer)| (name.as_str(), peer))
    }

    /// Whether another process may be there: it was heard, not too long ago, and has not said farewell.
    pub fn is_anybody_there(&self, now: Duration) -> bool {
        self.known.values().any(|peer| peer.is_remembered(now))
    }

    /// Whether one of them is late. Whoever misses somebody may be missed as well, so both should speak up.
    pub fn is_anybody_missed(&self, now: Duration) -> bool {
        self.known.values().any(|peer| peer.is_remembered(now) && now.saturating_sub(peer.heard) > MISSED_AFTER)
    }

    fn forget(&mut self, now: Duration) {
        let over = if self.known.len() >= MAX_PEERS { PRESENT_FOR } else { REMEMBERED_FOR };
        self.known.retain(|_, peer| now.saturating_sub(peer.heard) <= over);
    }
}

impl Peer {
    fn is_present(&self, now: Duration) -> bool {
        !self.left && now.saturating_sub(self.heard) <= PRESENT_FOR
    }

    fn is_remembered(&self, now: Duration) -> bool {
        !self.left && now.saturating_sub(self.heard) <= REMEMBERED_FOR
    }

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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn from(name: &str, seq: u64, kind: Kind) -> Message {
        Message { from: name.to_owned(), node: None, seq, kind }
    }

    #[test]
    fn a_message_that_arrives_through_both_nodes_counts_once() {
        let mut peers = Peers::new("a-1");
        assert_eq!(peers.handle_message(&from("b-1", 1, Kind::Hello), at(0)), Heard::New { joined: true });
        assert_eq!(peers.handle_message(&from("b-1", 1, Kind::Hello), at(1)), Heard::Nothing);
        assert_eq!(
            peers.handle_message(&from("b-1", 3, Kind::Presence { drained: false }), at(2)),
            Heard::New { joined: false }
        );
        let overtaken = from("b-1", 2, Kind::Hold { id: 9, deadline_ms: 1, event: 0 });
        assert_eq!(peers.handle_message(&overtaken, at(3)), Heard::New { joined: false });
        assert_eq!(peers.handle_message(&overtaken, at(4)), Heard::Nothing);
        assert_eq!(
            peers.handle_message(&from("b-1", 500, Kind::Presence { drained: false }), at(5)),
            Heard::New { joined: false }
        );
        assert_eq!(peers.handle_message(&from("b-1", 400, Kind::Presence { drained: false }), at(5)), Heard::Nothing);
    }

    #[test]
    fn one_does_not_hear_oneself() {
        let mut peers = Peers::new("a-1");
        assert_eq!(peers.handle_message(&from("a-1", 1, Kind::Hello), at(0)), Heard::Nothing);
        assert!(peers.present(at(0)).is_empty());
    }

    #[test]
    fn the_silent_and_the_gone_are_not_waited_for() {
        let mut peers = Peers::new("a-1");
        peers.handle_message(&from("b-1", 1, Kind::Hello), at(0));
        peers.handle_message(&from("c-1", 1, Kind::Hello), at(0));
        peers.handle_message(&from("c-1", 5, Kind::Leave), at(10));
        // Published before the farewell, heard after it.
        peers.handle_message(&from("c-1", 4, Kind::Presence { drained: false }), at(11));
        assert_eq!(peers.present(at(20)), ["b-1"]);
        assert!(peers.present(at(4000)).is_empty());
        assert_eq!(
            peers.handle_message(&from("b-1", 2, Kind::Presence { drained: false }), at(5000)),
            Heard::New { joined: true }
        );
        assert!(peers.is_present("b-1", at(5000)));
    }

    #[test]
    fn whoever_is_late_is_missed_before_it_counts_as_absent_and_not_for_ever() {
        let mut peers = Peers::new("a-1");
        assert!(!peers.is_anybody_there(at(0)) && !peers.is_anybody_missed(at(0)));
        peers.handle_message(&from("b-1", 1, Kind::Hello), at(0));
        assert!(peers.is_anybody_there(at(1000)) && !peers.is_anybody_missed(at(1000)));
        assert!(peers.is_present("b-1", at(2000)) && peers.is_anybody_missed(at(2000)));
        assert!(peers.is_anybody_missed(at(59_000)));
        assert!(!peers.is_anybody_there(at(61_000)) && !peers.is_anybody_missed(at(61_000)));
        peers.handle_message(&from("b-1", 2, Kind::Leave), at(61_000));
        assert!(!peers.is_anybody_there(at(61_000)) && !peers.is_anybody_missed(at(63_000)));
    }

    #[test]
    fn a_crowd_is_bounded_and_newcomers_are_heard_again_once_it_has_gone() {
        let mut peers = Peers::new("a-1");
        for n in 0..1000 {
            peers.handle_message(&from(&format!("x-{n}"), 1, Kind::Hello), at(n));
        }
        assert_eq!(peers.present(at(1000)).len(), MAX_PEERS);
        assert_eq!(peers.handle_message(&from("b-1", 1, Kind::Hello), at(1000)), Heard::Nothing);
        assert_eq!(peers.handle_message(&from("b-1", 2, Kind::Hello), at(9000)), Heard::New { joined: true });
        assert_eq!(peers.present(at(9000)), ["b-1"]);
    }
}
