//! A rolling patch: which node is next, which step of it, and when to stop.
//!
//! Pure. `plan.rs` says what is to be done, `health.rs` reads what was seen of a shard, `shard/` does one shard,
//! `rollout.rs` does many, `journal.rs` remembers, `window.rs` says when; `settings.rs` judges how nodes are set. It
//! touches no node and reads no clock.
//!
//! Invariants, each kept by `tests/rollout_simulation` over random faults and kills:
//! a hook begins only while the other node of its pair was just seen to be primary and serving; at most one node of a
//! group is under way; what the journal says was begun is never begun a second time under the same number.

pub mod health;
pub mod journal;
pub mod plan;
pub mod rollout;
pub mod settings;
pub mod shard;
pub mod window;
