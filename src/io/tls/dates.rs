//! When certificates are valid, and which form they have.
//!
//! Reads two fields of X.509 and nothing else; trust is the library's business. Invariant: damaged
//! bytes give `None`, and cost no more than their length.

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{TlsError, pem};
use crate::io::clock;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The first and the last moment at which a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    from: Timestamp,
    until: Timestamp,
}

impl Validity {
    /// What is wrong with these dates at `now`; `file` is where the certificate stands.
    pub(super) fn fault(self, file: &Path, now: Timestamp) -> Option<TlsError> {
        let file = file.to_owned();
        if now > self.until {
            return Some(TlsError::Expired { file, until: self.until });
        }
        (now < self.from).then_some(TlsError::NotYetValid { file, from: self.from })
    }
}

/// The wall clock; the epoch if it cannot be told.
pub(super) fn now() -> Timestamp {
    let millis = i64::try_from(clock::unix_millis()).unwrap_or_default();
    Timestamp::from_millisecond(millis).unwrap_or_default()
}

/// When the first certificate of this file expires; `None` when none says so in a way that is understood.
///
/// # Errors
/// The file cannot be read.
pub fn expiry(file: &Path) -> Result<Option<Timestamp>, TlsError> {
    Ok(pem::chain(file)?.iter().filter_map(|certificate| validity(certificate)).map(|found| found.until).min())
}

/// Whether this is an X.509 certificate without the field for its version: version 1, which has no
/// extensions and so no names that a client could verify.
pub(super) fn is_version_1(der: &[u8]) -> bool {
    validity(der).is_some() && tbs(der).is_some_and(|tbs| tbs.first() != Some(&VERSION))
}

fn tbs(der: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = take(der, Some(SEQUENCE))?;
    take(certificate, Some(SEQUENCE)).map(|(tbs, _)| tbs)
}

/// `Certificate { tbs { [version], serial, algorithm, issuer, validity { notBefore, notAfter }, … }, … }`
pub(super) fn validity(der: &[u8]) -> Option<Validity> {
    let mut tbs = tbs(der)?;
    if tbs.first() == Some(&VERSION) {
        tbs = take(tbs, None)?.1;
    }
    for _ in ["serial", "algorithm", "issuer"] {
        tbs = take(tbs, None)?.1;
    }
    let (validity, _) = take(tbs, Some(SEQUENCE))?;
    let (from, rest) = take(validity, None)?;
    let until = take(rest, None)?.0;
    Some(Validity { from: time(*validity.first()?, from)?, until: time(*rest.first()?, until)? })
}

/// The content of the first element, and what stands behind it.
fn take(der: &[u8], tag: Option<u8>) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    if tag.is_some_and(|tag| tag != *found) {
        return None;
    }
    let (first, mut rest) = rest.split_first()?;
    let mut length = usize::from(*first);
    if length >= 0x80 {
        let (bytes, behind) = rest.split_at_checked(length - 0x80)?;
        if bytes.is_empty() || bytes.len() > 4 {
            return None;
        }
        length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest = behind;
    }
    rest.split_at_checked(length)
}

/// `YYMMDDHHMMSSZ` (years from 1950) or `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let text = match tag {
        UTC_TIME if text.get(..2)?.parse::<u8>().ok()? < 50 => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let at = DateTime::strptime("%Y%m%d%H%M%S", &text).ok()?;
    at.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_forms() {
        for (year, wanted) in [(2031, "2031-05-06T00:00:00Z"), (2061, "2061-05-06T00:00:00Z")] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["x".into()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 5, 6);
            let der = params.self_signed(&key).unwrap().der().to_vec();
            assert_eq!(validity(&der).unwrap().until.to_string(), wanted);
            assert!(!is_version_1(&der));
            for cut in 0..der.len().min(200) {
                validity(&der[..cut]);
                is_version_1(&der[..cut]);
            }
        }
    }
}
