//! Moves bytes and reads the clock; decides nothing.
//!
//! What stands here is the only code that touches sockets, files, the clock and other processes.

pub mod client;
pub mod clock;
pub mod orders;
pub mod tls;
