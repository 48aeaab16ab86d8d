//! TLS on both sides: PEM files become rustls configurations, and can be read again while the process runs.
//!
//! It does no I/O on sockets: the listener and `client::dial` do the handshakes with what they find here.
//!
//! Invariant: a configuration is swapped whole or not at all. Swapping only the certificate would leave resumed
//! sessions on the old identity, and would let a revoked client certificate live on in its ticket; a new
//! configuration has new ticket keys. When the files are not usable, the configuration that was in force stays.

mod dates;
mod pem;
mod records;

pub use dates::expiry;
pub(in crate::io) use records::Records;

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::ServerName;

use self::dates::Validity;
use crate::config::{self, CertificateDates};

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
    /// The certificate has no extensions, and so no name that a client could verify.
    #[error(
        "the certificate in {} is X.509 version 1, which has no subjectAltName; version 3 is needed (for example \
         `openssl x509 -req -extfile FILE` with subjectAltName in FILE)", file.display()
    )]
    Version1 {
        /// Which file.
        file: PathBuf,
    },
    /// The certificate is no longer valid.
    #[error("the certificate in {} expired at {until}", file.display())]
    Expired {
        /// Which file.
        file: PathBuf,
        /// Its last moment.
        until: jiff::Timestamp,
    },
    /// The certificate is not valid yet.
    #[error("the certificate in {} is not valid before {from}; is this machine's clock right?", file.display())]
    NotYetValid {
        /// Which file.
        file: PathBuf,
        /// Its first moment.
        from: jiff::Timestamp,
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

/// A configuration in force, and when its own certificate is valid.
#[derive(Debug)]
struct Live<C> {
    config: Arc<C>,
    leaf: Option<Validity>,
}

/// A configuration that was read again and is not in force yet.
#[must_use = "what was read is in force only once it is taken"]
pub struct Renewal<'a>(Box<dyn FnOnce() + 'a>);

impl Renewal<'_> {
    /// Puts it in force: the next handshake uses it.
    pub fn take(self) {
        (self.0)();
    }
}

/// Refuses what is outside its dates, if what is in force is not, and the dates matter.
fn renewal<'a, C>(
    live: &'a ArcSwap<Live<C>>,
    read: Live<C>,
    file: Option<&Path>,
    dates: CertificateDates,
) -> Result<Renewal<'a>, TlsError> {
    let file = file.unwrap_or(Path::new(""));
    let fault = |leaf: Option<Validity>| leaf.and_then(|leaf| leaf.fault(file, dates::now()));
    if dates == CertificateDates::Refuse
        && let Some(found) = fault(read.leaf)
        && fault(live.load().leaf).is_none()
    {
        return Err(found);
    }
    Ok(Renewal(Box::new(move || live.store(Arc::new(read)))))
}

/// What the dates of one file's certificates say.
#[derive(Debug)]
pub struct DateFault {
    /// What is wrong.
    pub error: TlsError,
    /// Whether peers see this very certificate as ours. Others are an issuer's: only some peers mind.
    pub own: bool,
}

/// The certificates of these files that are outside their dates now; files that cannot be read have none.
///
/// Each file says whether it is our own certificate or a bundle of authorities.
pub fn date_faults<'a>(files: impl IntoIterator<Item = (&'a Path, Role)>) -> Vec<DateFault> {
    let now = dates::now();
    let mut faults = Vec::new();
    for (file, role) in files {
        let chain = pem::chain(file).unwrap_or_default();
        for (at, certificate) in chain.iter().enumerate() {
            let own = role == Role::Own && at == 0;
            let error = dates::validity(certificate).and_then(|found| found.fault(file, now));
            faults.extend(error.map(|error| DateFault { error, own }));
        }
    }
    faults
}

/// What a file of certificates is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Our own certificate, with its chain.
    Own,
    /// Authorities that we trust.
    Authority,
}

