//! Flags and file become one validated [`Config`]; all errors at once.
//!
//! `keys.rs` is the one table of settings; `source.rs` collects texts by key, `value.rs` reads one text, `build.rs` puts
//! them together. It opens no socket and looks into no certificate. Invariant: a `Config` that exists is consistent.

mod admin;
mod build;
mod channel;
mod defaults;
mod effective;
pub mod fleet;
pub mod keys;
mod problem;
mod source;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::topology::failover::Rejoin;
pub use admin::{AdminAddress, AdminGuard, AdminLogin, admin_address, admin_token};
pub use build::{Loaded, Log, Setting, load, password as secret_file};
pub use channel::{ChannelSecret, new_channel_secret, write_channel_secret};
pub use defaults::{default_admin, is_trusted_socket, prepare_private};
pub use effective::to_toml;
pub use problem::{Place, Problem, Problems};
pub use source::{Flags, Given};

/// Everything `changeover run` needs to know, validated.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect (TLS).
    pub listen: SocketAddr,
    /// Certificate chain, key and optional client CA for the client side.
    pub tls: ServerTls,
    /// Whether certificates of ours may be outside their dates.
    pub certificate_dates: CertificateDates,
    /// One or two nodes.
    pub nodes: Vec<Node>,
    /// The node that this process runs beside: an index into `nodes`.
    pub self_node: Option<usize>,
    /// TLS towards Redis; `None` is plain TCP.
    pub upstream_tls: Option<UpstreamTls>,
    /// Whom the process' own connections (probes, switchover) log in as.
    pub redis_user: Option<String>,
    /// Password for them: read from `redis-password-file` (trailing newline removed).
    pub redis_password: Option<Secret>,
    /// That file, to read it again on SIGHUP and when a login is refused.
    pub redis_password_file: Option<PathBuf>,
    /// Where operators reach the process.
    pub admin: Admin,
    /// What they must show there; always something where other machines can reach it.
    pub admin_guard: Option<AdminGuard>,
    /// Commands that operators may have run here, by name.
    pub hooks: fleet::Commands,
    /// Where `/metrics`, `/livez` and `/readyz` are served.
    pub metrics: Option<SocketAddr>,
    /// Worker threads (at least 1).
    pub workers: usize,
    /// Free sessions share upstream connections.
    pub lanes: bool,
    /// Where the memory of who was primary is kept.
    pub state_dir: PathBuf,
    /// Limits of a hold.
    pub hold: HoldLimits,
    /// How a drain goes.
    pub drain: DrainTimes,
    /// What clients are told of changes and drains.
    pub notices: Notices,
    /// How nodes are watched.
    pub probe: ProbeTimes,
    /// What happens when the primary dies.
    pub failover: Failover,
    /// Whom to listen to, with [`FailoverMode::Sentinel`].
    pub sentinels: Sentinels,
    /// The third voice, with [`FailoverMode::Pair`].
    pub witness: Option<Witness>,
    /// What a write's reply promises.
    pub durability: Durability,
    /// Limits on what a client may make us do.
    pub limits: ClientLimits,
    /// How connections to Redis are kept.
    pub upstream: Upstreams,
    /// Dead peers, clients and nodes alike.
    pub tcp: TcpTimes,
    /// The pair's reserved pub/sub channel.
    pub channel: String,
    /// What authenticates messages there; `None`: a message can at most hold clients for a while.
    pub channel_secret: Option<ChannelSecret>,
}

/// PEM files of the client side.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Clients must present a certificate that this CA signed (mTLS).
    pub client_ca: Option<PathBuf>,
}

/// Whether a certificate of ours may be taken into use outside its dates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateDates {
    /// `check` fails; SIGHUP keeps the certificate in force while that is valid.
    #[default]
    Refuse,
    /// Warnings only.
    Accept,
}

/// TLS towards Redis.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    /// Who signed the nodes' certificates.
    pub ca: PathBuf,
    /// Client certificate chain and key, where Redis asks for one (`tls-auth-clients yes`).
    pub client: Option<(PathBuf, PathBuf)>,
    /// The name to verify; default: the node's host as configured.
    pub server_name: Option<String>,
}

/// One Redis node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What operators call it.
    pub name: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Where the admin API is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// A Unix socket (mode 0600).
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
}

impl std::fmt::Display for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// Every hold ends: these say when.
#[derive(Clone, Copy, Debug)]
pub struct HoldLimits {
    /// Longest time a request is held (default 15 s).
    pub time: Duration,
    /// Held bytes in all, per worker (default 64 MiB).
    pub bytes: u64,
    /// Held requests in all, per worker (default 100,000).
    pub requests: u64,
}

