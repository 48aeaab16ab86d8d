//! The second upstream of a subscriber that goes over to the new primary (`session::cutover` says why and how).
//!
//! It is opened as soon as the orders name another node and the old one has answered everything, and takes the first
//! one's place when both have delivered the marker, or, with a gap, when the time for that is over.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::protocol::reply::ReplyEnd;

use super::Conversation;
use super::upstream::{Dialling, Ready, Up};

impl Conversation {
    /// The session has something to go over with, and nothing else under way.
    pub(super) fn subscribed_only(&self) -> bool {
        self.session.subscribed() && !self.session.redirects() && self.session.in_flight() == 0
    }

    /// The session is subscribed on an upstream that is to be left, and has nothing else under way.
    pub(super) fn goes_over(&self) -> bool {
        let leaving = matches!(&self.up, Up::Ready(up) if up.leaving.is_some());
        leaving && self.subscribed_only() && self.may_begin()
    }

    /// Called in each round: opens the second upstream, and puts it in the first one's place when it is time.
    pub(super) fn follow_cutover(&mut self) -> bool {
        if !self.goes_over() {
            return self.stop_cutover();
        }
        let worker = Rc::clone(&self.worker);
        let (primary, epoch) = (worker.orders().primary, worker.orders().epoch);
        let Some(node) = primary else { return false };
        match &self.next {
            Up::None if self.retry.due(epoch).is_none_or(|at| at <= self.now) => {
                let Some(dial) = self.dial(node) else { return false };
                self.next = Up::Dialling(Dialling { node, epoch, dial });
                true
            }
            Up::Ready(next) if next.node != node => self.stop_cutover(),
            Up::Dialling(next) if next.node != node => self.stop_cutover(),
            Up::Ready(_) => {
                if let Some(channel) = self.session.marker_to_publish() {
                    worker.publish_marker(node, channel);
                }
                if self.session.may_cut_over() {
                    self.take_next(false);
                    return true;
                }
                if self.session.must_cut_over_with_gap() {
                    return self.take_next(true);
                }
                false
            }
            _ => false,
        }
    }

    /// The second upstream takes over, if it can; false when it cannot.
    pub(super) fn take_next(&mut self, gap: bool) -> bool {
        if gap && !self.session.may_cut_over_with_gap() {
            return false;
        }
        let Up::Ready(mut next) = std::mem::replace(&mut self.next, Up::None) else { return false };
        next.epoch = self.worker.orders().epoch;
        // The first is counted as open; the second takes that over.
        self.up = Up::Ready(next);
        self.session.finish_cutover(gap, &mut self.out);
        true
    }

    fn stop_cutover(&mut self) -> bool {
        if !matches!(self.next, Up::None) {
            self.next = Up::None;
            self.session.cancel_cutover();
        }
        false
    }

    /// Bytes of the second upstream, both ways.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> bool {
        let worker = Rc::clone(&self.worker);
        match &mut self.next {
            Up::Dialling(dialling) => {
                let Poll::Ready(result) = dialling.dial.as_mut().poll(cx) else { return false };
                let (node, epoch) = (dialling.node, dialling.epoch);
                match result {
                    Ok(opened) => {
                        self.next = Up::Ready(Ready::new(node, epoch, opened));
                        self.session.begin_cutover(worker.marker_channel());
                    }
                    Err(_unreachable) => {
                        self.next = Up::None;
                        self.retry.after_failure(epoch, self.now);
                    }
                }
                true
            }
            Up::Ready(_) => {
                let sent = self.send_next(cx);
                self.read_next(cx, &worker) || sent
            }
            _ => false,
        }
    }

    fn send_next(&mut self, cx: &mut Context<'_>) -> bool {
        let Up::Ready(next) = &mut self.next else { return false };
        let mut moved = false;
        while !self.session.to_send_next().is_empty() {
            match Pin::new(&mut next.stream).poll_write(cx, self.session.to_send_next()) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.session.sent_next(count);
                    (moved, next.unflushed) = (true, true);
                }
                Poll::Ready(_) => return self.lose_next(),
                Poll::Pending => break,
            }
        }
        if next.unflushed && Pin::new(&mut next.stream).poll_flush(cx).is_ready() {
            next.unflushed = false;
        }
        moved
    }

    fn read_next(&mut self, cx: &mut Context<'_>, worker: &crate::io::worker::Worker) -> bool {
        if !self.session.may_hear_next() {
            return false;
        }
        let Up::Ready(next) = &mut self.next else { return false };
        let mut scratch = worker.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        let mut bytes: &[u8] = match Pin::new(&mut next.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) => buffer.filled(),
            Poll::Ready(Err(_)) => &[],
        };
        let mut fine = !bytes.is_empty();
        while fine && !bytes.is_empty() {
            let Ok((used, end)) = next.framer.scan(bytes) else {
                fine = false;
                break;
            };
            let (piece, rest) = bytes.split_at(used.min(bytes.len()));
            fine = self.session.handle_next(piece, end != ReplyEnd::More);
            bytes = rest;
        }
        if !fine {
            self.lose_next();
        }
        true
    }

    fn lose_next(&mut self) -> bool {
        if let Up::Ready(next) = &self.next {
            self.retry.after_failure(next.epoch, self.now);
        }
        self.stop_cutover();
        true
    }

    /// The first upstream is gone. With the second one subscribed, the session goes on there.
    pub(super) fn rescue(&mut self) -> bool {
        let current = matches!(&self.next, Up::Ready(next) if Some(next.node) == self.worker.orders().primary);
        if current && self.take_next(true) {
            return true;
        }
        self.stop_cutover()
    }
}
