//! TLS on both sides: PEM files become rustls configurations, and can be read again while the process runs.
//!
//! It does no I/O on sockets: the listener and `client::dial` do the handshakes with what they find here.
//!
//! Invariant: a configuration is swapped whole or not at all. Swapping only the certificate would leave resumed
//! sessions on the old identity, and would let a revoked client certificate live on in its ticket; a new
//! configuration has new ticket keys. When the files are not usable, the configuration that was in force stays.

mod expiry;
mod pem;
mod records;

pub use expiry::expiry;
pub(in crate::io) use records::Records;

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::ServerName;

use crate::config;

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// The one source of cryptography, passed explicitly everywhere: with two in the tree, rustls' own default panics.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// What is wrong with the files; names the file, and never shows a byte of a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read {}: {reason}", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// The file is not PEM, or a section of it is damaged.
    #[error("{} is not valid PEM: {reason}", file.display())]
    NotPem {
        /// Which file.
        file: PathBuf,
        /// Where reading stopped.
        reason: String,
    },
    /// The file has no `CERTIFICATE` section.
    #[error("no certificate in {}", file.display())]
    NoCertificate {
        /// Which file.
        file: PathBuf,
    },
    /// The file has no private key that we can use.
    #[error("no private key in {}: {hint}", file.display())]
    NoKey {
        /// Which file.
        file: PathBuf,
        /// What is there instead, or what is expected.
        hint: &'static str,
    },
    /// Key and certificate are of two different pairs.
    #[error("the key in {} does not match the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Well-formed PEM, but not usable.
    #[error("{} cannot be used: {reason}", file.display())]
    Unusable {
        /// Which file.
        file: PathBuf,
        /// The library's words.
        reason: String,
    },
    /// A node's host can be no certificate's name.
    #[error("{name:?} is neither a DNS name nor an address, so no certificate can be verified against it")]
    ServerName {
        /// What was configured.
        name: String,
    },
    /// The library refused the parameters; a defect of ours rather than of the files.
    #[error("TLS set-up failed: {0}")]
    SetUp(String),
}

/// The client side: certificate, key and optional client CA, reloadable.
#[derive(Debug)]
pub struct ServerSide {
    files: config::ServerTls,
    live: ArcSwap<ServerConfig>,
}

impl ServerSide {
    /// Reads the files.
    ///
    /// # Errors
    /// Whatever makes the files unusable; see [`TlsError`].
    pub fn load(files: config::ServerTls) -> Result<Self, TlsError> {
        let live = ArcSwap::from_pointee(server_config(&files)?);
        Ok(Self { files, live })
    }

    /// Everything that is wrong with the files, where [`ServerSide::load`] stops at the first.
    pub fn faults(files: &config::ServerTls) -> Vec<TlsError> {
        let key = pem::certified_key(&files.cert, &files.key, &PROVIDER).err();
        let ca = files.client_ca.as_deref().and_then(|ca| roots(ca).err());
        key.into_iter().chain(ca).collect()
    }

    /// Reads the files again. Connections that exist stay as they are; the next handshake uses what was read.
    ///
    /// # Errors
    /// As [`ServerSide::load`]; the configuration in force then stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.live.store(Arc::new(server_config(&self.files)?));
        Ok(())
    }

    /// The configuration for the next handshake: `TlsAcceptor::from(side.config())`.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.live.load_full()
    }
}

fn server_config(files: &config::ServerTls) -> Result<ServerConfig, TlsError> {
    let certified = pem::certified_key(&files.cert, &files.key, &PROVIDER)?;
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(set_up)?;
    let builder = match &files.client_ca {
        Some(ca) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider()).build().map_err(set_up)?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut made = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    made.ticketer = aws_lc_rs::Ticketer::new().map_err(set_up)?;
    made.send_tls13_tickets = 1;
    Ok(made)
}

/// The Redis side: whom to trust, and our own certificate where Redis asks for one; reloadable.
#[derive(Debug)]
pub struct UpstreamSide {
    files: config::UpstreamTls,
    live: ArcSwap<ClientConfig>,
}

impl UpstreamSide {
    /// Reads the files.
    ///
    /// # Errors
    /// Whatever makes the files unusable; see [`TlsError`].
    pub fn load(files: config::UpstreamTls) -> Result<Self, TlsError> {
        let live = ArcSwap::from_pointee(client_config(&files)?);
        Ok(Self { files, live })
    }

    /// Everything that is wrong with the files, where [`UpstreamSide::load`] stops at the first.
    pub fn faults(files: &config::UpstreamTls) -> Vec<TlsError> {
        let ca = roots(&files.ca).err();
        let key = files.client.as_ref().and_then(|(cert, key)| pem::certified_key(cert, key, &PROVIDER).err());
        ca.into_iter().chain(key).collect()
    }

    /// Reads the files again; the next connection uses what was read.
    ///
    /// # Errors
    /// As [`UpstreamSide::load`]; the configuration in force then stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.live.store(Arc::new(client_config(&self.files)?));
        Ok(())
    }

    /// The configuration for the next connection.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.live.load_full()
    }

    /// The name that the certificate of the node at `host` must have.
    ///
    /// # Errors
    /// [`TlsError::ServerName`] when no certificate can have it.
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        let name = self.files.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName { name: name.to_owned() })
    }
}

fn client_config(files: &config::UpstreamTls) -> Result<ClientConfig, TlsError> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(&files.ca)?, provider()).build().map_err(set_up)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(set_up)?
        .with_webpki_verifier(verifier);
    Ok(match &files.client {
        Some((cert, key)) => {
            let certified = pem::certified_key(cert, key, &PROVIDER)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
        None => builder.with_no_client_auth(),
    })
}

fn roots(ca: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for cert in pem::chain(ca)? {
        roots.add(cert).map_err(|e| TlsError::Unusable { file: ca.to_owned(), reason: e.to_string() })?;
    }
    Ok(Arc::new(roots))
}

fn set_up(error: impl std::fmt::Display) -> TlsError {
    TlsError::SetUp(error.to_string())
}

#[cfg(test)]
mod tests;
