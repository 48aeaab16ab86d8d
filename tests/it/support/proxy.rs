//! The real binary, run as an operator would run it, with its log under watch.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::client::Client;
use super::free_port;
use super::process::Process;
use super::redis::Pair;

/// Announces every warning: for stories in which much goes wrong at once.
pub(crate) const ANYTHING: &str = "";

/// How a proxy is run; the default is that of the product.
#[derive(Clone, Default)]
pub(crate) struct Options {
    /// Further flags.
    pub(crate) args: Vec<String>,
    /// Warnings that the story will cause, by a part of their text.
    pub(crate) announced: Vec<&'static str>,
    /// Clients need a certificate of the pair's CA.
    pub(crate) mtls: bool,
    /// A state directory to go on with.
    pub(crate) state: Option<PathBuf>,
    /// Only node `a`.
    pub(crate) single: bool,
    /// Where clients connect, instead of a free port of 127.0.0.1.
    pub(crate) listen: Option<SocketAddr>,
    /// Where the admin API is served, if not on a Unix socket in a folder of its own.
    pub(crate) admin: Option<String>,
    /// Without a secret on the pair's channel; the log warns of that.
    pub(crate) unsealed: bool,
}

/// What is warned of at the start without a secret.
const UNSEALED: &str = "channel-secret-file";

impl Options {
    /// Without a secret on the pair's channel.
    pub(crate) fn unsealed(mut self) -> Self {
        self.unsealed = true;
        self.announce(UNSEALED)
    }

    pub(crate) fn arg(mut self, name: &str, value: &str) -> Self {
        self.args.extend([name.to_owned(), value.to_owned()]);
        self
    }

    pub(crate) fn announce(mut self, text: &'static str) -> Self {
        self.announced.push(text);
        self
    }
}

pub(crate) struct Proxy {
    pub(crate) process: Process,
    pub(crate) at: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) admin: String,
    pub(crate) state: PathBuf,
    tls: std::sync::Arc<rustls::ClientConfig>,
    command: Command,
    announced: Vec<&'static str>,
}

impl Proxy {
    /// A proxy beside node `a`, with the product's defaults.
    pub(crate) fn start(pair: &Pair) -> Self {
        Self::with(pair, "a", Options::default())
    }

    /// A proxy beside the named node.
    pub(crate) fn with(pair: &Pair, node: &str, options: Options) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let home = pair.dir.path().join(format!("proxy-{node}-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&home).unwrap();
        let at = options.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let metrics = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let admin = match &options.admin {
            Some(admin) => admin.clone(),
            None => format!("unix:{}", home.join("admin.sock").display()),
        };
        let state = options.state.clone().unwrap_or_else(|| home.join("state"));
        let mut command = binary();
        command.env("NO_COLOR", "1").arg("run");
        command.args(["--listen", &at.to_string(), "--admin", &admin, "--metrics", &metrics.to_string()]);
        command.args(["--self", node]).arg("--state-dir").arg(&state);
        if !options.args.iter().any(|arg| arg == "--workers") {
            command.args(["--workers", "2"]);
        }
        // Only the stories about it have the time that load balancers are given.
        if !options.args.iter().any(|arg| arg == "--drain-notice") {
            command.args(["--drain-notice", "0s"]);
        }
        // The same stories with an upstream for every client: `make test-lanes-off`.
        if let (Ok(lanes), false) =
            (std::env::var("CHANGEOVER_TEST_LANES"), options.args.iter().any(|a| a == "--lanes"))
        {
            command.args(["--lanes", &lanes]);
        }
        command.arg("--cert").arg(&pair.certs.cert).arg("--key").arg(&pair.certs.key);
        command.args(["--node", &format!("a=127.0.0.1:{}", pair.a.port)]);
        if !options.single {
            command.args(["--node", &format!("b=127.0.0.1:{}", pair.b.port)]);
        }
        if options.mtls {
            command.arg("--client-ca").arg(&pair.certs.ca);
        }
        if let Some(password) = pair.options.password {
            let file = home.join("password");
            std::fs::write(&file, format!("{password}\n")).unwrap();
            command.arg("--redis-password-file").arg(file);
        }
        if !options.unsealed {
            let secret = pair.dir.path().join("channel.secret");
            if !secret.exists() {
                assert!(binary().arg("secret").arg(&secret).output().unwrap().status.success());
            }
            command.arg("--channel-secret-file").arg(secret);
        }
        command.args(&options.args);
        let mut process = Process::start(&mut command, &home.join("log"));
        process.wait_ready("the proxy listens", || std::net::TcpStream::connect(at).is_ok());
        Self { process, at, metrics, admin, state, tls: pair.tls.clone(), command, announced: options.announced }
    }

    /// Starts it again as it was started, once it has ended by itself.
    pub(crate) fn restart(&mut self) {
        self.process.end(Duration::from_secs(20));
        let log = self.process.log.clone();
        self.process = Process::start(&mut self.command, &log);
        let at = self.at;
        self.process.wait_ready("the proxy listens again", || std::net::TcpStream::connect(at).is_ok());
    }

    /// A client of it, without a certificate.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.at, &self.tls)
    }

    /// An operator command of this proxy, such as `switchover --to b`.
    pub(crate) fn operate(&self, words: &str) -> Output {
        binary().args(words.split(' ')).args(["--admin", &self.admin]).output().unwrap()
    }

    /// `changeover status --json`. (Its exit code says whether there is a primary.)
    pub(crate) fn status(&self) -> serde_json::Value {
        let out = self.operate("status --json");
        serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|e| panic!("status ({}): {e}; {}", out.status, String::from_utf8_lossy(&out.stderr)))
    }

    /// The name of the node that it takes for primary.
    pub(crate) fn primary(&self) -> Option<String> {
        self.status()["view"]["primary"].as_str().map(str::to_owned)
    }

    /// One GET of the metrics server: status and body.
    pub(crate) fn http(&self, path: &str) -> (u16, String) {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(self.metrics).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Lines of the log that warn and were not announced.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let bad = |line: &str| {
            line.contains(" WARN ")
                || line.contains(" ERROR ")
                || line.contains("panicked at")
                || line.contains("\"level\":\"WARN\"")
                || line.contains("\"level\":\"ERROR\"")
        };
        // A busy machine lets a process wait; its log says so rightly.
        let machine = |line: &str| line.contains("this process did not run");
        let announced =
            |line: &str| !line.contains("panicked at") && self.announced.iter().any(|text| line.contains(text));
        self.process
            .log()
            .lines()
            .filter(|line| bad(line) && !machine(line) && !announced(line))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.process.kill();
        if !std::thread::panicking() {
            let complaints = self.complaints();
            let all = self.process.log();
            assert!(complaints.is_empty(), "unannounced in the log:\n{}\n\nall of it:\n{all}", complaints.join("\n"));
        } else {
            eprintln!("log of the proxy on {}:\n{}", self.at, self.process.log());
        }
    }
}

/// The binary under test.
pub(crate) fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_changeover"))
}
