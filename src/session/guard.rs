//! The reply to an EXEC of which nobody knows in advance how long it is.
//!
//! SUBSCRIBE inside MULTI answers with a frame for each name, though EXEC's array counts it as one element; several servers
//! (Redis 7.4 to 8.2) drop the reply of a login that fails inside EXEC. So such an EXEC is followed, in one write, by
//! commands that no server knows, and everything before the first of their errors is the reply. If that first error is
//! missing, it stands inside the array, in the place of a reply that was dropped: then what the client would get is wrong
//! from there on, and it is told so and let go.
//!
//! It is collected whole, so it is bounded ([`MOST`]).

use bytes::{Bytes, BytesMut};

use crate::protocol::encode;

use super::Session;

/// The reply of a transaction that subscribes, or logs in, may be so large.
const MOST: usize = 64 * 1024 * 1024;
/// What no server knows.
const GUARD: &str = "changeover-end-of-exec-";
/// A command that every server refuses, so that the transaction under way is aborted.
pub(super) const REFUSED: &[u8] = b"*1\r\n$18\r\nchangeover-refused\r\n";

/// The reply, as far as it has come.
#[derive(Default)]
pub(super) struct Guarded {
    reply: BytesMut,
    /// The first guard has been heard.
    complete: bool,
    /// Another one was heard before it.
    short: bool,
}

/// Which guard this error is about, from 1.
fn guard(frame: &[u8]) -> Option<u8> {
    let text = frame.strip_prefix(b"-ERR unknown command ")?.get(1..)?.strip_prefix(GUARD.as_bytes())?;
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(text.get(..digits)?).ok()?.parse().ok()
}

/// So many guards, to stand behind an EXEC.
pub(super) fn guards(count: u8, out: &mut BytesMut) {
    for number in 1..=count {
        encode::command(out, &[format!("{GUARD}{number}").as_bytes()]);
    }
}

impl Session {
    /// A whole frame while a guarded EXEC is the oldest command without a reply; true when it belongs to it.
    pub(super) fn hear_guarded(&mut self, frame: &[u8], push: bool, out: &mut BytesMut) -> bool {
        let Some((entry, _)) = self.pipeline.expecting() else { return false };
        let (count, before) = (entry.guards, self.guarded.reply.is_empty());
        if count == 0 || push && before {
            return false;
        }
        match guard(frame) {
            None => self.guarded.reply.extend_from_slice(frame),
            Some(number) => {
                self.guarded.short |= !self.guarded.complete && number != 1;
                self.guarded.complete = true;
                if number == count {
                    self.end_guarded(out);
                }
                return true;
            }
        }
        if self.guarded.reply.len() > MOST {
            self.let_down(TOO_LARGE);
        }
        true
    }

    fn end_guarded(&mut self, out: &mut BytesMut) {
        let Guarded { reply, short, .. } = std::mem::take(&mut self.guarded);
        if short && self.refusal(&reply).is_none() {
            return self.let_down(SHORT);
        }
        self.settle(&reply, out);
    }

    fn let_down(&mut self, text: &[u8]) {
        self.guarded = Guarded::default();
        self.turned_away(text);
        self.lost = true;
    }

    /// The command just taken is refused by us inside MULTI: the server refuses it, too, and the client gets `answer`.
    pub(super) fn refuse_queued(&mut self, answer: Bytes) {
        self.pipeline.append(REFUSED);
        self.pipeline.push(super::entry::Entry {
            in_transaction: true,
            instead: Some(Box::new(answer)),
            ..super::entry::Entry::new(crate::protocol::command::Class::Admin)
        });
    }
}

const SHORT: &[u8] =
    b"-ERR the server left out the reply of a login that failed inside the transaction; what else it ran is not known; closing\r\n";
const TOO_LARGE: &[u8] =
    b"-ERR the reply of a transaction that subscribes or logs in takes more than 64 MiB; closing\r\n";
