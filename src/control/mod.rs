//! The one owner: waits for an event of a closed enum, applies it, publishes the View.

pub mod channel;
pub mod holding;
pub mod peers;
