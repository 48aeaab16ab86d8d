//! Our own links against a real `redis-server`: plain and over TLS, logged in as the user that
//! `docs/configuration.md` recommends.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it cannot go on")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use changeover::cli::certs;
use changeover::config::{Secret, UpstreamTls};
use changeover::io::client::{Heard, Link, LinkError, Login, Place, Reply, Target, TargetTls, dial};
use changeover::io::clock;
use changeover::io::tls::UpstreamSide;
use changeover::topology::Trouble;
use changeover::topology::node::NodeId;

const CHANNEL: &str = "__changeover__";

fn soon() -> Duration {
    clock::now() + Duration::from_secs(10)
}

/// A server with a plain and a TLS port, which ends with the test.
struct Server {
    process: Child,
    port: u16,
    tls_port: u16,
    dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        certs::generate(dir.path(), &[], true, false).unwrap();
        let (port, tls_port) = (free_port(), free_port());
        let at = |name: &str| dir.path().join(name).display().to_string();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--tls-port", &tls_port.to_string(), "--save", ""])
            .args(["--tls-cert-file", &at("server.crt"), "--tls-key-file", &at("server.key")])
            .args(["--tls-ca-cert-file", &at("ca.crt"), "--tls-auth-clients", "yes", "--dir", &at("")])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed (make deps)");
        let server = Self { process, port, tls_port, dir };
        while let Err(error) = dial(&server.plain(), soon()).await {
            assert_eq!(error, LinkError::Refused);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server
    }

    fn plain(&self) -> Target {
        Target {
            node: NodeId(0),
            host: "127.0.0.1".to_owned(),
            port: self.port,
            place: Place::default(),
            tls: None,
            login: None,
            tcp: Default::default(),
        }
    }

    fn tls(&self, with_certificate: bool) -> Target {
        let at = |name: &str| Path::new(self.dir.path()).join(name);
        let client = with_certificate.then(|| (at("client.crt"), at("client.key")));
        let side = UpstreamSide::load(UpstreamTls { ca: at("ca.crt"), client, server_name: None }).unwrap();
        let name = side.server_name("127.0.0.1").unwrap();
        Target { port: self.tls_port, tls: Some(TargetTls { side: Arc::new(side), name }), ..self.plain() }
    }
}

fn words(command: &str) -> Vec<&[u8]> {
    command.split_whitespace().map(str::as_bytes).collect()
}

#[tokio::test]
async fn the_documented_user_may_do_what_the_proxy_does_and_no_more() {
    let server = Server::start().await;
    let page = include_str!("../docs/configuration.md");
    let rule = page.lines().find(|line| line.starts_with("ACL SETUSER ")).unwrap();
    let mut admin = Link::connect(&server.plain(), soon()).await.unwrap();
    admin.command(&words(rule), soon()).await.unwrap();

    let login = Login::new(Some("changeover".to_owned()), Secret::new(b"PASSWORD".to_vec()), None);
    let target = Target { login: Some(login), ..server.tls(true) };
    let mut link = Link::connect(&target, soon()).await.unwrap();
    let info = link.command(&words("INFO replication"), soon()).await.unwrap();
    assert!(info.bytes().is_some_and(|text| text.starts_with(b"# Replication")), "{info:?}");
    for command in ["PING", "ROLE", "WAIT 0 1", "CONFIG GET replica-read-only", "CLIENT SETNAME changeover"] {
        link.command(&words(command), soon()).await.unwrap_or_else(|error| panic!("{command}: {error}"));
    }
    // Allowed, but there is nobody to fail over to.
    let refused = link.command(&words("FAILOVER"), soon()).await.unwrap_err();
    assert!(matches!(&refused, LinkError::Redis(text) if text.starts_with("ERR FAILOVER")), "{refused}");
    link.send_only(&words("REPLCONF GETACK *"), soon()).await.unwrap();
    for command in ["GET k", "FLUSHALL", "CONFIG SET save x", "PUBLISH elsewhere x", "SUBSCRIBE elsewhere"] {
        let refused = link.command(&words(command), soon()).await.unwrap_err();
        assert!(matches!(&refused, LinkError::Redis(text) if text.starts_with("NOPERM")), "{command}: {refused}");
    }
}

