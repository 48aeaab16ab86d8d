//! One cell's pair: two servers, two proxies, Sentinels where the mode has them, clients, and the watch over all.
//!
//! It does what a row tells it and judges nothing.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::ground::{Cut, Ground};
use crate::load::Load;
use crate::support::process::Process;
use crate::support::{Certs, Value, now, pause, wait_until};
use crate::watch::{Watch, ask};

/// Who promotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    None,
    Sentinel,
    Pair,
    /// `pair`, and `min-replicas-to-write 1` in both servers.
    Fence,
    /// The same, and a write is answered only when the replica has it.
    Replicated,
}

impl Mode {
    pub(crate) const ALL: [Self; 5] = [Self::None, Self::Sentinel, Self::Pair, Self::Fence, Self::Replicated];

    /// The servers refuse writes without a replica.
    pub(crate) fn fenced(self) -> bool {
        matches!(self, Self::Fence | Self::Replicated)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sentinel => "sentinel",
            Self::Pair => "pair",
            Self::Fence => "fence",
            Self::Replicated => "replicated",
        }
    }
}

/// What the servers keep on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Disk {
    #[default]
    Nothing,
    /// `appendonly yes`
    Log,
}

/// How a cell differs from the usual.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) disk: Disk,
    /// The data folder of `a` is a file system of so many KiB; 0: it is not.
    pub(crate) small_disk_kib: u64,
    /// The same for the state folders of both proxies.
    pub(crate) small_state_kib: u64,
    /// A library that lies about the time is put under these: servers, proxies.
    pub(crate) false_clock: (bool, bool),
}

pub(crate) struct Node {
    pub(crate) redis: Option<Process>,
    pub(crate) proxy: Option<Process>,
    pub(crate) home: PathBuf,
    redis_at: SocketAddr,
    pub(crate) proxy_at: SocketAddr,
}

impl Node {
    pub(crate) fn socket(&self) -> PathBuf {
        self.home.join("redis.sock")
    }
}

pub(crate) struct World {
    pub(crate) ground: Ground,
    pub(crate) mode: Mode,
    pub(crate) setup: Setup,
    pub(crate) nodes: [Node; 2],
    pub(crate) sentinels: Vec<Process>,
    sentinel_ats: Vec<SocketAddr>,
    pub(crate) load: Option<Load>,
    pub(crate) watch: Option<Watch>,
    pub(crate) began: Instant,
    /// When the fault happened.
    pub(crate) fault: Duration,
    /// When the clients' outage is counted from, if not from the fault.
    pub(crate) counted_from: Option<Duration>,
    certs: Certs,
}

