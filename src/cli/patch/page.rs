//! A rollout for eyes: a line for each thing that happens, then the table of its steps.

use super::report::{FaultLine, Report};
use crate::cli::show::{Paint, bytes, count, counted, indented, table, time};
use crate::control::rollout::Told;
use crate::patch::journal::{Felt, Record};
use crate::patch::plan::Plan;
use crate::patch::window::State;

/// Width of the bar in characters.
const BAR: usize = 24;

/// A line while it runs.
pub(super) fn line(plan: &Plan, told: &Told<'_>) -> Option<String> {
    Some(match told {
        Told::Waiting(shard, why) => {
            format!("  {} waits: {why}\n", plan.shards.get(*shard).map_or("?", |shard| shard.name.as_str()))
        }
        Told::Window(State::Open(until)) => format!("the window is open until {}\n", wall_clock(*until)),
        Told::Window(State::Closed(until)) => format!("the window is closed; it opens {}\n", wall_clock(*until)),
        Told::Record(record) => return event(record),
    })
}

fn event(record: &Record) -> Option<String> {
    Some(match record {
        Record::ShardBegun { shard, primary } => format!("{shard}: healthy, {primary} is primary\n"),
        Record::Begun(at) => format!("  {}/{}: {} …\n", at.shard, at.node, at.step.name()),
        Record::Ended { at, took_ms, felt } => {
            let felt = words(felt);
            let felt = if felt.is_empty() { felt } else { format!(" ({felt})") };
            format!("  {}/{}: ✓ {} in {}{felt}\n", at.shard, at.node, at.step.name(), time(*took_ms))
        }
        Record::Failed { at, why } => format!("  {}/{}: ✗ {}: {why}\n", at.shard, at.node, at.step.name()),
        Record::NodeDone { shard, node } => format!("  {shard}/{node}: done\n"),
        Record::ShardDone { shard } => format!("{shard}: done\n"),
        Record::Plan { .. } | Record::Before { .. } | Record::Resumed | Record::Finished => return None,
    })
}

/// How far it is, and what clients felt so far.
pub(super) fn progress(plan: &Plan, records: &[Record]) -> String {
    let whole = plan.nodes().max(1);
    let done = records.iter().filter(|record| matches!(record, Record::NodeDone { .. })).count().min(whole);
    let full = done * BAR / whole;
    let felt =
        records.iter().filter_map(|record| if let Record::Ended { felt, .. } = record { Some(felt) } else { None });
    let stall = felt.clone().filter_map(|felt| felt.longest_stall_ms).reduce(f64::max);
    let sum = |of: fn(&Felt) -> Option<u64>| felt.clone().filter_map(of).sum::<u64>();
    let so_far = Felt {
        longest_stall_ms: stall,
        closed: Some(sum(|felt| felt.closed)),
        cut: Some(sum(|felt| felt.cut)),
        errors: Some(sum(|felt| felt.errors)),
        ..Felt::default()
    };
    let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR - full));
    format!("  {bar} {done} of {}; clients felt so far: {}\n", counted(whole as u64, "node"), words(&so_far))
}

/// What clients felt, in words; empty when there is nothing to tell.
fn words(felt: &Felt) -> String {
    let mut words = Vec::new();
    words.extend(felt.longest_stall_ms.map(|stall| format!("longest wait {}", time(stall))));
    words.extend(felt.held.map(|held| format!("{} held", counted(held, "session"))));
    words.extend(felt.closed.map(|closed| format!("{} closed between commands", count(closed))));
    words.extend(felt.cut.filter(|cut| *cut > 0).map(|cut| format!("{} cut at the deadline", count(cut))));
    let some = |number: Option<u64>| number.filter(|number| *number > 0);
    words.extend(some(felt.closed_by_clients).map(|closed| format!("{} closed by clients", count(closed))));
    words.extend(some(felt.waits).map(|waits| format!("{} waited", counted(waits, "request"))));
    words.extend(some(felt.lost_bytes).map(|lost| format!("{} LOST", bytes(lost))));
    words.extend(some(felt.resync_bytes).map(|sent| format!("{} sent to it", bytes(sent))));
    words.extend(some(felt.errors).map(|errors| counted(errors, "ERROR")));
    words.join(", ")
}

