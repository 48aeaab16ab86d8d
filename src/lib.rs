//! `changeover`: reboot any node of a Redis pair in the middle of the day, and no client notices.
//!
//! The folders are the data path, from pure to effectful; each may use only what stands left of it:
//!
//! ```text
//! protocol < session | topology < patch < config, metrics < io < control < cli
//! ```
//!
//! `protocol`, `session`, `topology` and `patch` are pure: bytes, events and times come in as arguments, bytes and
//! effects go out as values. Nothing there waits, locks, logs, counts, draws randomness or reads the clock. Times
//! are [`std::time::Duration`]s since the process' clock began (`io::clock`). `tests/house.rs` keeps the layering.

pub mod cli;
pub mod config;
pub mod control;
pub mod io;
pub mod metrics;
pub mod patch;
pub mod protocol;
pub mod session;
pub mod topology;