impl World {
    /// A pair in step, both proxies serving, clients at work for a second.
    pub(crate) fn start(mode: Mode, setup: Setup) -> Self {
        let ground = Ground::make();
        let certs = Certs::make(&ground.home);
        let nodes = [0, 1].map(|host| {
            let home = ground.home.join(crate::ground::HOSTS[host]);
            std::fs::create_dir_all(&home).unwrap();
            let at = |port| SocketAddr::new(ground.address(host).parse().unwrap(), ground.port(port));
            Node { redis: None, proxy: None, home, redis_at: at(6379), proxy_at: at(6390) }
        });
        let mut world = Self {
            ground,
            mode,
            setup,
            nodes,
            sentinels: Vec::new(),
            sentinel_ats: Vec::new(),
            load: None,
            watch: None,
            began: now(),
            fault: Duration::ZERO,
            counted_from: None,
            certs,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        if self.setup.small_disk_kib > 0 {
            self.ground.small_disk(&self.nodes[0].home.join("data"), self.setup.small_disk_kib);
        }
        if self.setup.small_state_kib > 0 {
            for node in &self.nodes {
                self.ground.small_disk(&node.home.join("state"), self.setup.small_state_kib);
            }
        }
        self.boot(0, None);
        self.boot(1, Some(0));
        self.wait_in_step();
        if self.mode.fenced() {
            for node in [0, 1] {
                self.ask(node, "CONFIG SET min-replicas-to-write 1");
            }
        }
        if self.mode == Mode::Sentinel {
            self.start_sentinels();
        }
        self.start_proxy(0);
        self.start_proxy(1);
        for node in [0, 1] {
            wait_until("both proxies serve and know each other", Duration::from_secs(20), || {
                let status = self.status(node);
                status["view"]["primary"] == "a" && status["peers"].as_array().is_some_and(|peers| peers.len() == 1)
            });
        }
        // They look around for half a second before they act.
        pause(800);
        self.began = now();
        self.watch = Some(Watch::start([self.nodes[0].socket(), self.nodes[1].socket()], self.began));
        let proxies = [self.nodes[0].proxy_at, self.nodes[1].proxy_at];
        self.load = Some(Load::start(proxies, self.certs.client(None), self.began));
        pause(1000);
    }

    /// Starts a server, as a replica of the other or as a primary, with what lies in its folder.
    pub(crate) fn boot(&mut self, node: usize, follows: Option<usize>) {
        let data = self.nodes[node].home.join("data");
        std::fs::create_dir_all(&data).unwrap();
        let (home, at) = (self.nodes[node].home.clone(), self.nodes[node].redis_at);
        let mut command = self.ground.on(node, Path::new("redis-server"));
        let host = at.ip().to_string();
        command.current_dir(&data).args(["--bind", &host, "--port", &at.port().to_string()]);
        command.args(["--protected-mode", "no", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]);
        command.args(["--min-replicas-max-lag", "3", "--save", "", "--replica-announce-ip", &host]);
        command.arg("--unixsocket").arg(self.nodes[node].socket());
        if self.setup.disk == Disk::Log {
            command.args(["--appendonly", "yes"]);
        }
        if let Some(other) = follows {
            let other = self.nodes[other].redis_at;
            command.args(["--replicaof", &other.ip().to_string(), &other.port().to_string()]);
        }
        if self.setup.false_clock.0 {
            crate::clock::lie(&mut command, &home, "redis");
        }
        if let Some(watch) = &self.watch {
            watch.restarted(node, self.now());
        }
        let mut process = Process::start(&mut command, &home.join("redis.log"));
        let socket = self.nodes[node].socket();
        process.wait_ready("redis-server listens", || ask(&socket, &["PING"]).is_ok());
        self.nodes[node].redis = Some(process);
        if follows.is_some() && self.mode.fenced() {
            self.ask(node, "CONFIG SET min-replicas-to-write 1");
        }
    }

    /// Starts the proxy beside a node, with the state that an earlier one left.
    pub(crate) fn start_proxy(&mut self, node: usize) {
        let home = self.nodes[node].home.clone();
        let mut command = self.ground.on(node, Path::new(env!("CARGO_BIN_EXE_changeover")));
        command.env("NO_COLOR", "1").arg("run").args(["--workers", "1"]);
        command.args(["--listen", &self.nodes[node].proxy_at.to_string(), "--self", crate::ground::HOSTS[node]]);
        command.arg("--admin").arg(self.admin(node)).arg("--state-dir").arg(home.join("state"));
        command.arg("--cert").arg(&self.certs.cert).arg("--key").arg(&self.certs.key);
        let secret = self.ground.home.join("channel.secret");
        if !secret.exists() {
            let made = std::process::Command::new(env!("CARGO_BIN_EXE_changeover")).arg("secret").arg(&secret).status();
            assert!(made.unwrap().success());
        }
        command.arg("--channel-secret-file").arg(secret);
        for (name, node) in crate::ground::HOSTS.iter().zip(&self.nodes) {
            command.args(["--node", &format!("{name}={}", node.redis_at)]);
        }
        match self.mode {
            Mode::None => {}
            Mode::Pair | Mode::Fence => {
                command.args(["--failover", "pair"]);
            }
            Mode::Replicated => {
                command.args(["--failover", "pair", "--acknowledge", "replicated", "--without-replica", "refuse"]);
            }
            Mode::Sentinel => {
                command.args(["--failover", "sentinel", "--sentinel-name", "m"]);
                for at in &self.sentinel_ats {
                    command.args(["--sentinel", &at.to_string()]);
                }
            }
        }
        if self.setup.false_clock.1 {
            crate::clock::lie(&mut command, &home, "proxy");
        }
        let mut process = Process::start(&mut command, &home.join("proxy.log"));
        let at = self.nodes[node].proxy_at;
        process.wait_ready("the proxy listens", || TcpStream::connect(at).is_ok());
        self.nodes[node].proxy = Some(process);
    }

    fn start_sentinels(&mut self) {
        for host in 0..3 {
            let at = SocketAddr::new(self.ground.address(host).parse().unwrap(), self.ground.port(26_379));
            let home = self.ground.home.join(format!("sentinel-{host}"));
            std::fs::create_dir_all(&home).unwrap();
            let a = self.nodes[0].redis_at;
            let text = format!(
                "port {}\nbind {}\nprotected-mode no\ndir {}\nsentinel announce-ip {}\nsentinel monitor m {} {} 2\n\
                 sentinel down-after-milliseconds m 1000\nsentinel failover-timeout m 10000\n",
                at.port(),
                at.ip(),
                home.display(),
                at.ip(),
                a.ip(),
                a.port()
            );
            std::fs::write(home.join("sentinel.conf"), text).unwrap();
            self.sentinel_ats.push(at);
            let process = self.run_sentinel(host);
            self.sentinels.push(process);
        }
        wait_until("the Sentinels know each other and the replica", Duration::from_secs(20), || {
            self.sentinel_ats.iter().all(|at| {
                let told = sentinel_says(*at);
                told.contains("num-other-sentinels\n2\n") && told.contains("num-slaves\n1\n")
            })
        });
    }

    /// Starts a Sentinel with the configuration that lies there.
    pub(crate) fn run_sentinel(&self, host: usize) -> Process {
        let home = self.ground.home.join(format!("sentinel-{host}"));
        let mut command = self.ground.on(host, Path::new("redis-sentinel"));
        let mut process = Process::start(command.arg(home.join("sentinel.conf")), &home.join("log"));
        let at = self.sentinel_ats[host];
        process.wait_ready("redis-sentinel listens", || TcpStream::connect(at).is_ok());
        process
    }

    fn admin(&self, node: usize) -> String {
        format!("unix:{}", self.nodes[node].home.join("admin.sock").display())
    }

    /// An operator's command at a proxy.
    pub(crate) fn operate(&self, node: usize, words: &str) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_changeover"));
        command.args(words.split(' ')).arg("--admin").arg(self.admin(node)).output().unwrap()
    }

