//! `changeover drain`: lets the clients of a process go, and follows that to its end.
//!
//! The process stays, without clients, until `changeover undrain` or SIGTERM; with `--stop` it ends, as on SIGTERM.

use std::process::ExitCode;
use std::time::Duration;

use crate::cli::operator::{self, Ended, Reach, Verdict};
use crate::cli::show::{counted, say, tell, time_ms};
use crate::io::admin::client::{AdminClient, AskError};
use crate::io::admin::status::{DrainCut, DrainStatus};

/// Between two looks.
const AGAIN: Duration = Duration::from_millis(500);

/// Close client connections at quiet moments; the process stays until `undrain`, or ends with --stop
#[derive(Debug, clap::Args)]
#[command(after_help = operator::EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    reach: Reach,
    /// End the process when it is drained, as SIGTERM does
    #[arg(long)]
    stop: bool,
    /// Return at once; otherwise the drain is followed to its end
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
    let began = client.drain(args.stop).await?;
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
        if last.done && !last.stops {
            return Ok(last);
        }
        if !quiet {
            tell(&left(&last));
        }
        tokio::time::sleep(AGAIN).await;
        match client.status().await {
            Ok(status) => match status.drain {
                Some(drain) => last = drain,
                // It was taken back.
                None => return Ok(last),
            },
            // It answers no more: it has ended, which is what was asked.
            Err(AskError::Nobody(_) | AskError::Cut(_)) => return Ok(last),
            Err(error) => return Err(error),
        }
    }
}

fn left(drain: &DrainStatus) -> String {
    format!("draining: {} left, cut in {}\n", counted(drain.open, "connection"), time_ms(drain.left_ms))
}

/// A process that ends may have closed more after it was last asked, so this does not claim to be exact then.
fn ended(drain: &DrainStatus) -> String {
    let heard = if drain.done { "" } else { "; when last heard" };
    let mut text = format!(
        "drained{heard}: {} closed between commands, {} moved by themselves, {} cut\n",
        drain.closed, drain.moved, drain.cut
    );
    for DrainCut { why, library, count } in &drain.cuts {
        text += &format!("  cut: {count} × {why} ({library})\n");
    }
    if drain.done && !drain.stops {
        text += "the process takes no clients until `changeover undrain`\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_what_is_left_and_for_how_long() {
        let drain = DrainStatus { left_ms: 30_000, open: 1, ..DrainStatus::default() };
        assert_eq!(left(&drain), "draining: 1 connection left, cut in 30 s\n");
    }

    #[test]
    fn the_end_says_who_was_cut_and_what_to_do_next() {
        let cuts = vec![DrainCut { why: "blocked".into(), library: "jedis".into(), count: 2 }];
        let drain = DrainStatus { closed: 7, moved: 3, cut: 2, done: true, cuts, ..DrainStatus::default() };
        let text = "drained: 7 closed between commands, 3 moved by themselves, 2 cut\n  cut: 2 × blocked (jedis)\n\
                    the process takes no clients until `changeover undrain`\n";
        assert_eq!(ended(&drain), text);
        assert!(ended(&DrainStatus { stops: true, ..drain }).ends_with("(jedis)\n"));
    }
}
