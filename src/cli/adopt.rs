//! `changeover adopt NODE`: an operator ends a doubt.
//!
//! The process never guesses which of two histories is the right one; a person who has looked may say so.

use std::process::ExitCode;

use crate::cli::operator::{self, Ended, Reach, Verdict};
use crate::cli::show::say;
use crate::io::admin::status::ViewStatus;

/// End a doubt: follow this node although nothing proves that it has the data
#[derive(Debug, clap::Args)]
#[command(after_help = operator::EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    reach: Reach,
    /// The node to follow; every process of the pair has to be told
    #[arg(value_name = "NODE")]
    node: String,
    /// Print the new view as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> ExitCode {
    operator::run(adopt(&args))
}

async fn adopt(args: &Args) -> Ended {
    let view = args.reach.client()?.adopt(&args.node).await?;
    say(&if args.json { operator::json(&view) } else { adopted(&view) });
    Ok(Verdict::from(view.primary.as_ref() == Some(&args.node)))
}

fn adopted(view: &ViewStatus) -> String {
    match &view.primary {
        Some(primary) => format!("{primary} is primary (view {})\n", view.epoch),
        None => format!("no primary: {}\n", view.reason.as_deref().unwrap_or("no reason given")),
    }
}
