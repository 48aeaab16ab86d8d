//! Looks at a fleet before anything is done to it: is every shard healthy, could its roles be switched, are the
//! commands there? Changes nothing.

use std::path::Path;

use serde::Serialize;

use super::launch::steps;
use crate::cli::operator::json;
use crate::cli::show::{Paint, say};
use crate::config::fleet::Fleet;
use crate::control::rollout::sight;
use crate::io::admin::{GateReport, SwitchoverOrder};
use crate::io::admin_access::Access;
use crate::patch::health::healthy;
use crate::patch::plan::{Hook, Plan, ShardPlan};

#[derive(Debug, Serialize)]
struct Found {
    ready: bool,
    shards: Vec<ShardFound>,
    steps: Vec<String>,
    notes: Vec<String>,
    faults: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ShardFound {
    shard: String,
    primary: Option<String>,
    fault: Option<String>,
    gates: Vec<GateReport>,
}

/// Shows what was found; whether everything is ready.
pub(crate) async fn show(fleet: &Fleet, access: &Access, plan: &Plan, as_json: bool) -> bool {
    let mut shards = Vec::new();
    for shard in &plan.shards {
        shards.push(look(fleet, access, shard).await);
    }
    let faults = commands(fleet, plan);
    let sound = |shard: &ShardFound| shard.fault.is_none() && shard.gates.iter().all(|gate| gate.passed);
    let ready = faults.is_empty() && shards.iter().all(sound);
    let found = Found { ready, shards, steps: steps(plan), notes: plan.warnings(), faults };
    say(&if as_json { json(&found) } else { page(&found, Paint::for_stdout()) });
    ready
}

async fn look(fleet: &Fleet, access: &Access, shard: &ShardPlan) -> ShardFound {
    let mut found = ShardFound { shard: shard.name.clone(), primary: None, fault: None, gates: Vec::new() };
    let primary = match healthy(&sight::look(fleet, access, shard).await, &shard.nodes) {
        Ok(primary) => primary,
        Err(why) => return ShardFound { fault: Some(why), ..found },
    };
    found.primary = Some(shard.node(primary).to_owned());
    let target =
        fleet.shard(&shard.name).filter(|_| shard.is_pair()).and_then(|shard| shard.nodes.get(1 - primary.min(1)));
    if let Some(target) = target {
        let order = SwitchoverOrder { to: Some(target.name.clone()), timeout_ms: None, dry_run: true };
        match access.client(&target.admin).switchover(&order, |_| {}).await {
            Ok(report) => {
                found.gates = report.gates;
                found.fault = report.stopped.map(|stopped| stopped.why);
            }
            Err(error) => found.fault = Some(error.to_string()),
        }
    }
    found
}

/// Programs that cannot be found; each is named once.
fn commands(fleet: &Fleet, plan: &Plan) -> Vec<String> {
    let Some(shard) = plan.shards.first() else { return Vec::new() };
    let hooks = [Hook::BeforeDrain, Hook::Work, Hook::AfterReady];
    let programs = hooks.into_iter().filter_map(|hook| fleet.command(plan, shard, hook, 0)?.into_iter().next());
    programs.filter(|program| !is_there(program)).map(|program| format!("{program}: no such program")).collect()
}

fn is_there(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn page(found: &Found, paint: Paint) -> String {
    let mut page = String::new();
    for shard in &found.shards {
        match (&shard.fault, &shard.primary) {
            (Some(why), _) => page.push_str(&(paint.bad(&format!("▲ {}: {why}", shard.shard)) + "\n")),
            (None, primary) => {
                let primary = primary.as_deref().unwrap_or("nobody");
                page.push_str(&(paint.good(&format!("● {}: healthy, {primary} is primary", shard.shard)) + "\n"));
            }
        }
        for gate in &shard.gates {
            let mark = if gate.passed { '✓' } else { '✗' };
            let detail = if gate.detail.is_empty() { String::new() } else { format!(": {}", gate.detail) };
            page.push_str(&format!("  {mark} {}{detail}\n", gate.name));
        }
    }
    page.push_str("\nWhat would be done:\n");
    found.steps.iter().for_each(|step| page.push_str(&format!("  {step}\n")));
    found.notes.iter().for_each(|note| page.push_str(&format!("note: {note}\n")));
    found.faults.iter().for_each(|fault| page.push_str(&(paint.bad(&format!("▲ {fault}")) + "\n")));
    page
}