/// How a drain goes.
#[derive(Clone, Copy, Debug)]
pub struct DrainTimes {
    /// Readiness fails this long before anything else happens (default 5 s; none without `metrics`).
    pub notice: Duration,
    /// Then sessions are closed over this time (default 5 s).
    pub spread: Duration,
    /// The rest is cut this long after the notice (default 30 s).
    pub deadline: Duration,
}

/// What clients are told of changes and drains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// They may opt in to maintenance notifications.
    pub maintenance: bool,
    /// StackExchange.Redis is told to look again after a change.
    pub stackexchange: bool,
    /// Azure's events are published.
    pub azure: bool,
    /// Where clients reach the proxy of each node, in the order of the nodes.
    pub advertise: Vec<Advertised>,
}

/// Where clients reach the proxy of one node, as `HOST:PORT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advertised {
    /// By name.
    pub name: Option<String>,
    /// By address.
    pub address: Option<String>,
}

/// How nodes are watched.
#[derive(Clone, Copy, Debug)]
pub struct ProbeTimes {
    /// Between polls in steady state (default 100 ms).
    pub interval: Duration,
    /// Between polls while a change is under way (default 5 ms).
    pub fast_interval: Duration,
    /// A node that has not answered for this long is silent (default 1 s).
    pub deadline: Duration,
}

/// What happens when the primary dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failover {
    /// Who promotes the replica.
    pub mode: FailoverMode,
    /// What becomes of what an old primary has and the new one lacks.
    pub rejoin: Rejoin,
}

/// Who promotes the replica when the primary dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailoverMode {
    /// Somebody else; the proxy only follows.
    #[default]
    None,
    /// The proxy beside the replica.
    Pair,
    /// Sentinel.
    Sentinel,
}

/// The Sentinels of the pair.
#[derive(Clone, Debug, Default)]
pub struct Sentinels {
    /// Host and port of each.
    pub addresses: Vec<(String, u16)>,
    /// What they call the pair.
    pub name: String,
    /// Whom to log in as; `None` is the default user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// TLS towards them; `None` is plain TCP.
    pub tls: Option<UpstreamTls>,
}

/// How the witness of the pair is asked.
#[derive(Clone, Debug)]
pub struct Witness {
    /// Its host name or address.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// TLS towards it; `None` (on loopback only) is plain TCP.
    pub tls: Option<UpstreamTls>,
    /// What shows that we may ask.
    pub token: Option<Secret>,
    /// How long a lease lasts (default 4 s).
    pub lease: Duration,
    /// What the pair is called there.
    pub pair: String,
}

/// What a write's reply promises.
#[derive(Clone, Copy, Debug)]
pub struct Durability {
    /// A replica has the write, too.
    pub replicated: bool,
    /// How long a replica may take to confirm (default 1 s).
    pub patience: Duration,
    /// Without a replica, writes are refused.
    pub strict: bool,
}

/// How dead and idle peers are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpTimes {
    /// Time without traffic until TCP asks (default 300 s).
    pub keepalive: Option<Duration>,
    /// Time without confirmation until a connection breaks.
    pub user_timeout: Option<Duration>,
}

/// How connections to Redis are kept.
#[derive(Clone, Copy, Debug)]
pub struct Upstreams {
    /// One that no client has needed for this long is closed (default 15 s).
    pub idle: Duration,
    /// An older connection takes no newcomer and is not used again (default 5 min).
    pub max_age: Duration,
}

/// Limits on what a client may make us do.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// Client connections (default 10,000).
    pub connections: usize,
    /// Time for the TLS handshake (default 10 s).
    pub handshake: Duration,
    /// An idle client is closed after this time; `None` is never.
    pub idle: Option<Duration>,
    /// Bytes of unanswered commands that a session keeps so that they can be sent again (default 1 MiB); a larger
    /// command streams through and cannot be.
    pub resend_bytes: usize,
    /// Bytes that one worker keeps for all its clients before it becomes sparing (default 512 MiB).
    pub keep: usize,
    /// Largest argument (default 512 MiB, as Redis' `proto-max-bulk-len`).
    pub max_bulk: u64,
    /// Most arguments of a command (default 1,048,576).
    pub max_args: u64,
}

/// A secret that is never printed and is cleared on drop.
#[derive(Clone)]
pub struct Secret(zeroize::Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(zeroize::Zeroizing::new(bytes))
    }

    /// The bytes, for the wire.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}
