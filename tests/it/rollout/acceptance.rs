//! The whole promise at once: three shards in two groups, every server and every proxy restarted, under clients that
//! can be moved silently (redis-py, RESP2 and RESP3), and under strict ones that the operator's own command moves first.
//! (redis-rs has a story of its own in `libraries.rs`: it may be just about to send when its connection is closed, which
//! on a busy machine is seen.)

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::libraries::{Python, balance};
use super::{Machine, now};
use crate::support::client::encode;
use crate::support::proxy::binary;
use crate::support::{Client, Value, pause};

/// The operator's `before-drain`: whoever cannot stand a closed connection leaves the node's proxy first.
const LEAVE: &str = r#"
cd "$1"
touch "leaving-$2"
while [ -e "leaving-$2" ]; do sleep 0.02; done
"#;

/// Clients that take any error, and any close that they did not ask for, for a failure, as a program on hiredis does.
struct Strict {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<i64>>,
}

impl Strict {
    fn start(machine: &Machine) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, tls, folder) = (Arc::clone(&stop), machine.pair.tls.clone(), machine.folder.clone());
        let addresses = [machine.proxies[0].at, machine.proxies[1].at];
        let thread = std::thread::spawn(move || strictly(addresses, &tls, &folder, &stopped));
        Self { stop, thread }
    }

    fn stop(self, machine: &Machine) {
        self.stop.store(true, Ordering::Relaxed);
        for (number, value) in self.thread.join().expect("a strict client saw something").into_iter().enumerate() {
            assert!(value > 0, "no load");
            assert_eq!(machine.pair.a.cmd(&format!("GET strict:{number}")).text(), value.to_string());
        }
    }
}

fn strictly(addresses: [SocketAddr; 2], tls: &Arc<rustls::ClientConfig>, folder: &Path, stop: &AtomicBool) -> Vec<i64> {
    let mut clients: Vec<_> = (0..3).map(|number| (number % 2, Client::connect(addresses[number % 2], tls))).collect();
    let mut values = vec![0; clients.len()];
    while !stop.load(Ordering::Relaxed) {
        for (at, node) in ["a", "b"].iter().enumerate() {
            let leaving = folder.join(format!("leaving-{node}"));
            if leaving.exists() {
                for (mine, client) in clients.iter_mut().filter(|(mine, _)| *mine == at) {
                    (*mine, *client) = (1 - at, Client::connect(addresses[1 - at], tls));
                }
                std::fs::remove_file(leaving).unwrap();
            }
        }
        for (number, (_, client)) in clients.iter_mut().enumerate() {
            client.send(&encode(&[b"INCR", format!("strict:{number}").as_bytes()]));
            assert_eq!(client.read(), Value::from(values[number] + 1), "strict:{number}");
            values[number] += 1;
        }
        pause(1);
    }
    values
}

/// A fleet file over the machines: `s1` and `s2` of group x, `s3` of group y.
fn fleet(home: &Path, machines: &[Machine; 3]) -> PathBuf {
    let folder = home.display();
    std::fs::write(home.join("leave.sh"), LEAVE).unwrap();
    let mut fleet = format!(
        "parallel = 2\nback-within = \"60s\"\nsettle = \"30s\"\n[commands]\n\
         patch = [\"sh\", \"{folder}/s1/work.sh\", \"{folder}/{{shard}}\", \"{{node}}\"]\n\
         before-drain = [\"sh\", \"{folder}/leave.sh\", \"{folder}/{{shard}}\", \"{{node}}\"]\n"
    );
    for (name, group, machine) in [("s1", "x", &machines[0]), ("s2", "x", &machines[1]), ("s3", "y", &machines[2])] {
        std::os::unix::fs::symlink(&machine.folder, home.join(name)).unwrap();
        std::fs::write(machine.folder.join("drained"), "").unwrap();
        let [a, b] = &machine.proxies;
        let nodes = format!("node = [\"a={}\", \"b={}\"]", a.admin, b.admin);
        fleet += &format!("[[shard]]\nname = \"{name}\"\ngroup = \"{group}\"\n{nodes}\n");
    }
    std::fs::write(home.join("fleet.toml"), fleet).unwrap();
    home.join("fleet.toml")
}

/// One shard of a group at a time, groups side by side, the replica of each shard first: from the journal.
fn assert_order(journal: &str) {
    let line = |part: &str| journal.lines().position(|line| line.contains(part)).unwrap_or_else(|| panic!("no {part}"));
    let begun = |shard: &str| line(&format!("\"shard-begun\",\"shard\":\"{shard}\""));
    let done = |shard: &str| line(&format!("\"shard-done\",\"shard\":\"{shard}\""));
    assert!(done("s1") < begun("s2"), "one shard of a group at a time:\n{journal}");
    assert!(begun("s3") < done("s1"), "groups side by side:\n{journal}");
    for shard in ["s1", "s2", "s3"] {
        let node = |node: &str| line(&format!("\"node-done\",\"shard\":\"{shard}\",\"node\":\"{node}\""));
        assert!(node("b") < node("a"), "the replica first:\n{journal}");
    }
}

fn assert_report(report: &serde_json::Value) {
    let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name}: {report}"));
    assert_eq!(report["outcome"].as_str(), Some("finished"), "{report}");
    assert_eq!((number("nodes_done"), number("nodes")), (6, 6), "{report}");
    assert_eq!((number("cut"), number("errors")), (0, 0), "{report}");
    assert!(number("resync_bytes") > 0, "six servers were restarted: {report}");
    assert!(number("closed") > 0 && report["longest_stall_ms"].as_f64().is_some(), "{report}");
}

#[test]
fn three_shards_are_patched_with_their_proxies_and_no_application_sees_an_error() {
    let mut machines = ["", "", ""].map(Machine::start);
    let home = tempfile::tempdir().unwrap();
    let fleet = fleet(home.path(), &machines);
    let ports = machines.each_ref().map(balance);
    let strict = machines.each_ref().map(Strict::start);
    let python = [0, 1, 2].map(|at| Python::start(&machines[at], ports[at]));
    pause(2000);
    let log = std::fs::File::create(home.path().join("log")).unwrap();
    let mut patch = binary();
    patch.arg("patch").arg("--fleet").arg(&fleet).stdin(Stdio::null()).stdout(log.try_clone().unwrap());
    let mut patch = patch.stderr(log).spawn().unwrap();
    let words = || std::fs::read_to_string(home.path().join("log")).unwrap_or_default();
    let until = now() + Duration::from_secs(180);
    while patch.try_wait().unwrap().is_none() {
        assert!(now() < until, "not done in time\n{}", words());
        machines.iter_mut().for_each(Machine::serve);
        pause(10);
    }
    let code = patch.wait().unwrap();
    pause(1000);
    python.into_iter().for_each(|clients| clients.stop(words));
    for (strict, machine) in strict.into_iter().zip(&machines) {
        strict.stop(machine);
        assert_eq!(machine.runs(), "b a ");
    }
    assert!(code.success(), "{}", words());
    assert_order(&std::fs::read_to_string(home.path().join("fleet.rollout/journal.jsonl")).unwrap());
    let report = std::fs::read(home.path().join("fleet.rollout/report.json")).unwrap();
    assert_report(&serde_json::from_slice(&report).unwrap());
}
