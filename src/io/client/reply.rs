//! One RESP2 reply that we asked for: bounded first, decoded after.
//!
//! Only for our own links; what clients and their servers exchange never passes here. The decoder recurses and parses
//! from the start, so [`frame_len`] decides first that a reply is whole, small and flat. Invariant: at most
//! [`MAX_REPLY_BYTES`] are ever held, at most [`MAX_DEPTH`] levels are ever decoded.

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes;
use redis_protocol::resp2::types::BytesFrame;

use super::LinkError;

/// Longest reply that we take; INFO is a few KiB, with thousands of clients too.
pub const MAX_REPLY_BYTES: usize = 1024 * 1024;

/// Deepest nesting that we take; ROLE of a primary has 3 levels.
const MAX_DEPTH: usize = 8;

/// Longest line (status, error, length); errors that quote a script fit.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// A decoded reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`
    Status(Bytes),
    /// `-ERR …`, inside an array; at top level it is [`LinkError::Redis`].
    Error(String),
    /// `:1`
    Integer(i64),
    /// `$2 …`
    Bulk(Bytes),
    /// `$-1` or `*-1`
    Null,
    /// `*2 …`
    Array(Vec<Reply>),
}

impl Reply {
    /// The bytes of a status or bulk.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Status(bytes) | Self::Bulk(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// Takes the first reply off `buffer`, or `None` when it is not whole yet.
pub(super) fn take(buffer: &mut BytesMut) -> Result<Option<Reply>, LinkError> {
    let Some(len) = frame_len(buffer).map_err(|reason| LinkError::Protocol(reason.to_owned()))? else {
        return Ok(None);
    };
    let frame = buffer.split_to(len).freeze();
    match decode_bytes(&frame) {
        Ok(Some((decoded, used))) if used == len => Ok(Some(convert(decoded))),
        Ok(_) => Err(LinkError::Protocol("a reply that ends elsewhere than its lengths say".to_owned())),
        Err(error) => Err(LinkError::Protocol(error.to_string())),
    }
}

/// Depth is bounded by [`frame_len`].
fn convert(frame: BytesFrame) -> Reply {
    match frame {
        BytesFrame::SimpleString(bytes) => Reply::Status(bytes),
        BytesFrame::Error(text) => Reply::Error(text.to_string()),
        BytesFrame::Integer(number) => Reply::Integer(number),
        BytesFrame::BulkString(bytes) => Reply::Bulk(bytes),
        BytesFrame::Array(items) => Reply::Array(items.into_iter().map(convert).collect()),
        BytesFrame::Null => Reply::Null,
    }
}

/// How many bytes the first reply of `input` has; `None` when it is not whole yet.
fn frame_len(input: &[u8]) -> Result<Option<usize>, &'static str> {
    let mut at = 0;
    // How many values each open array still lacks, the outermost first.
    let mut open: Vec<u64> = Vec::new();
    loop {
        let rest = input.get(at..).unwrap_or_default();
        let Some(line_len) = line_len(rest)? else { return within_limit(input.len(), None) };
        let (Some(&kind), Some(number)) = (rest.first(), rest.get(1..line_len.saturating_sub(2))) else {
            return Err("an empty line instead of a reply");
        };
        at += line_len;
        match kind {
            b'+' | b'-' | b':' => {}
            b'$' => {
                if let Some(len) = length(number)? {
                    at = at.saturating_add(len).saturating_add(2);
                }
            }
            b'*' => {
                if let Some(items) = length(number)?.filter(|&items| items > 0) {
                    if open.len() == MAX_DEPTH {
                        return Err("a reply nested too deeply");
                    }
                    open.push(items as u64);
                    continue;
                }
            }
            _ => return Err("a reply of an unknown type"),
        }
        while let Some(lacking) = open.last_mut() {
            *lacking -= 1;
            if *lacking > 0 {
                break;
            }
            open.pop();
        }
        if open.is_empty() {
            return within_limit(at, (at <= input.len()).then_some(at));
        }
        if at >= input.len() {
            return within_limit(at, None);
        }
    }
}

fn within_limit(reached: usize, whole: Option<usize>) -> Result<Option<usize>, &'static str> {
    if reached > MAX_REPLY_BYTES { Err("a reply larger than we take") } else { Ok(whole) }
}

/// The length of the first line with its CRLF.
fn line_len(rest: &[u8]) -> Result<Option<usize>, &'static str> {
    match memchr::memmem::find(rest, b"\r\n") {
        Some(at) => Ok(Some(at + 2)),
        None if rest.len() > MAX_LINE_BYTES => Err("a reply line longer than we take"),
        None => Ok(None),
    }
}

/// A length or a count; `None` for -1.
fn length(digits: &[u8]) -> Result<Option<usize>, &'static str> {
    if digits == b"-1" {
        return Ok(None);
    }
    let text = std::str::from_utf8(digits).map_err(|_| "a length that is no number")?;
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("a length that is no number");
    }
    text.parse().map(Some).map_err(|_| "a length that is no number")
}

#[cfg(test)]
mod tests;
