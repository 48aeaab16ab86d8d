//! What one client is told of changes: maintenance notifications that it asked for, and hints on channels that it
//! subscribed to.
//!
//! FAILING_OVER goes to whoever is held, at the moment at which the hold becomes felt, and FAILED_OVER to the same once it
//! is over. Clients that are not held need no longer time limits, and a change of a few milliseconds should not be made
//! longer by writing to thousands of idle connections. Hints go out when the client's upstream leads to the new primary.
//!
//! Invariant: nothing is put into the middle of a reply.

use std::time::Duration;

use crate::io::clock;
use crate::metrics::worker::Counter;
use crate::session::maintenance;
use crate::topology::node::NodeId;

use super::Conversation;

/// Where StackExchange.Redis listens; a `*` has it ask for the role again.
const STACKEXCHANGE: (&[u8], &[u8]) = (b"__Booksleeve_MasterChanged", b"*");
/// Where the events of Azure Cache for Redis come.
const AZURE: &[u8] = b"AzureRedisEvents";
/// How long before the maintenance the first event is said to come.
const AZURE_AHEAD_MS: u64 = 20_000;

/// What the client was told, or is to be told.
#[derive(Default)]
pub(super) struct Notices {
    /// It was told FAILING_OVER of this event.
    failing: Option<u64>,
    /// The primary, as this client knows it.
    primary: Option<NodeId>,
    /// It is to be told that the primary has changed.
    changed: bool,
    /// It is to be told that a drain begins; and the drain that it was told of.
    drain: (bool, u64),
}

impl Conversation {
    /// The hold has become felt: FAILING_OVER, once.
    pub(super) fn tell_held(&mut self, since: Duration) {
        if self.notices.failing.is_some() || self.session.opted_in().is_none() || !self.session.may_tell() {
            return;
        }
        let (hold, event) = (self.worker.orders().hold, self.worker.orders().event);
        let until = hold.map_or(since + self.worker.limits.hold.time, |hold| hold.until);
        let left = until.saturating_sub(self.now).as_millis().div_ceil(1000).max(1);
        maintenance::failing_over(&mut self.out, event, u64::try_from(left).unwrap_or(u64::MAX));
        self.notices.failing = Some(event);
        self.worker.stats.add(Counter::ToldFailingOver, 1);
    }

    /// New orders: is there something to tell?
    pub(super) fn note_orders(&mut self) {
        let (primary, drain) = (self.worker.orders().primary, self.worker.orders().drain);
        if let Some(primary) = primary {
            let before = self.notices.primary.replace(primary);
            self.notices.changed |= self.session.subscribed() && before.is_some_and(|before| before != primary);
        }
        if let Some(drain) = drain.filter(|drain| drain.id != self.notices.drain.1) {
            self.notices.drain = (self.worker.hints.azure && self.session.subscribed(), drain.id);
        }
    }

    /// Called in each round: says what is to be said, once it may be.
    pub(super) fn tell(&mut self) -> bool {
        let over = self.notices.failing.is_some() && !self.is_held();
        if !(over || self.notices.changed || self.notices.drain.0) || !self.session.may_tell() {
            return false;
        }
        let before = self.out.len();
        if over
            && let Some(event) = self.notices.failing.take()
            && self.session.opted_in().is_some()
        {
            maintenance::failed_over(&mut self.out, event + 1);
            self.worker.stats.add(Counter::ToldFailedOver, 1);
        }
        if std::mem::take(&mut self.notices.drain.0) {
            self.tell_azure("NodeMaintenanceStarting", Some(clock::unix_millis() + AZURE_AHEAD_MS));
        }
        if self.notices.changed && self.may_send() {
            self.notices.changed = false;
            let (channel, text) = STACKEXCHANGE;
            if self.worker.hints.stackexchange && self.session.tell_channel(channel, text, &mut self.out) {
                self.worker.stats.add(Counter::ToldStackExchange, 1);
            }
            if self.worker.hints.azure {
                self.tell_azure("NodeMaintenanceFailoverComplete", None);
            }
        }
        self.out.len() > before
    }

    fn tell_azure(&mut self, kind: &str, at_unix_ms: Option<u64>) {
        let Ok(reached) = self.client.get_ref().0.ends().local_addr() else { return };
        let beside = self.worker.hints.beside;
        let replica = beside.is_some() && self.notices.primary.is_some() && beside != self.notices.primary;
        let starts = at_unix_ms.and_then(|at| jiff::Timestamp::from_millisecond(i64::try_from(at).ok()?).ok());
        let starts = starts.map_or_else(String::new, |at| at.strftime("|StartTimeInUTC|%Y-%m-%dT%H:%M:%S").to_string());
        let replica = if replica { "True" } else { "False" };
        let (ip, port) = (reached.ip(), reached.port());
        let text =
            format!("NotificationType|{kind}{starts}|IsReplica|{replica}|IPAddress|{ip}|SSLPort|{port}|NonSSLPort|0");
        if self.session.tell_channel(AZURE, text.as_bytes(), &mut self.out) {
            self.worker.stats.add(Counter::ToldAzure, 1);
        }
    }
}
