//! `changeover run`: flags and file become a configuration, then the process runs.
//!
//! Everything after that is `control`'s.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use super::EXIT_USAGE;
use super::flags::ConfigFlags;
use crate::config::{self, Log};

/// Arguments of `run`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: ConfigFlags,
}

/// Runs until the process is told to end.
pub(crate) fn run(args: Args) -> ExitCode {
    match config::load(&args.flags.0) {
        Ok(loaded) => {
            start_log(&loaded.log);
            crate::control::run(loaded.config)
        }
        Err(problems) => {
            eprintln!("{problems}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Starts the log, on standard error.
pub(super) fn start_log(log: &Log) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&log.filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // A second start in one process (tests) keeps the first log.
    let _ = if log.json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
}
