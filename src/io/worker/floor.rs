//! The listener and the threads: accepts, balances, and hands sockets over.
//!
//! The first worker accepts for all of them, and gives each socket to the worker with the fewest conversations, so that
//! few connections are balanced too; one that it keeps costs no hand-over. Under a drain it accepts until the kernel's
//! queue is empty and only then closes the listener: nobody who has connected is reset. It opens the same address again
//! when the drain is taken back.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::config::{Config, TcpTimes};
use crate::metrics::worker::{Counter, Gauge, WorkerStats};
use crate::protocol::request;
use crate::session::{Receipts, Settings};

use super::dictionary::Dictionary;
use super::leaving::Unnoticed;
use super::marker::Markers;
use super::proof::Prover;
use super::unblock::Unblocker;
use super::{Hints, Limits, Pool, Target, Worker};
use crate::io::client::find_dead_peers;
use crate::io::files::OpenFiles;
use crate::io::orders::{Drain, News, Orders};
use crate::io::register::Register;
use crate::io::tls::ServerSide;
use crate::topology::node::NodeId;

/// Sockets on their way to one worker.
const HANDOVER: usize = 1024;
/// Clients that may wait for `accept` in the kernel.
const BACKLOG: i32 = 4096;
/// The kernel's queue is empty when nobody has come for this long.
const QUEUE_EMPTY: std::time::Duration = std::time::Duration::from_millis(20);
/// What one read may take.
const SCRATCH: usize = 64 * 1024;

/// What the listener has for a worker.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A client.
    Client(Guest),
    /// There are too many connections: it is turned away.
    Unwelcome(Guest),
    /// The listener is closed under this drain: nobody else comes.
    Nobody {
        /// Which drain.
        drain: u64,
    },
}

/// A client's socket, which does not block.
#[derive(Debug)]
pub(in crate::io) enum Guest {
    /// Accepted by this thread.
    Here(TcpStream),
    /// On its way from the thread that accepted it.
    Moved(std::net::TcpStream),
}

/// The running threads.
#[derive(Debug)]
pub struct Workers {
    /// Where clients connect (with the port that the system chose, if it was 0).
    pub local_addr: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Waits for every thread to end. Blocks.
    pub fn join(self) {
        for thread in self.threads {
            let _panicked = thread.join();
        }
    }
}

/// Opens the listener and starts the threads.
///
/// # Errors
/// When the address cannot be bound or a thread cannot be started.
pub fn start(
    config: &Config,
    tls: &Arc<ServerSide>,
    targets: &[Target],
    orders: &watch::Receiver<Orders>,
    news: &mpsc::Sender<News>,
    stats: &[Arc<WorkerStats>],
) -> io::Result<Workers> {
    let listener = listen(config.listen, config.tcp)?;
    let local_addr = listener.local_addr()?;
    let channels: Vec<_> = stats.iter().map(|stats| (mpsc::channel(HANDOVER), Arc::clone(stats))).collect();
    let doors = channels.iter().map(|((door, _), stats)| (door.clone(), Arc::clone(stats))).collect();
    let limit = u64::try_from(config.limits.connections).unwrap_or(u64::MAX);
    let mut entrance = Some(Entrance { listener, doors, limit, times: config.tcp });
    let register = Arc::new(Register::default());
    let mut threads = Vec::new();
    let unnoticed = Arc::<Unnoticed>::default();
    let client_limits = Arc::new(super::limits::ClientLimits::new(targets.len()));
    for (index, ((_, sockets), stats)) in channels.into_iter().enumerate() {
        let seed = Seed {
            index,
            settings: settings(config),
            limits: Limits {
                hold: config.hold,
                handshake: config.limits.handshake,
                keep: config.limits.keep,
                idle: config.limits.idle,
                upstream: config.upstream,
                idle_upstreams: OpenFiles::look().idle(config.workers),
            },
            targets: targets.to_vec(),
            tls: Arc::clone(tls),
            orders: orders.clone(),
            news: news.clone(),
            stats,
            unnoticed: Arc::clone(&unnoticed),
            client_limits: Arc::clone(&client_limits),
            hints: hints(config),
            register: Arc::clone(&register),
            markers: format!(
                "{}:{:x}-{}-{index}:",
                config.channel,
                crate::io::clock::unix_millis(),
                std::process::id()
            )
            .into_bytes(),
            entrance: entrance.take(),
        };
        let name = format!("worker-{index}");
        threads.push(std::thread::Builder::new().name(name).spawn(move || seed.grow(sockets))?);
    }
    Ok(Workers { local_addr, threads })
}

