//! `changeover drain`: lets the clients of a process go, then the process ends; follows it to the end.
//!
//! The same as SIGTERM, for people who do not want to look for the process' id.

use std::process::ExitCode;
use std::time::Duration;

use crate::cli::operator::{self, Ended, Reach, Verdict};
use crate::cli::show::{counted, say, tell, time_ms};
use crate::io::admin::DrainStatus;
use crate::io::admin_client::{AdminClient, AskError};

/// Between two looks.
const AGAIN: Duration = Duration::from_millis(500);

/// Close client connections at quiet moments, then end the process
#[derive(Debug, clap::Args)]
#[command(after_help = operator::EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    reach: Reach,
    /// Return at once; otherwise the drain is followed until the process has ended
    #[arg(long)]
    no_wait: bool,
    /// Print the last known state of the drain as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> ExitCode {
    operator::run(drain(&args))
}

async fn drain(args: &Args) -> Ended {
    let client = args.reach.client()?;
    let began = client.drain().await?;
    let last = if args.no_wait { began } else { follow(&client, began, args.json).await? };
    say(&match (args.json, args.no_wait) {
        (true, _) => operator::json(&last),
        (false, true) => left(&last),
        (false, false) => ended(&last),
    });
    Ok(Verdict::Yes)
}

async fn follow(client: &AdminClient, mut last: DrainStatus, quiet: bool) -> Result<DrainStatus, AskError> {
    loop {
        if !quiet {
            tell(&left(&last));
        }
        tokio::time::sleep(AGAIN).await;
        match client.status().await {
            Ok(status) => last = status.drain.unwrap_or(last),
            // It answers no more: it has ended, which is what was asked.
            Err(AskError::Nobody(_) | AskError::Cut(_)) => return Ok(last),
            Err(error) => return Err(error),
        }
    }
}

fn left(drain: &DrainStatus) -> String {
    format!("draining: {} left, cut in {}\n", counted(drain.open, "connection"), time_ms(drain.left_ms))
}

/// The process may have closed more after it was last asked, so this does not claim to be exact.
fn ended(drain: &DrainStatus) -> String {
    format!("drained; when last heard: {} closed between commands, {} cut\n", drain.closed, drain.cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_what_is_left_and_for_how_long() {
        let drain = DrainStatus { since_ms: 0, left_ms: 30_000, open: 1, closed: 0, cut: 0 };
        assert_eq!(left(&drain), "draining: 1 connection left, cut in 30 s\n");
    }
}
