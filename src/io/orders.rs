//! The border between the one owner (`control`) and the workers: orders go out, news come back.
//!
//! Orders are a snapshot in a watch channel: a worker that was busy sees the newest and misses nothing that still
//! matters. News are hints, except [`News::Quiesced`] and [`News::Drained`], which a worker waits to deliver.

use std::time::Duration;

use super::lease::LeaseGate;
use crate::session::Mark;
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
    /// A replica can confirm what is written.
    pub replica: bool,
    /// An ordered hold (planned change): start nothing new, finish what is in flight, then say [`News::Quiesced`].
    pub hold: Option<Hold>,
    /// Leave: close sessions at quiet moments.
    pub drain: Option<Drain>,
    /// Until when replies of the node beside us may be delivered.
    pub lease: LeaseGate,
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
    /// When it began (process clock).
    pub began: Duration,
    /// Sessions are closed one after another over this time, idle ones first.
    pub spread: Duration,
    /// What is left at this time is cut (process clock).
    pub deadline: Duration,
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
        /// Sessions closed at a quiet moment.
        closed: u64,
        /// Sessions cut at the deadline.
        cut: u64,
    },
}
