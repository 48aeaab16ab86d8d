//! Tells one primary process from another, in numbers that clients keep: cursors and client ids.
//!
//! Both mean something only to the process that gave them. A client gets them with a mark of that process above the
//! bits that the number itself uses, below 2^53 in all, so that clients which keep numbers in a double lose no digit.
//! What a marked number means is decided in `scan.rs` and `naming.rs`.

/// A node and a hash of its process' identity: 20 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark(u32);

/// Where the mark of a cursor begins; it has 13 bits, the first of them set.
const CURSOR: u32 = 40;
/// Where the mark of an id begins; it has 21 bits, the first of them set.
const ID: u32 = 32;

impl Mark {
    /// From the node's number, which two processes at a time never share, and the process' identity.
    pub fn new(node: u8, process: &[u8]) -> Self {
        // FNV-1a; 19 bits of it.
        let hash =
            process.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        let folded = (hash ^ (hash >> 16)) & 0x7ffff;
        Self((u32::from(node & 1) << 19) | folded)
    }

    /// The 13 bits that a cursor has room for.
    fn short(self) -> u64 {
        u64::from(0x1000 | (self.0 >> 19 << 11) | (self.0 & 0x7ff))
    }

    /// `cursor` of this process, as the client gets it. 0 (the end), and what has no room for a mark, stay as they are.
    pub(super) fn cursor(self, cursor: u64) -> u64 {
        let fits = cursor != 0 && cursor >> CURSOR == 0;
        if fits { cursor | (self.short() << CURSOR) } else { cursor }
    }

    /// What to ask the process marked `mark` instead of `cursor`: another's begins again at 0.
    pub(super) fn unmark_cursor(cursor: u64, mark: Option<Self>) -> u64 {
        let found = cursor >> CURSOR;
        if !(0x1000..=0x1fff).contains(&found) {
            return cursor;
        }
        let own = mark.is_some_and(|mark| mark.short() == found);
        if own { cursor & ((1 << CURSOR) - 1) } else { 0 }
    }

    /// The client id `actual` of this process, as clients get it.
    pub fn id(self, actual: u64) -> u64 {
        let fits = actual != 0 && actual >> ID == 0;
        if fits { actual | (u64::from(0x10_0000 | self.0) << ID) } else { actual }
    }

    /// Which process gave an id, and which id it is there; `None` for an id without a mark.
    pub fn of_id(told: u64) -> Option<(Self, u64)> {
        let found = u32::try_from(told >> ID).ok().filter(|found| (0x10_0000..=0x1f_ffff).contains(found))?;
        Some((Self(found & 0xf_ffff), told & ((1 << ID) - 1)))
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
                let marked = mark.cursor(cursor);
                assert!(marked != cursor && marked < 1 << 53);
                assert_eq!(Mark::unmark_cursor(marked, Some(mark)), cursor);
                assert_eq!(Mark::unmark_cursor(marked, Some(Mark::new(node ^ 1, process))), 0);
                assert_eq!(Mark::unmark_cursor(marked, None), 0);
            }
            let untouched = (mark.cursor(0), Mark::unmark_cursor(0, Some(mark)), Mark::unmark_cursor(99, Some(mark)));
            assert_eq!(untouched, (0, 0, 99));
        }
    }

    #[test]
    fn an_id_says_which_process_gave_it() {
        let marks = [Mark::new(0, b"aaaa"), Mark::new(1, b"aaaa"), Mark::new(0, b"bbbb")];
        for (at, mark) in marks.iter().enumerate() {
            for id in [1, 57, (1 << 32) - 1] {
                let told = mark.id(id);
                assert!((1 << 52..1 << 53).contains(&told));
                assert_eq!(Mark::of_id(told), Some((*mark, id)));
                assert!(marks.iter().enumerate().all(|(other, found)| (found.id(id) == told) == (at == other)));
            }
        }
        for plain in [0, 1, 57, 1 << 32, 1 << 53, u64::MAX] {
            assert_eq!(Mark::of_id(plain), None);
        }
        assert_eq!(marks[0].id(1 << 32), 1 << 32, "no room for a mark");
    }
}
