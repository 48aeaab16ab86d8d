//! The story as people see it, and what scripts get.

use super::*;
use crate::io::admin::{GateReport, StepReport, Stopped};

fn step(name: &str, at_ms: f64, took_ms: f64) -> StepReport {
    StepReport { name: name.into(), at_ms, took_ms }
}

fn gate(name: &str, passed: bool, detail: &str) -> GateReport {
    GateReport { name: name.into(), passed, detail: detail.into() }
}

fn switched() -> SwitchoverReport {
    SwitchoverReport {
        outcome: Outcome::Switched,
        from: Some("a".into()),
        to: Some("b".into()),
        stopped: None,
        gates: vec![gate("replica in sync", true, "0 B behind"), gate("replica-read-only", true, "")],
        steps: vec![
            step("hold", 0.31, 0.31),
            step("quiesce", 1.12, 0.81),
            step("hand over", 3.64, 2.52),
            step("confirm", 3.9, 0.26),
            step("release", 4.02, 0.12),
        ],
        took_ms: 4.02,
        longest_stall_ms: Some(4.4),
        held: Some(57),
        peers: vec!["beside b".into()],
    }
}

#[test]
fn the_story_of_a_switchover() {
    let page = page::page(&switched(), Paint::plain());
    println!("{page}");
    assert!(page.starts_with("● b is primary, a was: switched in 4.02 ms\n"));
    assert!(page.contains("Longest wait of a client of this process: 4.40 ms; 57 sessions waited\n"));
    let bars: Vec<&str> = page.lines().filter(|line| line.contains('█')).collect();
    assert_eq!(bars.len(), 5, "every step can be seen");
    assert!(bars[2].matches('█').count() > 15, "the longest step is the longest bar");
}

#[test]
fn live_lines_tell_gates_and_steps() {
    let live = |progress| page::line(&progress).unwrap_or_default();
    assert_eq!(live(Progress::Gate(gate("replica in sync", true, "0 B behind"))), "  ✓ replica in sync: 0 B behind\n");
    assert_eq!(live(Progress::Step(step("hold", 0.31, 0.31))), "  ✓ hold after 0.31 ms\n");
    assert_eq!(live(Progress::Report(switched())), "");
}

#[test]
fn a_refusal_names_the_gate_and_an_abort_says_where_things_stand() {
    let mut report = switched();
    report.outcome = Outcome::Refused;
    report.stopped = Some(Stopped { step: "gates".into(), why: "replica in sync: 5 MiB behind".into() });
    report.gates[0].passed = false;
    report.steps.clear();
    let page = page::page(&report, Paint::plain());
    println!("{page}");
    assert!(page.starts_with("▲ not begun: replica in sync: 5 MiB behind\n  ✗ replica in sync"), "{page}");
    assert_eq!(verdict(&report), Verdict::No);

    report = switched();
    report.outcome = Outcome::Aborted;
    report.stopped = Some(Stopped { step: "hand over".into(), why: "FAILOVER was refused: NOGOODSLAVE".into() });
    let page = page::page(&report, Paint::plain());
    println!("{page}");
    assert!(page.contains("a is primary as before; nothing was lost"));
    assert_eq!(verdict(&report), Verdict::No);
}

#[test]
fn times_are_written_with_their_unit() {
    assert_eq!((millis("10s"), millis("500ms")), (Ok(10_000), Ok(500)));
    assert!(millis("10").is_err() && millis("-1s").is_err() && millis("0s").is_err());
}

#[test]
fn a_report_of_steps_without_times_draws_no_nonsense() {
    let mut report = switched();
    report.steps = vec![step("hold", 0.0, 0.0), step("odd", -1.0, f64::NAN), step("late", 1.0, 5.0)];
    assert!(page::page(&report, Paint::plain()).contains("late"));
}
