//! A pair is patched, its servers and its proxies restarted, under clients that reconnect as any library does.

mod acceptance;
mod agents;
mod faults;
mod libraries;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::client::encode;
use crate::support::proxy::binary;
use crate::support::value::ok;
use crate::support::{Client, Options, Pair, Proxy, Value, now, pause, wait_until};

/// The work on a node: asks the machine (the test) for a restart and waits for it, as `ssh NODE patch` would.
const WORK: &str = r#"
set -e
cd "$1"
echo "$2" >> runs
if [ -e fail ]; then echo "no space left" >&2; exit 7; fi
touch "wanted-$2"
while [ -e "wanted-$2" ]; do sleep 0.02; done
"#;

/// A pair with its proxies and a fleet file, and the machine that restarts them.
struct Machine {
    pair: Pair,
    proxies: [Proxy; 2],
    folder: PathBuf,
}

impl Machine {
    fn start(further: &str) -> Self {
        Self::with(further, Options::default())
    }

    fn with(further: &str, options: Options) -> Self {
        let pair = Pair::start();
        let options = || {
            let options = options.clone().arg("--drain-spread", "200ms").arg("--drain-deadline", "5s");
            // The other node goes away while it is patched: that is the story.
            options.announce("").arg("--hold-time", "10s")
        };
        let proxies = [Proxy::with(&pair, "a", options()), Proxy::with(&pair, "b", options())];
        let folder = pair.dir.path().to_owned();
        std::fs::write(folder.join("work.sh"), WORK).unwrap();
        let fleet = format!(
            "back-within = \"30s\"\nsettle = \"20s\"\n{further}\n[commands]\npatch = [\"sh\", \"{0}/work.sh\", \"{0}\", \
             \"{{node}}\"]\n[[shard]]\nname = \"s\"\nnode = [\"a={1}\", \"b={2}\"]\n",
            folder.display(),
            proxies[0].admin,
            proxies[1].admin
        );
        std::fs::write(folder.join("fleet.toml"), fleet).unwrap();
        Self { pair, proxies, folder }
    }

    fn patch(&self, further: &[&str]) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("patch.log")).unwrap();
        let mut command: Command = binary();
        command.arg("patch").arg("--fleet").arg(self.folder.join("fleet.toml")).args(further);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    /// Does what the work on a node asks for; called again and again.
    fn serve(&mut self) {
        for node in ["a", "b"] {
            let wanted = self.folder.join(format!("wanted-{node}"));
            if !wanted.exists() {
                continue;
            }
            let (redis, other, proxy) = match node {
                "a" => (&mut self.pair.a, self.pair.b.port, &mut self.proxies[0]),
                _ => (&mut self.pair.b, self.pair.a.port, &mut self.proxies[1]),
            };
            assert!(redis.is_connected_replica(), "{node} is taken down while it is no replica in step");
            redis.kill();
            if !self.folder.join("stays-away").exists() {
                redis.boot(&self.pair.certs, Some(other));
            } else {
                std::fs::remove_file(self.folder.join("stays-away")).unwrap();
            }
            if self.folder.join("restart-agents").exists() {
                proxy.process.signal("TERM");
                proxy.restart();
            }
            if self.folder.join("drained").exists() {
                proxy.restart();
            }
            std::fs::remove_file(wanted).unwrap();
        }
    }

    /// Serves until the process has ended; its exit code.
    fn finish(&mut self, mut patch: Child) -> Option<i32> {
        let until = now() + Duration::from_secs(90);
        loop {
            if let Some(status) = patch.try_wait().unwrap() {
                return status.code();
            }
            assert!(now() < until, "not done in time:\n{}", self.log());
            self.serve();
            pause(10);
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("patch.log")).unwrap_or_default()
    }

    /// The nodes that the work was run on, in order.
    fn runs(&self) -> String {
        std::fs::read_to_string(self.folder.join("runs")).unwrap_or_default().replace('\n', " ")
    }

    fn report(&self) -> serde_json::Value {
        let text = std::fs::read(self.folder.join("fleet.rollout/report.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

/// Counts up on whichever proxy answers; a command whose connection was closed is sent again, as libraries do.
fn count_up(
    addresses: [SocketAddr; 2],
    tls: &Arc<rustls::ClientConfig>,
    stop: &AtomicBool,
    number: usize,
) -> (u64, i64) {
    let key = format!("count:{number}");
    let command = encode(&[b"INCR", key.as_bytes()]);
    let (mut at, mut value, mut closed, mut client) = (number, 0, 0, None);
    while !stop.load(Ordering::Relaxed) {
        let Some(open) = client.as_mut() else {
            client = Client::try_connect(addresses[at % 2], tls).ok();
            at += 1;
            continue;
        };
        match open.try_send(&command).and_then(|()| open.try_read()) {
            Ok(Value::Int(n)) => {
                assert_eq!(n, value + 1, "{key}: lost or doubled");
                value = n;
            }
            Ok(other) => panic!("{key}: {other:?}"),
            Err(_) => {
                closed += 1;
                client = None;
            }
        }
        pause(1);
    }
    (closed, value)
}

struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(u64, i64)>>,
}

impl Clients {
    fn start(machine: &Machine) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let addresses = [machine.proxies[0].at, machine.proxies[1].at];
        let threads = (0..4).map(|number| {
            let (stop, tls) = (Arc::clone(&stop), machine.pair.tls.clone());
            std::thread::spawn(move || count_up(addresses, &tls, &stop, number))
        });
        Self { threads: threads.collect(), stop }
    }

    /// Checks the counters on the primary; how many connections were closed.
    fn stop(self, machine: &Machine) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = 0;
        for (number, thread) in self.threads.into_iter().enumerate() {
            let (closed, value) = thread.join().expect("a client saw an error");
            assert!(value > 0, "no load");
            assert_eq!(machine.pair.a.cmd(&format!("GET count:{number}")).text(), value.to_string());
            all += closed;
        }
        all
    }
}

