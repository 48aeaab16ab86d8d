//! The one owner: waits for an event of a closed enum, applies it, publishes the View.
//!
//! [`run`] is the life of the process: load, listen, announce, own, drain, end. Everything that decides is owned by
//! [`owner`]; everything else here carries events to it or its orders away. The pair's channel has its words in
//! [`channel`], their authentication in [`seal`], who is there in [`peers`], the ordered hold in [`holding`].

pub mod advice;
pub mod changes;
pub mod channel;
pub mod diary;
pub mod duties;
pub mod hands;
pub mod holding;
pub mod hooks;
pub mod inbox;
pub mod keeper;
pub mod owner;
pub mod peers;
pub mod plane;
pub mod rollout;
mod saving;
pub mod seal;
pub mod signals;
pub mod witness;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{Admin, CertificateDates, ChannelSecret, Config, ServerTls, prepare_private};
use crate::io::client::Target;
use crate::io::files::OpenFiles;
use crate::io::http::{self, Guard, Listener};
use crate::io::tls::{self, Renewal, Role, ServerSide, TlsError, UpstreamSide};
use crate::io::witness::Asker;
use crate::io::{notify, worker};
use crate::metrics::exposition::{self, Scrape};
use crate::metrics::worker::WorkerStats;
use plane::Plane;
use seal::Seal;
use signals::Signals;

/// A name that is not resolved in this time is not compared with others.
const RESOLVES_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Why the process could not start; says what to look at.
type Reason = Box<dyn std::error::Error>;

/// Runs the process until it is told to end.
pub fn run(mut config: Config) -> ExitCode {
    bound_clients(&mut config);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let result = runtime.block_on(live(Arc::new(config)));
    // A disk or a resolver that does not answer must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => failed(&reason),
    }
}

/// Raises the limit of open files, and bounds clients by what is left.
fn bound_clients(config: &mut Config) {
    let files = OpenFiles::raise();
    if files.limit > files.soft {
        tracing::info!(from = files.soft, to = files.limit, "the limit of open files was raised");
    }
    let most = files.clients(config.limits.connections, config.workers);
    if most < config.limits.connections {
        let (wanted, limit) = (config.limits.connections, files.limit);
        tracing::info!(wanted, most, open_files = limit, "max-connections is lowered: {TOO_FEW_FILES}");
        config.limits.connections = most;
    }
}

/// What to do when `max-connections` is lowered.
const TOO_FEW_FILES: &str = "a client may need two open files; raise the hard limit (LimitNOFILE, ulimit -Hn)";

fn failed(reason: &Reason) -> ExitCode {
    eprintln!("error: {reason}");
    ExitCode::FAILURE
}

/// The servers for operators and scrapers, bound before anything is changed.
struct Servers {
    admin: Listener,
    metrics: Option<(Listener, Scrape)>,
}

async fn live(config: Arc<Config>) -> Result<(), Reason> {
    if let Admin::Unix(path) = &config.admin {
        prepare_private(path)?;
    }
    prepare_private(&config.state_dir)?;
    distinct(&config).await?;
    let tls = Arc::new(ServerSide::load(config.tls.clone())?);
    let upstream = config.upstream_tls.clone().map(UpstreamSide::load).transpose()?.map(Arc::new);
    let targets = Target::all(&config, upstream.as_ref())?;
    let sentinels_side = config.sentinels.tls.clone().map(UpstreamSide::load).transpose()?.map(Arc::new);
    let sentinels = Target::sentinels(&config, sentinels_side.as_ref())?;
    let signals = Signals::listen()?;
    let stats: Vec<_> = (0..config.workers).map(|_| WorkerStats::new()).collect();
    let admin_tls = admin_tls(&config)?;
    let servers = bind(&config, admin_tls.clone(), &stats).await?;

    let asker = Asker::of(&config)?;
    let witness_side = asker.as_ref().and_then(Asker::side);
    let plane = Plane::prepare(&config, &targets, sentinels, asker, stats.clone());
    let (news, news_rx) = mpsc::channel(inbox::QUEUE);
    let workers = worker::start(&config, &tls, &targets, &plane.orders(), &news, &stats)?;
    tracing::info!(listen = %workers.local_addr, workers = config.workers, "serving");

    warn_of_dates(&config);
    let reseal = reseal(&config, plane.seal());
    let logins: Vec<_> = targets.iter().filter_map(|target| target.login.clone()).collect();
    let files = Arc::clone(&config);
    let reload = move || {
        let servers: Vec<_> = [&tls].into_iter().chain(&admin_tls).cloned().collect();
        let clients: Vec<_> = upstream.iter().chain(&sentinels_side).chain(&witness_side).cloned().collect();
        let read = read_again(&servers, &clients, files.certificate_dates).map_err(|error| error.to_string())?;
        logins.iter().try_for_each(|login| login.read_again().map(drop))?;
        reseal()?;
        read.into_iter().for_each(Renewal::take);
        warn_of_dates(&files);
        Ok(())
    };
    let stop = CancellationToken::new();
    let serving = serve(&config, servers, &plane, &stop);
    notify::ready(&format!("listening on {}", workers.local_addr));
    plane.run(news_rx, Some(signals), reload).await;

    stop.cancel();
    for server in serving {
        let _ = server.await;
    }
    // The owner is gone and with it the orders: that is the workers' sign to end.
    let _ = tokio::task::spawn_blocking(move || workers.join()).await;
    tracing::info!("ended");
    Ok(())
}

