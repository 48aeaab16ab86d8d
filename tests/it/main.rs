//! The product from outside: real servers, real TLS, the real binary, one story for each promise.
//!
//! Every proxy's log is read at its end: a warning or an error that the test did not announce fails it.
//! `redis-server`, `redis-cli` and `redis-benchmark` must be installed (`make deps`).

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod admin;
mod appetite;
mod auth;
mod changes;
mod channel;
mod differential;
mod drain;
mod durable;
mod failover;
mod faulty;
mod halves;
mod hostile;
mod ids;
mod lanes;
mod libraries;
mod lifecycle;
mod maintenance;
mod memory;
mod queues;
mod rejoin;
mod rights;
mod rollout;
mod rows;
mod scripts;
mod sentinel;
mod stateful;
mod steady;
mod support;
mod switchover;
mod unplanned;
mod vocabulary;
mod witness;
