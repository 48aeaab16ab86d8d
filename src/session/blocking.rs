//! Blocking commands across a change: issued again with the time that is left.
//!
//! Only the client's clock counts: the time that a command was held, and the time that it was blocked on the node that
//! was demoted, are taken off. It does not decide when a command is issued again.

use std::time::Duration;

use bytes::BytesMut;

use crate::protocol::args::args;
use crate::protocol::command::{Command, Timeout};
use crate::protocol::encode;

use super::Session;

/// Until when a command may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    at: Duration,
    taken: Duration,
    timeout: Timeout,
}

/// A command that was taken a shorter time ago than this goes up as it is.
const FRESH: Duration = Duration::from_millis(5);
/// No command may come to wait for ever because its time is over.
const LEAST: Duration = Duration::from_millis(1);

impl Deadline {
    /// `None` when the command does not block, or blocks without an end.
    pub(super) fn of(found: Option<&Command>, command: &[u8], now: Duration) -> Option<Self> {
        let timeout = found?.blocks?;
        let place = timeout.position(args(command))?;
        let text = std::str::from_utf8(args(command).nth(place)?).ok()?;
        let seconds = match timeout.per_second() {
            1 => text.parse::<f64>().ok()?,
            unit => text.parse::<f64>().ok()? / f64::from(u32::try_from(unit).ok()?),
        };
        let wait = Duration::try_from_secs_f64(seconds).ok().filter(|wait| !wait.is_zero())?;
        Some(Self { at: now.checked_add(wait)?, taken: now, timeout })
    }

    /// The command with the time that is left; `None` when it may go as it is.
    fn shortened(&self, command: &[u8], now: Duration) -> Option<BytesMut> {
        if now < self.taken + FRESH {
            return None;
        }
        let left = self.at.saturating_sub(now).max(LEAST);
        let text = match self.timeout.per_second() {
            1 => format!("{}.{:03}", left.as_secs(), left.subsec_millis()),
            _ => left.as_millis().to_string(),
        };
        let place = self.timeout.position(args(command))?;
        let mut words: Vec<&[u8]> = args(command).collect();
        *words.get_mut(place)? = text.as_bytes();
        let mut encoded = BytesMut::new();
        encode::command(&mut encoded, &words);
        Some(encoded)
    }
}

impl Session {
    /// Before waiting commands go to a fresh upstream.
    pub(super) fn shorten_blocking(&mut self) {
        let now = self.now;
        self.pipeline.rewrite_waiting(|entry, command| {
            if let Some(own) = &entry.remembers {
                // A connection of the session's own is called as the client says.
                return Some(BytesMut::from(&own[..]));
            }
            let deadline = entry.deadline.as_ref().filter(|_| entry.answer.is_none())?;
            deadline.shortened(command, now)
        });
    }
}
