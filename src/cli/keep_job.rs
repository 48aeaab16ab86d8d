//! `changeover keep-job`: keeps a command of a rollout, so that it outlives the rollout. Not for people.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::show::tell;
use crate::io::exec::JobFolder;

/// Arguments of `keep-job`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The job's folder
    folder: PathBuf,
}

/// Keeps the job to its end.
pub(crate) fn run(args: Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(JobFolder::new(args.folder).keep())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("error: {error}\n"));
            ExitCode::FAILURE
        }
    }
}
