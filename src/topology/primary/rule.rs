//! The rule: who is primary, given what every node last said and what was followed so far.
//!
//! One pure function, [`decide`]; it remembers nothing and acts on nothing. What it keeps to:
//!
//! * **The primary in service stays** as long as its own process says that it is primary, whatever its history is
//!   called now. Only a process that was seen to hold the same history and was promoted out of it takes over; a node
//!   that merely restarted with an old snapshot carries the same marks, but nobody promoted it.
//! * **Without one, a successor must prove its descent.** A process seen in sync with what was followed may lack some
//!   bytes (an unplanned promotion; they are counted). A process that nobody has seen in sync must lack nothing.
//! * **A node that came back** with the whole history, as after a clean shutdown, is believed only when the other node
//!   cannot have been promoted meanwhile.
//! * **What proves nothing is a doubt**, and a doubt names nobody. Two processes that were both promoted out of one
//!   history are a doubt even while one of them is in service: another observer may have met the other one first.

use std::time::Duration;

use super::super::evidence::{NodeReport, NodeState, Reach};
use super::super::lineage::{Followed, Kinship, Standing, kinship};
use super::super::node::{Epoch, NodeId, Role};
use super::super::view::{Doubt, NoPrimary};

/// What is known when the rule is asked.
pub(super) struct World<'a> {
    pub(super) nodes: &'a [NodeState],
    pub(super) followed: Option<&'a Followed>,
    /// The primary in service.
    pub(super) serving: Option<NodeId>,
    /// Since when there is none; the start of this process at first.
    pub(super) none_since: Duration,
}

/// What the rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The primary in service stays.
    Stay,
    /// This node is primary from now on.
    Name { node: NodeId, lost: Option<u64> },
    /// Nobody is.
    Nobody(NoPrimary),
}

/// What speaks for a claimant when there is no primary in service.
enum Merit {
    Good {
        lost: Option<u64>,
        promoted: bool,
    },
    Bad(Doubt),
    /// Ask again: what would decide has not been heard yet.
    Wait,
}

/// Applies the rule.
pub(super) fn decide(world: &World<'_>) -> Verdict {
    let Some(followed) = world.followed else { return begin(world) };
    if let Some(node) = world.serving {
        let state = world.nodes.get(node.index());
        if state.is_some_and(|state| still_primary(state, followed)) {
            return rival(world, followed, node);
        }
    }
    succeed(world, followed)
}

fn ids(nodes: &[NodeState]) -> impl Iterator<Item = (NodeId, &NodeState)> {
    (0u8..).map(NodeId).zip(nodes)
}

fn claims<'a>(world: &World<'a>) -> Vec<(NodeId, &'a NodeReport)> {
    ids(world.nodes).filter_map(|(node, state)| Some((node, state.claim()?))).collect()
}

fn still_primary(state: &NodeState, followed: &Followed) -> bool {
    state.current().is_some_and(|report| report.role() == Role::Primary && report.run_id() == followed.run_id)
}

/// Every node was heard, or is known to be lost.
fn all_settled(world: &World<'_>) -> bool {
    world.nodes.iter().all(NodeState::is_settled)
}

/// Why nobody says that it is primary, where nobody was followed.
fn nobody_claims(world: &World<'_>) -> NoPrimary {
    let erring = ids(world.nodes).find(|(_, state)| state.reach == Reach::Erring);
    let loading = |state: &NodeState| state.current().is_some_and(|report| report.loading.is_some());
    match (erring, ids(world.nodes).find(|(_, state)| loading(state))) {
        (Some((node, _)), _) => NoPrimary::Unproven(node),
        (None, Some((node, _))) => NoPrimary::Loading(node),
        (None, None) => NoPrimary::Starting,
    }
}

/// Nothing was ever followed: one claimant is taken; of two, the one that visibly descends from the other.
fn begin(world: &World<'_>) -> Verdict {
    if !all_settled(world) {
        return Verdict::Nobody(NoPrimary::Starting);
    }
    match claims(world).as_slice() {
        [] => Verdict::Nobody(nobody_claims(world)),
        [(node, claim)] => {
            let knows_more = |state: &NodeState| {
                state.current().is_some_and(|other| {
                    let (ours, theirs) = (&claim.replication, &other.replication);
                    let related = theirs.replid == ours.replid || ours.replid2 == Some(theirs.replid);
                    other.role() == Role::Replica && !related && theirs.offset > ours.offset
                })
            };
            if ids(world.nodes).any(|(other, state)| other != *node && knows_more(state)) {
                return Verdict::Nobody(NoPrimary::Doubt(Doubt::Unknown(*node)));
            }
            Verdict::Name { node: *node, lost: None }
        }
        [(first, a), (second, b), ..] => match kinship(a, b) {
            Kinship::SecondDescends { beyond: 0 } => Verdict::Name { node: *second, lost: Some(0) },
            Kinship::FirstDescends { beyond: 0 } => Verdict::Name { node: *first, lost: Some(0) },
            Kinship::Siblings => Verdict::Nobody(NoPrimary::Doubt(Doubt::Siblings)),
            _ => Verdict::Nobody(NoPrimary::Doubt(Doubt::TwoPrimaries)),
        },
    }
}

