//! The load: all client connections on one thread, steered from the demo's main thread.
//!
//! One current-thread runtime, one task for each connection, no lock: the shared counts are cells of that thread.
//! Orders come through a bounded channel; each is answered, so that the main thread knows when it took effect.
//!
//! Invariant: while paused nothing is outstanding on any connection, or the pause says how much is.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::connection::{self, Connection};
use super::ledger::Ledger;
use super::stateful::Crew;
use super::tally::Tally;
use crate::io::clock;

/// How long a pause waits for outstanding replies: longer than a proxy holds a request.
const PATIENCE: Duration = Duration::from_secs(20);

/// What load to make.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The proxies; connections are spread over them evenly.
    pub(super) targets: Vec<SocketAddr>,
    /// Client TLS.
    pub(super) tls: Arc<rustls::ClientConfig>,
    /// Connections in all.
    pub(super) connections: usize,
    /// Commands a second in all.
    pub(super) rate: u32,
    /// Commands in a pipelined batch; every other connection pipelines.
    pub(super) depth: usize,
    /// Subscribers, workers and transactions beside the load.
    pub(super) stateful: bool,
}

/// What was seen while a window was open.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    /// Longest time between sending a command and its reply, on any connection.
    pub(super) longest: Duration,
    /// Replies in the window.
    pub(super) commands: u64,
}

/// The end of a phase.
#[derive(Debug, Default)]
pub(super) struct Paused {
    /// Everything counted since the last resume.
    pub(super) tally: Tally,
    /// One ledger for each connection.
    pub(super) ledgers: Vec<Ledger>,
    /// Commands that had no reply when patience ran out.
    pub(super) unanswered: u64,
    /// How long the phase was.
    pub(super) took: Duration,
}

enum Order {
    Open(SyncSender<()>),
    Close(SyncSender<Window>),
    Pause(SyncSender<Paused>),
    Resume(usize, SyncSender<()>),
    Counts(SyncSender<Tally>),
}

/// What the tasks of the driver's thread share.
pub(super) struct Shared {
    pub(super) plan: Plan,
    pub(super) tally: RefCell<Tally>,
    pub(super) window: Cell<Option<Window>>,
    pub(super) phase: Cell<Option<usize>>,
    pub(super) resumed: Notify,
    pub(super) connections: RefCell<Vec<Rc<Connection>>>,
}

/// The running load. Dropping it ends all connections.
pub(super) struct Driver {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Driver {
    /// Opens all connections, paused. An error names the first that could not be opened.
    pub(super) fn start(plan: Plan) -> Result<Self, String> {
        let (orders, inbox) = mpsc::channel(4);
        let (ready, opened) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("demo-clients".to_owned())
            .spawn(move || run(plan, inbox, &ready))
            .map_err(|e| format!("cannot start the clients' thread: {e}"))?;
        let driver = Self { orders: Some(orders), thread: Some(thread) };
        opened.recv().map_err(|_| "the clients' thread ended".to_owned())??;
        Ok(driver)
    }

    fn ask<T>(&self, order: impl FnOnce(SyncSender<T>) -> Order) -> Result<T, String> {
        let (answer, answered): (SyncSender<T>, Receiver<T>) = sync_channel(1);
        let gone = || "the clients' thread ended".to_owned();
        self.orders.as_ref().ok_or_else(gone)?.blocking_send(order(answer)).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())
    }

    /// From now on the longest stall is kept.
    pub(super) fn open_window(&self) -> Result<(), String> {
        self.ask(Order::Open)
    }

    /// Ends the window; what still waits for its reply counts with its age.
    pub(super) fn close_window(&self) -> Result<Window, String> {
        self.ask(Order::Close)
    }

    /// Starts nothing new, waits for all replies, hands over what was counted.
    pub(super) fn pause(&self) -> Result<Paused, String> {
        self.ask(Order::Pause)
    }

    /// Goes on with fresh ledgers.
    pub(super) fn resume(&self, phase: usize) -> Result<(), String> {
        self.ask(|answer| Order::Resume(phase, answer))
    }

