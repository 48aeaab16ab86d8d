//! What people type into a fleet file, and what they are told.

use super::*;

const FLEET: &str = r#"
parallel = 2
max-lag = "64KiB"
drain = false

[commands]
patch = ["ssh", "{node}", "patch", "--shard", "{group}/{shard}", "$(no shell)"]

[[shard]]
name = "s1"
group = "sessions"
node = ["a=unix:/run/a.sock", "b=127.0.0.1:9381"]

[[shard]]
name = "s2"
node = ["c=unix:/run/c.sock"]
"#;

fn read(text: &str) -> Result<Fleet, Problems> {
    Fleet::read(Path::new("fleet.toml"), text)
}

#[test]
fn a_fleet_is_read_with_its_defaults() {
    let fleet = read(FLEET).unwrap();
    assert_eq!((fleet.parallel, fleet.max_lag, fleet.drain, fleet.restarts), (2, 65_536, false, true));
    assert_eq!((fleet.settle, fleet.deadline), (Duration::from_secs(300), Duration::from_secs(3600)));
    let groups: Vec<_> = fleet.shards.iter().map(|shard| (shard.group.as_str(), shard.nodes.len())).collect();
    assert_eq!(groups, [("sessions", 2), ("s2", 1)]);
}

#[test]
fn a_command_gets_names_in_place_of_its_placeholders_and_nothing_else_is_touched() {
    let fleet = read(FLEET).unwrap();
    let plan = fleet.plan(Kind::Patch, &Choice::default()).unwrap();
    let command = fleet.command(&plan, &plan.shards[0], Hook::Work, 1).unwrap();
    let words = ["ssh", "b", "patch", "--shard", "sessions/s1", "$(no shell)"].map(str::to_owned).to_vec();
    assert_eq!(command, Run::Local(words));
    assert_eq!(fleet.command(&plan, &plan.shards[0], Hook::AfterReady, 1), None);
}

#[test]
fn a_plan_holds_what_was_chosen() {
    let fleet = read(FLEET).unwrap();
    let only = |name: &str| Choice { shards: vec![name.to_owned()], ..Choice::default() };
    assert_eq!(fleet.plan(Kind::Patch, &only("s2")).unwrap().shards.len(), 1);
    assert!(fleet.plan(Kind::Patch, &only("s9")).unwrap_err().contains("\"s9\""));
    assert!(fleet.plan(Kind::Reboot, &Choice::default()).unwrap_err().contains("`reboot`"));
    let one = Choice { nodes: Some(vec![("s1".into(), 1)]), ..Choice::default() };
    let plan = fleet.plan(Kind::Patch, &one).unwrap();
    assert_eq!((plan.shards.len(), plan.shards[0].targets.as_slice()), (1, &[1][..]));
}

#[test]
fn a_command_may_be_left_to_the_agents_which_must_not_have_ended_then() {
    let text = FLEET.replace("patch = [\"ssh\"", "reboot = \"agent\"\npatch = [\"ssh\"");
    let fleet = read(&text).unwrap();
    assert_eq!(fleet.commands.reboot, Some(Run::Agent));
    let drained = read(&text.replace("drain = false", "drain = true")).unwrap_err().to_string();
    assert!(drained.contains("needs drain = false"), "{drained}");
    assert!(read(&text.replace("\"agent\"", "\"agnet\"")).unwrap_err().to_string().contains("expected a program"));
}

#[test]
fn every_mistake_is_shown_at_once_where_it_stands() {
    let text = r#"
paralel = 2
settle = "soon"
drain = "yes"
[commands]
patch = "reboot now"
[[shard]]
name = "s 1"
node = ["a=unix:/run/a.sock"]
[[shard]]
name = "s2"
node = ["a=10.0.0.1:9380", "b"]
[[shard]]
node = ["a=unix:/run/a.sock"]
"#;
    let shown = read(text).unwrap_err().to_string();
    for part in [
        "fleet.toml:2:1: unknown key `paralel`; did you mean `parallel`?",
        "fleet.toml:3:10: expected a time",
        "fleet.toml:4:9: drain: expected true or false",
        "fleet.toml:6:9: patch: expected a program and its arguments as a list",
        "fleet.toml:8:8: a name is made of",
        "fleet.toml:12:9: 10.0.0.1:9380 is not a loopback address",
        "fleet.toml:12:28: expected NAME=ADMIN",
        "a shard needs a name",
        "^^^",
    ] {
        assert!(shown.contains(part), "{part}\nis not in\n{shown}");
    }
    assert!(read("parallel = \n").unwrap_err().to_string().contains("fleet.toml:1"));
    assert!(read("").unwrap_err().to_string().contains("at least one [[shard]]"));
}

#[test]
fn every_default_is_valid_and_every_key_is_on_the_page() {
    let page = include_str!("../../../docs/drain-and-patch.md");
    for key in KEYS.iter().chain(&COMMANDS) {
        if let Form::Number(kind) = key.kind {
            assert!(value::number(kind, key.fallback).is_ok(), "{}", key.name);
        }
        let fallback = if key.fallback.is_empty() { "–".to_owned() } else { format!("`{}`", key.fallback) };
        let row = format!("| `{}` | {fallback} | {} |", key.name, key.doc);
        assert!(page.contains(&row), "docs/drain-and-patch.md needs the row\n{row}");
    }
}
