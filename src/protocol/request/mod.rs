//! Where a request ends: array-form and inline commands, cut at any byte.
//!
//! The framer keeps a few numbers and no bytes, reads every byte once, never recurses and never allocates. It is
//! strictly narrower than Redis: what it accepts, Redis frames in the same way; what Redis answers with a protocol
//! error, it refuses with the same words. Beyond that it refuses what Redis lets pass by accident: lines and arguments
//! that do not end in CRLF, NUL bytes in an inline line. It does not know commands.

use std::fmt;

use memchr::memchr;

use super::decimal::{self, Decimal};

/// What a client may send. The default is what Redis allows to an authenticated client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest argument in bytes (Redis' `proto-max-bulk-len`).
    pub max_bulk: u64,
    /// Most arguments of one command, its name included.
    pub max_args: u64,
    /// Longest inline line in bytes, its line end included (Redis' `PROTO_INLINE_MAX_SIZE`).
    pub max_inline: usize,
    /// The limits are those for strangers: what is above 10 arguments or 16 KiB is answered in Redis' words for that.
    pub unauthenticated: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bulk: 512 * 1024 * 1024, max_args: 1024 * 1024, max_inline: 64 * 1024, unauthenticated: false }
    }
}

impl Limits {
    /// Redis' own limits for a client that has yet to authenticate.
    pub fn before_auth() -> Self {
        Self { max_bulk: 16_384, max_args: 10, unauthenticated: true, ..Self::default() }
    }
}

/// A place in a command, relative to the command's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub at: u32,
    /// Bytes.
    pub len: u32,
}

impl Span {
    /// The bytes there, if `command` has them.
    pub fn of(self, command: &[u8]) -> Option<&[u8]> {
        let at = usize::try_from(self.at).ok()?;
        command.get(at..at.checked_add(usize::try_from(self.len).ok()?)?)
    }
}

/// What a whole command looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Arguments, the name included; at least 1.
    pub args: u32,
    /// The command's name.
    pub name: Span,
    /// The argument after the name.
    pub second: Option<Span>,
    /// Bytes of the command, from its `*` to its last line end.
    pub len: u64,
}

/// A command that lies whole in what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// The command's name.
    pub name: Span,
    /// Bytes of the command, from its `*` to its last line end.
    pub len: usize,
}

/// What ended where a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed {
    /// Nothing yet: all of the input was taken.
    More,
    /// An array-form command.
    Command(Shape),
    /// Something that Redis consumes without a reply: a blank line, `*0`, `*-1`.
    Nothing,
    /// An inline line with something on it; the caller holds its bytes, the line end included (see [`super::inline`]).
    Inline,
}

/// Why what the client sent is no request. The connection ends after the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// `*` was not followed by a number that may be.
    MultibulkLength,
    /// More than 10 arguments before authentication.
    UnauthenticatedMultibulkLength,
    /// An argument began with another byte than `$`.
    ExpectedBulk(u8),
    /// `$` was not followed by a number that may be.
    BulkLength,
    /// More than 16 KiB in an argument before authentication.
    UnauthenticatedBulkLength,
    /// An inline line longer than the limit.
    BigInline,
    /// Quotes that do not close, or that something follows without a space.
    UnbalancedQuotes,
    /// An argument without CRLF behind it. (Redis does not look.)
    BulkEnd,
    /// A NUL byte in an inline line. (Redis stops reading there and waits.)
    InlineNul,
}

impl ProtocolError {
    /// The error reply without its `-` and line end: word for word as Redis says it, where Redis has one.
    pub fn reply(&self) -> String {
        format!("ERR Protocol error: {self}")
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::MultibulkLength => "invalid multibulk length",
            Self::UnauthenticatedMultibulkLength => "unauthenticated multibulk length",
            // Line ends become spaces, as in Redis; bytes that are not text are not echoed.
            Self::ExpectedBulk(byte) => {
                let shown = match byte {
                    b'\r' | b'\n' => ' ',
                    0 | 0x80.. => '?',
                    _ => char::from(byte),
                };
                return write!(f, "expected '$', got '{shown}'");
            }
            Self::BulkLength => "invalid bulk length",
            Self::UnauthenticatedBulkLength => "unauthenticated bulk length",
            Self::BigInline => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::BulkEnd => "expected CRLF after bulk",
            Self::InlineNul => "NUL byte in inline request",
        })
    }
}

impl std::error::Error for ProtocolError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between two requests.
    Start,
    /// In the number behind `*`; and before its LF.
    Count,
    CountLf,
    /// Before an argument's `$`.
    Dollar,
    /// In the number behind `$`; and before its LF.
    Length,
    LengthLf,
    /// In an argument, `left` bytes before its CR; and before its CR, and before its LF.
    Body,
    BodyCr,
    BodyLf,
    /// In an inline line.
    Inline,
}

