//! `changeover demo`.

use std::process::ExitCode;

/// Arguments of `demo`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {}

/// Not part of this build yet.
pub(crate) fn run(_args: Args) -> ExitCode {
    eprintln!("error: this build has no `demo`");
    ExitCode::FAILURE
}
