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

use super::Session;

/// Tells one primary process from another; 13 bits, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u16);

/// Where the mark begins.
const SHIFT: u32 = 40;

impl Mark {
    /// From the node's number, which two processes at a time never share, and the process' identity.
    pub fn new(node: u8, process: &[u8]) -> Self {
        // FNV-1a; 11 bits of it.
        let hash =
            process.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        let folded = u16::try_from((hash ^ (hash >> 16)) & 0x7ff).unwrap_or(0);
        Self(0x1000 | (u16::from(node & 1) << 11) | folded)
    }

    fn on(self, cursor: u64) -> u64 {
        let fits = cursor != 0 && cursor >> SHIFT == 0;
        if fits { cursor | (u64::from(self.0) << SHIFT) } else { cursor }
    }
}

/// What to ask the process marked `mark` instead of `cursor`.
fn unmark(cursor: u64, mark: Option<Mark>) -> u64 {
    let found = cursor >> SHIFT;
    if !(0x1000..=0x1fff).contains(&found) {
        return cursor;
    }
    let own = mark.is_some_and(|mark| u64::from(mark.0) == found);
    if own { cursor & ((1 << SHIFT) - 1) } else { 0 }
}

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
    encode::bulk(&mut head, mark.on(cursor).to_string().as_bytes());
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
        if let Some(command) = with_cursor(self.pipeline.unfinished(), |cursor| unmark(cursor, mark)) {
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
    fn a_mark_comes_back_off_and_fits_into_a_double() {
        for (node, process) in [(0, b"aaaa"), (1, b"aaaa"), (0, b"bbbb")] {
            let mark = Mark::new(node, process);
            for cursor in [1, 17, (1 << 40) - 1] {
                let marked = mark.on(cursor);
                assert!(marked != cursor && marked < 1 << 53);
                assert_eq!(unmark(marked, Some(mark)), cursor);
                assert_eq!(unmark(marked, Some(Mark::new(node ^ 1, process))), 0);
                assert_eq!(unmark(marked, None), 0);
            }
            assert_eq!((mark.on(0), unmark(0, Some(mark)), unmark(99, Some(mark))), (0, 0, 99));
        }
    }

    #[test]
    fn only_the_cursor_of_a_reply_changes() {
        let mark = Mark::new(0, b"x");
        let reply = b"*2\r\n$2\r\n17\r\n*1\r\n$1\r\na\r\n";
        let (head, replaced) = marked(reply, mark).unwrap();
        let whole = [&head[..], &reply[replaced..]].concat();
        let expected = format!("*2\r\n$16\r\n{}\r\n*1\r\n$1\r\na\r\n", mark.on(17));
        assert_eq!(String::from_utf8(whole).unwrap(), expected);
        assert!(marked(b"-ERR no\r\n", mark).is_none());
    }
}
