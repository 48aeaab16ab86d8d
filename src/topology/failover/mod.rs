//! Failover of a pair by itself: suspect, park, prove, promote, rejoin.
//!
//! [`Failover`] runs in the process beside each node. It promotes nobody but **its own** node, and only when that node is
//! the in-sync replica of the primary that is followed. It names nobody: [`super::Topology`] believes a promotion when the
//! node says so itself. It sees the world through a [`Scene`] after every event, and orders one thing at a time.
//!
//! ```text
//!              the primary is refused, silent, hung up, or another process
//!   attending ------------------------------------------------------------> suspecting
//!     ^   ^                                                                    | our node has lost it too
//!     |   |  it answers: same process, still primary                           v
//!     |   +------------------------------------------------------ unpark <-- parked
//!     |                                                                        | a proof
//!     |      the rule names our node                                           v
//!   guarding <------------------------------------------------------------- promoted
//!     a second primary is made a replica of the one in service
//! ```
//!
//! # Why no two nodes take writes at once
//!
//! Let A be the primary, B its replica, PA and PB the processes beside them.
//!
//! 1. **Who may promote B: only PB**, one process, one order at a time. Nobody promotes A: PA acts for A only while
//!    B is followed. So two promotions at once would need two primaries to begin with.
//! 2. **When: only with a proof that A takes no more writes.**
//!    * *Refused*: A's port refused every connection for [`Settings::confirm`] (or PA sees the same), B has lost its
//!      link to A too (a node that only stopped listening keeps it), no process of the pair had an answer from A since
//!      they were asked, and A refuses once more immediately before the order leaves. A dead process takes no writes.
//!    * *Replaced*: A is another process without the followed history. It is made a replica of B **first**; B is promoted
//!      when A itself says that it is one. If we die in between, both are replicas: nobody takes writes, nothing is lost.
//!    * *Loading*: A is another process that has just begun and loads its data: it takes no writes until that is
//!      done. B is parked, and A is seen to load once more immediately before the order leaves. An A that has
//!      loaded everything is believed only if B, asked after that, was not promoted meanwhile (`rule.rs`).
//!    * *Fenced*: A is silent. B is parked, so it acknowledges nothing; A, with `min-replicas-to-write` of at least 1 and
//!      no other replica, refuses writes at most `max-lag` + 3 s later by itself (measured, one-way cuts included). We wait
//!      for [`Settings::fence_slack`] more. Without that setting silence alone never promotes.
//! 3. **What comes back is not believed.** A that returns is another process; the rule wants descent. While B is parked or
//!    primary it cannot be wiped by an A that came back empty.
//!    What answers with an error (`-BUSY`, `-NOPERM`, a refused login) lives: it is neither silent nor dead, and
//!    nothing is promoted because of it.
//! 4. **Our own pauses.** After a gap in our running every proof starts anew. An order that was delayed on its way is
//!    bound to the process that was judged, and to one more refusal immediately before.
//! 5. **The other side of silence.** While a fence is armed and the other node is not heard for its `max-lag`, the node
//!    in service is not served ([`Failover::suspends`]): its replica may have been promoted by then.
//!
//! # With a witness
//!
//! W is the third voice (`witness.rs`, `lease.rs`). It knows which of PA and PB *holds* the pair, in which term.
//!
//! 6. **PA serves A only with a lease**: from W, or from PB, counted from when PA asked for it. It stops by itself when the
//!    lease ends; each worker looks at the clock after it has read and before it delivers, so that a machine that was
//!    frozen acknowledges nothing when it wakes. PA then has A refuse writes as well (*shut*).
//! 7. **A vote is given when the lease has run out**, with a second to spare, and only to whoever agreed with W about the
//!    term before. It changes the term, so that it is given once, and is on disk before it is told. From then on W gives no
//!    lease to PA until PB releases the pair, which PB does only while it follows A and no promotion is under way.
//! 8. **PB promises**: when it gives PA a lease, it does not use a vote before that has run out, whoever gave it.
//! 9. So whenever PB promotes B by W's word, every lease of PA has run out and none can be had. While W is heard, the proofs
//!    of (2) need its word too: it has it at once from a PA that sees A dead, and half a second after PA fell silent.
//! 10. PA needs no lease while W cannot take it for the holder: since W has said so, until PA first asks for the pair.
//!     That is why a promotion without W (it is down) is served at once, and why nobody can be outvoted by a W that never
//!     heard of it.
//!
//! Not covered: a frozen A that wakes takes what waits in its sockets before it is shut or its fence closes again. Clients
//! of ours do not get such answers; clients that bypass us do. An A whose PA is dead is shut by nobody. A machine whose clock
//! stands still while it is frozen (some hypervisors) believes in its lease until W or B tell it otherwise, a fraction of a
//! second.
//!
//! Nothing here is kept across a restart of ours: being parked shows in the node's own words, whom to follow is in the
//! memory of the rule, and everything else is observed again.

