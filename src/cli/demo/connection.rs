//! One client connection: sends its share of the load at its pace, reads the replies, connects again when closed.
//!
//! Cheap on purpose, since clients, proxies and servers share the machine: buffers are reused, a batch leaves in one
//! write, the clock is read once for each read. It does not judge replies (`workload` does).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::driver::Shared;
use super::ledger::Ledger;
use super::wire;
use super::workload::Workload;
use crate::io::clock;

/// Between attempts to connect again.
const BACK_OFF: Duration = Duration::from_millis(20);
/// A batch of this workload's replies fits several times.
const INPUT: usize = 4096;

/// What the rest of the driver may know of a connection.
pub(super) struct Connection {
    number: usize,
    work: RefCell<Workload>,
    sent: Cell<Duration>,
}

impl Connection {
    /// Not yet connected.
    pub(super) fn new(number: usize) -> Self {
        Self { number, work: RefCell::new(Workload::new(0, number)), sent: Cell::default() }
    }

    /// Commands without a reply.
    pub(super) fn outstanding(&self) -> usize {
        self.work.borrow().outstanding()
    }

    /// When the oldest command without a reply was sent.
    pub(super) fn waiting_since(&self) -> Option<Duration> {
        (self.outstanding() > 0).then(|| self.sent.get())
    }

    /// A copy of what was acknowledged in this phase.
    pub(super) fn ledger(&self) -> Ledger {
        self.work.borrow().ledger().clone()
    }

    /// Begins a phase with a fresh ledger.
    pub(super) fn renew(&self, phase: usize) {
        self.work.replace(Workload::new(phase, self.number));
    }
}

/// Opens one TLS connection; connections take turns between the targets.
pub(super) async fn dial(shared: &Shared, number: usize) -> Result<TlsStream<TcpStream>, String> {
    let targets = &shared.plan.targets;
    let target = targets.get((number / 2) % targets.len().max(1)).ok_or("nothing to connect to")?;
    let failed = |e: std::io::Error| format!("{target}: {e}");
    let tcp = TcpStream::connect(target).await.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    let name = ServerName::try_from("localhost").map_err(|e| e.to_string())?;
    TlsConnector::from(shared.plan.tls.clone()).connect(name, tcp).await.map_err(failed)
}

/// The life of a connection; ends with the runtime.
pub(super) async fn converse(shared: Rc<Shared>, connection: Rc<Connection>, first: TlsStream<TcpStream>) {
    let mut stream = first;
    let mut pace = Pace::new(&shared, connection.number);
    let (mut out, mut input) = (Vec::with_capacity(INPUT), Vec::with_capacity(INPUT));
    loop {
        if shared.phase.get().is_none() {
            shared.resumed.notified().await;
            pace.begin();
        }
        pace.wait().await;
        if shared.phase.get().is_none() {
            continue;
        }
        out.clear();
        connection.work.borrow_mut().batch(&mut out, pace.batch);
        if exchange(&shared, &connection, &mut stream, &out, &mut input).await.is_err() {
            {
                let tally = &mut *shared.tally.borrow_mut();
                tally.closed += 1;
                connection.work.borrow_mut().connection_lost(tally);
            }
            input.clear();
            stream = again(&shared, connection.number).await;
        }
    }
}

async fn again(shared: &Shared, number: usize) -> TlsStream<TcpStream> {
    loop {
        match dial(shared, number).await {
            Ok(stream) => return stream,
            Err(_) => shared.tally.borrow_mut().refused_connections += 1,
        }
        tokio::time::sleep(BACK_OFF).await;
    }
}

/// Sends one batch and reads until it is answered.
async fn exchange(
    shared: &Shared,
    connection: &Connection,
    stream: &mut TlsStream<TcpStream>,
    out: &[u8],
    input: &mut Vec<u8>,
) -> Result<(), String> {
    let sent = clock::now();
    connection.sent.set(sent);
    stream.write_all(out).await.map_err(|e| e.to_string())?;
    stream.flush().await.map_err(|e| e.to_string())?;
    while connection.outstanding() > 0 {
        if stream.read_buf(input).await.map_err(|e| e.to_string())? == 0 {
            return Err("closed".to_owned());
        }
        let stall = clock::now().saturating_sub(sent);
        let mut used = 0;
        let mut replies = 0;
        while connection.outstanding() > 0 {
            let rest = input.get(used..).unwrap_or_default();
            let Some((item, taken)) = wire::item(rest).map_err(|e| e.0)? else { break };
            used += taken;
            replies += 1;
            connection.work.borrow_mut().reply(item, &mut shared.tally.borrow_mut());
        }
        input.drain(..used);
        if replies > 0 {
            shared.felt(stall, replies);
        }
    }
    if input.is_empty() {
        return Ok(());
    }
    // More than was asked for: the connection cannot be trusted to be in step any more.
    shared.tally.borrow_mut().misplaced += 1;
    Err("a reply too many".to_owned())
}

/// When the next batch is due: a fixed rhythm, without catching up after a stall.
struct Pace {
    period: Duration,
    offset: Duration,
    next: Duration,
    batch: usize,
}

impl Pace {
    fn new(shared: &Shared, number: usize) -> Self {
        let plan = &shared.plan;
        let batch = if number % 2 == 1 { plan.depth.max(1) } else { 1 };
        let count = u32::try_from(plan.connections.max(1)).unwrap_or(u32::MAX);
        let each = Duration::from_secs(1) * count / plan.rate.max(1);
        let period = each * u32::try_from(batch).unwrap_or(1);
        // Spread over one period, so that the load is even from the start.
        let offset = period * u32::try_from(number).unwrap_or(0) / count;
        Self { period, offset, next: Duration::ZERO, batch }
    }

    fn begin(&mut self) {
        self.next = clock::now() + self.offset;
    }

    async fn wait(&mut self) {
        let now = clock::now();
        if now < self.next {
            tokio::time::sleep_until(clock::instant(self.next)).await;
        } else if now > self.next + self.period {
            self.next = now;
        }
        self.next += self.period;
    }
}
