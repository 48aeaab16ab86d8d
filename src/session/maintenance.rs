//! `CLIENT MAINT_NOTIFICATIONS`, and what is pushed to those who opted in.
//!
//! The command is answered here and never goes to a node. It waits until everything before it is answered, because a
//! HELLO 3 of the same pipeline decides whether it may be accepted: a push in the middle of a RESP2 conversation would
//! be taken for a reply. The shapes are those that the client libraries parse: a type and an endpoint as bulk strings,
//! four elements in MOVING, `_` for "connect to where you were configured to". When something is pushed, and where
//! clients are sent, is decided by the caller.
//!
//! Invariant: nothing is pushed to a client that did not ask, speaks RESP2, or has half a reply.

use bytes::{Bytes, BytesMut};

use crate::protocol::args::args;
use crate::protocol::command::{Class, Connection};
use crate::protocol::encode;

use super::{Phase, Session};

/// What kind of endpoint a client wants to be told in MOVING.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Endpoint {
    /// It did not say.
    #[default]
    Any,
    /// `internal-ip`, `external-ip`.
    Address,
    /// `internal-fqdn`, `external-fqdn`.
    Name,
    /// `none`: it goes to where it was configured to.
    None,
}

/// The opt-in of one session.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    wanted: Option<Endpoint>,
    /// The command, until its turn has come.
    pending: Option<Bytes>,
}

impl Maintenance {
    /// RESET, or back to RESP2.
    pub(super) fn forget(&mut self) {
        self.wanted = None;
    }

    /// The command that waits for its turn will not be answered.
    pub(super) fn forget_pending(&mut self) {
        self.pending = None;
    }

    /// A command waits for its turn.
    pub(super) fn waits(&self) -> bool {
        self.pending.is_some()
    }
}

impl Session {
    /// The client asked for maintenance notifications, with endpoints of this kind.
    pub fn opted_in(&self) -> Option<Endpoint> {
        self.maintenance.wanted.filter(|_| self.server.state.resp3())
    }

    /// A whole frame that is no reply may be put before whatever the client gets next.
    pub fn may_tell(&self) -> bool {
        !self.assembly.half_delivered() && !self.is_raw() && !self.closing
    }

    /// The command behind everything that was taken is CLIENT MAINT_NOTIFICATIONS; true when it is dealt with.
    pub(super) fn take_opt_in(&mut self, class: Class) -> bool {
        if class != Class::Connection(Connection::MaintNotifications) || matches!(self.phase, Phase::Raw) {
            return false;
        }
        let command = self.pipeline.take_unfinished().freeze();
        if self.transaction.queueing(class) {
            self.answer_ourselves(class, Bytes::from_static(IN_TRANSACTION));
        } else {
            self.maintenance.pending = Some(command);
        }
        true
    }

    /// Everything before it is answered: what becomes of the opt-in? False when there is none.
    pub(super) fn answer_opt_in(&mut self) -> bool {
        let Some(command) = self.maintenance.pending.take() else { return false };
        let answer = if self.settings.notifications { self.opt_in(&command) } else { Err(unknown(&command)) };
        let answer = match answer {
            Ok(wanted) => {
                self.maintenance.wanted = wanted;
                Bytes::from_static(b"+OK\r\n")
            }
            Err(text) => {
                let mut reply = BytesMut::new();
                encode::error(&mut reply, &text);
                reply.freeze()
            }
        };
        self.answer_ourselves(Class::Admin, answer);
        true
    }

    fn opt_in(&self, command: &[u8]) -> Result<Option<Endpoint>, String> {
        let is = |word: &[u8], text: &str| word.eq_ignore_ascii_case(text.as_bytes());
        let words: Vec<&[u8]> = args(command).skip(2).collect();
        let wanted = match words.as_slice() {
            [off] if is(off, "off") => return Ok(None),
            [on] if is(on, "on") => Endpoint::Any,
            [on, option, kind] if is(on, "on") && is(option, "moving-endpoint-type") => match () {
                () if is(kind, "none") => Endpoint::None,
                () if is(kind, "internal-ip") || is(kind, "external-ip") => Endpoint::Address,
                () if is(kind, "internal-fqdn") || is(kind, "external-fqdn") => Endpoint::Name,
                () => return Err("ERR unknown moving-endpoint-type".to_owned()),
            },
            _ => return Err("ERR syntax error, expected ON [moving-endpoint-type TYPE] or OFF".to_owned()),
        };
        if self.server.state.resp3() {
            Ok(Some(wanted))
        } else {
            Err("ERR maintenance notifications need RESP3".to_owned())
        }
    }
}

/// As a server that does not know the sub-command says it.
fn unknown(command: &[u8]) -> String {
    let word = args(command).nth(1).unwrap_or_default();
    let word = word.get(..word.len().min(128)).unwrap_or_default();
    format!("ERR unknown subcommand '{}'. Try CLIENT HELP.", String::from_utf8_lossy(word))
}

const IN_TRANSACTION: &[u8] = b"-ERR CLIENT MAINT_NOTIFICATIONS is not allowed in a transaction\r\n";
/// Clients show it, and nothing more: which shard it is about, as text of a JSON array.
const SHARDS: &[u8] = b"[\"1\"]";

/// `MOVING`: within so many seconds the client should go to `endpoint`, or to where it was configured to.
pub fn moving(out: &mut BytesMut, event: u64, seconds: u64, endpoint: Option<&str>) {
    encode::push(out, 4, true);
    encode::bulk(out, b"MOVING");
    numbers(out, event, Some(seconds));
    match endpoint {
        Some(endpoint) => encode::bulk(out, endpoint.as_bytes()),
        None => encode::null(out, true),
    }
}

/// `FAILING_OVER`: the next replies may take so many seconds.
pub fn failing_over(out: &mut BytesMut, event: u64, seconds: u64) {
    encode::push(out, 4, true);
    encode::bulk(out, b"FAILING_OVER");
    numbers(out, event, Some(seconds));
    encode::bulk(out, SHARDS);
}

/// `FAILED_OVER`: it is over.
pub fn failed_over(out: &mut BytesMut, event: u64) {
    encode::push(out, 3, true);
    encode::bulk(out, b"FAILED_OVER");
    numbers(out, event, None);
    encode::bulk(out, SHARDS);
}

fn numbers(out: &mut BytesMut, event: u64, seconds: Option<u64>) {
    for number in std::iter::once(event).chain(seconds) {
        encode::integer(out, i64::try_from(number).unwrap_or(i64::MAX));
    }
}