mod consult;
mod guard;
mod inherit;
pub mod lease;
pub mod outlook;
#[cfg(test)]
mod tests;
pub mod witness;
pub mod words;

use std::collections::VecDeque;
use std::time::Duration;

use super::evidence::{Evidence, Gone, NodeReport, NodeState, Reach};
use super::lineage::Followed;
use super::node::{NodeId, Role};
use super::view::View;
use crate::protocol::info::RunId;
pub use lease::{Lease, NoAnswer, Standing};
pub use words::{Done, Duty, Effect, Fence, LastLook, Note, PARKED, Proof, Rejoin, Saw, Settings};

/// While something is under way, the machine wants to look this often.
const TICK: Duration = Duration::from_millis(20);
/// Between two questions to the other processes.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// An objection counts for this long.
const OBJECTION_COUNTS: Duration = Duration::from_secs(1);
/// After something came to nothing; doubles up to the longest.
const RETRY_AFTER: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Before a node that could not be saved is tried again.
const SAVE_AGAIN: Duration = Duration::from_secs(30);
/// A node is saved within this time.
const SAVE_TIME: Duration = Duration::from_secs(1800);
/// Between two times that we say so.
const SAY_SAVED_EVERY: Duration = Duration::from_secs(1);
/// How often the fence of the primary is read.
const FENCE_EVERY: Duration = Duration::from_secs(2);
/// An older reading proves nothing.
const FENCE_COUNTS: Duration = Duration::from_secs(15);

/// Everything the machine looks at.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Who is primary, by the rule.
    pub view: &'a View,
    /// Whom the rule follows.
    pub followed: Option<&'a Followed>,
    /// The node beside us.
    pub mine: &'a NodeState,
    /// The other one.
    pub other: &'a NodeState,
    /// No switchover is under way.
    pub calm: bool,
}

/// The primary seems lost.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    since: Duration,
    /// Our node was seen parked at this time first, without a break in the suspicion or in our running.
    parked_at: Option<Duration>,
    asked: Option<Duration>,
    /// Our node was parked already: by an earlier life of this process.
    found_parked: bool,
    told_unfit: bool,
    told_unproven: bool,
    told_objected: bool,
    told_left: bool,
}

/// A second primary, and since when it has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Second {
    node: NodeId,
    process: RunId,
    since: Duration,
    left_alone: bool,
}

