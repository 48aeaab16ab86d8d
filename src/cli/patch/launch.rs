//! Starts a rollout, or goes on with one that was begun, and stays with it to its end.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::tz::TimeZone;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::report::Report;
use super::{Common, page, preflight};
use crate::cli::operator::json;
use crate::cli::show::{Paint, say, tell};
use crate::config::fleet::{Choice, Fleet, Run};
use crate::control::rollout::{self, Means, Told, agent, sight};
use crate::io::admin::access::Access;
use crate::io::clock;
use crate::io::exec::{JobFolder, write_whole};
use crate::io::journal_file::JournalFile;
use crate::patch::health::healthy;
use crate::patch::journal::{History, Mark, Record, VERSION};
use crate::patch::plan::{Hook, Kind, Plan, Step};
use crate::patch::rollout::{Manner, Outcome, Rollout, Word};
use crate::patch::shard::words::Settings;
use crate::patch::window::Window;

/// Words of an operator that may wait.
const WORDS: usize = 8;
/// Said at once a second time, an interrupt ends the process; the shell's own number for it.
const INTERRUPTED: i32 = 130;

/// Which nodes of each shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Targets {
    /// All of them.
    All,
    /// The one that is primary now.
    Primary,
    /// The one that is not.
    Replica,
    /// The one with this name.
    Named(String),
}

/// What is to be run.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) kind: Kind,
    pub(crate) choice: Choice,
    pub(crate) targets: Targets,
    pub(crate) common: Common,
}

/// Why nothing was run.
enum Refusal {
    /// The command line or the fleet file is wrong.
    Usage(String),
    /// Something else.
    Failed(String),
}

impl<E: std::error::Error> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Runs it.
pub(crate) fn run(launch: Launch) -> ExitCode {
    to_its_end(whole(launch))
}

/// Whether a rollout of the whole fleet could begin; changes nothing.
pub(crate) fn check(fleet: &Path, as_json: bool) -> ExitCode {
    to_its_end(async {
        let (fleet, access) = load(fleet)?;
        let plans = [Kind::Patch, Kind::Reboot].map(|kind| fleet.plan(kind, &Choice::default()));
        let [patch, reboot] = plans;
        let plan = patch.or_else(|why| reboot.map_err(|_| Refusal::Usage(why)))?;
        Ok(preflight::show(&fleet, &access, &plan, as_json).await)
    })
}

fn load(path: &Path) -> Result<(Fleet, Access), Refusal> {
    let fleet = Fleet::load(path).map_err(|problems| Refusal::Usage(format!("\n{problems}")))?;
    let access = Access::load(&fleet.login).map_err(Refusal::Usage)?;
    Ok((fleet, access))
}

fn to_its_end(command: impl Future<Output = Result<bool, Refusal>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refused(&Refusal::Failed(error.to_string())),
    };
    match runtime.block_on(command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &Refusal) -> ExitCode {
    let (code, why) = match refusal {
        Refusal::Usage(why) => (2, why),
        Refusal::Failed(why) => (3, why),
    };
    tell(&format!("error: {why}\n"));
    ExitCode::from(code)
}

async fn whole(mut launch: Launch) -> Result<bool, Refusal> {
    let common = launch.common.clone();
    let (fleet, access) = load(&common.fleet)?;
    let window = common.window.as_deref().map(|text| Window::parse(text, TimeZone::system())).transpose();
    let window = window.map_err(|why| Refusal::Usage(format!("--window: {why}")))?;
    let folder = common.state.clone().unwrap_or_else(|| common.fleet.with_extension("rollout"));
    if common.dry_run {
        choose(&mut launch, &fleet, &access).await?;
        let plan = fleet.plan(launch.kind, &launch.choice).map_err(Refusal::Usage)?;
        return Ok(preflight::show(&fleet, &access, &plan, common.json).await);
    }
    let (journal, history) = JournalFile::open(&folder.join("journal.jsonl"))?;
    let (mut journal, history) = take_up(&mut launch, (&fleet, &access), &folder, journal, history).await?;
    let manner = Manner {
        parallel: fleet.parallel,
        shard: Settings { settle: fleet.settle, back_within: fleet.back_within, unknown: common.work_was },
    };
    let (id, records, rollout) = match history {
        Some(history) => {
            tell(&format!("going on with the {} that was begun before\n", history.plan.kind.name()));
            (history.id.clone(), history.records.clone(), Rollout::resume(history, manner, clock::now()))
        }
        None => {
            let plan = fleet.plan(launch.kind, &launch.choice).map_err(Refusal::Usage)?;
            let id = format!("{:x}", clock::unix_millis());
            journal.append(&Record::Plan { version: VERSION, id: id.clone(), plan: plan.clone() })?;
            (id, Vec::new(), Rollout::new(plan, manner, clock::now()))
        }
    };
    let means = Means { fleet, access, id, folder: folder.join("commands"), window };
    accompany(rollout, journal, means, records, &folder, common.json).await
}

