//! Clients whose work is tied to their connection: subscribers, job workers, transactions.
//!
//! A few beside the load, on the same thread, slow enough not to disturb its figures. What they see goes into the same
//! tally: errors and closed connections with everybody's, the rest under `stateful`.
//!
//! At the end of a phase each closes its books: the publisher goes on until all subscribers are level, the producer
//! waits until the queue is empty, transactions are compared with the data. Nothing of a phase is counted in the next.

mod counts;
mod jobs;
mod line;
mod messages;
mod transactions;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;

pub(super) use counts::Counts;
use counts::{Ear, Jobs};
use line::{Line, Lost};

use super::driver::Shared;
use super::ledger::{Counter, Outcome};
use super::redis::Value;
use crate::io::clock;

/// Subscribers: RESP2 and RESP3 on each of two proxies.
const SUBSCRIBERS: usize = 4;
/// Blocked in BLPOP, two on each proxy.
const WORKERS: usize = 4;
/// Clients of MULTI/EXEC; every other one sends a transaction in one write.
const TRANSFERS: usize = 4;
/// Clients of WATCH, all on one key.
const WATCHERS: usize = 2;
/// Who closes books: those that work at a pace.
const ACTIVE: usize = TRANSFERS + WATCHERS + 2;
/// Between attempts to connect again, and looks at the end of a phase.
const POLL: Duration = Duration::from_millis(10);
/// For books to be closed: longer than a proxy holds a request.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the clients are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Idle,
    Working(usize),
    Closing,
}

/// All of them, and what they must know of each other.
pub(super) struct Crew {
    shared: Rc<Shared>,
    mode: watch::Sender<Mode>,
    phase: Cell<usize>,
    done: Cell<usize>,
    published: Cell<u64>,
    ears: RefCell<[Ear; SUBSCRIBERS]>,
    jobs: RefCell<Jobs>,
    commits: RefCell<Counter>,
}

/// A client that does one piece of work after the other.
trait Role {
    /// Between two pieces.
    const PERIOD: Duration;
    /// One piece of work.
    async fn step(&mut self, line: &mut Line, crew: &Crew) -> Result<(), Lost>;
    /// The end of the phase.
    async fn close(&mut self, line: &mut Line, crew: &Crew) -> Result<(), Lost>;
}

impl Crew {
    /// Connects all, idle; subscribers are subscribed. An error names the first that could not be connected.
    pub(super) async fn start(shared: &Rc<Shared>) -> Result<Rc<Self>, String> {
        let crew = Rc::new(Self {
            shared: Rc::clone(shared),
            mode: watch::Sender::new(Mode::Idle),
            phase: Cell::new(0),
            done: Cell::new(0),
            published: Cell::new(0),
            ears: RefCell::default(),
            jobs: RefCell::default(),
            commits: RefCell::default(),
        });
        for number in 0..SUBSCRIBERS {
            let mut line = Line::open(shared, number).await?;
            messages::subscribe(&mut line, number).await.map_err(|_| "a subscriber was disconnected".to_owned())?;
            drop(tokio::task::spawn_local(messages::listen(Rc::clone(&crew), number, line)));
        }
        for number in 0..WORKERS {
            let line = Line::open(shared, number).await?;
            drop(tokio::task::spawn_local(jobs::serve(Rc::clone(&crew), number, line)));
        }
        for number in 0..TRANSFERS {
            crew.employ(number, transactions::Transfer::new(number)).await?;
        }
        for number in 0..WATCHERS {
            crew.employ(2 * number, transactions::Watcher::new(number)).await?;
        }
        crew.employ(0, jobs::Producer).await?;
        crew.employ(2, messages::Publisher).await?;
        Ok(crew)
    }

    async fn employ(self: &Rc<Self>, number: usize, role: impl Role + 'static) -> Result<(), String> {
        let line = Line::open(&self.shared, number).await?;
        drop(tokio::task::spawn_local(work(Rc::clone(self), number, line, role)));
        Ok(())
    }

    /// Begins a phase with fresh books.
    pub(super) fn begin(&self, phase: usize) {
        self.phase.set(phase);
        self.published.set(0);
        self.ears.take();
        self.jobs.take();
        self.commits.take();
        self.mode.send_replace(Mode::Working(phase));
    }

    /// Ends the phase: everything is counted, or had no reply for too long; returns how many clients that is.
    pub(super) async fn settle(&self) -> u64 {
        self.done.set(0);
        self.mode.send_replace(Mode::Closing);
        let until = clock::now() + PATIENCE;
        while self.done.get() < ACTIVE && clock::now() < until {
            tokio::time::sleep(POLL).await;
        }
        self.mode.send_replace(Mode::Idle);
        let published = self.published.get();
        let counts = &mut self.shared.tally.borrow_mut().stateful;
        for ear in self.ears.borrow().iter() {
            counts.listened(ear, published);
        }
        counts.worked(&self.jobs.borrow());
        u64::try_from(ACTIVE - self.done.get().min(ACTIVE)).unwrap_or(u64::MAX)
    }

    /// Counts something.
    fn count(&self, what: impl FnOnce(&mut Counts)) {
        what(&mut self.shared.tally.borrow_mut().stateful);
    }

    /// What an error reply means for the command; nothing for any other reply. It is counted.
    fn failure(&self, reply: &Value) -> Option<Outcome> {
        let Value::Error(text) = reply else { return None };
        let tally = &mut *self.shared.tally.borrow_mut();
        if text.starts_with(b"OUTCOMEUNKNOWN") {
            tally.unknown += 1;
            return Some(Outcome::Unknown);
        }
        tally.error(text);
        Some(Outcome::Refused)
    }

    /// The connection ended: counted, and opened again.
    async fn again(&self, number: usize, waited: bool) -> Line {
        {
            let tally = &mut *self.shared.tally.borrow_mut();
            tally.closed += 1;
            tally.unanswered += u64::from(waited);
        }
        loop {
            match Line::open(&self.shared, number).await {
                Ok(line) => return line,
                Err(_) => self.shared.tally.borrow_mut().refused_connections += 1,
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// The life of a client that works at a pace; ends with the runtime.
async fn work(crew: Rc<Crew>, number: usize, mut line: Line, mut role: impl Role) {
    let mut orders = crew.mode.subscribe();
    loop {
        let mode = *orders.borrow_and_update();
        let done = match mode {
            Mode::Idle => Ok(()),
            Mode::Working(_) => role.step(&mut line, &crew).await,
            Mode::Closing => role.close(&mut line, &crew).await,
        };
        if done.is_err() {
            line = crew.again(number, true).await;
            continue;
        }
        if mode == Mode::Closing {
            crew.done.set(crew.done.get() + 1);
        }
        let changed = match mode {
            Mode::Working(_) => tokio::time::timeout(period(&role), orders.changed()).await.unwrap_or(Ok(())),
            Mode::Idle | Mode::Closing => orders.changed().await,
        };
        if changed.is_err() {
            return;
        }
    }
}

fn period<R: Role>(_role: &R) -> Duration {
    R::PERIOD
}
