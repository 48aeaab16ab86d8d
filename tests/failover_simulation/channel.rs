//! The pair's channel between the agents, with the real seal and the real table of peers, and a stranger on it that hears
//! everything and says what it likes: forged, changed, recorded, in any order.

use std::collections::BTreeMap;
use std::time::Duration;

use changeover::config::{ChannelSecret, Secret};
use changeover::control::channel::{Kind, Message, Nonce};
use changeover::control::peers::{Heard, PRESENCE_EVERY, Peers};
use changeover::control::seal::Seal;

use crate::world::Random;

/// What the stranger has heard, at most.
const RECORDED: usize = 4096;

/// One agent's end of the channel.
#[derive(Debug)]
pub(crate) struct End {
    me: usize,
    lives: u64,
    pub(crate) name: String,
    seq: u64,
    seal: Option<Seal>,
    peers: Peers,
    random: Random,
    presence_at: Duration,
}

fn secret() -> Seal {
    let secret = ChannelSecret { file: "none".into(), secrets: vec![Secret::new(vec![b'x'; 32])] };
    Seal::new(&secret, "c")
}

impl End {
    pub(crate) fn new(me: usize, sealed: bool) -> Self {
        let seal = sealed.then(secret);
        let name = format!("node{me}-0");
        let peers = Peers::new(name.clone());
        let random = Random(99 + me as u64);
        Self { me, lives: 0, name, seq: 0, seal, peers, random, presence_at: Duration::ZERO }
    }

    /// Another life of its process.
    pub(crate) fn restart(&mut self) {
        self.lives += 1;
        self.name = format!("node{}-{}", self.me, self.lives);
        (self.seq, self.presence_at) = (0, Duration::ZERO);
        self.peers = Peers::new(self.name.clone());
    }

    /// As it is published; `None`: it is not said without a secret.
    pub(crate) fn say(&mut self, kind: Kind, now: Duration) -> Option<Vec<u8>> {
        if self.seal.is_none() && kind.needs_seal() {
            return None;
        }
        self.challenge(now);
        self.seq += 1;
        let proof = self.seal.as_ref().and_then(|_| self.peers.proof(0));
        let node = Some(format!("node{}", self.me));
        let message = Message { from: self.name.clone(), node, seq: self.seq, proof, kind };
        Some(message.encode(self.seal.as_ref()))
    }

    /// What is due to be said by itself.
    pub(crate) fn presence(&mut self, now: Duration) -> Option<Vec<u8>> {
        if now < self.presence_at {
            return None;
        }
        self.presence_at = now + PRESENCE_EVERY;
        self.say(Kind::Presence { drained: false, nodes: BTreeMap::new() }, now)
    }

    /// What is to be believed of it.
    pub(crate) fn hear(&mut self, payload: &[u8], now: Duration) -> Option<Message> {
        self.challenge(now);
        let message = Message::decode(payload, self.seal.as_ref()).ok()?;
        match self.peers.handle_message(&message, 0, now) {
            Heard::New { joined } => {
                if joined && self.seal.is_some() {
                    self.presence_at = now;
                }
                Some(message)
            }
            Heard::Unproven => {
                self.presence_at = now;
                None
            }
            Heard::Nothing | Heard::Stranger => None,
        }
    }

    fn challenge(&mut self, now: Duration) {
        if self.seal.is_some() && self.peers.needs_challenge(now) {
            let nonce = u128::from(self.random.next()) << 64 | u128::from(self.random.next());
            self.peers.challenge(Nonce(nonce), now);
        }
    }
}

/// Whoever may publish at Redis.
#[derive(Debug, Default)]
pub(crate) struct Stranger {
    recorded: Vec<Vec<u8>>,
}

impl Stranger {
    pub(crate) fn hears(&mut self, payload: &[u8], random: &mut Random) {
        if self.recorded.len() < RECORDED {
            self.recorded.push(payload.to_vec());
        } else {
            let at = random.below(RECORDED as u64) as usize;
            self.recorded[at] = payload.to_vec();
        }
    }

    /// Something to say in the name of `names`: recorded, changed, or made up.
    pub(crate) fn says(&self, names: [&str; 2], processes: [String; 2], random: &mut Random) -> Vec<u8> {
        let recorded = |random: &mut Random| {
            let at = random.below(self.recorded.len() as u64) as usize;
            self.recorded.get(at).cloned().unwrap_or_default()
        };
        match random.below(4) {
            0 | 1 => recorded(random),
            2 => {
                let mut changed = recorded(random);
                let at = random.below(changed.len() as u64) as usize;
                if let Some(byte) = changed.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
                changed
            }
            _ => {
                let (me, about) = (random.below(2) as usize, random.below(2) as usize);
                let to = names[1 - me].to_owned();
                let node = Some(format!("node{me}"));
                let number = random.below(50);
                let kind = match random.below(5) {
                    0 => Kind::Sees { about: format!("node{about}"), answers: random.one_in(2), to, question: number },
                    1 => Kind::Leased { to, plea: number },
                    2 => Kind::Lease { plea: number, lease_ms: 60_000 },
                    3 => Kind::Suspect { about: format!("node{about}"), question: number },
                    _ => Kind::Saved { process: processes[about].clone() },
                };
                let seq = if random.one_in(2) { u64::MAX - random.below(9) } else { random.below(5000) + 1 };
                Message { from: names[me].to_owned(), node, seq, proof: None, kind }.encode(None)
            }
        }
    }
}
