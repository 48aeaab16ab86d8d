//! A switchover for eyes: lines while it runs, then its story with the time of every step.

use crate::cli::show::{Paint, counted, indented, table, time};
use crate::io::admin::{GateReport, Outcome, Progress, StepReport, SwitchoverReport};

/// Columns of the picture of when each step ran.
const CHART: usize = 32;

/// A line while it runs.
pub(super) fn line(progress: &Progress) -> Option<String> {
    match progress {
        Progress::Gate(gate) => Some(gate_line(gate)),
        Progress::Step(step) => Some(format!("  ✓ {} after {}\n", step.name, time(step.at_ms))),
        Progress::Report(_) => None,
    }
}

fn gate_line(gate: &GateReport) -> String {
    let mark = if gate.passed { '✓' } else { '✗' };
    let detail = if gate.detail.is_empty() { String::new() } else { format!(": {}", gate.detail) };
    format!("  {mark} {}{detail}\n", gate.name)
}

/// The whole story.
pub(super) fn page(report: &SwitchoverReport, paint: Paint) -> String {
    let mut page = headline(report, paint) + "\n";
    // Gates that passed were told already; what failed is what the reader needs again.
    let told = |gate: &&GateReport| report.outcome == Outcome::DryRun || !gate.passed;
    for gate in report.gates.iter().filter(told) {
        page.push_str(&gate_line(gate));
    }
    if !report.steps.is_empty() {
        page.push('\n');
        page.push_str(&steps(&report.steps));
    }
    if let Some(felt) = felt(report) {
        page.push('\n');
        page.push_str(&felt);
    }
    page
}

fn headline(report: &SwitchoverReport, paint: Paint) -> String {
    let from = report.from.as_deref().unwrap_or("nobody");
    let to = report.to.as_deref().unwrap_or("nobody");
    let took = time(report.took_ms);
    let why = report.stopped.as_ref().map_or("no reason given", |stopped| stopped.why.as_str());
    let step = report.stopped.as_ref().map_or("?", |stopped| stopped.step.as_str());
    match report.outcome {
        Outcome::Switched => paint.good(&format!("● {to} is primary, {from} was: switched in {took}")),
        Outcome::DryRun => paint.good(&format!("● {to} can take over from {from}; nothing was changed")),
        Outcome::Refused => paint.bad(&format!("▲ not begun: {why}")),
        Outcome::Aborted => paint.bad(&format!(
            "▲ taken back at \"{step}\" after {took}: {why}\n  {from} is primary as before; nothing was lost"
        )),
    }
}

fn steps(steps: &[StepReport]) -> String {
    let end = steps.iter().map(|step| step.at_ms).fold(0.0, f64::max);
    let mut table = table(&["Step", ">Took", ">Done at", ""]);
    for step in steps {
        table.add_row([step.name.clone(), time(step.took_ms), time(step.at_ms), bar(step, end)]);
    }
    indented(&table)
}

/// Where in the whole the step lies; every step has at least one mark.
fn bar(step: &StepReport, end: f64) -> String {
    let column = |ms: f64| if end > 0.0 { (ms / end * CHART as f64).clamp(0.0, CHART as f64) } else { 0.0 };
    let from = (column(step.at_ms - step.took_ms).floor() as usize).min(CHART - 1);
    let to = (column(step.at_ms).round() as usize).max(from + 1);
    format!("{}{}", " ".repeat(from), "█".repeat(to - from))
}

fn felt(report: &SwitchoverReport) -> Option<String> {
    let mut felt = match (report.longest_stall_ms, report.held) {
        (Some(stall), held) => {
            let held = held.map(|held| format!("; {} waited", counted(held, "session"))).unwrap_or_default();
            format!("  Longest wait of a client of this process: {}{held}\n", time(stall))
        }
        (None, Some(0)) => "  No client of this process had to wait\n".to_owned(),
        (None, _) => String::new(),
    };
    if !report.steps.is_empty() && !report.peers.is_empty() {
        felt.push_str(&format!("  Held together with: {}\n", report.peers.join(", ")));
    }
    (!felt.is_empty()).then_some(felt)
}
