//! Carries out one order of a rollout: a switchover, a drain, a command.
//!
//! Each is bounded in time and answered once; whether it is tried again is not decided here.

use std::time::Duration;

use super::{Means, agent};
use crate::config::fleet::{Node, Run};
use crate::io::admin::access::Access;
use crate::io::admin::client::AskError;
use crate::io::admin::status::{DrainStatus, Status};
use crate::io::admin::{Outcome, Progress, SwitchoverOrder, whole_ms};
use crate::io::clock;
use crate::io::exec::{Ended, Job, JobFolder};
use crate::patch::journal::Felt;
use crate::patch::plan::{Hook, Plan, ShardPlan};
use crate::patch::shard::words::{Answer, Task};

/// For a switchover; the process that runs it bounds it much tighter.
const SWITCHOVER: Duration = Duration::from_secs(60);
/// For a drain; the process that drains has its own deadline, which may be long.
const DRAIN: Duration = Duration::from_secs(3600);
/// Between two looks at a drain.
const AGAIN: Duration = Duration::from_millis(100);
/// After a switchover the workers of both proxies have told by then how long clients waited.
const ECHO: Duration = Duration::from_millis(300);

pub(super) async fn carry_out(means: &Means, plan: &Plan, shard: &ShardPlan, task: Task) -> Answer {
    let nodes = means.fleet.shard(&shard.name).map_or(&[][..], |shard| shard.nodes.as_slice());
    match task {
        Task::Switchover { to } => match tokio::time::timeout(SWITCHOVER, switchover(&means.access, nodes, to)).await {
            Ok(answer) => answer,
            Err(_) => Answer::Failed("no report in time".to_owned()),
        },
        Task::Drain { node } => match nodes.get(node) {
            Some(node) => tokio::time::timeout(DRAIN, drain(&means.access, node)).await.unwrap_or_else(|_| slow()),
            None => Answer::Failed("no such node".to_owned()),
        },
        Task::Run { node, hook, attempt } => match (means.fleet.command(plan, shard, hook, node), nodes.get(node)) {
            (Some(Run::Local(argv)), _) => {
                let job = Job { argv, deadline_ms: whole_ms(means.fleet.deadline) };
                told(folder(means, shard, node, hook, attempt).run(&job).await)
            }
            (Some(Run::Agent), Some(at)) => {
                let order = agent::order(&means.fleet, &means.id, plan, shard, (node, hook, attempt));
                agent::carry_out(&means.access, at, hook, &order, false).await
            }
            _ => Answer::Failed("the fleet file has no such command any more".to_owned()),
        },
        Task::Join { node, hook, attempt } => match (means.fleet.command(plan, shard, hook, node), nodes.get(node)) {
            (Some(Run::Agent), Some(at)) => {
                let order = agent::order(&means.fleet, &means.id, plan, shard, (node, hook, attempt));
                agent::carry_out(&means.access, at, hook, &order, true).await
            }
            _ => told(folder(means, shard, node, hook, attempt).join().await),
        },
    }
}

fn slow() -> Answer {
    Answer::Failed("the drain did not end in time".to_owned())
}

fn told(ended: Ended) -> Answer {
    match ended {
        Ended::Well => Answer::Done(Felt::default()),
        Ended::Badly(why) => Answer::Failed(why),
        Ended::Unknown => Answer::Unknown,
        Ended::NeverStarted => Answer::NeverStarted,
    }
}

/// The folder of a command: one for each attempt of each rollout.
fn folder(means: &Means, shard: &ShardPlan, node: usize, hook: Hook, attempt: u32) -> JobFolder {
    JobFolder::new(means.folder.join(&means.id).join(agent::job_name(shard, node, hook, attempt)))
}

