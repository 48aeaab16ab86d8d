//! Replies, RESP2 and RESP3, decoded by code that shares nothing with the proxy.

use std::fmt;

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Value>),
    Map(Vec<Value>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    /// The attribute's pairs stand before the reply that they belong to.
    Attribute(Vec<Value>, Box<Value>),
    Verbatim(Vec<u8>),
    /// Doubles, booleans, big numbers: their line as sent, with the type byte.
    Other(String),
}

impl Value {
    /// Strings of any kind as text.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Simple(s) | Self::Error(s) | Self::Other(s) => s.clone(),
            Self::Bulk(b) | Self::Verbatim(b) => String::from_utf8_lossy(b).into_owned(),
            Self::Int(n) => n.to_string(),
            other => panic!("no text: {other:?}"),
        }
    }

    pub(crate) fn items(&self) -> &[Value] {
        match self {
            Self::Array(v) | Self::Map(v) | Self::Set(v) | Self::Push(v) => v,
            other => panic!("no items: {other:?}"),
        }
    }

    pub(crate) fn int(&self) -> i64 {
        match self {
            Self::Int(n) => *n,
            other => panic!("no number: {other:?}"),
        }
    }

    /// Whether it is an error that starts so.
    pub(crate) fn is_error(&self, start: &str) -> bool {
        matches!(self, Self::Error(text) if text.starts_with(start))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(s) => write!(f, "+{s}"),
            Self::Error(s) => write!(f, "-{s}"),
            Self::Int(n) => write!(f, ":{n}"),
            Self::Bulk(b) if b.len() > 200 => write!(f, "({} bytes)", b.len()),
            Self::Bulk(b) => write!(f, "{:?}", String::from_utf8_lossy(b)),
            Self::Null => f.write_str("null"),
            Self::Array(v) => f.debug_list().entries(v).finish(),
            Self::Map(v) => write!(f, "map{v:?}"),
            Self::Set(v) => write!(f, "set{v:?}"),
            Self::Push(v) => write!(f, "push{v:?}"),
            Self::Attribute(a, v) => write!(f, "attribute{a:?} of {v:?}"),
            Self::Verbatim(b) => write!(f, "={:?}", String::from_utf8_lossy(b)),
            Self::Other(s) => f.write_str(s),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Bulk(text.as_bytes().to_vec())
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

/// `+OK`
pub(crate) fn ok() -> Value {
    Value::Simple("OK".to_owned())
}

/// Takes one value from the start; `None` while it is incomplete.
pub(crate) fn decode(input: &[u8]) -> Option<(Value, usize)> {
    let end = memchr::memchr(b'\n', input)?;
    let line = std::str::from_utf8(&input[1..end]).expect("text").trim_end_matches('\r').to_owned();
    let used = end + 1;
    let number = || -> i64 { line.parse().unwrap_or_else(|_| panic!("not a number: {line:?}")) };
    Some(match input[0] {
        b'+' => (Value::Simple(line), used),
        b'-' => (Value::Error(line), used),
        b':' => (Value::Int(number()), used),
        b'_' => (Value::Null, used),
        b',' | b'#' | b'(' => (Value::Other(format!("{}{line}", input[0] as char)), used),
        b'$' | b'=' | b'*' if number() == -1 => (Value::Null, used),
        kind @ (b'$' | b'=') => {
            let end = used + usize::try_from(number()).unwrap();
            let body = input.get(used..end + 2)?[..end - used].to_vec();
            (if kind == b'$' { Value::Bulk(body) } else { Value::Verbatim(body) }, end + 2)
        }
        kind @ (b'*' | b'%' | b'~' | b'>' | b'|') => {
            let factor = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
            let (mut items, mut used) = (Vec::new(), used);
            for _ in 0..number() * factor {
                let (item, taken) = decode(&input[used..])?;
                items.push(item);
                used += taken;
            }
            match kind {
                b'*' => (Value::Array(items), used),
                b'%' => (Value::Map(items), used),
                b'~' => (Value::Set(items), used),
                b'>' => (Value::Push(items), used),
                _ => {
                    let (value, taken) = decode(&input[used..])?;
                    (Value::Attribute(items, Box::new(value)), used + taken)
                }
            }
        }
        other => panic!("not a reply: {:?} {line:?}", other as char),
    })
}
