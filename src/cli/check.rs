//! `changeover check`: is this configuration usable, and what exactly would be in force?
//!
//! It opens files and nothing else: no socket, no connection to Redis. With `--live` it asks the nodes how they are set;
//! with `--fleet` it asks every proxy of a fleet instead, whether a rollout could begin. Nothing is ever changed.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::flags::ConfigFlags;
use super::patch::launch;
use crate::cli::show::say;
use crate::config::{self, CertificateDates, Config, Node};
use crate::control::{advice, certificates};
use crate::io::client::Target;
use crate::io::files::OpenFiles;
use crate::io::tls::{ServerSide, TlsError, UpstreamSide, date_faults};
use crate::patch::settings::{Finding, Weight};

/// Arguments of `check`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Check a fleet instead: its file, its proxies, whether roles could be switched (see docs/drain-and-patch.md)
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,
    /// With --fleet: print what was found as JSON
    #[arg(long, requires = "fleet")]
    json: bool,
    /// Ask the nodes too: which of their settings make a change of primary or a patch dangerous or slow
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    flags: ConfigFlags,
}

/// Prints the effective configuration, and every mistake.
pub(crate) fn run(args: Args) -> ExitCode {
    if let Some(fleet) = &args.fleet {
        return launch::check(fleet, args.json);
    }
    let loaded = match config::load(&args.flags.0) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::FAILURE;
        }
    };
    let mut errors = tls_errors(&loaded.config);
    for fault in date_faults(certificates(&loaded.config)) {
        if fault.own && loaded.config.certificate_dates == CertificateDates::Refuse {
            errors.push(fault.error);
        } else {
            eprintln!("warning: {}", fault.error);
        }
    }
    for error in &errors {
        eprintln!("error: {error}");
    }
    if !errors.is_empty() {
        return ExitCode::FAILURE;
    }
    if loaded.config.channel_secret.is_none() {
        eprintln!(
            "warning: the pair's channel is not authenticated: a client that may publish, or run a script, can hold everybody \
             for a while\n  next: changeover secret FILE, and channel-secret-file = \"FILE\" on both proxies"
        );
        if loaded.config.witness.is_some() {
            eprintln!(
                "warning: without channel-secret-file the proxies give each other no leases: when the witness is away for \
                 longer than witness-lease, the node in service is not served"
            );
        }
    }
    if args.live {
        return live(&loaded.config);
    }
    // A reader that went away (`| head`) is no failure of the check.
    let page = config::to_toml(&loaded.effective, &loaded.config.hooks) + &files(&loaded.config);
    let _ = std::io::stdout().write_all(page.as_bytes());
    ExitCode::SUCCESS
}

/// What the limit of open files leaves for clients; a comment behind the configuration.
fn files(config: &Config) -> String {
    let files = OpenFiles::look();
    let most = files.clients(config.limits.connections, config.workers);
    let lowered = if most < config.limits.connections { "; max-connections is lowered to that" } else { "" };
    format!("\n# Open files: at most {}, enough for {most} clients{lowered}\n", files.limit)
}

/// What is wrong with the settings of the nodes, each with the command that mends it.
fn live(config: &Config) -> ExitCode {
    let side = config.upstream_tls.clone().map(UpstreamSide::load).transpose().map(|side| side.map(Arc::new));
    let targets = side.and_then(|side| Target::all(config, side.as_ref()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (targets, runtime) = match (targets, runtime) {
        (Ok(targets), Ok(runtime)) => (targets, runtime),
        (Err(error), _) => return failure(&error.to_string()),
        (_, Err(error)) => return failure(&error.to_string()),
    };
    let advice = runtime.block_on(advice::ask(&targets));
    let mut well = true;
    for (node, advice) in config.nodes.iter().zip(&advice) {
        match advice {
            Err(error) => {
                well = false;
                say(&format!("▲ {}: {error}\n", node.name));
            }
            Ok((_, findings)) if findings.is_empty() => say(&format!("● {}: set well\n", node.name)),
            Ok((_, findings)) => {
                well = well && findings.iter().all(|finding| finding.weight != Weight::Must);
                findings.iter().for_each(|finding| say(&line(node, finding)));
            }
        }
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn line(node: &Node, finding: &Finding) -> String {
    let mark = if finding.weight == Weight::Must { '▲' } else { '!' };
    let Finding { setting, found, why, mend, .. } = finding;
    let found = if found.is_empty() { "empty" } else { found };
    let at = format!("redis-cli -h {} -p {}", node.host, node.port);
    format!("{mark} {}: {setting} is {found}: {why}\n    {at} {mend}\n", node.name)
}

fn failure(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::FAILURE
}

fn tls_errors(config: &Config) -> Vec<TlsError> {
    let mut errors = ServerSide::faults(&config.tls);
    let witness = config.witness.as_ref().and_then(|witness| witness.tls.as_ref());
    for files in config.upstream_tls.iter().chain(&config.sentinels.tls).chain(witness) {
        errors.extend(UpstreamSide::faults(files));
    }
    // What the Sentinels share with the nodes is wrong once.
    errors.dedup_by_key(|error| error.to_string());
    if errors.is_empty() {
        // What only shows when everything is put together.
        errors.extend(ServerSide::load(config.tls.clone()).err());
        errors.extend(config.upstream_tls.clone().and_then(|files| {
            UpstreamSide::load(files).and_then(|side| Target::all(config, Some(&Arc::new(side)))).err()
        }));
        errors.extend(config.sentinels.tls.clone().and_then(|files| {
            UpstreamSide::load(files).and_then(|side| Target::sentinels(config, Some(&Arc::new(side)))).err()
        }));
    }
    errors
}
