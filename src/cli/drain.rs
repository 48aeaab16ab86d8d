//! `changeover drain`.

use std::process::ExitCode;

/// Arguments of `drain`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {}

/// Not part of this build yet.
pub(crate) fn run(_args: Args) -> ExitCode {
    eprintln!("error: this build has no `drain`");
    ExitCode::FAILURE
}