/// What the journal asks for: nothing, to go on, or to be put aside; a plan of a roll-back comes from it.
async fn take_up(
    launch: &mut Launch,
    (fleet, access): (&Fleet, &Access),
    folder: &Path,
    journal: JournalFile,
    history: Option<History>,
) -> Result<(JournalFile, Option<History>), Refusal> {
    let Some(history) = history else {
        if launch.kind == Kind::RollBack {
            return Err(Refusal::Usage(format!("{}: there is no patch to be rolled back", folder.display())));
        }
        choose(launch, fleet, access).await?;
        return Ok((journal, None));
    };
    let open = !history.finished && !launch.common.fresh;
    if open && launch.kind == history.plan.kind && (launch.kind != Kind::Patch || same(launch, fleet, &history)) {
        return Ok((journal, Some(history)));
    }
    match launch.kind {
        Kind::RollBack if history.plan.kind == Kind::Patch => launch.choice = begun(&history, &launch.choice),
        Kind::RollBack => return Err(Refusal::Usage("the last rollout was not a patch".to_owned())),
        _ if open => {
            return Err(Refusal::Usage(format!(
                "{}: an unfinished {} stands in the journal, and it is not what you ask for; run it again to finish it, \
                 or give --fresh to put it aside",
                folder.display(),
                history.plan.kind.name()
            )));
        }
        _ => choose(launch, fleet, access).await?,
    }
    fleet.plan(launch.kind, &launch.choice).map_err(Refusal::Usage)?;
    wait_for_commands(&history, (fleet, access), folder).await;
    Ok((journal.put_aside(&history.id)?, None))
}

fn same(launch: &Launch, fleet: &Fleet, history: &History) -> bool {
    fleet.plan(launch.kind, &launch.choice).is_ok_and(|plan| plan == history.plan)
}

/// The nodes on which the work was begun.
fn begun(history: &History, choice: &Choice) -> Choice {
    let mut nodes = Vec::new();
    for (shard, past) in history.plan.shards.iter().zip(&history.shards) {
        let worked = |node: &usize| past.done.contains(node) || past.marked(*node, Step::Work).is_some();
        nodes.extend((0..shard.nodes.len()).filter(worked).map(|node| (shard.name.clone(), node)));
    }
    Choice { nodes: Some(nodes), ..choice.clone() }
}

/// A command that still runs for a rollout that is put aside must end first: it may have a node down.
async fn wait_for_commands(history: &History, (fleet, access): (&Fleet, &Access), folder: &Path) {
    for (shard, past) in history.plan.shards.iter().zip(&history.shards) {
        let Some(way) = &past.under_way else { continue };
        if let Some(Mark::Begun(attempt)) = past.marked(way.node, Step::Work) {
            tell(&format!("waiting for the command on {}/{} to end\n", shard.name, shard.node(way.node)));
            let at = fleet.shard(&shard.name).and_then(|shard| shard.nodes.get(way.node));
            if let (Some(Run::Agent), Some(at)) = (fleet.command(&history.plan, shard, Hook::Work, way.node), at) {
                let order = agent::order(fleet, &history.id, &history.plan, shard, (way.node, Hook::Work, attempt));
                agent::carry_out(access, at, Hook::Work, &order, true).await;
                continue;
            }
            let name = agent::job_name(shard, way.node, Hook::Work, attempt);
            JobFolder::new(folder.join("commands").join(&history.id).join(name)).join().await;
        }
    }
}

/// Finds out which nodes are meant where that depends on who is primary.
async fn choose(launch: &mut Launch, fleet: &Fleet, access: &Access) -> Result<(), Refusal> {
    if launch.targets == Targets::All {
        return Ok(());
    }
    let whole = fleet.plan(launch.kind, &Choice { nodes: None, ..launch.choice.clone() }).map_err(Refusal::Usage)?;
    let mut nodes = Vec::new();
    for shard in &whole.shards {
        let at = match &launch.targets {
            Targets::Named(name) => shard.nodes.iter().position(|node| node == name),
            role => {
                let seen = sight::look(fleet, access, shard).await;
                let primary = healthy(&seen, &shard.nodes);
                let primary = primary.map_err(|why| Refusal::Failed(format!("{}: {why}", shard.name)))?;
                let wanted = |node: &usize| (*node == primary) == (*role == Targets::Primary);
                (0..shard.nodes.len()).find(wanted)
            }
        };
        nodes.extend(at.map(|at| (shard.name.clone(), at)));
    }
    launch.choice.nodes = Some(nodes);
    Ok(())
}