/// The client side: certificate, key and optional client CA, reloadable.
#[derive(Debug)]
pub struct ServerSide {
    files: config::ServerTls,
    live: ArcSwap<Live<ServerConfig>>,
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

    /// The files with certificates of these settings.
    pub fn certificates(files: &config::ServerTls) -> impl Iterator<Item = (&Path, Role)> {
        let ca = files.client_ca.as_deref().map(|ca| (ca, Role::Authority));
        std::iter::once((files.cert.as_path(), Role::Own)).chain(ca)
    }

    /// Everything that is wrong with the files, where [`ServerSide::load`] stops at the first.
    pub fn faults(files: &config::ServerTls) -> Vec<TlsError> {
        let key = pem::certified_key(&files.cert, &files.key, &PROVIDER).err();
        let ca = files.client_ca.as_deref().and_then(|ca| roots(ca).err());
        key.into_iter().chain(ca).collect()
    }

    /// Reads the files again. Connections that exist stay as they are; the next handshake after
    /// [`Renewal::take`] uses what was read.
    ///
    /// # Errors
    /// As [`ServerSide::load`], or the new certificate is outside its dates and the one in force is not.
    pub fn read_again(&self, dates: CertificateDates) -> Result<Renewal<'_>, TlsError> {
        renewal(&self.live, server_config(&self.files)?, Some(&self.files.cert), dates)
    }

    /// The configuration for the next handshake: `TlsAcceptor::from(side.config())`.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.live.load().config)
    }
}

fn server_config(files: &config::ServerTls) -> Result<Live<ServerConfig>, TlsError> {
    let certified = pem::certified_key(&files.cert, &files.key, &PROVIDER)?;
    let leaf = leaf(&certified);
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
    Ok(Live { config: Arc::new(made), leaf })
}

/// The Redis side: whom to trust, and our own certificate where Redis asks for one; reloadable.
#[derive(Debug)]
pub struct UpstreamSide {
    files: config::UpstreamTls,
    live: ArcSwap<Live<ClientConfig>>,
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

    /// The files with certificates of these settings.
    pub fn certificates(files: &config::UpstreamTls) -> impl Iterator<Item = (&Path, Role)> {
        let own = files.client.as_ref().map(|(cert, _)| (cert.as_path(), Role::Own));
        std::iter::once((files.ca.as_path(), Role::Authority)).chain(own)
    }

    /// Everything that is wrong with the files, where [`UpstreamSide::load`] stops at the first.
    pub fn faults(files: &config::UpstreamTls) -> Vec<TlsError> {
        let ca = roots(&files.ca).err();
        let key = files.client.as_ref().and_then(|(cert, key)| pem::certified_key(cert, key, &PROVIDER).err());
        ca.into_iter().chain(key).collect()
    }

    /// Reads the files again; the next connection after [`Renewal::take`] uses what was read.
    ///
    /// # Errors
    /// As [`UpstreamSide::load`], or the new certificate is outside its dates and the one in force is not.
    pub fn read_again(&self, dates: CertificateDates) -> Result<Renewal<'_>, TlsError> {
        let own = self.files.client.as_ref().map(|(cert, _)| cert.as_path());
        renewal(&self.live, client_config(&self.files)?, own, dates)
    }

    /// The configuration for the next connection.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.live.load().config)
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

fn client_config(files: &config::UpstreamTls) -> Result<Live<ClientConfig>, TlsError> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(&files.ca)?, provider()).build().map_err(set_up)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(set_up)?
        .with_webpki_verifier(verifier);
    let Some((cert, key)) = &files.client else {
        return Ok(Live { config: Arc::new(builder.with_no_client_auth()), leaf: None });
    };
    let certified = pem::certified_key(cert, key, &PROVIDER)?;
    let leaf = leaf(&certified);
    let config = builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    Ok(Live { config: Arc::new(config), leaf })
}

fn leaf(certified: &CertifiedKey) -> Option<Validity> {
    certified.cert.first().and_then(|leaf| dates::validity(leaf))
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
