//! The fault matrix: what happens to clients in each mode when processes die, machines fall silent, links come and go.
//!
//! ```text
//! cargo test --test faults                  the cells of every day
//! cargo test --test faults -- --all         the whole matrix; with CHANGEOVER_WRITE_DOCS=1 into docs/failover.md
//! cargo test --test faults -- kill-primary  rows by a part of their name, in all their modes (kill-primary/pair: one cell)
//! ```
//!
//! Every cell runs in a process of its own, on a ground of its own (`ground.rs`), against real servers and proxies, under
//! clients that check what they are told (`load.rs`), with a watch on the servers (`watch.rs`), and is judged in the end
//! (`judge.rs`). A cell that this machine cannot run fails and names what is missing. `CHANGEOVER_TEST_WITHOUT=namespaces`
//! (or `compiler`, or both with a comma) leaves those cells out, and says so.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod clock;
mod ground;
mod judge;
mod load;
mod rows;
#[expect(dead_code, unused_imports, reason = "shared with the stories, which need more of it")]
#[path = "../it/support/mod.rs"]
mod support;
mod table;
mod watch;
mod world;

use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use crate::ground::{GROUND, Ground};
use crate::judge::Outcome;
use crate::rows::{Needs, Row};
use crate::support::now;
use crate::world::{Mode, World};

/// A cell that has not ended by then is ended.
const LONGEST_CELL: Duration = Duration::from_secs(120);
/// The machine stood still for so long: a cell's failure may be the machine's.
const STILL_MS: u64 = 250;
/// How often such a cell is tried again.
const ATTEMPTS: usize = 2;
/// What a cell prints its outcome behind.
const MARK: &str = "OUTCOME ";

/// One row in one mode.
#[derive(Clone, Copy)]
struct Cell {
    row: &'static Row,
    mode: Mode,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--try-the-ground") => {
            let ground = Ground::make();
            ground.cut(0, ground::Cut::Everything);
            ExitCode::SUCCESS
        }
        Some("--inside") => inside(&args[1]),
        Some("--list") => ExitCode::SUCCESS,
        _ => outside(&args),
    }
}

/// In the process of one cell.
fn inside(cell: &str) -> ExitCode {
    let (name, mode) = cell.split_once('/').unwrap();
    let row = rows::all().into_iter().find(|row| row.name == name).unwrap();
    let mode = row.modes.iter().copied().find(|known| known.name() == mode).unwrap();
    std::thread::spawn(|| {
        std::thread::sleep(LONGEST_CELL);
        eprintln!("not done after {LONGEST_CELL:?}");
        std::process::exit(3);
    });
    let stillness = watch::Stillness::start();
    let told = std::panic::catch_unwind(|| {
        let mut world = World::start(mode, (row.setup)());
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (row.story)(&mut world)));
        let outcome = told.map(|expected| judge::judge(&mut world, &expected));
        if !outcome.as_ref().is_ok_and(|outcome| outcome.violations.is_empty()) {
            eprintln!("{}", world.logs());
        }
        outcome
    });
    let mut outcome = match told {
        Ok(Ok(outcome)) => outcome,
        _ => Outcome { violations: vec!["the story did not go on (see above)".to_owned()], ..Outcome::default() },
    };
    (outcome.row, outcome.mode) = (name.to_owned(), mode.name().to_owned());
    outcome.still_ms = u64::try_from(stillness.stop().as_millis()).unwrap_or(u64::MAX);
    println!("{MARK}{}", serde_json::to_string(&outcome).unwrap());
    ExitCode::SUCCESS
}

