//! The border between the one owner (`control`) and the workers: orders go out, news come back.
//!
//! Orders are a snapshot in a watch channel: a worker that was busy sees the newest and misses nothing that still
//! matters. News are hints, except [`News::Quiesced`] and [`News::Drained`], which a worker waits to deliver.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::lease::LeaseGate;
use crate::session::{Mark, Unfinished};
use crate::topology::node::{Epoch, NodeId};

/// What every worker does from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orders {
    /// The View's epoch.
    pub epoch: Epoch,
    /// The current primary; without one, sessions hold.
    pub primary: Option<NodeId>,
    /// Tells cursors of its process from those of any other.
    pub mark: Option<Mark>,
    /// Upstreams of this epoch or an older one are cut at once; see `View::given_up`.
    pub given_up: Epoch,
    /// Without a primary: what commands are answered at once, because waiting helps nobody (an error reply without its `-`).
    pub refuse: Option<Arc<str>>,
    /// A replica can confirm what is written.
    pub replica: bool,
    /// An ordered hold (planned change): start nothing new, finish what is in flight, then say [`News::Quiesced`].
    pub hold: Option<Hold>,
    /// Leave: close sessions at quiet moments.
    pub drain: Option<Drain>,
    /// Until when replies of the node beside us may be delivered.
    pub lease: LeaseGate,
    /// Where clients go under that drain.
    pub elsewhere: Elsewhere,
    /// Names the change under way in notifications (milliseconds since 1970, the same in both processes of a pair when
    /// the change was announced); the next number is that of its end.
    pub event: u64,
}

/// Where the clients of a process that drains may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Elsewhere {
    /// No other process of the pair is known to serve.
    #[default]
    Nowhere,
    /// To whatever else serves at the address that they were configured with.
    Configured,
    /// To these (`HOST:PORT`).
    At {
        /// For those who want a name, or have no wish.
        name: Arc<str>,
        /// For those who want an address.
        address: Arc<str>,
    },
}

/// An ordered hold. It ends by a later snapshot without it, or by itself at `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Distinguishes one hold from the next; reported back in [`News::Quiesced`].
    pub id: u64,
    /// When a worker lets go by itself (process clock).
    pub until: Duration,
}

/// A drain under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Distinguishes one drain from the next; reported back in [`News::Drained`].
    pub id: u64,
    /// When it began (process clock).
    pub began: Duration,
    /// Sessions are closed one after another over this time, idle ones first.
    pub spread: Duration,
    /// What is left at this time is cut (process clock).
    pub deadline: Duration,
}

/// How the sessions of a worker ended under a drain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainTally {
    /// Closed at a quiet moment.
    pub closed: u64,
    /// Left by themselves after they were told to.
    pub moved: u64,
    /// Cut at the deadline: what was unfinished, and what the client's library calls itself.
    pub cut: BTreeMap<(Unfinished, String), u64>,
}

impl DrainTally {
    /// Most kinds of cut connections that are told apart: clients choose the names.
    const KINDS: usize = 64;

    /// Notes a cut.
    pub fn note_cut(&mut self, why: Unfinished, library: String) {
        let known = self.cut.len() < Self::KINDS || self.cut.contains_key(&(why, library.clone()));
        let library = if known { library } else { "others".to_owned() };
        *self.cut.entry((why, library)).or_default() += 1;
    }

    /// Adds another worker's.
    pub fn add(&mut self, other: Self) {
        self.closed += other.closed;
        self.moved += other.moved;
        for (kind, count) in other.cut {
            *self.cut.entry(kind).or_default() += count;
        }
    }

    /// Cut in all.
    pub fn cuts(&self) -> u64 {
        self.cut.values().sum()
    }
}

/// What a worker tells the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A node refused a command as "not executed" because of its role or state.
    Refused {
        /// Who refused.
        node: NodeId,
        /// The epoch of the upstream that it came through.
        epoch: Epoch,
    },
    /// An upstream connection ended, or could not be opened.
    UpstreamLost {
        /// Whose connection.
        node: NodeId,
        /// Its epoch.
        epoch: Epoch,
    },
    /// Nothing is in flight in this worker, under the hold with this id.
    Quiesced {
        /// Which worker.
        worker: usize,
        /// Which hold.
        hold: u64,
    },
    /// A change as the clients of this worker felt it: told once the last held session went on.
    Resumed {
        /// Which worker.
        worker: usize,
        /// The longest time that a session of it was held.
        longest: Duration,
        /// Sessions that were held with something to send.
        held: u64,
    },
    /// The last session of this worker has ended, under a drain.
    Drained {
        /// Which worker.
        worker: usize,
        /// Which drain.
        drain: u64,
        /// How they ended.
        tally: DrainTally,
    },
    /// The listener is open again after a drain.
    Listening,
}