#[test]
fn a_pair_is_patched_with_its_proxies_and_no_client_sees_an_error() {
    let mut machine = Machine::start("");
    std::fs::write(machine.folder.join("drained"), "").unwrap();
    let clients = Clients::start(&machine);
    pause(500);
    let patch = machine.patch(&[]);
    let code = machine.finish(patch);
    assert_eq!(code, Some(0), "{}", machine.log());
    pause(500);
    assert!(clients.stop(&machine) > 0, "nobody was drained");
    assert_eq!(machine.runs(), "b a ");
    machine.pair.wait_primary_a();
    let report = machine.report();
    assert_eq!((report["outcome"].as_str(), report["nodes_done"].as_u64()), (Some("finished"), Some(2)), "{report}");
    assert_eq!(report["cut"].as_u64(), Some(0), "{report}");
    assert!(report["closed"].as_u64().unwrap() > 0 && report["longest_stall_ms"].as_f64().is_some(), "{report}");
}

#[test]
fn servers_are_patched_behind_proxies_that_stay_and_no_connection_is_closed() {
    let mut machine = Machine::start("drain = false");
    let clients = Clients::start(&machine);
    pause(300);
    let patch = machine.patch(&[]);
    assert_eq!(machine.finish(patch), Some(0), "{}", machine.log());
    assert_eq!(clients.stop(&machine), 0, "{}", machine.log());
    assert_eq!(machine.runs(), "b a ");
}

#[test]
fn a_rollout_that_is_killed_again_and_again_ends_well_and_does_no_work_twice() {
    let mut machine = Machine::start("drain = false");
    let mut lives = 0;
    for patience in (0..).map(|life| 40 + 37 * life) {
        lives += 1;
        let mut patch = machine.patch(&[]);
        let until = now() + Duration::from_millis(patience);
        while now() < until {
            machine.serve();
            pause(5);
        }
        if let Some(status) = patch.try_wait().unwrap() {
            assert!(status.success(), "{}", machine.log());
            break;
        }
        patch.kill().unwrap();
        patch.wait().unwrap();
        assert!(lives < 200, "{}", machine.log());
    }
    assert!(lives > 5, "it was hardly killed: {lives}");
    assert_eq!(machine.runs(), "b a ", "{}", machine.log());
    machine.pair.wait_primary_a();
}

#[test]
fn work_that_fails_stops_with_the_pair_serving_and_is_gone_on_with_when_mended() {
    let mut machine = Machine::start("drain = false");
    std::fs::write(machine.folder.join("fail"), "").unwrap();
    let patch = machine.patch(&[]);
    assert_eq!(machine.finish(patch), Some(1));
    let log = machine.log();
    for part in ["no space left", "exit status: 7", "the other node serves", "run the same command again"] {
        assert!(log.contains(part), "{part}\nis not in\n{log}");
    }
    machine.pair.wait_primary_a();
    std::fs::remove_file(machine.folder.join("fail")).unwrap();
    let patch = machine.patch(&[]);
    assert_eq!(machine.finish(patch), Some(0), "{}", machine.log());
    assert_eq!(machine.runs(), "b b a ");
}

