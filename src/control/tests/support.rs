//! A real pair of `redis-server` processes, and whole control planes beside it, without a data plane.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::{
    self, Admin, ChannelSecret, ClientLimits, Config, DrainTimes, Durability, HoldLimits, ProbeTimes, ServerTls,
};
use crate::control::plane::Plane;
use crate::control::{inbox, spawn};
use crate::io::admin::status::Status;
use crate::io::admin::{AdminHandle, AdminRequest, Progress, SwitchoverOrder, SwitchoverReport};
use crate::io::client::{Heard, Link, LinkError, Login, Place, Reply, Target};
use crate::io::clock;
use crate::io::orders::{DrainTally, News, Orders};
use crate::metrics::worker::WorkerStats;
use crate::topology::NodeId;

pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Two nodes; `b` follows `a`.
pub(super) struct Pair {
    dir: tempfile::TempDir,
    ports: [u16; 2],
    children: [Option<Child>; 2],
    /// Whom control planes log in as.
    pub(super) login: Option<Login>,
}

impl Pair {
    pub(super) async fn start() -> Self {
        // Both are held while they are looked for, so that they differ.
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = free.map(|listener| listener.local_addr().unwrap().port());
        let mut pair = Self { dir: tempfile::tempdir().unwrap(), ports, children: [None, None], login: None };
        pair.spawn(0, &[]).await;
        let follow = format!("127.0.0.1 {}", ports[0]);
        pair.spawn(1, &["--replicaof", &follow]).await;
        pair.in_sync(1).await;
        pair
    }

