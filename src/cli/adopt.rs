//! `changeover adopt`.

use std::process::ExitCode;

/// Arguments of `adopt`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {}

/// Not part of this build yet.
pub(crate) fn run(_args: Args) -> ExitCode {
    eprintln!("error: this build has no `adopt`");
    ExitCode::FAILURE
}