/// The machine.
#[derive(Debug)]
pub struct Failover {
    settings: Settings,
    me: NodeId,
    other: NodeId,
    now: Duration,
    /// No irreversible act before this time.
    blind_until: Duration,
    retry_at: Duration,
    retry_after: Duration,
    /// Something was done at this node then; what it said before does not count.
    acted: Option<(NodeId, Duration)>,
    /// When our node was last seen in sync with the other one in service, and how far it was.
    in_sync: Option<(Duration, u64)>,
    /// Since when the other node has refused every connection, and how often.
    refused: Option<(Duration, u32)>,
    objected_at: Option<Duration>,
    agreed_at: Option<Duration>,
    suspicion: Option<Suspicion>,
    errand: Option<(NodeId, Duty, Duration)>,
    /// As read at the node in service: which process, when.
    fence: Option<(RunId, Fence, Duration)>,
    fence_due: Duration,
    /// Whom our node followed before it was parked.
    home: Option<(String, u16)>,
    restore: Option<u64>,
    /// Which process of the other node is known to follow ours.
    follower: Option<RunId>,
    second: Option<Second>,
    rejoining: Option<NodeId>,
    /// A second primary that was asked to rejoin if it is empty, and is not.
    holds_data: Option<RunId>,
    /// Which process is being demoted, if it has no data.
    demoting: Option<RunId>,
    /// Which process of our node is being saved, and when that may be tried again.
    saving: Option<RunId>,
    save_at: Duration,
    /// Which process has been saved, by us or by the other, and when we have last said so.
    saved: Option<RunId>,
    said_saved: Duration,
    suspends: bool,
    /// How we stand with the witness, if there is one.
    lease: Option<Lease>,
    standing: Standing,
    /// The witness is asked for a vote; whether the other node refuses connections.
    pressing: Option<bool>,
    /// A promotion was not answered then: it may have been done, or may still be.
    unsure: Option<Duration>,
    /// Our node was promoted then; it has not said so itself yet.
    promoted: Option<Duration>,
    /// Whether our node was shut by us; `None`: by an earlier life of this process, perhaps.
    shut: Option<bool>,
    effects: VecDeque<Effect>,
}

impl Failover {
    /// A machine for the process beside `me` (0 or 1).
    pub fn new(settings: Settings, me: NodeId, now: Duration) -> Self {
        let lease = settings.witness.map(|length| Lease::new(me, length, now));
        Self {
            blind_until: now + settings.pause,
            settings,
            me,
            other: NodeId(1_u8.saturating_sub(me.0)),
            now,
            retry_at: now,
            retry_after: RETRY_AFTER,
            acted: None,
            in_sync: None,
            refused: None,
            objected_at: None,
            agreed_at: None,
            suspicion: None,
            errand: None,
            fence: None,
            fence_due: now,
            home: None,
            restore: None,
            follower: None,
            second: None,
            rejoining: None,
            holds_data: None,
            demoting: None,
            saving: None,
            save_at: now,
            saved: None,
            said_saved: now,
            suspends: false,
            lease,
            standing: Standing::Unclear,
            pressing: None,
            unsure: None,
            promoted: None,
            shut: None,
            effects: VecDeque::new(),
        }
    }

    /// What was learnt about a node. To be told besides the rule, before [`Failover::look`].
    pub fn handle_evidence(&mut self, node: NodeId, evidence: &Evidence, now: Duration) {
        self.wake(now);
        if node != self.other {
            return;
        }
        match (evidence, &mut self.refused) {
            (Evidence::Gone(Gone::Refused), Some((_, times))) => *times = times.saturating_add(1),
            (Evidence::Gone(Gone::Refused), none) => *none = Some((now, 1)),
            (Evidence::Report(_) | Evidence::Answers(_) | Evidence::Silent | Evidence::Gone(_), refused) => {
                *refused = None
            }
            (Evidence::Tripped | Evidence::RefusedCommand, _) => {}
        }
    }

    /// What another process of the pair sees of `node`. `beside`: it is the one on that node's host.
    pub fn handle_word(&mut self, node: NodeId, saw: Saw, beside: bool, now: Duration) {
        self.wake(now);
        if node != self.other || self.suspicion.is_none() {
            return;
        }
        match saw {
            Saw::Answers => self.objected_at = Some(now),
            Saw::Refused if beside => self.agreed_at = Some(now),
            Saw::Refused => {}
        }
    }

    /// What came of [`Effect::Do`].
    pub fn handle_done(&mut self, node: NodeId, duty: &Duty, result: Result<Done, String>, now: Duration) {
        self.wake(now);
        if *duty == Duty::ReadFence {
            // No answer, no proof: the last reading grows old.
            if let (Ok(Done::Fence(fence)), Some((_, known, read))) = (result, &mut self.fence) {
                (*known, *read) = (fence, now);
            }
            return;
        }
        if self.errand.as_ref().is_some_and(|(at, known, _)| *at == node && known == duty) {
            self.errand = None;
        }
        match result {
            Ok(Done::Declined(_)) if matches!(duty, Duty::Demote { only_if_empty: true, .. }) => {
                self.holds_data = self.demoting;
            }
            Ok(Done::Declined(why)) => self.failed(node, duty, why.to_owned()),
            Ok(done) => self.succeeded(node, duty, done),
            Err(why) => self.unanswered(node, duty, why),
        }
    }

