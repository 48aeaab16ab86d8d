//! Certificates for one run of the demo, and the TLS of its clients.
//!
//! A fresh CA signs one server certificate for `localhost`; nothing of it outlives the demo's directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;

use crate::config::write_channel_secret;

/// Files and what clients need to trust them.
#[derive(Debug)]
pub(super) struct Certs {
    /// What authenticates the proxies to each other.
    pub(super) secret: PathBuf,
    /// The CA's certificate.
    pub(super) ca: PathBuf,
    /// The server's certificate.
    pub(super) cert: PathBuf,
    /// The server's key.
    pub(super) key: PathBuf,
    trust: CertificateDer<'static>,
}

/// Makes the CA and the server's certificate in `dir`.
pub(super) fn make(dir: &Path) -> Result<Certs, String> {
    let failed = |e: &dyn std::fmt::Display| format!("cannot make certificates in {}: {e}", dir.display());
    let ca_key = KeyPair::generate().map_err(|e| failed(&e))?;
    let mut ca = CertificateParams::new(Vec::new()).map_err(|e| failed(&e))?;
    ca.distinguished_name.push(DnType::CommonName, "changeover demo CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_cert = ca.self_signed(&ca_key).map_err(|e| failed(&e))?;
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate().map_err(|e| failed(&e))?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut server = CertificateParams::new(names).map_err(|e| failed(&e))?;
    server.distinguished_name.push(DnType::CommonName, "changeover demo");
    let cert = server.signed_by(&key, &issuer).map_err(|e| failed(&e))?;

    let files = Certs {
        secret: dir.join("channel.secret"),
        ca: dir.join("ca.crt"),
        cert: dir.join("server.crt"),
        key: dir.join("server.key"),
        trust: ca_cert.der().clone(),
    };
    std::fs::write(&files.ca, ca_cert.pem()).map_err(|e| failed(&e))?;
    std::fs::write(&files.cert, cert.pem()).map_err(|e| failed(&e))?;
    std::fs::write(&files.key, key.serialize_pem()).map_err(|e| failed(&e))?;
    write_channel_secret(&files.secret)?;
    Ok(files)
}

impl Certs {
    /// What the demo's clients use.
    pub(super) fn client(&self) -> Result<Arc<rustls::ClientConfig>, String> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.trust.clone()).map_err(|e| e.to_string())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}