/// The primary in service says that it is primary. Does another one take over?
fn rival(world: &World<'_>, followed: &Followed, serving: NodeId) -> Verdict {
    for (node, state) in ids(world.nodes).filter(|(node, _)| *node != serving) {
        let Some(claim) = state.claim() else { continue };
        if !followed.is_kin(claim.run_id()) {
            continue;
        }
        match followed.standing(node, claim) {
            Standing::Heir { lost, descends: true } => return Verdict::Name { node, lost: Some(lost) },
            Standing::Sibling if !is_dismissed(state, claim) => {
                return Verdict::Nobody(NoPrimary::Doubt(Doubt::Siblings));
            }
            _ => {}
        }
    }
    Verdict::Stay
}

fn is_dismissed(state: &NodeState, claim: &NodeReport) -> bool {
    state.dismissed == Some((claim.run_id(), claim.replication.replid))
}

/// There is no primary in service (any more). Who may be the next?
fn succeed(world: &World<'_>, followed: &Followed) -> Verdict {
    if !all_settled(world) {
        return Verdict::Nobody(reason(world, followed));
    }
    let claims = claims(world);
    let merits: Vec<_> = claims.iter().map(|(node, claim)| merit(world, followed, *node, claim)).collect();
    match (claims.as_slice(), merits.as_slice()) {
        ([(node, _)], [Merit::Good { lost, .. }]) => Verdict::Name { node: *node, lost: *lost },
        ([_], [Merit::Bad(doubt)]) => Verdict::Nobody(NoPrimary::Doubt(doubt.clone())),
        ([first, second], [a, b]) => contest(world, followed, (*first, a), (*second, b)),
        _ => Verdict::Nobody(reason(world, followed)),
    }
}

