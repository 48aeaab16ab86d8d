//! One client connection on which replies are awaited one after the other, RESP2 or RESP3.
//!
//! It counts replies and the longest wait for one; it does not judge them.

use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::super::connection;
use super::super::driver::Shared;
use super::super::redis::Value;
use super::super::wire::{self, Item, Malformed};
use crate::io::clock;

/// The connection is of no use any more.
#[derive(Debug)]
pub(super) struct Lost;

/// A connection.
pub(super) struct Line {
    shared: Rc<Shared>,
    stream: TlsStream<TcpStream>,
    input: Vec<u8>,
}

impl Line {
    /// Connects to the proxy of this number's turn.
    pub(super) async fn open(shared: &Rc<Shared>, number: usize) -> Result<Self, String> {
        let stream = connection::dial(shared, number).await?;
        Ok(Self { shared: Rc::clone(shared), stream, input: Vec::new() })
    }

    /// One command and its reply.
    pub(super) async fn ask(&mut self, args: &[&[u8]]) -> Result<Value, Lost> {
        let mut out = Vec::new();
        wire::command(&mut out, args);
        let [reply] = self.ask_all(&out).await?;
        Ok(reply)
    }

    /// As many commands as replies in one write.
    pub(super) async fn ask_all<const N: usize>(&mut self, pipeline: &[u8]) -> Result<[Value; N], Lost> {
        let sent = clock::now();
        self.send(pipeline).await?;
        let mut replies = [const { Value::Null }; N];
        for reply in &mut replies {
            *reply = self.read().await?;
            let stall = clock::now().saturating_sub(sent);
            self.shared.tally.borrow_mut().stateful.waited(stall);
        }
        Ok(replies)
    }

    /// A command whose reply may take its time.
    pub(super) async fn block(&mut self, args: &[&[u8]]) -> Result<Value, Lost> {
        let mut out = Vec::new();
        wire::command(&mut out, args);
        self.send(&out).await?;
        self.read().await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        self.stream.write_all(bytes).await.map_err(|_| Lost)?;
        self.stream.flush().await.map_err(|_| Lost)
    }

    /// The next reply or message.
    pub(super) async fn read(&mut self) -> Result<Value, Lost> {
        loop {
            if let Some((value, used)) = whole(&self.input).map_err(|_| Lost)? {
                self.input.drain(..used);
                self.shared.tally.borrow_mut().stateful.commands += 1;
                return Ok(value);
            }
            if self.stream.read_buf(&mut self.input).await.map_err(|_| Lost)? == 0 {
                return Err(Lost);
            }
        }
    }
}

/// One whole reply from the start of `input`. A server that the demo itself started nests as deep as it is asked to.
fn whole(input: &[u8]) -> Result<Option<(Value, usize)>, Malformed> {
    let Some((item, mut used)) = wire::item(input)? else { return Ok(None) };
    let value = match item {
        Item::Simple(text) | Item::Bulk(text) => Value::Text(text.to_vec()),
        Item::Error(text) => Value::Error(text.to_vec()),
        Item::Integer(number) => Value::Integer(number),
        Item::Null => Value::Null,
        Item::Array(count) => {
            let mut items = Vec::new();
            for _ in 0..count {
                let Some((value, more)) = whole(input.get(used..).unwrap_or_default())? else { return Ok(None) };
                items.push(value);
                used += more;
            }
            Value::Array(items)
        }
    };
    Ok(Some((value, used)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_taken_once_it_is_whole_in_either_protocol() {
        for bytes in [&b"*3\r\n$7\r\nmessage\r\n$1\r\nn\r\n:1\r\n"[..], b">3\r\n+message\r\n+n\r\n:1\r\n"] {
            for cut in 0..bytes.len() {
                assert_eq!(whole(&bytes[..cut]).unwrap(), None);
            }
            let wanted = [Value::Text(b"message".to_vec()), Value::Text(b"n".to_vec()), Value::Integer(1)];
            assert_eq!(whole(bytes).unwrap(), Some((Value::Array(wanted.to_vec()), bytes.len())));
        }
        assert_eq!(whole(b"%1\r\n+a\r\n_\r\n").unwrap().unwrap().0.items().len(), 2);
    }
}
