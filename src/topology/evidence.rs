//! Who said what, when, and how long it counts.
//!
//! It does not judge what a report means for the pair; that is `primary`. Invariant: a node's state only ever moves
//! forward in time. A report answers a question that was asked at a certain time, so it proves nothing about what came
//! later: once newer evidence is known (a refused connection, an end of file, a demotion, silence, a later question's
//! answer), the answer to an older question is dropped.

use std::time::Duration;

use super::node::{Epoch, Role};
use super::trouble::Trouble;
use crate::protocol::info::{FailoverState, Loading, ReplId, ReplicationInfo, RunId, ServerInfo};

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// INFO server.
    pub server: ServerInfo,
    /// INFO replication.
    pub replication: ReplicationInfo,
    /// It has just begun, and loads its data: until that is done it takes no writes.
    pub loading: Option<Loading>,
    /// When the question was sent (process clock): the answer is at least this new.
    pub asked_at: Duration,
}

impl NodeReport {
    /// The role it claims.
    pub fn role(&self) -> Role {
        self.replication.role.into()
    }

    /// Which process answered.
    pub fn run_id(&self) -> RunId {
        self.server.run_id
    }

    /// Whether it says that it is primary, and is able to act as one.
    pub fn claims(&self) -> bool {
        self.role() == Role::Primary && self.loading.is_none()
    }

    /// Whether it is a replica whose link is up, in the given history.
    pub fn follows(&self, id: ReplId) -> bool {
        self.role() == Role::Replica
            && self.replication.replid == id
            && self.replication.primary_link.as_ref().is_some_and(|link| link.up)
    }
}

/// Something that was learnt about one node.
#[expect(clippy::large_enum_variant, reason = "moved a few times per probe, never stored in numbers")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It answered.
    Report(NodeReport),
    /// It answered, but with an error instead of a report.
    Answers(Answer),
    /// It could not be reached, or hung up.
    Gone(Gone),
    /// A probe's deadline passed without an answer.
    Silent,
    /// The tripwire was answered `-UNBLOCKED`: this node was demoted just now.
    Tripped,
    /// Live traffic was refused by it (`-READONLY` and the like). A hint, never a proof.
    RefusedCommand,
}

/// An answer that is no report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Why it is none.
    pub trouble: Trouble,
    /// It came through a connection on which this process had reported before: one connection is one
    /// process. With the role that it states, where it says so (HELLO).
    pub process: Option<(RunId, Option<Role>)>,
    /// When the question was sent (process clock).
    pub asked_at: Duration,
}

/// How a node is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Nobody listens at its address: the process has ended.
    Refused,
    /// A connection ended. By itself not a loss (it may have been killed by an operator): ask again at once.
    EndOfFile,
    /// It was not reached (name, route, limits of this machine). No proof of death either.
    Failed(Trouble),
}

/// Whether a node can be heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nothing was heard yet.
    Unheard,
    /// Its latest report counts.
    Answering,
    /// Its latest report counts, but something has happened since: it is being asked again.
    Suspect(Gone),
    /// Something answers there with errors: it lives, but nothing shows which process it is.
    Erring,
    /// Nobody listens there.
    Refused,
    /// It has not answered for longer than the limit.
    Silent,
}

/// What is known about one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// Whether it can be heard.
    pub reach: Reach,
    /// The last report that was believed to be news; kept when the node is no longer heard.
    pub report: Option<NodeReport>,
    /// When that report came in, or when its process was last known to be the same.
    pub heard_at: Option<Duration>,
    /// The latest epoch in which this node was named primary by this process.
    pub named: Epoch,
    /// Its tripwire went off after the last report.
    pub tripped: bool,
    /// Why it gives no report now, if it is known.
    pub trouble: Option<Trouble>,
    /// When the newest question was asked that it has answered, with a report or with an error.
    pub answered: Option<Duration>,
    /// When something there answered last, with whatever.
    pub(super) alive_at: Duration,
    /// When its present process first said that it is primary, and not loading.
    pub(super) claims_since: Duration,
    /// It lives, and its last answer did not tell its role.
    roleless: bool,
    /// A claim to be primary that was seen, and not believed, beside a primary in service.
    pub(super) dismissed: Option<(RunId, ReplId)>,
    /// Answers to questions that are older than this prove nothing any more.
    barrier: Duration,
}