    /// Counts of the phase so far, for the progress line.
    pub(super) fn counts(&self) -> Result<Tally, String> {
        self.ask(Order::Counts)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was printed already; the demo is ending.
            let _ended = thread.join();
        }
    }
}

fn run(plan: Plan, inbox: mpsc::Receiver<Order>, ready: &SyncSender<Result<(), String>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let _told = ready.send(Err(format!("cannot start the clients' runtime: {e}")));
            return;
        }
    };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, serve(plan, inbox, ready));
}

async fn serve(plan: Plan, mut inbox: mpsc::Receiver<Order>, ready: &SyncSender<Result<(), String>>) {
    let count = plan.connections;
    let shared = Rc::new(Shared {
        plan,
        tally: RefCell::default(),
        window: Cell::new(None),
        phase: Cell::new(None),
        resumed: Notify::new(),
        connections: RefCell::default(),
    });
    for number in 0..count {
        let connection = Rc::new(Connection::new(number));
        match connection::dial(&shared, number).await {
            Ok(stream) => {
                shared.connections.borrow_mut().push(Rc::clone(&connection));
                let task = connection::converse(Rc::clone(&shared), connection, stream);
                drop(tokio::task::spawn_local(task));
            }
            Err(why) => {
                let _told = ready.send(Err(format!("connection {number}: {why}")));
                return;
            }
        }
    }
    let crew = match shared.plan.stateful {
        true => Crew::start(&shared).await.map(Some),
        false => Ok(None),
    };
    let (crew, told) = match crew {
        Ok(crew) => (crew, ready.send(Ok(()))),
        Err(why) => (None, ready.send(Err(why))),
    };
    if told.is_ok() {
        obey(&shared, crew.as_deref(), &mut inbox).await;
    }
}

async fn obey(shared: &Shared, crew: Option<&Crew>, inbox: &mut mpsc::Receiver<Order>) {
    let mut began = clock::now();
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Open(answer) => {
                shared.window.set(Some(Window::default()));
                let _told = answer.send(());
            }
            Order::Close(answer) => {
                let mut window = shared.window.take().unwrap_or_default();
                window.longest = window.longest.max(shared.oldest());
                let _told = answer.send(window);
            }
            Order::Pause(answer) => {
                let took = clock::now().saturating_sub(began);
                shared.phase.set(None);
                let mut unanswered = shared.settle().await;
                if let Some(crew) = crew {
                    unanswered += crew.settle().await;
                }
                let ledgers = shared.connections.borrow().iter().map(|c| c.ledger()).collect();
                let tally = shared.tally.take();
                let _told = answer.send(Paused { tally, ledgers, unanswered, took });
            }
            Order::Resume(phase, answer) => {
                for connection in shared.connections.borrow().iter() {
                    connection.renew(phase);
                }
                began = clock::now();
                shared.phase.set(Some(phase));
                shared.resumed.notify_waiters();
                if let Some(crew) = crew {
                    crew.begin(phase);
                }
                let _told = answer.send(());
            }
            Order::Counts(answer) => {
                let _told = answer.send(shared.tally.borrow().clone());
            }
        }
    }
}

impl Shared {
    /// Replies arrived that had been waited for this long.
    pub(super) fn felt(&self, stall: Duration, replies: u64) {
        if let Some(mut window) = self.window.get() {
            window.longest = window.longest.max(stall);
            window.commands += replies;
            self.window.set(Some(window));
        }
    }

    /// The age of the oldest command without a reply.
    fn oldest(&self) -> Duration {
        let now = clock::now();
        let connections = self.connections.borrow();
        connections.iter().filter_map(|c| c.waiting_since()).map(|at| now.saturating_sub(at)).max().unwrap_or_default()
    }

    /// Waits until nothing is outstanding; returns what is after all.
    async fn settle(&self) -> u64 {
        let until = clock::now() + PATIENCE;
        loop {
            let waiting: usize = self.connections.borrow().iter().map(|c| c.outstanding()).sum();
            if waiting == 0 || clock::now() >= until {
                return u64::try_from(waiting).unwrap_or(u64::MAX);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

#[cfg(test)]
mod tests;