    fn unanswered(&mut self, node: NodeId, duty: &Duty, why: String) {
        match duty {
            Duty::Promote { .. } => self.unsure = Some(self.now),
            Duty::Save => self.save_at = self.now + SAVE_AGAIN,
            _ => {}
        }
        self.failed(node, duty, why);
    }

    fn succeeded(&mut self, node: NodeId, duty: &Duty, done: Done) {
        self.retry_after = RETRY_AFTER;
        self.acted = Some((node, self.now));
        if let Done::Promoted { min_replicas } = done {
            self.restore = (min_replicas > 0).then_some(min_replicas);
            self.promoted = Some(self.now);
            let since = self.suspicion.map_or(self.now, |suspicion| suspicion.since);
            return self.tell(Note::Promoted(node, self.now.saturating_sub(since)));
        }
        match duty {
            Duty::Park => self.tell(Note::Parked(node)),
            Duty::Unpark { .. } => self.tell(Note::Unparked(node)),
            Duty::Demote { .. } => self.rejoining = Some(node),
            Duty::Save => {
                (self.saved, self.said_saved) = (self.saving.take(), Duration::ZERO);
                let bytes = if let Done::Saved { bytes } = done { Some(bytes) } else { None };
                self.tell(Note::Saved(node, bytes));
            }
            Duty::Shut | Duty::Open => self.shut = Some(*duty == Duty::Shut),
            Duty::Promote { .. } | Duty::ReadFence | Duty::Restore { .. } => {}
        }
    }

    fn failed(&mut self, node: NodeId, duty: &Duty, why: String) {
        self.retry_at = self.now + self.retry_after;
        self.retry_after = (self.retry_after * 2).min(LONGEST_RETRY);
        self.tell(Note::Failed(node, duty.clone(), why));
    }

    /// Draws its conclusions. To be called after everything that the rule was told, and at [`Failover::poll_timeout`].
    pub fn look(&mut self, scene: &Scene<'_>, now: Duration) {
        self.wake(now);
        self.decide(scene);
        self.say_saved(scene);
        self.consult(scene);
        self.suspends = self.is_alone(scene) || self.is_parting(scene);
    }

    fn decide(&mut self, scene: &Scene<'_>) {
        let now = self.now;
        if scene.view.primary.is_ok() {
            self.pressing = None;
        }
        if let Some((node, duty, _)) = self.errand.take_if(|(_, _, due)| *due <= now) {
            self.unanswered(node, &duty, "no answer".to_owned());
        }
        if let Ok(node) = scene.view.primary {
            self.read_fence(node, scene);
        }
        if self.errand.is_some() || self.is_outdated(scene) {
            return;
        }
        match scene.view.primary {
            Ok(node) if node == self.me => self.guard(scene),
            Ok(_) => self.attend(scene),
            Err(_) if self.settings.promotes && follows_node(scene, self.other) => self.inherit(scene),
            Err(_) => {
                (self.suspicion, self.pressing) = (None, None);
                self.returned(scene);
            }
        }
    }

