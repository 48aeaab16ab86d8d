//! Moves bytes and reads the clock; decides nothing.
//!
//! What stands here is the only code that touches sockets, files, the clock and other processes.

pub mod admin;
pub mod client;
pub mod clock;
mod downstream;
pub mod exec;
pub mod files;
pub mod http;
pub mod journal_file;
mod lane;
pub mod lease;
pub mod notify;
pub mod nudge;
pub mod orders;
pub mod probe;
pub mod pubsub;
mod register;
pub mod sentinel;
pub mod state_file;
pub mod tls;
pub mod tripwire;
pub mod witness;
pub mod worker;