async fn accompany(
    rollout: Rollout,
    journal: JournalFile,
    means: Means,
    mut records: Vec<Record>,
    folder: &Path,
    as_json: bool,
) -> Result<bool, Refusal> {
    let plan = rollout.plan().clone();
    plan.warnings().iter().for_each(|warning| tell(&format!("note: {warning}\n")));
    let id = means.id.clone();
    let mut words = listen()?;
    let began = clock::now();
    let mut watch = |told: Told<'_>| {
        match &told {
            Told::Record(record) if as_json => say(&(serde_json::to_string(record).unwrap_or_default() + "\n")),
            told => page::line(&plan, told).iter().for_each(|line| tell(line)),
        }
        if let Told::Record(record) = told {
            records.push(record.clone());
            if !as_json && matches!(record, Record::NodeDone { .. }) {
                tell(&page::progress(&plan, &records));
            }
        }
    };
    let outcome = rollout::run(rollout, journal, means, &mut words, &mut watch).await?;
    let report = Report::of(&id, &plan, &records, &outcome, clock::now() - began);
    let kept = keep(folder, &report);
    say(&if as_json { json(&report) } else { page::page(&report, Paint::for_stdout()) });
    match kept {
        Ok(path) => tell(&format!("report: {}\n", path.display())),
        Err(error) => tell(&format!("error: the report could not be written: {error}\n")),
    }
    Ok(outcome == Outcome::Finished)
}

fn keep(folder: &Path, report: &Report) -> std::io::Result<PathBuf> {
    write_whole(folder, "report.json", json(report).as_bytes())?;
    Ok(folder.join("report.json"))
}

/// Signals as words: the first interrupt stops politely, the second at once; SIGUSR1 pauses and goes on.
#[expect(clippy::disallowed_methods, reason = "one task for the life of the command, which ends with it")]
fn listen() -> std::io::Result<mpsc::Receiver<Word>> {
    let (words, heard) = mpsc::channel(WORDS);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut user = signal(SignalKind::user_defined1())?;
    drop(tokio::spawn(async move {
        let (mut stopping, mut paused) = (false, false);
        loop {
            let pause = tokio::select! {
                _ = interrupt.recv() => false,
                _ = terminate.recv() => false,
                _ = user.recv() => true,
            };
            let word = match (pause, paused, stopping) {
                (true, false, _) => Word::Pause,
                (true, true, _) => Word::Continue,
                (false, _, false) => Word::Stop,
                (false, _, true) => {
                    tell("ending at once: a command that runs goes on; run the same command again to go on\n");
                    std::process::exit(INTERRUPTED);
                }
            };
            tell(match word {
                Word::Pause => "paused: no further node is begun (SIGUSR1 goes on)\n",
                Word::Continue => "going on\n",
                Word::Stop => "stopping: the nodes that were begun are finished first (again: end at once)\n",
            });
            paused = if pause { !paused } else { paused };
            stopping = stopping || !pause;
            if words.send(word).await.is_err() {
                return;
            }
        }
    }));
    Ok(heard)
}

/// The plan, for people and tests.
pub(crate) fn steps(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for shard in &plan.shards {
        lines.push(format!("{} (group {})", shard.name, shard.group));
        for (at, node) in shard.targets.iter().rev().enumerate() {
            // The replica comes first; the names are known only when it is seen who is primary.
            let primary = at + 1 == shard.targets.len() && shard.is_pair();
            let which = match (shard.targets.len(), primary) {
                (1, _) => shard.node(*node).to_owned(),
                (_, false) => "the replica".to_owned(),
                (_, true) => "the primary".to_owned(),
            };
            let names: Vec<_> = shard.steps(primary).into_iter().map(Step::name).collect();
            lines.push(format!("  {which}: {}", names.join(", ")));
        }
        if shard.with.switch_back && shard.is_pair() && shard.targets.len() > 1 {
            lines.push("  then: switch-back".to_owned());
        }
    }
    lines
}
