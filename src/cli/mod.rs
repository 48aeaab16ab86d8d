//! What people type: one file for each sub-command.
//!
//! A sub-command reads its arguments, calls what does the work, and says how it went: results on standard output,
//! everything else on standard error. Exit codes: 0 done, 1 it failed (and said why), 2 wrong usage or configuration.

mod adopt;
pub mod certs;
mod check;
mod completions;
mod demo;
mod drain;
mod events;
mod flags;
mod keep_job;
mod operator;
mod patch;
mod reboot;
mod run;
mod secret;
mod show;
mod status;
mod switchover;
mod undrain;
mod witness;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Wrong usage or configuration; clap uses the same.
const EXIT_USAGE: u8 = 2;

/// Reboot any node of a Redis pair in the middle of the day, and no client notices.
#[derive(Debug, Parser)]
#[command(name = "changeover", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy beside a node of the pair
    Run(run::Args),
    /// Show nodes, roles, offsets, who is primary, holds and connections
    Status(status::Args),
    /// Show what happened: changes of primary, holds, drains, doubts
    Events(events::Args),
    /// Make the other node primary, without a client noticing
    Switchover(switchover::Args),
    /// Close this proxy's client connections at quiet moments, before its node reboots
    Drain(drain::Args),
    /// Take clients again after a drain
    Undrain(undrain::Args),
    /// Patch every node of a fleet, one node of a pair at a time, without a client noticing
    Patch(patch::Args),
    /// The drill: restart nodes of a fleet, to see how your applications behave
    Reboot(reboot::Args),
    /// End a doubt: follow this node from now on
    Adopt(adopt::Args),
    /// Be the third voice of any number of pairs, on a machine of its own; needs no Redis
    Witness(witness::Args),
    /// Check flags, configuration file and certificates, and print the effective configuration
    Check(check::Args),
    /// Make a certificate authority and certificates for development
    Certs(certs::Args),
    /// Make the secret by which the proxies of a pair know each other
    Secret(secret::Args),
    /// Print completions for a shell
    Completions(completions::Args),
    /// Try the promises on this machine, with a real Redis pair and clients that check themselves
    Demo(demo::Args),
    /// Keep a command of a rollout
    #[command(hide = true)]
    KeepJob(keep_job::Args),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Status(args) => status::run(args),
        Command::Events(args) => events::run(args),
        Command::Switchover(args) => switchover::run(args),
        Command::Drain(args) => drain::run(args),
        Command::Undrain(args) => undrain::run(&args),
        Command::Patch(args) => patch::run(args),
        Command::Reboot(args) => reboot::run(args),
        Command::Adopt(args) => adopt::run(args),
        Command::Witness(args) => witness::run(args),
        Command::Check(args) => check::run(args),
        Command::Certs(args) => certs::run(args),
        Command::Secret(args) => secret::run(&args),
        Command::Completions(args) => completions::run(args),
        Command::Demo(args) => demo::run(&args),
        Command::KeepJob(args) => keep_job::run(args),
    }
}
