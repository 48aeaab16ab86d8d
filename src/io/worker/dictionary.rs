//! Asks the primary what commands are that the table does not have (`session::vocabulary` says why).
//!
//! One link for a worker, opened when it is needed, with the login of the process itself, which needs `+command|info`.
//! One question at a time, and few that wait: whatever names clients make up, the primary is asked no faster. A
//! question that cannot be asked or answered is forgotten: its command is then taken for the worst.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Worker;
use crate::io::client::{Link, LinkError, Reply, Target};
use crate::io::clock;
use crate::protocol::command::{Command, learnt};
use crate::session::Vocabulary;
use crate::topology::node::NodeId;

/// Time for one answer.
const PATIENCE: Duration = Duration::from_millis(200);
/// Names that wait to be asked about.
const QUEUE: usize = 32;
/// Nobody is asked again for so long after a question could not be answered.
const SILENCE: Duration = Duration::from_secs(1);
/// The same where that will not change soon (no permission).
const LONG_SILENCE: Duration = Duration::from_secs(60);

/// What one worker knows.
pub(in crate::io) struct Dictionary {
    vocabulary: RefCell<Rc<Vocabulary>>,
    pending: RefCell<HashSet<Vec<u8>>>,
    waiting: RefCell<Vec<Waker>>,
    queue: mpsc::Sender<(NodeId, Vec<u8>)>,
    silent_until: Cell<Duration>,
}

/// What is to be asked.
pub(super) type Questions = mpsc::Receiver<(NodeId, Vec<u8>)>;

impl Dictionary {
    pub(super) fn new() -> (Self, Questions) {
        let (queue, questions) = mpsc::channel(QUEUE);
        let dictionary = Self {
            vocabulary: RefCell::default(),
            pending: RefCell::default(),
            waiting: RefCell::default(),
            queue,
            silent_until: Cell::default(),
        };
        (dictionary, questions)
    }

    /// All that has been explained so far.
    pub(in crate::io) fn vocabulary(&self) -> Rc<Vocabulary> {
        Rc::clone(&self.vocabulary.borrow())
    }

    /// Has the primary asked about a name; true when it is under way, and `waker` is woken at the end.
    pub(in crate::io) fn ask(&self, node: NodeId, name: &[u8], waker: &Waker, now: Duration) -> bool {
        let name = name.to_ascii_uppercase();
        let mut pending = self.pending.borrow_mut();
        if !pending.contains(&name) {
            let may = now >= self.silent_until.get() && !self.vocabulary.borrow().full();
            if !may || self.queue.try_send((node, name.clone())).is_err() {
                return false;
            }
            pending.insert(name);
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        true
    }

    /// A question has been answered, or will not be.
    fn settle(&self, name: Vec<u8>, answer: Result<Option<&'static Command>, Duration>) {
        self.pending.borrow_mut().remove(&name);
        match answer {
            Ok(meaning) => Rc::make_mut(&mut self.vocabulary.borrow_mut()).learn(name, meaning),
            Err(silence) => self.silent_until.set(clock::now() + silence),
        }
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}

/// Asks one after another, as long as the worker runs.
pub(super) async fn explain(worker: Rc<Worker>, mut questions: Questions) {
    let mut link: Option<(NodeId, Link)> = None;
    while let Some((node, name)) = questions.recv().await {
        let answer = match worker.pool.target(node) {
            Some(target) => ask(&mut link, target, &name).await,
            None => Err(SILENCE),
        };
        worker.dictionary.settle(name, answer);
    }
}

async fn ask(
    link: &mut Option<(NodeId, Link)>,
    target: &Target,
    name: &[u8],
) -> Result<Option<&'static Command>, Duration> {
    // The second try is for a link that has died since it was used last.
    for _ in 0..2 {
        let deadline = clock::now() + PATIENCE;
        if link.as_ref().is_none_or(|(to, _)| *to != target.node) {
            *link = Link::connect(target, deadline).await.ok().map(|link| (target.node, link));
        }
        let Some((_, open)) = link else { return Err(SILENCE) };
        match open.command(&[b"COMMAND", b"INFO", name], deadline).await {
            Ok(reply) => return Ok(meaning(&reply)),
            Err(LinkError::Redis(text)) => {
                tracing::info!(text, "the node does not explain commands: unknown ones are taken for the worst");
                return Err(LONG_SILENCE);
            }
            // (Too deep or too large: something unusual.)
            Err(LinkError::Protocol(_)) => {
                *link = None;
                return Ok(None);
            }
            Err(_) => *link = None,
        }
    }
    Err(SILENCE)
}

/// The entry of COMMAND INFO: name, arity, flags, …, and in the tenth place sub-commands.
fn meaning(reply: &Reply) -> Option<&'static Command> {
    let Reply::Array(entries) = reply else { return None };
    let Reply::Array(fields) = entries.first()? else { return None };
    let name = fields.first().and_then(Reply::bytes)?;
    let Reply::Array(flags) = fields.get(2)? else { return None };
    let flags: Vec<&str> = flags.iter().filter_map(|flag| std::str::from_utf8(flag.bytes()?).ok()).collect();
    let subs = matches!(fields.get(9), Some(Reply::Array(subs)) if !subs.is_empty());
    learnt(name, &flags, subs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::command::lookup;

    #[test]
    fn an_entry_is_read_and_anything_else_means_nothing() {
        let bulk = |text: &'static str| Reply::Bulk(text.into());
        let entry = |name, flag: &'static str| {
            Reply::Array(vec![Reply::Array(vec![
                bulk(name),
                Reply::Integer(2),
                Reply::Array(vec![Reply::Status(flag.into())]),
            ])])
        };
        assert_eq!(meaning(&entry("get", "readonly")), lookup(b"GET"));
        assert!(meaning(&entry("no.such", "write")).is_some());
        assert_eq!(meaning(&entry("no.such", "admin")), None);
        assert_eq!(meaning(&Reply::Array(vec![Reply::Null])), None, "the server does not know it");
        assert_eq!(meaning(&Reply::Null), None);
    }

    #[test]
    fn few_questions_wait_and_none_is_asked_twice() {
        let (dictionary, mut questions) = Dictionary::new();
        let ask = |name: &str, now| dictionary.ask(NodeId(0), name.as_bytes(), Waker::noop(), now);
        let now = Duration::from_secs(5);
        assert!(ask("a", now) && ask("A", now));
        for number in 1..QUEUE {
            assert!(ask(&number.to_string(), now));
        }
        assert!(!ask("b", now), "one too many");
        assert_eq!(questions.try_recv().unwrap().1, b"A");
        dictionary.settle(b"A".to_vec(), Err(SILENCE));
        assert!(!ask("a", clock::now()) && ask("a", clock::now() + SILENCE + SILENCE));
    }
}
