//! Warm connections to the node that is not primary: open, TLS done, nothing said.
//!
//! A change finds as many of them as the worker has upstreams in use (up to a limit), so that going over costs no dial.
//! They carry no state of any client. It is not a pool for reuse: what a client has used is closed, never put back.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};

use crate::io::client::{Target, Upstream, dial};
use crate::io::clock;
use crate::metrics::worker::Gauge;
use crate::topology::node::NodeId;

use super::Worker;

/// Most warm connections of a worker to one node.
const MOST: usize = 512;
/// Warm connections above the number of upstreams in use.
const SPARE: usize = 2;
/// Time for one dial.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at what is missing.
const PACE: Duration = Duration::from_millis(50);
/// Dialled in one look, so that warming up never crowds out traffic.
const STEP: usize = 16;

/// The warm connections of one worker.
pub(in crate::io) struct Pool {
    targets: Vec<Target>,
    warm: Vec<RefCell<Vec<Upstream>>>,
    primary: Cell<Option<NodeId>>,
}

impl Pool {
    pub(super) fn new(targets: Vec<Target>) -> Self {
        let warm = targets.iter().map(|_| RefCell::default()).collect();
        Self { targets, warm, primary: Cell::new(None) }
    }

    /// The nodes, by place.
    pub(super) fn nodes(&self) -> std::ops::Range<usize> {
        0..self.targets.len()
    }

    /// How to reach all of them.
    pub(super) fn targets(&self) -> Vec<Target> {
        self.targets.clone()
    }

    /// How to reach a node.
    pub(in crate::io) fn target(&self, node: NodeId) -> Option<&Target> {
        self.targets.get(node.index())
    }

    /// The roles have changed.
    pub(super) fn follow(&self, primary: Option<NodeId>) {
        self.primary.set(primary.or(self.primary.get()));
    }

    /// A warm connection to `node`, if one is left that is still open.
    pub(in crate::io) fn take(&self, node: NodeId) -> Option<Upstream> {
        let mut warm = self.warm.get(node.index())?.borrow_mut();
        while let Some(mut upstream) = warm.pop() {
            if is_open(&mut upstream) {
                return Some(upstream);
            }
        }
        None
    }

    /// Connections that the node has closed are dropped; none are kept to the primary itself.
    fn missing(&self, place: usize, wanted: usize) -> usize {
        let Some(warm) = self.warm.get(place) else { return 0 };
        let mut warm = warm.borrow_mut();
        warm.retain_mut(is_open);
        let standby = self.primary.get().is_some_and(|primary| primary.index() != place);
        if standby { wanted.min(MOST).saturating_sub(warm.len()) } else { 0 }
    }
}

/// Nothing was said and nothing was closed.
fn is_open(upstream: &mut Upstream) -> bool {
    let mut byte = [0_u8; 1];
    let mut buffer = ReadBuf::new(&mut byte);
    let mut context = Context::from_waker(Waker::noop());
    matches!(Pin::new(upstream).poll_read(&mut context, &mut buffer), Poll::Pending)
}

/// Keeps the connections to one node warm, as long as the worker runs.
pub(super) async fn keep_warm(worker: Rc<Worker>, place: usize) {
    let mut pause = PACE;
    loop {
        tokio::time::sleep(pause).await;
        let open = usize::try_from(worker.stats.gauge(Gauge::UpstreamsOpen)).unwrap_or(MOST);
        let missing = worker.pool.missing(place, open + SPARE);
        pause = PACE;
        for _ in 0..missing.min(STEP) {
            let Some(target) = worker.pool.targets.get(place) else { return };
            match dial(target, clock::now() + PATIENCE).await {
                Ok(upstream) => {
                    if let Some(warm) = worker.pool.warm.get(place) {
                        warm.borrow_mut().push(upstream);
                    }
                }
                Err(_unreachable) => {
                    pause = PATIENCE;
                    break;
                }
            }
        }
    }
}
