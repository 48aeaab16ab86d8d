//! `changeover secret`: the secret of a pair's channel, into a file that only its owner can read.
//!
//! Nothing that exists is overwritten: a secret is rotated by hand, line by line (docs/operations.md).

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{new_channel_secret, write_channel_secret};

/// Arguments of `secret`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to make, for `channel-secret-file` on both proxies; without it, the secret is printed
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Makes the file, or prints a secret.
pub(crate) fn run(args: &Args) -> ExitCode {
    let done = match &args.file {
        Some(file) => write_channel_secret(file).map(|()| file.display().to_string()),
        None => new_channel_secret(),
    };
    match done {
        Ok(text) => {
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
