//! How the admin API is guarded on the process' side, and how operators reach it and prove who they are on theirs.
//!
//! Nouns and their reading; certificates are `io::tls`' business. Invariant: an API that other machines can reach asks
//! for a certificate, a token, or both; a `Config` without that does not exist.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::build::password;
use super::{Admin, Secret, value};

/// Shortest token: what can be guessed is no secret.
const MIN_TOKEN_BYTES: usize = 16;

/// What operators must show where the admin API is served over TCP; it then speaks TLS, with the certificate that
/// clients see.
#[derive(Clone, Debug)]
pub struct AdminGuard {
    /// A certificate that this CA signed.
    pub client_ca: Option<PathBuf>,
    /// A secret.
    pub token: Option<Secret>,
}

/// Where a process is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// A loopback address, without TLS.
    Tcp(SocketAddr),
    /// Any host, with TLS.
    Tls {
        /// Name or address; its certificate must have it.
        host: String,
        /// TCP port.
        port: u16,
    },
}

/// What an operator shows to processes that are reached with TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminLogin {
    /// Who signed their certificates.
    pub ca: Option<PathBuf>,
    /// Certificate chain and key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// File with the token.
    pub token_file: Option<PathBuf>,
}

impl From<Admin> for AdminAddress {
    fn from(admin: Admin) -> Self {
        match admin {
            Admin::Unix(path) => Self::Unix(path),
            Admin::Tcp(address) => Self::Tcp(address),
        }
    }
}

impl std::fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
            Self::Tls { host, port } if host.contains(':') => write!(f, "https://[{host}]:{port}"),
            Self::Tls { host, port } => write!(f, "https://{host}:{port}"),
        }
    }
}

/// `unix:PATH`, a loopback `IP:PORT`, or `https://HOST:PORT`.
///
/// # Errors
/// Says what is expected.
pub fn admin_address(text: &str) -> Result<AdminAddress, String> {
    if let Some(address) = text.strip_prefix("https://") {
        let wrong = |_| format!("expected https://HOST:PORT, such as https://redis-a:9380, not {text:?}");
        return value::address(address.trim_end_matches('/'))
            .map(|(host, port)| AdminAddress::Tls { host, port })
            .map_err(wrong);
    }
    let plain = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    match value::admin(plain) {
        Ok(Admin::Tcp(address)) if !address.ip().is_loopback() => {
            Err(format!("{address} is not a loopback address: beyond this machine it is https://{address}"))
        }
        Ok(admin) => Ok(admin.into()),
        Err(_) => Err(format!(
            "expected unix:PATH, a loopback address such as 127.0.0.1:9380, or https://HOST:PORT, not {text:?}"
        )),
    }
}

/// The token in a file; one newline at its end is dropped.
///
/// # Errors
/// It cannot be read, or it is too short to be a secret.
pub fn admin_token(file: &Path) -> Result<Secret, String> {
    let token = password(file)?;
    if token.expose().len() < MIN_TOKEN_BYTES || !token.expose().iter().all(u8::is_ascii_graphic) {
        return Err(format!(
            "{} holds no token: at least {MIN_TOKEN_BYTES} letters, digits or signs without blanks, such as `openssl rand \
             -hex 32` makes",
            file.display()
        ));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_this_machine_only_with_tls() {
        for text in ["unix:/run/a.sock", "127.0.0.1:9380", "https://redis-a:9380", "https://[::1]:9380"] {
            assert_eq!(admin_address(text).unwrap().to_string(), text);
        }
        assert!(admin_address("10.0.0.1:9380").unwrap_err().contains("https://10.0.0.1:9380"));
        assert!(admin_address("https://redis-a").unwrap_err().contains("https://HOST:PORT"));
        assert!(admin_address("redis-a").unwrap_err().contains("expected unix:PATH"));
    }

    #[test]
    fn a_token_that_can_be_guessed_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "short\n").unwrap();
        assert!(admin_token(file.path()).unwrap_err().contains("holds no token"));
        std::fs::write(file.path(), "0123456789abcdef\n").unwrap();
        assert_eq!(admin_token(file.path()).unwrap().expose(), b"0123456789abcdef");
    }
}
