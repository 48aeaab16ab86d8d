//! The one owner: takes an event, applies it to everything that decides, publishes what follows from it.
//!
//! Nothing here waits: what must be waited for is done by tasks at the other ends of the [`Reins`], and comes back as an
//! event. What decides is pure and stands elsewhere ([`Topology`], [`Holding`], the switchover machine); this is the place
//! where they meet.
//!
//! ```text
//! Inbox --Event--> apply ----> Topology, Peers, Holding, Switchover, Changes
//!                    |                        | outputs
//!                    +--> carry_on <----------+
//!                            |
//!                            +--> Orders (workers), Door, Pace, nudges, errands, posts, memory, Status
//! ```
//!
//! Invariant: after each event, what was published agrees with what was decided; nobody else publishes.

mod coordinate;
mod enter;
mod failover;
mod follow;
mod leave;
mod pair;
mod receipts;
mod tell;
mod troubles;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::changes::Changes;
use super::diary::Diary;
use super::hands::{Errand, Task};
use super::holding::{Budget, Holding};
use super::inbox::{Event, Inbox};
use super::peers::Peers;
use super::seal::Seal;
use super::signals::Signal;
use crate::config::{Config, FailoverMode};
use crate::io::admin::AdminRequest;
use crate::io::admin::events::{Tail, What};
use crate::io::admin::status::Status;
use crate::io::lease::LeaseGate;
use crate::io::orders::{News, Orders};
use crate::io::probe::Pace;
use crate::io::pubsub::Post;
use crate::io::tripwire::Door;
use crate::io::{clock, notify};
use crate::metrics::events::Events;
use crate::metrics::worker::WorkerStats;
use crate::protocol::info::RunId;
use crate::session::Mark;
use crate::topology::failover::witness::Ask;
use crate::topology::{Failover, Memory, NodeId, Settings, Topology};

/// How often the status is published although nothing of weight has changed.
const STATUS_EVERY: Duration = Duration::from_millis(500);
/// The longest that the owner sleeps.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// What the owner holds in its hands: the near ends of every channel that leads to those who act.
#[derive(Debug)]
pub struct Reins {
    /// To the workers.
    pub orders: watch::Sender<Orders>,
    /// To the admin server.
    pub status: watch::Sender<Arc<Status>>,
    /// To the admin server: what happened.
    pub diary: watch::Sender<Tail>,
    /// To the probes.
    pub pace: watch::Sender<Pace>,
    /// To the tripwire.
    pub door: watch::Sender<Door>,
    /// To the keeper of the memory.
    pub memory: watch::Sender<Option<String>>,
    /// To each node's nudger.
    pub nudges: Vec<watch::Sender<Duration>>,
    /// To each node's publisher.
    pub posts: Vec<mpsc::Sender<Post>>,
    /// To those who carry out errands at each node.
    pub errands: Vec<mpsc::Sender<Errand>>,
    /// To the task that tells Sentinels: who was made primary by a switchover of ours.
    pub sentinel: watch::Sender<Option<RunId>>,
    /// To whoever asks the witness, if there is one.
    pub witness: Option<mpsc::Sender<Ask>>,
    /// To every worker: until when our node's replies count.
    pub lease: LeaseGate,
    /// What seals messages to the pair, as it was read last; `None`: nothing does.
    pub seal: Option<watch::Receiver<Arc<Seal>>>,
    /// To the task that reads certificates again.
    pub reload: mpsc::Sender<()>,
}

/// Who this process is on the pair's channel.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Another one for each start.
    pub instance: String,
    /// The node that it runs beside.
    pub node: Option<String>,
}

/// The owner.
#[derive(Debug)]
pub struct Owner {
    me: Identity,
    config: Arc<Config>,
    reins: Reins,
    stats: Vec<Arc<WorkerStats>>,
    events: Events,
    topology: Topology,
    peers: Peers,
    holding: Holding,
    /// For how long others may have us hold, without a secret.
    budget: Budget,
    distrust: trust::Distrust,
    changes: Changes,
    diary: Diary,
    running: Option<coordinate::Running>,
    leaving: Option<leave::Leaving>,
    failover: Option<Failover>,
    question: Option<failover::Question>,
    /// How many questions we have asked.
    asked: u64,
    told: Vec<troubles::Told>,
    receipts: receipts::Witness,
    view_since: Duration,
    /// A primary was named since the process began.
    served: bool,
    /// When the last ordered hold began and was ended by a view.
    announced: Option<(Duration, Duration)>,
    adopting: bool,
    tight: bool,
    seq: u64,
    /// The newest change or drain, as clients are told of it.
    event: u64,
    presence_due: Duration,
    /// When we have last answered somebody who had not proved itself.
    greeted: Duration,
    status_due: Duration,
    watchdog: Option<Duration>,
    watchdog_due: Duration,
    dirty: bool,
}

