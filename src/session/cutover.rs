//! A subscriber goes over to the new primary without missing, doubling or reordering a message.
//!
//! Make before break: while the old upstream, now a replica, still delivers what is replicated to it, a second one is
//! subscribed on the new primary, and both to a *marker* channel. Then a marker is published through the new primary.
//! Replication keeps the order, so what stands before the marker is the same on both sides:
//!
//! ```text
//!  old:   m1 m2 m3 MARK m4 ...     delivered up to MARK, then nothing
//!  new:      m2 m3 MARK m4 ...     nothing up to MARK, then delivered
//! ```
//!
//! When the marker cannot be had (no permission, replication stuck, the old node dies) the session goes over all the
//! same, as soon as the second upstream is subscribed, and the gap is counted.

use bytes::BytesMut;

use crate::protocol::encode;

use super::greeting::{Greeting, Heard};
use super::notice::{Notice, notice};
use super::{Phase, Session};

/// A change of upstream under way.
pub(super) struct Cutover {
    marker: Vec<u8>,
    /// For the old upstream: the subscription to the marker.
    aside: BytesMut,
    /// Some of `aside` has been sent.
    begun: bool,
    /// The old upstream has confirmed the marker's channel, and later delivered the marker.
    old: Side,
    /// The same of the new one.
    new: Side,
    /// The replay of the client's state on the new one; `None` once it is done.
    greeting: Option<Greeting>,
    /// What the new one is called.
    learnt: Option<u64>,
    /// The beginning of a frame from the new one.
    partial: BytesMut,
    /// What the new one said after the marker, before the old one had delivered it.
    pending: BytesMut,
    published: bool,
    /// The client's user has no permission for the marker's channel.
    denied: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Joining,
    Listening,
    Marked,
}

/// What the new upstream says is held back up to this; then it is not read.
const PENDING: usize = 1024 * 1024;

impl Session {
    /// A second upstream, to the new primary, is there. `marker` is a channel that nobody else uses; it begins with
    /// the reserved channel's name.
    pub fn begin_cutover(&mut self, marker: Vec<u8>) {
        let mut aside = BytesMut::new();
        encode::command(&mut aside, &[b"SUBSCRIBE", &marker]);
        let mut preamble = self.server.state.preamble(self.identity.told.is_some(), None);
        self.server.subscriptions.say(&mut preamble);
        preamble.subscribe(&[b"SUBSCRIBE", &marker]);
        self.cutover = Some(Box::new(Cutover {
            marker,
            aside,
            begun: false,
            old: Side::Joining,
            new: Side::Joining,
            greeting: Greeting::new(preamble),
            learnt: None,
            partial: BytesMut::new(),
            pending: BytesMut::new(),
            published: false,
            denied: false,
        }));
    }

    /// Bytes for the upstream that are no command of the client: about markers, the last one's end before the next.
    pub(super) fn aside(&self) -> &[u8] {
        match &self.cutover {
            _ if self.aside_would_be_queued() => &[],
            Some(cutover) if self.parting.is_empty() => &cutover.aside,
            _ => &self.parting,
        }
    }

    /// The upstream stands between MULTI and EXEC: it would queue what we say about markers, and answer `+QUEUED` into
    /// the client's replies.
    fn aside_would_be_queued(&self) -> bool {
        (self.cutover.is_some() || !self.parting.is_empty())
            && (self.server.in_multi() || self.pipeline.multi_in_flight())
    }

    /// The upstream took `count` of them; false when there were none.
    pub(super) fn sent_aside(&mut self, count: usize) -> bool {
        if self.aside_would_be_queued() {
            return false;
        }
        if !self.parting.is_empty() {
            drop(self.parting.split_to(count.min(self.parting.len())));
            return true;
        }
        let Some(cutover) = self.cutover.as_mut().filter(|cutover| !cutover.aside.is_empty()) else { return false };
        drop(cutover.aside.split_to(count.min(cutover.aside.len())));
        cutover.begun |= count > 0;
        true
    }

    /// Bytes for the new upstream.
    pub fn to_send_next(&self) -> &[u8] {
        let greeting = self.cutover.as_ref().and_then(|cutover| cutover.greeting.as_ref());
        greeting.map_or(&[], Greeting::to_send)
    }

    /// The new upstream took `count` of them.
    pub fn sent_next(&mut self, count: usize) {
        if let Some(greeting) = self.cutover.as_mut().and_then(|cutover| cutover.greeting.as_mut()) {
            greeting.sent(count);
        }
    }

    /// The new upstream may be read.
    pub fn may_hear_next(&self) -> bool {
        self.cutover.as_ref().is_some_and(|cutover| cutover.pending.len() < PENDING)
    }

    /// A piece of what the new upstream said; false when it refuses the client's state.
    pub fn handle_next(&mut self, piece: &[u8], last: bool) -> bool {
        let Some(cutover) = &mut self.cutover else { return true };
        cutover.partial.extend_from_slice(piece);
        if !last {
            return true;
        }
        let frame = cutover.partial.split();
        let reserved = &self.settings.reserved_channel;
        match (notice(&frame), cutover.greeting.as_mut()) {
            (Some(Notice::Message(channel)), _) if channel == cutover.marker.as_slice() => cutover.new = Side::Marked,
            (Some(Notice::Message(channel)), _) => {
                if cutover.new == Side::Marked && !channel.starts_with(reserved) {
                    cutover.pending.extend_from_slice(&frame);
                }
            }
            (Some(Notice::Confirmed(..)), Some(greeting)) => {
                if greeting.confirmed() {
                    (cutover.greeting, cutover.new) = (None, cutover.new.max(Side::Listening));
                }
            }
            (None, Some(greeting)) => {
                let heard = greeting.heard(&frame);
                cutover.learnt = greeting.learnt();
                match heard {
                    Heard::More => {}
                    Heard::Done => (cutover.greeting, cutover.new) = (None, cutover.new.max(Side::Listening)),
                    Heard::TurnedAway if greeting.only_last_missing() => {
                        // The client's user may not hear markers.
                        (cutover.greeting, cutover.new, cutover.denied) = (None, Side::Listening, true);
                    }
                    Heard::TurnedAway => return false,
                }
            }
            // Pushes that are about the connection: it is new, there is nothing to tell.
            (_, None) => {}
        }
        true
    }

