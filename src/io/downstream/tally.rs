//! Records what a session counted.

use crate::metrics::worker::{Counter, WorkerStats};
use crate::session::{Kind, Tally};

/// Adds a session's tally to its worker's counters.
pub(super) fn record(stats: &WorkerStats, tally: &Tally) {
    for (kind, count) in Kind::ALL.into_iter().zip(tally.commands) {
        if count > 0 {
            stats.add(commands(kind), count);
        }
    }
    let others = [
        (Counter::ErrorsFromRedis, tally.errors),
        (Counter::ErrorsAuthored, tally.authored + tally.unknown),
        (Counter::RefusedCommands, tally.expired),
        (Counter::ResentRefused, tally.resent_refused),
        (Counter::ResentLost, tally.resent_lost),
        (Counter::UnknownOutcomes, tally.unknown),
        (Counter::WritesAlone, tally.alone),
        (Counter::MessageGaps, tally.gaps),
        (Counter::WatchFailed, tally.watch_failed),
        (Counter::ProtocolErrorsClient, tally.malformed),
    ];
    for (counter, count) in others.into_iter().filter(|(_, count)| *count > 0) {
        stats.add(counter, count);
    }
}

fn commands(kind: Kind) -> Counter {
    match kind {
        Kind::Read => Counter::CommandsRead,
        Kind::Write => Counter::CommandsWrite,
        Kind::Script => Counter::CommandsScript,
        Kind::Publish => Counter::CommandsPublish,
        Kind::Blocking => Counter::CommandsBlocking,
        Kind::Transaction => Counter::CommandsTransaction,
        Kind::Subscription => Counter::CommandsSubscription,
        Kind::Connection => Counter::CommandsConnection,
        Kind::Scan => Counter::CommandsScan,
        Kind::Harmless => Counter::CommandsHarmless,
        Kind::Admin => Counter::CommandsAdmin,
        Kind::Other => Counter::CommandsOther,
    }
}
