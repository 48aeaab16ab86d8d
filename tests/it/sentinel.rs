//! `--failover sentinel`: three Sentinels decide; the proxies follow, hold and fence.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::support::process::Process;
use crate::support::value::ok;
use crate::support::{ANYTHING, Load, Options, Pair, Proxy, Value, free_port, now, pause, wait_until};

/// The password of the Sentinels' default user, where they have one.
const OPERATOR: &str = "operator";
/// What the proxies' user needs at a Sentinel; as on the page.
const PERMITTED: &str = "resetchannels &+switch-master &+selected-slave &-failover-abort-* +subscribe +ping \
                         +sentinel|replicas +sentinel|failover";

struct Sentinels {
    ports: [u16; 3],
    /// Where they speak TLS, and the file with the password of `watcher`.
    secure: Option<([u16; 3], PathBuf)>,
    _processes: Vec<Process>,
}

impl Sentinels {
    fn start(pair: &Pair) -> Self {
        Self::with(pair, None)
    }

    /// The default user has a password; `watcher` may do what the page says, and nothing else. TLS besides plain TCP.
    fn secure(pair: &Pair) -> Self {
        let file = pair.dir.path().join("watcher");
        std::fs::write(&file, "secret\n").unwrap();
        Self::with(pair, Some(([free_port(), free_port(), free_port()], file)))
    }

    fn with(pair: &Pair, secure: Option<([u16; 3], PathBuf)>) -> Self {
        let ports = [free_port(), free_port(), free_port()];
        let mut number = 0..;
        let processes = ports.map(|port| {
            let number = number.next().unwrap();
            let dir = pair.dir.path().join(format!("sentinel-{port}"));
            std::fs::create_dir_all(&dir).unwrap();
            let config = dir.join("sentinel.conf");
            let mut text = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor m 127.0.0.1 {} 2\n\
                 sentinel down-after-milliseconds m 1000\nsentinel failover-timeout m 10000\n",
                dir.display(),
                pair.a.port
            );
            if let Some((tls_ports, _)) = &secure {
                let certs = &pair.certs;
                let (cert, key, ca) = (certs.cert.display(), certs.key.display(), certs.ca.display());
                text += &format!(
                    "tls-port {}\ntls-cert-file {cert}\ntls-key-file {key}\ntls-ca-cert-file {ca}\n\
                     tls-auth-clients no\nrequirepass {OPERATOR}\nuser watcher on >secret {PERMITTED}\n",
                    tls_ports[number]
                );
            }
            std::fs::write(&config, text).unwrap();
            let mut command = Command::new("redis-sentinel");
            let mut process = Process::start(command.arg(&config), &dir.join("log"));
            process.wait_ready("redis-sentinel listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
            process
        });
        let sentinels = Self { ports, secure, _processes: processes.into() };
        wait_until("the Sentinels know each other and the replica", Duration::from_secs(15), || {
            ports.iter().all(|port| {
                let told = ask(*port, &["SENTINEL", "MASTER", "m"]);
                told.contains("num-other-sentinels\n2\n") && told.contains("num-slaves\n1\n")
            })
        });
        sentinels
    }

    fn options(&self, pair: &Pair) -> Options {
        let mut options = Options::default().arg("--failover", "sentinel").arg("--sentinel-name", "m");
        let ports = self.secure.as_ref().map_or(self.ports, |(ports, _)| *ports);
        for port in ports {
            options = options.arg("--sentinel", &format!("127.0.0.1:{port}"));
        }
        if let Some((_, file)) = &self.secure {
            let (ca, file) = (pair.certs.ca.display().to_string(), file.display().to_string());
            // One more that is not there hurts nobody.
            options = options.arg("--sentinel", &format!("127.0.0.1:{}", free_port())).arg("--sentinel-ca", &ca);
            options = options.arg("--sentinel-user", "watcher").arg("--sentinel-password-file", &file);
        }
        options.announce(ANYTHING)
    }
}

impl Sentinels {
    fn wait_know(&self, port: u16) {
        wait_until("all Sentinels know the new primary", Duration::from_secs(15), || {
            let knows = |at: &u16| ask(*at, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "m"]).contains(&port.to_string());
            self.ports.iter().all(knows)
        });
    }
}

fn ask(port: u16, words: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["--no-auth-warning", "-a", OPERATOR, "-p", &port.to_string()]);
    let out = command.args(words).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn start(pair: &Pair) -> (Sentinels, [Proxy; 2]) {
    let sentinels = Sentinels::start(pair);
    let proxies = beside(pair, &sentinels);
    (sentinels, proxies)
}

fn beside(pair: &Pair, sentinels: &Sentinels) -> [Proxy; 2] {
    let proxies = [Proxy::with(pair, "a", sentinels.options(pair)), Proxy::with(pair, "b", sentinels.options(pair))];
    pause(700);
    proxies
}

