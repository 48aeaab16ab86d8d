//! `changeover reboot`: the drill. Restarts nodes as a patch would, or as rudely as a crash, and reports what was felt.

use std::process::ExitCode;

use crate::cli::patch::launch::{self, Launch, Targets};
use crate::cli::patch::{Common, EXIT_CODES};
use crate::config::fleet::Choice;
use crate::patch::plan::Kind;

/// The drill: restart nodes of a fleet, to see how your applications behave
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
#[group(id = "which", required = true, multiple = false, args = ["node", "primary", "replica", "all"])]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// The node to restart, in every shard that has one of this name
    node: Option<String>,
    /// The primary of each shard
    #[arg(long)]
    primary: bool,
    /// The replica of each shard
    #[arg(long)]
    replica: bool,
    /// Every node, one after another
    #[arg(long)]
    all: bool,
    /// As rude as a crash: the command `crash`, with neither switchover nor drain before it
    #[arg(long, value_name = "kill", num_args = 0..=1, default_missing_value = "kill", value_parser = ["kill"])]
    rude: Option<String>,
    /// How long the node stays away, in milliseconds: told to the command as {blip}
    #[arg(long, value_name = "MS", default_value_t = 0, hide_default_value = true)]
    blip: u64,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> ExitCode {
    let targets = match args.node {
        Some(name) => Targets::Named(name),
        None if args.primary => Targets::Primary,
        None if args.replica => Targets::Replica,
        None => Targets::All,
    };
    let choice =
        Choice { shards: args.common.only_shard.clone(), nodes: None, rude: args.rude.is_some(), blip_ms: args.blip };
    launch::run(Launch { kind: Kind::Reboot, choice, targets, common: args.common })
}
