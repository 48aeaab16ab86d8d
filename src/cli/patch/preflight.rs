//! Looks at a fleet before anything is done to it: is every shard healthy, could its roles be switched, are the
//! commands there? Changes nothing.

use std::path::Path;

use serde::Serialize;

use super::launch::steps;
use crate::cli::operator::json;
use crate::cli::show::{Paint, say};
use crate::config::fleet::{Fleet, Run};
use crate::control::rollout::sight;
use crate::io::admin::access::Access;
use crate::io::admin::examination::{CertificateExamined, FindingReport, NodeExamined};
use crate::io::admin::{GateReport, SwitchoverOrder};
use crate::io::clock;
use crate::patch::health::healthy;
use crate::patch::plan::{Hook, Plan, ShardPlan};

/// A certificate that expires within so many days is named.
const SOON_DAYS: i64 = 30;
const DAY_MS: i64 = 24 * 3600 * 1000;

#[derive(Debug, Serialize)]
struct Found {
    ready: bool,
    shards: Vec<ShardFound>,
    steps: Vec<String>,
    notes: Vec<String>,
    faults: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct ShardFound {
    shard: String,
    primary: Option<String>,
    fault: Option<String>,
    gates: Vec<GateReport>,
    /// Of each node: what should be otherwise.
    nodes: Vec<NodeExamined>,
    /// Of each proxy: certificates that cannot be read, or expire soon.
    certificates: Vec<String>,
}

impl ShardFound {
    fn is_sound(&self) -> bool {
        let harmful = |node: &NodeExamined| node.error.is_some() || node.findings.iter().any(|finding| finding.must);
        self.fault.is_none() && self.gates.iter().all(|gate| gate.passed) && !self.nodes.iter().any(harmful)
    }
}

/// Shows what was found; whether everything is ready.
pub(crate) async fn show(fleet: &Fleet, access: &Access, plan: &Plan, as_json: bool) -> bool {
    let mut shards = Vec::new();
    for shard in &plan.shards {
        shards.push(look(fleet, access, shard).await);
    }
    let faults = commands(fleet, plan);
    let ready = faults.is_empty() && shards.iter().all(ShardFound::is_sound);
    let found = Found { ready, shards, steps: steps(plan), notes: plan.warnings(), faults };
    say(&if as_json { json(&found) } else { page(&found, Paint::for_stdout()) });
    ready
}

async fn look(fleet: &Fleet, access: &Access, shard: &ShardPlan) -> ShardFound {
    let mut found = ShardFound { shard: shard.name.clone(), ..ShardFound::default() };
    examine(fleet, access, shard, &mut found).await;
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

/// How the nodes are set, as the first proxy that answers sees both; and the certificates of each proxy. What cannot be
/// asked is a fault of the shard already.
async fn examine(fleet: &Fleet, access: &Access, shard: &ShardPlan, found: &mut ShardFound) {
    for node in fleet.shard(&shard.name).map_or(&[][..], |shard| shard.nodes.as_slice()) {
        let Ok(examination) = access.client(&node.admin).examine(false).await else { continue };
        if found.nodes.is_empty() {
            found.nodes = examination.nodes;
        }
        let now = clock::timestamp().as_millisecond();
        let soon = examination.certificates.iter().filter_map(|certificate| near_its_end(certificate, now));
        found.certificates.extend(soon.map(|text| format!("{}: {text}", node.name)));
    }
}

/// What is wrong with a certificate, if anything.
fn near_its_end(certificate: &CertificateExamined, now: i64) -> Option<String> {
    if let Some(error) = &certificate.error {
        return Some(error.clone());
    }
    let left = certificate.expires_unix_ms? - now;
    let days = left / DAY_MS;
    match left {
        ..=0 => Some(format!("{} has expired", certificate.file)),
        left if left < SOON_DAYS * DAY_MS => {
            Some(format!("{} expires in {days} days; SIGHUP reads it again after it was renewed", certificate.file))
        }
        _ => None,
    }
}

/// Programs that cannot be found; each is named once.
fn commands(fleet: &Fleet, plan: &Plan) -> Vec<String> {
    let Some(shard) = plan.shards.first() else { return Vec::new() };
    let hooks = [Hook::BeforeDrain, Hook::Work, Hook::AfterReady];
    let programs = hooks.into_iter().filter_map(|hook| match fleet.command(plan, shard, hook, 0)? {
        Run::Local(words) => words.into_iter().next(),
        Run::Agent => None,
    });
    programs.filter(|program| !is_there(program)).map(|program| format!("{program}: no such program")).collect()
}

fn is_there(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn settings(node: &NodeExamined, paint: Paint) -> String {
    if let Some(error) = &node.error {
        return paint.bad(&format!("  ▲ {}: {error}", node.name)) + "\n";
    }
    let lines = node.findings.iter().map(|FindingReport { must, setting, found, why, mend }| {
        let found = if found.is_empty() { "empty" } else { found };
        let text = format!("{}: {setting} is {found}: {why}", node.name);
        let text = if *must { paint.bad(&format!("  ▲ {text}")) } else { format!("  ! {text}") };
        let (host, port) = node.addr.rsplit_once(':').unwrap_or((node.addr.as_str(), "6379"));
        format!("{text}\n      redis-cli -h {host} -p {port} {mend}\n")
    });
    lines.collect()
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
        shard.nodes.iter().for_each(|node| page.push_str(&settings(node, paint)));
        shard.certificates.iter().for_each(|text| page.push_str(&(paint.warn(&format!("  ! {text}")) + "\n")));
    }
    page.push_str("\nWhat would be done:\n");
    found.steps.iter().for_each(|step| page.push_str(&format!("  {step}\n")));
    found.notes.iter().for_each(|note| page.push_str(&format!("note: {note}\n")));
    found.faults.iter().for_each(|fault| page.push_str(&(paint.bad(&format!("▲ {fault}")) + "\n")));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_near_their_end_are_named_and_others_are_not() {
        let certificate = |expires| CertificateExamined { file: "s.crt".into(), expires_unix_ms: expires, error: None };
        let now = 1_000 * DAY_MS;
        assert_eq!(near_its_end(&certificate(None), now), None);
        assert_eq!(near_its_end(&certificate(Some(now + 31 * DAY_MS)), now), None);
        assert!(near_its_end(&certificate(Some(now + 3 * DAY_MS)), now).unwrap().contains("s.crt expires in 3 days"));
        assert!(near_its_end(&certificate(Some(now - 1)), now).unwrap().contains("s.crt has expired"));
    }

    #[test]
    fn what_does_harm_stands_out_with_the_command_that_mends_it() {
        let finding = FindingReport {
            must: true,
            setting: "replica-read-only".into(),
            found: "no".into(),
            why: "writes are lost".into(),
            mend: "CONFIG SET replica-read-only yes".into(),
        };
        let node =
            NodeExamined { name: "b".into(), addr: "[::1]:6379".into(), findings: vec![finding], ..Default::default() };
        let text = settings(&node, Paint::plain());
        assert!(text.contains("▲ b: replica-read-only is no: writes are lost"), "{text}");
        assert!(text.contains("redis-cli -h [::1] -p 6379 CONFIG SET replica-read-only yes"), "{text}");
        let shard = ShardFound { nodes: vec![node], ..ShardFound::default() };
        assert!(!shard.is_sound() && ShardFound::default().is_sound());
    }
}
