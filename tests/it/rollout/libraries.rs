//! Client libraries, unmodified, behind a load balancer that asks the proxies whether they are ready, while both nodes
//! are patched.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Machine;
use crate::support::pause;

/// What a load balancer does: a new connection goes to a proxy that says that it is ready, turn by turn.
pub(super) fn balance(machine: &Machine) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let proxies: Vec<_> = machine.proxies.iter().map(|proxy| (proxy.at, proxy.metrics)).collect();
    // It ends with the test's process.
    std::thread::spawn(move || {
        for (turn, client) in listener.incoming().map_while(Result::ok).enumerate() {
            let order = [proxies[turn % 2], proxies[(turn + 1) % 2]];
            let ready = order.into_iter().filter(|(_, metrics)| is_ready(*metrics));
            let Some(server) = ready.filter_map(|(at, _)| TcpStream::connect(at).ok()).next() else { continue };
            let (back, forth) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || splice(client, forth));
            std::thread::spawn(move || splice(server, back));
        }
    });
    port
}

fn is_ready(metrics: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(metrics)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        std::io::Result::Ok(text.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}

fn splice(mut from: TcpStream, mut to: TcpStream) {
    to.set_nodelay(true).ok();
    let mut buffer = [0; 16_384];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Write).ok();
}

/// redis-py with its default settings, half of its clients with RESP3; it stops at the first thing it notices.
pub(super) struct Python {
    clients: Child,
    stop: PathBuf,
}

impl Python {
    pub(super) fn start(machine: &Machine, port: u16) -> Self {
        let stop = machine.folder.join("stop");
        let python = std::env::var("CHANGEOVER_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compat/redis_py_patch.py");
        let mut clients = Command::new(python);
        clients.args([script, "--port", &port.to_string()]).arg("--ca").arg(&machine.pair.certs.ca);
        clients.arg("--stop").arg(&stop).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { clients: clients.spawn().expect("python3 (make deps)"), stop }
    }

    /// Fails when any of its clients saw an error, or a number twice or never.
    pub(super) fn stop(self, log: impl FnOnce() -> String) {
        std::fs::write(self.stop, "").unwrap();
        let told = self.clients.wait_with_output().unwrap();
        let words = format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
        assert!(told.status.success(), "{words}\n{}", log());
    }
}

/// redis-rs with its connection manager. With RESP2 that notices a closed connection only by the failure of its next
/// command, so with RESP3.
struct Manager {
    clients: JoinHandle<i64>,
    over: SyncSender<()>,
}

impl Manager {
    fn start(machine: &Machine, port: u16) -> Self {
        // Both libraries of TLS providers may be linked; redis-rs takes the process' default.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let root_cert = Some(std::fs::read(&machine.pair.certs.ca).unwrap());
        let certificates = redis::TlsCertificates { client_tls: None, root_cert };
        let address = format!("rediss://localhost:{port}/?protocol=resp3");
        let client = redis::Client::build_with_tls(address, certificates).unwrap();
        let (over, ended) = sync_channel::<()>(1);
        let clients = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(count_up(client, ended))
        });
        Self { clients, over }
    }

    /// Fails when it saw an error, or the primary has another number than it was told.
    fn stop(self, machine: &Machine) {
        self.over.send(()).ok();
        let value = self.clients.join().expect("the application saw an error");
        assert!(value > 0, "no load");
        assert_eq!(machine.pair.a.cmd("GET rs").text(), value.to_string());
    }
}

async fn count_up(client: redis::Client, ended: Receiver<()>) -> i64 {
    // Its own half a second is about the machine that the tests run on.
    let patient = redis::aio::ConnectionManagerConfig::new().set_response_timeout(Some(Duration::from_secs(20)));
    let mut manager = client.get_connection_manager_with_config(patient).await.unwrap();
    let mut value = 0;
    while ended.try_recv().is_err() {
        let told: i64 = redis::cmd("INCR").arg("rs").query_async(&mut manager).await.unwrap();
        assert_eq!(told, value + 1);
        value = told;
        // Time to hear of a close before the next command: it cannot take back one that it is just sending.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    value
}

#[test]
fn redis_py_does_not_notice_a_patch_of_both_nodes() {
    let mut machine = Machine::start("");
    std::fs::write(machine.folder.join("drained"), "").unwrap();
    let clients = Python::start(&machine, balance(&machine));
    pause(1500);
    let patch = machine.patch(&[]);
    let code = machine.finish(patch);
    pause(1000);
    clients.stop(|| machine.log());
    assert_eq!(code, Some(0), "{}", machine.log());
    assert!(machine.report()["closed"].as_u64().unwrap() > 0, "nobody had to reconnect: {}", machine.report());
}

#[test]
fn redis_rs_with_its_manager_does_not_notice_a_patch_of_both_nodes() {
    let mut machine = Machine::start("");
    std::fs::write(machine.folder.join("drained"), "").unwrap();
    let clients = Manager::start(&machine, balance(&machine));
    pause(500);
    let patch = machine.patch(&[]);
    let code = machine.finish(patch);
    pause(500);
    clients.stop(&machine);
    assert_eq!(code, Some(0), "{}", machine.log());
}
