//! Runs a rollout: looks at shards, carries out orders, writes the journal, tells whoever watches.
//!
//! It decides nothing: `patch` does. Invariant: a record is on disk before anything that follows it is carried out, and
//! when it cannot be written nothing that follows it is.

pub mod agent;
mod meter;
pub mod sight;
mod tasks;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::fleet::Fleet;
use crate::io::admin::access::Access;
use crate::io::clock;
use crate::io::journal_file::{JournalFile, JournalFileError};
use crate::patch::health::Observation;
use crate::patch::journal::Record;
use crate::patch::plan::Plan;
use crate::patch::rollout::{Outcome, Rollout, Word};
use crate::patch::shard::words::{Answer, Order, Output};
use crate::patch::window::{State, Window};
use meter::Meter;

/// Between two looks at a shard.
const LOOK: Duration = Duration::from_millis(200);
/// Answers and looks that may wait to be handled; more than there can be under way.
const QUEUE: usize = 256;

/// Something worth telling.
#[derive(Debug)]
pub enum Told<'a> {
    /// It happened, and it is in the journal.
    Record(&'a Record),
    /// A shard (its place in the plan) waits, and for what.
    Waiting(usize, &'a str),
    /// The maintenance window opened or closed.
    Window(State),
}

/// What a rollout is run with.
#[derive(Debug)]
pub struct Means {
    /// How nodes are reached, and the commands.
    pub fleet: Fleet,
    /// What is shown to them.
    pub access: Access,
    /// The rollout's own name; commands are started under it.
    pub id: String,
    /// Where the folders of commands are.
    pub folder: PathBuf,
    /// When nodes may be begun; always without one.
    pub window: Option<Window>,
}

/// What the tasks report.
enum Event {
    Answer { shard: usize, ticket: u64, answer: Answer },
    Seen { shard: usize, seen: Observation },
    Word(Word),
    Tick,
}

/// A rollout that is run.
struct Run<'a, W> {
    rollout: Rollout,
    journal: JournalFile,
    means: Arc<Means>,
    plan: Arc<Plan>,
    looking: BTreeSet<usize>,
    window: Option<State>,
    meter: Meter,
    events: mpsc::Sender<Event>,
    watch: &'a mut W,
}

/// Runs it to its end. `words` are the operator's; `watch` is told everything as it happens.
///
/// # Errors
/// The journal cannot be written. What was ordered before goes on by itself; nothing more is ordered.
pub async fn run(
    rollout: Rollout,
    journal: JournalFile,
    means: Means,
    words: &mut mpsc::Receiver<Word>,
    watch: &mut impl FnMut(Told<'_>),
) -> Result<Outcome, JournalFileError> {
    let (events, mut inbox) = mpsc::channel(QUEUE);
    let plan = Arc::new(rollout.plan().clone());
    let mut run = Run {
        rollout,
        journal,
        means: Arc::new(means),
        plan,
        looking: BTreeSet::new(),
        window: None,
        meter: Meter::default(),
        events,
        watch,
    };
    run.look_at_window();
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        run.carry_out().await?;
        if let Some(outcome) = run.rollout.outcome() {
            return Ok(outcome);
        }
        let event = tokio::select! {
            // A sender is held by `run`, so the inbox never ends before it.
            Some(event) = inbox.recv() => event,
            Some(word) = words.recv() => Event::Word(word),
            _ = tick.tick() => Event::Tick,
        };
        run.handle(event);
    }
}

impl<W: FnMut(Told<'_>)> Run<'_, W> {
    fn handle(&mut self, event: Event) {
        let now = clock::now();
        match event {
            Event::Answer { shard, ticket, answer } => self.rollout.handle_answer(shard, ticket, answer, now),
            Event::Seen { shard, seen } => {
                self.looking.remove(&shard);
                self.rollout.handle_observation(shard, &seen, now);
            }
            Event::Word(word) => self.rollout.handle_word(word, now),
            Event::Tick => {
                self.look_at_window();
                if self.rollout.poll_timeout().is_some_and(|at| now >= at) {
                    self.rollout.handle_timeout(now);
                }
                self.look_at_shards();
            }
        }
    }

    async fn carry_out(&mut self) -> Result<(), JournalFileError> {
        while let Some(output) = self.rollout.poll_output() {
            match output {
                Output::Record(mut record) => {
                    self.meter.handle_record(&mut record, &self.means.fleet, &self.means.access, &self.plan).await;
                    self.journal.append(&record)?;
                    (self.watch)(Told::Record(&record));
                }
                Output::Do(order) => self.order(order),
                Output::Waiting { shard, why } => (self.watch)(Told::Waiting(shard, &why)),
            }
        }
        Ok(())
    }

    fn order(&self, order: Order) {
        let (means, plan, events) = (Arc::clone(&self.means), Arc::clone(&self.plan), self.events.clone());
        spawn(async move {
            let answer = match plan.shards.get(order.shard) {
                Some(shard) => tasks::carry_out(&means, &plan, shard, order.task).await,
                None => Answer::Failed("no such shard".to_owned()),
            };
            let _ = events.send(Event::Answer { shard: order.shard, ticket: order.ticket, answer }).await;
        });
    }

    fn look_at_shards(&mut self) {
        for shard in self.rollout.watching() {
            // One look at a time, so that a slow node does not gather looks.
            if !self.looking.insert(shard) {
                continue;
            }
            let (means, plan, events) = (Arc::clone(&self.means), Arc::clone(&self.plan), self.events.clone());
            spawn(async move {
                let seen = match plan.shards.get(shard) {
                    Some(plan) => sight::look(&means.fleet, &means.access, plan).await,
                    None => Observation { asked_at: clock::now(), proxies: Vec::new() },
                };
                let _ = events.send(Event::Seen { shard, seen }).await;
            });
        }
    }

    fn look_at_window(&mut self) {
        let Some(window) = &self.means.window else { return };
        let state = window.state(clock::timestamp());
        if self.window != Some(state) {
            self.window = Some(state);
            self.rollout.handle_window(matches!(state, State::Open(_)), clock::now());
            (self.watch)(Told::Window(state));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the run owns it: each task is bounded in time and answers once")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}
