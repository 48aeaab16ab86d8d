//! The process beside the replica, while its primary is lost: park, prove, promote.
//!
//! It never touches a node that anyone serves. See the head of the folder for why what it does is safe.

use super::{
    ASK_EVERY, Duty, Effect, Failover, LastLook, Note, OBJECTION_COUNTS, PARKED, Proof, Scene, Suspicion, is_parked,
};
use crate::protocol::info::RunId;
use crate::topology::evidence::{NodeReport, Reach};
use crate::topology::lineage::Followed;
use crate::topology::node::Role;
use crate::topology::view::NoPrimary;

/// How the primary is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// Something ended; it is being asked again.
    Suspect,
    /// Nobody listens.
    Refused,
    /// No answer.
    Silent,
    /// Another process answers there, and says that it is primary.
    Replaced,
    /// Another process answers there, and loads its data; it says that it is primary, and takes no writes yet.
    Loading(RunId),
    /// Another process answers there, and is a replica.
    Yielded,
}

impl Failover {
    /// One look while nobody is primary and the other node was.
    pub(super) fn inherit(&mut self, scene: &Scene<'_>) {
        self.pressing = None;
        let Some(followed) = scene.followed else { return };
        let Some(mine) = scene.mine.current().filter(|report| report.role() == Role::Replica) else { return };
        let Some(loss) = loss(scene, followed) else { return self.relieved(scene, followed, mine) };
        if loss == Loss::Suspect && self.suspicion.is_none() && !is_parked(mine) {
            // Asked again at once: within milliseconds it is one of the others, or nothing.
            return;
        }
        let mut suspicion = self.suspicion.unwrap_or(Suspicion {
            since: self.now,
            parked_at: None,
            asked: None,
            found_parked: is_parked(mine),
            told_unfit: false,
            told_unproven: false,
            told_objected: false,
            told_left: false,
        });
        if self.suspicion.is_none() {
            (self.objected_at, self.agreed_at) = (None, None);
            self.tell(Note::Suspected(self.other));
        }
        if loss != Loss::Yielded && suspicion.asked.is_none_or(|asked| self.now >= asked + ASK_EVERY) {
            suspicion.asked = Some(self.now);
            self.effects.push_back(Effect::Ask(self.other));
        }
        if is_parked(mine) {
            suspicion.parked_at = suspicion.parked_at.or(Some(self.now));
        } else {
            suspicion.parked_at = None;
        }
        self.suspicion = Some(suspicion);
        self.press(scene, followed, mine, loss, suspicion);
        if suspicion.parked_at.is_some() {
            self.prove(scene, followed, mine, loss, suspicion);
        } else if self.must_park(followed, mine, loss, suspicion) && self.retry_at <= self.now {
            let link = mine.replication.primary_link.as_ref();
            self.home = link.map(|link| (link.host.clone(), link.port));
            self.order(self.me, Duty::Park);
        }
    }

    /// The primary is not lost (any more).
    fn relieved(&mut self, scene: &Scene<'_>, followed: &Followed, mine: &NodeReport) {
        let back = scene.other.claim().is_some_and(|claim| claim.run_id() == followed.run_id);
        if back {
            if self.suspicion.take().is_some() {
                self.tell(Note::FalseAlarm(self.other));
            }
            self.unpark(mine);
        } else {
            self.suspicion = None;
        }
    }

    /// Our node follows the primary again if we had parked it.
    pub(super) fn unpark(&mut self, mine: &NodeReport) {
        if is_parked(mine) && self.retry_at <= self.now {
            let parked = (PARKED.0.to_owned(), PARKED.1);
            let home = self.home.take().filter(|home| *home != parked);
            let (host, port) = home.unwrap_or_else(|| self.address(self.other));
            self.order(self.me, Duty::Unpark { host, port });
        }
    }

    /// A replica that still hears its primary is left alone, unless parking is what closes the primary's fence, or
    /// somebody else speaks in the primary's name.
    fn must_park(&self, followed: &Followed, mine: &NodeReport, loss: Loss, suspicion: Suspicion) -> bool {
        let link_down = mine.replication.primary_link.as_ref().is_some_and(|link| !link.up);
        let lost_it_too = link_down && mine.asked_at >= suspicion.since;
        match loss {
            Loss::Replaced | Loss::Loading(_) | Loss::Yielded => true,
            Loss::Silent => lost_it_too || self.armed(followed.run_id).is_some() || self.has_vote(),
            Loss::Suspect | Loss::Refused => lost_it_too,
        }
    }

    /// The witness is asked for the pair as long as our node could be promoted by its word.
    fn press(&mut self, scene: &Scene<'_>, followed: &Followed, mine: &NodeReport, loss: Loss, suspicion: Suspicion) {
        let fit = self.unfit(followed, mine, suspicion).is_none() && scene.calm && !self.is_blind();
        self.pressing = match loss {
            Loss::Silent if fit => Some(false),
            Loss::Refused | Loss::Loading(_) if fit && suspicion.parked_at.is_some() => Some(true),
            _ => None,
        };
    }

