//! `changeover switchover`.

use std::process::ExitCode;

/// Arguments of `switchover`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {}

/// Not part of this build yet.
pub(crate) fn run(_args: Args) -> ExitCode {
    eprintln!("error: this build has no `switchover`");
    ExitCode::FAILURE
}
