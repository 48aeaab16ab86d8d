//! `changeover demo`: the product's promises, tried on this machine with real servers, and counted.
//!
//! Two `redis-server` processes as a pair, one proxy beside each, TLS clients on both proxies doing work that checks
//! itself, and a few subscribers, job workers and transactions; then roles change again and again: announced, behind the proxies' back, and by `kill -9`. What clients saw
//! ends in a table; a broken promise is named and makes the exit code 1.
//!
//! The demo speaks to proxies and servers from outside only, through what any user has: the command line, TLS, RESP.
//! Everything it starts ends with it.

mod certs;
mod connection;
mod driver;
mod ledger;
mod pair;
mod process;
mod proxies;
mod redis;
mod report;
mod script;
mod signals;
mod stateful;
mod table;
mod tally;
mod verify;
mod wire;
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use driver::{Driver, Plan};
use pair::{Pair, Place};
use proxies::Proxies;
use report::{Kind, Report};
use script::Stage;
use signals::Interrupt;
use table::Progress;

/// Options of `changeover demo`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Announced switchovers (`changeover switchover`)
    #[arg(long, default_value_t = 20, value_name = "N")]
    switchovers: usize,
    /// Bare FAILOVERs, sent to Redis behind the proxies' back
    #[arg(long, default_value_t = 20, value_name = "N")]
    failovers: usize,
    /// Times that the primary is killed (kill -9); the proxy beside the replica promotes it
    #[arg(long, default_value_t = 3, value_name = "N")]
    kills: usize,
    /// TLS connections, spread over both proxies; every other one pipelines
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=5000))]
    connections: u16,
    /// Commands a second in all, nine of ten of them writes
    #[arg(long, default_value_t = 12_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Commands in a pipelined batch
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    depth: u16,
    /// Only the load: no subscribers, job workers and transactions beside it
    #[arg(long)]
    load_only: bool,
    /// Worker threads of each proxy
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Print the report as JSON, without progress
    #[arg(long)]
    json: bool,
    /// Keep the directory with logs, certificates and sockets
    #[arg(long)]
    keep: bool,
    /// The server to run
    #[arg(long, default_value = "redis-server", value_name = "FILE")]
    redis_server: PathBuf,
}

/// Runs the demo. Exit code 0: every promise was kept; 1: one was broken, or the demo could not run.
pub(crate) fn run(args: &Args) -> ExitCode {
    let dir = std::env::temp_dir().join(format!("changeover-demo-{}", std::process::id()));
    let outcome = create(&dir).and_then(|()| perform(args, &dir));
    let clean = outcome.as_ref().is_ok_and(|report| report.broken.is_empty());
    // Nothing to look at in the logs of a run that was interrupted or never had a server.
    let no_news = outcome.as_ref().is_err_and(|why| why == signals::INTERRUPTED || why == redis::INSTALL);
    let keep = args.keep || !(clean || no_news);
    match &outcome {
        Ok(report) if args.json => match serde_json::to_string_pretty(report) {
            Ok(text) => println!("{text}"),
            Err(e) => eprintln!("changeover demo: cannot write the report: {e}"),
        },
        Ok(report) => print!("{}", table::render(report)),
        Err(why) => eprintln!("changeover demo: {why}"),
    }
    if keep {
        eprintln!("Logs of servers and proxies: {}", dir.display());
    } else if let Err(e) = std::fs::remove_dir_all(&dir) {
        eprintln!("changeover demo: {} is left behind: {e}", dir.display());
    }
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn create(dir: &Path) -> Result<(), String> {
    use std::os::unix::fs::DirBuilderExt as _;
    // Keys and sockets lie in it.
    std::fs::DirBuilder::new().mode(0o700).create(dir).map_err(|e| format!("{}: {e}", dir.display()))
}

fn perform(args: &Args, dir: &Path) -> Result<Report, String> {
    let progress = Progress::new(args.json);
    let interrupt = Interrupt::listen()?;
    let certs = certs::make(dir)?;
    progress.stage("Starting two redis-server processes as a pair and one proxy beside each ...");
    let mut pair = Pair::start(&args.redis_server, dir, &interrupt)?;
    let mut proxies = Proxies::start(&pair, &certs, dir, args.workers.into(), &interrupt)?;
    let plan = Plan {
        targets: proxies.addresses(),
        tls: certs.client()?,
        connections: args.connections.into(),
        rate: args.rate,
        depth: args.depth.into(),
        stateful: !args.load_only,
    };
    progress.stage(&format!("Opening {} TLS connections ...", plan.connections));
    let driver = Driver::start(plan)?;
    let redis_version = pair.node(Place::A).version()?;
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        redis_version,
        connections: args.connections.into(),
        rate: args.rate,
        stateful: !args.load_only,
        phases: Vec::new(),
        broken: Vec::new(),
    };
    let mut stage = Stage {
        pair: &mut pair,
        proxies: &mut proxies,
        driver: &driver,
        interrupt: &interrupt,
        progress: &progress,
        past: Vec::new(),
    };
    let windows = args.switchovers.max(args.failovers).clamp(3, 20);
    let phases = [
        (Kind::Control, windows),
        (Kind::Announced, args.switchovers),
        (Kind::Bare, args.failovers),
        (Kind::Killed, args.kills),
    ];
    for (kind, count) in phases {
        if count > 0 {
            let phase = stage.phase(kind, count)?;
            progress.stage(&table::summary(&phase));
            report.phases.push(phase);
        }
    }
    report.broken = report::broken_promises(&report.phases);
    drop(driver);
    proxies.stop();
    Ok(report)
}
