//! The seal of the pair's channel: HMAC-SHA256 over each message, with a secret that clients of Redis do not have.
//!
//! Pure: bytes in, bytes out. It says who made a message, not when: that is `peers.rs`' business (numbers and
//! challenges). A sealed message is text:
//!
//! ```text
//! 2:<64 hexadecimal digits>:{"v":2,"from":"a-5f0c2d91",…}
//! ```
//!
//! Invariant: nothing of a message is parsed before its seal is verified.

use aws_lc_rs::hmac;

use crate::config::ChannelSecret;

/// What a sealed message begins with.
const MARK: &[u8] = b"2:";
/// Bytes of the code.
const CODE: usize = 32;
/// Length of everything before the text: the mark, the code in hexadecimal digits, and a colon.
const HEAD: usize = MARK.len() + 2 * CODE + 1;
/// What the code covers before the channel's name and the text. It keeps other uses of the secret apart.
const PURPOSE: &[u8] = b"changeover channel 2\n";

/// The keys of a pair.
#[derive(Clone, Debug)]
pub struct Seal {
    channel: String,
    /// The first one signs, all verify. Never empty.
    keys: Vec<hmac::Key>,
}

/// Why a message is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It has no seal.
    #[error("it is not authenticated")]
    Unsealed,
    /// No secret of ours made its seal.
    #[error("it was made with another secret, or changed")]
    Forged,
}

impl Seal {
    /// With the secrets of a file, for one channel.
    pub fn new(secret: &ChannelSecret, channel: &str) -> Self {
        let key = |secret: &crate::config::Secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
        Self { channel: channel.to_owned(), keys: secret.secrets.iter().map(key).collect() }
    }

    /// Seals a text with the first secret.
    pub fn close(&self, text: &[u8]) -> Vec<u8> {
        let mut sealed = MARK.to_vec();
        if let Some(key) = self.keys.first() {
            for byte in hmac::sign(key, &self.covered(text)).as_ref() {
                sealed.extend_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
            }
        }
        sealed.push(b':');
        sealed.extend_from_slice(text);
        sealed
    }

    /// The text, if one of the secrets has sealed it.
    ///
    /// # Errors
    /// See [`Broken`].
    pub fn open<'a>(&self, sealed: &'a [u8]) -> Result<&'a [u8], Broken> {
        let rest = sealed.strip_prefix(MARK).ok_or(Broken::Unsealed)?;
        let (Some(digits), Some(b':'), Some(text)) = (rest.get(..2 * CODE), rest.get(2 * CODE), sealed.get(HEAD..))
        else {
            return Err(Broken::Forged);
        };
        let code = code(digits).ok_or(Broken::Forged)?;
        let covered = self.covered(text);
        // Compared in constant time.
        let known = self.keys.iter().any(|key| hmac::verify(key, &covered, &code).is_ok());
        if known { Ok(text) } else { Err(Broken::Forged) }
    }

    fn covered(&self, text: &[u8]) -> Vec<u8> {
        [PURPOSE, self.channel.as_bytes(), b"\n", text].concat()
    }
}

/// A hexadecimal digit, in lower case.
fn digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + (value - 10) }
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Only one spelling of each code is taken, so that a changed letter is a changed message.
fn code(digits: &[u8]) -> Option<[u8; CODE]> {
    let mut code = [0_u8; CODE];
    for (byte, pair) in code.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = (value(*high)? << 4) | value(*low)?;
    }
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn seal(secrets: &[&str], channel: &str) -> Seal {
        let secrets = secrets.iter().map(|secret| Secret::new(secret.repeat(32).into_bytes())).collect();
        Seal::new(&ChannelSecret { file: "none".into(), secrets }, channel)
    }

    const TEXT: &[u8] = br#"{"v":2,"from":"a-1","seq":1,"kind":"leave"}"#;

    #[test]
    fn what_was_sealed_is_opened() {
        let seal = seal(&["a"], "c");
        assert_eq!(seal.open(&seal.close(TEXT)), Ok(TEXT));
        assert_eq!(seal.open(&seal.close(b"")), Ok(&b""[..]));
    }

    #[test]
    fn a_message_with_any_bit_flipped_is_refused() {
        let seal = seal(&["a", "b"], "c");
        let sealed = seal.close(TEXT);
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                assert!(seal.open(&changed).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_message_that_is_cut_longer_or_of_other_bytes_is_refused() {
        let seal = seal(&["a"], "c");
        let sealed = seal.close(TEXT);
        for length in 0..sealed.len() {
            assert!(seal.open(&sealed[..length]).is_err(), "{length} bytes");
            assert!(seal.open(&sealed[length + 1..]).is_err(), "without the first {}", length + 1);
        }
        assert!(seal.open(&[&sealed[..], b" "].concat()).is_err());
        assert_eq!(seal.open(TEXT), Err(Broken::Unsealed));
        assert_eq!(seal.open(&sealed.to_ascii_uppercase()), Err(Broken::Forged));
    }

    #[test]
    fn another_secret_and_another_channel_open_nothing() {
        let sealed = seal(&["a"], "c").close(TEXT);
        assert_eq!(seal(&["b"], "c").open(&sealed), Err(Broken::Forged));
        assert_eq!(seal(&["a"], "d").open(&sealed), Err(Broken::Forged));
    }

    #[test]
    fn a_secret_is_rotated_without_a_gap() {
        // Old on both; then new as the second one; then new as the first one; then new alone. At each step both understand.
        let steps: [&[&str]; 4] = [&["old"], &["old", "new"], &["new", "old"], &["new"]];
        for (before, after) in steps.iter().zip(&steps[1..]) {
            let (before, after) = (seal(before, "c"), seal(after, "c"));
            for (from, to) in [(&before, &after), (&after, &before)] {
                assert_eq!(to.open(&from.close(TEXT)), Ok(TEXT));
            }
        }
    }
}
