//! The one owner: waits for an event of a closed enum, applies it, publishes the View.

/// Runs the process until it is told to end.
pub fn run(config: crate::config::Config) -> std::process::ExitCode {
    eprintln!("error: this build cannot serve {} yet", config.listen);
    std::process::ExitCode::FAILURE
}