impl Owner {
    /// An owner that has heard nothing yet.
    pub fn new(
        me: Identity,
        config: Arc<Config>,
        reins: Reins,
        stats: Vec<Arc<WorkerStats>>,
        events: Events,
        memory: Option<Memory>,
        now: Duration,
    ) -> Self {
        let nodes = config.nodes.iter().map(|node| format!("{}:{}", node.host, node.port)).collect();
        let silent_after = config.probe.deadline;
        let silent_for = if config.failover.mode == FailoverMode::None { config.hold.time } else { Duration::ZERO };
        let settings = Settings { nodes, silent_after, silent_for: silent_for.max(silent_after) };
        trust::announce(&config);
        let mut owner = Self {
            budget: Budget::new(config.hold.time.min(trust::UNSEALED_HOLD), now),
            distrust: trust::Distrust::default(),
            asked: 0,
            failover: failover::machine(&config, now),
            question: None,
            told: config.nodes.iter().map(|_| troubles::Told::default()).collect(),
            peers: Peers::new(me.instance.clone()),
            topology: Topology::new(settings, memory, now),
            holding: Holding::new(config.workers),
            me,
            config,
            reins,
            stats,
            events,
            changes: Changes::default(),
            diary: Diary::default(),
            running: None,
            leaving: None,
            receipts: receipts::Witness::default(),
            view_since: now,
            served: false,
            announced: None,
            adopting: false,
            tight: false,
            seq: 0,
            event: 0,
            presence_due: now,
            greeted: Duration::ZERO,
            status_due: now,
            watchdog: notify::watchdog_every(),
            watchdog_due: now,
            dirty: true,
        };
        owner.carry_on(now);
        owner
    }

    /// Owns until it is time to end.
    pub async fn run(mut self, mut inbox: Inbox) {
        loop {
            let deadline = self.poll_timeout(clock::now());
            let event = inbox.next(deadline).await;
            let now = clock::now();
            if self.apply(event, now) {
                self.farewell(now);
                return;
            }
        }
    }

    /// Applies one event and all that is due. True when the process shall end.
    pub fn apply(&mut self, event: Event, now: Duration) -> bool {
        match event {
            Event::Sighting(sighting) => self.handle_sighting(*sighting, now),
            Event::News(news) => self.handle_news(news, now),
            Event::Word(word) => self.handle_word(word, now),
            Event::Request(request) => self.handle_request(request, now),
            Event::Answer(answer) if matches!(answer.errand.task, Task::Duty(_)) => self.handle_duty(answer, now),
            Event::Answer(answer) => self.handle_answer(answer, now),
            Event::Witness(answer) => self.handle_witness(answer, now),
            Event::Sentinel(news) => self.handle_sentinel(news, now),
            Event::Signal(Signal::Leave) => self.leave_by_signal(now),
            Event::Signal(Signal::Reload) => self.reload(),
            Event::Reloaded(result) => self.handle_reloaded(result),
            Event::Tick => {}
        }
        self.handle_timeout(now);
        self.carry_on(now);
        self.is_over(now)
    }

    fn handle_news(&mut self, news: News, now: Duration) {
        match news {
            News::Refused { node, .. } => self.handle_refused(node, now),
            // The probes have connections of their own and will say what it means; only ask them now.
            News::UpstreamLost { .. } => self.kick(),
            News::Quiesced { worker, hold } => {
                if self.holding.handle_quiesced(worker, hold) {
                    self.handle_quiet(now);
                }
            }
            News::Resumed { longest, held, .. } => {
                let felt = self.changes.handle_resumed(longest, held);
                self.felt(felt);
                self.dirty = true;
            }
            News::Drained { worker, drain, tally } => self.handle_drained(worker, drain, tally, now),
            News::Listening => self.handle_listening(now),
        }
    }

    fn handle_request(&mut self, request: AdminRequest, now: Duration) {
        match request {
            AdminRequest::Switchover { order, progress } => self.begin_switchover(&order, progress, now),
            AdminRequest::Drain { stop, reply } => {
                self.leave("an operator", stop, now);
                // Nobody may be waiting for the answer any more.
                let _ = reply.send(
                    self.drain_status(now).ok_or_else(|| crate::io::admin::Refused::because("the process is ending")),
                );
            }
            AdminRequest::Undrain { reply } => {
                let _ = reply.send(self.undrain(now));
            }
            AdminRequest::Adopt { node, reply } => {
                let _ = reply.send(self.adopt(&node, now));
            }
        }
    }

