//! Hooks of the nodes' own configuration, run by their agents: named over the network, never given; begun once, although
//! a hook restarts the agent that began it.

use std::process::Stdio;
use std::time::Duration;

use super::{Clients, Machine, WORK, now};
use crate::support::proxy::binary;
use crate::support::{Options, pause};

/// A machine whose nodes have hooks, and whose fleet file names them only.
fn with_hooks() -> Machine {
    let hooks = std::env::temp_dir().join(format!("changeover-hooks-{}", std::process::id()));
    std::fs::create_dir_all(&hooks).unwrap();
    let folder = hooks.display();
    let config = format!(
        "[hooks]\npatch = [\"sh\", \"{folder}/work.sh\", \"{folder}\", \"{{node}}\"]\n\
         after-ready = [\"sh\", \"-c\", \"echo ready {{node}} >> {folder}/hooks\"]\n"
    );
    std::fs::write(hooks.join("node.toml"), config).unwrap();
    std::fs::write(hooks.join("work.sh"), WORK).unwrap();
    let options = Options::default().arg("--config", hooks.join("node.toml").to_str().unwrap());
    let mut machine = Machine::with("drain = false", options);
    let fleet = std::fs::read_to_string(machine.folder.join("fleet.toml")).unwrap();
    let command = fleet.lines().find(|line| line.starts_with("patch =")).unwrap().to_owned();
    machine.edit(&command, "patch = \"agent\"\nafter-ready = \"agent\"");
    // What the hooks ask for is looked for there.
    std::fs::copy(machine.folder.join("fleet.toml"), hooks.join("fleet.toml")).unwrap();
    machine.folder = hooks;
    machine
}

#[test]
fn a_pair_is_patched_by_its_agents_hooks_which_restart_the_agents() {
    let mut machine = with_hooks();
    // The work restarts the proxy, which is the agent: its last word is heard by the one that comes after it.
    std::fs::write(machine.folder.join("restart-agents"), "").unwrap();
    let clients = Clients::start(&machine);
    pause(300);
    let mut kills = 0;
    for patience in [700, 900] {
        // The rollout is killed while an agent works for it: the next one asks the agent.
        let mut patch = machine.patch(&[]);
        let until = now() + Duration::from_millis(patience);
        while now() < until {
            machine.serve();
            pause(5);
        }
        if patch.try_wait().unwrap().is_none() {
            kills += 1;
            patch.kill().unwrap();
        }
        patch.wait().unwrap();
    }
    let patch = machine.patch(&[]);
    assert_eq!(machine.finish(patch), Some(0), "{}", machine.log());
    assert!(kills > 0, "the rollout was never killed");
    clients.stop(&machine);
    assert_eq!(machine.runs(), "b a ", "{}", machine.log());
    let hooks = std::fs::read_to_string(machine.folder.join("hooks")).unwrap();
    assert_eq!(hooks, "ready b\nready a\n");
    let unknown = binary()
        .args(["reboot", "--all", "--fleet"])
        .arg(machine.folder.join("fleet.toml"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(unknown.status.code(), Some(2), "the fleet file has no such command: {unknown:?}");
    std::fs::remove_dir_all(&machine.folder).unwrap();
}

#[test]
fn a_hook_that_a_node_does_not_have_is_refused_and_nothing_is_run() {
    let mut machine = Machine::start("drain = false");
    let fleet = std::fs::read_to_string(machine.folder.join("fleet.toml")).unwrap();
    let command = fleet.lines().find(|line| line.starts_with("patch =")).unwrap().to_owned();
    machine.edit(&command, "patch = \"agent\"");
    let patch = machine.patch(&[]);
    assert_eq!(machine.finish(patch), Some(1), "{}", machine.log());
    let log = machine.log();
    assert!(log.contains("this node's configuration has no `patch` under [hooks]"), "{log}");
    machine.pair.wait_primary_a();
}
