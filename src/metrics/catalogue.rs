//! The one table of metrics: name, kind, labels with every value they take, and what it means.
//!
//! Counters that the workers keep (`worker.rs`), the facade's metrics of rarer events (`events.rs`) and
//! `docs/metrics.md` are all checked against this table by tests. It records nothing itself. No label ever has a
//! value that a client chose: values are listed here, or are the configured nodes' names.

/// One metric with all its series.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// As scraped; ends in its unit, and counters in `_total`.
    pub name: &'static str,
    /// What may be done with it.
    pub kind: Kind,
    /// Who keeps it.
    pub source: Source,
    /// For operators, one sentence.
    pub help: &'static str,
    /// In the order in which they are written.
    pub labels: &'static [Label],
}

/// Kinds of metrics, as Prometheus has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size, in fixed buckets.
    Histogram,
}

impl Kind {
    /// The word in a `# TYPE` line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Who keeps a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Plain integers of the workers, added up when scraped.
    Worker,
    /// Rare events, through the `metrics` facade.
    Control,
}

/// A label and what its values mean.
#[derive(Debug, PartialEq, Eq)]
pub struct Label {
    /// As scraped.
    pub name: &'static str,
    /// Every value with its meaning; empty when the values are the configured nodes' names.
    pub values: &'static [(&'static str, &'static str)],
}

impl Family {
    /// The unit, read off the name.
    pub fn unit(&self) -> &'static str {
        let base = self.name.strip_suffix("_total").unwrap_or(self.name);
        if base.ends_with("_seconds") {
            "seconds"
        } else if base.ends_with("_bytes") {
            "bytes"
        } else {
            "1"
        }
    }
}

macro_rules! families {
    ($($source:ident $kind:ident $id:ident = $name:literal, $help:literal
        $({ $($label:ident: $values:tt),+ $(,)? })?;)+) => {
        $(
            #[doc = $help]
            pub static $id: Family = Family {
                name: $name,
                kind: Kind::$kind,
                source: Source::$source,
                help: $help,
                labels: &[$($(Label { name: stringify!($label), values: &$values }),+)?],
            };
        )+
        /// Every family, in the order of the documentation.
        pub static ALL: &[&Family] = &[$(&$id),+];
    };
}

