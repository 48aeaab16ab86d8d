//! The machine and the witness: how things stand is told to [`Lease`], and what follows from it for our node is done.
//!
//! A node that may not be served is *shut* as well: its own Redis refuses writes (`min-replicas-to-write` beyond any
//! number of replicas), so that whoever bypasses the proxies cannot write to it either, as long as this process runs.

use std::time::Duration;

use super::lease::{NoAnswer, Standing};
use super::witness::Answer;
use super::{Duty, Effect, Failover, Note, Scene, follows_node};
use crate::topology::evidence::{NodeReport, Reach};

/// After a promotion that was not answered, the node must have spoken for so long as a replica before that counts.
const SETTLED: Duration = Duration::from_secs(1);

/// Our node is no longer served so long before its lease ends.
const LEAD: Duration = Duration::from_millis(50);

impl Failover {
    /// What the witness has said, or why nothing.
    pub fn handle_answer(&mut self, answer: Result<Answer, NoAnswer>, now: Duration) {
        self.wake(now);
        let standing = self.standing;
        if let Some(lease) = &mut self.lease {
            lease.handle_answer(answer, standing, now);
        }
    }

    /// The process beside the other node asks for a lease of so long. True: it has it.
    pub fn handle_plea(&mut self, length: Duration, now: Duration) -> bool {
        self.wake(now);
        let (standing, blind) = (self.standing, self.is_blind());
        self.lease.as_mut().is_some_and(|lease| !blind && lease.handle_plea(standing, length, now))
    }

    /// The process beside the other node has granted this plea.
    pub fn handle_promise(&mut self, plea: u64, now: Duration) {
        self.wake(now);
        if let Some(lease) = &mut self.lease {
            lease.handle_promise(plea);
        }
    }

    /// Until when replies of our node may be delivered; `None`: without a limit.
    pub fn lease_until(&self) -> Option<Duration> {
        self.lease.as_ref().and_then(super::Lease::until)
    }

    /// The same for a moment: whether our node, being in service, may be served.
    pub(super) fn may_serve(&self) -> bool {
        // What is on its way gets the time to come back.
        self.lease.as_ref().is_none_or(|lease| lease.may_serve(self.now + LEAD))
    }

    pub(super) fn has_vote(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.has_vote(self.now))
    }

    /// The end of every look: asks what is to be asked.
    pub(super) fn consult(&mut self, scene: &Scene<'_>) {
        self.standing = self.stand(scene);
        let Some(lease) = &mut self.lease else { return };
        let process = match self.standing {
            Standing::Pressing { .. } => scene.followed.map(|followed| followed.run_id),
            _ => scene.mine.current().map(NodeReport::run_id),
        };
        let process = process.map(|process| process.to_string()).unwrap_or_default();
        if let Some(ask) = lease.look(self.standing, &process, self.now) {
            self.effects.push_back(Effect::Consult(ask));
        }
        if let Some(plea) = lease.plead(self.standing, self.now) {
            self.effects.push_back(Effect::Plead(plea));
        }
    }

    fn stand(&mut self, scene: &Scene<'_>) -> Standing {
        // A promotion that was ordered, and not refused in so many words, may still happen.
        let ordered = matches!(self.errand, Some((_, Duty::Promote { .. }, _)));
        if let (Some(failed), Some(mine)) = (self.unsure, scene.mine.current())
            && mine.asked_at > failed + SETTLED
        {
            self.unsure = None;
        }
        match &scene.view.primary {
            Ok(node) if *node == self.me => match scene.mine.claim() {
                Some(_) => Standing::Serving,
                None => Standing::Unclear,
            },
            _ if ordered || self.unsure.is_some() => match self.pressing {
                Some(dead) => Standing::Pressing { dead },
                None => Standing::Unclear,
            },
            Ok(_) => Standing::Following,
            Err(_) if is_dead(scene) && follows_node(scene, self.me) => Standing::Dead,
            Err(_) => self.pressing.map_or(Standing::Unclear, |dead| Standing::Pressing { dead }),
        }
    }

    /// Shuts our node, or opens it again: once for each.
    pub(super) fn shut_or_open(&mut self, shut: bool) {
        // At the beginning the witness gets the time to answer.
        let begins = shut && self.shut.is_none() && self.is_blind();
        if self.lease.is_none() || begins || self.errand.is_some() || self.retry_at > self.now {
            return;
        }
        if self.shut == Some(shut) {
            return;
        }
        if shut {
            self.tell(Note::Shut(self.me));
        }
        self.order(self.me, if shut { Duty::Shut } else { Duty::Open });
    }
}

/// The process of our node that was in service is dead: nobody listens, or another one loads its data there.
fn is_dead(scene: &Scene<'_>) -> bool {
    let other_loads = |report: &NodeReport| {
        report.loading.is_some() && scene.followed.is_some_and(|followed| followed.run_id != report.run_id())
    };
    scene.mine.reach == Reach::Refused || scene.mine.current().is_some_and(other_loads)
}
