//! `changeover check`: is this configuration usable, and what exactly would be in force?
//!
//! It opens files and nothing else: no socket, no connection to Redis. With `--fleet` it asks every proxy of a fleet
//! instead, whether a rollout could begin; that changes nothing either.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::flags::ConfigFlags;
use super::patch::launch;
use crate::config::{self, Config};
use crate::io::client::Target;
use crate::io::tls::{ServerSide, TlsError, UpstreamSide};

/// Arguments of `check`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Check a fleet instead: its file, its proxies, whether roles could be switched (see docs/drain-and-patch.md)
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,
    /// With --fleet: print what was found as JSON
    #[arg(long, requires = "fleet")]
    json: bool,
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
    let errors = tls_errors(&loaded.config);
    for error in &errors {
        eprintln!("error: {error}");
    }
    if !errors.is_empty() {
        return ExitCode::FAILURE;
    }
    // A reader that went away (`| head`) is no failure of the check.
    let _ = std::io::stdout().write_all(config::to_toml(&loaded.effective).as_bytes());
    ExitCode::SUCCESS
}

fn tls_errors(config: &Config) -> Vec<TlsError> {
    let mut errors = ServerSide::faults(&config.tls);
    if let Some(files) = &config.upstream_tls {
        errors.extend(UpstreamSide::faults(files));
    }
    if errors.is_empty() {
        // What only shows when everything is put together.
        errors.extend(ServerSide::load(config.tls.clone()).err());
        errors.extend(config.upstream_tls.clone().and_then(|files| {
            UpstreamSide::load(files).and_then(|side| Target::all(config, Some(&Arc::new(side)))).err()
        }));
    }
    errors
}
