//! How many records one key of a TLS connection may still encrypt.
//!
//! An AES-GCM key is good for 2^24 records. In TLS 1.3 rustls takes a new one by itself. TLS 1.2 has no way to do so: there
//! rustls says goodbye instead of the next record, and every write after that is reported as done and goes nowhere. So
//! written records are counted, and a connection ends before that, at a quiet moment if there is one.
//!
//! Invariant: what is counted is never less than what was encrypted since the handshake.

use rustls::SupportedCipherSuite;

/// The most bytes that rustls puts into one record.
const RECORD: u64 = 16 * 1024;
/// Records for rustls' own messages: the end of the handshake, alerts.
const OVERHEAD: u64 = 16;

/// The records of one connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::io) struct Records {
    written: u64,
    limit: u64,
}

impl Records {
    /// A connection that has shaken hands, and uses this suite.
    pub(in crate::io) fn of(suite: Option<SupportedCipherSuite>) -> Self {
        let limit = match suite {
            Some(SupportedCipherSuite::Tls12(suite)) => suite.common.confidentiality_limit,
            _ => u64::MAX,
        };
        Self { written: OVERHEAD, limit }
    }

    /// One write of so many bytes.
    pub(in crate::io) fn wrote(&mut self, bytes: usize) {
        self.written = self.written.saturating_add((bytes as u64).div_ceil(RECORD).max(1));
    }

    /// Another connection should take its place at the next quiet moment.
    pub(in crate::io) fn worn(&self) -> bool {
        self.written >= self.limit - (self.limit / 256).max(OVERHEAD).min(self.limit)
    }

    /// Nothing more can be sent.
    pub(in crate::io) fn spent(&self) -> bool {
        self.written.saturating_add(OVERHEAD / 2) >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{CipherSuiteCommon, Tls12CipherSuite};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    #[test]
    fn a_key_wears_out_by_records_and_not_by_bytes() {
        let mut records = Records { written: 0, limit: 1 << 24 };
        records.wrote(1);
        records.wrote(16 * 1024 + 1);
        assert_eq!(records.written, 3);
        records.written = (1 << 24) - (1 << 16) - 1;
        assert!(!records.worn());
        records.wrote(5);
        assert!(records.worn() && !records.spent());
        records.written = (1 << 24) - 8;
        assert!(records.spent());
    }

    #[test]
    fn only_tls_1_2_has_such_an_end() {
        let suites = crate::io::tls::provider().cipher_suites.clone().into_iter();
        for suite in suites {
            let endless = Records::of(Some(suite)).limit == u64::MAX;
            let gcm = format!("{:?}", suite.suite()).contains("GCM");
            assert_eq!(endless, matches!(suite, SupportedCipherSuite::Tls13(_)) || !gcm, "{suite:?}");
        }
    }

    /// Both ends of a TLS 1.2 connection whose keys may encrypt `limit` records, after the handshake.
    async fn shake(
        limit: u64,
    ) -> (tokio_rustls::client::TlsStream<DuplexStream>, tokio_rustls::server::TlsStream<DuplexStream>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let mut provider = (*crate::io::tls::provider()).clone();
        provider.cipher_suites.retain(|suite| matches!(suite, SupportedCipherSuite::Tls12(_)));
        for suite in &mut provider.cipher_suites {
            let SupportedCipherSuite::Tls12(known) = *suite else { continue };
            let common = CipherSuiteCommon {
                suite: known.common.suite,
                hash_provider: known.common.hash_provider,
                confidentiality_limit: limit,
            };
            *suite = SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite { common, ..*known })));
        }
        let provider = Arc::new(provider);
        let der = rustls_pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
        let server = server.with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
        let server = server.with_no_client_auth().with_single_cert(vec![cert.der().clone()], der).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider);
        let client = client.with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let connect = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, near);
        let accept = tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(far);
        let (near, far) = tokio::join!(connect, accept);
        (near.unwrap(), far.unwrap())
    }

    #[tokio::test]
    async fn everything_that_is_written_before_the_key_is_spent_arrives() {
        let (mut client, mut server) = shake(500).await;
        let mut records = Records::of(server.get_ref().1.negotiated_cipher_suite());
        let (mut sent, mut worn) = (0_u32, 0);
        while !records.spent() {
            worn += u32::from(records.worn());
            server.write_all(&sent.to_be_bytes()).await.unwrap();
            server.flush().await.unwrap();
            records.wrote(4);
            sent += 1;
        }
        assert!(sent > 400 && worn > 4, "{sent} records, {worn} of them in time for a quiet end");
        for number in 0..sent {
            assert_eq!(client.read_u32().await.unwrap(), number);
        }
        // What rustls does with what is written later is the reason for all this: it reports it as done.
        for _ in 0..100 {
            server.write_all(b"gone").await.unwrap();
            server.flush().await.unwrap();
        }
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(rest.len() < 400, "{} bytes", rest.len());
    }
}
