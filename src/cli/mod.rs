//! What people type: one file for each sub-command.

use std::process::ExitCode;

use clap::Parser;

pub(crate) mod adopt;
pub(crate) mod drain;
pub(crate) mod operator;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod switchover;

#[derive(Parser)]
enum Command {
    Status(status::Args),
    Switchover(switchover::Args),
    Drain(drain::Args),
    Adopt(adopt::Args),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match Command::parse() {
        Command::Status(args) => status::run(&args),
        Command::Switchover(args) => switchover::run(&args),
        Command::Drain(args) => drain::run(&args),
        Command::Adopt(args) => adopt::run(&args),
    }
}
