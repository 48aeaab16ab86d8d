//! `--failover sentinel`: three Sentinels decide; the proxies follow, hold and fence.

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::support::process::Process;
use crate::support::value::ok;
use crate::support::{ANYTHING, Load, Options, Pair, Proxy, Value, free_port, now, pause, wait_until};

struct Sentinels {
    ports: [u16; 3],
    _processes: Vec<Process>,
}

impl Sentinels {
    fn start(pair: &Pair) -> Self {
        let ports = [free_port(), free_port(), free_port()];
        let processes = ports.map(|port| {
            let dir = pair.dir.path().join(format!("sentinel-{port}"));
            std::fs::create_dir_all(&dir).unwrap();
            let config = dir.join("sentinel.conf");
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor m 127.0.0.1 {} 2\n\
                 sentinel down-after-milliseconds m 1000\nsentinel failover-timeout m 10000\n",
                dir.display(),
                pair.a.port
            );
            std::fs::write(&config, text).unwrap();
            let mut command = Command::new("redis-sentinel");
            let mut process = Process::start(command.arg(&config), &dir.join("log"));
            process.wait_ready("redis-sentinel listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
            process
        });
        let sentinels = Self { ports, _processes: processes.into() };
        wait_until("the Sentinels know each other and the replica", Duration::from_secs(15), || {
            ports.iter().all(|port| {
                let told = ask(*port, &["SENTINEL", "MASTER", "m"]);
                told.contains("num-other-sentinels\n2\n") && told.contains("num-slaves\n1\n")
            })
        });
        sentinels
    }

    fn options(&self) -> Options {
        let mut options = Options::default().arg("--failover", "sentinel").arg("--sentinel-name", "m");
        for port in self.ports {
            options = options.arg("--sentinel", &format!("127.0.0.1:{port}"));
        }
        options.announce(ANYTHING)
    }
}

fn ask(port: u16, words: &[&str]) -> String {
    let out = Command::new("redis-cli").args(["-p", &port.to_string()]).args(words).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn start(pair: &Pair) -> (Sentinels, [Proxy; 2]) {
    let sentinels = Sentinels::start(pair);
    let proxies = [Proxy::with(pair, "a", sentinels.options()), Proxy::with(pair, "b", sentinels.options())];
    pause(700);
    (sentinels, proxies)
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
fn our_own_switchover_and_sentinel_do_not_fight() {
    let pair = Pair::start();
    let (sentinels, proxies) = start(&pair);
    let load = Load::start(&[proxies[0].at, proxies[1].at], &pair.tls, 8);
    pause(300);
    let out = proxies[0].operate("switchover --to b");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    // It takes Sentinel half a minute to see it; then it "promotes" what is primary already, and cuts its connections.
    wait_until("Sentinel knows it", Duration::from_secs(60), || {
        assert!(pair.b.is_primary() && !pair.a.is_primary(), "the roles have changed again");
        ask(sentinels.ports[0], &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "m"]).contains(&pair.b.port.to_string())
    });
    pause(300);
    let seen = load.stop();
    println!("longest stall {:?}, {} commands", seen.longest, seen.commands);
    seen.assert_unnoticed(&pair.b);
}