fn wall_clock(at: jiff::Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::system()).strftime("%a %Y-%m-%d %H:%M %Z").to_string()
}

/// The whole story.
pub(super) fn page(report: &Report, paint: Paint) -> String {
    let done = format!("{} of {} done", report.nodes_done, counted(report.nodes as u64, "node"));
    let took = time(report.took_ms);
    let mut page = match report.outcome {
        "finished" => paint.good(&format!("● {}: {done} in {took}", report.kind)),
        "halted" => paint.warn(&format!("● {}: stopped as asked, {done}; run the same command to go on", report.kind)),
        _ => paint.bad(&format!("▲ {}: stopped, {done}", report.kind)),
    };
    page.push('\n');
    for FaultLine { shard, why, advice, .. } in &report.faults {
        page.push_str(&format!("  {shard}: {why}\n    {advice}\n"));
    }
    if !report.steps.is_empty() {
        let mut steps = table(&["Shard", "Node", "Step", ">Took", "Clients felt"]);
        for step in &report.steps {
            let name = step.step.name().to_owned();
            let name = if step.attempt > 1 { format!("{name} #{}", step.attempt) } else { name };
            let took = step.took_ms.map_or_else(|| "failed".to_owned(), time);
            steps.add_row([step.shard.clone(), step.node.clone(), name, took, words(&step.felt)]);
        }
        page.push('\n');
        page.push_str(&indented(&steps));
    }
    let stall = report.longest_stall_ms.map_or_else(
        || "no client was held".to_owned(),
        |stall| format!("longest wait of a client in a change of primary: {}", time(stall)),
    );
    page.push_str(&format!(
        "\n  {stall}; requests that waited: {}; error replies by proxies: {}\n  \
         connections closed by us between commands: {}, cut: {}, closed by clients: {}; sent for resyncs: {}\n",
        count(report.waits),
        count(report.errors),
        count(report.closed),
        count(report.cut),
        count(report.closed_by_clients),
        bytes(report.resync_bytes)
    ));
    page
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::patch::journal::At;
    use crate::patch::plan::{Kind, ShardPlan, Step, Steps};
    use crate::patch::rollout::Outcome;
    use crate::patch::shard::words::Fault;

    fn plan() -> Plan {
        let nodes = vec!["a".to_owned(), "b".to_owned()];
        let shard =
            ShardPlan { group: "g".into(), name: "s".into(), nodes, targets: vec![0, 1], with: Steps::default() };
        Plan { kind: Kind::Patch, shards: vec![shard] }
    }

    #[test]
    fn the_story_says_what_happened_what_was_felt_and_what_to_do() {
        let at = |step| At { shard: "s".into(), node: "b".into(), step, attempt: 1 };
        let felt = Felt { longest_stall_ms: Some(3.25), held: Some(2), ..Felt::default() };
        let records = [
            Record::Ended { at: at(Step::Switchover), took_ms: 12.0, felt },
            Record::Failed { at: at(Step::Work), why: "exit status: 7".into() },
        ];
        let fault = Fault { node: Some(1), why: "work of b failed".into(), advice: "mend b".into() };
        let outcome = Outcome::Stopped(vec![(0, fault)]);
        let report = Report::of("x", &plan(), &records, &outcome, Duration::from_secs(3));
        let page = page(&report, Paint::plain());
        for part in [
            "▲ patch: stopped, 0 of 2 nodes done",
            "s: work of b failed",
            "mend b",
            "failed",
            "longest wait 3.25 ms, 2 sessions held",
        ] {
            assert!(page.contains(part), "{part}\nis not in\n{page}");
        }
        let line = progress(&plan(), &records);
        assert!(line.starts_with("  ░░░") && line.contains("0 of 2 nodes") && line.contains("longest wait 3.25 ms"));
        assert_eq!(event(&records[1]).unwrap(), "  s/b: ✗ work: exit status: 7\n");
    }
}
