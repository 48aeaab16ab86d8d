//! The owner and the rule: evidence goes in; views, the memory and notices come out and are carried on.

use std::time::Duration;

use super::Owner;
use crate::control::changes::Felt;
use crate::io::admin::events::What;
use crate::io::admin::status::{ChangeKind, ChangeReport, ViewStatus};
use crate::io::admin::{Refused, ms};
use crate::io::clock;
use crate::io::probe::Sighting;
use crate::metrics::events::Probe;
use crate::topology::{Doubt, Evidence, NoPrimary, NodeId, Notice, Output, View};

/// A nudge that is not renewed ends after this time.
const NUDGE_FOR: Duration = Duration::from_millis(20);
/// A change that is noticed within this time after the view that ended an announced hold belongs to it.
const BELONGS: Duration = Duration::from_secs(2);

impl Owner {
    pub(super) fn handle_sighting(&mut self, sighting: Sighting, now: Duration) {
        let Sighting { node, evidence, name } = sighting;
        match &evidence {
            Evidence::Report(_) => self.events.probe(node, Probe::Ok),
            Evidence::Silent => self.events.probe(node, Probe::Silent),
            Evidence::Answers(_) => self.events.probe(node, Probe::Error),
            Evidence::Gone(_) => self.events.probe(node, Probe::Gone),
            Evidence::Tripped => tracing::debug!(node = self.node_name(node), "the tripwire says: demoted"),
            Evidence::RefusedCommand => {}
        }
        self.show_switchover(node, &evidence, now);
        if let Some(machine) = &mut self.failover {
            machine.handle_evidence(node, &evidence, now);
        }
        self.topology.handle_evidence(node, evidence, now);
        self.tell_trouble(node, name, now);
    }

    pub(super) fn handle_refused(&mut self, node: NodeId, now: Duration) {
        self.topology.handle_evidence(node, Evidence::RefusedCommand, now);
    }

    pub(super) fn adopt(&mut self, name: &str, now: Duration) -> Result<ViewStatus, Refused> {
        let node = self.node_named(name).ok_or_else(|| self.no_such_node(name))?;
        self.adopting = true;
        let adopted = self.topology.adopt(node, now).map_err(|error| Refused::because(error.to_string()));
        if adopted.is_ok() {
            tracing::warn!(node = name, "adopted: an operator says that this node is primary");
            self.enter(What::Adopted { node: name.to_owned() });
        }
        self.follow(now);
        self.adopting = false;
        adopted.map(|()| self.view_status(now))
    }

    pub(super) fn no_such_node(&self, name: &str) -> Refused {
        let names: Vec<_> = self.config.nodes.iter().map(|node| node.name.as_str()).collect();
        Refused::because(format!("there is no node `{name}`; the nodes are {}", names.join(", ")))
    }

    /// Carries on what the rule has decided.
    pub(super) fn follow(&mut self, now: Duration) {
        while let Some(output) = self.topology.poll_output() {
            match output {
                Output::View(view) => self.handle_view(&view, now),
                Output::Remember(memory) => {
                    self.reins.memory.send_replace(Some(memory.to_text()));
                }
                Output::Notice(notice) => self.handle_notice(notice, now),
                Output::ProbeNow => self.kick(),
                Output::Nudge(replica) => self.nudge(replica, now + NUDGE_FOR),
            }
        }
    }

    pub(super) fn nudge(&self, replica: NodeId, until: Duration) {
        if let Some(nudge) = self.reins.nudges.get(replica.index()) {
            nudge.send_if_modified(|old| std::mem::replace(old, until.max(*old)) < until);
        }
    }

    fn handle_view(&mut self, view: &View, now: Duration) {
        self.events.view(view);
        self.view_since = now;
        if view.primary.is_err() && self.holding.current().is_none() {
            self.begin_event(None);
        }
        self.dirty = true;
        // A hold ends by a later epoch only; a view without a primary keeps its epoch.
        if let Some(hold) = self.holding.current()
            && view.primary.is_ok()
        {
            self.announced = Some((hold.began, now));
            let ended = self.holding.handle_view(view.epoch, now);
            self.hold_ended(ended, now);
        }
    }

