//! Puts the control plane together: the owner, its inbox, and the tasks at the far ends of its reins.
//!
//! It wires and starts; it decides nothing. Every task that is started here ends when the owner has gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::advice;
use super::channel::MAX_MESSAGE;
use super::inbox::{Inbox, QUEUE};
use super::owner::{Identity, Owner, Reins};
use super::seal::Seal;
use super::signals::Signals;
use super::{hands, keeper, spawn};
use crate::config::Config;
use crate::io::admin::AdminHandle;
use crate::io::admin::events::Tail;
use crate::io::admin::examination::Look;
use crate::io::admin::hooks::HookAsked;
use crate::io::admin::status::Status;
use crate::io::client::Target;
use crate::io::lease::LeaseGate;
use crate::io::orders::{Elsewhere, News, Orders};
use crate::io::probe::{self, Pace};
use crate::io::state_file::StateFile;
use crate::io::tripwire::{self, Door};
use crate::io::witness::{self, Asker};
use crate::io::{clock, nudge, pubsub, sentinel};
use crate::metrics::events::Events;
use crate::metrics::worker::WorkerStats;
use crate::protocol::info::RunId;
use crate::protocol::sentinel::SentinelNews;
use crate::topology::failover::NoAnswer;
use crate::topology::failover::witness::{Answer, Ask};
use crate::topology::{Epoch, Memory, NodeId};

/// How long the last words may take to leave.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long the last memory may take to reach the disk.
const LAST_SAVE: Duration = Duration::from_secs(1);
/// Looks at the nodes, and questions about hooks, that may wait; further ones are refused.
const LOOKS: usize = 4;

/// A control plane that is ready to run.
#[derive(Debug)]
pub struct Plane {
    me: Identity,
    config: Arc<Config>,
    targets: Vec<Target>,
    sentinels: Vec<Target>,
    witness: Option<Asker>,
    stats: Vec<Arc<WorkerStats>>,
    memory: Option<Memory>,
    file: StateFile,
    orders: watch::Sender<Orders>,
    status: watch::Sender<Arc<Status>>,
    diary: watch::Sender<Tail>,
    requests: mpsc::Sender<crate::io::admin::AdminRequest>,
    requests_rx: mpsc::Receiver<crate::io::admin::AdminRequest>,
    looks: (mpsc::Sender<Look>, mpsc::Receiver<Look>),
    hooks: (mpsc::Sender<HookAsked>, mpsc::Receiver<HookAsked>),
    seal: Option<Arc<watch::Sender<Arc<Seal>>>>,
}

impl Plane {
    /// Reads the memory and makes the channels; starts nothing.
    pub fn prepare(
        config: &Arc<Config>,
        targets: &[Target],
        sentinels: Vec<Target>,
        witness: Option<Asker>,
        stats: Vec<Arc<WorkerStats>>,
    ) -> Self {
        let node = config.self_node.and_then(|at| config.nodes.get(at)).map(|node| node.name.clone());
        let file = state_file(config, node.as_deref());
        let memory = recall(&file);
        let lease = LeaseGate::new(config.self_node.and_then(|at| u8::try_from(at).ok()).map(NodeId));
        let orders = Orders {
            epoch: Epoch(0),
            primary: None,
            mark: None,
            given_up: Epoch(0),
            refuse: None,
            replica: true,
            hold: None,
            drain: None,
            lease,
            elsewhere: Elsewhere::Nowhere,
            event: 0,
        };
        let (requests, requests_rx) = mpsc::channel(QUEUE);
        let seal = config.channel_secret.as_ref().map(|secret| Seal::new(secret, &config.channel));
        Self {
            me: Identity { instance: instance(node.as_deref()), node },
            config: Arc::clone(config),
            targets: targets.to_vec(),
            sentinels,
            witness,
            stats,
            memory,
            file,
            orders: watch::Sender::new(orders),
            status: watch::Sender::new(Arc::default()),
            diary: watch::Sender::new(Tail::default()),
            requests,
            requests_rx,
            looks: mpsc::channel(LOOKS),
            hooks: mpsc::channel(LOOKS),
            seal: seal.map(|seal| Arc::new(watch::Sender::new(Arc::new(seal)))),
        }
    }

    /// For the workers. Their sign to end is that the sender is gone.
    pub fn orders(&self) -> watch::Receiver<Orders> {
        self.orders.subscribe()
    }

    /// Where another seal comes from, if messages to the pair are sealed at all.
    pub fn seal(&self) -> Option<Arc<watch::Sender<Arc<Seal>>>> {
        self.seal.clone()
    }

