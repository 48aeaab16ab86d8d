//! From an error of the system or of TLS to [`Trouble`].
//!
//! It looks at one error and knows nothing else. What it does not know stays an error with its words.

use std::io;

use rustls::{CertificateError, Error as TlsError};

use super::LinkError;
use crate::topology::Trouble;
use crate::topology::trouble::bounded;

/// The first bytes of a TLS record that carries an alert.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// No connection could be made.
pub(super) fn of_connect(error: io::Error) -> LinkError {
    use io::ErrorKind as Kind;
    // Linux: EPERM, ENFILE, EMFILE, EACCES, ENOMEM, EADDRNOTAVAIL, ENOBUFS.
    let local = error.raw_os_error().is_some_and(|code| [1, 23, 24, 13, 12, 99, 105].contains(&code));
    match error.kind() {
        Kind::ConnectionRefused | Kind::ConnectionReset | Kind::ConnectionAborted => error.into(),
        _ if local => LinkError::Node(Trouble::Local(bounded(&error.to_string()))),
        _ => LinkError::Node(Trouble::Unreachable(bounded(&error.to_string()))),
    }
}

/// TLS has failed, now or when the node was heard first; `None`: the error is another.
pub(super) fn of_tls(error: &io::Error) -> Option<Trouble> {
    let error = error.get_ref()?.downcast_ref::<TlsError>()?;
    Some(match error {
        TlsError::InvalidMessage(_) => Trouble::NotTls,
        TlsError::InvalidCertificate(why) => match why {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Trouble::Expired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Trouble::WrongName,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Trouble::Untrusted,
            other => Trouble::Tls(bounded(&other.to_string())),
        },
        other => Trouble::Tls(bounded(&other.to_string())),
    })
}

/// What is no RESP may be TLS' answer to our plaintext.
pub(super) fn of_bytes(bytes: &[u8]) -> Option<Trouble> {
    bytes.starts_with(&TLS_ALERT).then_some(Trouble::SpeaksTls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(error: TlsError) -> Option<&'static str> {
        of_tls(&io::Error::new(io::ErrorKind::InvalidData, error)).map(|trouble| trouble.kind())
    }

    #[test]
    fn each_kind_of_trouble_has_its_name() {
        let certificate = |why| tls(TlsError::InvalidCertificate(why));
        assert_eq!(certificate(CertificateError::Expired), Some("expired"));
        assert_eq!(certificate(CertificateError::UnknownIssuer), Some("untrusted"));
        assert_eq!(certificate(CertificateError::NotValidForName), Some("wrong-name"));
        assert_eq!(certificate(CertificateError::Revoked), Some("tls"));
        assert_eq!(tls(TlsError::InvalidMessage(rustls::InvalidMessage::InvalidContentType)), Some("not-tls"));
        assert_eq!(of_tls(&io::Error::other("something else")), None);
        let kind = |code| match of_connect(io::Error::from_raw_os_error(code)) {
            LinkError::Node(trouble) => trouble.kind(),
            LinkError::Refused => "refused",
            _ => "other",
        };
        assert_eq!(kind(113), "unreachable");
        assert_eq!(kind(101), "unreachable");
        assert_eq!(kind(110), "unreachable");
        assert_eq!(kind(24), "local");
        assert_eq!(kind(99), "local");
        assert_eq!(kind(111), "refused");
    }
}
