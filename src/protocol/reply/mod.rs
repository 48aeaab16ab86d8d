//! Where a reply ends: RESP2 and RESP3, cut at any byte.
//!
//! No stack: one counter says how many values are still to come, so a million nested levels cost nothing, and a
//! count that lies costs only the bytes that really arrive. Attributes belong to the reply that follows them; `>` at
//! the top is a push, which answers no request. Like the request side it keeps a few numbers and no bytes, and
//! reads every byte once. Streamed types (`$?`, `*?`), which Redis never sends, are refused.

use memchr::memchr;

use super::decimal::{self, Decimal};

/// What an upstream may send in one reply. Nothing is kept of it here, so the limits are those of sanity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Largest bulk or line in bytes.
    pub max_bulk: u64,
    /// Most values still to come at any time.
    pub max_items: u64,
}

impl Default for ReplyLimits {
    fn default() -> Self {
        Self { max_bulk: 1 << 36, max_items: 1 << 36 }
    }
}

/// What ended where a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyEnd {
    /// Nothing yet: all of the input was taken.
    More,
    /// A reply to the oldest unanswered request.
    Reply,
    /// An out-of-band message.
    Push,
}

/// Why what the upstream sent is no reply. The upstream is at fault, and nothing after this can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A value began with a byte that is no RESP type.
    #[error("the server sent a reply of unknown type {0:#04x}")]
    Type(u8),
    /// A count or length that is no number, or one that may not be.
    #[error("the server sent a reply with a wrong length")]
    Length,
    /// A bulk, a line or a number of values above the limit.
    #[error("the server sent a reply above the limit")]
    TooBig,
    /// No CRLF where one has to be.
    #[error("the server sent a reply without its line end")]
    LineEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a value's type byte.
    Value,
    /// In a number; and before its LF.
    Number,
    NumberLf,
    /// In a one-line value; and before its LF.
    Line,
    LineLf,
    /// In a bulk; and before its CR, and before its LF.
    Body,
    BodyCr,
    BodyLf,
}

/// Finds the ends of replies in a stream of bytes.
#[derive(Clone, Debug)]
pub struct ReplyFramer {
    limits: ReplyLimits,
    state: State,
    /// Type byte of the value under way.
    kind: u8,
    number: Decimal,
    /// Values still to come, the one under way included; 0 between replies.
    left: u64,
    /// Bytes of the bulk still to come, or of the line so far.
    bytes: u64,
    /// The top value has begun (what came before it are attributes).
    top: bool,
    push: bool,
}

impl ReplyFramer {
    /// A framer before the first byte of a connection.
    pub fn new(limits: ReplyLimits) -> Self {
        Self {
            limits,
            state: State::Value,
            kind: 0,
            number: Decimal::default(),
            left: 0,
            bytes: 0,
            top: false,
            push: false,
        }
    }

    /// Some bytes of a reply were taken and its end was not.
    pub fn in_reply(&self) -> bool {
        self.left > 0
    }

    /// The reply under way, or else the one that ended last, is a push.
    pub fn is_push(&self) -> bool {
        self.push
    }

