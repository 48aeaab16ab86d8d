//! Canonical decimals, as RESP's counts and lengths are written: no sign but a leading `-`, no leading zero, no `-0`.
//!
//! Redis' `string2ll` accepts exactly these. The invariant: a [`Decimal`] never overflows and takes at most 20 bytes.

/// A decimal that arrives byte by byte.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Decimal {
    value: u64,
    digits: u8,
    negative: bool,
}

impl Decimal {
    /// Takes one byte; false when the number can no longer be canonical or leaves the range of `i64`.
    pub(super) fn push(&mut self, byte: u8) -> bool {
        if byte == b'-' && self.digits == 0 && !self.negative {
            self.negative = true;
            return true;
        }
        let digit = byte.wrapping_sub(b'0');
        let leading_zero = self.digits > 0 && self.value == 0;
        if digit > 9 || leading_zero || (digit == 0 && self.negative && self.digits == 0) {
            return false;
        }
        // 18 digits always fit; a 19th is checked against i64::MAX (i64::MIN is refused: nobody sends it in earnest).
        let Some(value) = self.value.checked_mul(10).and_then(|v| v.checked_add(u64::from(digit))) else {
            return false;
        };
        if value > i64::MAX as u64 {
            return false;
        }
        self.value = value;
        self.digits += 1;
        true
    }

    /// The number, once its line has ended; `None` when no digit came.
    pub(super) fn finish(self) -> Option<i64> {
        let value = i64::try_from(self.value).ok()?;
        (self.digits > 0).then_some(if self.negative { -value } else { value })
    }
}

/// The quick way through a header line that lies whole in `line` (type byte, up to 18 digits, CRLF): the number, which is
/// not negative, and the bytes of the line. `None` means "go byte by byte", not "wrong".
#[inline]
pub(super) fn header(line: &[u8]) -> Option<(u64, usize)> {
    let first = line.get(1)?.wrapping_sub(b'0');
    if first > 9 {
        return None;
    }
    let mut value = u64::from(first);
    let mut at = 2;
    loop {
        let byte = *line.get(at)?;
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let crlf = byte == b'\r' && *line.get(at + 1)? == b'\n';
            return crlf.then_some((value, at + 2));
        }
        if value == 0 || at > 18 {
            return None;
        }
        value = value * 10 + u64::from(digit);
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(text: &[u8]) -> Option<i64> {
        let mut decimal = Decimal::default();
        text.iter().all(|&b| decimal.push(b)).then(|| decimal.finish()).flatten()
    }

    #[test]
    fn only_canonical_decimals_are_numbers() {
        for good in ["0", "1", "-1", "10", "9223372036854775807", "-9223372036854775807", "-10", "16384"] {
            assert_eq!(slow(good.as_bytes()), good.parse().ok(), "{good}");
        }
        for bad in [
            "",
            "-",
            "-0",
            "00",
            "01",
            "+1",
            " 1",
            "1 ",
            "1a",
            "--1",
            "1-",
            "9223372036854775808",
            "99999999999999999999",
        ] {
            assert_eq!(slow(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn the_quick_way_agrees_with_the_slow_one() {
        for text in [
            "0",
            "7",
            "10",
            "123456789",
            "01",
            "-1",
            "",
            "1x",
            "1234567890123",
            "999999999999999999",
            "9223372036854775807",
            "99999999999999999999",
        ] {
            let line = format!("${text}\r\n");
            if let Some((value, used)) = header(line.as_bytes()) {
                assert_eq!(slow(text.as_bytes()), i64::try_from(value).ok(), "{text}");
                assert_eq!(used, line.len());
            }
            for cut in 0..line.len() {
                assert_eq!(header(&line.as_bytes()[..cut]), None, "{text} cut at {cut}");
            }
        }
        assert_eq!(header(b"*3\r\n$3"), Some((3, 4)));
        assert_eq!(header(b"*3\rx"), None);
        assert_eq!(header(b"*3\n\n"), None);
    }
}
