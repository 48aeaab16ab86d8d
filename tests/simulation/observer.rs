//! One proxy's control side in the simulation: probes with delays, losses and reordering, a memory, and the promises
//! that are checked at every view.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use changeover::protocol::info::{FailoverState, PrimaryLink, ReplId, ReplicationInfo, RunId, ServerInfo, WireRole};
use changeover::topology::primary::Settings;
use changeover::topology::{Evidence, Gone, Memory, NodeId, NodeReport, Output, Topology, View};

use crate::random::Random;
use crate::redis::Server;

const SILENT_AFTER: u64 = 1000;

/// What only the simulation knows about a report.
#[derive(Clone, Debug)]
struct Truth {
    run: u64,
    primary: bool,
    unbroken: bool,
    data: Rc<Vec<u32>>,
}

#[derive(Debug)]
enum Mail {
    /// A question on its way to a node.
    Ask { asked: u64 },
    /// An answer, or what came instead, on its way back.
    Answer(Box<Evidence>, Option<Truth>),
}

/// One proxy.
pub(crate) struct Observer {
    pub(crate) topology: Topology,
    memory: Option<Memory>,
    mail: Vec<(u64, usize, Mail)>,
    asked: [u64; 2],
    truths: [VecDeque<(Duration, Truth)>; 2],
    /// The writes that the primary in service is known to have had.
    seen: Rc<Vec<u32>>,
    last: View,
    pub(crate) named: u64,
}

impl Observer {
    pub(crate) fn new() -> Self {
        let topology = Topology::new(settings(), None, Duration::ZERO);
        Self {
            last: topology.view().clone(),
            topology,
            memory: None,
            mail: Vec::new(),
            asked: [0; 2],
            truths: [VecDeque::new(), VecDeque::new()],
            seen: Rc::default(),
            named: 0,
        }
    }

    /// The process restarts, with what it had written down.
    pub(crate) fn restart(&mut self, now: u64) {
        let memory = self.memory.as_ref().map(|memory| Memory::from_text(&memory.to_text()).unwrap());
        self.topology = Topology::new(settings(), memory, Duration::from_millis(now));
        self.mail.clear();
        let view = self.topology.view();
        assert!(view.epoch >= self.last.epoch, "the epoch went back over a restart");
        self.last = view.clone();
    }

    /// A node of which an end of file or a demotion can be felt.
    pub(crate) fn feel(&mut self, node: usize, evidence: Evidence, now: u64, random: &mut Random) {
        self.mail.push((now + random.below(5), node, Mail::Answer(Box::new(evidence), None)));
    }

    /// One millisecond. Returns the node that was named in it and whose data are whole.
    pub(crate) fn step(
        &mut self,
        now: u64,
        servers: &[Server; 2],
        quiet: bool,
        random: &mut Random,
    ) -> Result<Option<u64>, String> {
        let interval = if self.topology.unsettled() { 20 } else { 100 };
        for node in 0..2 {
            if now >= self.asked[node] + interval {
                self.asked[node] = now;
                if quiet || !random.percent(3) {
                    self.mail.push((now + delay(quiet, random), node, Mail::Ask { asked: now }));
                }
            }
        }
        let mut whole = None;
        for (_, node, mail) in self.due(now) {
            match mail {
                Mail::Ask { asked } => self.asked(node, &servers[node], asked, now, quiet, random),
                Mail::Answer(evidence, truth) => {
                    if let (Evidence::Report(report), Some(truth)) = (&*evidence, truth) {
                        self.truths[node].push_back((report.asked_at, truth));
                        if self.truths[node].len() > 64 {
                            self.truths[node].pop_front();
                        }
                    }
                    let id = NodeId(u8::try_from(node).unwrap());
                    self.topology.handle_evidence(id, *evidence, Duration::from_millis(now));
                    whole = self.check()?.or(whole);
                }
            }
        }
        if self.topology.poll_timeout().is_some_and(|due| due <= Duration::from_millis(now)) {
            self.topology.handle_timeout(Duration::from_millis(now));
            whole = self.check()?.or(whole);
        }
        Ok(whole)
    }

    fn due(&mut self, now: u64) -> Vec<(u64, usize, Mail)> {
        let mut due = Vec::new();
        let mut at = 0;
        while at < self.mail.len() {
            if self.mail[at].0 <= now { due.push(self.mail.swap_remove(at)) } else { at += 1 }
        }
        due
    }

