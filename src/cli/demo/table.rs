//! The report for people: one table, the verdict, and the lines of progress before them.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use comfy_table::{CellAlignment, Table};

use super::report::{Phase, Report};

const COLUMNS: [&str; 13] = [
    "event",
    "times",
    "commands",
    "writes/s",
    "errors",
    "closed",
    "no\nreply",
    "unknown\noutcome",
    "lost",
    "doubled",
    "order\nbroken",
    "stall\nmedian",
    "stall\nworst",
];

const STATEFUL: [&str; 13] = [
    "event",
    "messages",
    "missed",
    "doubled",
    "out of\norder",
    "jobs",
    "lost",
    "doubled",
    "trans-\nactions",
    "failed",
    "lost",
    "doubled",
    "in\npart",
];

/// The whole report.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _infallible = writeln!(
        text,
        "changeover {} over Redis {}: {} TLS connections on two proxies, half of them pipelining, {} commands/s asked for",
        report.version, report.redis_version, report.connections, report.rate
    );
    let _infallible = writeln!(text, "{}", table(COLUMNS, report.phases.iter().map(row)));
    if report.stateful {
        text.push_str(
            "\nBeside them: subscribers (RESP2, RESP3), workers blocked in BLPOP, MULTI/EXEC with and without WATCH\n",
        );
        let _infallible = writeln!(text, "{}", table(STATEFUL, report.phases.iter().map(stateful)));
    }
    for phase in &report.phases {
        for (word, count) in &phase.tally.errors {
            let _infallible = writeln!(text, "  {}: {count} x -{word}", phase.kind.title());
        }
    }
    if let Some(cpu) = report.phases.iter().find_map(|p| p.proxy_cpu_us) {
        let _infallible = writeln!(text, "Both proxies together used {cpu:.1} us of CPU per command in the control.");
    }
    text.push_str("stall: longest time from sending a command to its reply, on any connection, for each event.\n");
    text.push_str("lost after kill -9: acknowledged by the killed node, not yet replicated by Redis; not promised.\n");
    if report.stateful {
        text.push_str(
            "missed in a bare FAILOVER: a PUBLISH that the demoted node still runs reaches its own subscribers only, and\n  \
             nobody said that one was coming: not promised. After kill -9 as well: the pub/sub of Redis keeps nothing.\n\
             jobs and transactions are promised exactly once, except what a killed node had not replicated.\n",
        );
    }
    text.push_str(&verdict(report));
    text
}

fn table<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> Table {
    let mut table = Table::new();
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn verdict(report: &Report) -> String {
    if report.broken.is_empty() {
        return "Every promise was kept.\n".to_owned();
    }
    let mut text = format!("{} promises were broken:\n", report.broken.len());
    for broken in &report.broken {
        let _infallible = writeln!(text, "  - {broken}");
    }
    text
}

fn row(phase: &Phase) -> [String; 13] {
    let tally = &phase.tally;
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
    [
        phase.kind.title().to_owned(),
        phase.events.to_string(),
        thousands(tally.commands),
        format!("{:.0}", phase.per_second(tally.writes)),
        tally.errors().to_string(),
        tally.closed.to_string(),
        tally.unanswered.to_string(),
        tally.unknown.to_string(),
        tally.lost.to_string(),
        tally.doubled.to_string(),
        tally.order_broken().to_string(),
        ms(phase.median_ms()),
        ms(phase.worst_ms()),
    ]
}

fn stateful(phase: &Phase) -> [String; 13] {
    let seen = &phase.tally.stateful;
    [
        phase.kind.title().to_owned(),
        thousands(seen.messages),
        seen.missed.to_string(),
        seen.messages_doubled.to_string(),
        seen.messages_reordered.to_string(),
        thousands(seen.jobs),
        seen.jobs_lost.to_string(),
        seen.jobs_doubled.to_string(),
        thousands(seen.transactions),
        seen.failed.to_string(),
        seen.transactions_lost.to_string(),
        seen.transactions_doubled.to_string(),
        seen.sums_broken.to_string(),
    ]
}

/// A finished phase in one line.
pub(super) fn summary(phase: &Phase) -> String {
    format!(
        "  {}: {} times, {} commands, longest stall median {:.1} ms, worst {:.1} ms",
        phase.kind.title(),
        phase.events,
        thousands(phase.tally.commands),
        phase.median_ms().unwrap_or_default(),
        phase.worst_ms().unwrap_or_default(),
    )
}

fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Progress on stderr: one line that is rewritten on a terminal, a line for each stage elsewhere.
#[derive(Debug)]
pub(super) struct Progress {
    terminal: bool,
    quiet: bool,
}

impl Progress {
    /// `quiet` prints nothing.
    pub(super) fn new(quiet: bool) -> Self {
        Self { terminal: std::io::stderr().is_terminal(), quiet }
    }

    /// A stage that stays on the screen.
    pub(super) fn stage(&self, text: &str) {
        if !self.quiet {
            let clear = if self.terminal { "\r\x1b[K" } else { "" };
            eprintln!("{clear}{text}");
        }
    }

    /// The state of a phase; replaced by the next line.
    pub(super) fn live(&self, phase: &Phase, of: usize, tally: &super::tally::Tally) {
        if self.quiet || !self.terminal {
            return;
        }
        let text = format!(
            "  {} {}/{of}  last stall {:.1} ms, worst {:.1} ms  {} commands, {} errors, {} closed, {} unknown",
            phase.kind.title(),
            phase.events,
            phase.stalls_ms.last().copied().unwrap_or_default(),
            phase.worst_ms().unwrap_or_default(),
            thousands(tally.commands),
            tally.errors(),
            tally.closed,
            tally.unknown,
        );
        eprint!("\r\x1b[K{text}");
        // A progress line that cannot be shown is no reason to stop.
        let _shown = std::io::stderr().flush();
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Kind;
    use super::super::tally::Tally;
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_phase_and_ends_with_the_verdict() {
        let mut control = Phase::new(Kind::Control);
        control.stalls_ms = vec![1.25, 2.5];
        control.tally.commands = 1_234_567;
        let mut killed = Phase::new(Kind::Killed);
        control.tally.stateful.messages = 7_654_321;
        killed.tally = Tally { errors: [("LOADING".to_owned(), 4)].into(), ..Tally::default() };
        let mut report = Report {
            version: "0",
            redis_version: "7".to_owned(),
            connections: 2,
            rate: 10,
            stateful: true,
            phases: vec![control, killed],
            broken: Vec::new(),
        };
        let text = render(&report);
        for wanted in
            ["1,234,567", "7,654,321", "1.9 ms", "2.5 ms", "kill -9", "4 x -LOADING", "Every promise was kept."]
        {
            assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
        }
        report.broken.push("x: 1 writes doubled".to_owned());
        assert!(render(&report).ends_with("1 promises were broken:\n  - x: 1 writes doubled\n"));
    }
}
