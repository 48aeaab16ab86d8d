//! Stand-in for the data plane: says at once that it is quiet, and has no sessions.
//!
//! Only for the control plane's own tests until the workers exist.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::client::Target;
use super::orders::{News, Orders};
use super::tls::ServerSide;
use crate::config::Config;
use crate::metrics::worker::WorkerStats;

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    /// Where clients connect.
    pub local_addr: SocketAddr,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Workers {
    /// Waits until every worker has ended: they end when the orders' sender is gone.
    pub fn join(self) {
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Starts them.
///
/// # Errors
/// When the address cannot be listened on, or a thread not started.
pub fn start(
    config: &Config,
    _tls: Arc<ServerSide>,
    _targets: Vec<Target>,
    orders: watch::Receiver<Orders>,
    news: mpsc::Sender<News>,
    _stats: Vec<Arc<WorkerStats>>,
) -> io::Result<Workers> {
    let listener = TcpListener::bind(config.listen)?;
    let local_addr = listener.local_addr()?;
    let mut threads = Vec::new();
    for worker in 0..config.workers {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (orders, news) = (orders.clone(), news.clone());
        let spawn = std::thread::Builder::new().name(format!("worker-{worker}"));
        threads.push(spawn.spawn(move || runtime.block_on(obey(worker, orders, news)))?);
    }
    Ok(Workers { local_addr, threads })
}

async fn obey(worker: usize, mut orders: watch::Receiver<Orders>, news: mpsc::Sender<News>) {
    let (mut quiet, mut drained) = (None, false);
    loop {
        let order = orders.borrow_and_update().clone();
        if let Some(hold) = order.hold
            && quiet != Some(hold.id)
        {
            quiet = Some(hold.id);
            let _ = news.send(News::Quiesced { worker, hold: hold.id }).await;
        }
        if order.drain.is_some() && !drained {
            drained = true;
            let _ = news.send(News::Drained { worker, closed: 0, cut: 0 }).await;
        }
        if orders.changed().await.is_err() {
            return;
        }
    }
}