#[test]
fn after_kill_9_writes_work_again_as_soon_as_sentinel_has_promoted() {
    let mut pair = Pair::start();
    let (_sentinels, proxies) = start(&pair);
    let mut client = proxies[0].client();
    assert_eq!(client.cmd("SET k 1"), ok());
    assert_eq!(client.cmd("WAIT 1 2000"), Value::from(1));
    pair.a.kill();
    let began = now();
    let first = client.cmd("SET k 2");
    assert!(first == ok() || first.is_error("OUTCOMEUNKNOWN"), "{first:?}");
    assert_eq!(client.cmd("SET k 3"), ok());
    let took = began.elapsed();
    println!("kill -9 to the next write, Sentinel with down-after 1 s: {took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    // Sentinel would leave it writable for some ten seconds.
    pair.boot_a(false);
    let back = now();
    wait_until("the old primary is a replica", Duration::from_secs(5), || pair.a.is_connected_replica());
    println!("the old primary is a replica in step after {:?}", back.elapsed());
    assert_eq!(client.cmd("GET k"), Value::from("3"));
}

#[test]
fn a_planned_failover_of_sentinel_is_not_noticed() {
    let pair = Pair::start();
    let (sentinels, proxies) = start(&pair);
    let load = Load::start(&[proxies[0].at, proxies[1].at], &pair.tls, 8);
    pause(300);
    assert!(ask(sentinels.ports[0], &["SENTINEL", "FAILOVER", "m"]).contains("OK"));
    pair.wait_primary_b();
    pause(300);
    let seen = load.stop();
    println!("SENTINEL FAILOVER: longest stall {:?}, {} commands", seen.longest, seen.commands);
    seen.assert_unnoticed(&pair.b);
}

#[test]
fn sentinels_with_tls_and_acl_users_are_heard_and_told() {
    let pair = Pair::start();
    let sentinels = Sentinels::secure(&pair);
    let proxies = beside(&pair, &sentinels);
    let load = Load::start(&[proxies[0].at, proxies[1].at], &pair.tls, 8);
    pause(300);
    // Unless the proxies hear which replica was chosen, writes are lost.
    assert!(ask(sentinels.ports[0], &["SENTINEL", "FAILOVER", "m"]).contains("OK"));
    pair.wait_primary_b();
    sentinels.wait_know(pair.b.port);
    wait_until("Sentinel has finished", Duration::from_secs(30), || {
        let told = ask(sentinels.ports[0], &["SENTINEL", "MASTER", "m"]);
        told.contains("num-slaves\n1\n") && told.contains("flags\nmaster\n")
    });
    pause(1500);
    let out = proxies[1].operate("switchover --to a");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    sentinels.wait_know(pair.a.port);
    pause(300);
    let seen = load.stop();
    println!("with TLS and ACL: longest stall {:?}, {} commands", seen.longest, seen.commands);
    seen.assert_unnoticed(&pair.a);
}

#[test]
fn what_a_sentinel_says_is_a_hint_and_no_more() {
    let pair = Pair::start();
    // Anybody can publish at this one.
    let liar = Pair::start();
    let options = Options::default().arg("--failover", "sentinel").arg("--sentinel-name", "m");
    let options = options.arg("--sentinel", &format!("127.0.0.1:{}", liar.a.port)).announce(ANYTHING);
    let proxy = Proxy::with(&pair, "a", options);
    let mut client = proxy.client();
    assert_eq!(client.cmd("SET k 1"), ok());
    let (a, b) = (pair.a.port, pair.b.port);
    let heard = |channel: &str, text: &str| {
        let count = liar.a.port.to_string();
        let out = Command::new("redis-cli").args(["-p", &count, "PUBLISH", channel, text]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "1", "the proxy listens");
    };
    for _ in 0..3 {
        heard("+switch-master", &format!("m 127.0.0.1 {a} 127.0.0.1 {b}"));
        heard("+selected-slave", &format!("slave 127.0.0.1:{b} 127.0.0.1 {b} @ m 127.0.0.1 {a}"));
        let began = now();
        assert_eq!(client.cmd("SET k 2"), ok(), "held for a while, and then sent where it was sent before");
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        assert_eq!(proxy.primary().as_deref(), Some("a"));
    }
    assert!(pair.a.is_primary() && !pair.b.is_primary());
}

#[test]
fn our_own_switchover_and_sentinel_do_not_fight() {
    let pair = Pair::start();
    let (sentinels, proxies) = start(&pair);
    let load = Load::start(&[proxies[0].at, proxies[1].at], &pair.tls, 8);
    pause(300);
    let out = proxies[0].operate("switchover --to b");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let switched = now();
    // By itself it would take half a minute to see it, and could promote nobody until then.
    sentinels.wait_know(pair.b.port);
    println!("Sentinel knows it {:?} after the switchover", switched.elapsed());
    pause(2000);
    assert!(pair.b.is_primary() && !pair.a.is_primary(), "the roles have changed again");
    pause(300);
    let seen = load.stop();
    println!("longest stall {:?}, {} commands", seen.longest, seen.commands);
    seen.assert_unnoticed(&pair.b);
}
