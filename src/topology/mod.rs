//! Who is primary; does not know clients.

pub mod node;
pub mod view;
