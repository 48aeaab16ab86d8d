//! SCAN across a change: a cursor means something only to the process that gave it.
//!
//! Continued on another node it would silently miss keys (the order depends on a per-process hash seed). So every
//! cursor that a client gets carries a mark of the process that gave it, above the bits that a cursor uses. A marked
//! cursor that comes back is unmarked for its own process, and begins again at 0 on any other: SCAN promises every
//! element that is there all the time at least once, and begun again it still does.
//!
//! Cursors inside MULTI, inside scripts, and of 2^40 or more go unmarked. Marked ones stay below 2^53, so that clients
//! which keep them in a double do not lose digits.

use bytes::BytesMut;

use crate::protocol::args::args;
use crate::protocol::encode;

use super::{Mark, Session};

/// The command with another cursor in it; `None` when it has none, or the cursor stays.
fn with_cursor(command: &[u8], change: impl FnOnce(u64) -> u64) -> Option<BytesMut> {
    let mut words: Vec<&[u8]> = args(command).collect();
    let at = if words.first()?.eq_ignore_ascii_case(b"SCAN") { 1 } else { 2 };
    let cursor: u64 = std::str::from_utf8(words.get(at)?).ok()?.parse().ok()?;
    let changed = change(cursor);
    let text = changed.to_string();
    *words.get_mut(at)? = text.as_bytes();
    let mut encoded = BytesMut::new();
    (changed != cursor).then(|| encode::command(&mut encoded, &words)).map(|()| encoded)
}

/// A reply of the SCAN family: `*2`, the cursor, the elements. Returns the marked beginning, and how many bytes of the
/// reply it replaces.
fn marked(reply: &[u8], mark: Mark) -> Option<(BytesMut, usize)> {
    let rest = reply.strip_prefix(b"*2\r\n$")?;
    let line = memchr::memchr(b'\r', rest)?;
    let digits: usize = std::str::from_utf8(rest.get(..line)?).ok()?.parse().ok()?;
    let start = line + 2;
    let cursor: u64 = std::str::from_utf8(rest.get(start..start.checked_add(digits)?)?).ok()?.parse().ok()?;
    let mut head = BytesMut::new();
    encode::array(&mut head, 2);
    encode::bulk(&mut head, mark.cursor(cursor).to_string().as_bytes());
    Some((head, 5 + start + digits + 2))
}

impl Session {
    /// The primary process is this one now (`None`: there is no primary). What waits with a cursor of another begins
    /// again.
    pub fn follow(&mut self, mark: Option<Mark>) {
        if self.mark != mark {
            self.mark = mark;
            self.restart_scans();
        }
    }

    /// Cursors in commands that wait are void: their upstream is gone.
    pub(super) fn restart_scans(&mut self) {
        self.pipeline.rewrite_waiting(|entry, command| {
            let scan = entry.scan && entry.answer.is_none();
            scan.then(|| with_cursor(command, |_| 0)).flatten()
        });
    }

    /// A command of the SCAN family has been taken: it is asked with the cursor that its primary understands.
    pub(super) fn unmark_cursor(&mut self) {
        let mark = self.mark;
        if let Some(command) = with_cursor(self.pipeline.unfinished(), |cursor| Mark::unmark_cursor(cursor, mark)) {
            self.pipeline.drop_unfinished();
            self.pipeline.append(&command);
        }
    }

    /// Passes (the beginning of) a reply on, with its cursor marked if it is one of a SCAN.
    pub(super) fn pass(&self, reply: &[u8], scan: bool, out: &mut BytesMut) {
        let marked = self.upstream_mark.filter(|_| scan).and_then(|mark| marked(reply, mark));
        match marked {
            Some((head, replaced)) => {
                out.extend_from_slice(&head);
                out.extend_from_slice(reply.get(replaced..).unwrap_or_default());
            }
            None => out.extend_from_slice(reply),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_cursor_of_a_reply_changes() {
        let mark = Mark::new(0, b"x");
        let reply = b"*2\r\n$2\r\n17\r\n*1\r\n$1\r\na\r\n";
        let (head, replaced) = marked(reply, mark).unwrap();
        let whole = [&head[..], &reply[replaced..]].concat();
        let expected = format!("*2\r\n$16\r\n{}\r\n*1\r\n$1\r\na\r\n", mark.cursor(17));
        assert_eq!(String::from_utf8(whole).unwrap(), expected);
        assert!(marked(b"-ERR no\r\n", mark).is_none());
    }
}