/// Two names for one node look like a pair. A name that is not known now says nothing.
async fn distinct(config: &Config) -> Result<(), Reason> {
    let [first, second] = config.nodes.as_slice() else { return Ok(()) };
    if first.port != second.port {
        return Ok(());
    }
    let addresses = async |node: &crate::config::Node| {
        let asked = tokio::net::lookup_host((node.host.as_str(), node.port));
        let found = tokio::time::timeout(RESOLVES_WITHIN, asked).await.ok()?.ok()?;
        Some(found.map(|address| address.ip().to_canonical()).collect::<BTreeSet<_>>())
            .filter(|found| !found.is_empty())
    };
    match (addresses(first).await, addresses(second).await) {
        (Some(one), Some(other)) if one == other => Err(format!(
            "{} ({}) and {} ({}) are one node: both names lead to the same address and port",
            first.name, first.host, second.name, second.host
        )
        .into()),
        _ => Ok(()),
    }
}

/// Reads the secret of the pair's channel again.
fn reseal(
    config: &Arc<Config>,
    sender: Option<Arc<watch::Sender<Arc<Seal>>>>,
) -> impl Fn() -> Result<(), String> + Clone + Send + 'static {
    let (file, channel) = (config.channel_secret.as_ref().map(|secret| secret.file.clone()), config.channel.clone());
    move || {
        if let (Some(file), Some(sender)) = (&file, &sender) {
            let secret = ChannelSecret::read(file)?;
            sender.send_replace(Arc::new(Seal::new(&secret, &channel)));
        }
        Ok(())
    }
}

/// Reads all files before anything is swapped: one file that is refused leaves everything in force.
fn read_again<'a>(
    servers: &'a [Arc<ServerSide>],
    clients: &'a [Arc<UpstreamSide>],
    dates: CertificateDates,
) -> Result<Vec<Renewal<'a>>, TlsError> {
    let servers = servers.iter().map(|side| side.read_again(dates));
    let clients = clients.iter().map(|side| side.read_again(dates));
    servers.chain(clients).collect()
}

/// One line for each configured certificate that is outside its dates.
fn warn_of_dates(config: &Config) {
    for fault in tls::date_faults(certificates(config)) {
        tracing::warn!(error = %fault.error, own = fault.own, "a certificate is outside its dates");
    }
}

/// Every file with certificates that this process uses.
pub fn certificates(config: &Config) -> Vec<(&Path, Role)> {
    let mut files: Vec<_> = ServerSide::certificates(&config.tls).collect();
    let witness = config.witness.as_ref().and_then(|witness| witness.tls.as_ref());
    for upstream in config.upstream_tls.iter().chain(&config.sentinels.tls).chain(witness) {
        files.extend(UpstreamSide::certificates(upstream));
    }
    let admin_ca = config.admin_guard.as_ref().and_then(|guard| guard.client_ca.as_deref());
    files.extend(admin_ca.map(|ca| (ca, Role::Authority)));
    let mut seen = std::collections::HashSet::new();
    files.retain(|(file, _)| seen.insert(*file));
    files
}

/// TLS of the admin API, where it has a login: our certificate, and the CA of operators' certificates.
fn admin_tls(config: &Config) -> Result<Option<Arc<ServerSide>>, Reason> {
    let side = config.admin_guard.as_ref().map(|guard| {
        ServerSide::load(ServerTls { client_ca: guard.client_ca.clone(), ..config.tls.clone() }).map(Arc::new)
    });
    Ok(side.transpose()?)
}

async fn bind(
    config: &Config,
    admin_tls: Option<Arc<ServerSide>>,
    stats: &[Arc<WorkerStats>],
) -> Result<Servers, Reason> {
    let admin = Listener::admin(&config.admin, admin_tls).await?;
    let metrics = match config.metrics {
        Some(addr) => Some((Listener::metrics(addr).await?, exposition::install(stats.to_vec())?)),
        None => None,
    };
    Ok(Servers { admin, metrics })
}

fn serve(
    config: &Config,
    servers: Servers,
    plane: &Plane,
    stop: &CancellationToken,
) -> Vec<tokio::task::JoinHandle<()>> {
    let guard = config.admin_guard.clone().map_or(Guard::Local, |guard| Guard::Login(guard.token));
    let admin = http::admin_routes(plane.admin(), guard);
    let mut serving = vec![spawn(http::serve(servers.admin, admin, stop.clone()))];
    if let Some((listener, scrape)) = servers.metrics {
        let routes = http::metrics_routes(scrape.clone(), plane.admin().status);
        serving.push(spawn(http::serve(listener, routes, stop.clone())));
        let stop = stop.clone();
        serving.push(spawn(async move {
            tokio::select! {
                () = http::upkeep(scrape) => {}
                () = stop.cancelled() => {}
            }
        }));
    }
    serving
}

/// Starts a task of the control plane's own thread; [`Plane`] or [`live`] owns it.
#[expect(clippy::disallowed_methods, reason = "control is where tasks of the control plane are started and owned")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::spawn(task)
}

#[cfg(test)]
mod tests;
