//! What happened, phase by phase, and which promises it broke.
//!
//! Pure. The promises are those of the product's design: for announced and bare switchovers no error, no closed
//! connection, nothing lost, doubled or out of order; for a killed primary a definite reply to every command,
//! nothing doubled, no connection closed (what Redis had not replicated yet may be lost, and is counted).
//! A subscriber misses nothing in announced switchovers. In a bare one the demoted node may still run a PUBLISH, which
//! reaches only the subscribers that are left on it: what was missed is counted there, and not promised.

use std::time::Duration;

use serde::Serialize;

use super::stateful::Counts;
use super::tally::Tally;

/// What is done to the pair in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Nothing changes: what the machine itself does to latency.
    Control,
    /// `changeover switchover`.
    Announced,
    /// `FAILOVER` sent to Redis behind the proxies' back.
    Bare,
    /// `kill -9` of the primary; the proxy beside the replica promotes it.
    Killed,
}

impl Kind {
    /// As in the table.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Control => "control: no change",
            Self::Announced => "announced switchover",
            Self::Bare => "bare FAILOVER",
            Self::Killed => "kill -9, automatic",
        }
    }
}

/// One phase.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Phase {
    /// What was done.
    pub(super) kind: Kind,
    /// How many times; for the control, how many windows.
    pub(super) events: usize,
    /// Events that did not happen as ordered, with the reason.
    pub(super) failed: Vec<String>,
    /// Everything that clients saw.
    pub(super) tally: Tally,
    /// Longest time from sending to reply, for each event, in milliseconds.
    pub(super) stalls_ms: Vec<f64>,
    /// Seconds.
    pub(super) seconds: f64,
    /// CPU of both proxies for each command, in microseconds.
    pub(super) proxy_cpu_us: Option<f64>,
}

impl Phase {
    /// Nothing has happened yet.
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            events: 0,
            failed: Vec::new(),
            tally: Tally::default(),
            stalls_ms: Vec::new(),
            seconds: 0.0,
            proxy_cpu_us: None,
        }
    }

    /// One event's longest stall.
    pub(super) fn stalled(&mut self, longest: Duration) {
        self.stalls_ms.push(longest.as_secs_f64() * 1e3);
    }

    /// The median of the longest stalls.
    pub(super) fn median_ms(&self) -> Option<f64> {
        let mut sorted = self.stalls_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted.get((sorted.len().max(1) - 1) / 2)?, sorted.get(sorted.len() / 2)?);
        Some((low + high) / 2.0)
    }

    /// The worst of the longest stalls.
    pub(super) fn worst_ms(&self) -> Option<f64> {
        self.stalls_ms.iter().copied().max_by(f64::total_cmp)
    }

    /// Commands or writes a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(super) fn per_second(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }
}

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// Of this program.
    pub(super) version: &'static str,
    /// Of the server.
    pub(super) redis_version: String,
    /// TLS connections.
    pub(super) connections: usize,
    /// Commands a second that were asked for.
    pub(super) rate: u32,
    /// There were subscribers, workers and transactions beside the load.
    pub(super) stateful: bool,
    /// In the order in which they ran.
    pub(super) phases: Vec<Phase>,
    /// Broken promises, in words; empty is success.
    pub(super) broken: Vec<String>,
}

/// How much longer than the control's the announced switchovers' stalls may be (milliseconds).
const MEDIAN_ABOVE_CONTROL: f64 = 10.0;
const WORST_ABOVE_CONTROL: f64 = 50.0;

/// Which promises the phases broke, each named.
pub(super) fn broken_promises(phases: &[Phase]) -> Vec<String> {
    let control = phases.iter().find(|p| p.kind == Kind::Control);
    let mut broken = Vec::new();
    for phase in phases {
        let title = phase.kind.title();
        let mut promise = |kept: bool, what: String| {
            if !kept {
                broken.push(format!("{title}: {what}"));
            }
        };
        for why in &phase.failed {
            promise(false, why.clone());
        }
        let tally = &phase.tally;
        for (count, what) in counts(phase.kind, tally) {
            promise(count == 0, format!("{count} {what}"));
        }
        for (word, count) in &tally.errors {
            promise(false, format!("{count} error replies -{word}"));
        }
        if let (Kind::Announced, Some(control)) = (phase.kind, control) {
            let pairs = [
                ("median", phase.median_ms(), control.median_ms(), MEDIAN_ABOVE_CONTROL),
                ("worst", phase.worst_ms(), control.worst_ms(), WORST_ABOVE_CONTROL),
            ];
            for (which, here, there, limit) in pairs {
                let (Some(here), Some(there)) = (here, there) else { continue };
                let what = format!(
                    "{which} of the longest stalls is {here:.1} ms, more than {limit:.0} ms above the control's {there:.1} ms"
                );
                promise(here <= there + limit, what);
            }
        }
    }
    broken
}