    fn prove(&mut self, scene: &Scene<'_>, followed: &Followed, mine: &NodeReport, loss: Loss, suspicion: Suspicion) {
        if let Some(why) = self.unfit(followed, mine, suspicion) {
            if let Some(suspicion) = self.suspicion.as_mut().filter(|suspicion| !suspicion.told_unfit) {
                suspicion.told_unfit = true;
                self.tell(Note::Unfit(self.me, why));
            }
            return;
        }
        if self.is_blind() || !scene.calm || self.retry_at > self.now {
            return;
        }
        let proof = match loss {
            Loss::Suspect => None,
            Loss::Refused => self.refused(suspicion).filter(|_| self.is_let()),
            Loss::Silent if self.has_vote() => Some(Proof::Voted),
            Loss::Silent => self.fenced(scene, followed, suspicion).filter(|_| self.is_let()),
            Loss::Replaced => {
                self.replace(scene);
                None
            }
            Loss::Loading(_) => self.loading(suspicion).filter(|_| self.is_let()),
            Loss::Yielded => Some(Proof::Replaced),
        };
        if let Some(proof) = proof {
            self.tell(Note::Promoting(self.me, proof));
            let last_look = match (proof, loss) {
                (Proof::Refused | Proof::Agreed, _) => LastLook::Refuses,
                (Proof::Loading, Loss::Loading(process)) => LastLook::Loads(process),
                _ => LastLook::Needless,
            };
            self.order(self.me, Duty::Promote { process: mine.run_id(), last_look });
        }
    }

    /// Another process stands in the old primary's place: it is made a replica, unless what it has must be saved before.
    fn replace(&mut self, scene: &Scene<'_>) {
        // A newcomer that the rule may still come to believe is left alone.
        let doubted = matches!(scene.view.primary, Err(NoPrimary::Doubt(_)));
        let Some(process) = scene.other.current().filter(|_| doubted).map(NodeReport::run_id) else { return };
        let only_if_empty = self.keeps_data_of(process);
        if only_if_empty && self.holds_data == Some(process) {
            if let Some(suspicion) = self.suspicion.as_mut().filter(|suspicion| !suspicion.told_left) {
                suspicion.told_left = true;
                self.tell(Note::LeftAlone(self.other));
            }
            return;
        }
        let (host, port) = self.address(self.me);
        self.tell(Note::Rejoining(self.other, None));
        self.demoting = Some(process);
        self.order(self.other, Duty::Demote { host, port, only_if_empty });
    }

    /// Why our node must not be promoted.
    pub(super) fn unfit(&self, followed: &Followed, mine: &NodeReport, suspicion: Suspicion) -> Option<&'static str> {
        if !followed.is_kin(mine.run_id()) {
            return Some("this process of it was never seen in sync with the primary");
        }
        if mine.replication.replid != followed.id {
            return Some("it holds another history than the primary");
        }
        // A snapshot from somebody else whose load was cut off leaves the name of the history, and none of its data.
        if self.in_sync.is_some_and(|(_, offset)| mine.replication.offset < offset) {
            return Some("it has begun to take over an empty or old data set");
        }
        let fresh = self.in_sync.is_some_and(|(at, _)| at + self.settings.fresh_within >= suspicion.since);
        let lag = followed.offset.saturating_sub(mine.replication.offset);
        // We were there when it was lost, but have started anew since: what was remembered must do.
        let remembered = self.in_sync.is_none() && suspicion.found_parked && lag <= self.settings.max_lag_bytes;
        (!fresh && !remembered).then_some("it was not in sync with the primary when that was lost")
    }

    fn refused(&mut self, suspicion: Suspicion) -> Option<Proof> {
        if self.objected_at.is_some_and(|at| at + OBJECTION_COUNTS > self.now) {
            if let Some(suspicion) = self.suspicion.as_mut().filter(|suspicion| !suspicion.told_objected) {
                suspicion.told_objected = true;
                self.tell(Note::Objected(self.other));
            }
            return None;
        }
        let (since, times) = self.refused?;
        if times < 2 {
            None
        } else if self.agreed_at.is_some_and(|at| at >= suspicion.since) {
            Some(Proof::Agreed)
        } else {
            (since + self.settings.confirm <= self.now).then_some(Proof::Refused)
        }
    }

    /// What loads for a moment only may come back with everything.
    fn loading(&self, suspicion: Suspicion) -> Option<Proof> {
        (suspicion.parked_at? + self.settings.confirm <= self.now).then_some(Proof::Loading)
    }

    /// A witness that is there must agree: it may have heard the process beside the old primary just now.
    fn is_let(&self) -> bool {
        self.has_vote() || !self.lease.as_ref().is_some_and(|lease| lease.hears_witness(self.now))
    }

    fn fenced(&mut self, scene: &Scene<'_>, followed: &Followed, suspicion: Suspicion) -> Option<Proof> {
        let other_replicas = scene.other.report.as_ref().is_none_or(|report| report.replication.replicas.len() > 1);
        let Some(fence) = self.armed(followed.run_id).filter(|_| !other_replicas) else {
            // The witness may still decide.
            let heard = self.lease.as_ref().is_some_and(|lease| lease.hears_witness(self.now));
            if let Some(suspicion) = self.suspicion.as_mut().filter(|suspicion| !suspicion.told_unproven && !heard) {
                suspicion.told_unproven = true;
                self.tell(Note::Unproven(self.other));
            }
            return None;
        };
        let closed = suspicion.parked_at? + fence.max_lag + self.settings.fence_slack;
        (closed <= self.now).then_some(Proof::Fenced)
    }
}

/// How the followed primary is lost, if it is.
fn loss(scene: &Scene<'_>, followed: &Followed) -> Option<Loss> {
    match scene.other.reach {
        Reach::Refused => return Some(Loss::Refused),
        Reach::Silent => return Some(Loss::Silent),
        Reach::Suspect(_) => return Some(Loss::Suspect),
        // It lives; nothing shows that it is another process.
        Reach::Erring => return None,
        Reach::Unheard | Reach::Answering => {}
    }
    let report = scene.other.current().filter(|report| report.run_id() != followed.run_id)?;
    Some(match report.role() {
        Role::Primary if report.loading.is_some() => Loss::Loading(report.run_id()),
        Role::Primary => Loss::Replaced,
        Role::Replica => Loss::Yielded,
    })
}