    fn handle_timeout(&mut self, now: Duration) {
        if self.topology.poll_timeout().is_some_and(|due| due <= now) {
            self.topology.handle_timeout(now);
        }
        let ended = self.holding.handle_timeout(now);
        self.hold_ended(ended, now);
        let felt = self.changes.handle_timeout(now);
        self.felt(felt);
        self.switchover_timeout(now);
        if self.presence_due <= now {
            self.say_presence(now);
        }
        if self.watchdog.is_some() && self.watchdog_due <= now {
            notify::watchdog();
            self.watchdog_due = now + self.watchdog.unwrap_or(LONGEST_SLEEP);
        }
    }

    /// When [`Event::Tick`] is due at the latest.
    fn poll_timeout(&self, now: Duration) -> Duration {
        let dues = [
            self.topology.poll_timeout(),
            self.holding.poll_timeout(),
            self.changes.poll_timeout(),
            self.switchover_due(),
            self.leaving_due(now),
            self.failover.as_ref().and_then(Failover::poll_timeout),
            Some(self.presence_due),
            Some(self.status_due),
            self.watchdog.map(|_| self.watchdog_due),
        ];
        dues.into_iter().flatten().fold(now + LONGEST_SLEEP, Duration::min)
    }

    /// Publishes whatever follows from what was decided.
    fn carry_on(&mut self, now: Duration) {
        // One may follow from another: a view ends a hold, a hold's end goes on in the machine.
        self.follow(now);
        self.drive_switchover(now);
        self.follow(now);
        self.drive_failover(now);
        self.publish_orders(now);
        self.publish_pace();
        if self.dirty || self.status_due <= now {
            self.publish_status(now);
            self.status_due = now + STATUS_EVERY;
            self.dirty = false;
        }
    }

    fn publish_orders(&mut self, now: Duration) {
        let drain = self.leaving.as_mut().and_then(|leaving| leaving.orders(now));
        let replica = self.replica_there(now);
        let view = self.topology.view();
        let suspended = self.failover.as_ref().is_some_and(Failover::suspends);
        let primary = view.primary.as_ref().ok().copied();
        let followed = self.topology.followed().filter(|followed| followed.node == primary);
        let orders = Orders {
            mark: primary.zip(followed).map(|(node, followed)| Mark::new(node.0, &followed.run_id.0)),
            epoch: view.epoch,
            // A node whose replica may have been promoted unseen is not served, but still watched.
            primary: primary.filter(|_| !suspended),
            given_up: view.given_up,
            replica,
            hold: self.holding.orders(),
            elsewhere: drain.map(|_| self.elsewhere(now)).unwrap_or_default(),
            drain,
            event: self.event,
            refuse: self.refuses(now),
            lease: self.reins.lease.clone(),
        };
        let door = Door { epoch: orders.epoch, primary };
        self.dirty |= self.reins.orders.send_if_modified(|old| replace(old, orders));
        self.reins.door.send_if_modified(|old| replace(old, door));
    }

    fn publish_pace(&mut self) {
        let interval = if self.tight {
            crate::io::nudge::EVERY
        } else if self.topology.unsettled() || self.holding.current().is_some() {
            self.config.probe.fast_interval
        } else {
            self.config.probe.interval
        };
        self.reins.pace.send_if_modified(|pace| std::mem::replace(&mut pace.interval, interval) != interval);
    }

    /// Has every node asked now.
    fn kick(&mut self) {
        self.reins.pace.send_modify(|pace| pace.kick = pace.kick.wrapping_add(1));
    }

    fn node_name(&self, node: NodeId) -> String {
        self.config.nodes.get(node.index()).map_or_else(|| format!("node {}", node.0), |node| node.name.clone())
    }

    fn node_named(&self, name: &str) -> Option<NodeId> {
        let at = self.config.nodes.iter().position(|node| node.name == name)?;
        u8::try_from(at).ok().map(NodeId)
    }

    fn reload(&mut self) {
        notify::reloading();
        if self.reins.reload.try_send(()).is_err() {
            tracing::warn!("a reload is under way already");
        }
    }

    fn handle_reloaded(&mut self, result: Result<(), String>) {
        self.events.reload(result.is_ok());
        self.enter(What::Reloaded { error: result.clone().err() });
        match result {
            Ok(()) => tracing::info!("certificates and passwords were read again; new connections use them"),
            Err(error) => tracing::error!(%error, "reload refused; what was in force stays"),
        }
        notify::ready(&self.headline());
    }
}

/// Replaces a watched value; false if it is the same.
fn replace<T: PartialEq>(old: &mut T, new: T) -> bool {
    let changed = *old != new;
    if changed {
        *old = new;
    }
    changed
}
