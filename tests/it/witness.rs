//! `changeover witness`: the third voice. Silence promotes, a machine that wakes up acknowledges nothing, and who is cut off
//! from both others is not served.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::support::process::Process;
use crate::support::proxy::binary;
use crate::support::value::ok;
use crate::support::{ANYTHING, Client, Options, Pair, Proxy, Value, free_port, now, pause, wait_until};

/// A witness with TLS and a token.
struct Witness {
    process: Process,
    command: Command,
    port: u16,
    token: PathBuf,
}

impl Witness {
    fn start(pair: &Pair) -> Self {
        let home = pair.dir.path().join("witness");
        std::fs::create_dir_all(&home).unwrap();
        let (port, token) = (free_port(), home.join("token"));
        std::fs::write(&token, "a secret of the pair\n").unwrap();
        let mut command = binary();
        command.args(["witness", "--listen", &format!("127.0.0.1:{port}")]).arg("--state-dir").arg(home.join("state"));
        command.arg("--cert").arg(&pair.certs.cert).arg("--key").arg(&pair.certs.key).arg("--token-file").arg(&token);
        let process = Self::run(&mut command, port, &home.join("log"));
        Self { process, command, port, token }
    }

    fn run(command: &mut Command, port: u16, log: &std::path::Path) -> Process {
        let mut process = Process::start(command, log);
        process.wait_ready("the witness listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        process
    }

    fn restart(&mut self) {
        self.process.kill();
        let log = self.process.log.clone();
        self.process = Self::run(&mut self.command, self.port, &log);
    }

    fn options(&self, pair: &Pair) -> Options {
        let path = |path: &std::path::Path| path.display().to_string();
        Options::default()
            .arg("--failover", "pair")
            .arg("--witness", &format!("127.0.0.1:{}", self.port))
            .arg("--witness-lease", "2s")
            .arg("--witness-ca", &path(&pair.certs.ca))
            .arg("--witness-token-file", &path(&self.token))
            .announce(ANYTHING)
    }
}

fn start(pair: &Pair, witness: &Witness) -> [Proxy; 2] {
    let proxies = ["a", "b"].map(|node| Proxy::with(pair, node, witness.options(pair)));
    for proxy in &proxies {
        wait_until("the other proxy is heard", Duration::from_secs(20), || {
            proxy.status()["peers"].as_array().is_some_and(|peers| peers.len() == 1)
        });
    }
    pair.wait_primary_a();
    // What an earlier life of theirs may have promised has run out.
    pause(3200);
    proxies
}

/// Increments; what was lost with a node is asked for again.
fn counts(client: &mut Client, key: &str) -> i64 {
    for _ in 0..2 {
        match client.cmd(&format!("INCR {key}")) {
            Value::Int(n) => return n,
            reply => assert!(reply.is_error("OUTCOMEUNKNOWN"), "{reply:?}"),
        }
    }
    panic!("unknown twice");
}

#[test]
fn a_frozen_machine_is_replaced_and_acknowledges_nothing_when_it_wakes() {
    let pair = Pair::start();
    let witness = Witness::start(&pair);
    let proxies = start(&pair, &witness);
    let (mut here, mut there) = (proxies[0].client(), proxies[1].client());
    assert_eq!(counts(&mut here, "n"), 1);
    assert_eq!(counts(&mut there, "n"), 2);
    pair.wait_primary_a();
    // The machine freezes with writes in the sockets of its Redis, one of which came through its proxy.
    let mut waiting: Vec<_> = (0..8).map(|_| proxies[0].client()).collect();
    for client in &mut waiting {
        client.cmd("PING");
    }
    pair.a.signal("STOP");
    for client in &mut waiting {
        client.start("INCR lost");
    }
    pause(100);
    proxies[0].process.signal("STOP");
    let began = now();
    assert_eq!(counts(&mut there, "n"), 3);
    let took = began.elapsed();
    println!("a frozen machine to the next write: {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(pair.b.is_primary());
    // It wakes up. What lay in its sockets is executed, and nobody is told so.
    pair.a.signal("CONT");
    wait_until("the writes are executed there", Duration::from_secs(5), || {
        pair.a.try_cmd("GET lost").is_ok_and(|value| value == Value::from("8"))
    });
    proxies[0].process.signal("CONT");
    for client in &mut waiting {
        let reply = client.read();
        assert!(reply.is_error("OUTCOMEUNKNOWN"), "{reply:?}");
    }
    // And it is never served again: its proxy goes on with the other node, and it becomes a replica.
    assert_eq!(counts(&mut here, "n"), 4);
    pair.wait_primary_b();
    assert_eq!(pair.a.cmd("EXISTS lost"), Value::Int(0));
    for proxy in &proxies {
        assert_eq!(proxy.primary().as_deref(), Some("b"));
    }
    wait_until("it is open again", Duration::from_secs(5), || min_replicas(&pair.a) == "0");
}

fn min_replicas(redis: &crate::support::redis::Redis) -> String {
    match redis.cmd("CONFIG GET min-replicas-to-write") {
        Value::Array(pair) => pair[1].text(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_hears_neither_the_witness_nor_the_other_proxy_is_not_served_and_refuses_writes() {
    let pair = Pair::start();
    let witness = Witness::start(&pair);
    let [a, b] = start(&pair, &witness);
    let mut client = a.client();
    assert_eq!(client.cmd("SET k 1"), ok());
    // One voice of the two is enough.
    witness.process.signal("STOP");
    pause(4000);
    assert_eq!(client.cmd("SET k 2"), ok());
    assert_eq!(min_replicas(&pair.a), "0");
    drop(b);
    wait_until("it refuses writes", Duration::from_secs(10), || pair.a.cmd("SET k 3").is_error("NOREPLICAS"));
    client.start("SET k 4");
    client.expect_silence(500);
    witness.process.signal("CONT");
    let began = now();
    assert_eq!(client.read(), ok());
    println!("a voice is heard again, to the next write: {:?}", began.elapsed());
    wait_until("writes past the proxy too", Duration::from_secs(5), || pair.a.cmd("SET k 5") == ok());
    assert!(!pair.b.is_primary());
}

#[test]
fn the_death_of_a_machine_a_witness_that_restarts_and_switchovers_are_as_without_one() {
    let mut pair = Pair::start();
    let mut witness = Witness::start(&pair);
    let [mut a, b] = start(&pair, &witness);
    let mut client = b.client();
    for (round, to) in ["b", "a"].into_iter().enumerate() {
        let out = a.operate(&format!("switchover --to {to}"));
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(client.cmd(&format!("SET round {round}")), ok());
        witness.restart();
    }
    // Longer than a lease: whoever is in service has it from the witness again.
    pause(3500);
    assert_eq!(client.cmd("SET round 2"), ok());
    pair.wait_primary_a();
    pause(1000);
    // The machine is gone with its proxy, and refuses connections.
    a.process.kill();
    pair.a.kill();
    let began = now();
    let reply = client.cmd("SET round 3");
    assert!(reply == ok() || reply.is_error("OUTCOMEUNKNOWN"), "{reply:?}");
    assert_eq!(client.cmd("SET round 3"), ok());
    println!("kill -9 of node and proxy to the next write: {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(pair.b.is_primary());
}

#[test]
fn a_witness_that_anybody_could_ask_does_not_start_and_a_wrong_token_gets_no_answer() {
    let pair = Pair::start();
    let witness = Witness::start(&pair);
    let out = binary().args(["witness", "--listen", "0.0.0.0:0", "--state-dir", "/tmp"]).output().unwrap();
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && told.contains("--client-ca or --token-file"), "{told}");
    let wrong = pair.dir.path().join("wrong");
    std::fs::write(&wrong, "guessed\n").unwrap();
    let mut options = witness.options(&pair);
    let token = options.args.iter().position(|arg| arg == "--witness-token-file").unwrap() + 1;
    options.args[token] = wrong.display().to_string();
    let proxy = Proxy::with(&pair, "a", options);
    wait_until("it says so", Duration::from_secs(10), || proxy.process.log().contains("the token is wrong"));
}
