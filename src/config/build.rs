//! Texts by key become one [`Config`], or every reason why not; and the effective configuration for people.
//!
//! Of the outside it reads only the password file (and the defaults). Whether certificates can be used is `io::tls`'
//! business. Invariant: every key of the table is read here exactly once, so what is printed is what is in force.

mod sentinels;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::{self, Fallback, Key};
use super::problem::{Place, Problems};
use super::source::{Flags, Given, Sources};
use super::{
    Admin, AdminGuard, Advertised, CertificateDates, ChannelSecret, ClientLimits, Config, DrainTimes, Durability,
    Failover, FailoverMode, HoldLimits, Node, Notices, ProbeTimes, Rejoin, Secret, ServerTls, TcpTimes, UpstreamTls,
    Upstreams, admin_token, value,
};

mod witness;

/// Longest password that is taken from a file.
const MAX_PASSWORD_BYTES: usize = 64 * 1024;

/// A shard is a node, or a pair.
const MAX_NODES: usize = 2;

/// A valid configuration.
#[derive(Debug)]
pub struct Loaded {
    /// What the process goes by.
    pub config: Config,
    /// What is logged, and how.
    pub log: Log,
    /// The same for people: every key with its value and where the value came from.
    pub effective: Vec<Setting>,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Directives of `tracing_subscriber::EnvFilter`.
    pub filter: String,
    /// JSON lines instead of text.
    pub json: bool,
}

/// One line of the effective configuration.
#[derive(Debug)]
pub struct Setting {
    /// Which key.
    pub key: &'static Key,
    /// Its values as texts; empty when there is none.
    pub values: Vec<String>,
    /// Where they came from.
    pub origin: String,
}

/// Reads flags and file.
///
/// # Errors
/// Every mistake that was found.
pub fn load(flags: &Flags) -> Result<Loaded, Problems> {
    let mut problems = Problems::default();
    let sources = Sources::read(flags, &mut problems);
    let mut reader = Reader { sources: &sources, problems, effective: Vec::new() };
    match reader.config() {
        Some((config, log)) if reader.problems.0.is_empty() => Ok(Loaded { config, log, effective: reader.effective }),
        _ => {
            reader.problems.sort();
            Err(reader.problems)
        }
    }
}

struct Reader<'a> {
    sources: &'a Sources,
    problems: Problems,
    effective: Vec<Setting>,
}

