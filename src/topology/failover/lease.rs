//! This process and the witness: when its node may be served, and when it has the vote to be promoted.
//!
//! It asks one thing at a time, counts every lease from the moment that it asked, and never reads an answer as more than
//! it says. It knows neither the nodes nor what is replicated; [`super::Failover`] tells it how things stand.
//!
//! Invariants, with the witness' own (`witness.rs`):
//!
//! * While the witness may take this node for the holder, the node is served only as long as a lease runs: from the
//!   witness, or from the process beside the other node, which promises with it not to use a vote meanwhile.
//! * A vote is used only after everything that this process has promised has run out.

use std::time::Duration;

use super::witness::{Answer, Ask, SLACK, Want};
use crate::topology::node::NodeId;

/// Between two renewals.
const RENEW_EVERY: Duration = Duration::from_millis(200);
/// Between two looks where nothing is at stake.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// Between two attempts to get a vote, and two pleas to the peer.
const PRESS_EVERY: Duration = Duration::from_millis(100);
/// Nothing that is due waits for longer than this.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A witness that was heard within this time is waited for.
const HEARD_COUNTS: Duration = Duration::from_millis(1500);

/// How things stand with our node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is in service, and answers.
    Serving,
    /// The other one is, and nothing is under way that would change that.
    Following,
    /// It was in service, and refuses connections.
    Dead,
    /// The other one is lost, and ours could be promoted.
    Pressing {
        /// The other refuses connections.
        dead: bool,
    },
    /// Anything else.
    Unclear,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The question never left: no connection.
    Unasked,
    /// It may have been heard.
    Unanswered,
}

/// Whether the witness may hold us for the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bond {
    /// It does not: it has said so since our node was last in service.
    Free,
    /// It may.
    Held {
        /// The lease runs until then.
        until: Duration,
        /// It has said so since we were free of it, or nobody knows.
        told: bool,
    },
}

const LAPSED: Bond = Bond::Held { until: Duration::ZERO, told: true };

/// What the witness was asked.
#[derive(Clone, Copy, Debug)]
struct Asked {
    want: Want,
    at: Duration,
    /// The bond when it was asked.
    bond: Bond,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Lease {
    me: NodeId,
    length: Duration,
    term: u64,
    bond: Bond,
    /// Until when the process beside the other node has promised not to promote it.
    by_peer: Duration,
    /// Until when we have promised not to promote ours.
    promised: Duration,
    elected: bool,
    asked: Option<Asked>,
    last_want: Want,
    due: Duration,
    heard: Option<Duration>,
    holder: Option<NodeId>,
    plea: (u64, Duration),
}

impl Lease {
    /// Nothing is known yet: this process may have held the pair before it began.
    pub fn new(me: NodeId, length: Duration, now: Duration) -> Self {
        Self {
            me,
            length,
            term: 0,
            bond: LAPSED,
            by_peer: Duration::ZERO,
            // An earlier life of this process may have promised something.
            promised: now + length + SLACK,
            elected: false,
            asked: None,
            last_want: Want::Watch,
            due: now,
            heard: None,
            holder: None,
            plea: (0, Duration::ZERO),
        }
    }

    /// Until when our node may be served; `None`: without a limit.
    pub fn until(&self) -> Option<Duration> {
        match self.bond {
            Bond::Free => None,
            Bond::Held { until, .. } => Some(until.max(self.by_peer)),
        }
    }

    /// Whether our node may be served now.
    pub fn may_serve(&self, now: Duration) -> bool {
        self.until().is_none_or(|until| now < until)
    }

    /// Whether our node may be promoted because the witness gave us the pair.
    pub fn has_vote(&self, now: Duration) -> bool {
        self.elected && self.promised <= now
    }

    /// Whether the witness was heard lately.
    pub fn hears_witness(&self, now: Duration) -> bool {
        self.heard.is_some_and(|heard| now < heard + HEARD_COUNTS)
    }

    /// Since when the witness was not heard; `None`: never was.
    pub fn heard(&self) -> Option<Duration> {
        self.heard
    }

    /// Who holds the pair by the witness' last word, and in which term.
    pub fn held_by(&self) -> (Option<NodeId>, u64) {
        (self.holder, self.term)
    }

