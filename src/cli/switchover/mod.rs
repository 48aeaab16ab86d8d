//! `changeover switchover`: makes the other node primary, and tells every step with its time.
//!
//! Steps appear on standard error as they happen; the story of the whole is the result on standard output.

use std::process::ExitCode;

use crate::cli::operator::{self, Ended, Reach, Verdict};
use crate::cli::show::{Paint, say, tell};
use crate::io::admin::{Outcome, Progress, SwitchoverOrder, SwitchoverReport};

mod page;

/// Make the other node primary without a client noticing
#[derive(Debug, clap::Args)]
#[command(after_help = operator::EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    reach: Reach,
    /// The node to promote (default: the one that is not primary)
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    /// Check every condition and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Give up and go back to the old primary after this time, such as 10s (default: the process' hold limit)
    #[arg(long, value_name = "TIME", value_parser = millis)]
    timeout: Option<u64>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> ExitCode {
    operator::run(switch(&args))
}

async fn switch(args: &Args) -> Ended {
    let order = SwitchoverOrder { to: args.to.clone(), timeout_ms: args.timeout, dry_run: args.dry_run };
    // The page of a dry run is its gates.
    let quiet = args.json || args.dry_run;
    let live = |progress: &Progress| {
        if let Some(line) = page::line(progress).filter(|_| !quiet) {
            tell(&line);
        }
    };
    let report = args.reach.client()?.switchover(&order, live).await?;
    say(&if args.json { operator::json(&report) } else { page::page(&report, Paint::for_stdout()) });
    Ok(verdict(&report))
}

fn verdict(report: &SwitchoverReport) -> Verdict {
    Verdict::from(matches!(report.outcome, Outcome::Switched | Outcome::DryRun))
}

fn millis(text: &str) -> Result<u64, String> {
    let time: Option<jiff::SignedDuration> = text.parse().ok();
    let ms = time.and_then(|time| u64::try_from(time.as_millis()).ok()).filter(|ms| *ms > 0);
    ms.ok_or_else(|| "expected a time such as 10s or 500ms".to_owned())
}

#[cfg(test)]
mod tests;
