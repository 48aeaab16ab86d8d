//! `changeover status`: what a process knows of itself and the pair, for eyes or for machines.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::cli::operator::{self, Ended, Reach, Verdict};
use crate::cli::show::{Paint, say};
use crate::io::admin::client::AskError;
use crate::io::admin::status::Status;

mod page;

/// Between two looks of `--watch`.
const AGAIN: Duration = Duration::from_secs(1);

/// Show who is primary, the nodes, clients, holds and the newest changes
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 ready for clients, 1 not ready (the reason is shown), 2 wrong usage, \
    3 the process could not be asked")]
pub(crate) struct Args {
    #[command(flatten)]
    reach: Reach,
    /// Print JSON (with --watch: one object a line)
    #[arg(long)]
    json: bool,
    /// Look again every second, until interrupted
    #[arg(long)]
    watch: bool,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> ExitCode {
    if args.watch { operator::run(watch(&args)) } else { operator::run(once(&args)) }
}

async fn once(args: &Args) -> Ended {
    let status = args.reach.client()?.status().await?;
    if args.json {
        say(&operator::json(&status));
    } else {
        say(&shown(&status));
    }
    Ok(Verdict::from(status.ready().is_ok()))
}

fn shown(status: &Status) -> String {
    page::page(status, Paint::for_stdout(), &TimeZone::system())
}

async fn watch(args: &Args) -> Ended {
    let client = args.reach.client()?;
    let redraw = std::io::stdout().is_terminal() && !args.json;
    loop {
        let text = match client.status().await {
            Ok(status) if args.json => serde_json::to_string(&status).unwrap_or_default() + "\n",
            Ok(status) => shown(&status),
            // A process that restarts comes back; only --json must not mix complaints into its lines.
            Err(error @ (AskError::Nobody(_) | AskError::Cut(_))) if redraw => format!("{error}\n"),
            Err(error) => return Err(error),
        };
        say(&if redraw { over(&text) } else { text });
        tokio::time::sleep(AGAIN).await;
    }
}

/// Draws over the last page without clearing the screen first, which would flicker.
fn over(text: &str) -> String {
    format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

#[cfg(test)]
mod tests;
