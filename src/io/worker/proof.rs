//! Whether a client that never logged in would be let in now: asked of the server, once for all who came before.
//!
//! A lane may be older than the client that boards it, and so may its rights: the server asks only new connections for
//! a password that was set meanwhile. So a client without a login boards a lane only after a proof. The worker keeps
//! one connection to each node for that, and sends `RESET` and `PING` on it: the first puts it into a new connection's
//! state, the reply to the second says what a new connection may do. One proof serves all clients that came before it
//! was sent; those who come while it is under way wait for the next.
//!
//! It decides nothing about clients that log in: the server has checked each of them itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::io::clock;
use crate::protocol::reply::{ReplyEnd, ReplyFramer, ReplyLimits};
use crate::topology::node::NodeId;

use super::pool::{self, Opened};
use super::{Seat, Worker};

/// A kept connection that does not answer for this long is given up: it may be dead.
const PATIENCE: Duration = Duration::from_secs(2);
/// A new one is waited for as long as a busy server may take. Whether it is dead is for the probes to say.
const BUSY: Duration = Duration::from_secs(60);

const QUESTION: &[u8] = b"*1\r\n$5\r\nRESET\r\n*1\r\n$4\r\nPING\r\n";

/// What the server would do with a new connection that does not log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::io) enum Verdict {
    /// It serves it.
    Served,
    /// It asks it to log in.
    LoginNeeded,
    /// It closes it, with these words (protected mode, too many connections).
    Closed(Vec<u8>),
    /// It could not be asked.
    Unreachable,
}

/// The proofs of one worker about one node.
#[derive(Default)]
struct Proofs {
    begun: Cell<u64>,
    /// The newest that has ended, and what it said.
    ended: RefCell<(u64, Option<Verdict>)>,
    running: Cell<bool>,
    waiting: RefCell<Vec<Rc<Seat>>>,
    /// The connection that is asked, between two proofs.
    kept: RefCell<Option<Opened>>,
}

/// The proofs of one worker.
pub(super) struct Prover {
    nodes: Vec<Proofs>,
}

impl Prover {
    pub(super) fn new(nodes: usize) -> Self {
        Self { nodes: (0..nodes).map(|_| Proofs::default()).collect() }
    }

    /// The roles have changed: only the primary is asked.
    pub(super) fn follow(&self, primary: Option<NodeId>) {
        for (at, proofs) in self.nodes.iter().enumerate() {
            if primary.is_some_and(|node| node.index() != at) {
                proofs.kept.take().into_iter().for_each(|opened| opened.stream.forsake());
            }
        }
    }
}

impl Worker {
    /// The number of the next proof about `node`.
    pub(in crate::io) fn next_proof(&self, node: NodeId) -> u64 {
        self.prover.nodes.get(node.index()).map_or(0, |proofs| proofs.begun.get() + 1)
    }

    /// What the proof of this number, or a later one, has said. If it has not ended, the seat is woken then.
    pub(in crate::io) fn verdict(self: &Rc<Self>, node: NodeId, number: u64, seat: &Rc<Seat>) -> Option<Verdict> {
        let proofs = self.prover.nodes.get(node.index())?;
        let ended = proofs.ended.borrow();
        if ended.0 >= number {
            return ended.1.clone();
        }
        proofs.waiting.borrow_mut().push(Rc::clone(seat));
        if !proofs.running.replace(true) {
            tokio::task::spawn_local(prove(Rc::clone(self), node));
        }
        None
    }
}

/// Runs proofs until no client waits for one.
async fn prove(worker: Rc<Worker>, node: NodeId) {
    let Some(proofs) = worker.prover.nodes.get(node.index()) else { return };
    while !proofs.waiting.borrow().is_empty() {
        // Whoever comes from now on waits for the next.
        proofs.begun.set(proofs.begun.get() + 1);
        let mut kept = proofs.kept.take();
        let verdict = ask(&worker, node, &mut kept).await;
        *proofs.ended.borrow_mut() = (proofs.begun.get(), Some(verdict));
        *proofs.kept.borrow_mut() = kept;
        proofs.waiting.take().iter().for_each(|seat| seat.wake());
        // They look at the verdict, and wait again if that proof was begun before they came.
        tokio::task::yield_now().await;
    }
    proofs.running.set(false);
}

/// One proof: over the kept connection, else over another.
async fn ask(worker: &Worker, node: NodeId, kept: &mut Option<Opened>) -> Verdict {
    let Some(target) = worker.pool.target(node) else { return Verdict::Unreachable };
    if let Some(mut opened) = kept.take().filter(|kept| !worker.pool.aged(kept.made, clock::now())) {
        let asked = tokio::time::timeout(PATIENCE, question(&mut opened)).await;
        if let Ok(Some((true, verdict))) = asked {
            *kept = Some(opened);
            return verdict;
        }
    }
    let Ok(mut opened) = pool::obtain(worker, target).await else { return Verdict::Unreachable };
    match tokio::time::timeout(BUSY, question(&mut opened)).await {
        Ok(Some((again, verdict))) => {
            *kept = again.then_some(opened);
            verdict
        }
        _ => Verdict::Unreachable,
    }
}

/// Asks; says whether the connection can be asked again, and what came out. `None`: it was closed.
async fn question(opened: &mut Opened) -> Option<(bool, Verdict)> {
    let _closed_by_the_server = opened.stream.write_all(QUESTION).await;
    let _closed_by_the_server = opened.stream.flush().await;
    let mut framer = ReplyFramer::new(ReplyLimits::default());
    let (mut input, mut replies) = (bytes::BytesMut::new(), Vec::<Vec<u8>>::new());
    let mut reply = Vec::new();
    while replies.len() < 2 {
        if input.is_empty() && opened.stream.read_buf(&mut input).await.unwrap_or(0) == 0 {
            // Some servers say why before they close.
            let said = replies.pop().filter(|said| said.first() == Some(&b'-'))?;
            return Some((false, Verdict::Closed(said)));
        }
        let (used, end) = framer.scan(&input).ok()?;
        reply.extend_from_slice(input.get(..used)?);
        bytes::Buf::advance(&mut input, used);
        if end == ReplyEnd::Reply {
            replies.push(std::mem::take(&mut reply));
        }
    }
    let [reset, pong] = replies.as_slice() else { return None };
    let verdict = if pong.starts_with(b"-NOAUTH") { Verdict::LoginNeeded } else { Verdict::Served };
    // Redis 6.2 refuses the RESET of a connection that has to log in; that one is in no other state.
    let usable = reset.starts_with(b"+RESET") || reset.starts_with(b"-NOAUTH");
    Some((usable, verdict))
}
