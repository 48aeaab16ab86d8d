//! A command larger than the re-send budget: it goes through while it arrives, and cannot be sent again.
//!
//! Invariant: only the last command of the pipeline streams, and only after everything before it was sent.

use bytes::{Buf, BytesMut};

/// The large command under way, if there is one.
#[derive(Default)]
pub(super) struct Stream {
    mode: Mode,
    bytes: BytesMut,
    /// Some of it has left.
    left: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    None,
    /// Arriving and leaving.
    Passing,
    /// Has arrived to its end; the rest is leaving.
    Complete,
    /// Its upstream was lost: what still arrives of it is dropped.
    Swallowing,
}

impl Stream {
    pub(super) fn begin(&mut self, bytes: BytesMut) {
        *self = Self { mode: Mode::Passing, bytes, left: false };
    }

    /// A large command is arriving or leaving.
    pub(super) fn open(&self) -> bool {
        matches!(self.mode, Mode::Passing | Mode::Complete)
    }

    /// Part of it is with the upstream; until then another one will do as well.
    pub(super) fn begun(&self) -> bool {
        self.open() && self.left
    }

    /// More of it is to come from the client.
    pub(super) fn arriving(&self) -> bool {
        matches!(self.mode, Mode::Passing | Mode::Swallowing)
    }

    /// Bytes that wait to leave.
    pub(super) fn backlog(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn to_send(&self) -> &[u8] {
        &self.bytes
    }

    /// More of the command; `end`: it is complete now.
    pub(super) fn append(&mut self, bytes: &[u8], end: bool) {
        match self.mode {
            Mode::Swallowing if end => *self = Self::default(),
            Mode::Swallowing => {}
            _ => {
                self.bytes.extend_from_slice(bytes);
                self.mode = if end { Mode::Complete } else { self.mode };
            }
        }
    }

    /// The upstream took `count` bytes; true when that was the last of the command.
    pub(super) fn advance(&mut self, count: usize) -> bool {
        self.left |= count > 0;
        self.bytes.advance(count.min(self.bytes.len()));
        let done = self.bytes.is_empty() && self.mode == Mode::Complete;
        if done {
            *self = Self::default();
        }
        done
    }

    /// The upstream is gone; says whether a command was under way.
    pub(super) fn lose(&mut self) -> bool {
        let open = self.open();
        let mode = if self.mode == Mode::Passing { Mode::Swallowing } else { Mode::None };
        if open {
            *self = Self { mode, ..Self::default() };
        }
        open
    }
}

impl super::Session {
    pub(super) fn stream_sent(&mut self, count: usize) {
        if self.stream.advance(count) {
            self.pipeline.streamed_sent();
            self.ask_due_receipt();
        }
    }
}
