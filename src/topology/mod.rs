//! Who is primary; does not know clients.
//!
//! [`Topology`] takes [`Evidence`] (who said what, when) and publishes a [`View`]; [`Switchover`] carries a planned
//! change through. Both are pure: times come in as arguments, effects go out as values.

pub mod evidence;
pub mod failover;
pub mod lineage;
pub mod memory;
pub mod node;
pub mod output;
pub mod primary;
pub mod switchover;
pub mod trouble;
pub mod view;

pub use evidence::{Answer, Evidence, Gone, NodeReport, NodeState, Reach};
pub use failover::Failover;
pub use memory::{Memory, MemoryError};
pub use node::{Epoch, NodeId, Role};
pub use output::{Notice, Output};
pub use primary::{AdoptError, Settings, Topology};
pub use switchover::Switchover;
pub use trouble::Trouble;
pub use view::{Doubt, NoPrimary, View};