#[test]
fn a_dry_run_shows_the_plan_and_changes_nothing() {
    let mut machine = Machine::start("");
    wait_until("both proxies follow a", Duration::from_secs(5), || {
        machine.proxies.iter().all(|proxy| proxy.primary().as_deref() == Some("a"))
    });
    let patch = machine.patch(&["--dry-run"]);
    assert_eq!(machine.finish(patch), Some(0), "{}", machine.log());
    let log = machine.log();
    for part in ["● s: healthy, a is primary", "the replica: drain, work, sync", "the primary: switchover, drain"] {
        assert!(log.contains(part), "{part}\nis not in\n{log}");
    }
    assert_eq!(machine.runs(), "");
}

#[test]
fn a_fleet_is_checked_and_what_is_not_well_is_named() {
    let mut machine = Machine::start("");
    let check = |machine: &Machine| {
        let out = binary().arg("check").arg("--fleet").arg(machine.folder.join("fleet.toml")).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    wait_until("the pair is healthy", Duration::from_secs(5), || check(&machine).0 == Some(0));
    machine.pair.a.cmd("CONFIG SET min-replicas-to-write 1");
    let (code, text) = check(&machine);
    let mend = format!("redis-cli -h 127.0.0.1 -p {} CONFIG SET min-replicas-to-write 0", machine.pair.a.port);
    assert!(code == Some(1) && text.contains("▲ a: min-replicas-to-write is 1") && text.contains(&mend), "{text}");
    machine.pair.a.cmd("CONFIG SET min-replicas-to-write 0");
    assert!(text.contains("! b: repl-backlog-ttl is 3600"), "what is only unwise is said as well: {text}");
    machine.pair.b.kill();
    pause(500);
    let (code, text) = check(&machine);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("▲ s: b: ") || text.contains("▲ s: "), "{text}");
    machine.pair.b.boot(&machine.pair.certs, Some(machine.pair.a.port));
}

#[test]
fn a_drill_restarts_the_primary_behind_a_switchover() {
    let mut machine = Machine::start("drain = false");
    let fleet = machine.folder.join("fleet.toml");
    std::fs::write(&fleet, std::fs::read_to_string(&fleet).unwrap().replace("patch =", "reboot =")).unwrap();
    let clients = Clients::start(&machine);
    pause(300);
    let mut drill = binary();
    drill.args(["reboot", "--primary", "--fleet"]).arg(&fleet).stdin(Stdio::null()).stdout(Stdio::null());
    let drill = drill.stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(machine.finish(drill), Some(0), "{}", machine.log());
    assert_eq!(clients.stop(&machine), 0);
    assert_eq!(machine.runs(), "a ");
    machine.pair.wait_primary_a();
}

#[test]
fn a_rude_drill_kills_the_primary_and_tells_what_clients_felt() {
    let options = Options::default().arg("--failover", "pair");
    let mut machine = Machine::with("drain = false", options);
    std::fs::write(machine.folder.join("crash.sh"), "cd \"$1\"\necho \"$3\" > \"crash-$2\"\n").unwrap();
    machine.edit("patch =", "crash =");
    machine.edit("work.sh", "crash.sh");
    let drill = |machine: &Machine, further: &[&str]| {
        let log = std::fs::File::options().create(true).append(true).open(machine.folder.join("patch.log")).unwrap();
        let mut drill = binary();
        drill.args(["reboot", "--primary", "--rude", "kill", "--fleet"]).arg(machine.folder.join("fleet.toml"));
        drill.args(further).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    };
    let refused = drill(&machine, &["--blip", "700"]);
    assert_eq!(machine.finish(refused), Some(2), "{}", machine.log());
    assert!(machine.log().contains("has no place for it"), "{}", machine.log());
    machine.edit("\"{node}\"]", "\"{node}\", \"{blip}\"]");
    let mut client = machine.proxies[1].client();
    client.cmd("SET k v");
    let mut drill = drill(&machine, &["--blip", "700"]);
    let crash = machine.folder.join("crash-a");
    let wanted = || std::fs::read_to_string(&crash).unwrap_or_default().ends_with('\n');
    wait_until("the crash is asked for", Duration::from_secs(20), wanted);
    machine.pair.a.kill();
    assert_eq!(std::fs::read_to_string(&crash).unwrap(), "700\n");
    assert_eq!(client.cmd("SET k w"), ok(), "held, then written on the new primary");
    pause(700);
    machine.pair.boot_a(true);
    let until = now() + Duration::from_secs(30);
    while drill.try_wait().unwrap().is_none() {
        assert!(now() < until, "not done in time:\n{}", machine.log());
        pause(20);
    }
    assert!(drill.wait().unwrap().success(), "{}", machine.log());
    machine.pair.wait_primary_b();
    let report = machine.report();
    assert_eq!((report["outcome"].as_str(), report["nodes_done"].as_u64()), (Some("finished"), Some(1)), "{report}");
    assert!(report["longest_stall_ms"].as_f64().is_some_and(|stall| stall > 0.0), "{report}");
    assert_eq!(client.cmd("GET k"), Value::from("w"));
}

