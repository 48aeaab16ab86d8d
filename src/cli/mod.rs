//! What people type: one file for each sub-command.

mod demo;

use std::process::ExitCode;

use clap::Parser;

/// Reboot any node of a Redis pair in the middle of the day, and no client notices.
#[derive(Parser)]
#[command(name = "changeover", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Try the product's promises on this machine, with real servers, and count.
    Demo(demo::Args),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
    }
}