    /// For the admin server.
    pub fn admin(&self) -> AdminHandle {
        AdminHandle {
            requests: self.requests.clone(),
            status: self.status.subscribe(),
            events: self.diary.subscribe(),
            looks: self.looks.0.clone(),
            hooks: self.hooks.0.clone(),
        }
    }

    /// Owns until it is time to end. `reload` reads the certificates again; it may block.
    pub async fn run<R>(self, news: mpsc::Receiver<News>, signals: Option<Signals>, reload: R)
    where
        R: Fn() -> Result<(), String> + Clone + Send + 'static,
    {
        let Self {
            me,
            config,
            targets,
            sentinels: ears,
            witness,
            stats,
            memory,
            file,
            orders,
            status,
            diary,
            requests,
            requests_rx,
            looks,
            hooks,
            seal,
        } = self;
        drop(requests);
        let limit = config.probe.deadline;
        let (pace, pace_rx) = watch::channel(Pace { interval: config.probe.interval, kick: 0 });
        let (door, door_rx) = watch::channel(Door::default());
        let (kept, kept_rx) = watch::channel(None);
        let (reload_tx, reload_rx) = mpsc::channel(1);
        let (sightings_tx, sightings) = mpsc::channel(QUEUE);
        let (words_tx, words) = mpsc::channel(QUEUE);
        let (answers_tx, answers) = mpsc::channel(QUEUE);
        let (reloads_tx, reloads) = mpsc::channel(1);

        // These end when their senders, or the receivers of what they send, are gone.
        let mut tasks = vec![
            spawn(tripwire::watch(targets.clone(), limit, door_rx, sightings_tx.clone())),
            spawn(advice::look_when_asked(Arc::clone(&config), targets.clone(), looks.1)),
            spawn(super::hooks::run_when_asked(Arc::clone(&config), hooks.1)),
            spawn(reload_on_demand(reload_rx, reloads_tx, reload)),
        ];
        let (mut nudges, mut posts, mut errands, mut last_words) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let far = FarEnds { pace: pace_rx, sightings: sightings_tx, words: words_tx, answers: answers_tx };
        for target in &targets {
            let near = tend(target, &targets, &config, &far, &mut tasks);
            nudges.push(near.nudge);
            posts.push(near.post);
            errands.push(near.errands);
            last_words.push(near.last_words);
        }
        let events = Events::new(config.nodes.iter().map(|node| node.name.clone()).collect());
        let (sentinel, sentinels) = hear_sentinels(&config, ears, &mut tasks);
        let (asks, witness) = ask_witness(witness, &mut tasks);
        let keeper = spawn(keeper::keep(file, kept_rx, events.clone()));

        let lease = orders.borrow().lease.clone();
        let reins = Reins {
            orders,
            status,
            diary,
            pace,
            door,
            memory: kept,
            nudges,
            posts,
            errands,
            sentinel,
            witness: asks,
            lease,
            seal: seal.map(|seal| seal.subscribe()),
            reload: reload_tx,
        };
        let inbox =
            Inbox { sightings, news, words, requests: requests_rx, answers, sentinels, witness, reloads, signals };
        Owner::new(me, config, reins, stats, events, memory, clock::now()).run(inbox).await;
        wind_up(tasks, last_words, keeper).await;
    }
}

/// Where those who tend a node send what they find, and what paces them.
struct FarEnds {
    pace: watch::Receiver<Pace>,
    sightings: mpsc::Sender<probe::Sighting>,
    words: mpsc::Sender<pubsub::Word>,
    answers: mpsc::Sender<hands::Answer>,
}

/// The reins of one node.
struct NearEnds {
    nudge: watch::Sender<Duration>,
    post: mpsc::Sender<pubsub::Post>,
    errands: mpsc::Sender<hands::Errand>,
    last_words: JoinHandle<()>,
}

/// Starts everything that looks at one node, speaks there, and carries out what is ordered there.
fn tend(
    target: &Target,
    targets: &[Target],
    config: &Config,
    far: &FarEnds,
    tasks: &mut Vec<JoinHandle<()>>,
) -> NearEnds {
    let limit = config.probe.deadline;
    let (nudge, until) = watch::channel(Duration::ZERO);
    let (post, posts) = mpsc::channel(pubsub::QUEUE);
    let (errands, errand) = mpsc::channel(hands::QUEUE);
    let channel = || config.channel.clone();
    let other = targets.iter().find(|other| other.node != target.node).cloned();
    // Only its own proxy can read a node's files.
    let saved = (config.self_node == Some(target.node.index())).then(|| config.state_dir.join("saved"));
    tasks.push(spawn(probe::watch(target.clone(), config.probe, far.pace.clone(), far.sightings.clone())));
    tasks.push(spawn(nudge::nudge(target.clone(), limit, until)));
    tasks.push(spawn(hands::carry_out(target.clone(), other, saved, limit, errand, far.answers.clone())));
    tasks.push(spawn(pubsub::listen(target.clone(), limit, channel(), MAX_MESSAGE, far.words.clone())));
    let last_words = spawn(pubsub::publish(target.clone(), limit, channel(), posts));
    NearEnds { nudge, post, errands, last_words }
}

