//! The binary: parse, run, report.

use std::process::ExitCode;

fn main() -> ExitCode {
    changeover::cli::main()
}