families! {
    // What clients felt.
    Worker Counter FELT = "changeover_client_felt_total",
        "Everything that a client could notice of a change, a drain or a limit; stays at 0 while the promises hold." {
        what: [
            ("refused", "A command was answered `-LOADING` because its hold reached a limit."),
            ("unknown", "A command was answered `-OUTCOMEUNKNOWN`: it may or may not have been executed."),
            ("stalled", "A session with something to send was held longer than 1 s."),
            ("cut", "A connection was closed with a command unanswered, or with state that could not be moved."),
            ("reconnect", "A connection was closed between two commands, by a drain."),
            ("turned_away", "A new connection was refused at the connection limit."),
            ("watch_failed", "EXEC answered null because the change ended a WATCH; clients retry by contract."),
            ("message_gap", "A subscription moved in a way that may have missed messages."),
        ]
    };

    // Connections.
    Worker Gauge CONNECTIONS_OPEN = "changeover_connections_open", "Client connections open now.";
    Worker Counter CONNECTIONS_ACCEPTED = "changeover_connections_accepted_total",
        "Client connections accepted; always the open ones plus the closed ones.";
    Worker Counter CONNECTIONS_CLOSED = "changeover_connections_closed_total", "Client connections that ended." {
        reason: [
            ("client", "The client closed it."),
            ("reset", "The connection broke while reading or writing."),
            ("handshake", "The TLS handshake failed."),
            ("protocol", "The client broke the protocol; it was told how."),
            ("slow", "The client did not read its replies."),
            ("limit", "The connection limit was reached, or one client was subscribed to more than is kept for it."),
            ("idle", "It said and got nothing for `client-timeout`."),
            ("drain", "Closed between two commands, by a drain."),
            ("moved", "The client left by itself, after a drain had told it to move."),
            ("drain_cut", "Closed with something unanswered, at the drain's deadline or by a second SIGTERM."),
            ("half_reply", "Its Redis connection was lost in the middle of a reply or a message that the client had begun to get."),
            ("server", "Redis closed this client's own connection and lives: output limits, client eviction, CLIENT KILL of a subscriber."),
            ("tls_key", "TLS 1.2 with AES-GCM: its key had encrypted as many records as it may (2^24). TLS 1.3 takes a new key instead."),
            ("killed", "A CLIENT KILL named it by its id, or it killed its own connection."),
            ("state_lost", "What tied it to its Redis connection could not be moved to another."),
        ]
    };
    Worker Counter HANDSHAKES = "changeover_handshakes_total", "TLS handshakes of clients." {
        result: [
            ("full", "With certificate and key exchange."),
            ("resumed", "By a session ticket."),
            ("timeout", "Not finished in time."),
            ("certificate", "The client's certificate was missing or not accepted, or it did not accept ours."),
            ("not_tls", "The bytes were not TLS."),
            ("failed", "Any other way, such as no common version, or the client went away."),
        ]
    };
    Worker Histogram HANDSHAKE_SECONDS = "changeover_handshake_seconds", "Duration of successful TLS handshakes.";

    // Traffic.
    Worker Counter COMMANDS = "changeover_commands_total", "Commands that clients sent." {
        class: [
            ("read", "Reads data."),
            ("write", "May write."),
            ("script", "EVAL, FCALL and the like."),
            ("publish", "PUBLISH and SPUBLISH."),
            ("blocking", "May block, such as BLPOP."),
            ("transaction", "MULTI, EXEC, DISCARD, WATCH, UNWATCH."),
            ("subscription", "SUBSCRIBE and the like."),
            ("connection", "Changes or asks the connection's state, such as AUTH or CLIENT."),
            ("scan", "SCAN, HSCAN, SSCAN, ZSCAN."),
            ("harmless", "Reads no data, such as PING or INFO."),
            ("admin", "Administers the server."),
            ("other", "Not in the command table, or turns the connection into something else, such as MONITOR."),
        ]
    };
    Worker Counter BYTES = "changeover_traffic_bytes_total", "RESP bytes, without TLS." {
        side: [("client", "Between clients and this process."), ("redis", "Between this process and Redis.")],
        direction: [("in", "Read by this process."), ("out", "Written by this process.")],
    };
    Worker Counter ERROR_REPLIES = "changeover_error_replies_total", "Error replies that clients got." {
        source: [("redis", "Passed on from Redis."), ("changeover", "Authored by this process.")]
    };
    Worker Counter PROTOCOL_ERRORS = "changeover_protocol_errors_total", "Bytes that are not RESP." {
        side: [("client", "From a client."), ("redis", "From Redis.")]
    };
    Worker Histogram ADDED_SECONDS = "changeover_added_latency_seconds",
        "Time from reading a client's commands to having handed the last of them to Redis, holds included; one \
         observation for the commands of one read.";

    // Holds and what follows them.
    Worker Gauge HELD_SESSIONS = "changeover_held_sessions", "Sessions with something to send that are held now.";
    Worker Gauge HELD_BYTES = "changeover_held_bytes", "Bytes of commands that are held now.";
    Worker Counter HOLDS = "changeover_holds_total", "Holds of a session with something to send, by how they ended." {
        outcome: [
            ("released", "Its commands went on."),
            ("refused", "The node of the primary answers with errors; its commands were answered at once."),
            ("limit_time", "The time limit was reached; its commands were refused."),
            ("limit_bytes", "The limit of held bytes was reached; its commands were refused."),
            ("limit_requests", "The limit of held requests was reached; its commands were refused."),
            ("closed", "The client left."),
        ]
    };
    Worker Histogram HOLD_SECONDS = "changeover_hold_seconds", "How long sessions with something to send were held.";
    Worker Counter REFUSED_COMMANDS = "changeover_refused_commands_total",
        "Commands answered `-LOADING` because a hold reached a limit.";
    Worker Counter RESENT_COMMANDS = "changeover_resent_commands_total", "Commands that were sent again." {
        why: [
            ("refused", "A node had refused them as not executed, or they stood behind one that was."),
            ("lost", "The connection was lost, and they only read."),
        ]
    };
    Worker Counter UNKNOWN_OUTCOMES = "changeover_unknown_outcomes_total",
        "Commands answered `-OUTCOMEUNKNOWN`: sent, may have written, and the reply was lost with the node.";
    Worker Counter WRITES_ALONE = "changeover_writes_alone_total",
        "Writes answered although no replica had confirmed them (`acknowledge` = `replicated`, `without-replica` = `answer`).";
    Worker Counter WATCH_FAILED = "changeover_watches_failed_total", "WATCHes ended by a change; EXEC answers null.";
    Worker Counter MESSAGE_GAPS = "changeover_message_gaps_total", "Subscriptions that may have missed messages.";

    // What clients were told, and who could not be let go.
    Worker Counter NOTIFICATIONS = "changeover_notifications_total", "Messages about changes and drains to clients." {
        kind: [
            ("moving", "`MOVING`, to a client that asked for maintenance notifications: a drain."),
            ("failing_over", "`FAILING_OVER`, to one of them that began to be held."),
            ("failed_over", "`FAILED_OVER`, to the same when it went on."),
            ("stackexchange", "On `__Booksleeve_MasterChanged`."),
            ("azure", "On `AzureRedisEvents`."),
        ]
    };
    Worker Counter DRAIN_CUTS = "changeover_drain_cuts_total", "Connections that were cut at a drain's deadline." {
        why: [
            ("transaction", "In MULTI, or with a WATCH."),
            ("blocked", "In a blocking command; it was ended first, nothing was taken."),
            ("raw", "In MONITOR, or without replies."),
            ("speaking", "In the middle of a command."),
            ("owed", "Waiting for a reply; it got `-OUTCOMEUNKNOWN` or `-LOADING`."),
            ("unread", "Not reading its replies."),
        ]
    };

    // Upstreams.
    Worker Gauge UPSTREAMS_OPEN = "changeover_upstreams_open", "Connections to Redis that carry clients' commands now; warm standby ones are not counted.";
    Worker Counter UPSTREAM_CONNECTS = "changeover_upstream_connects_total", "Connections to Redis that clients needed." {
        result: [
            ("ok", "A new one was opened."),
            ("reused", "An idle one was used again, after `RESET`."),
            ("failed", "Refused, timed out, or the login was refused."),
        ]
    };
    Worker Counter UPSTREAMS_LOST = "changeover_upstreams_lost_total",
        "Connections to Redis that ended without our closing them.";

    // Who is primary.
    Control Gauge VIEW_EPOCH = "changeover_view_epoch", "Number of the current view; grows with every change.";
    Control Gauge PRIMARY = "changeover_primary", "1 for the node that is primary in the view of this process, else 0." {
        node: []
    };
    Control Gauge DOUBT = "changeover_doubt",
        "1 while this process refuses to choose a primary and waits for `changeover adopt`, else 0.";
    Control Counter CHANGES = "changeover_changes_total", "Changes of primary." {
        kind: [
            ("announced", "By `changeover switchover`."),
            ("observed", "Roles were switched by someone else."),
            ("unplanned", "The primary was lost."),
            ("adopted", "An operator ended a doubt."),
        ]
    };
    Control Histogram CHANGE_SECONDS = "changeover_change_seconds",
        "How long a change took: from the hold, or the loss of the primary, to the new primary." {
        kind: [
            ("announced", "By `changeover switchover`."),
            ("observed", "Roles were switched by someone else."),
            ("unplanned", "The primary was lost."),
            ("adopted", "An operator ended a doubt."),
        ]
    };
    Control Histogram CHANGE_STALL_SECONDS = "changeover_change_longest_stall_seconds",
        "For each change, the longest that any session of this process was held." {
        kind: [
            ("announced", "By `changeover switchover`."),
            ("observed", "Roles were switched by someone else."),
            ("unplanned", "The primary was lost."),
            ("adopted", "An operator ended a doubt."),
        ]
    };
    Control Gauge LAST_STALL_SECONDS = "changeover_last_change_longest_stall_seconds",
        "The longest stall of the newest change.";
    Control Counter LOST_BYTES = "changeover_lost_bytes_total",
        "Bytes of replicated history that new primaries lacked; planned changes never add to it.";
    Control Counter SWITCHOVERS = "changeover_switchovers_total", "Switchovers that this process was asked for." {
        outcome: [
            ("switched", "Done."),
            ("aborted", "Begun and taken back; nothing was lost."),
            ("refused", "A gate failed or another change was under way; nothing was begun."),
        ]
    };
    Control Counter PROMOTIONS = "changeover_failover_promotions_total",
        "Promotions that this process ordered, by what proved that the old primary is not served." {
        proof: [
            ("refused", "Its port refused connections, and its replica had lost it."),
            ("agreed", "The same, and the process beside it saw the same."),
            ("replaced", "Another process stood in its place, and was made a replica first."),
            ("loading", "Another process stood in its place, and still loaded its data."),
            ("fenced", "It was silent, and its own fence must have closed."),
            ("voted", "It was silent, and the witness gave the pair away."),
        ]
    };
    Control Counter REFUSALS = "changeover_failover_refusals_total", "Losses in which this process did not promote at first." {
        reason: [
            ("unfit", "The replica was not in sync, or holds another history."),
            ("objected", "Another process still had answers from the primary."),
            ("unproven", "Nothing proves that the silent primary takes no writes."),
        ]
    };
    Control Counter SPLIT_BYTES = "changeover_failover_split_bytes_total",
        "Bytes of history that old primaries had and the new one lacked, when they became replicas.";
    Control Counter RDB_SAVES = "changeover_failover_saves_total",
        "Old primaries whose data were to be saved before they became replicas." {
        result: [("ok", "Saved, or empty."), ("failed", "Not saved; left as it is, and tried again.")]
    };
    Control Gauge WOULD_PROMOTE = "changeover_failover_would_promote",
        "1 while this process would promote the replica beside it if the primary died now, else 0.";
    Control Gauge CUT_OFF = "changeover_failover_cut_off",
        "1 while the node in service is not served here, because the other may have been promoted unseen, else 0.";
    Control Gauge WITNESS_HEARD = "changeover_witness_heard", "1 while the witness answers, else 0.";
    Control Counter PROBES = "changeover_probes_total", "Questions to the nodes." {
        node: [],
        result: [
            ("ok", "Answered."),
            ("silent", "Not answered in time."),
            ("error", "Answered with an error: the node lives."),
            ("gone", "Connection refused or ended, or not to be had."),
        ]
    };
    Control Gauge NODE_TROUBLE = "changeover_node_trouble", "1 while the node gives no usable answer for this reason, else 0." {
        node: [],
        reason: (crate::topology::Trouble::KINDS)
    };
    Control Gauge NODE_UP = "changeover_node_up", "1 while the node answers probes, else 0." { node: [] };
    Control Gauge NODE_LAG_BYTES = "changeover_node_lag_bytes", "A replica's distance from the primary." { node: [] };
    Control Gauge PEERS = "changeover_peers", "Other processes of the pair that are heard on its channel.";
    Control Counter CHANNEL_REFUSED = "changeover_channel_refused_total",
        "Messages on the pair's channel that were not believed." {
        reason: [
            ("unsigned", "Not authenticated, and said what needs it, or this process has a secret."),
            ("forged", "Authenticated with another secret, or changed."),
            ("no-secret", "Authenticated, and this process has no secret."),
            ("malformed", "Not understood."),
            ("stranger", "Without a secret: its sender had not said that it is there."),
            ("budget", "Without a secret: a hold, after others had held clients for too long."),
        ]
    };

    // The process.
    Control Gauge DRAINING = "changeover_draining", "1 while this process drains or is drained, else 0.";
    Control Counter DRAINED = "changeover_drained_connections_total", "Connections that drains ended." {
        how: [
            ("closed", "Between two commands."),
            ("moved", "They left by themselves, after they were told to move."),
            ("cut", "At the deadline."),
        ]
    };
    Control Counter RELOADS = "changeover_reloads_total", "Reloads (SIGHUP)." {
        result: [("ok", "In force."), ("failed", "Refused; the old settings stay in force.")]
    };
    Control Counter STATE_SAVES = "changeover_state_saves_total",
        "Saves of the memory of who was primary; without it, a restart of this process begins with what was saved last." {
        result: [("ok", "On disk."), ("failed", "Not saved; serving goes on, and it is tried again.")]
    };
    Control Gauge BUILD_INFO = "changeover_build_info", "Always 1; the version is in the label." { version: [] };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_say_their_kind() {
        let mut seen = BTreeSet::new();
        for family in ALL {
            assert!(seen.insert(family.name), "{} twice", family.name);
            assert!(family.name.starts_with("changeover_"), "{}", family.name);
            assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
            assert!(family.help.ends_with('.') && !family.help.contains('\n'), "{}", family.name);
        }
    }

    #[test]
    fn a_family_has_at_most_one_label_with_open_values() {
        for family in ALL {
            assert!(family.labels.iter().filter(|label| label.values.is_empty()).count() <= 1, "{}", family.name);
        }
    }
}
