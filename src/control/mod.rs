//! The one owner: waits for an event of a closed enum, applies it, publishes the View.