    fn handle_notice(&mut self, notice: Notice, now: Duration) {
        self.dirty = true;
        match notice {
            Notice::Changed { from, to, lost_bytes, took, unplanned } => {
                self.handle_changed(from, to, lost_bytes, took, unplanned, now);
            }
            Notice::Held { from, reason } => {
                let (from, reason) = (self.node_name(from), self.reason(&reason));
                tracing::info!(primary = from, reason, "no primary: requests are held");
                self.enter(What::NoPrimary { was: from, why: reason });
            }
            Notice::Doubt(doubt) => {
                let doubt = self.doubt(&doubt);
                tracing::error!(doubt, "no primary is chosen; decide with `changeover adopt NODE`");
                self.enter(What::Doubt { why: doubt });
            }
            Notice::DoubtEnded => {
                tracing::info!("the doubt is over");
                self.enter(What::DoubtEnded);
            }
            Notice::SecondPrimary { node, split_bytes } => {
                let node = self.node_name(node);
                tracing::error!(node, split_bytes, "a second node says that it is primary; it gets no traffic");
                self.enter(What::SecondPrimary { node });
            }
            Notice::FollowedAnyway(node) => {
                tracing::warn!(node = self.node_name(node), "the only node came back without its history");
            }
            Notice::Slept(time) => tracing::warn!(?time, "this process did not run"),
        }
    }

    fn handle_changed(
        &mut self,
        from: Option<NodeId>,
        to: NodeId,
        lost_bytes: Option<u64>,
        took: Duration,
        unplanned: bool,
        now: Duration,
    ) {
        let epoch = self.topology.view().epoch;
        let first = !std::mem::replace(&mut self.served, true);
        let to_name = self.node_name(to);
        if first && from.is_none_or(|from| from == to) {
            tracing::info!(primary = to_name, %epoch, "following");
            self.enter(What::Following { primary: to_name, epoch: epoch.0 });
            return;
        }
        let hold_began = self.holding.current().map(|hold| hold.began);
        let ended = self.announced.take().filter(|(_, ended)| now.saturating_sub(*ended) < BELONGS);
        let announced = hold_began.or(ended.map(|(began, _)| began));
        let kind = if self.adopting {
            ChangeKind::Adopted
        } else if unplanned {
            ChangeKind::Unplanned
        } else if announced.is_some() {
            ChangeKind::Announced
        } else {
            ChangeKind::Observed
        };
        let took = announced.map_or(took, |began| took.max(now.saturating_sub(began)));
        let report = ChangeReport {
            kind,
            from: from.map(|from| self.node_name(from)),
            to: to_name,
            epoch: epoch.0,
            at_unix_ms: clock::unix_millis(),
            took_ms: ms(took),
            longest_stall_ms: None,
            held: 0,
            lost_bytes,
        };
        let kind = kind.name();
        tracing::info!(kind, from = report.from, to = report.to, %epoch, took_ms = report.took_ms, lost_bytes, "changed");
        if lost_bytes.is_some_and(|bytes| bytes > 0) {
            tracing::error!(lost_bytes, "the new primary lacks bytes that the old one had");
        }
        self.events.changed(kind, took, lost_bytes);
        self.enter_change(&report);
        let before = self.changes.begin(report, self.config.workers, now);
        self.felt(before);
    }

    pub(super) fn felt(&mut self, felt: Option<Felt>) {
        if let Some(felt) = felt {
            self.events.felt(felt.kind.name(), felt.longest);
            tracing::info!(kind = felt.kind.name(), longest_stall = ?felt.longest, "clients went on");
            self.enter(What::Felt { kind: felt.kind, longest_stall_ms: ms(felt.longest) });
        }
    }

    /// Why there is no primary, in words.
    pub(super) fn reason(&self, reason: &NoPrimary) -> String {
        match reason {
            NoPrimary::Starting => "no node has said yet that it is primary".to_owned(),
            NoPrimary::Demoted => "the primary became a replica; no successor has spoken yet".to_owned(),
            NoPrimary::Lost => {
                let lost = self.topology.followed().and_then(|followed| followed.node);
                let why =
                    lost.and_then(|node| Some(format!("{}: {}", self.node_name(node), self.trouble_in_words(node)?.0)));
                why.map_or_else(
                    || "the primary is gone or silent".to_owned(),
                    |why| format!("the primary is lost; {why}"),
                )
            }
            NoPrimary::Loading(node) | NoPrimary::Unproven(node) => {
                let why = self.trouble_in_words(*node).map_or_else(|| "no usable answer".to_owned(), |(why, _)| why);
                format!("{}: {why}", self.node_name(*node))
            }
            NoPrimary::Doubt(doubt) => self.doubt(doubt),
        }
    }

    fn doubt(&self, doubt: &Doubt) -> String {
        match doubt {
            Doubt::Restarted(node) => {
                format!("{} came back without the history that was followed", self.node_name(*node))
            }
            Doubt::Siblings => "two histories left the same one; neither descends from the other".to_owned(),
            Doubt::Older(node) => {
                format!("{} is an earlier primary: it lacks what was written since", self.node_name(*node))
            }
            Doubt::Unknown(node) => format!("{} has a history that is not known here", self.node_name(*node)),
            Doubt::TwoPrimaries => "two nodes say that they are primary, and nothing decides between them".to_owned(),
        }
    }
}