    /// Scans `input`, which begins where the last scan ended, up to the end of one reply. Returns how many bytes were
    /// used and what ended there; [`ReplyEnd::More`] uses all of them. After an error the framer is of no more use.
    pub fn scan(&mut self, input: &[u8]) -> Result<(usize, ReplyEnd), ReplyError> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Value => at = self.value(byte, input, at)?,
                State::Line => at = self.line(input, at)?,
                State::Body => at = self.body(input, at)?,
                State::Number | State::NumberLf => {
                    at += 1;
                    self.number(byte)?;
                }
                State::LineLf | State::BodyCr | State::BodyLf => {
                    at += 1;
                    self.line_end(byte)?;
                }
            }
            if self.left == 0 {
                return Ok((at, if self.push { ReplyEnd::Push } else { ReplyEnd::Reply }));
            }
        }
        Ok((at, ReplyEnd::More))
    }

    /// How many replies at the beginning of `input` lie there whole and are neither errors nor of several values, and how
    /// many bytes they are; at most `most`. Takes nothing; (0, 0) means "scan it".
    #[inline]
    pub fn run(&self, input: &[u8], most: usize) -> (usize, usize) {
        let (mut count, mut at) = (0, 0);
        while count < most && self.left == 0 {
            let Some(len) = input.get(at..).and_then(|rest| self.simple(rest)) else { break };
            (count, at) = (count + 1, at + len);
        }
        (count, at)
    }

    /// Bytes of the whole reply of one value at the beginning of `input`.
    #[inline]
    fn simple(&self, input: &[u8]) -> Option<usize> {
        let end = match *input.first()? {
            b'$' => match decimal::header(input) {
                Some((number, used)) if number <= self.limits.max_bulk => {
                    usize::try_from(number).ok()?.checked_add(used)?
                }
                Some(_) => return None,
                None => return input.starts_with(b"$-1\r\n").then_some(5),
            },
            b'+' | b':' | b'_' | b'#' | b',' => memchr(b'\r', input)?,
            _ => return None,
        };
        let after = end.checked_add(2)?;
        (input.get(end..after)? == b"\r\n").then_some(after)
    }

    #[inline]
    fn value(&mut self, byte: u8, input: &[u8], at: usize) -> Result<usize, ReplyError> {
        if self.left == 0 {
            (self.left, self.top, self.push) = (1, false, false);
        }
        // While the top value has not begun, more than one to come means that an attribute's own values come first.
        if !self.top && self.left == 1 && byte != b'|' {
            (self.top, self.push) = (true, byte == b'>');
        }
        self.kind = byte;
        match byte {
            b'+' | b'-' | b':' | b',' | b'(' | b'#' | b'_' => {
                (self.state, self.bytes) = (State::Line, 0);
                Ok(at + 1)
            }
            b'$' | b'!' | b'=' | b'*' | b'~' | b'>' | b'%' | b'|' => {
                if let Some((number, used)) = decimal::header(input.get(at..).unwrap_or_default()) {
                    self.counted(number)?;
                    return Ok(at + used);
                }
                (self.state, self.number) = (State::Number, Decimal::default());
                Ok(at + 1)
            }
            _ => Err(ReplyError::Type(byte)),
        }
    }

    fn number(&mut self, byte: u8) -> Result<(), ReplyError> {
        match (self.state, byte) {
            (State::Number, b'\r') => self.state = State::NumberLf,
            (State::Number, _) => return if self.number.push(byte) { Ok(()) } else { Err(ReplyError::Length) },
            (_, b'\n') => {
                let number = self.number.finish().ok_or(ReplyError::Length)?;
                match (u64::try_from(number), number, self.kind) {
                    (Ok(number), ..) => self.counted(number)?,
                    // RESP2's nulls.
                    (_, -1, b'$' | b'*') => self.end_value(),
                    _ => return Err(ReplyError::Length),
                }
            }
            _ => return Err(ReplyError::LineEnd),
        }
        Ok(())
    }

    /// The number behind a type byte is known.
    #[inline]
    fn counted(&mut self, number: u64) -> Result<(), ReplyError> {
        let items = match self.kind {
            b'$' | b'!' | b'=' => {
                if number > self.limits.max_bulk {
                    return Err(ReplyError::TooBig);
                }
                (self.state, self.bytes) = (State::Body, number);
                return Ok(());
            }
            b'%' | b'|' => number.checked_mul(2).ok_or(ReplyError::TooBig)?,
            _ => number,
        };
        let left = self.left.checked_add(items).filter(|&left| left <= self.limits.max_items);
        self.left = left.ok_or(ReplyError::TooBig)?;
        if self.kind == b'|' {
            // An attribute is not a value itself.
            self.state = State::Value;
        } else {
            self.end_value();
        }
        Ok(())
    }

    #[inline]
    fn line(&mut self, input: &[u8], at: usize) -> Result<usize, ReplyError> {
        let rest = input.get(at..).unwrap_or_default();
        let end = memchr(b'\r', rest);
        self.bytes = self.bytes.saturating_add(end.unwrap_or(rest.len()) as u64);
        if self.bytes > self.limits.max_bulk {
            return Err(ReplyError::TooBig);
        }
        let Some(end) = end else { return Ok(at + rest.len()) };
        match rest.get(end + 1) {
            Some(b'\n') => {
                self.end_value();
                Ok(at + end + 2)
            }
            Some(_) => Err(ReplyError::LineEnd),
            None => {
                self.state = State::LineLf;
                Ok(at + end + 1)
            }
        }
    }

    #[inline]
    fn body(&mut self, input: &[u8], at: usize) -> Result<usize, ReplyError> {
        let rest = input.get(at..).unwrap_or_default();
        let end = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        if let Some(&[cr, lf]) = end.checked_add(2).and_then(|after| rest.get(end..after)) {
            if (cr, lf) != (b'\r', b'\n') {
                return Err(ReplyError::LineEnd);
            }
            self.end_value();
            return Ok(at + end + 2);
        }
        let took = rest.len().min(end);
        self.bytes -= took as u64;
        if self.bytes == 0 {
            self.state = State::BodyCr;
        }
        Ok(at + took)
    }

    fn line_end(&mut self, byte: u8) -> Result<(), ReplyError> {
        match (self.state, byte) {
            (State::BodyCr, b'\r') => self.state = State::BodyLf,
            (State::BodyLf | State::LineLf, b'\n') => self.end_value(),
            _ => return Err(ReplyError::LineEnd),
        }
        Ok(())
    }

    #[inline]
    fn end_value(&mut self) {
        self.left -= 1;
        self.state = State::Value;
    }
}

#[cfg(test)]
mod tests;
