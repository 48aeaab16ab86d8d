//! `changeover undrain`: a drained process takes clients again; returns when it does.

use std::process::ExitCode;
use std::time::Duration;

use crate::cli::operator::{self, Ended, Reach, Verdict};
use crate::cli::show::say;

/// Between two looks.
const AGAIN: Duration = Duration::from_millis(100);
/// How often it is looked.
const LOOKS: u32 = 100;

/// Take clients again after a drain
#[derive(Debug, clap::Args)]
#[command(after_help = operator::EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    reach: Reach,
    /// Print the drain as it was, as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    operator::run(undrain(args))
}

async fn undrain(args: &Args) -> Ended {
    let client = args.reach.client()?;
    let drain = client.undrain().await?;
    for _ in 0..LOOKS {
        if client.status().await?.drain.is_none() {
            say(&if args.json { operator::json(&drain) } else { "serving again\n".to_owned() });
            return Ok(Verdict::Yes);
        }
        tokio::time::sleep(AGAIN).await;
    }
    say("told to serve again, but its address cannot be opened yet; its log says why\n");
    Ok(Verdict::No)
}