fn counts(kind: Kind, tally: &Tally) -> Vec<(u64, &'static str)> {
    let mut counts = vec![
        (tally.closed, "connections closed"),
        (tally.unanswered, "commands without a reply"),
        (tally.doubled, "writes doubled"),
        (tally.misplaced, "replies that belong to another command"),
        (tally.reordered, "list elements out of order"),
    ];
    if kind != Kind::Killed {
        counts.push((tally.lost, "acknowledged writes lost"));
        counts.push((tally.stale, "reads that missed the connection's own write"));
        counts.push((tally.unknown, "writes with unknown outcome"));
    }
    counts.extend(stateful(kind, &tally.stateful));
    counts
}

fn stateful(kind: Kind, seen: &Counts) -> Vec<(u64, &'static str)> {
    let mut counts = vec![
        (seen.messages_doubled, "messages doubled"),
        (seen.messages_reordered, "messages out of order"),
        (seen.transactions_doubled, "transactions doubled"),
        (seen.sums_broken, "transactions that ran in part, or although the watched key had changed"),
    ];
    if kind != Kind::Killed {
        counts.push((seen.jobs_lost, "jobs lost"));
        counts.push((seen.jobs_doubled, "jobs doubled"));
        counts.push((seen.failed, "transactions failed"));
        counts.push((seen.transactions_lost, "transactions lost"));
    }
    if matches!(kind, Kind::Control | Kind::Announced) {
        counts.push((seen.missed, "messages missed"));
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(kind: Kind, stalls: &[f64], tally: Tally) -> Phase {
        Phase { stalls_ms: stalls.to_vec(), events: stalls.len(), tally, ..Phase::new(kind) }
    }

    #[test]
    fn a_clean_run_breaks_nothing() {
        let phases = [
            phase(Kind::Control, &[2.0, 3.0, 9.0], Tally::default()),
            phase(Kind::Announced, &[8.0, 9.0, 40.0], Tally::default()),
            phase(Kind::Bare, &[500.0], Tally::default()),
            phase(Kind::Killed, &[1100.0], Tally { unknown: 30, lost: 2, stale: 1, ..Tally::default() }),
        ];
        assert_eq!(broken_promises(&phases), Vec::<String>::new());
    }

    #[test]
    fn each_promise_can_be_broken_and_is_named() {
        let tally = Tally {
            errors: [("READONLY".to_owned(), 3)].into(),
            closed: 1,
            unknown: 1,
            unanswered: 1,
            stale: 1,
            misplaced: 1,
            lost: 1,
            doubled: 1,
            reordered: 1,
            ..Tally::default()
        };
        assert_eq!(broken_promises(&[phase(Kind::Bare, &[], tally.clone())]).len(), 9);
        assert_eq!(broken_promises(&[phase(Kind::Announced, &[], tally.clone())]).len(), 9);
        let killed = broken_promises(&[phase(Kind::Killed, &[], tally)]);
        assert_eq!(killed.len(), 6, "{killed:?}");
        assert!(killed.iter().any(|b| b.contains("-READONLY")));
    }

    #[test]
    fn what_is_tied_to_its_connection_has_promises_of_its_own() {
        let stateful = Counts {
            missed: 1,
            messages_doubled: 1,
            messages_reordered: 1,
            jobs_lost: 1,
            jobs_doubled: 1,
            failed: 1,
            transactions_lost: 1,
            transactions_doubled: 1,
            sums_broken: 1,
            ..Counts::default()
        };
        for (kind, promises) in [(Kind::Control, 9), (Kind::Announced, 9), (Kind::Bare, 8), (Kind::Killed, 4)] {
            let tally = Tally { stateful: stateful.clone(), ..Tally::default() };
            assert_eq!(broken_promises(&[phase(kind, &[], tally)]).len(), promises, "{kind:?}");
        }
        // Only what went well: nothing is broken.
        let stateful = Counts { retried: 7, transactions: 9, messages: 8, ..Counts::default() };
        let tally = Tally { stateful, ..Tally::default() };
        assert_eq!(broken_promises(&[phase(Kind::Announced, &[], tally)]), Vec::<String>::new());
    }

    #[test]
    fn an_announced_switchover_is_measured_against_the_control() {
        let control = phase(Kind::Control, &[2.0, 3.0, 9.0], Tally::default());
        let slow = phase(Kind::Announced, &[14.0, 14.0, 14.0], Tally::default());
        let broken = broken_promises(&[control.clone(), slow]);
        assert!(broken.len() == 1 && broken[0].contains("median"), "{broken:?}");
        let spike = phase(Kind::Announced, &[4.0, 4.0, 60.0], Tally::default());
        let broken = broken_promises(&[control, spike]);
        assert!(broken.len() == 1 && broken[0].contains("worst"), "{broken:?}");
    }

    #[test]
    fn the_median_of_an_even_count_is_the_mean_of_the_middle() {
        assert_eq!(phase(Kind::Control, &[4.0, 1.0, 2.0, 3.0], Tally::default()).median_ms(), Some(2.5));
        assert_eq!(phase(Kind::Control, &[], Tally::default()).median_ms(), None);
    }
}
