//! A model of what two Redis nodes show of their replication, after `facts` measured on real servers.
//!
//! It knows nothing of the rule under test. Beside the fields that INFO shows it keeps what no observer can see: the
//! writes that a node holds, and whether its process got them by replication or from a disk.

use std::rc::Rc;

use crate::random::Random;

/// A replication identifier or a process, as a number.
pub(crate) type Id = u64;

/// What is on disk.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) id: Id,
    pub(crate) offset: u64,
    pub(crate) data: Rc<Vec<u32>>,
}

/// One node.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) alive: bool,
    pub(crate) frozen: bool,
    pub(crate) run: Id,
    pub(crate) primary: bool,
    pub(crate) id: Id,
    pub(crate) id2: Option<Id>,
    pub(crate) fork: Option<u64>,
    pub(crate) offset: u64,
    /// Without one the offset stays 0, and the first replica gets a new history.
    pub(crate) backlog: bool,
    /// A replica follows the other node; this says whether it is connected.
    pub(crate) link_up: bool,
    /// When its data were last replaced as a whole.
    pub(crate) replaced_at: u64,
    /// In the second phase of FAILOVER.
    pub(crate) in_progress: bool,
    pub(crate) disk: Option<Snapshot>,
    pub(crate) data: Rc<Vec<u32>>,
    /// The process has its data by replication, without a break, from what clients were served.
    pub(crate) unbroken: bool,
}

/// How a node comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    EmptyPrimary,
    /// 7.0 and later: the snapshot's history is remembered.
    DiskPrimary,
    /// Up to 6.2: it is not.
    DiskPrimaryOld,
    Replica,
}

impl Server {
    pub(crate) fn new(random: &mut Random, id: Id, primary: bool) -> Self {
        Self {
            alive: true,
            frozen: false,
            run: random.id(),
            primary,
            id,
            id2: None,
            fork: None,
            offset: 593,
            backlog: true,
            link_up: !primary,
            replaced_at: 0,
            in_progress: false,
            disk: None,
            data: Rc::new(vec![0]),
            unbroken: true,
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.alive && !self.frozen
    }

    pub(crate) fn write(&mut self, write: u32, bytes: u64) {
        if self.runs() && self.primary {
            Rc::make_mut(&mut self.data).push(write);
            if self.backlog {
                self.offset += bytes;
            }
        }
    }

    /// `REPLICAOF NO ONE`
    pub(crate) fn promote(&mut self, random: &mut Random) {
        if self.primary || !self.runs() {
            return;
        }
        self.primary = true;
        self.in_progress = false;
        self.link_up = false;
        self.id2 = Some(self.id);
        self.fork = Some(self.offset + 1);
        self.id = random.id();
        self.backlog = true;
    }

    /// `REPLICAOF` the other node.
    pub(crate) fn demote(&mut self) {
        if self.runs() && self.primary {
            self.primary = false;
            self.link_up = false;
        }
    }

    pub(crate) fn save(&mut self) {
        self.disk = Some(Snapshot { id: self.id, offset: self.offset, data: Rc::clone(&self.data) });
    }

    pub(crate) fn kill(&mut self) {
        self.alive = false;
        self.frozen = false;
        self.link_up = false;
        self.in_progress = false;
    }

    pub(crate) fn restart(&mut self, how: Restart, random: &mut Random) {
        self.alive = true;
        self.run = random.id();
        self.primary = how != Restart::Replica;
        self.unbroken = false;
        (self.id, self.id2, self.fork, self.offset, self.backlog) = (random.id(), None, None, 0, false);
        self.data = Rc::new(Vec::new());
        let Some(disk) = self.disk.clone().filter(|_| how != Restart::EmptyPrimary) else { return };
        self.data = disk.data;
        match how {
            Restart::DiskPrimary => {
                (self.id2, self.fork) = (Some(disk.id), Some(disk.offset + 1));
                (self.offset, self.backlog) = (disk.offset, true);
            }
            Restart::Replica => (self.id, self.offset) = (disk.id, disk.offset),
            Restart::DiskPrimaryOld | Restart::EmptyPrimary => {}
        }
    }

    /// Connects to the node it follows, if that one can be followed; true if its data were replaced.
    pub(crate) fn connect(&mut self, target: &mut Self, random: &mut Random) -> bool {
        if !self.runs() || self.primary || self.link_up || !target.runs() || !(target.primary || target.link_up) {
            return false;
        }
        if self.in_progress && !target.primary {
            return false;
        }
        self.backlog = true;
        if !target.backlog {
            target.backlog = true;
            (target.id, target.id2, target.fork) = (random.id(), None, None);
        }
        let same = self.id == target.id && self.offset <= target.offset;
        let forked = target.id2 == Some(self.id) && target.fork.is_some_and(|fork| self.offset < fork);
        self.link_up = true;
        self.in_progress = false;
        if same || forked {
            // What it has is a part of what it will be sent: the same history.
            self.unbroken = target.unbroken;
        }
        if same {
            return false;
        }
        if forked {
            (self.id2, self.fork) = (Some(self.id), Some(self.offset + 1));
            self.id = target.id;
            return false;
        }
        (self.id, self.id2, self.fork) = (target.id, None, None);
        (self.offset, self.data) = (target.offset, Rc::clone(&target.data));
        self.unbroken = target.unbroken;
        self.save();
        true
    }

    /// Takes over what the node it follows has.
    pub(crate) fn replicate(&mut self, target: &Self) {
        if self.runs() && self.link_up && !self.primary && target.runs() {
            (self.offset, self.data) = (target.offset, Rc::clone(&target.data));
            self.unbroken = target.unbroken;
            if self.id != target.id {
                (self.id2, self.fork) = (target.id2, target.fork);
                self.id = target.id;
            }
        }
    }
}
