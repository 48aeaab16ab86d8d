//! `changeover patch`: every node of a fleet in turn, the other node of its pair serving meanwhile.
//!
//! Reads arguments only; `launch.rs` starts or resumes the rollout, `page.rs` shows it, `preflight.rs` looks before.

pub(crate) mod launch;
mod page;
pub(crate) mod preflight;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::fleet::Choice;
use crate::patch::plan::Kind;
use crate::patch::shard::words::Unknown;
use launch::{Launch, Targets};

/// For the help of the commands that run a rollout.
pub(crate) const EXIT_CODES: &str = "\
Ctrl-C (or SIGTERM) finishes the nodes that were begun, then ends; a second one ends at once. SIGUSR1 pauses, and goes
on. However it ended, the same command goes on from there.

Exit codes: 0 done, 1 stopped (run the same command again to go on), 2 wrong usage or fleet file, 3 it could not run";

/// What `patch` and `reboot` have in common.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// The fleet file; see docs/drain-and-patch.md
    #[arg(long, value_name = "FILE")]
    pub(crate) fleet: PathBuf,
    /// Where the journal, the report and the output of commands are kept (default: FILE's name with `.rollout`)
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Only this shard; may be given more than once
    #[arg(long, value_name = "SHARD")]
    pub(crate) only_shard: Vec<String>,
    /// Begin nodes only within this window, such as "SUN 02:00 for 5h Europe/Berlin"; outside, wait for it
    #[arg(long, value_name = "WINDOW")]
    pub(crate) window: Option<String>,
    /// Show what would be done and whether everything is ready for it, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON: a line for each thing that happens, the report last
    #[arg(long)]
    pub(crate) json: bool,
    /// Put an unfinished rollout aside and begin a new one
    #[arg(long)]
    pub(crate) fresh: bool,
    /// When nobody knows whether the command on a node ended, because its machine died too: what you found
    #[arg(long, value_name = "done|interrupted", value_parser = work_was)]
    pub(crate) work_was: Option<Unknown>,
}

/// Patch every node of a fleet, one node of a pair at a time, without a client noticing
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Run the command `roll-back` on the nodes that the last patch was begun on
    #[arg(long)]
    roll_back: bool,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> ExitCode {
    let kind = if args.roll_back { Kind::RollBack } else { Kind::Patch };
    let choice = Choice { shards: args.common.only_shard.clone(), ..Choice::default() };
    launch::run(Launch { kind, choice, targets: Targets::All, common: args.common })
}

fn work_was(text: &str) -> Result<Unknown, String> {
    match text {
        "done" => Ok(Unknown::Done),
        "interrupted" => Ok(Unknown::Again),
        _ => Err("expected done or interrupted".to_owned()),
    }
}