    /// When to look again at the latest.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let busy = self.suspicion.is_some() || self.errand.is_some() || self.second.is_some();
        let due = if busy { (self.now + TICK).min(self.fence_due.max(self.now)) } else { self.fence_due };
        Some(self.lease.as_ref().map_or(due, |lease| due.min(lease.poll_timeout(self.now))))
    }

    /// The next effect, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The node in service must not be served now: the other one, unheard, may have been promoted.
    pub fn suspends(&self) -> bool {
        self.suspends
    }

    /// The node beside us.
    pub fn node(&self) -> NodeId {
        self.me
    }

    /// What is under way, in words; for status.
    pub fn state(&self) -> &'static str {
        match (&self.errand, &self.suspicion) {
            (Some((_, duty, _)), _) => duty.name(),
            (None, Some(suspicion)) if suspicion.parked_at.is_some() => "parked",
            (None, Some(_)) => "suspecting",
            (None, None) if self.suspends => "cut off",
            (None, None) if self.second.is_some() => "second primary",
            (None, None) => "watching",
        }
    }

    /// Notices that this process did not run for a while: proofs start anew.
    fn wake(&mut self, now: Duration) {
        if now.saturating_sub(self.now) > self.settings.pause {
            self.blind_until = now + self.settings.pause;
            (self.refused, self.objected_at, self.agreed_at, self.second) = (None, None, None, None);
            if let Some(suspicion) = &mut self.suspicion {
                suspicion.parked_at = None;
            }
        }
        self.now = self.now.max(now);
    }

    /// The node at which something was done has not spoken since.
    fn is_outdated(&self, scene: &Scene<'_>) -> bool {
        let Some((node, at)) = self.acted else { return false };
        let state = if node == self.me { scene.mine } else { scene.other };
        state.current().is_some_and(|report| report.asked_at < at)
    }

    fn is_blind(&self) -> bool {
        self.now < self.blind_until
    }

    /// Reads, now and then, whether the node in service has a fence.
    fn read_fence(&mut self, node: NodeId, scene: &Scene<'_>) {
        let state = if node == self.me { scene.mine } else { scene.other };
        let Some(process) = state.current().map(NodeReport::run_id) else { return };
        if self.fence.is_none_or(|(known, ..)| known != process) {
            self.fence = Some((process, Fence::default(), self.now));
            self.fence_due = self.now;
        }
        if self.fence_due <= self.now {
            self.fence_due = self.now + FENCE_EVERY;
            self.effects.push_back(Effect::Do { node, duty: Duty::ReadFence });
        }
    }

    /// The fence of this process, if it is known to be armed.
    fn armed(&self, process: RunId) -> Option<Fence> {
        let (known, fence, read) = self.fence?;
        let counts = self.suspicion.map_or(self.now, |suspicion| suspicion.since).saturating_sub(read) < FENCE_COUNTS;
        (known == process && fence.is_armed() && counts).then_some(fence)
    }

    /// See [`Failover::suspends`].
    fn is_alone(&self, scene: &Scene<'_>) -> bool {
        let Ok(serving) = scene.view.primary else { return false };
        let (served, unheard) = if serving == self.me { (scene.mine, scene.other) } else { (scene.other, scene.mine) };
        let Some(fence) = served.report.as_ref().and_then(|report| self.armed(report.run_id())) else { return false };
        let heard = unheard.heard_at.unwrap_or_default();
        unheard.reach == Reach::Silent && self.now.saturating_sub(heard) >= fence.max_lag
    }

    /// The node in service may be so no longer: ours without a lease, or the other one while ours is being promoted.
    fn is_parting(&mut self, scene: &Scene<'_>) -> bool {
        let spoken = |at: Duration| scene.mine.current().is_some_and(|report| report.asked_at >= at);
        self.promoted = self.promoted.filter(|at| !spoken(*at));
        let ordered = matches!(self.errand, Some((_, Duty::Promote { .. }, _)));
        match scene.view.primary {
            Ok(node) if node == self.me => !self.may_serve() || self.shut == Some(true),
            Ok(_) => ordered || self.unsure.is_some() || self.promoted.is_some(),
            Err(_) => false,
        }
    }

    fn order(&mut self, node: NodeId, duty: Duty) {
        let limit = if duty == Duty::Save { SAVE_TIME } else { self.settings.errand_limit };
        self.errand = Some((node, duty.clone(), self.now + limit));
        self.effects.push_back(Effect::Do { node, duty });
    }

    fn tell(&mut self, note: Note) {
        self.effects.push_back(Effect::Tell(note));
    }

    fn address(&self, node: NodeId) -> (String, u16) {
        let [first, second] = &self.settings.nodes;
        if node.0 == 0 { first.clone() } else { second.clone() }
    }
}

fn follows_node(scene: &Scene<'_>, node: NodeId) -> bool {
    scene.followed.is_some_and(|followed| followed.node == Some(node))
}

/// Whether a replica follows nobody because we told it to.
fn is_parked(report: &NodeReport) -> bool {
    let link = report.replication.primary_link.as_ref();
    report.role() == Role::Replica && link.is_some_and(|link| (link.host.as_str(), link.port) == PARKED)
}
