//! What is measured, and how it is told.
//!
//! `catalogue` is the one table of metrics; `worker` holds the plain integers that the request path counts;
//! `events` records what is rare; `exposition` writes all of it as text when somebody scrapes. `docs/metrics.md` is
//! generated from the catalogue.

pub mod catalogue;
#[cfg(test)]
mod documentation;
pub mod events;
pub mod exposition;
pub mod worker;
