//! Our tables and words held against a real `redis-server`: its COMMAND, its protocol errors, its INFO.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so")]

mod command_table;
mod info;
mod protocol_errors;
mod server;
