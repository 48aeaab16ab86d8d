//! The owner as coordinator: runs the machine of an announced switchover and carries out what it orders.
//!
//! The machine decides; here its effects become words on the pair's channel, errands at the nodes and orders to our own
//! workers, and what comes back becomes its events. Our own process is one of those who hold, like every peer.
//!
//! Two coordinators at once: whoever has announced and hears another's hold compares names, and the greater one takes
//! its own back, unless it has sent `FAILOVER` already (then the other never sees everybody quiet, and takes back).

use std::time::Duration;

use tokio::sync::mpsc;

use super::Owner;
use super::failover::BY_SENTINEL;
use crate::control::channel::Kind;
use crate::control::hands::{Answer, Errand, Found, Task};
use crate::io::admin::{
    GateReport, Outcome, Progress, Refused, StepReport, Stopped, SwitchoverOrder, SwitchoverReport, ms,
};
use crate::io::client::LinkError;
use crate::topology::switchover::gates::{self, NodeFacts};
use crate::topology::switchover::{self, Effect, PeerId, Settings, Switchover};
use crate::topology::{Evidence, NodeId, Reach};

/// Bytes that the replica may be behind when a switchover begins.
const MAX_LAG_BYTES: u64 = 16 * 1024 * 1024;
/// The longest that clients are held, where the order does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the report waits for the workers to say what was felt.
const SETTLES_IN: Duration = Duration::from_millis(250);
/// A nudge that is not renewed ends after this time.
const NUDGE_FOR: Duration = Duration::from_millis(20);
/// A hold is announced again after this time, as long as not everybody is quiet.
const AGAIN_EVERY: Duration = Duration::from_millis(100);
/// See [`Running::rival`].
const RIVAL_WAITS: Duration = Duration::from_millis(300);

/// A switchover that this process runs.
#[derive(Debug)]
pub(super) struct Running {
    /// Names the hold and the errands.
    id: u64,
    machine: Switchover,
    from: NodeId,
    to: NodeId,
    /// Who is waited for, ourselves left out.
    peers: Vec<String>,
    progress: mpsc::Sender<Progress>,
    facts: [Option<Result<NodeFacts, String>>; 2],
    gates_told: usize,
    steps_told: usize,
    announced: bool,
    failover_sent: bool,
    /// The hold is announced again then.
    again: Duration,
    /// Without a secret: somebody whose name comes first announces a hold as well. If the others are not quiet for ours by
    /// then, it is a coordinator, and ours is taken back.
    rival: Option<Duration>,
    /// The machine has ended; the report goes out at this time at the latest.
    report_due: Option<Duration>,
}

impl Running {
    /// Its hold is announced, and not everybody is quiet yet.
    fn waits(&self) -> bool {
        self.announced && !self.failover_sent && self.report_due.is_none()
    }
}

