//! How much a session may have under way on a lane, and how it leaves one whose neighbours would wait for it.
//!
//! What counts is the bytes that are expected to come, not the commands: 128 unanswered GETs are little for 100-byte
//! values and 128 MB for large ones. The size of the next reply is estimated by those before it. The estimate rises at
//! once and falls slowly, and a client that has said nothing yet begins with a large one.
//!
//! If the replies turn out to be large, or the client reads slowly, the session *sheds* what it has under way: it leaves
//! the lane, which drops the rest of its replies, and asks again on an upstream of its own. Only reads are shed, and only
//! if nothing stands behind them that may have run: otherwise a read would see what was written after it.

use super::entry::Entry;
use super::{Home, Phase, Session};

/// Bytes of replies that one session may expect from a lane at a time.
const LANE_BYTES: usize = 1024 * 1024;
/// The estimate for a client that has had no reply yet.
const UNPROVEN: usize = 32 * 1024;
/// Commands of one session on a lane, however small their replies are.
const MOST: usize = 128;
/// The estimate at and below which a session has [`MOST`].
const SMALL: usize = LANE_BYTES / MOST;

/// The estimate of one session.
pub(super) struct Credit {
    /// Bytes that the next reply is expected to have.
    expected: usize,
    /// The session is leaving its lane on its own account, which is no loss.
    shedding: bool,
}

impl Default for Credit {
    fn default() -> Self {
        Self { expected: UNPROVEN, shedding: false }
    }
}

impl Credit {
    /// A reply had so many bytes.
    pub(super) fn note(&mut self, bytes: usize) {
        self.expected = bytes.max(self.expected - self.expected / 4);
    }

    /// `count` replies had so many bytes together.
    pub(super) fn note_many(&mut self, bytes: usize, count: usize) {
        let each = bytes / count.max(1);
        if self.expected <= SMALL && each <= SMALL {
            return;
        }
        (0..count.min(32)).for_each(|_| self.note(each));
    }

    fn commands(&self) -> usize {
        (LANE_BYTES / self.expected.max(1)).clamp(1, MOST)
    }

    /// The upstream is left; says whether that was the session's own decision.
    pub(super) fn take_shedding(&mut self) -> bool {
        std::mem::take(&mut self.shedding)
    }
}

impl Session {
    /// Bytes for the lane now: whole commands, as many as the session has credit for. None if it is about to leave.
    pub fn to_send_on_lane(&self) -> &[u8] {
        let free = self.credit.commands().saturating_sub(self.pipeline.in_flight());
        if free == 0 || self.moves_much() {
            return &[];
        }
        let bytes = self.to_send(false);
        bytes.get(..self.pipeline.bytes_of_next(free)).unwrap_or(bytes)
    }

    /// Everything under way can be asked again on another upstream without a difference that the client could see.
    pub(super) fn may_shed(&self) -> bool {
        let reads =
            |entry: &Entry| entry.may_repeat() && !entry.scan && entry.silent.is_none() && entry.answer.is_none();
        let open = matches!(self.phase, Phase::Open) && self.home() == Home::Lane && !self.assembly.half_delivered();
        open && self.pipeline.unanswered() == self.pipeline.in_flight() && self.pipeline.in_flight_all(reads)
    }

    /// The session has to leave its lane, and need not wait for what the lane owes it.
    pub fn sheds(&self) -> bool {
        self.moves_much() && self.pipeline.in_flight() > 0 && self.may_shed()
    }

    /// The session goes on with an upstream of its own; to be followed by [`Session::detach`].
    pub fn shed(&mut self) {
        self.credit.shedding = true;
        self.leave_at_once();
    }

    /// Replies that the client has got so far, in all.
    pub fn answered(&self) -> u64 {
        self.answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credit_follows_the_size_of_replies() {
        let mut credit = Credit::default();
        assert_eq!(credit.commands(), 32, "nothing is known yet");
        credit.note_many(100 * 20, 20);
        assert_eq!(credit.commands(), MOST);
        credit.note(1_000_000);
        assert_eq!(credit.commands(), 1, "one large reply is enough");
        (0..4).for_each(|_| credit.note(10));
        assert_eq!(credit.commands(), 3, "and it is remembered for a while");
        credit.note_many(64_000 * 40, 40);
        assert_eq!(credit.commands(), 16);
    }
}