fn hints(config: &Config) -> Hints {
    let beside = config.self_node.and_then(|at| u8::try_from(at).ok()).map(NodeId);
    Hints { stackexchange: config.notices.stackexchange, azure: config.notices.azure, beside }
}

fn settings(config: &Config) -> Settings {
    let defaults = request::Limits::default();
    Settings {
        limits: request::Limits { max_bulk: config.limits.max_bulk, max_args: config.limits.max_args, ..defaults },
        resend_bytes: config.limits.resend_bytes,
        reserved_channel: config.channel.clone().into_bytes(),
        lanes: config.lanes,
        notifications: config.notices.maintenance,
        receipts: config.durability.replicated.then(|| {
            let patience = config.durability.patience.as_millis();
            Receipts::new(u64::try_from(patience).unwrap_or(u64::MAX), config.durability.strict)
        }),
    }
}

fn listen(address: SocketAddr, times: TcpTimes) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Inherited by every socket that it accepts.
    socket.set_tcp_nodelay(true)?;
    find_dead_peers(&socket2::SockRef::from(&socket), times)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What a thread needs to become a worker.
struct Seed {
    index: usize,
    settings: Settings,
    limits: Limits,
    targets: Vec<Target>,
    tls: Arc<ServerSide>,
    orders: watch::Receiver<Orders>,
    news: mpsc::Sender<News>,
    stats: Arc<WorkerStats>,
    unnoticed: Arc<Unnoticed>,
    client_limits: Arc<super::limits::ClientLimits>,
    hints: Hints,
    register: Arc<Register>,
    /// What this worker's marker channels begin with.
    markers: Vec<u8>,
    /// The first worker has it.
    entrance: Option<Entrance>,
}

/// What it takes to accept.
struct Entrance {
    listener: std::net::TcpListener,
    doors: Vec<Door>,
    limit: u64,
    times: TcpTimes,
}

impl Seed {
    fn grow(mut self, sockets: mpsc::Receiver<Arrival>) {
        let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = built else {
            tracing::error!(worker = self.index, "no runtime: {:?}", built.err());
            return;
        };
        let orders = self.orders.borrow_and_update().clone();
        let (markers, queue) = Markers::new(self.markers);
        let (unblocker, unblocks) = Unblocker::new();
        let (dictionary, questions) = Dictionary::new();
        let worker = Rc::new(Worker {
            index: self.index,
            settings: Rc::new(self.settings),
            limits: self.limits,
            prover: Prover::new(self.targets.len()),
            pool: Pool::new(self.targets, &self.limits),
            scratch: RefCell::new(vec![0; SCRATCH]),
            buffers: Rc::default(),
            orders: RefCell::new(orders.clone()),
            version: Cell::new(1),
            news: self.news,
            seats: RefCell::default(),
            free: RefCell::default(),
            in_flight: Cell::new(0),
            held: Cell::new(0),
            held_bytes: Cell::new(0),
            held_requests: Cell::new(0),
            kept: Cell::new(0),
            said_at: Cell::new(None),
            stall: Cell::default(),
            holding_since: Cell::new(None),
            quiesced: Cell::new(None),
            tally: RefCell::default(),
            told: Cell::new(None),
            unnoticed: self.unnoticed,
            client_limits: self.client_limits,
            unblocker,
            hints: self.hints,
            lanes: RefCell::default(),
            markers,
            dictionary,
            register: self.register,
            stats: self.stats,
        });
        worker.take_orders(orders, crate::io::clock::now());
        let local = tokio::task::LocalSet::new();
        if let Some(entrance) = self.entrance.take() {
            local.spawn_local(accept(entrance, self.orders.clone(), worker.news.clone()));
        }
        local.block_on(&runtime, super::run(worker, self.tls, self.orders, sockets, queue, questions, unblocks));
    }
}

type Door = (mpsc::Sender<Arrival>, Arc<WorkerStats>);