    fn asked(&mut self, node: usize, server: &Server, asked: u64, now: u64, quiet: bool, random: &mut Random) {
        let back = now + delay(quiet, random);
        if !server.alive {
            // (A refusal is never overtaken: the next question is asked after it.)
            self.mail.push((now, node, Mail::Answer(Box::new(Evidence::Gone(Gone::Refused)), None)));
        } else if server.frozen {
            // It waits in the socket until the node wakes, or until the deadline.
            let mail = if now >= asked + SILENT_AFTER {
                Mail::Answer(Box::new(Evidence::Silent), None)
            } else {
                Mail::Ask { asked }
            };
            self.mail.push((now + 20, node, mail));
        } else {
            let truth = Truth {
                run: server.run,
                primary: server.primary,
                unbroken: server.unbroken,
                data: Rc::clone(&server.data),
            };
            let report = report(server, Duration::from_millis(asked));
            self.mail.push((back, node, Mail::Answer(Box::new(Evidence::Report(report)), Some(truth))));
        }
    }

    /// Looks at everything that the rule has put out, and holds it to its promises.
    fn check(&mut self) -> Result<Option<u64>, String> {
        let mut whole = None;
        while let Some(output) = self.topology.poll_output() {
            match output {
                Output::Remember(memory) => self.memory = Some(memory),
                Output::View(view) => whole = self.check_view(view)?.or(whole),
                _ => {}
            }
        }
        if let Ok(node) = self.topology.view().primary
            && let Some(truth) = self.truth(node)
            && truth.primary
        {
            self.seen = truth.data;
        }
        Ok(whole)
    }

    fn check_view(&mut self, view: View) -> Result<Option<u64>, String> {
        let last = std::mem::replace(&mut self.last, view.clone());
        if view.epoch < last.epoch || view.given_up < last.given_up {
            return Err(format!("went back: {last:?} to {view:?}"));
        }
        let Ok(node) = view.primary else { return Ok(None) };
        if view.epoch <= view.given_up {
            return Err(format!("named and given up: {view:?}"));
        }
        if view.epoch == last.epoch {
            let same = last.primary == view.primary;
            return if same { Ok(None) } else { Err(format!("a name without an epoch: {last:?} to {view:?}")) };
        }
        self.named += 1;
        if self.memory.as_ref().is_none_or(|memory| memory.epoch < view.epoch) {
            return Err("a view was published before it was remembered".into());
        }
        let truth = self.truth(node).ok_or("named without a report")?;
        if !truth.primary {
            return Err(format!("named {node:?}, which said that it is a replica"));
        }
        let missing = self.seen.iter().filter(|write| !truth.data.contains(write)).count();
        if missing > 0 && !truth.unbroken {
            let (seen, has) = (self.seen.len(), truth.data.len());
            return Err(format!("named {node:?}, which came back with {has} writes of {seen} seen; {missing} missing"));
        }
        Ok((missing == 0).then_some(truth.run))
    }

    /// What the report said that counts for this node.
    fn truth(&self, node: NodeId) -> Option<Truth> {
        let asked = self.topology.node(node)?.report.as_ref()?.asked_at;
        let truths = &self.truths[node.index()];
        truths.iter().rev().find(|(at, _)| *at == asked).map(|(_, truth)| truth.clone())
    }
}

fn settings() -> Settings {
    let silent_after = Duration::from_millis(SILENT_AFTER);
    Settings { nodes: vec!["a".into(), "b".into()], silent_after, silent_for: 3 * silent_after }
}

fn delay(quiet: bool, random: &mut Random) -> u64 {
    match random.below(10) {
        0 if !quiet => random.below(120),
        _ => random.below(3),
    }
}

fn forty(number: u64) -> [u8; 40] {
    let mut digits = [b'0'; 40];
    digits[..8].copy_from_slice(&number.to_be_bytes().map(|byte| b'a' + byte % 26));
    digits[8..16].copy_from_slice(&number.to_be_bytes().map(|byte| b'a' + byte / 26));
    digits
}

fn report(server: &Server, asked_at: Duration) -> NodeReport {
    NodeReport {
        server: ServerInfo {
            run_id: RunId(forty(server.run)),
            version: "7.0.15".into(),
            valkey: None,
            shutdown_in_ms: None,
        },
        replication: ReplicationInfo {
            role: if server.primary { WireRole::Master } else { WireRole::Slave },
            replid: ReplId(forty(server.id)),
            replid2: server.id2.map(|id| ReplId(forty(id))),
            offset: server.offset,
            second_offset: server.fork,
            failover: if server.in_progress { FailoverState::InProgress } else { FailoverState::None },
            replicas: Vec::new(),
            primary_link: (!server.primary).then(|| PrimaryLink {
                host: "peer".into(),
                port: 7001,
                up: server.link_up,
                sync_in_progress: false,
                slave_repl_offset: server.offset,
                last_io_seconds: Some(0),
            }),
        },
        loading: None,
        asked_at,
    }
}
