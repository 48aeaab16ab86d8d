//! What is measured, and how it is told.
//!
//! `catalogue` is the one table of metrics; `worker` holds the plain integers that the request path counts;
//! `events` records what is rare; `exposition` writes all of it as text when somebody scrapes.

pub mod catalogue;
pub mod worker;
