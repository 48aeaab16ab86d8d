//! Until when certificates are valid.
//!
//! Reads one field of X.509 and nothing else; whom to trust is the library's business. Invariant: damaged bytes give
//! `None`, and cost no more than their length.

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{TlsError, pem};

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When the first certificate of this file expires; `None` when none says so in a way that is understood.
///
/// # Errors
/// The file cannot be read.
pub fn expiry(file: &Path) -> Result<Option<Timestamp>, TlsError> {
    Ok(pem::chain(file)?.iter().filter_map(|certificate| not_after(certificate)).min())
}

/// `Certificate { tbs { [version], serial, algorithm, issuer, validity { notBefore, notAfter }, … }, … }`
fn not_after(der: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = take(der, Some(SEQUENCE))?;
    let (mut tbs, _) = take(certificate, Some(SEQUENCE))?;
    if tbs.first() == Some(&VERSION) {
        tbs = take(tbs, None)?.1;
    }
    for _ in ["serial", "algorithm", "issuer"] {
        tbs = take(tbs, None)?.1;
    }
    let (validity, _) = take(tbs, Some(SEQUENCE))?;
    let (_, rest) = take(validity, None)?;
    let tag = *rest.first()?;
    time(tag, take(rest, None)?.0)
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
            assert_eq!(not_after(&der).unwrap().to_string(), wanted);
            for cut in 0..der.len().min(200) {
                not_after(&der[..cut]);
            }
        }
    }
}
