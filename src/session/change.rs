//! Another upstream: what is sent again, what is unknown, and how a hold ends.
//!
//! Invariant: a command that may have run is never sent again, and every command gets exactly one reply.

use bytes::{Bytes, BytesMut};

use crate::protocol::command::{Class, Transaction};
use crate::protocol::encode;
use crate::protocol::refusal::Refusal;

use super::guard::Guarded;
use super::stream::Stream;
use super::transaction::{doubt_queued, settle_exec};
use super::{Phase, Session};

impl Session {
    /// The upstream is gone, or given up. What it did with commands that were sent and not answered is not known,
    /// unless it had said that it does not run them.
    pub fn detach(&mut self, out: &mut BytesMut) {
        let unblocked = matches!(self.phase, Phase::Refused(Refusal::Unblocked));
        let refused = self.refusing();
        let half = self.assembly.half_delivered();
        if self.uncertain {
            (self.closing, self.lost) = (true, true);
        }
        if half || matches!(self.phase, Phase::Raw) {
            self.sever(half);
        }
        self.assembly.reset();
        self.guarded = Guarded::default();
        self.stay();
        self.raw.clear();
        self.cutover = None;
        self.parting.clear();
        self.marker_unanswered = false;
        self.misplaced = false;
        if !matches!(self.phase, Phase::Detached) {
            self.lose_stream();
            let (mut unknown, mut unsure) = (0, false);
            for entry in self.pipeline.in_flight_mut().filter(|entry| entry.answer.is_none()) {
                if !unblocked && !entry.may_repeat() {
                    entry.answer = Some(Bytes::from_static(UNKNOWN));
                    unknown += 1;
                    // It may have logged in, or chosen a database: nobody knows where the client stands now.
                    // (A kill is sent alone as well, and changes nothing of the connection.)
                    unsure |= entry.alone && entry.class != Class::Admin;
                }
            }
            self.tally.unknown += unknown;
            self.closing |= unsure;
            self.lost |= unsure;
            self.lose_receipts();
            let settled = settle_exec(self.pipeline.undelivered_mut());
            self.settled(settled);
            self.lose_transaction();
            doubt_queued(self.pipeline.in_flight_mut());
            self.tally.gaps += u64::from(self.subscribed());
            self.void_tracked(out);
        }
        self.phase = Phase::Detached;
        self.identity.actual = None;
        let again = self.pipeline.rewind();
        self.recall_naming();
        self.restart_scans();
        let resent = if refused { &mut self.tally.resent_refused } else { &mut self.tally.resent_lost };
        *resent += if self.credit.take_shedding() { 0 } else { again };
        self.deliver(out);
    }

    /// The rest of what the client has begun to read will never come. Nothing may follow the half: no other reply, no
    /// error of ours, no push. What was asked and not answered is forgotten, and the conversation ends. `half`: a reply or
    /// a push was cut; otherwise a stream of replies that nobody counts.
    pub(super) fn sever(&mut self, half: bool) {
        (self.closing, self.lost, self.severed) = (true, true, true);
        self.halved |= half;
        self.pipeline.clear();
        self.stream = Stream::default();
        self.raw.clear();
        self.parting.clear();
        self.cutover = None;
        self.naming = None;
        self.tail = None;
        self.maintenance.forget_pending();
    }

    /// A large command was under way: what of it has arrived is gone.
    fn lose_stream(&mut self) {
        if !self.stream.begun() || !self.stream.lose() {
            return;
        }
        for entry in self.pipeline.waiting_mut().filter(|entry| entry.streamed && entry.answer.is_none()) {
            entry.answer = Some(Bytes::from_static(TOO_LARGE));
        }
        self.pipeline.skip_answered();
    }

    /// Before [`Session::expire`] the upstream has to be left: it has begun something that ends here.
    pub fn must_leave_to_expire(&self) -> bool {
        self.begun() || self.refusing() || self.half_queued()
    }

    /// A hold has reached a limit: everything that waits is answered with `text` (an error without its dash), and was
    /// not executed.
    pub fn expire(&mut self, text: &str, out: &mut BytesMut) -> u64 {
        if self.must_leave_to_expire() {
            self.detach(out);
        }
        if self.severed {
            return 0;
        }
        self.stream.lose();
        let mut answer = BytesMut::new();
        encode::error(&mut answer, text);
        let answer = answer.freeze();
        let mut count = 0;
        let (mut ended, mut hurt) = (false, self.large_ahead() && self.transaction.queueing(Class::Admin));
        for entry in self.pipeline.waiting_mut().filter(|entry| entry.answer.is_none()) {
            entry.answer = Some(answer.clone());
            ended |= matches!(entry.class, Class::Transaction(Transaction::Exec));
            hurt |= entry.in_transaction && !ended;
            count += u64::from(entry.silent.is_none());
        }
        self.pipeline.skip_answered();
        if ended {
            // EXEC failed without having been sent: the transaction is over for the client, and so it is for us.
            self.pipeline.release_delivered();
        } else if hurt {
            self.abort_transaction();
        }
        if self.large_ahead() {
            self.refuse_large(answer.clone());
            count += 1;
        }
        count += u64::from(self.answer_naming(&answer));
        self.tally.authored += count;
        self.tally.expired += count;
        self.deliver(out);
        count
    }
}

pub(super) const UNKNOWN: &[u8] =
    b"-OUTCOMEUNKNOWN the primary was lost before it replied; the command may or may not have been executed\r\n";
const TOO_LARGE: &[u8] =
    b"-LOADING the primary was lost while this command arrived, and it was too large to be kept; it was not executed\r\n";
/// Everything that the client has cached under CLIENT TRACKING is void.
pub(super) const FLUSH_ALL: &[u8] = b">2\r\n$10\r\ninvalidate\r\n_\r\n";