    /// What to ask now, if anything. `process` goes into the question.
    pub fn look(&mut self, standing: Standing, process: &str, now: Duration) -> Option<Ask> {
        if matches!(standing, Standing::Serving | Standing::Following) {
            self.elected = false;
        }
        if self.asked.is_some() {
            return None;
        }
        let (want, every) = match standing {
            Standing::Serving => (Want::Hold, RENEW_EVERY),
            Standing::Following => (Want::Release, WATCH_EVERY),
            Standing::Dead => (Want::Dead, RENEW_EVERY),
            Standing::Pressing { .. } if self.elected => (Want::Vote, RENEW_EVERY),
            Standing::Pressing { dead: false } => (Want::Vote, PRESS_EVERY),
            Standing::Pressing { dead: true } => (Want::VoteDead, PRESS_EVERY),
            Standing::Unclear => (Want::Watch, WATCH_EVERY),
        };
        if now < self.due && want == self.last_want {
            return None;
        }
        (self.last_want, self.due) = (want, now + every);
        self.asked = Some(Asked { want, at: now, bond: self.bond });
        match want {
            // From here on it may give the pair away.
            Want::Release | Want::Dead if self.bond != Bond::Free => self.bond = LAPSED,
            // From here on it may take us for the holder.
            Want::Hold | Want::Vote | Want::VoteDead if self.bond == Bond::Free => {
                self.bond = Bond::Held { until: now + self.length, told: false };
            }
            _ => {}
        }
        let lease_ms = u64::try_from(self.length.as_millis()).unwrap_or(u64::MAX);
        Some(Ask { node: self.me, want, term: self.term, process: process.to_owned(), lease_ms })
    }

    /// What the witness has said, or why nothing. `standing`: as it is now.
    pub fn handle_answer(&mut self, answer: Result<Answer, NoAnswer>, standing: Standing, now: Duration) {
        let Some(asked) = self.asked.take() else { return };
        match answer {
            Ok(answer) => self.hear(answer, asked, standing, now),
            // What was not asked has changed nothing.
            Err(NoAnswer::Unasked) if asked.bond == Bond::Free => self.bond = Bond::Free,
            Err(_) => {}
        }
    }

    fn hear(&mut self, answer: Answer, asked: Asked, standing: Standing, now: Duration) {
        (self.heard, self.holder) = (Some(now), answer.holder);
        let mine = answer.holder == Some(self.me);
        let untold = matches!(self.bond, Bond::Held { told: false, .. });
        if answer.granted && !matches!(asked.want, Want::Release | Want::Dead) {
            self.term = answer.term;
            self.bond = Bond::Held { until: asked.at + self.length, told: true };
            self.elected = asked.want != Want::Hold;
            return;
        }
        let follows = matches!(standing, Standing::Following | Standing::Pressing { .. });
        // The same term as when we were free of it: it has not taken us for the holder in between.
        if !mine && (follows && asked.want != Want::Hold || untold && answer.term == self.term) {
            self.bond = Bond::Free;
        }
        if (follows || standing == Standing::Dead && mine) && asked.want != Want::Hold {
            self.term = answer.term;
        }
        if mine && !answer.granted && standing == Standing::Following {
            // It holds the pair for us, and we do not want it.
            self.due = now;
        }
    }

    /// Whether to ask the process beside the other node for a lease now; says under which number.
    pub fn plead(&mut self, standing: Standing, now: Duration) -> Option<u64> {
        let Bond::Held { until, .. } = self.bond else { return None };
        let left = until.max(self.by_peer).saturating_sub(now);
        if standing != Standing::Serving || left > self.length * 2 / 3 || now < self.plea.1 + PRESS_EVERY {
            return None;
        }
        self.plea = (self.plea.0 + 1, now);
        Some(self.plea.0)
    }

    /// The process beside the other node asks us for a lease of its node. True: we promise not to promote ours meanwhile.
    pub fn handle_plea(&mut self, standing: Standing, length: Duration, now: Duration) -> bool {
        let grants = standing == Standing::Following;
        if grants {
            self.promised = self.promised.max(now + length.max(self.length) + SLACK);
        }
        grants
    }

    /// The process beside the other node has promised, as an answer to this plea.
    pub fn handle_promise(&mut self, plea: u64) {
        if plea == self.plea.0 {
            self.by_peer = self.by_peer.max(self.plea.1 + self.length);
        }
    }

    /// When to look again at the latest.
    pub fn poll_timeout(&self, now: Duration) -> Duration {
        let end = self.until().filter(|until| *until > now);
        end.unwrap_or(Duration::MAX).min(now + LOOK_EVERY)
    }
}

#[cfg(test)]
mod tests;