impl NodeState {
    /// A node that was not heard yet.
    pub(super) fn new(now: Duration) -> Self {
        Self {
            reach: Reach::Unheard,
            report: None,
            heard_at: None,
            named: Epoch(0),
            tripped: false,
            trouble: None,
            answered: None,
            alive_at: Duration::ZERO,
            claims_since: now,
            roleless: false,
            dismissed: None,
            barrier: now,
        }
    }

    /// Takes a report in; false if it is older than what is known.
    pub(super) fn hear(&mut self, report: NodeReport, now: Duration) -> bool {
        if report.asked_at < self.barrier {
            return false;
        }
        self.barrier = report.asked_at;
        let claimed = |known: &NodeReport| known.run_id() == report.run_id() && known.claims();
        if report.claims() && !self.report.as_ref().is_some_and(claimed) {
            self.claims_since = now;
        }
        self.answered = Some(report.asked_at);
        self.report = Some(report);
        (self.heard_at, self.alive_at) = (Some(now), now);
        self.reach = Reach::Answering;
        (self.tripped, self.roleless, self.trouble) = (false, false, None);
        true
    }

    /// Takes an answer in that is no report; false if it is older than what is known.
    ///
    /// The last report goes on to count only while its own process answers, and does not contradict it.
    pub(super) fn answer(&mut self, answer: Answer, now: Duration) -> bool {
        if answer.asked_at < self.barrier {
            return false;
        }
        self.barrier = answer.asked_at;
        (self.answered, self.alive_at) = (Some(answer.asked_at), now);
        self.trouble = Some(answer.trouble);
        self.roleless = answer.process.is_some_and(|(_, role)| role.is_none());
        let known = self.report.as_ref().map(|report| (report.run_id(), report.role()));
        self.reach = match (known, answer.process) {
            (Some((process, role)), Some((same, says))) if process == same => match (role, says) {
                (Role::Primary, Some(Role::Replica)) => {
                    self.tripped = true;
                    Reach::Answering
                }
                // Promoted, and its history cannot be read.
                (Role::Replica, Some(Role::Primary)) => Reach::Erring,
                _ => Reach::Answering,
            },
            _ => Reach::Erring,
        };
        if self.reach == Reach::Answering {
            self.heard_at = Some(now);
        }
        true
    }

    /// The node is no longer as its last report says.
    pub(super) fn move_to(&mut self, reach: Reach, now: Duration) {
        self.trouble = match &reach {
            Reach::Suspect(Gone::Failed(trouble)) => Some(trouble.clone()),
            // Silence after a failure has that failure for its reason.
            Reach::Silent => self.trouble.take().filter(|trouble| !trouble.answers()),
            _ => None,
        };
        self.reach = reach;
        self.barrier = now;
    }

    /// What is seen from outside counts as a demotion: the tripwire's word always, a refused command only while the
    /// process itself cannot be asked for its role.
    pub(super) fn shows_demotion(&self, evidence: &Evidence) -> bool {
        *evidence == Evidence::Tripped || self.roleless
    }

    /// Demoted just now, by the tripwire's word.
    pub(super) fn trip(&mut self, now: Duration) {
        self.tripped = true;
        self.barrier = now;
    }

    /// The last report, if it still counts.
    pub fn current(&self) -> Option<&NodeReport> {
        match self.reach {
            Reach::Answering | Reach::Suspect(_) if !self.tripped => self.report.as_ref(),
            _ => None,
        }
    }

    /// Its claim to be primary, if it makes one that may be believed: a suspect is asked again first.
    pub(super) fn claim(&self) -> Option<&NodeReport> {
        if self.reach != Reach::Answering {
            return None;
        }
        self.current().filter(|report| report.claims())
    }

    /// It was heard, is known to be lost, or cannot be asked.
    pub(super) fn is_settled(&self) -> bool {
        self.is_lost() || self.reach == Reach::Erring || self.report.is_some()
    }

    /// Whether it is known not to serve anyone: nobody listens, or silent past the limit.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.reach, Reach::Refused | Reach::Silent)
    }

    /// Something of interest is under way there: worth asking often.
    pub(super) fn is_restless(&self) -> bool {
        self.tripped
            || matches!(self.reach, Reach::Suspect(_))
            || self.report.as_ref().is_some_and(|report| {
                report.replication.failover != FailoverState::None || report.server.shutdown_in_ms.is_some()
            })
    }
}
