//! Files good and bad, and what a client sees before and after a reload.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::*;

struct Files {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Files {
    /// A CA, and certificates `s` (for localhost) and `c` that it signed.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(dir.path().join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        let files = Self { dir, issuer: Issuer::new(params, key) };
        files.sign("s");
        files.sign("c");
        files
    }

    fn sign(&self, stem: &str) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        fs::write(self.at(&format!("{stem}.crt")), cert.pem()).unwrap();
        fs::write(self.at(&format!("{stem}.key")), key.serialize_pem()).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn server(&self, client_ca: bool) -> config::ServerTls {
        let client_ca = client_ca.then(|| self.at("ca.crt"));
        config::ServerTls { cert: self.at("s.crt"), key: self.at("s.key"), client_ca }
    }

    fn client(&self, with_certificate: bool) -> config::UpstreamTls {
        let client = with_certificate.then(|| (self.at("c.crt"), self.at("c.key")));
        config::UpstreamTls { ca: self.at("ca.crt"), client, server_name: None }
    }
}

type Ends = (client::TlsStream<DuplexStream>, server::TlsStream<DuplexStream>);

/// A handshake, and one byte each way so that TLS 1.3 has checked the client's certificate and delivered its ticket.
async fn shake(server: &ServerSide, client: &UpstreamSide) -> std::io::Result<Ends> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let connect = TlsConnector::from(client.config()).connect(client.server_name("localhost").unwrap(), near);
    let (near, far) = tokio::join!(connect, TlsAcceptor::from(server.config()).accept(far));
    let (mut near, mut far) = (near?, far?);
    near.write_all(b"?").await?;
    far.read_u8().await?;
    far.write_all(b"!").await?;
    near.read_u8().await?;
    Ok((near, far))
}

fn kind(ends: &Ends) -> rustls::HandshakeKind {
    ends.1.get_ref().1.handshake_kind().unwrap()
}

#[tokio::test]
async fn a_second_handshake_resumes_the_session() {
    let files = Files::new();
    let server = ServerSide::load(files.server(false)).unwrap();
    let client = UpstreamSide::load(files.client(false)).unwrap();
    assert_eq!(kind(&shake(&server, &client).await.unwrap()), rustls::HandshakeKind::Full);
    assert_eq!(kind(&shake(&server, &client).await.unwrap()), rustls::HandshakeKind::Resumed);
}

#[tokio::test]
async fn after_a_reload_the_new_certificate_is_shown_even_to_who_could_resume() {
    let files = Files::new();
    let server = ServerSide::load(files.server(false)).unwrap();
    let client = UpstreamSide::load(files.client(false)).unwrap();
    let shown = |ends: &Ends| ends.0.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let before = shake(&server, &client).await.unwrap();
    files.sign("s");
    server.reload().unwrap();
    let after = shake(&server, &client).await.unwrap();
    assert_eq!(kind(&after), rustls::HandshakeKind::Full);
    assert_ne!(shown(&before), shown(&after));
}

#[tokio::test]
async fn a_reload_that_fails_leaves_what_was_in_force() {
    let files = Files::new();
    let server = ServerSide::load(files.server(false)).unwrap();
    let client = UpstreamSide::load(files.client(false)).unwrap();
    fs::copy(files.at("c.key"), files.at("s.key")).unwrap();
    let error = server.reload().unwrap_err().to_string();
    assert!(error.starts_with("the key in ") && error.contains("does not match the certificate in "), "{error}");
    shake(&server, &client).await.unwrap();
}

#[tokio::test]
async fn with_a_client_ca_a_client_needs_a_certificate() {
    let files = Files::new();
    let server = ServerSide::load(files.server(true)).unwrap();
    shake(&server, &UpstreamSide::load(files.client(true)).unwrap()).await.unwrap();
    assert!(shake(&server, &UpstreamSide::load(files.client(false)).unwrap()).await.is_err());
    let stranger = Files::new();
    let impostor = config::UpstreamTls { ca: files.at("ca.crt"), ..stranger.client(true) };
    assert!(shake(&server, &UpstreamSide::load(impostor).unwrap()).await.is_err());
}

#[tokio::test]
async fn a_server_of_another_ca_or_name_is_not_trusted() {
    let (ours, theirs) = (Files::new(), Files::new());
    let server = ServerSide::load(theirs.server(false)).unwrap();
    assert!(shake(&server, &UpstreamSide::load(ours.client(false)).unwrap()).await.is_err());
    let named = config::UpstreamTls { server_name: Some("elsewhere".to_owned()), ..theirs.client(false) };
    assert!(shake(&server, &UpstreamSide::load(named).unwrap()).await.is_err());
}

#[test]
fn bad_files_are_named_with_what_is_wrong() {
    let files = Files::new();
    fs::write(files.at("empty"), "").unwrap();
    fs::write(files.at("locked"), "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
        .unwrap();
    fs::write(files.at("cut"), "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    fs::write(files.at("junk"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for (cert, key, expected) in [
        ("nowhere", "s.key", "cannot read FOLDER/nowhere: No such file"),
        ("empty", "s.key", "no certificate in FOLDER/empty"),
        ("s.key", "s.key", "no certificate in FOLDER/s.key"),
        ("cut", "s.key", "FOLDER/cut is not valid PEM"),
        ("junk", "s.key", "FOLDER/junk cannot be used"),
        ("s.crt", "empty", "no private key in FOLDER/empty: a section BEGIN PRIVATE KEY"),
        ("s.crt", "s.crt", "no private key in FOLDER/s.crt: it holds a certificate"),
        ("s.crt", "locked", "no private key in FOLDER/locked: it is encrypted"),
        ("s.crt", "c.key", "the key in FOLDER/c.key does not match the certificate in FOLDER/s.crt"),
    ] {
        let tls = config::ServerTls { cert: files.at(cert), key: files.at(key), client_ca: None };
        let error = ServerSide::load(tls).unwrap_err().to_string();
        let error = error.replace(files.dir.path().to_str().unwrap(), "FOLDER");
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn every_fault_is_found_not_only_the_first() {
    let files = Files::new();
    let tls = config::ServerTls { cert: files.at("s.crt"), key: files.at("c.key"), client_ca: Some(files.at("s.key")) };
    assert_eq!(ServerSide::faults(&tls).len(), 2);
    assert!(ServerSide::faults(&files.server(true)).is_empty());
    assert!(UpstreamSide::faults(&files.client(true)).is_empty());
}