#[test]
fn a_patch_is_rolled_back_where_it_was_begun() {
    let mut machine = Machine::start("drain = false");
    let fleet = machine.folder.join("fleet.toml");
    let text = std::fs::read_to_string(&fleet).unwrap();
    let command = text.lines().find(|line| line.starts_with("patch =")).unwrap().to_owned();
    let both = format!("{command}\n{}", command.replace("patch =", "roll-back ="));
    std::fs::write(&fleet, text.replace(&command, &both)).unwrap();
    std::fs::write(machine.folder.join("fail"), "").unwrap();
    let patch = machine.patch(&[]);
    assert_eq!(machine.finish(patch), Some(1), "{}", machine.log());
    std::fs::remove_file(machine.folder.join("fail")).unwrap();
    let patch = machine.patch(&["--roll-back"]);
    assert_eq!(machine.finish(patch), Some(0), "{}", machine.log());
    // The replica failed, so the primary was never begun.
    assert_eq!(machine.runs(), "b b ");
    assert_eq!(machine.report()["kind"].as_str(), Some("roll-back"));
    machine.pair.wait_primary_a();
}

#[test]
fn dangerous_settings_of_the_nodes_are_named_with_what_mends_them() {
    let pair = Pair::start();
    let check = || {
        let mut check = binary();
        check.args(["check", "--live", "--listen", "127.0.0.1:6380"]);
        check.arg("--cert").arg(&pair.certs.cert).arg("--key").arg(&pair.certs.key);
        for node in [&pair.a, &pair.b] {
            check.args(["--node", &format!("{}=127.0.0.1:{}", node.name, node.port)]);
        }
        let out = check.output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let (code, text) = check();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("! a: repl-backlog-ttl is 3600"), "{text}");
    pair.a.cmd("CONFIG SET min-replicas-to-write 1");
    let (code, text) = check();
    assert_eq!(code, Some(1), "{text}");
    let mend = format!("redis-cli -h 127.0.0.1 -p {} CONFIG SET min-replicas-to-write 0", pair.a.port);
    assert!(text.contains("▲ a: min-replicas-to-write is 1") && text.contains(&mend), "{text}");
}

#[test]
fn a_single_node_is_patched_while_its_clients_wait() {
    let mut pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", Options { single: true, ..Options::default() }.announce(""));
    let folder = pair.dir.path().to_owned();
    std::fs::write(folder.join("work.sh"), WORK).unwrap();
    let fleet = format!(
        "[commands]\npatch = [\"sh\", \"{0}/work.sh\", \"{0}\", \"{{node}}\"]\n[[shard]]\nname = \"one\"\nnode = [\"a={1}\"]\n",
        folder.display(),
        proxy.admin
    );
    std::fs::write(folder.join("fleet.toml"), fleet).unwrap();
    let mut client = proxy.client();
    client.cmd("SET k v");
    let mut patch = binary();
    patch.args(["patch", "--fleet"]).arg(folder.join("fleet.toml")).stdin(Stdio::null()).stderr(Stdio::piped());
    let patch = patch.stdout(Stdio::null()).spawn().unwrap();
    let wanted = folder.join("wanted-a");
    wait_until("the work is asked for", Duration::from_secs(20), || wanted.exists());
    pair.a.kill();
    client.start("SET k w");
    client.expect_silence(500);
    pair.a.boot(&pair.certs, None);
    std::fs::remove_file(wanted).unwrap();
    let told = patch.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{words}");
    assert!(words.contains("one: a single node: its clients are held"), "{words}");
    assert_eq!(client.read(), ok(), "held, then answered");
    assert_eq!(client.cmd("GET k"), Value::from("w"));
}
