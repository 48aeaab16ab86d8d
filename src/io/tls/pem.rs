//! PEM files become a certificate chain and a key that belong together.
//!
//! It does not judge trust: peers do. Dates are judged where a file is taken into use. Invariant: an error names the file and what to do, never its content.

use std::path::Path;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{TlsError, dates};

/// Every certificate of `file`, in its order; at least one.
pub(super) fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(file)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| TlsError::NotPem { file: file.to_owned(), reason: e.to_string() })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { file: file.to_owned() });
    }
    Ok(chain)
}

/// The chain of `cert` with the key of `key`, checked to belong together.
pub(super) fn certified_key(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = chain(cert)?;
    if chain.first().is_some_and(|leaf| dates::is_version_1(leaf)) {
        return Err(TlsError::Version1 { file: cert.to_owned() });
    }
    let key_der = private_key(key)?;
    let certified =
        CertifiedKey::new(chain, provider.key_provider.load_private_key(key_der).map_err(|e| unusable(key, &e))?);
    match certified.keys_match() {
        // The provider cannot always tell; then the first handshake will.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsError::Mismatch { cert: cert.to_owned(), key: key.to_owned() })
        }
        Err(e) => Err(unusable(cert, &e)),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = zeroize::Zeroizing::new(read(file)?);
    PrivateKeyDer::from_pem_slice(&pem).map_err(|e| match e {
        // The traditional form names its cipher in headers, which the parser takes for damaged base64.
        _ if has(&pem, TRADITIONAL) => TlsError::NoKey { file: file.to_owned(), hint: ENCRYPTED },
        PemError::NoItemsFound => TlsError::NoKey { file: file.to_owned(), hint: key_hint(&pem) },
        other => TlsError::NotPem { file: file.to_owned(), reason: other.to_string() },
    })
}

/// The header of an encrypted key in OpenSSL's traditional form (RFC 1421).
const TRADITIONAL: &[u8] = b"Proc-Type: 4,ENCRYPTED";
const ENCRYPTED: &str = "it is encrypted; decrypt it first, for example with `openssl pkey`";

fn key_hint(pem: &[u8]) -> &'static str {
    if has(pem, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        ENCRYPTED
    } else if has(pem, b"-----BEGIN OPENSSH PRIVATE KEY-----") {
        "it is in OpenSSH's own form; convert it, for example with `ssh-keygen -p -m PKCS8`"
    } else if has(pem, b"-----BEGIN CERTIFICATE-----") {
        "it holds a certificate; are the two files exchanged?"
    } else {
        "a section BEGIN PRIVATE KEY, BEGIN RSA PRIVATE KEY or BEGIN EC PRIVATE KEY is expected"
    }
}

fn has(pem: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(pem, needle).is_some()
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|e| TlsError::Unreadable { file: file.to_owned(), reason: e.to_string() })
}

fn unusable(file: &Path, error: &rustls::Error) -> TlsError {
    TlsError::Unusable { file: file.to_owned(), reason: error.to_string() }
}