type Claimant<'a, 'b> = ((NodeId, &'a NodeReport), &'b Merit);

fn contest(world: &World<'_>, followed: &Followed, first: Claimant<'_, '_>, second: Claimant<'_, '_>) -> Verdict {
    let doubt = |doubt| Verdict::Nobody(NoPrimary::Doubt(doubt));
    match (first.1, second.1) {
        (Merit::Wait, _) | (_, Merit::Wait) if kinship(first.0.1, second.0.1) == Kinship::Siblings => {
            doubt(Doubt::Siblings)
        }
        (Merit::Wait, _) | (_, Merit::Wait) => Verdict::Nobody(reason(world, followed)),
        (Merit::Good { .. }, Merit::Bad(_)) => one_proved(world, followed, first, second.0),
        (Merit::Bad(_), Merit::Good { .. }) => one_proved(world, followed, second, first.0),
        // As long as the followed process claims it, nobody takes over who was not promoted out of its history.
        (Merit::Good { lost, .. }, Merit::Good { promoted: false, .. }) if stayed(followed, first.0) => {
            Verdict::Name { node: first.0.0, lost: *lost }
        }
        (Merit::Good { promoted: false, .. }, Merit::Good { lost, .. }) if stayed(followed, second.0) => {
            Verdict::Name { node: second.0.0, lost: *lost }
        }
        (Merit::Good { lost: a, .. }, Merit::Good { lost: b, .. }) => match kinship(first.0.1, second.0.1) {
            Kinship::SecondDescends { .. } => Verdict::Name { node: second.0.0, lost: *b },
            Kinship::FirstDescends { .. } => Verdict::Name { node: first.0.0, lost: *a },
            Kinship::Siblings => doubt(Doubt::Siblings),
            Kinship::SameHistory | Kinship::Unrelated => doubt(Doubt::TwoPrimaries),
        },
        (Merit::Bad(_), Merit::Bad(_)) => match kinship(first.0.1, second.0.1) {
            Kinship::Siblings => doubt(Doubt::Siblings),
            _ => doubt(Doubt::TwoPrimaries),
        },
    }
}

fn stayed(followed: &Followed, (node, claim): (NodeId, &NodeReport)) -> bool {
    followed.standing(node, claim) == Standing::Same
}

/// One of two claimants has a proof. If the proof is only "I am the process that you followed", a claim of the other
/// that was not seen before may be a promotion that was missed.
fn one_proved(world: &World<'_>, followed: &Followed, good: Claimant<'_, '_>, other: (NodeId, &NodeReport)) -> Verdict {
    let Merit::Good { lost, promoted } = good.1 else { return Verdict::Nobody(reason(world, followed)) };
    let seen_before = world.nodes.get(other.0.index()).is_some_and(|state| is_dismissed(state, other.1));
    if !promoted && !seen_before {
        match followed.standing(other.0, other.1) {
            Standing::Unknown => return Verdict::Nobody(NoPrimary::Doubt(Doubt::TwoPrimaries)),
            Standing::Sibling if followed.is_kin(other.1.run_id()) => {
                return Verdict::Nobody(NoPrimary::Doubt(Doubt::Siblings));
            }
            _ => {}
        }
    }
    Verdict::Name { node: good.0.0, lost: *lost }
}

fn merit(world: &World<'_>, followed: &Followed, node: NodeId, claim: &NodeReport) -> Merit {
    let kin = followed.is_kin(claim.run_id());
    let standing = followed.standing(node, claim);
    let lost = match standing {
        Standing::Same => Some(0),
        Standing::Heir { lost, .. } => Some(lost),
        _ => None,
    };
    if world.nodes.len() == 1 {
        // There is nobody else who could have what it lacks.
        return Merit::Good { lost, promoted: false };
    }
    // Whoever was not promoted by somebody has to wait until it is known that the other one was not either.
    let moved = kin && followed.node.is_some_and(|old| old != node);
    if !moved && !others_heard(world, node) {
        return Merit::Wait;
    }
    match standing {
        Standing::Same => Merit::Good { lost, promoted: false },
        Standing::Heir { lost: 0, .. } if !kin => came_back(world, followed, node, claim),
        Standing::Heir { descends, .. } if kin => Merit::Good { lost, promoted: descends },
        _ if kin && vouched_for(world, followed, claim) => Merit::Good { lost, promoted: true },
        Standing::Heir { .. } | Standing::Restarted => Merit::Bad(Doubt::Restarted(node)),
        Standing::Older => Merit::Bad(Doubt::Older(node)),
        Standing::Sibling => Merit::Bad(Doubt::Siblings),
        Standing::Unknown => Merit::Bad(Doubt::Unknown(node)),
    }
}

/// The other nodes have spoken since there is no primary, or are known to be lost.
fn others_heard(world: &World<'_>, node: NodeId) -> bool {
    ids(world.nodes).filter(|(other, _)| *other != node).all(|(_, state)| {
        let spoken = state.current().is_some_and(|report| report.asked_at >= world.none_since);
        state.is_lost() || state.reach == Reach::Erring || spoken
    })
}

/// A new process has all of the history, as after a clean shutdown. Believed only if that is certain: the end of the
/// history was seen by this process, or the other node still has the history and not more of it. And only if the other
/// one is heard, or nobody listens there: one that is merely silent may come back, or may have been promoted meanwhile.
fn came_back(world: &World<'_>, followed: &Followed, node: NodeId, claim: &NodeReport) -> Merit {
    let others: Vec<_> = ids(world.nodes).filter(|(other, _)| *other != node).map(|(_, state)| state).collect();
    let fork = claim.replication.second_offset.unwrap_or(0);
    let witness = |report: &NodeReport| {
        followed.is_kin(report.run_id()) && report.replication.replid == followed.id && report.replication.offset < fork
    };
    let certain = followed.certain || others.iter().filter_map(|state| state.current()).any(witness);
    let hidden = others.iter().any(|state| matches!(state.reach, Reach::Silent | Reach::Erring));
    if !certain || hidden {
        return Merit::Bad(Doubt::Restarted(node));
    }
    // While it loaded, the other one may have been promoted: ask that again.
    let since = world.nodes.get(node.index()).map_or(Duration::MAX, |state| state.claims_since);
    let asked = |state: &&NodeState| state.current().is_none_or(|report| report.asked_at >= since);
    if others.iter().all(asked) { Merit::Good { lost: Some(0), promoted: false } } else { Merit::Wait }
}

/// The followed process itself is the claimant's replica now, in sync.
fn vouched_for(world: &World<'_>, followed: &Followed, claim: &NodeReport) -> bool {
    followed
        .node
        .and_then(|node| world.nodes.get(node.index()))
        .and_then(NodeState::current)
        .is_some_and(|report| report.run_id() == followed.run_id && report.follows(claim.replication.replid))
}

/// The primary that was followed is gone, silent, or another process: it was not demoted.
pub(super) fn followed_is_lost(world: &World<'_>) -> bool {
    let Some(followed) = world.followed else { return false };
    followed.node.and_then(|node| world.nodes.get(node.index())).is_some_and(|state| {
        state.is_lost() || state.report.as_ref().is_some_and(|report| report.run_id() != followed.run_id)
    })
}

/// Why nobody is primary, when nobody claims it.
fn reason(world: &World<'_>, followed: &Followed) -> NoPrimary {
    let Some(state) = followed.node.and_then(|node| world.nodes.get(node.index())) else { return NoPrimary::Starting };
    if state.is_lost() {
        return NoPrimary::Lost;
    }
    if let Some(node) = followed.node.filter(|_| state.reach == Reach::Erring) {
        return NoPrimary::Unproven(node);
    }
    match &state.report {
        Some(report) if report.run_id() != followed.run_id => match (report.loading, followed.node) {
            (Some(_), Some(node)) => NoPrimary::Loading(node),
            _ => NoPrimary::Lost,
        },
        Some(report) if state.tripped || report.role() == Role::Replica => NoPrimary::Demoted,
        Some(_) if !followed.unbroken => NoPrimary::Demoted,
        Some(_) if state.named > Epoch(0) => NoPrimary::Lost,
        Some(_) | None => NoPrimary::Starting,
    }
}