impl Reader<'_> {
    /// Reads every key, in the order of the table, before it gives up on any.
    fn config(&mut self) -> Option<(Config, Log)> {
        let listen = self.one(&keys::LISTEN, value::socket);
        let tls = self.server_tls();
        let accept = self.one(&keys::CERTIFICATE_DATES, |text| value::second_word(keys::CERTIFICATE_DATES.kind, text));
        let dates = if accept == Some(true) { CertificateDates::Accept } else { CertificateDates::Refuse };
        let nodes = self.nodes();
        let self_node = self.self_node(&nodes);
        let (redis_user, redis_password, redis_password_file) = self.login();
        let upstream_tls = self.upstream_tls();
        let channel = self.one(&keys::CHANNEL, value::name);
        let channel_secret = self.channel_secret();
        let (admin, admin_guard) = self.admin();
        let metrics = self.one(&keys::METRICS, value::socket);
        let workers = self.size(&keys::WORKERS);
        let lanes = self.one(&keys::LANES, |text| value::second_word(keys::LANES.kind, text)).map(|off| !off);
        let state_dir = self.one(&keys::STATE_DIR, value::path);
        let log = self.log();
        let hold = HoldLimits {
            time: self.time(&keys::HOLD_TIME),
            bytes: self.number(&keys::HOLD_BYTES),
            requests: self.number(&keys::HOLD_REQUESTS),
        };
        let drain = self.drain(metrics.is_some());
        let notices = self.notices(&nodes);
        let probe = self.probe();
        let failover = self.failover(&nodes, self_node);
        let sentinels = self.sentinels(failover.mode, upstream_tls.as_ref());
        let witness = self.witness(&nodes, failover.mode);
        let durability = self.durability();
        let limits = self.limits();
        let (tcp, idle, upstream) = self.connections();
        let limits = ClientLimits { idle, ..limits };
        let config = Config {
            listen: listen?,
            tls: tls?,
            certificate_dates: dates,
            nodes,
            self_node,
            upstream_tls,
            redis_user,
            redis_password,
            redis_password_file,
            admin: admin?,
            admin_guard,
            hooks: self.sources.hooks.clone(),
            metrics,
            workers,
            lanes: lanes?,
            state_dir: state_dir?,
            hold,
            drain,
            notices,
            probe,
            failover,
            sentinels,
            witness,
            durability,
            limits,
            upstream,
            tcp,
            channel: channel?,
            channel_secret,
        };
        Some((config, log?))
    }

    fn log(&mut self) -> Option<Log> {
        let filter = self.one(&keys::LOG, value::log_filter);
        let json = self.one(&keys::LOG_FORMAT, |text| value::second_word(keys::LOG_FORMAT.kind, text));
        Some(Log { filter: filter?, json: json? })
    }

    fn server_tls(&mut self) -> Option<ServerTls> {
        let cert = self.one(&keys::CERT, value::path);
        let key = self.one(&keys::KEY, value::path);
        let client_ca = self.one(&keys::CLIENT_CA, value::path);
        Some(ServerTls { cert: cert?, key: key?, client_ca })
    }

    fn nodes(&mut self) -> Vec<Node> {
        let given = self.texts(&keys::NODE);
        let mut nodes: Vec<Node> = Vec::new();
        for one in given {
            let node = match value::node(&one.value) {
                Ok(node) => node,
                Err(message) => {
                    self.problems.add(one.place, message);
                    continue;
                }
            };
            if nodes.iter().any(|other| other.name == node.name) {
                self.problems.add(one.place, format!("the name {:?} is taken by another node", node.name));
            } else if nodes.iter().any(|other| other.port == node.port && value::same_host(&other.host, &node.host)) {
                self.problems.add(one.place, format!("{}:{} is another node already", node.host, node.port));
            } else if nodes.len() == MAX_NODES {
                self.problems.add(one.place, "a shard has one or two nodes".to_owned());
            } else {
                nodes.push(node);
            }
        }
        nodes
    }

    fn self_node(&mut self, nodes: &[Node]) -> Option<usize> {
        let wanted = self.one(&keys::SELF, value::name)?;
        let found = nodes.iter().position(|node| node.name == wanted);
        // Without any node, what is wrong with the nodes has been said already.
        if found.is_none() && !nodes.is_empty() {
            let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
            let message = format!("no node is called {wanted:?}; there is {}", names.join(" and "));
            self.problems.add(self.place(&keys::SELF), message);
        }
        found
    }

    fn login(&mut self) -> (Option<String>, Option<Secret>, Option<PathBuf>) {
        let user = self.one(&keys::REDIS_USER, value::name);
        let file = self.one(&keys::REDIS_PASSWORD_FILE, value::path);
        if user.is_some() && file.is_none() {
            self.problems.add(self.place(&keys::REDIS_USER), "needs redis-password-file as well");
        }
        let password = file.as_ref().and_then(|file| match password(file) {
            Ok(password) => Some(password),
            Err(message) => {
                self.problems.add(self.place(&keys::REDIS_PASSWORD_FILE), message);
                None
            }
        });
        (user, password, file)
    }

    fn channel_secret(&mut self) -> Option<ChannelSecret> {
        let file = self.one(&keys::CHANNEL_SECRET_FILE, value::path)?;
        let read = ChannelSecret::read(&file);
        read.map_err(|message| self.problems.add(self.place(&keys::CHANNEL_SECRET_FILE), message)).ok()
    }

    fn upstream_tls(&mut self) -> Option<UpstreamTls> {
        let ca = self.one(&keys::REDIS_CA, value::path);
        let cert = self.one(&keys::REDIS_CERT, value::path);
        let key = self.one(&keys::REDIS_KEY, value::path);
        let server_name = self.one(&keys::REDIS_SERVER_NAME, value::name);
        for (key, present, other, other_present) in [
            (&keys::REDIS_CERT, cert.is_some(), "redis-key", key.is_some()),
            (&keys::REDIS_KEY, key.is_some(), "redis-cert", cert.is_some()),
            (&keys::REDIS_CERT, cert.is_some(), "redis-ca", ca.is_some()),
            (&keys::REDIS_SERVER_NAME, server_name.is_some(), "redis-ca", ca.is_some()),
        ] {
            if present && !other_present {
                self.problems.add(self.place(key), format!("needs {other} as well"));
            }
        }
        Some(UpstreamTls { ca: ca?, client: cert.zip(key), server_name })
    }

    fn admin(&mut self) -> (Option<Admin>, Option<AdminGuard>) {
        let admin = self.one(&keys::ADMIN, value::admin);
        let client_ca = self.one(&keys::ADMIN_CLIENT_CA, value::path);
        let token = self.one(&keys::ADMIN_TOKEN_FILE, value::path);
        let token = token.and_then(|file| match admin_token(&file) {
            Ok(token) => Some(token),
            Err(message) => {
                self.problems.add(self.place(&keys::ADMIN_TOKEN_FILE), message);
                None
            }
        });
        let given = [&keys::ADMIN_CLIENT_CA, &keys::ADMIN_TOKEN_FILE].map(|key| !self.sources.of(key).is_empty());
        match &admin {
            Some(Admin::Tcp(address)) if !address.ip().is_loopback() && given == [false, false] => {
                let message = format!(
                    "{address} can be reached from other machines, and whoever does could switch the pair: it needs \
                     admin-client-ca (operators show a certificate) or admin-token-file (they know a secret)"
                );
                self.problems.add(self.place(&keys::ADMIN), message);
            }
            Some(Admin::Unix(_)) if given != [false, false] => {
                let key = if given == [true, false] { &keys::ADMIN_CLIENT_CA } else { &keys::ADMIN_TOKEN_FILE };
                self.problems
                    .add(self.place(key), "is for an admin API over TCP; a Unix socket has its owner and mode");
            }
            _ => {}
        }
        let guard = (client_ca.is_some() || token.is_some()).then_some(AdminGuard { client_ca, token });
        (admin, guard)
    }

    fn drain(&mut self, watched: bool) -> DrainTimes {
        let notice = self.time(&keys::DRAIN_NOTICE);
        let drain = DrainTimes {
            notice: if watched { notice } else { Duration::ZERO },
            spread: self.time(&keys::DRAIN_SPREAD),
            deadline: self.time(&keys::DRAIN_DEADLINE),
        };
        self.at_most(&keys::DRAIN_SPREAD, drain.spread, &keys::DRAIN_DEADLINE, drain.deadline);
        drain
    }

    fn notices(&mut self, nodes: &[Node]) -> Notices {
        let mut word = |key: &'static Key| self.one(key, |text| value::second_word(key.kind, text)) == Some(true);
        let maintenance = !word(&keys::MAINT_NOTIFICATIONS);
        let stackexchange = !word(&keys::STACKEXCHANGE_HINT);
        let azure = word(&keys::AZURE_EVENTS);
        let mut advertise = vec![Advertised::default(); nodes.len()];
        for one in self.texts(&keys::ADVERTISE) {
            let place = one.place;
            match value::advertised(&one.value) {
                Err(message) => self.problems.add(place, message),
                Ok(node) => {
                    let at = nodes.iter().position(|known| known.name == node.name);
                    let Some(told) = at.and_then(|at| advertise.get_mut(at)) else {
                        self.problems.add(place, format!("no node is called {:?}", node.name));
                        continue;
                    };
                    let numeric = node.host.parse::<std::net::Ipv4Addr>().is_ok();
                    let slot = if numeric { &mut told.address } else { &mut told.name };
                    if slot.replace(format!("{}:{}", node.host, node.port)).is_some() {
                        self.problems.add(place, "a node has one name and one address for clients".to_owned());
                    }
                }
            }
        }
        Notices { maintenance, stackexchange, azure, advertise }
    }

    fn durability(&mut self) -> Durability {
        let second = |key: &'static Key| move |text: &str| value::second_word(key.kind, text);
        Durability {
            replicated: self.one(&keys::ACKNOWLEDGE, second(&keys::ACKNOWLEDGE)) == Some(true),
            patience: self.time(&keys::ACKNOWLEDGE_TIME),
            strict: self.one(&keys::WITHOUT_REPLICA, second(&keys::WITHOUT_REPLICA)) == Some(true),
        }
    }

    fn probe(&mut self) -> ProbeTimes {
        let probe = ProbeTimes {
            interval: self.time(&keys::PROBE_INTERVAL),
            fast_interval: self.time(&keys::PROBE_FAST_INTERVAL),
            deadline: self.time(&keys::PROBE_DEADLINE),
        };
        self.at_most(&keys::PROBE_FAST_INTERVAL, probe.fast_interval, &keys::PROBE_INTERVAL, probe.interval);
        self.at_most(&keys::PROBE_INTERVAL, probe.interval, &keys::PROBE_DEADLINE, probe.deadline);
        probe
    }

    fn failover(&mut self, nodes: &[Node], self_node: Option<usize>) -> Failover {
        let mode = self.one(&keys::FAILOVER, |text| value::one_of(keys::FAILOVER.kind, text));
        let rejoin = self.one(&keys::FAILOVER_REJOIN, |text| value::one_of(keys::FAILOVER_REJOIN.kind, text));
        let rejoin = match rejoin {
            Some(1) => Rejoin::Save,
            Some(2) => Rejoin::Clean,
            _ => Rejoin::Always,
        };
        let mode = match mode {
            Some(1) => FailoverMode::Pair,
            Some(2) => FailoverMode::Sentinel,
            _ => FailoverMode::None,
        };
        if mode != FailoverMode::None {
            let place = self.place(&keys::FAILOVER);
            if nodes.len() != MAX_NODES {
                self.problems.add(place, "needs two nodes: a single one has nobody to promote");
            } else if self_node.is_none() && self.sources.of(&keys::SELF).is_empty() {
                self.problems
                    .add(place, "needs `self` as well: each process promotes the node beside it, and no other");
            }
        }
        Failover { mode, rejoin }
    }

    fn connections(&mut self) -> (TcpTimes, Option<Duration>, Upstreams) {
        let keepalive = self.unless_zero(&keys::TCP_KEEPALIVE);
        let user_timeout = self.unless_zero(&keys::TCP_USER_TIMEOUT);
        let idle = self.unless_zero(&keys::CLIENT_TIMEOUT);
        let upstream = Upstreams { idle: self.time(&keys::UPSTREAM_IDLE), max_age: self.time(&keys::UPSTREAM_MAX_AGE) };
        (TcpTimes { keepalive, user_timeout }, idle, upstream)
    }

    fn limits(&mut self) -> ClientLimits {
        ClientLimits {
            connections: self.size(&keys::MAX_CONNECTIONS),
            handshake: self.time(&keys::HANDSHAKE_TIMEOUT),
            idle: None,
            resend_bytes: self.size(&keys::RESEND_BYTES),
            keep: self.size(&keys::KEEP_BYTES),
            max_bulk: self.number(&keys::MAX_BULK),
            max_args: self.number(&keys::MAX_ARGS),
        }
    }

    /// A time of which 0 means: never.
    fn unless_zero(&mut self, key: &'static Key) -> Option<Duration> {
        Some(self.time(key)).filter(|time| !time.is_zero())
    }

    fn at_most(&mut self, key: &Key, value: Duration, limit: &Key, most: Duration) {
        if value > most {
            // Whichever was given is at fault; the other may be a default.
            let at = if self.sources.of(key).is_empty() { limit } else { key };
            self.problems.add(self.place(at), format!("{} may not be longer than {}", key.name, limit.name));
        }
    }

    fn time(&mut self, key: &'static Key) -> Duration {
        Duration::from_millis(self.number(key))
    }

    fn size(&mut self, key: &'static Key) -> usize {
        usize::try_from(self.number(key)).unwrap_or(usize::MAX)
    }

    /// 0 when it was wrong; the problem is noted then.
    fn number(&mut self, key: &'static Key) -> u64 {
        self.one(key, |text| value::number(key.kind, text)).unwrap_or(0)
    }

    fn one<T>(&mut self, key: &'static Key, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let given = self.texts(key).pop()?;
        parse(&given.value).map_err(|message| self.problems.add(given.place, message)).ok()
    }

    /// What was given for `key`, else its default; notes it for people, or that it is missing.
    fn texts(&mut self, key: &'static Key) -> Vec<Given> {
        let mut given = self.sources.of(key).to_vec();
        let mut origin = given.last().map(|last| last.place.origin());
        if given.is_empty() {
            let default = match key.fallback {
                Fallback::Value(text) => Some(text.to_owned()),
                Fallback::Found(_, find) => Some(find()),
                Fallback::Nothing(_) => None,
                Fallback::Required => {
                    // After a file that was not understood, it may well be there.
                    if self.sources.complete {
                        let example = key.kind.placeholder();
                        self.problems
                            .add(Place::Nowhere, format!("missing: --{0} {example}, or `{0}` in the file", key.name));
                    }
                    None
                }
            };
            given.extend(default.map(|value| Given { key: key.name.to_owned(), value, place: Place::Nowhere }));
            origin = Some("default".to_owned());
        }
        let values = given.iter().map(|one| one.value.clone()).collect();
        self.effective.push(Setting { key, values, origin: origin.unwrap_or_default() });
        given
    }

    fn place(&self, key: &Key) -> Place {
        self.sources.of(key).last().map_or(Place::Nowhere, |given| given.place.clone())
    }
}

/// A secret from a file of its own; one newline at its end is dropped.
///
/// # Errors
/// Says what is wrong with the file.
pub fn password(file: &Path) -> Result<Secret, String> {
    let bytes = std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    // From here on every copy is cleared when it is dropped.
    let whole = Secret::new(bytes);
    let mut password = whole.expose();
    password = password.strip_suffix(b"\n").unwrap_or(password);
    password = password.strip_suffix(b"\r").unwrap_or(password);
    match password.len() {
        0 => Err(format!("{} is empty", file.display())),
        len if len > MAX_PASSWORD_BYTES => Err(format!("{} is too long for a password", file.display())),
        _ => Ok(Secret::new(password.to_vec())),
    }
}
