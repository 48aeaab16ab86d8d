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
        self.sign_for(stem, 1975..4000);
    }

    /// A certificate that is valid in these years.
    fn sign_for(&self, stem: &str, years: std::ops::Range<i32>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
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
    server.read_again(CertificateDates::Refuse).unwrap().take();
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
    let error = server.read_again(CertificateDates::Refuse).err().unwrap().to_string();
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
    for (name, kind) in [("locked-rsa", "RSA"), ("locked-ec", "EC")] {
        let headers = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF\n\nAAAA\n";
        let text = format!("-----BEGIN {kind} PRIVATE KEY-----\n{headers}-----END {kind} PRIVATE KEY-----\n");
        fs::write(files.at(name), text).unwrap();
    }
    fs::write(files.at("ssh"), "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
        .unwrap();
    fs::write(files.at("v1"), VERSION_1).unwrap();
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
        ("s.crt", "locked-rsa", "no private key in FOLDER/locked-rsa: it is encrypted"),
        ("s.crt", "locked-ec", "no private key in FOLDER/locked-ec: it is encrypted"),
        ("s.crt", "ssh", "no private key in FOLDER/ssh: it is in OpenSSH's own form"),
        ("v1", "s.key", "the certificate in FOLDER/v1 is X.509 version 1"),
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

/// Made with `openssl x509 -req -signkey`, which gives no extensions.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBJDCBywIUI4YjwnP81lNAOxCCYfWz9OTpfCkwCgYIKoZIzj0EAwIwFDESMBAG\n\
A1UEAwwJbG9jYWxob3N0MCAXDTI2MTIwMTAwNDE1NVoYDzIxMDkwMTIwMDA0MTU1\n\
WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\n\
AARJ4XWUuV6dHjLe8trZEG/Nipp/09W16QiFLPusAYM9Za/A84FBE1Ix0Q+Eq0SM\n\
44hE1XW0XThcOnxnvQtEDNaQMAoGCCqGSM49BAMCA0gAMEUCIHVUegQ6AB1RP+Mw\n\
7J963sDK546ZJd3Eu/ECV3e24tjIAiEA0NgkAxzxKpqNqpqVj5ZGP5NpYoNbZIRX\n\
+cgb2aSojP8=\n\
-----END CERTIFICATE-----\n\
";

#[tokio::test]
async fn a_certificate_outside_its_dates_does_not_replace_a_good_one() {
    let files = Files::new();
    let server = ServerSide::load(files.server(false)).unwrap();
    let client = UpstreamSide::load(files.client(true)).unwrap();
    for (stem, years, what) in
        [("s", 1990..2001, "expired at"), ("s", 3000..3001, "is not valid before"), ("c", 1990..2001, "expired at")]
    {
        files.sign_for(stem, years);
        let read = |dates| match stem {
            "s" => server.read_again(dates),
            _ => client.read_again(dates),
        };
        let error = read(CertificateDates::Refuse).err().unwrap().to_string();
        assert!(error.starts_with("the certificate in ") && error.contains(what), "{error}");
        shake(&server, &client).await.unwrap();
        drop(read(CertificateDates::Accept).unwrap());
        files.sign(stem);
    }
}

#[test]
fn a_certificate_that_expired_in_force_is_replaced_by_any() {
    let files = Files::new();
    files.sign_for("s", 1990..2001);
    let server = ServerSide::load(files.server(false)).unwrap();
    server.read_again(CertificateDates::Refuse).unwrap().take();
    files.sign("s");
    server.read_again(CertificateDates::Refuse).unwrap().take();
    files.sign_for("s", 1990..2001);
    assert!(server.read_again(CertificateDates::Refuse).is_err());
}

#[test]
fn every_file_outside_its_dates_is_found() {
    let files = Files::new();
    files.sign_for("s", 1990..2001);
    files.sign_for("c", 3000..3001);
    let chain = fs::read_to_string(files.at("ca.crt")).unwrap() + &fs::read_to_string(files.at("s.crt")).unwrap();
    fs::write(files.at("ca.crt"), chain).unwrap();
    let (server, client) = (files.server(true), files.client(true));
    let found = date_faults(ServerSide::certificates(&server).chain(UpstreamSide::certificates(&client)));
    let own: Vec<_> = found.iter().map(|fault| fault.own).collect();
    assert_eq!(own, [true, false, false, true], "{found:?}");
}