/// Accepts until the owner is gone; not while there is a drain.
async fn accept(entrance: Entrance, mut orders: watch::Receiver<Orders>, news: mpsc::Sender<News>) {
    let Entrance { listener, doors, limit, times } = entrance;
    let (at, listener) = match listener.local_addr().and_then(|at| Ok((at, TcpListener::from_std(listener)?))) {
        Ok(opened) => opened,
        Err(error) => return tracing::error!(%error, "cannot accept"),
    };
    let mut given = vec![0_u64; doors.len()];
    let mut listener = Some(listener);
    let mut shut = None;
    loop {
        let drain = orders.borrow_and_update().drain;
        if let Some(drain) = drain {
            if let Some(open) = listener.take() {
                let in_force = || orders.borrow().drain.is_some_and(|now| now.id == drain.id);
                if !accept_the_last(&open, drain, &doors, &mut given, limit, in_force).await {
                    listener = Some(open);
                    let _owner_gone = news.send(News::Listening).await;
                    continue;
                }
            }
            let drain = drain.id;
            if shut.replace(drain) != Some(drain) {
                for (door, _) in &doors {
                    let _worker_gone = door.send(Arrival::Nobody { drain }).await;
                }
            }
            if orders.changed().await.is_err() {
                return;
            }
            continue;
        }
        let Some(open) = &listener else {
            match listen(at, times).and_then(TcpListener::from_std) {
                Ok(open) => {
                    listener = Some(open);
                    let _owner_gone = news.send(News::Listening).await;
                }
                Err(_) if orders.has_changed().is_err() => return,
                Err(error) => refused(&error).await,
            }
            continue;
        };
        tokio::select! {
            accepted = open.accept() => match accepted {
                Ok((socket, _)) => hand_over(socket, &doors, &mut given, limit).await,
                Err(error) => refused(&error).await,
            },
            changed = orders.changed() => match changed {
                // Perhaps a drain was ordered and taken back before it was seen here.
                Ok(()) => drop(news.try_send(News::Listening)),
                Err(_) => return,
            },
        }
    }
}

/// Under a drain: clients are told where to go, or closed, over its spread; as long as that goes on, one that knows only
/// this address and connects once more is better served than refused. It ends early when nobody is left, and never
/// before the kernel's queue is empty. False: the drain was taken back meanwhile.
async fn accept_the_last(
    listener: &TcpListener,
    drain: Drain,
    doors: &[Door],
    given: &mut [u64],
    limit: u64,
    in_force: impl Fn() -> bool,
) -> bool {
    while in_force() {
        match tokio::time::timeout(QUEUE_EMPTY, listener.accept()).await {
            Ok(Ok((socket, _))) => hand_over(socket, doors, given, limit).await,
            Ok(Err(error)) => refused(&error).await,
            Err(_empty) => {
                let accepted: u64 = doors.iter().map(|(_, stats)| stats.counter(Counter::ConnectionsAccepted)).sum();
                let open: u64 = doors.iter().map(|(_, stats)| stats.gauge(Gauge::ConnectionsOpen)).sum();
                let nobody = open == 0 && accepted == given.iter().sum::<u64>();
                if nobody || crate::io::clock::now() >= (drain.began + drain.spread).min(drain.deadline) {
                    return true;
                }
            }
        }
    }
    false
}

/// Out of file descriptors or memory, or the address is taken: the client stays in the kernel's queue; looking again at once would only burn.
async fn refused(error: &io::Error) {
    tracing::warn!(%error, "cannot accept");
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
}

async fn hand_over(socket: TcpStream, doors: &[Door], given: &mut [u64], limit: u64) {
    let open: u64 = doors.iter().map(|(_, stats)| stats.gauge(Gauge::ConnectionsOpen)).sum();
    // The fewest open; between equals, the one that was given the fewest so far (a burst arrives faster than workers
    // can count it).
    let place = |at: usize, stats: &WorkerStats| {
        let accepted = stats.counter(Counter::ConnectionsAccepted);
        let on_the_way = given.get(at).copied().unwrap_or(0).saturating_sub(accepted);
        (stats.gauge(Gauge::ConnectionsOpen) + on_the_way, at)
    };
    let best = doors.iter().enumerate().min_by_key(|(at, (_, stats))| place(*at, stats)).map(|(at, _)| at);
    let Some((at, (door, _))) = best.and_then(|at| doors.get(at).map(|door| (at, door))) else { return };
    if let Some(count) = given.get_mut(at) {
        *count += 1;
    }
    let socket = match at {
        0 => Ok(Guest::Here(socket)),
        _ => socket.into_std().map(Guest::Moved),
    };
    if let Ok(socket) = socket {
        let arrival = if open < limit { Arrival::Client(socket) } else { Arrival::Unwelcome(socket) };
        let _worker_gone = door.send(arrival).await;
    }
}
