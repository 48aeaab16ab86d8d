//! What goes wrong in a rollout, against real servers: it stops, the pair serves, and it says what to do; and whoever
//! kills it at whichever step, the same command ends well.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Clients, Machine, now};
use crate::support::proxy::binary;
use crate::support::value::ok;
use crate::support::{pause, wait_until};

/// Hooks that say that they ran.
const HOOK: &str = "echo \"$2 $3\" >> \"$1/hooks\"\n";

/// With every step that there is.
fn every_step() -> Machine {
    let machine = Machine::start("");
    std::fs::write(machine.folder.join("drained"), "").unwrap();
    std::fs::write(machine.folder.join("hook.sh"), HOOK).unwrap();
    let hook = |name: &str| {
        let folder = machine.folder.display();
        format!("{name} = [\"sh\", \"{folder}/hook.sh\", \"{folder}\", \"{name}\", \"{{node}}\"]\n")
    };
    machine.edit("[[shard]]", &format!("{}{}[[shard]]", hook("before-drain"), hook("after-ready")));
    machine
}

impl Machine {
    /// Replaces a text of the fleet file.
    pub(super) fn edit(&self, from: &str, to: &str) {
        let path = self.folder.join("fleet.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is not in\n{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    fn journal(&self) -> String {
        std::fs::read_to_string(self.folder.join("fleet.rollout/journal.jsonl")).unwrap_or_default()
    }

    /// Patches until the journal has one more such line than before, and kills it there with -9. False: it ended first.
    fn patch_until(&mut self, record: &str, step: &str) -> bool {
        let is = |line: &&str| {
            line.contains(&format!("\"record\":\"{record}\"")) && line.contains(&format!("\"step\":\"{step}\""))
        };
        let count = |journal: String| journal.lines().filter(is).count();
        // A journal that is finished is put aside by the next rollout.
        let before = Some(self.journal()).filter(|journal| !journal.contains("\"finished\"")).map_or(0, count);
        let mut patch = self.patch(&[]);
        let until = now() + Duration::from_secs(60);
        while count(self.journal()) <= before {
            if patch.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(now() < until, "no {record} of {step} in time:\n{}", self.log());
            self.serve();
            pause(1);
        }
        patch.kill().unwrap();
        patch.wait().unwrap();
        true
    }

    /// Patches; it must stop with exit code 1, say all this, and leave the pair serving.
    fn stops(&mut self, parts: &[&str]) {
        let patch = self.patch(&[]);
        assert_eq!(self.finish(patch), Some(1), "{}", self.log());
        let log = self.log();
        for part in parts {
            assert!(log.contains(part), "{part}\nis not in\n{log}");
        }
        assert_eq!(self.proxies[0].client().cmd("SET served yes"), ok());
    }

    /// What stopped it was mended: the same command ends well.
    fn goes_on(&mut self, runs: &str) {
        let patch = self.patch(&[]);
        assert_eq!(self.finish(patch), Some(0), "{}", self.log());
        assert_eq!(self.runs(), runs, "{}", self.log());
        self.pair.wait_primary_a();
    }
}

#[test]
fn a_rollout_that_is_killed_at_every_step_ends_well_and_does_no_work_twice() {
    let mut machine = every_step();
    let clients = Clients::start(&machine);
    for step in ["switchover", "before-drain", "drain", "work", "sync", "after-ready", "switch-back"] {
        std::fs::remove_file(machine.folder.join("runs")).ok();
        // A wait is not announced, so it is killed after the step before it.
        if step != "sync" {
            assert!(machine.patch_until("begun", step), "it ended before {step} began:\n{}", machine.log());
        }
        // A switchover that was ordered before the kill is done without a word in the journal.
        let again = step == "switch-back" || machine.patch_until("ended", step);
        assert!(again || step == "switchover", "it ended before {step} had:\n{}", machine.log());
        if again {
            machine.goes_on("b a ");
        }
        assert_eq!(machine.runs(), "b a ", "{}", machine.log());
        machine.pair.wait_primary_a();
        assert_eq!(machine.report()["outcome"].as_str(), Some("finished"), "{step}: {}", machine.report());
    }
    assert!(clients.stop(&machine) > 0, "nobody was drained");
}

#[test]
fn a_node_that_does_not_come_back_stops_it_and_its_work_is_not_repeated() {
    let mut machine = Machine::start("drain = false");
    machine.edit("back-within = \"30s\"", "back-within = \"3s\"");
    std::fs::write(machine.folder.join("stays-away"), "").unwrap();
    machine.stops(&["b is not back and in sync in time", "the other node serves", "the work is not repeated"]);
    let other = machine.pair.a.port;
    machine.pair.b.boot(&machine.pair.certs, Some(other));
    machine.goes_on("b a ");
}

#[test]
fn a_sync_that_never_ends_stops_it_and_its_work_is_not_repeated() {
    let mut machine = Machine::start("drain = false");
    machine.edit("back-within = \"30s\"", "back-within = \"3s\"");
    // What is left of the last synchronisation would allow a partial one.
    std::fs::remove_file(machine.folder.join("b/dump.rdb")).unwrap();
    machine.pair.a.cmd("CONFIG SET repl-diskless-sync yes");
    machine.pair.a.cmd("CONFIG SET repl-diskless-sync-delay 3600");
    machine.stops(&[
        "b is not back and in sync in time",
        "its link to the primary is down",
        "the work is not repeated",
    ]);
    machine.pair.a.cmd("CONFIG SET repl-diskless-sync-delay 0");
    wait_until("b is in sync", Duration::from_secs(15), || machine.pair.b.is_connected_replica());
    machine.goes_on("b a ");
}

#[test]
fn work_that_hangs_is_killed_and_a_hook_that_fails_is_named() {
    let mut machine = every_step();
    std::fs::remove_file(machine.folder.join("drained")).unwrap();
    machine.edit("back-within", "drain = false\ndeadline = \"1s\"\nback-within");
    std::fs::write(machine.folder.join("work.sh"), "echo \"$2\" >> \"$1/runs\"\nsleep 600\n").unwrap();
    machine.stops(&["work of b failed: killed: it did not end within 1000 ms", "mend b", "run the same command again"]);
    std::fs::write(machine.folder.join("work.sh"), super::WORK).unwrap();
    machine.edit("deadline = \"1s\"\n", "");
    std::fs::write(machine.folder.join("hook.sh"), "echo unreachable >&2\nexit 3\n").unwrap();
    // The work on b is done once more, then its after-ready fails.
    machine.stops(&["after-ready of b failed: exit status: 3", "unreachable"]);
    std::fs::write(machine.folder.join("hook.sh"), HOOK).unwrap();
    machine.goes_on("b b a ");
}

#[test]
fn a_full_disk_stops_the_rollout_with_the_pair_serving() {
    let mut machine = Machine::start("drain = false");
    let fleet = machine.folder.join("fleet.toml");
    // No file may grow past 1 KiB, and the program is told so by an error instead of a signal.
    let script = "trap '' XFSZ; ulimit -f 2; exec \"$0\" patch --fleet \"$1\"";
    let program = binary().get_program().to_owned();
    let mut patch = Command::new("sh");
    patch.arg("-c").arg(script).arg(program).arg(&fleet).stdin(Stdio::null()).stdout(Stdio::null());
    let log = std::fs::File::options().create(true).append(true).open(machine.folder.join("patch.log")).unwrap();
    let patch = patch.stderr(log).spawn().unwrap();
    assert_eq!(machine.finish(patch), Some(3));
    let log = machine.log();
    for part in ["journal.jsonl: File too large", "nothing more was begun", "make room", "run the same command again"] {
        assert!(log.contains(part), "{part}\nis not in\n{log}");
    }
    assert_eq!(machine.proxies[0].client().cmd("SET served yes"), ok());
    machine.goes_on("b a ");
}
