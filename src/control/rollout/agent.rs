//! A command of a rollout that a node's own agent runs: begun there by name, and asked after until it has ended.
//!
//! Invariant: the same id is used however often the agent is asked, so that the hook is begun at most once; silence is
//! never taken for an end, because the agent may go down with the machine that its hook restarts.

use std::time::Duration;

use crate::config::fleet::{Fleet, Node, command_name};
use crate::io::admin::access::Access;
use crate::io::admin::client::AskError;
use crate::io::admin::hooks::{HookOrder, HookState};
use crate::io::admin::whole_ms;
use crate::io::clock;
use crate::patch::journal::Felt;
use crate::patch::plan::{Hook, Plan, ShardPlan};
use crate::patch::shard::words::Answer;

/// Between two questions.
const AGAIN: Duration = Duration::from_millis(200);
/// An agent that is silent for this long past the deadline is given up: its machine may be restarting until then.
const PATIENCE: Duration = Duration::from_secs(600);

/// The order for one attempt at a hook, under an id of its own.
pub fn order(fleet: &Fleet, rollout: &str, plan: &Plan, shard: &ShardPlan, step: (usize, Hook, u32)) -> HookOrder {
    let (node, hook, attempt) = step;
    HookOrder {
        hook: command_name(plan, shard, hook).to_owned(),
        id: format!("{rollout}.{}", job_name(shard, node, hook, attempt)),
        deadline_ms: whole_ms(fleet.deadline),
        group: shard.group.clone(),
        shard: shard.name.clone(),
        node: shard.node(node).to_owned(),
        blip_ms: shard.with.blip_ms,
    }
}

/// The name of an attempt at a hook.
pub fn job_name(shard: &ShardPlan, node: usize, hook: Hook, attempt: u32) -> String {
    let hook = match hook {
        Hook::BeforeDrain => "before-drain",
        Hook::Work => "work",
        Hook::AfterReady => "after-ready",
    };
    format!("{}.{}.{hook}.{attempt}", shard.name, shard.node(node))
}

/// Begins the hook (unless `join`), and waits for its end.
pub async fn carry_out(access: &Access, node: &Node, hook: Hook, order: &HookOrder, join: bool) -> Answer {
    let until = clock::now() + Duration::from_millis(order.deadline_ms) + PATIENCE;
    let client = access.client(&node.admin);
    let mut begun = join;
    loop {
        let answer = if begun { client.hook(&order.id).await } else { client.begin_hook(order).await };
        match answer {
            Ok(status) => {
                begun = true;
                match (status.state, hook) {
                    (HookState::Running, _) => {}
                    (HookState::Well, _) | (HookState::Rebooted, Hook::Work) => return Answer::Done(Felt::default()),
                    (HookState::Badly, _) => return Answer::Failed(status.why.unwrap_or_default()),
                    (HookState::Unknown | HookState::Rebooted, _) => return Answer::Unknown,
                    (HookState::NeverStarted, _) if join => return Answer::NeverStarted,
                    (HookState::NeverStarted, _) => {
                        return Answer::Failed("the process that keeps the command did not start".to_owned());
                    }
                }
            }
            Err(AskError::Refused(why)) => return Answer::Failed(why),
            // It went down with its machine, or is not up yet.
            Err(_) if clock::now() < until => {}
            Err(_) => return Answer::Unknown,
        }
        tokio::time::sleep(AGAIN).await;
    }
}
