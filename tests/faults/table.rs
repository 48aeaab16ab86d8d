//! Outcomes as lines, and the matrix as a table in `docs/failover.md`.

use std::path::Path;

use crate::judge::Outcome;
use crate::rows;
use crate::world::Mode;

const BEGIN: &str = "<!-- faults: written by the fault matrix, see CONTRIBUTING.md -->\n";
const END: &str = "<!-- /faults -->";

/// One outcome for people.
pub(crate) fn line(outcome: &Outcome) -> String {
    let verdict = if outcome.violations.is_empty() { "ok  " } else { "FAIL" };
    let errors: Vec<_> = outcome.errors.iter().map(|(word, times)| format!("-{word} {times}")).collect();
    format!(
        "{verdict} {:<40} again {}, longest wait {}, {} acknowledged, {} lost, {} unknown ({} late), both claim it for {} ms, {}",
        outcome.name(),
        outcome.again_ms.map_or_else(|| "never".to_owned(), |ms| format!("after {}", seconds(ms))),
        seconds(outcome.longest_ms),
        outcome.acknowledged,
        outcome.lost,
        outcome.unknown,
        outcome.late,
        outcome.two_ms,
        errors.join(" ")
    )
}

fn seconds(millis: u64) -> String {
    match millis {
        0..=99 => format!("{millis} ms"),
        _ => format!("{}.{} s", (millis + 50) / 1000, (millis + 50) % 1000 / 100),
    }
}

fn cell(outcome: &Outcome) -> String {
    if !outcome.violations.is_empty() {
        return "**FAILED**".to_owned();
    }
    let again = outcome.again_ms.map_or_else(|| "refused: no replica".to_owned(), seconds);
    let lost = if outcome.lost == 0 { String::new() } else { format!(", {} lost", outcome.lost) };
    let remark = if outcome.remark.is_empty() { String::new() } else { format!("; {}", outcome.remark) };
    format!("{again}{lost}{remark}")
}

fn matrix(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| What happens | `none` | `sentinel` | `pair` | `pair`, fence | `pair`, fence, `replicated` |\n|---|---|---|---|---|---|\n",
    );
    for row in rows::all() {
        text.push_str(&format!("| {} |", row.title));
        for mode in Mode::ALL {
            let found = outcomes.iter().find(|one| one.row == row.name && one.mode == mode.name());
            text.push_str(&format!(" {} |", found.map_or_else(String::new, cell)));
        }
        text.push('\n');
    }
    text
}

/// Writes the table, when told to.
pub(crate) fn keep(outcomes: &[Outcome]) {
    let text = matrix(outcomes);
    println!("\n{text}");
    if std::env::var_os("CHANGEOVER_WRITE_DOCS").is_none() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/failover.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the mark in the page");
    let (_, after) = rest.split_once(END).expect("the end of the table in the page");
    std::fs::write(&path, format!("{before}{BEGIN}\n{text}\n{END}{after}")).unwrap();
}
