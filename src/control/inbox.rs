//! Everything that can happen to the owner, as one closed enum, and the bounded queues through which it comes.
//!
//! It only waits. A queue that is full makes its sender wait (probes, workers, the channel) or refuse (requests).

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::hands;
use super::signals::{Signal, Signals};
use crate::io::admin::AdminRequest;
use crate::io::clock;
use crate::io::orders::News;
use crate::io::probe::Sighting;
use crate::io::pubsub::Word;
use crate::protocol::sentinel::SentinelNews;
use crate::topology::failover::NoAnswer;
use crate::topology::failover::witness::Answer;

/// Room in each queue.
pub const QUEUE: usize = 256;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A probe or the tripwire saw something.
    Sighting(Box<Sighting>),
    /// A worker has news.
    News(News),
    /// The pair's channel.
    Word(Word),
    /// An operator asks.
    Request(AdminRequest),
    /// A Sentinel speaks.
    Sentinel(SentinelNews),
    /// The witness has answered, or not.
    Witness(Result<Answer, NoAnswer>),
    /// What was asked of a node was done, or not.
    Answer(hands::Answer),
    /// The system asks.
    Signal(Signal),
    /// Certificates were read again, or why not.
    Reloaded(Result<(), String>),
    /// It is time.
    Tick,
}

/// The receiving ends.
#[derive(Debug)]
pub struct Inbox {
    /// From probes and tripwire.
    pub sightings: mpsc::Receiver<Sighting>,
    /// From workers.
    pub news: mpsc::Receiver<News>,
    /// From the subscriptions.
    pub words: mpsc::Receiver<Word>,
    /// From the admin server.
    pub requests: mpsc::Receiver<AdminRequest>,
    /// From Sentinels; never anything without them.
    pub sentinels: mpsc::Receiver<SentinelNews>,
    /// From the witness; never anything without one.
    pub witness: mpsc::Receiver<Result<Answer, NoAnswer>>,
    /// From those who carry out orders at the nodes.
    pub answers: mpsc::Receiver<hands::Answer>,
    /// From the reload task.
    pub reloads: mpsc::Receiver<Result<(), String>>,
    /// From the system; `None` in tests.
    pub signals: Option<Signals>,
}

impl Inbox {
    /// The next event; [`Event::Tick`] at `deadline` (process clock) at the latest.
    pub async fn next(&mut self, deadline: Duration) -> Event {
        let signals = self.signals.as_mut();
        let signal = async {
            match signals {
                Some(signals) => signals.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(sighting) = self.sightings.recv() => Event::Sighting(Box::new(sighting)),
            Some(news) = self.news.recv() => Event::News(news),
            Some(word) = self.words.recv() => Event::Word(word),
            Some(request) = self.requests.recv() => Event::Request(request),
            Some(news) = self.sentinels.recv() => Event::Sentinel(news),
            Some(answer) = self.witness.recv() => Event::Witness(answer),
            Some(answer) = self.answers.recv() => Event::Answer(answer),
            Some(reloaded) = self.reloads.recv() => Event::Reloaded(reloaded),
            signal = signal => Event::Signal(signal),
            () = sleep_until(clock::instant(deadline)) => Event::Tick,
        }
    }
}
