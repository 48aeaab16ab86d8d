//! The life of a witness: one owner of the machine, which keeps what must be kept before it answers.
//!
//! It needs no Redis and reaches out to nobody. Invariant: a change of a pair's holder is on disk before anyone hears of
//! it; when it cannot be written, the question is not answered, and the machine is as it was.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::signals::{Signal, Signals};
use super::{Reason, failed, spawn};
use crate::config::{CertificateDates, Secret, ServerTls};
use crate::io::state_file::StateFile;
use crate::io::tls::{self, Renewal, ServerSide, TlsError};
use crate::io::witness::{self, Asked, Guard, Listener};
use crate::io::{clock, notify};
use crate::topology::failover::witness::{Tenure, Witness};

/// Questions that wait.
const QUEUE: usize = 1024;
/// What is kept, by pair.
type Kept = BTreeMap<String, Tenure>;

/// What a witness needs to know.
#[derive(Debug)]
pub struct Settings {
    /// Where processes ask.
    pub listen: SocketAddr,
    /// TLS of that.
    pub tls: Option<ServerTls>,
    /// Whether its certificate may be outside its dates at a reload.
    pub certificate_dates: CertificateDates,
    /// What every question must carry.
    pub token: Option<Secret>,
    /// Where the holders are kept.
    pub state_dir: PathBuf,
}

/// Runs until it is told to end.
pub fn run(settings: Settings) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(live(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => failed(&reason),
    }
}

async fn live(settings: Settings) -> Result<(), Reason> {
    let certified = settings.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let dates = settings.certificate_dates;
    let files = settings.tls.clone();
    warn_of_dates(files.as_ref());
    let tls = settings.tls.map(ServerSide::load).transpose()?.map(Arc::new);
    let file = StateFile::new(&settings.state_dir, &format!("witness-{}", settings.listen.port()));
    file.prepare().map_err(|error| format!("{}: {error}", file.path().display()))?;
    let kept = recall(&file)?;
    let mut signals = Signals::listen()?;
    let guard = Guard { tls: tls.clone(), certified, token: settings.token };
    let listener = Listener::bind(settings.listen, guard).await?;
    let address = listener.local_addr().unwrap_or(settings.listen);
    let (asked, mut asks) = mpsc::channel(QUEUE);
    let stop = CancellationToken::new();
    let mut machine = Witness::new(kept, clock::now());
    tracing::info!(listen = %address, pairs = machine.pairs(), "a witness");
    notify::ready(&format!("a witness, listening on {address}"));
    let serving = spawn(witness::serve(listener, asked, stop.clone()));
    loop {
        tokio::select! {
            Some(asked) = asks.recv() => answer(&mut machine, &file, asked).await,
            signal = signals.next() => match signal {
                Signal::Leave => break,
                Signal::Reload => match read_again(tls.as_deref(), dates) {
                    Ok(()) => {
                        warn_of_dates(files.as_ref());
                        tracing::info!("certificates were read again; new connections use them");
                    }
                    Err(error) => tracing::error!(%error, "reload refused; the certificates in force stay"),
                },
            },
        }
    }
    stop.cancel();
    let _ = serving.await;
    tracing::info!("ended");
    Ok(())
}

fn read_again(tls: Option<&ServerSide>, dates: CertificateDates) -> Result<(), TlsError> {
    tls.map_or(Ok(()), |side| side.read_again(dates).map(Renewal::take))
}

fn warn_of_dates(files: Option<&ServerTls>) {
    for fault in tls::date_faults(files.into_iter().flat_map(ServerSide::certificates)) {
        tracing::warn!(error = %fault.error, own = fault.own, "a certificate is outside its dates");
    }
}

async fn answer(machine: &mut Witness, file: &StateFile, asked: Asked) {
    let before = machine.clone();
    let Asked { pair, line, ask, reply } = asked;
    let answered = machine.handle_ask(&pair, line, &ask, clock::now());
    if let Some((answer, true)) = &answered {
        let kept = machine.kept();
        if let Err(error) = save(file.clone(), kept).await {
            tracing::error!(%error, file = %file.path().display(), "who holds the pair cannot be kept: nobody is told");
            *machine = before;
            return;
        }
        let holder = answer.holder.map(|node| node.0);
        tracing::info!(pair, term = answer.term, holder, want = ?ask.want, "another holder");
    }
    // Whoever asked may have gone.
    let _ = reply.send(answered.map(|(answer, _)| answer));
}

async fn save(file: StateFile, kept: Kept) -> std::io::Result<()> {
    let text = serde_json::to_string_pretty(&kept).map_err(std::io::Error::other)?;
    tokio::task::spawn_blocking(move || file.save(&text)).await.map_err(std::io::Error::other)?
}

/// What was kept. A witness that has forgotten who holds a pair could give it to the wrong one: it does not start.
fn recall(file: &StateFile) -> Result<Kept, Reason> {
    let Some(text) = file.load()? else { return Ok(Kept::new()) };
    let kept = serde_json::from_str(&text);
    kept.map_err(|error| format!("{} is damaged ({error}); move it away to start anew", file.path().display()).into())
}