    /// Both sides listen for the marker: it is to be published on this channel, once.
    pub fn marker_to_publish(&mut self) -> Option<Vec<u8>> {
        let cutover = self.cutover.as_mut()?;
        let ready = cutover.old >= Side::Listening && cutover.new >= Side::Listening && !cutover.published;
        cutover.published |= ready;
        ready.then(|| cutover.marker.clone())
    }

    /// Both sides have delivered the marker: the second upstream can take the first one's place.
    pub fn may_cut_over(&self) -> bool {
        let marked = |cutover: &Cutover| cutover.old == Side::Marked && cutover.new == Side::Marked;
        self.cutover.as_ref().is_some_and(|cutover| marked(cutover))
    }

    /// There will be no marker: better now than later.
    pub fn must_cut_over_with_gap(&self) -> bool {
        let unmarked = |cutover: &Cutover| cutover.denied || !cutover.begun && self.aside_would_be_queued();
        self.cutover.as_ref().is_some_and(|cutover| unmarked(cutover) && cutover.new >= Side::Listening)
    }

    /// The old upstream is lost, and what the second one has said since the marker is all that can follow what the old
    /// one delivered. Before the marker the second one may repeat what the client has.
    pub fn may_rescue(&self) -> bool {
        self.cutover.as_ref().is_some_and(|cutover| cutover.new == Side::Marked)
    }

    /// The second upstream is subscribed, and could take over with a gap.
    pub fn may_cut_over_with_gap(&self) -> bool {
        self.cutover.as_ref().is_some_and(|cutover| cutover.new >= Side::Listening)
    }

    /// The second upstream takes over; `gap`: messages may have been missed.
    pub fn finish_cutover(&mut self, gap: bool, out: &mut BytesMut) {
        let Some(cutover) = self.cutover.take() else { return };
        self.tally.gaps += u64::from(gap);
        if self.assembly.half_delivered() {
            // The rest of this message will not come from the other upstream.
            self.sever(true);
        }
        self.assembly.reset();
        if self.severed {
            self.phase = Phase::Detached;
            return;
        }
        self.upstream_mark = self.mark;
        self.phase = Phase::Open;
        self.parting.clear();
        if !cutover.denied {
            self.part(&cutover.marker);
        }
        out.extend_from_slice(&cutover.pending);
        self.void_tracked(out);
        self.identity.actual = None;
        if let Some(actual) = cutover.learnt {
            self.learn(actual);
        }
        self.assembly.resume(cutover.partial);
        // The second upstream knows nothing of a transaction: it is replayed there, and what waits is said anew.
        self.lose_transaction();
        self.tally.resent_lost += self.pipeline.rewind();
        self.recall_naming();
        self.restart_scans();
        self.shorten_blocking();
        self.deliver(out);
    }

    /// The second upstream is gone, or not needed any more.
    pub fn cancel_cutover(&mut self) {
        let Some(cutover) = self.cutover.take() else { return };
        if cutover.begun && !cutover.denied {
            // What was begun is finished, or the upstream would take the next command for the rest of it.
            self.parting.extend_from_slice(&cutover.aside);
            self.part(&cutover.marker);
            self.marker_unanswered = cutover.old == Side::Joining;
        }
    }

    /// The upstream that stays listens to the marker no longer: else it would count it among the client's channels, and
    /// never let it do anything but listen.
    fn part(&mut self, marker: &[u8]) {
        encode::command(&mut self.parting, &[b"UNSUBSCRIBE", marker]);
    }

    // ---- the old upstream ----

    /// The old upstream has delivered the marker: what it says now is said by the new one, too.
    pub(super) fn cut_over(&self) -> bool {
        self.cutover.as_ref().is_some_and(|cutover| cutover.old == Side::Marked)
    }

    /// The old upstream has said something on a reserved channel: it may be the marker.
    pub(super) fn heard_marker(&mut self, channel: &[u8]) {
        if let Some(cutover) = self.cutover.as_mut().filter(|cutover| cutover.marker == channel) {
            cutover.old = Side::Marked;
        }
    }

    /// The old upstream has refused something that no command of the client asked for: the marker's channel.
    pub(super) fn refused_marker(&mut self) -> bool {
        if std::mem::take(&mut self.marker_unanswered) {
            return true;
        }
        let joining = self.cutover.as_mut().filter(|cutover| cutover.old == Side::Joining && cutover.aside.is_empty());
        joining.map(|cutover| cutover.denied = true).is_some()
    }

    /// The old upstream has confirmed a marker's channel, or the end of an earlier one.
    pub(super) fn confirmed_marker(&mut self, channel: &[u8], begun: bool) {
        let Some(cutover) = self.cutover.as_mut().filter(|cutover| cutover.marker == channel) else {
            self.marker_unanswered &= !begun;
            return;
        };
        if begun {
            cutover.old = cutover.old.max(Side::Listening);
        }
    }
}