    /// `changeover status --json`; null while the proxy does not answer.
    pub(crate) fn status(&self, node: usize) -> serde_json::Value {
        serde_json::from_slice(&self.operate(node, "status --json").stdout).unwrap_or_default()
    }

    /// One command to a server, past every cut.
    pub(crate) fn ask(&self, node: usize, words: &str) -> Value {
        self.try_ask(node, words).unwrap_or_else(|error| panic!("{node}: {words}: {error}"))
    }

    pub(crate) fn try_ask(&self, node: usize, words: &str) -> std::io::Result<Value> {
        ask(&self.nodes[node].socket(), &words.split(' ').collect::<Vec<_>>())
    }

    /// Whether a server says that it is primary.
    pub(crate) fn is_primary(&self, node: usize) -> bool {
        matches!(self.try_ask(node, "ROLE"), Ok(Value::Array(role)) if role[0].text() == "master")
    }

    /// Neither is primary.
    pub(crate) fn nodes_are_replicas(&self) -> bool {
        !self.is_primary(0) && !self.is_primary(1)
    }

    fn is_replica_in_step(&self, node: usize) -> bool {
        let linked = matches!(self.try_ask(node, "ROLE"),
            Ok(Value::Array(role)) if role.len() == 5 && role[3].text() == "connected");
        let online = matches!(self.try_ask(1 - node, "INFO replication"),
            Ok(info) if info.text().contains("state=online"));
        linked && online
    }

    pub(crate) fn wait_in_step(&self) {
        wait_until("one is primary, the other in step", Duration::from_secs(30), || {
            (0..2).any(|node| self.is_primary(1 - node) && self.is_replica_in_step(node))
        });
    }

    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The fault happens now.
    pub(crate) fn fault(&mut self) {
        self.fault = self.now();
    }

    pub(crate) fn kill_redis(&mut self, node: usize) {
        self.nodes[node].redis = None;
    }

    pub(crate) fn signal_redis(&self, node: usize, name: &str) {
        self.nodes[node].redis.as_ref().unwrap().signal(name);
    }

    pub(crate) fn signal_proxy(&self, node: usize, name: &str) {
        self.nodes[node].proxy.as_ref().unwrap().signal(name);
    }

    pub(crate) fn cut(&self, host: usize, cut: Cut) {
        self.ground.cut(host, cut);
    }

    pub(crate) fn mend(&self, host: usize, cut: Cut) {
        self.ground.mend(host, cut);
    }

    pub(crate) fn unreachable(&self, proxy: usize, so: bool) {
        self.load.as_ref().unwrap().unreachable(proxy, so);
    }

    /// An operator promotes a server; the outage is counted from here.
    pub(crate) fn operator_promotes(&mut self, node: usize) {
        self.counted_from = Some(self.now());
        self.ask(node, "REPLICAOF NO ONE");
    }

    /// Waits until both proxies (or those that run) name this node.
    pub(crate) fn wait_named(&self, node: usize, patience: Duration) {
        // (A machine that is busy otherwise may need more.)
        let patience = patience * 2;
        let name = crate::ground::HOSTS[node];
        for proxy in 0..2 {
            if self.nodes[proxy].proxy.is_some() {
                wait_until("the proxies name the primary", patience, || self.status(proxy)["view"]["primary"] == name);
            }
        }
    }

    /// The logs, for a cell that failed.
    pub(crate) fn logs(&self) -> String {
        let names = ["proxy.log", "redis.log"];
        let mut all = String::new();
        for node in &self.nodes {
            for name in names {
                let path = node.home.join(name);
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                all.push_str(&format!("--- {}\n{text}\n", path.display()));
            }
        }
        all
    }
}

fn sentinel_says(at: SocketAddr) -> String {
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    let out = Command::new("redis-cli").args(["-h", &host, "-p", &port, "SENTINEL", "MASTER", "m"]).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}