/// Finds the ends of requests in a stream of bytes.
///
/// ```text
/// Start -*-> Count -> CountLf -> Dollar -> Length -> LengthLf -> Body -> BodyCr -> BodyLf -> (Dollar | Start)
///   \-----> Inline -> Start
/// ```
#[derive(Clone, Debug)]
pub struct RequestFramer {
    limits: Limits,
    state: State,
    number: Decimal,
    /// Bytes of the request that earlier scans took.
    taken: u64,
    args: u32,
    args_left: u32,
    /// The argument under way: where it begins, how long it is, what is still to come.
    body: Span,
    left: u64,
    name: Option<Span>,
    second: Option<Span>,
    /// Only white space so far on the inline line.
    blank: bool,
}

impl RequestFramer {
    /// A framer before the first byte of a connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Start,
            number: Decimal::default(),
            taken: 0,
            args: 0,
            args_left: 0,
            body: Span { at: 0, len: 0 },
            left: 0,
            name: None,
            second: None,
            blank: true,
        }
    }

    /// Other limits from the next number on (after authentication).
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Some bytes of a request were taken and its end was not.
    pub fn in_command(&self) -> bool {
        self.state != State::Start
    }

    /// The name of the array-form command under way, once the whole of it was taken.
    pub fn name(&self) -> Option<Span> {
        self.name
    }

    /// The same for the argument after the name.
    pub fn second(&self) -> Option<Span> {
        self.second
    }

    /// Scans `input`, which begins where the last scan ended, up to the end of one request. Returns how many bytes were
    /// used and what ended there; [`Framed::More`] uses all of them. After an error the framer is of no more use.
    pub fn scan(&mut self, input: &[u8]) -> Result<(usize, Framed), ProtocolError> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Start => {
                    if byte == b'*' {
                        at = self.star(input, at)?;
                    } else {
                        (self.state, self.taken, self.blank) = (State::Inline, 0, true);
                        continue;
                    }
                }
                State::Dollar => at = self.dollar(byte, input, at)?,
                State::Body => at = self.body(input, at)?,
                State::Inline => return self.inline(input, at),
                State::Count | State::CountLf | State::Length | State::LengthLf => {
                    at += 1;
                    self.number(byte, at)?;
                }
                State::BodyCr | State::BodyLf => {
                    at += 1;
                    self.body_end(byte)?;
                }
            }
            if self.state == State::Start {
                let framed = if self.args == 0 { Framed::Nothing } else { Framed::Command(self.shape(at)) };
                return Ok((at, framed));
            }
        }
        self.taken += at as u64;
        Ok((at, Framed::More))
    }

    /// The command at the beginning of `input`, if it lies there whole, is written in the canonical way, and nothing was
    /// taken before it. `None` means "scan it", not "wrong". Takes nothing.
    #[inline]
    pub fn whole(&self, input: &[u8]) -> Option<Whole> {
        if self.state != State::Start || *input.first()? != b'*' {
            return None;
        }
        let (args, mut at) = decimal::header(input).filter(|(args, _)| (1..=self.limits.max_args).contains(args))?;
        let mut name = None;
        for _ in 0..args {
            let rest = input.get(at..)?;
            if *rest.first()? != b'$' {
                return None;
            }
            let (length, header) = decimal::header(rest).filter(|(length, _)| *length <= self.limits.max_bulk)?;
            let end = usize::try_from(length).ok()?.checked_add(header)?;
            if rest.get(end..end.checked_add(2)?)? != b"\r\n" {
                return None;
            }
            let body = || Span {
                at: u32::try_from(at + header).unwrap_or(u32::MAX),
                len: u32::try_from(length).unwrap_or(u32::MAX),
            };
            name = name.or_else(|| Some(body()));
            at += end + 2;
        }
        Some(Whole { name: name?, len: at })
    }

    /// `*` begins a command.
    #[inline]
    fn star(&mut self, input: &[u8], at: usize) -> Result<usize, ProtocolError> {
        (self.taken, self.name, self.second) = (0, None, None);
        if let Some((count, used)) = decimal::header(input.get(at..).unwrap_or_default()) {
            self.count(Some(count))?;
            return Ok(at + used);
        }
        (self.number, self.state) = (Decimal::default(), State::Count);
        Ok(at + 1)
    }

    #[inline]
    fn dollar(&mut self, byte: u8, input: &[u8], at: usize) -> Result<usize, ProtocolError> {
        if byte != b'$' {
            return Err(ProtocolError::ExpectedBulk(byte));
        }
        if let Some((length, used)) = decimal::header(input.get(at..).unwrap_or_default()) {
            self.length(length, at + used)?;
            return Ok(at + used);
        }
        (self.number, self.state) = (Decimal::default(), State::Length);
        Ok(at + 1)
    }

    /// One byte of a number or of its line end; `after` is the offset in the input behind it.
    fn number(&mut self, byte: u8, after: usize) -> Result<(), ProtocolError> {
        let counting = matches!(self.state, State::Count | State::CountLf);
        let wrong = if counting { ProtocolError::MultibulkLength } else { ProtocolError::BulkLength };
        match (self.state, byte) {
            (State::Count, b'\r') => self.state = State::CountLf,
            (State::Length, b'\r') => self.state = State::LengthLf,
            (State::Count | State::Length, _) => return if self.number.push(byte) { Ok(()) } else { Err(wrong) },
            (_, b'\n') => {
                let number = self.number.finish().ok_or(wrong)?;
                return match u64::try_from(number) {
                    Ok(count) if counting => self.count(Some(count)),
                    Err(_) if counting => self.count(None),
                    Ok(length) => self.length(length, after),
                    Err(_) => Err(wrong),
                };
            }
            _ => return Err(wrong),
        }
        Ok(())
    }

    /// The number of arguments is known; `None` is a negative one.
    #[inline]
    fn count(&mut self, count: Option<u64>) -> Result<(), ProtocolError> {
        let count = count.unwrap_or(0);
        if count > self.limits.max_args {
            return Err(match self.limits.unauthenticated {
                true => ProtocolError::UnauthenticatedMultibulkLength,
                false => ProtocolError::MultibulkLength,
            });
        }
        self.args = u32::try_from(count).map_err(|_| ProtocolError::MultibulkLength)?;
        self.args_left = self.args;
        self.state = if count == 0 { State::Start } else { State::Dollar };
        Ok(())
    }

    /// An argument's length is known; `after` is the offset in the input of its first byte.
    #[inline]
    fn length(&mut self, length: u64, after: usize) -> Result<(), ProtocolError> {
        if length > self.limits.max_bulk {
            return Err(match self.limits.unauthenticated {
                true => ProtocolError::UnauthenticatedBulkLength,
                false => ProtocolError::BulkLength,
            });
        }
        self.left = length;
        let at = u32::try_from(self.taken + after as u64).unwrap_or(u32::MAX);
        self.body = Span { at, len: u32::try_from(length).unwrap_or(u32::MAX) };
        self.state = State::Body;
        Ok(())
    }

    #[inline]
    fn body(&mut self, input: &[u8], at: usize) -> Result<usize, ProtocolError> {
        let rest = input.get(at..).unwrap_or_default();
        // A length above usize never lies whole in memory.
        let end = usize::try_from(self.left).unwrap_or(usize::MAX);
        if let Some(&[cr, lf]) = end.checked_add(2).and_then(|after| rest.get(end..after)) {
            if (cr, lf) != (b'\r', b'\n') {
                return Err(ProtocolError::BulkEnd);
            }
            self.end_argument();
            return Ok(at + end + 2);
        }
        let took = rest.len().min(end);
        self.left -= took as u64;
        if self.left == 0 {
            self.state = State::BodyCr;
        }
        Ok(at + took)
    }

    fn body_end(&mut self, byte: u8) -> Result<(), ProtocolError> {
        match (self.state, byte) {
            (State::BodyCr, b'\r') => self.state = State::BodyLf,
            (State::BodyLf, b'\n') => self.end_argument(),
            _ => return Err(ProtocolError::BulkEnd),
        }
        Ok(())
    }

    #[inline]
    fn end_argument(&mut self) {
        match self.args - self.args_left {
            0 => self.name = Some(self.body),
            1 => self.second = Some(self.body),
            _ => {}
        }
        self.args_left -= 1;
        self.state = if self.args_left == 0 { State::Start } else { State::Dollar };
    }

    #[inline]
    fn shape(&mut self, at: usize) -> Shape {
        let name = self.name.take().unwrap_or(self.body);
        Shape { args: self.args, name, second: self.second.take(), len: self.taken + at as u64 }
    }

    fn inline(&mut self, input: &[u8], at: usize) -> Result<(usize, Framed), ProtocolError> {
        let rest = input.get(at..).unwrap_or_default();
        let end = memchr(b'\n', rest).map(|lf| lf + 1);
        let line = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        if memchr(0, line).is_some() {
            return Err(ProtocolError::InlineNul);
        }
        self.taken += line.len() as u64;
        if self.taken > self.limits.max_inline as u64 {
            return Err(ProtocolError::BigInline);
        }
        self.blank = self.blank && line.iter().all(|&b| super::inline::is_space(b));
        let used = at + line.len();
        if end.is_none() {
            return Ok((used, Framed::More));
        }
        self.state = State::Start;
        Ok((used, if self.blank { Framed::Nothing } else { Framed::Inline }))
    }
}

#[cfg(test)]
mod tests;
