//! Closes a client that has said and got nothing for `client-timeout`, as Redis' `timeout` does.
//!
//! A client that blocks, is subscribed, or is owed a reply is left alone.

use std::time::Duration;

use super::Conversation;

impl Conversation {
    /// When this client has been idle for too long, if it stays so.
    pub(super) fn idle_deadline(&self) -> Option<Duration> {
        let limit = self.worker.limits.idle?;
        let waits = self.session.in_flight() > 0 || self.session.waits();
        let exempt = waits || self.session.is_raw() || self.session.subscribed();
        (!exempt).then(|| self.seat.last_heard.get().max(self.spoke_at) + limit)
    }

    /// It has been.
    pub(super) fn too_idle(&self) -> bool {
        self.idle_deadline().is_some_and(|at| at <= self.now)
    }
}
