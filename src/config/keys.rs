//! THE table of settings. Flags, keys of the TOML file, environment variables and `docs/configuration.md` all come
//! from it (the page is checked against it by a test), so that a setting is described in one place.
//!
//! It does not read anything; `build.rs` does. Invariant: every default of the table is valid for its own key.

use super::defaults;

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Its name in the file; `--name` as a flag.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// What holds without it.
    pub fallback: Fallback,
    /// The heading it stands under.
    pub group: &'static str,
    /// What it does, in one sentence or two.
    pub doc: &'static str,
}

/// What a value looks like, with its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `IP:PORT`
    Socket,
    /// A file that exists.
    File,
    /// A folder.
    Directory,
    /// A name or other short text.
    Text,
    /// `NAME=HOST:PORT`; may be given more than once.
    Node,
    /// `HOST:PORT`; may be given more than once.
    Address,
    /// `HOST:PORT`; once.
    Place,
    /// `unix:PATH` or `IP:PORT`.
    Admin,
    /// One of two words.
    Either(&'static str, &'static str),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A time with its unit; least and most, in milliseconds.
    Time(u64, u64),
    /// A size in bytes; least and most.
    Size(u64, u64),
    /// A number; least and most.
    Count(u64, u64),
}

/// What holds when a setting is not given.
#[derive(Clone, Copy, Debug)]
pub enum Fallback {
    /// It must be given.
    Required,
    /// Nothing; says what that means.
    Nothing(&'static str),
    /// This value.
    Value(&'static str),
    /// Found out at start; says how, and finds it.
    Found(&'static str, fn() -> String),
}

impl Key {
    /// Whether it may be given more than once.
    pub fn repeats(&self) -> bool {
        matches!(self.kind, Kind::Node | Kind::Address)
    }

    /// The environment variable with the same meaning.
    pub fn variable(&self) -> String {
        format!("CHANGEOVER_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

impl Kind {
    /// The placeholder in help texts.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Socket => "IP:PORT",
            Self::File => "FILE",
            Self::Directory => "DIR",
            Self::Text => "NAME",
            Self::Node => "NAME=HOST:PORT",
            Self::Address | Self::Place => "HOST:PORT",
            Self::Admin => "unix:PATH|IP:PORT",
            Self::Either(..) | Self::OneOf(_) => "WORD",
            Self::Time(..) => "TIME",
            Self::Size(..) => "SIZE",
            Self::Count(..) => "N",
        }
    }

    /// The limits, in the units of the value; empty for what has none.
    pub fn limits(self) -> String {
        match self {
            Self::Time(least, most) => format!("{} to {}", time(least), time(most)),
            Self::Size(least, most) => format!("{} to {}", size(least), size(most)),
            Self::Count(least, most) => format!("{least} to {most}"),
            Self::Either(one, other) => format!("{one} or {other}"),
            Self::OneOf([most @ .., last]) => format!("{} or {last}", most.join(", ")),
            _ => String::new(),
        }
    }
}

/// Milliseconds, in the largest unit that divides them.
fn time(millis: u64) -> String {
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    in_units(millis, &units)
}

/// Bytes, in the largest unit that divides them.
fn size(bytes: u64) -> String {
    let units = [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"), (1, "B")];
    in_units(bytes, &units)
}

fn in_units(value: u64, units: &[(u64, &str)]) -> String {
    let fits = units.iter().find(|(unit, _)| value > 0 && value.is_multiple_of(*unit));
    fits.map_or_else(|| "0".to_owned(), |(unit, name)| format!("{}{name}", value / unit))
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;

/// One constant for each key, and the list of all.
macro_rules! keys {
    ($($group:literal { $($id:ident = $name:literal, $kind:expr, $fallback:expr, $doc:literal;)+ })+) => {
        $($(
            #[doc = $doc]
            pub static $id: Key =
                Key { name: $name, kind: $kind, fallback: $fallback, group: $group, doc: $doc };
        )+)+
        /// Every key, in the order of the documentation.
        pub static ALL: &[&Key] = &[$($(&$id),+),+];
    };
}

use Fallback::{Found, Nothing, Required, Value};
use Kind::{Address, Admin, Count, Directory, Either, File, Node, OneOf, Place, Size, Socket, Text, Time};

keys! {
    "Client side" {
        LISTEN = "listen", Socket, Required, "Where clients connect, with TLS.";
        CERT = "cert", File, Required, "Certificate chain shown to clients (PEM, leaf first).";
        KEY = "key", File, Required, "Private key of `cert` (PEM).";
        CLIENT_CA = "client-ca", File, Nothing("clients need no certificate"),
            "Clients must present a certificate that this CA signed (mTLS).";
        CERTIFICATE_DATES = "certificate-dates", Either("refuse", "accept"), Value("refuse"),
            "What `check` and SIGHUP say to a certificate of ours that has expired or is not valid yet. \
             A process starts with one, and warns.";
    }
    "Redis side" {
        NODE = "node", Node, Required,
            "A node of the pair and what you call it; give it once for each node, the same on both proxies.";
        SELF = "self", Text, Nothing("unknown"), "The name of the node that this process runs beside.";
        REDIS_USER = "redis-user", Text, Nothing("the default user"),
            "ACL user of the proxy's own connections (probes, switchovers); clients log in as themselves.";
        REDIS_PASSWORD_FILE = "redis-password-file", File, Nothing("no login"),
            "File with the password for them; one newline at its end is dropped.";
        REDIS_CA = "redis-ca", File, Nothing("plain TCP towards Redis"),
            "Speak TLS with Redis, and trust certificates that this CA signed (PEM).";
        REDIS_CERT = "redis-cert", File, Nothing("none is shown"),
            "Certificate chain to show to Redis (`tls-auth-clients yes`); needs `redis-key`.";
        REDIS_KEY = "redis-key", File, Nothing("none is used"), "Private key of `redis-cert`.";
        REDIS_SERVER_NAME = "redis-server-name", Text, Nothing("the node's host"),
            "The name that the nodes' certificates must have.";
        CHANNEL = "channel", Text, Value("__changeover__"),
            "The pub/sub channel on which the proxies of the pair find each other; the same on both, not for clients.";
        CHANNEL_SECRET_FILE = "channel-secret-file", File,
            Nothing("messages of the pair are not authenticated: one can at most hold clients for a while"),
            "File with the secret that authenticates what the proxies of the pair say to each other (`changeover secret` \
             makes one): the same on both, no other pair's, not readable by other users. A second line is a second secret \
             while it is rotated: the first signs, both are believed. SIGHUP reads it again.";
    }
    "Operating it" {
        ADMIN = "admin", Admin,
            Found("unix:/run/changeover.sock as root, else unix:$XDG_RUNTIME_DIR/changeover.sock, else in /tmp/changeover-UID (mode 0700)",
                defaults::admin_text),
            "Where `status`, `switchover`, `drain` and the like reach the process; TCP beyond this machine only with \
             `admin-client-ca` or `admin-token-file`.";
        ADMIN_CLIENT_CA = "admin-client-ca", File, Nothing("operators need no certificate"),
            "Serve the admin API over TLS (with `cert`), to operators with a certificate that this CA signed.";
        ADMIN_TOKEN_FILE = "admin-token-file", File, Nothing("operators need no token"),
            "Serve it over TLS (with `cert`), to operators who know the secret in this file; one newline at its end is \
             dropped.";
        METRICS = "metrics", Socket, Nothing("not served"), "Where /metrics, /livez and /readyz are served.";
        WORKERS = "workers", Count(1, 256), Found("one for each core, at most 8", defaults::workers_text), "Worker threads.";
        LANES = "lanes", Either("on", "off"), Value("on"),
            "Whether clients share connections to Redis while nothing ties them to one of their own; off: one for each.";
        STATE_DIR = "state-dir", Directory,
            Found("$STATE_DIRECTORY, else /var/lib/changeover as root, else $XDG_STATE_HOME/changeover",
                defaults::state_dir_text),
            "Where the memory of who was primary is kept; every process needs its own.";
        LOG = "log", Text, Value("info"),
            "What is logged: error, warn, info, debug or trace, or directives such as `info,changeover::topology=debug`.";
        LOG_FORMAT = "log-format", Either("text", "json"), Value("text"), "How it is logged, on standard error.";
    }
    "Limits of a hold" {
        HOLD_TIME = "hold-time", Time(10, 10 * MINUTE), Value("15s"),
            "Longest time that a request is held while there is no primary; then it is answered -LOADING.";
        HOLD_BYTES = "hold-bytes", Size(64 * KIB, 64 * GIB), Value("64MiB"), "Held bytes in all, for each worker.";
        HOLD_REQUESTS = "hold-requests", Count(1, 100_000_000), Value("100000"),
            "Held requests in all, for each worker.";
    }
    "Drain" {
        DRAIN_NOTICE = "drain-notice", Time(0, 60 * MINUTE), Value("5s"),
            "A drain begins with this time: `/readyz` fails, and all clients are served, new ones too, so that load \
             balancers look away first. None without `metrics`.";
        DRAIN_SPREAD = "drain-spread", Time(0, 60 * MINUTE), Value("5s"),
            "Client connections are closed over this time, idle ones first, each at a quiet moment.";
        DRAIN_DEADLINE = "drain-deadline", Time(0, 60 * MINUTE), Value("30s"), "What is left after this time is cut.";
    }
    "What clients are told" {
        MAINT_NOTIFICATIONS = "maint-notifications", Either("on", "off"), Value("on"),
            "Whether clients may ask for maintenance notifications (`CLIENT MAINT_NOTIFICATIONS`; RESP3): MOVING at a \
             drain, FAILING_OVER and FAILED_OVER when they are held. The same on both proxies.";
        STACKEXCHANGE_HINT = "stackexchange-hint", Either("on", "off"), Value("on"),
            "Whether clients that are subscribed to `__Booksleeve_MasterChanged` (StackExchange.Redis) are told there \
             when the primary has changed.";
        AZURE_EVENTS = "azure-events", Either("off", "on"), Value("off"),
            "Whether clients that are subscribed to `AzureRedisEvents` are told there of changes and drains, in the \
             form of Azure Cache for Redis.";
        ADVERTISE = "advertise", Node, Nothing("MOVING names no address: clients go to where they were configured to"),
            "The node whose proxy clients reach at this address; give it for both nodes, the same on both proxies (a \
             name, an IPv4 address, or one of each). At a drain MOVING names the other node's. Several client \
             libraries keep the port that they use now.";
    }
    "Watching the nodes" {
        PROBE_INTERVAL = "probe-interval", Time(5, MINUTE), Value("100ms"), "Time between polls of a node.";
        PROBE_FAST_INTERVAL = "probe-fast-interval", Time(1, MINUTE), Value("5ms"),
            "Time between polls while a change is under way.";
        PROBE_DEADLINE = "probe-deadline", Time(10, 5 * MINUTE), Value("1s"),
            "A node that has not answered for this long counts as silent: requests are held. With `failover = none` those \
             that are in flight wait for their own reply, up to `hold-time`, as long as no other node is primary.";
    }
    "Failover" {
        FAILOVER = "failover", OneOf(&["none", "pair", "sentinel"]), Value("none"),
            "Who promotes the replica when the primary dies: nobody (an operator does), the proxy beside it, or \
             Sentinel. `pair` and `sentinel` need `self`, and both proxies of the pair.";
        FAILOVER_REJOIN = "failover-rejoin", OneOf(&["always", "save", "clean"]), Value("always"),
            "Unless `none`: an old primary that comes back becomes a replica at once (what it has that the new one lacks is \
             counted and dropped), or after all that it has was saved under `state-dir`, or only if nothing is dropped.";
        SENTINEL = "sentinel", Address, Nothing("none is listened to"),
            "A Sentinel to listen to, with `failover` = `sentinel`; give it once for each.";
        SENTINEL_NAME = "sentinel-name", Text, Nothing("needed with `sentinel`"), "What the Sentinels call the pair.";
        SENTINEL_PASSWORD_FILE = "sentinel-password-file", File, Nothing("no login"),
            "File with the password of the Sentinels.";
        SENTINEL_USER = "sentinel-user", Text, Nothing("the default user"), "ACL user at the Sentinels.";
        SENTINEL_TLS = "sentinel-tls", Either("on", "off"), Nothing("as with the nodes"),
            "Whether TLS is spoken with the Sentinels.";
        SENTINEL_CA = "sentinel-ca", File, Nothing("as `redis-ca`"),
            "Trust Sentinels' certificates that this CA signed (PEM).";
        SENTINEL_CERT = "sentinel-cert", File, Nothing("as `redis-cert`"),
            "Certificate chain to show to the Sentinels; needs `sentinel-key`.";
        SENTINEL_KEY = "sentinel-key", File, Nothing("as `redis-key`"), "Private key of `sentinel-cert`.";
        SENTINEL_SERVER_NAME = "sentinel-server-name", Text, Nothing("as `redis-server-name`, else the Sentinel's host"),
            "The name that the Sentinels' certificates must have.";
    }
    "Witness" {
        WITNESS = "witness", Place, Nothing("there is no third voice"),
            "Where `changeover witness` listens, with `failover` = `pair`: with it, the replica is promoted on silence too. \
             The same on both proxies.";
        WITNESS_LEASE = "witness-lease", Time(SECOND, MINUTE), Value("4s"),
            "A primary whose proxy has reached neither the witness nor the other proxy for this long is not served; one \
             second later the other may be promoted. The same on both proxies.";
        WITNESS_PAIR = "witness-pair", Text, Nothing("made of the nodes' names and addresses"),
            "What the pair is called at the witness; the same on both proxies, and no other pair's.";
        WITNESS_CA = "witness-ca", File, Nothing("plain TCP, on loopback only"),
            "Speak TLS with the witness, and trust certificates that this CA signed (PEM).";
        WITNESS_CERT = "witness-cert", File, Nothing("none is shown"),
            "Certificate chain to show to the witness (its `--client-ca`); needs `witness-key`.";
        WITNESS_KEY = "witness-key", File, Nothing("none is used"), "Private key of `witness-cert`.";
        WITNESS_TOKEN_FILE = "witness-token-file", File, Nothing("no token is sent"),
            "File with the witness' token; one newline at its end is dropped.";
    }
    "Durability" {
        ACKNOWLEDGE = "acknowledge", Either("executed", "replicated"), Value("executed"),
            "When a write is answered: once the primary has executed it, or once a replica has it as well (`WAIT 1`, shared \
             by all writes of a batch).";
        ACKNOWLEDGE_TIME = "acknowledge-time", Time(10, MINUTE), Value("1s"),
            "With `acknowledge` = `replicated`: how long a replica may take; a replica that is away for longer counts as \
             missing.";
        WITHOUT_REPLICA = "without-replica", Either("answer", "refuse"), Value("answer"),
            "With `acknowledge` = `replicated` and no replica: writes are answered all the same (and counted), or refused \
             with -NOREPLICAS before they are executed.";
    }
    "Limits on clients" {
        MAX_CONNECTIONS = "max-connections", Count(1, 1_000_000), Value("10000"), "Client connections at a time.";
        HANDSHAKE_TIMEOUT = "handshake-timeout", Time(100, 5 * MINUTE), Value("10s"),
            "Longest time for a client's TLS handshake.";
        RESEND_BYTES = "resend-bytes", Size(0, GIB), Value("1MiB"),
            "Unanswered commands that a client connection keeps so that they can be sent again; larger ones stream through. Less \
             than 1 KiB counts as 1 KiB.";
        KEEP_BYTES = "keep-bytes", Size(16 * MIB, 1024 * GIB), Value("512MiB"),
            "What one worker keeps for all its clients (requests, and replies that they have not read) before it becomes sparing. \
             Then a client that keeps more than its share has its replies read no faster than it reads them, and its \
             commands above 16 KiB are not kept.";
        MAX_BULK = "max-bulk", Size(KIB, 4 * GIB), Value("512MiB"),
            "Largest argument of a command (as Redis' proto-max-bulk-len).";
        MAX_ARGS = "max-args", Count(16, 2_147_483_647), Value("1048576"), "Most arguments of a command.";
    }
    "Connections" {
        TCP_KEEPALIVE = "tcp-keepalive", Time(0, 24 * 60 * MINUTE), Value("300s"),
            "Dead peers are looked for after this time without traffic, towards clients and towards Redis (as Redis' \
             `tcp-keepalive`: three probes, a third of the time apart); 0 turns it off.";
        TCP_USER_TIMEOUT = "tcp-user-timeout", Time(0, 60 * MINUTE), Value("0s"),
            "A connection to a client or to Redis breaks when what was sent is not confirmed for this long \
             (`TCP_USER_TIMEOUT`); 0 leaves it to the system.";
        CLIENT_TIMEOUT = "client-timeout", Time(0, 24 * 60 * MINUTE), Value("0s"),
            "A client that says and gets nothing for this long is closed (as Redis' `timeout`: not while it blocks or is \
             subscribed); 0 is never.";
        UPSTREAM_IDLE = "upstream-idle", Time(SECOND, 60 * MINUTE), Value("15s"),
            "A connection to Redis that no client has needed for this long is closed.";
        UPSTREAM_MAX_AGE = "upstream-max-age", Time(SECOND, 24 * 60 * MINUTE), Value("5m"),
            "A connection to Redis that is older is not used for further clients. Rights do not depend on it: each client \
             has those that a connection of its own would have had when it came.";
    }
}

/// The key called `name`.
pub fn named(name: &str) -> Option<&'static Key> {
    ALL.iter().find(|key| key.name == name).copied()
}
