//! A CA with certificates of its own for each test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub(crate) struct Certs {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_cert: PathBuf,
    pub(crate) client_key: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Certs {
    pub(crate) fn make(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.distinguished_name.push(DnType::CommonName, "test CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = ca.self_signed(&key).unwrap().pem();
        let certs = Self {
            ca: dir.join("ca.crt"),
            cert: dir.join("server.crt"),
            key: dir.join("server.key"),
            client_cert: dir.join("client.crt"),
            client_key: dir.join("client.key"),
            issuer: Issuer::new(ca, key),
        };
        std::fs::write(&certs.ca, pem).unwrap();
        certs.issue("server", &certs.cert, &certs.key);
        certs.issue("client", &certs.client_cert, &certs.client_key);
        certs
    }

    /// Signs a (new) certificate for `localhost`, 127.0.0.1 and 127.0.0.2 into these files.
    pub(crate) fn issue(&self, name: &str, cert_file: &Path, key_file: &Path) {
        self.issue_until(name, 4000, cert_file, key_file);
    }

    /// The same, of the last century.
    pub(crate) fn issue_expired(&self, name: &str, cert_file: &Path, key_file: &Path) {
        self.issue_until(name, 1999, cert_file, key_file);
    }

    fn issue_until(&self, name: &str, year: i32, cert_file: &Path, key_file: &Path) {
        let key = KeyPair::generate().unwrap();
        // Both proxies of a pair can then have the same port, as they have in life.
        let names = ["localhost", "127.0.0.1", "127.0.0.2"].map(String::from);
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(cert_file, cert.pem()).unwrap();
        std::fs::write(key_file, key.serialize_pem()).unwrap();
    }

    /// TLS of a client that trusts this CA; with the client certificate of `identity`, if given.
    pub(crate) fn client(&self, identity: Option<&Certs>) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = vec![CertificateDer::from_pem_file(&own.client_cert).unwrap()];
                let key = PrivateKeyDer::from_pem_file(&own.client_key).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        })
    }
}
