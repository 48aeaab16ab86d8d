//! `changeover check`: is this configuration usable, and what exactly would be in force?
//!
//! It opens files and nothing else: no socket, no connection to Redis.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use super::flags::ConfigFlags;
use crate::config::{self, Config};
use crate::io::client::Target;
use crate::io::tls::{ServerSide, TlsError, UpstreamSide};

/// Arguments of `check`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: ConfigFlags,
}

/// Prints the effective configuration, and every mistake.
pub(crate) fn run(args: Args) -> ExitCode {
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
