//! The one owner: waits for an event of a closed enum, applies it, publishes the View.

pub mod changes;
pub mod channel;
pub mod hands;
pub mod holding;
pub mod inbox;
pub mod keeper;
pub mod owner;
pub mod peers;
pub mod signals;

/// Runs the process until it is told to end.
pub fn run(config: crate::config::Config) -> std::process::ExitCode {
    eprintln!("error: this build cannot serve {} yet", config.listen);
    std::process::ExitCode::FAILURE
}