/// Where Sentinels are told of our switchovers, and where what they say comes.
fn hear_sentinels(
    config: &Config,
    ears: Vec<Target>,
    tasks: &mut Vec<JoinHandle<()>>,
) -> (watch::Sender<Option<RunId>>, mpsc::Receiver<SentinelNews>) {
    let (out, heard) = mpsc::channel(QUEUE);
    let (tell, switched) = watch::channel(None);
    let (limit, name) = (config.probe.deadline, || config.sentinels.name.clone());
    for target in ears.iter().cloned() {
        tasks.push(spawn(sentinel::listen(target, limit, name(), out.clone())));
    }
    tasks.push(spawn(sentinel::tell(ears, limit, name(), switched)));
    (tell, heard)
}

/// Whom to give questions for the witness to, if there is one, and where its answers come.
fn ask_witness(
    asker: Option<Asker>,
    tasks: &mut Vec<JoinHandle<()>>,
) -> (Option<mpsc::Sender<Ask>>, mpsc::Receiver<Result<Answer, NoAnswer>>) {
    let (out, answers) = mpsc::channel(QUEUE);
    let asks = asker.map(|asker| {
        let (asks, asked) = mpsc::channel(1);
        tasks.push(spawn(witness::ask(asker, asked, out)));
        asks
    });
    (asks, answers)
}

/// Lets the last words and the last memory out, and ends everything else.
async fn wind_up(tasks: Vec<JoinHandle<()>>, last_words: Vec<JoinHandle<()>>, keeper: JoinHandle<()>) {
    for task in &tasks {
        task.abort();
    }
    let (words_due, save_due) = (clock::now() + LAST_WORDS, clock::now() + LAST_SAVE);
    for mut task in last_words {
        if tokio::time::timeout_at(clock::instant(words_due), &mut task).await.is_err() {
            task.abort();
        }
    }
    if tokio::time::timeout_at(clock::instant(save_due), keeper).await.is_err() {
        tracing::warn!("the memory of who was primary could not be saved before the end");
    }
}

async fn reload_on_demand<R>(mut demands: mpsc::Receiver<()>, out: mpsc::Sender<Result<(), String>>, reload: R)
where
    R: Fn() -> Result<(), String> + Clone + Send + 'static,
{
    while demands.recv().await.is_some() {
        let result = tokio::task::spawn_blocking(reload.clone()).await.unwrap_or_else(|error| Err(error.to_string()));
        if out.send(result).await.is_err() {
            return;
        }
    }
}

/// The file is named after the pair, not after our address: a process that listens elsewhere still remembers.
fn state_file(config: &Config, node: Option<&str>) -> StateFile {
    let nodes: Vec<_> = config.nodes.iter().map(|node| format!("{}-{}", node.host, node.port)).collect();
    StateFile::new(&config.state_dir, &format!("{}@{}", node.unwrap_or("any"), nodes.join("+")))
}

/// What was remembered. What cannot be read is set aside, not believed, and not fatal: a node that does not serve
/// after its reboot is worse than one that asks the nodes afresh.
fn recall(file: &StateFile) -> Option<Memory> {
    let path = file.path().display().to_string();
    if let Err(error) = file.prepare() {
        tracing::warn!(file = path, %error, "the memory of who was primary cannot be kept there");
    }
    let error = match file.load() {
        Ok(None) => return None,
        Ok(Some(text)) => match Memory::from_text(&text) {
            Ok(memory) => return Some(memory),
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    let aside = file.set_aside().map_or_else(|error| error.to_string(), |path| path.display().to_string());
    tracing::error!(file = path, error, aside, "the memory of who was primary is unreadable; starting without it");
    None
}

/// A name that no other process has had: the node's, and a random part.
fn instance(node: Option<&str>) -> String {
    let mut random = [0_u8; 4];
    let number = match getrandom::fill(&mut random) {
        Ok(()) => u32::from_le_bytes(random),
        // Without randomness, the process and the time have to do.
        Err(_) => std::process::id() ^ u32::try_from(clock::unix_millis() & 0xffff_ffff).unwrap_or(0),
    };
    let node: String =
        node.unwrap_or("proxy").chars().filter(char::is_ascii_graphic).take(super::channel::MAX_NAME - 16).collect();
    format!("{node}-{number:08x}")
}