#[tokio::test]
async fn a_channel_reaches_from_link_to_link() {
    let server = Server::start().await;
    let mut ear = Link::connect(&server.tls(true), soon()).await.unwrap();
    let mut mouth = Link::connect(&server.plain(), soon()).await.unwrap();
    ear.subscribe(CHANNEL, soon()).await.unwrap();
    let said = "x".repeat(4096);
    let heard_by = mouth.command(&[b"PUBLISH", CHANNEL.as_bytes(), said.as_bytes()], soon()).await;
    assert_eq!(heard_by, Ok(Reply::Integer(1)));
    let expected = Heard::Message { channel: CHANNEL.into(), payload: said.into() };
    assert_eq!(ear.next_message(soon()).await, Ok(expected));
    ear.send_only(&words("PING"), soon()).await.unwrap();
    assert_eq!(ear.next_message(soon()).await, Ok(Heard::Pong));
}

#[tokio::test]
async fn a_held_wait_trips_when_its_server_becomes_a_replica() {
    let server = Server::start().await;
    let mut wire = Link::connect(&server.tls(true), soon()).await.unwrap();
    let mut admin = Link::connect(&server.plain(), soon()).await.unwrap();
    // WAIT looks at what this connection wrote; an earlier write is not needed to be blocked by it.
    let wait = words("WAIT 1000000 0");
    let (tripped, demoted) = tokio::join!(wire.command(&wait, soon()), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        admin.command(&words("REPLICAOF 127.0.0.1 1"), soon()).await
    });
    demoted.unwrap();
    assert!(matches!(&tripped, Err(LinkError::Redis(text)) if text.starts_with("UNBLOCKED")), "{tripped:?}");
}

#[tokio::test]
async fn each_way_of_not_being_let_in_is_told_apart() {
    let server = Server::start().await;
    let without = Link::connect(&server.tls(false), soon()).await;
    // TLS 1.3 clients are refused after their side of the handshake: then the first command finds out.
    let told = match without {
        Ok(mut link) => link.command(&words("PING"), soon()).await.map(drop),
        Err(error) => Err(error),
    };
    assert!(matches!(&told, Err(LinkError::Node(Trouble::Tls(_)) | LinkError::EndOfFile)), "{told:?}");

    let not_tls = Target { port: server.port, ..server.tls(true) };
    let told = Link::connect(&not_tls, clock::now() + Duration::from_secs(1)).await.map(drop);
    let known = matches!(&told, Err(LinkError::Node(Trouble::NotTls) | LinkError::EndOfFile | LinkError::TimedOut));
    assert!(known, "{told:?}");

    let speaks_tls = Target { port: server.tls_port, ..server.plain() };
    let told = match Link::connect(&speaks_tls, soon()).await {
        Ok(mut link) => link.command(&words("PING"), soon()).await.map(drop),
        Err(error) => Err(error),
    };
    assert!(matches!(&told, Err(LinkError::Node(Trouble::SpeaksTls) | LinkError::EndOfFile)), "{told:?}");

    let wrong = || Secret::new(b"wrong".to_vec());
    let login = Some(Login::new(Some("changeover".to_owned()), wrong(), None));
    let told = Link::connect(&Target { login, ..server.plain() }, soon()).await.map(drop);
    assert!(matches!(&told, Err(LinkError::Node(Trouble::Login(_)))), "{told:?}");
    // A server that asks for no password takes the link of someone who has one.
    let login = Some(Login::new(None, wrong(), None));
    let mut link = Link::connect(&Target { login, ..server.plain() }, soon()).await.unwrap();
    link.command(&words("PING"), soon()).await.unwrap();
}

#[tokio::test]
async fn a_frozen_server_is_silent_not_refusing() {
    let mut server = Server::start().await;
    let mut link = Link::connect(&server.plain(), soon()).await.unwrap();
    let pid = server.process.id().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    signal("-STOP");
    let silent = link.command(&words("PING"), clock::now() + Duration::from_millis(100)).await;
    signal("-CONT");
    assert_eq!(silent, Err(LinkError::TimedOut));
    assert!(silent.is_err_and(|error| error.leaves_link_usable()));
    // The late +PONG is not taken for the answer to this.
    assert_eq!(link.command(&words("INCR n"), soon()).await, Ok(Reply::Integer(1)));
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    assert_eq!(link.command(&words("PING"), soon()).await, Err(LinkError::EndOfFile));
}
