//! The load against a real server that speaks TLS itself: what it sees of a faithful server, and of one that is
//! tampered with.

use std::path::Path;
use std::process::Command;

use super::super::certs::{self, Certs};
use super::super::process::{self, Process};
use super::super::redis::Direct;
use super::super::verify;
use super::*;

struct Server {
    _process: Process,
    dir: tempfile::TempDir,
    tls: SocketAddr,
    plain: SocketAddr,
    certs: Certs,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certs = certs::make(dir.path()).unwrap();
        let ports = process::free_ports(2).unwrap();
        let (tls, plain) = (SocketAddr::from(([127, 0, 0, 1], ports[0])), SocketAddr::from(([127, 0, 0, 1], ports[1])));
        let mut command = Command::new("redis-server");
        command.args(["--port", &ports[1].to_string(), "--tls-port", &ports[0].to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--tls-auth-clients", "no"]).current_dir(dir.path());
        let file = |option: &str, path: &Path, command: &mut Command| {
            command.arg(option).arg(path);
        };
        file("--tls-cert-file", &certs.cert, &mut command);
        file("--tls-key-file", &certs.key, &mut command);
        file("--tls-ca-cert-file", &certs.ca, &mut command);
        let process = Process::start(&mut command, &dir.path().join("log")).expect("redis-server");
        while Direct::connect(plain).and_then(|mut d| d.ask(&[b"PING"])).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { _process: process, dir, tls, plain, certs }
    }

    fn drive(&self, connections: usize, rate: u32, stateful: bool) -> Driver {
        let plan =
            Plan { targets: vec![self.tls], tls: self.certs.client().unwrap(), connections, rate, depth: 10, stateful };
        Driver::start(plan).unwrap()
    }

    fn ask(&self, args: &[&[u8]]) {
        Direct::connect(self.plain).unwrap().ask(args).unwrap();
    }
}

fn run_for(driver: &Driver, phase: usize, time: Duration, during: impl FnOnce()) -> (Window, Paused) {
    driver.resume(phase).unwrap();
    driver.open_window().unwrap();
    std::thread::sleep(time / 2);
    during();
    std::thread::sleep(time / 2);
    (driver.close_window().unwrap(), driver.pause().unwrap())
}

#[test]
fn a_faithful_server_shows_no_fault_and_the_asked_rate() {
    let server = Server::start();
    let driver = server.drive(20, 2_000, false);
    for phase in 0..2 {
        let (window, paused) = run_for(&driver, phase, Duration::from_secs(1), || ());
        let tally = &paused.tally;
        assert!((1_500..2_300).contains(&tally.commands), "{} commands", tally.commands);
        assert!(window.commands > 1_000 && window.longest > Duration::ZERO);
        assert!(tally.writes * 10 >= tally.commands * 8, "{tally:?}");
        assert_eq!(*tally, Tally { commands: tally.commands, writes: tally.writes, ..Tally::default() });
        assert_eq!(paused.unanswered, 0);
        assert_eq!(verify::compare(server.plain, &paused.ledgers).unwrap(), Default::default());
    }
}

#[test]
fn tampering_with_the_data_is_found() {
    let server = Server::start();
    let driver = server.drive(4, 1_000, false);
    let (_, paused) = run_for(&driver, 0, Duration::from_millis(400), || ());
    server.ask(&[b"DEL", b"k:0:1:0"]);
    server.ask(&[b"INCR", b"c:0:2"]);
    server.ask(&[b"RPUSH", b"l:0:3", b"0"]);
    let found = verify::compare(server.plain, &paused.ledgers).unwrap();
    assert_eq!((found.lost, found.doubled, found.reordered), (1, 2, 1));
}

#[test]
fn a_stall_and_closed_connections_are_counted() {
    let server = Server::start();
    let driver = server.drive(10, 1_000, false);
    let (window, paused) = run_for(&driver, 0, Duration::from_millis(600), || {
        server.ask(&[b"CLIENT", b"PAUSE", b"150", b"ALL"]);
    });
    assert!(window.longest >= Duration::from_millis(100), "{:?}", window.longest);
    assert_eq!(paused.tally.closed, 0);
    let (_, paused) = run_for(&driver, 1, Duration::from_millis(600), || {
        server.ask(&[b"CLIENT", b"KILL", b"TYPE", b"normal"]);
    });
    assert_eq!(paused.tally.closed, 10);
    assert_eq!(paused.tally.refused_connections, 0);
    let found = verify::compare(server.plain, &paused.ledgers).unwrap();
    assert_eq!((found.lost, found.doubled), (0, 0), "log in {}", server.dir.path().display());
}

#[test]
fn subscribers_workers_and_transactions_find_no_fault_with_a_faithful_server() {
    let server = Server::start();
    let driver = server.drive(2, 100, true);
    for phase in 0..2 {
        let (_, paused) = run_for(&driver, phase, Duration::from_secs(1), || ());
        let seen = &paused.tally.stateful;
        assert_eq!(seen.messages % 4, 0, "everybody heard everything: {seen:?}");
        assert!(seen.messages > 100 && seen.jobs > 30 && seen.transactions > 30, "{seen:?}");
        assert_eq!((paused.unanswered, paused.tally.closed, paused.tally.errors()), (0, 0, 0));
        assert_eq!(faults(&paused), [0; 9], "{seen:?}");
    }
}

#[test]
fn subscribers_workers_and_transactions_find_what_is_wrong() {
    let server = Server::start();
    let driver = server.drive(2, 100, true);
    let (_, paused) = run_for(&driver, 3, Duration::from_secs(1), || {
        server.ask(&[b"PUBLISH", b"demo:news", b"3:0"]);
        server.ask(&[b"RPUSH", b"demo:jobs", b"3:0"]);
        server.ask(&[b"INCR", b"y:3:0"]);
        server.ask(&[b"INCR", b"w:3"]);
        server.ask(&[b"DECR", b"x:3:1"]);
    });
    let [missed, doubled, reordered, jobs_lost, jobs_doubled, failed, lost, twice, broken] = faults(&paused);
    assert_eq!([missed, doubled, reordered], [0, 4, 0]);
    assert_eq!([jobs_lost, jobs_doubled, failed], [0, 1, 0]);
    assert_eq!([lost, twice], [0, 2]);
    assert!(broken > 2, "the sums of two clients from then on");
    let (_, paused) = run_for(&driver, 4, Duration::from_secs(1), || {
        server.ask(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]);
    });
    assert_eq!(paused.tally.closed, 4);
    let [_, doubled, reordered, rest @ ..] = faults(&paused);
    assert_eq!((doubled, reordered, rest), (0, 0, [0; 6]));
}

fn faults(paused: &Paused) -> [u64; 9] {
    let seen = &paused.tally.stateful;
    let messages = [seen.missed, seen.messages_doubled, seen.messages_reordered];
    let [missed, doubled, reordered] = messages;
    let (jobs_lost, jobs_doubled, failed) = (seen.jobs_lost, seen.jobs_doubled, seen.failed);
    let (lost, twice, broken) = (seen.transactions_lost, seen.transactions_doubled, seen.sums_broken);
    [missed, doubled, reordered, jobs_lost, jobs_doubled, failed, lost, twice, broken]
}