impl Owner {
    pub(super) fn is_switching(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn begin_switchover(
        &mut self,
        order: &SwitchoverOrder,
        progress: mpsc::Sender<Progress>,
        now: Duration,
    ) {
        let (from, to) = match self.ends(order) {
            Ok(ends) => ends,
            Err(refused) => return self.refuse(order, &progress, refused),
        };
        let mut random = [0_u8; 8];
        if let Err(error) = getrandom::fill(&mut random) {
            return self.refuse(order, &progress, Refused::because(format!("no random number: {error}")));
        }
        let timeout = order.timeout_ms.map_or(DEFAULT_TIMEOUT, Duration::from_millis).min(self.longest_hold());
        let peers = self.peers.present(now);
        let everybody = peers.iter().chain([&self.me.instance]).cloned().map(PeerId).collect();
        let settings = Settings::within(timeout, order.dry_run);
        tracing::info!(
            from = self.node_name(from),
            to = self.node_name(to),
            peers = peers.len(),
            dry_run = order.dry_run,
            "switchover ordered"
        );
        self.running = Some(Running {
            id: u64::from_le_bytes(random),
            machine: Switchover::new(settings, from, to, everybody, now),
            from,
            to,
            peers,
            progress,
            facts: [None, None],
            gates_told: 0,
            steps_told: 0,
            announced: false,
            failover_sent: false,
            again: now,
            rival: None,
            report_due: None,
        });
    }

    /// From where to where, or why not.
    fn ends(&self, order: &SwitchoverOrder) -> Result<(NodeId, NodeId), Refused> {
        if self.running.is_some() {
            return Err(Refused::because("this process runs a switchover already"));
        }
        // Without a secret anybody may have announced it: that does not keep an operator from a switchover.
        if let Some(hold) = self.holding.current().filter(|hold| self.is_sealed() || hold.by == BY_SENTINEL.0) {
            return Err(Refused::because(format!("{} runs a switchover", hold.by)));
        }
        if self.leaving.is_some() {
            return Err(Refused::because("this process is draining; ask another process of the pair"));
        }
        let from = match &self.topology.view().primary {
            Ok(node) => *node,
            Err(reason) => return Err(Refused::because(format!("there is no primary: {}", self.reason(reason)))),
        };
        let to = match &order.to {
            Some(name) => self.node_named(name).ok_or_else(|| self.no_such_node(name))?,
            None => self.other(from).ok_or_else(|| Refused::because("there is no other node"))?,
        };
        if to == from {
            return Err(Refused::because(format!("{} is primary already", self.node_name(to))));
        }
        Ok((from, to))
    }

    fn other(&self, node: NodeId) -> Option<NodeId> {
        (0_u8..).map(NodeId).take(self.config.nodes.len()).find(|other| *other != node)
    }

    fn refuse(&self, order: &SwitchoverOrder, progress: &mpsc::Sender<Progress>, refused: Refused) {
        tracing::warn!(why = refused.error, "switchover refused");
        self.events.switchover("refused");
        let from = self.topology.view().primary.as_ref().ok().map(|node| self.node_name(*node));
        let report = SwitchoverReport {
            outcome: Outcome::Refused,
            from,
            to: order.to.clone(),
            stopped: Some(Stopped { step: "order".to_owned(), why: refused.error }),
            gates: Vec::new(),
            steps: Vec::new(),
            took_ms: 0.0,
            longest_stall_ms: None,
            held: None,
            peers: Vec::new(),
        };
        // Whoever asked may have gone.
        let _ = progress.try_send(Progress::Report(report));
    }

    /// Tells the machine something; its answer is carried out by [`Owner::drive_switchover`].
    fn tell_machine(&mut self, event: switchover::Event, now: Duration) {
        if let Some(running) = &mut self.running {
            running.machine.handle_event(event, now);
        }
    }

    /// What a probe saw, before the rule draws its conclusion.
    pub(super) fn show_switchover(&mut self, node: NodeId, evidence: &Evidence, now: Duration) {
        if let Evidence::Report(report) = evidence
            && self.running.is_some()
        {
            self.tell_machine(switchover::Event::Reported(node, report.clone()), now);
        }
    }

    pub(super) fn own_quiesced(&mut self, now: Duration) {
        let own = PeerId(self.me.instance.clone());
        self.tell_machine(switchover::Event::QuiescedBy(own), now);
    }

    pub(super) fn peer_quiesced(&mut self, from: &str, id: u64, now: Duration) {
        if self.running.as_ref().is_some_and(|running| running.id == id) {
            self.tell_machine(switchover::Event::QuiescedBy(PeerId(from.to_owned())), now);
        }
    }

    pub(super) fn cancel_switchover(&mut self, why: &str, now: Duration) {
        self.tell_machine(switchover::Event::Cancelled(why.to_owned()), now);
    }

    /// Whether we obey the hold of another coordinator.
    pub(super) fn yields_to(&mut self, by: &str, now: Duration) -> bool {
        match &self.running {
            None => true,
            Some(running) if running.failover_sent => false,
            Some(running) if !running.announced => true,
            Some(_) if by < self.me.instance.as_str() && !self.is_sealed() => {
                if let Some(running) = &mut self.running {
                    running.rival = running.rival.or(Some(now + RIVAL_WAITS));
                }
                false
            }
            Some(_) if by < self.me.instance.as_str() => {
                self.cancel_switchover(&format!("{by} runs a switchover"), now);
                self.drive_switchover(now);
                true
            }
            Some(_) => false,
        }
    }

    /// Says the hold in force again, for somebody who has just joined.
    pub(super) fn repeat_hold(&mut self, now: Duration) {
        let Some(hold) = self.holding.current().filter(|hold| hold.by == self.me.instance) else { return };
        let (id, left) = (hold.id, hold.until.saturating_sub(now));
        self.say(Kind::Hold { id, deadline_ms: crate::io::admin::whole_ms(left), event: self.event }, now);
    }

    pub(super) fn handle_answer(&mut self, answer: Answer, now: Duration) {
        let Some(running) = self.running.as_mut().filter(|running| running.id == answer.errand.of) else { return };
        match (answer.errand.task, answer.result) {
            (Task::Inspect, result) => {
                let found = match result {
                    Ok(Found::Facts(facts)) => Ok(*facts),
                    Ok(_) => Err(LinkError::TimedOut.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                let place = usize::from(answer.node != running.from);
                if let Some(slot) = running.facts.get_mut(place) {
                    *slot = Some(found);
                }
                self.check_gates(now);
            }
            (Task::Failover { .. }, Ok(_)) => self.tell_machine(switchover::Event::FailoverAccepted, now),
            (Task::Failover { .. }, Err(LinkError::Redis(why))) => {
                self.tell_machine(switchover::Event::FailoverRefused(why), now);
            }
            (Task::Abort, Ok(_)) => self.tell_machine(switchover::Event::AbortAccepted, now),
            (Task::Abort, Err(LinkError::Redis(why))) => {
                self.tell_machine(switchover::Event::AbortRefused(why), now);
            }
            // What the node has done is not known; its reports and the machine's deadlines will tell.
            (Task::Duty(_), Ok(_)) => {}
            (task, Err(error)) => tracing::warn!(node = self.node_name(answer.node), ?task, %error, "no answer"),
        }
    }

    /// Checks the gates once both nodes have answered.
    fn check_gates(&mut self, now: Duration) {
        let Some(running) = &mut self.running else { return };
        let [Some(from), Some(to)] = &running.facts else { return };
        let Some(node) = self.config.nodes.get(running.to.index()) else { return };
        let target = gates::Target { host: node.host.clone(), port: node.port, max_lag_bytes: MAX_LAG_BYTES };
        let results = gates::check(from.as_ref().map_err(String::as_str), to.as_ref().map_err(String::as_str), &target);
        for (id, facts) in [(running.from, from), (running.to, to)] {
            if let Ok(facts) = facts {
                running.machine.handle_event(switchover::Event::Reported(id, facts.report.clone()), now);
            }
        }
        running.machine.handle_event(switchover::Event::GatesChecked(results), now);
    }

    pub(super) fn switchover_timeout(&mut self, now: Duration) {
        if let Some(running) = self.running.as_mut().filter(|running| running.waits()) {
            let rivals = running.rival.is_some_and(|due| due <= now);
            let again = running.again <= now;
            if again {
                running.again = now + AGAIN_EVERY;
            }
            if rivals {
                self.cancel_switchover("another process of the pair runs a switchover", now);
            } else if again {
                self.repeat_hold(now);
            }
        }
        if let Some(running) = &mut self.running
            && running.machine.poll_timeout().is_some_and(|due| due <= now)
        {
            running.machine.handle_timeout(now);
        }
    }

    pub(super) fn switchover_due(&self) -> Option<Duration> {
        let running = self.running.as_ref()?;
        let due = running.report_due.or(running.machine.poll_timeout());
        let more = [Some(running.again), running.rival].into_iter().flatten().filter(|_| running.waits()).min();
        due.into_iter().chain(more).min()
    }

    /// Shows the machine what the tables say, carries out its effects, and tells the operator how far it is.
    pub(super) fn drive_switchover(&mut self, now: Duration) {
        if self.running.is_none() {
            return;
        }
        self.show_losses(now);
        while let Some(effect) = self.running.as_mut().and_then(|running| running.machine.poll_effect()) {
            self.carry_out(effect, now);
        }
        self.tell_progress();
        let settled = self.changes.poll_timeout().is_none();
        let due = self.running.as_ref().and_then(|running| running.report_due);
        if due.is_some_and(|due| settled || due <= now) {
            self.report_switchover();
        }
    }

    fn show_losses(&mut self, now: Duration) {
        let Some(running) = &mut self.running else { return };
        for node in [running.from, running.to] {
            let reach = self.topology.node(node).map(|state| &state.reach);
            if matches!(reach, Some(Reach::Refused | Reach::Silent)) {
                running.machine.handle_event(switchover::Event::Lost(node), now);
            }
        }
        for peer in &running.peers {
            if !self.peers.is_present(peer, now) {
                running.machine.handle_event(switchover::Event::PeerLeft(PeerId(peer.clone())), now);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect, now: Duration) {
        let Some(running) = &mut self.running else { return };
        let (id, from, to) = (running.id, running.from, running.to);
        match effect {
            Effect::CheckGates => {
                self.send_errand(from, Task::Inspect, now);
                self.send_errand(to, Task::Inspect, now);
            }
            Effect::AnnounceHold { deadline } => self.announce(id, deadline, now),
            Effect::SendFailover { to, timeout } => self.send_failover(from, to, timeout, now),
            Effect::Nudge { replica } => self.nudge(replica, now + NUDGE_FOR),
            Effect::PollFast(fast) => {
                self.tight = fast;
                self.kick();
            }
            Effect::SendAbort => self.send_errand(from, Task::Abort, now),
            Effect::AnnounceRelease { switched } => {
                if running.announced {
                    self.say(Kind::Release { id, switched }, now);
                }
                let epoch = self.topology.view().epoch;
                let ended = self.holding.handle_release(id, switched, epoch, now);
                self.hold_ended(ended, now);
            }
            Effect::Done => running.report_due = Some(now + SETTLES_IN),
        }
    }

    fn announce(&mut self, id: u64, deadline: Duration, now: Duration) {
        let until = deadline.min(now + self.config.hold.time);
        let (me, epoch) = (self.me.instance.clone(), self.topology.view().epoch);
        let taken_over = !self.holding.begin(id, &me, until, epoch, now);
        let others = self.holding.current().is_some_and(|hold| hold.by == BY_SENTINEL.0) || self.is_sealed();
        if taken_over && (others || !self.holding.take_over(id, &me, until)) {
            return self.cancel_switchover("another process of the pair runs a switchover", now);
        }
        if let Some(running) = &mut self.running {
            (running.announced, running.again) = (true, now + AGAIN_EVERY);
        }
        let event = self.begin_event(None);
        self.enter_hold();
        // Our own workers first: they are the busiest way to the primary that we can stop without a message.
        self.publish_orders(now);
        let deadline_ms = crate::io::admin::whole_ms(until.saturating_sub(now));
        self.say(Kind::Hold { id, deadline_ms, event }, now);
        if taken_over && self.holding.is_quiet() {
            self.own_quiesced(now);
        }
    }

    fn send_failover(&mut self, from: NodeId, to: NodeId, timeout: Duration, now: Duration) {
        let Some(node) = self.config.nodes.get(to.index()) else { return };
        let target = gates::Target { host: node.host.clone(), port: node.port, max_lag_bytes: MAX_LAG_BYTES };
        let report = self.topology.node(from).and_then(|state| state.report.as_ref());
        let line = report.and_then(|report| gates::address(report, &target));
        let Some((host, port)) = line.map(|line| (line.ip.clone(), line.port)) else {
            let why = "the primary no longer shows the replica".to_owned();
            return self.tell_machine(switchover::Event::FailoverRefused(why), now);
        };
        if let Some(running) = &mut self.running {
            running.failover_sent = true;
        }
        self.send_errand(from, Task::Failover { host, port, timeout }, now);
    }

    fn send_errand(&mut self, node: NodeId, task: Task, now: Duration) {
        let Some(of) = self.running.as_ref().map(|running| running.id) else { return };
        let sent =
            self.reins.errands.get(node.index()).map(|errands| errands.try_send(Errand { of, task: task.clone() }));
        if matches!(sent, Some(Ok(()))) {
            return;
        }
        // Nothing was sent, so nothing was done: the same as a refusal.
        let why = "too many errands wait for this node".to_owned();
        match task {
            Task::Inspect | Task::Duty(_) => {}
            Task::Failover { .. } => self.tell_machine(switchover::Event::FailoverRefused(why), now),
            Task::Abort => self.tell_machine(switchover::Event::AbortRefused(why), now),
        }
    }

    /// Gates and steps as they come; what does not fit is in the report anyway, for which one place is kept free.
    fn tell_progress(&mut self) {
        let Some(running) = &mut self.running else { return };
        let gates =
            running.machine.gates().iter().skip(running.gates_told).map(|gate| Progress::Gate(gate_report(gate)));
        let steps =
            running.machine.steps().iter().skip(running.steps_told).map(|step| Progress::Step(step_report(step)));
        for progress in gates.chain(steps) {
            if running.progress.capacity() > 1 {
                let _ = running.progress.try_send(progress);
            }
        }
        running.gates_told = running.machine.gates().len();
        running.steps_told = running.machine.steps().len();
    }

    fn report_switchover(&mut self) {
        let Some(running) = self.running.take() else { return };
        self.tight = false;
        self.dirty = true;
        let Some(ended) = running.machine.outcome() else { return };
        let (outcome, name, stopped) = outcome(&ended.outcome);
        let epoch = self.topology.view().epoch.0;
        let felt = self.changes.newest().filter(|change| outcome == Outcome::Switched && change.epoch == epoch);
        let report = SwitchoverReport {
            outcome,
            from: Some(self.node_name(running.from)),
            to: Some(self.node_name(running.to)),
            stopped,
            gates: ended.gates.iter().map(gate_report).collect(),
            steps: ended.steps.iter().map(step_report).collect(),
            took_ms: ms(ended.took),
            longest_stall_ms: felt.and_then(|change| change.longest_stall_ms),
            held: felt.map(|change| change.held),
            peers: running.peers,
        };
        if let Some(name) = name {
            self.events.switchover(name);
        }
        self.enter_switchover(&report);
        if outcome == Outcome::Switched {
            let promoted = self.topology.node(running.to).and_then(|state| state.report.as_ref());
            self.reins.sentinel.send_replace(promoted.map(|report| report.run_id()));
        }
        match &report.stopped {
            Some(Stopped { step, why }) => tracing::warn!(step, why, "switchover not done"),
            None => {
                tracing::info!(took_ms = report.took_ms, longest_stall_ms = report.longest_stall_ms, "switchover over")
            }
        }
        // Whoever asked may have gone.
        let _ = running.progress.try_send(Progress::Report(report));
    }
}

/// As the API says it, as the metrics count it, and where it stopped.
fn outcome(outcome: &switchover::Outcome) -> (Outcome, Option<&'static str>, Option<Stopped>) {
    match outcome {
        switchover::Outcome::Switched { .. } => (Outcome::Switched, Some("switched"), None),
        switchover::Outcome::DryRun => (Outcome::DryRun, None, None),
        switchover::Outcome::Aborted { step, why } => {
            let stopped = Stopped { step: (*step).to_owned(), why: why.clone() };
            (Outcome::Aborted, Some("aborted"), Some(stopped))
        }
        switchover::Outcome::Refused { why } => {
            let stopped = Stopped { step: "gates".to_owned(), why: why.clone() };
            (Outcome::Refused, Some("refused"), Some(stopped))
        }
    }
}

fn gate_report(gate: &switchover::GateResult) -> GateReport {
    GateReport { name: gate.name.to_owned(), passed: gate.passed, detail: gate.detail.clone() }
}

fn step_report(step: &switchover::Step) -> StepReport {
    StepReport { name: step.name.to_owned(), at_ms: ms(step.at), took_ms: ms(step.took) }
}