    pub(super) async fn spawn(&mut self, node: usize, more: &[&str]) {
        // Of its own: a replica leaves the snapshot of its last full resynchronisation behind.
        let dir = self.dir.path().join(node.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--repl-diskless-sync-delay", "0"])
            .args(["--port", &self.ports[node].to_string(), "--dir", dir.to_str().unwrap()])
            .args(more)
            .stdout(Stdio::null())
            .spawn()
            .expect("these tests need redis-server");
        self.children[node] = Some(child);
        until("it answers", async || self.try_command(node, &["PING"]).await.is_ok()).await;
    }

    pub(super) fn target(&self, node: usize) -> Target {
        let id = NodeId(u8::try_from(node).unwrap());
        Target {
            node: id,
            host: "127.0.0.1".to_owned(),
            port: self.ports[node],
            place: Place::default(),
            tls: None,
            login: None,
            tcp: Default::default(),
        }
    }

    pub(super) fn port(&self, node: usize) -> String {
        self.ports[node].to_string()
    }

    /// Listens at one node, as a stranger.
    pub(super) async fn listen(&self, node: usize, channel: &str) -> Listener {
        let deadline = clock::now() + Duration::from_secs(2);
        let mut link = Link::connect(&self.target(node), deadline).await.unwrap();
        link.subscribe(channel, deadline).await.unwrap();
        Listener(link)
    }

    async fn try_command(&self, node: usize, args: &[&str]) -> Result<Reply, LinkError> {
        let deadline = clock::now() + Duration::from_secs(2);
        let args: Vec<_> = args.iter().map(|arg| arg.as_bytes()).collect();
        Link::connect(&self.target(node), deadline).await?.command(&args, deadline).await
    }

    pub(super) async fn command(&self, node: usize, args: &[&str]) -> Reply {
        self.try_command(node, args).await.unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    async fn info(&self, node: usize) -> String {
        let reply = self.command(node, &["INFO", "replication"]).await;
        String::from_utf8(reply.bytes().unwrap().to_vec()).unwrap()
    }

    pub(super) async fn in_sync(&self, replica: usize) {
        // "Online" comes first: the stream begins with the replica's first acknowledgement, up to a second later.
        until("the replica is in sync", async || {
            self.info(replica).await.contains("master_link_status:up")
                && self.wait(1 - replica).await == Ok(Reply::Integer(1))
        })
        .await;
    }

    /// Whether the replica has acknowledged a write of this connection.
    async fn wait(&self, primary: usize) -> Result<Reply, LinkError> {
        let deadline = clock::now() + Duration::from_secs(2);
        let mut link = Link::connect(&self.target(primary), deadline).await?;
        link.command(&[b"SET", b"in-sync", b"yes"], deadline).await?;
        link.command(&[b"WAIT", b"1", b"1000"], deadline).await
    }

    async fn field(&self, node: usize, name: &str) -> String {
        let info = self.info(node).await;
        info.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned()
    }

    pub(super) async fn role(&self, node: usize) -> String {
        self.field(node, "role:").await
    }

    pub(super) async fn failover_state(&self, node: usize) -> String {
        self.field(node, "master_failover_state:").await
    }

    /// How far a node's history goes.
    pub(super) async fn offset(&self, node: usize) -> String {
        let info = self.info(node).await;
        info.lines().find_map(|line| line.strip_prefix("master_repl_offset:")).unwrap().to_owned()
    }

    pub(super) fn signal(&self, node: usize, signal: &str) {
        let pid = self.children[node].as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub(super) fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.children[node].take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// A subscription of a stranger.
pub(super) struct Listener(Link);

impl Listener {
    pub(super) async fn next(&mut self, deadline: Duration) -> Bytes {
        match self.0.next_message(deadline).await {
            Ok(Heard::Message { payload, .. }) => payload,
            other => panic!("no message in time: {other:?}"),
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.kill(0);
        self.kill(1);
    }
}

/// What the pairs of these tests have in common.
pub(super) fn secret() -> ChannelSecret {
    ChannelSecret { file: "none".into(), secrets: vec![config::Secret::new(vec![b'x'; 32])] }
}

pub(super) fn config(pair: &Pair, name: &str) -> Config {
    let node = |name: &str, at: usize| config::Node {
        name: name.to_owned(),
        host: "127.0.0.1".to_owned(),
        port: pair.ports[at],
    };
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        tls: ServerTls { cert: "none".into(), key: "none".into(), client_ca: None },
        certificate_dates: config::CertificateDates::Refuse,
        nodes: vec![node("a", 0), node("b", 1)],
        self_node: Some(usize::from(name == "b")),
        upstream_tls: None,
        redis_user: None,
        redis_password: None,
        redis_password_file: None,
        admin: Admin::Unix(pair.dir().join(name)),
        admin_guard: None,
        hooks: crate::config::fleet::Commands::default(),
        metrics: None,
        workers: 2,
        lanes: true,
        state_dir: pair.dir().join(format!("state-{name}")),
        hold: HoldLimits { time: Duration::from_secs(3), bytes: 1 << 20, requests: 1000 },
        drain: DrainTimes {
            notice: Duration::ZERO,
            spread: Duration::from_millis(100),
            deadline: Duration::from_secs(1),
        },
        probe: ProbeTimes {
            interval: Duration::from_millis(100),
            fast_interval: Duration::from_millis(5),
            deadline: Duration::from_millis(500),
        },
        durability: Durability { replicated: false, patience: Duration::from_secs(1), strict: false },
        limits: ClientLimits {
            connections: 10,
            handshake: Duration::from_secs(1),
            idle: None,
            resend_bytes: 1 << 20,
            keep: 512 << 20,
            max_bulk: 1 << 20,
            max_args: 1000,
        },
        upstream: crate::config::Upstreams { idle: Duration::from_secs(15), max_age: Duration::from_secs(300) },
        tcp: crate::config::TcpTimes::default(),
        failover: crate::config::Failover::default(),
        sentinels: crate::config::Sentinels::default(),
        witness: None,
        notices: crate::config::Notices::default(),
        channel: "__changeover__".to_owned(),
        channel_secret: Some(secret()),
    }
}

/// A whole control plane.
pub(super) struct Process {
    pub(super) admin: AdminHandle,
    pub(super) orders: watch::Receiver<Orders>,
    pub(super) task: JoinHandle<()>,
}

impl Process {
    /// With workers that are quiet after `quiet`; `None`: they never are.
    pub(super) fn start(pair: &Pair, name: &str, quiet: Option<Duration>) -> Self {
        Self::start_as(pair, config(pair, name), quiet)
    }

    pub(super) fn start_as(pair: &Pair, config: Config, quiet: Option<Duration>) -> Self {
        let config = Arc::new(config);
        let stats: Vec<_> = (0..config.workers).map(|_| WorkerStats::new()).collect();
        let target = |node| Target { login: pair.login.clone(), ..pair.target(node) };
        let targets: Vec<_> = (0..config.nodes.len()).map(target).collect();
        let plane = Plane::prepare(&config, &targets, Vec::new(), None, stats);
        let (admin, orders) = (plane.admin(), plane.orders());
        let (news, news_rx) = mpsc::channel(inbox::QUEUE);
        for worker in 0..config.workers {
            spawn(obey(worker, plane.orders(), news.clone(), quiet));
        }
        let task = spawn(plane.run(news_rx, None, || Ok(())));
        Self { admin, orders, task }
    }

    pub(super) fn status(&self) -> Arc<Status> {
        self.admin.status.borrow().clone()
    }

    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Status) -> bool) -> Arc<Status> {
        let mut status = self.admin.status.clone();
        let waited = tokio::time::timeout(PATIENCE, status.wait_for(|status| holds(status))).await;
        match waited {
            Ok(found) => found.unwrap().clone(),
            Err(_) => panic!("not in time: {what}; {:#?}", self.status()),
        }
    }

    pub(super) async fn serves(&self, node: &str) -> Arc<Status> {
        self.until(node, |status| status.view.primary.as_deref() == Some(node)).await
    }

    pub(super) async fn switchover(&self, order: SwitchoverOrder) -> SwitchoverReport {
        let (progress, mut lines) = mpsc::channel(64);
        self.admin.requests.send(AdminRequest::Switchover { order, progress }).await.unwrap();
        loop {
            let line = tokio::time::timeout(PATIENCE, lines.recv()).await.expect("a report in time");
            if let Progress::Report(report) = line.expect("the report is the last line") {
                return report;
            }
        }
    }
}

/// Two processes, both of which know each other and follow `a`.
pub(super) async fn two(pair: &Pair, quiet_of_b: Option<Duration>) -> (Process, Process) {
    let a = Process::start(pair, "a", Some(Duration::ZERO));
    let b = Process::start(pair, "b", quiet_of_b);
    for process in [&a, &b] {
        process.serves("a").await;
        process.until("the other is heard", |status| !status.peers.is_empty()).await;
    }
    (a, b)
}

async fn obey(worker: usize, mut orders: watch::Receiver<Orders>, news: mpsc::Sender<News>, quiet: Option<Duration>) {
    let (mut answered, mut drained) = (None, None);
    while orders.changed().await.is_ok() {
        let order = orders.borrow_and_update().clone();
        if let (Some(hold), Some(quiet)) = (order.hold, quiet)
            && answered != Some(hold.id)
        {
            answered = Some(hold.id);
            tokio::time::sleep(quiet).await;
            let _ = news.send(News::Quiesced { worker, hold: hold.id }).await;
        }
        if let Some(drain) = order.drain
            && drained.replace(drain.id) != Some(drain.id)
        {
            let tally = DrainTally { closed: 1, ..DrainTally::default() };
            let _ = news.send(News::Drained { worker, drain: drain.id, tally }).await;
        }
        if order.drain.is_none() && drained.take().is_some() {
            let _ = news.send(News::Listening).await;
        }
    }
}

pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !holds().await {
        assert!(clock::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
