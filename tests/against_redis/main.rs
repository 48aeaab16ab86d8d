//! Our tables and words held against a real server: its COMMAND, its protocol errors, its INFO.
//!
//! `CHANGEOVER_TEST_REDIS` names the program; `make test-servers` runs four of them.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so")]

mod command_table;
mod info;
mod protocol_errors;
mod server;
mod states;
mod which;
