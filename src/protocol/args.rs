//! The arguments of one whole array-form command.
//!
//! For commands that [`super::request::RequestFramer`] has framed. On anything else the iterator stops early; it never
//! panics and reads nothing twice.

use super::decimal;

/// Iterates the arguments of `command`, its name first.
pub fn args(command: &[u8]) -> Args<'_> {
    match decimal::header(command) {
        Some((count, used)) if command.first() == Some(&b'*') => {
            Args { rest: command.get(used..).unwrap_or_default(), left: count }
        }
        _ => Args { rest: &[], left: 0 },
    }
}

/// See [`args`].
#[derive(Clone, Debug)]
pub struct Args<'a> {
    rest: &'a [u8],
    left: u64,
}

impl<'a> Iterator for Args<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 || self.rest.first() != Some(&b'$') {
            return None;
        }
        let (length, used) = decimal::header(self.rest)?;
        let end = used.checked_add(usize::try_from(length).ok()?)?;
        let argument = self.rest.get(used..end)?;
        self.rest = self.rest.get(end..)?.strip_prefix(b"\r\n")?;
        self.left -= 1;
        Some(argument)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_comes_in_order() {
        let command = b"*4\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\na\r\nb\r\n$1\r\n$\r\n";
        let found: Vec<_> = args(command).collect();
        assert_eq!(found, [&b"SET"[..], b"", b"a\r\nb", b"$"]);
    }

    #[test]
    fn what_is_malformed_ends_the_iteration() {
        let command = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        for cut in 0..command.len() {
            assert!(args(&command[..cut]).count() < 2);
        }
        for bad in [
            &b"$3\r\nGET\r\n"[..],
            b"*-1\r\n",
            b"*1\r\n:1\r\n",
            b"*1\r\n$99\r\nab\r\n",
            b"*1\r\n$1\r\nabc",
            b"PING\r\n",
        ] {
            assert_eq!(args(bad).count(), 0);
        }
    }
}