async fn switchover(access: &Access, nodes: &[Node], to: usize) -> Answer {
    let Some(target) = nodes.get(to) else { return Answer::Failed("no such node".to_owned()) };
    let order = SwitchoverOrder { to: Some(target.name.clone()), timeout_ms: None, dry_run: false };
    let began = clock::unix_millis();
    let report = match access.client(&target.admin).switchover(&order, |_: &Progress| {}).await {
        Ok(report) => report,
        Err(error) => return Answer::Failed(error.to_string()),
    };
    if report.outcome != Outcome::Switched {
        let why = report.stopped.map_or_else(
            || "no reason given".to_owned(),
            |stopped| format!("at \"{}\": {}", stopped.step, stopped.why),
        );
        return Answer::Failed(why);
    }
    tokio::time::sleep(ECHO).await;
    let mut felt = Felt { longest_stall_ms: report.longest_stall_ms, held: report.held, ..Felt::default() };
    let (first, second) = tokio::join!(changes(access, nodes.first(), began), changes(access, nodes.get(1), began));
    if first.is_some() || second.is_some() {
        let (one, other) = (first.unwrap_or_default(), second.unwrap_or_default());
        felt.longest_stall_ms = [felt.longest_stall_ms, one.0, other.0].into_iter().flatten().reduce(f64::max);
        felt.held = Some(one.1 + other.1);
    }
    Answer::Done(felt)
}

/// The longest wait and the sessions held by one proxy, in changes since then.
async fn changes(access: &Access, node: Option<&Node>, since_unix_ms: u64) -> Option<(Option<f64>, u64)> {
    let status: Status = access.client(&node?.admin).status().await.ok()?;
    let changes: Vec<_> = status.last_changes.iter().filter(|change| change.at_unix_ms >= since_unix_ms).collect();
    let longest = changes.iter().filter_map(|change| change.longest_stall_ms).reduce(f64::max);
    (!changes.is_empty()).then(|| (longest, changes.iter().map(|change| change.held).sum()))
}

async fn drain(access: &Access, node: &Node) -> Answer {
    let client = access.client(&node.admin);
    let before = match client.status().await {
        Ok(status) => status.instance,
        // Gone already: by an earlier order, or by hand.
        Err(AskError::Nobody(_)) => return Answer::Done(Felt::default()),
        Err(error) => return Answer::Failed(error.to_string()),
    };
    let began = match client.drain(true).await {
        Ok(drain) => drain,
        Err(AskError::Cut(_)) => return Answer::Done(Felt::default()),
        Err(error) => return Answer::Failed(error.to_string()),
    };
    let mut last = began.clone();
    loop {
        tokio::time::sleep(AGAIN).await;
        match client.status().await {
            Ok(status) if status.instance == before => last = status.drain.unwrap_or(last),
            // It has ended; whoever answers now was started since.
            Ok(_) | Err(AskError::Nobody(_) | AskError::Cut(_)) => break,
            Err(error) => return Answer::Failed(error.to_string()),
        }
    }
    let (closed, cut) = let_go(&began, &last);
    Answer::Done(Felt { closed: Some(closed), cut: Some(cut), ..Felt::default() })
}

/// How many connections were closed, and how many cut. The process ends as soon as nothing is left, so its last words
/// are rarely heard: what was open when it was last heard was closed if its deadline was still away, and may have been
/// cut if it was near.
fn let_go(began: &DrainStatus, last: &DrainStatus) -> (u64, u64) {
    let near = last.left_ms < 3 * whole_ms(AGAIN);
    let cut = if near { last.cut.max(last.open) } else { last.cut };
    ((last.closed + last.moved).max(began.open.saturating_sub(cut)), cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_were_let_go_are_counted_although_the_last_words_are_not_heard() {
        let status = |open, left_ms, closed, cut| DrainStatus { left_ms, open, closed, cut, ..DrainStatus::default() };
        let began = status(10, 30_000, 0, 0);
        assert_eq!(let_go(&began, &status(4, 20_000, 0, 0)), (10, 0));
        assert_eq!(let_go(&began, &status(4, 100, 0, 0)), (6, 4));
        assert_eq!(let_go(&began, &status(0, 9_000, 12, 0)), (12, 0));
        assert_eq!(let_go(&began, &status(0, 0, 8, 2)), (8, 2));
    }
}
