//! Two servers that are a pair: who is primary, and the ways in which that changes.
//!
//! What is done here is what an operator does with `redis-cli` and `kill`; it knows nothing of proxies.

use std::path::Path;
use std::time::Duration;

use super::process;
use super::redis::{Direct, Redis, Standing, Value};
use super::signals::Interrupt;
use super::wire;
use crate::io::clock;

const POLL: Duration = Duration::from_millis(5);

/// The pair. One node is the primary except while roles change.
#[derive(Debug)]
pub(super) struct Pair {
    /// `a` and `b`.
    pub(super) nodes: [Redis; 2],
}

/// A node by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The first.
    A,
    /// The second.
    B,
}

impl Place {
    /// The other one.
    pub(super) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl Pair {
    /// Starts both, `b` as the replica of `a`, and waits until it is in step.
    pub(super) fn start(binary: &Path, dir: &Path, interrupt: &Interrupt) -> Result<Self, String> {
        let ports = process::free_ports(2)?;
        let [port_a, port_b] = ports.try_into().map_err(|_| "no free ports".to_owned())?;
        let a = Redis::start(binary, "a", port_a, dir, None)?;
        let b = Redis::start(binary, "b", port_b, dir, Some(a.at))?;
        let pair = Self { nodes: [a, b] };
        pair.wait_for(Place::A, Duration::from_secs(20), interrupt)?;
        pair.wait_acknowledged(Place::A)?;
        Ok(pair)
    }

    /// One of the two.
    pub(super) fn node(&self, place: Place) -> &Redis {
        let [a, b] = &self.nodes;
        match place {
            Place::A => a,
            Place::B => b,
        }
    }

    fn node_mut(&mut self, place: Place) -> &mut Redis {
        let [a, b] = &mut self.nodes;
        match place {
            Place::A => a,
            Place::B => b,
        }
    }

    /// Who says that it is primary, while the other is its replica in step.
    pub(super) fn primary(&self) -> Option<Place> {
        match (self.node(Place::A).standing().ok()?, self.node(Place::B).standing().ok()?) {
            (Standing::Primary { replicas: 1 }, Standing::Replica { connected: true }) => Some(Place::A),
            (Standing::Replica { connected: true }, Standing::Primary { replicas: 1 }) => Some(Place::B),
            _ => None,
        }
    }

    /// Waits until `place` is primary with a replica in step.
    pub(super) fn wait_for(&self, place: Place, patience: Duration, interrupt: &Interrupt) -> Result<(), String> {
        let until = clock::now() + patience;
        while self.primary() != Some(place) {
            if clock::now() > until {
                return Err(format!(
                    "{} is not primary with a replica in step after {patience:?}",
                    self.node(place).name
                ));
            }
            interrupt.sleep(POLL)?;
        }
        Ok(())
    }

    /// Waits until the replica acknowledges what is written now. After a full synchronisation the primary shows it as
    /// online while it still buffers the stream for it, for up to a second; a kill then would lose all of that.
    pub(super) fn wait_acknowledged(&self, primary: Place) -> Result<(), String> {
        let mut pipeline = Vec::new();
        wire::command(&mut pipeline, &[b"PUBLISH", b"demo", b"x"]);
        wire::command(&mut pipeline, &[b"WAIT", b"1", b"10000"]);
        let replies = Direct::connect(self.node(primary).at)?.ask_all(&pipeline, 2)?;
        match replies.last().and_then(Value::number) {
            Some(1) => Ok(()),
            _ => Err(format!("the replica of {} acknowledges nothing", self.node(primary).name)),
        }
    }

    /// A bare `FAILOVER`, as somebody with `redis-cli` would send it.
    pub(super) fn failover(&self, from: Place) -> Result<(), String> {
        self.node(from).ask(&[b"FAILOVER"]).map(drop)
    }

    /// `kill -9` of the process.
    pub(super) fn kill(&mut self, place: Place) {
        self.node_mut(place).kill();
    }

    /// Waits until `place` says that it is primary; nobody here tells it to be.
    pub(super) fn wait_promoted(&self, place: Place, patience: Duration, interrupt: &Interrupt) -> Result<(), String> {
        let until = clock::now() + patience;
        while !matches!(self.node(place).standing(), Ok(Standing::Primary { .. })) {
            if clock::now() > until {
                return Err(format!("{} was not promoted within {patience:?}", self.node(place).name));
            }
            interrupt.sleep(POLL)?;
        }
        Ok(())
    }

    /// The killed node comes back, empty, and takes itself for the primary.
    pub(super) fn come_back(&mut self, place: Place) -> Result<(), String> {
        self.node_mut(place).boot(None)
    }
}