fn outside(args: &[String]) -> ExitCode {
    let all = args.iter().any(|arg| arg == "--all");
    let filters: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let ground = ground::permitted();
    if let Err(why) = &ground {
        println!("!! no namespaces of our own here: {why}");
    }
    let accepted = std::env::var("CHANGEOVER_TEST_WITHOUT").unwrap_or_default();
    let mut skipped = Vec::new();
    let mut missed = Vec::new();
    let mut cells = Vec::new();
    for row in rows::all() {
        for mode in row.modes {
            let cell = format!("{}/{}", row.name, mode.name());
            let wanted = filters.iter().any(|filter| cell.contains(*filter));
            if !(wanted || filters.is_empty() && (all || row.daily.contains(mode))) {
                continue;
            }
            match missing(row, ground.as_ref().err()) {
                None => cells.push(Cell { row, mode: *mode }),
                Some((what, _)) if accepted.split(',').any(|word| word == what) => {
                    skipped.push(format!("{cell} (needs {what})"));
                }
                Some((what, why)) => missed.push(format!("{cell} needs {what}, and cannot have it here: {why}")),
            }
        }
    }
    let began = now();
    let outcomes = run_all(&cells, ground.as_deref().ok());
    for line in &skipped {
        println!("!! left out, as CHANGEOVER_TEST_WITHOUT says: {line}");
    }
    for line in &missed {
        println!("!! NOT RUN {line}");
    }
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.violations.is_empty()).collect();
    for outcome in &failed {
        println!("\n{}:\n  {}", outcome.name(), outcome.violations.join("\n  "));
    }
    println!(
        "faults: {} cells in {:.0?}; {} failed, {} could not run, {} left out",
        outcomes.len(),
        began.elapsed(),
        failed.len(),
        missed.len(),
        skipped.len()
    );
    if all && skipped.is_empty() && missed.is_empty() {
        table::keep(&outcomes);
    }
    if !missed.is_empty() {
        println!(
            "`make deps` installs the programs; a container needs CAP_SYS_ADMIN for namespaces (docs/failover.md)"
        );
    }
    if failed.is_empty() && missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The logs of a cell that failed, in a file: they are long.
fn keep(name: &str, logs: &str) {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}.log", name.replace('/', "-")));
    std::fs::write(&path, logs).unwrap();
    println!("{name}: its logs are in {}", path.display());
}

/// What a row needs and cannot have here, and why.
fn missing(row: &Row, no_namespaces: Option<&String>) -> Option<(&'static str, String)> {
    let compiler = || clock::library().err().map(|why| ("compiler", why));
    let namespaces = || no_namespaces.map(|why| ("namespaces", why.clone()));
    match row.needs {
        Needs::Nothing => None,
        Needs::Namespaces => namespaces(),
        Needs::Compiler => compiler(),
        Needs::Both => namespaces().or_else(compiler),
    }
}

/// A few cells at a time, in order. Most of their time they wait.
fn run_all(cells: &[Cell], ground: Option<&[&'static str]>) -> Vec<Outcome> {
    let side_by_side =
        std::env::var("CHANGEOVER_FAULTS_AT_A_TIME").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let next = Mutex::new(cells.iter().enumerate());
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..side_by_side {
            scope.spawn(|| {
                loop {
                    let taken = next.lock().unwrap().next();
                    let Some((number, cell)) = taken else { return };
                    let outcome = run(*cell, ground);
                    let wrong: String = outcome.violations.iter().map(|wrong| format!("\n     {wrong}")).collect();
                    println!("{}{wrong}", table::line(&outcome));
                    outcomes.lock().unwrap().push((number, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap();
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// One cell. What fails while the machine itself stood still proves nothing, and is tried again.
fn run(cell: Cell, ground: Option<&[&'static str]>) -> Outcome {
    for _ in 0..ATTEMPTS {
        let outcome = try_once(cell, ground);
        if outcome.violations.is_empty() || outcome.still_ms < STILL_MS {
            return outcome;
        }
        println!("again {}: the machine stood still for {} ms", outcome.name(), outcome.still_ms);
    }
    try_once(cell, ground)
}

/// In a process of its own.
fn try_once(cell: Cell, ground: Option<&[&'static str]>) -> Outcome {
    let me = std::env::current_exe().unwrap();
    let mut command = match ground {
        Some(flags) => {
            let mut command = Command::new("unshare");
            command.args(flags).arg(me).env(GROUND, "namespaces");
            command
        }
        None => Command::new(me),
    };
    command.arg("--inside").arg(format!("{}/{}", cell.row.name, cell.mode.name())).stdin(Stdio::null());
    let out = command.output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let outcome =
        said.lines().find_map(|line| line.strip_prefix(MARK)).and_then(|text| serde_json::from_str(text).ok());
    let outcome: Outcome = outcome.unwrap_or_else(|| Outcome {
        row: cell.row.name.to_owned(),
        mode: cell.mode.name().to_owned(),
        violations: vec![format!("it ended without an outcome: {}", out.status)],
        ..Outcome::default()
    });
    if !outcome.violations.is_empty() {
        keep(&outcome.name(), &complained);
    }
    outcome
}
