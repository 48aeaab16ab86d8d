//! How the bytes of one batch move: in pieces, with pauses, read slowly; and what came back, up to the last byte.
//!
//! It does not judge. Bytes that are no RESP end the exchange as [`End::Garbage`].

use std::io::ErrorKind;
use std::time::Duration;

use super::stream::{Batch, Step};
use crate::differential::mentions;
use crate::differential::streams::Random;
use crate::support::{Client, Value, now, pause, value};

/// Without a byte for this long, a client hangs. Longer than a hold, and than a busy machine needs.
const WATCHDOG: Duration = Duration::from_secs(90);

/// How one batch is sent and read.
pub(super) struct Manner {
    /// Milliseconds before the first byte.
    pub(super) delay: u64,
    /// Milliseconds between two phases of the batch.
    pub(super) between: u64,
    /// Milliseconds after each 128 KiB that were read.
    pub(super) slow: u64,
    /// Cuts the requests into pieces.
    pub(super) cut: bool,
    pub(super) seed: u64,
}

impl Manner {
    pub(super) fn draw(random: &mut Random) -> Self {
        let seed = random.below(1 << 30) as u64;
        Self {
            delay: if random.one_in(2) { random.below(20) as u64 } else { 0 },
            between: if random.one_in(2) { random.below(12) as u64 } else { 0 },
            slow: if random.one_in(4) { 1 + random.below(12) as u64 } else { 0 },
            cut: random.one_in(3),
            seed,
        }
    }
}

/// How the exchange ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Every reply has come.
    Done,
    /// The other side closed the connection.
    Closed,
    /// Nothing came for [`WATCHDOG`].
    Silent,
    /// What came is no reply.
    Garbage(String),
}

/// What came back for a batch.
#[derive(Debug)]
pub(super) struct Seen {
    /// Replies with their bytes, without the invalidation pushes.
    pub(super) replies: Vec<(Value, Vec<u8>)>,
    /// Bytes of a reply that is not complete.
    pub(super) rest: Vec<u8>,
    pub(super) end: End,
}

impl Seen {
    fn nothing() -> Self {
        Self { replies: Vec::new(), rest: Vec::new(), end: End::Done }
    }

    /// Takes complete replies from the rest.
    fn cut(&mut self) {
        let mut used = 0;
        while used < self.rest.len() {
            let bytes = &self.rest[used..];
            let Ok(decoded) = std::panic::catch_unwind(|| value::decode(bytes)) else {
                self.end = End::Garbage(format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(200)])));
                break;
            };
            let Some((value, taken)) = decoded else { break };
            if !is_invalidation(&value) {
                self.replies.push((value, bytes[..taken].to_vec()));
            }
            used += taken;
        }
        self.rest.drain(..used);
    }
}

/// Tracking's pushes come whenever they come.
fn is_invalidation(value: &Value) -> bool {
    matches!(value, Value::Push(items) if items.first().is_some_and(|first| *first == Value::from("invalidate")))
}

/// Sends a batch and reads what comes back.
pub(super) fn exchange(client: &mut Client, batch: &Batch, manner: &Manner, publish: &dyn Fn(&str)) -> Seen {
    let mut random = Random::new(manner.seed);
    let mut seen = Seen::nothing();
    let mut wanted = 0;
    pause(manner.delay);
    for (number, phase) in batch.phases.iter().enumerate() {
        if number > 0 {
            pause(manner.between);
        }
        if let Some(channel) = phase.iter().find_map(|step| step.heard.as_deref()) {
            // Longer than a client stays on a connection of its own for nothing.
            pause(400);
            publish(channel);
        }
        let bytes: Vec<u8> = phase.iter().flat_map(|step| step.bytes.iter().copied()).collect();
        wanted += phase.iter().map(|step| step.replies).sum::<usize>();
        for piece in if manner.cut && !bytes.is_empty() { random.cuts(&bytes) } else { vec![&bytes[..]] } {
            if client.try_send(piece).is_err() {
                // What was said before the end is read below.
                break;
            }
            if manner.cut {
                pause(random.below(4) as u64);
            }
        }
        let last = number + 1 == batch.phases.len();
        read(client, &mut seen, wanted, if last { Some(batch) } else { None }, manner.slow);
        if seen.end != End::Done {
            break;
        }
    }
    seen
}

/// Reads until so many replies are there, or the batch's last one.
fn read(client: &mut Client, seen: &mut Seen, wanted: usize, last: Option<&Batch>, slow: u64) {
    client.wait_at_most(Duration::from_millis(500));
    let mut heard = now();
    let mut pauses = 0;
    loop {
        let word = last.is_some_and(|b| seen.replies.last().is_some_and(|(value, _)| mentions(value, &b.word)));
        let ends = last.is_some_and(|b| b.ends);
        if !ends && (word || seen.replies.len() >= wanted) {
            return;
        }
        match client.take(1 << 17) {
            Ok(bytes) => {
                seen.rest.extend(bytes);
                heard = now();
                seen.cut();
                if seen.end != End::Done {
                    return;
                }
                // (Up to some seconds in all.)
                if slow > 0 && pauses < 300 {
                    pause(slow);
                    pauses += 1;
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if heard.elapsed() > WATCHDOG {
                    seen.end = End::Silent;
                    return;
                }
            }
            Err(_) => {
                seen.end = End::Closed;
                return;
            }
        }
    }
}

/// One step of a batch, alone, on a connection to the twin.
pub(super) fn one(client: &mut Client, step: &Step, publish: &dyn Fn(&str)) -> Seen {
    let mut seen = Seen::nothing();
    if let Some(channel) = &step.heard {
        publish(channel);
    }
    if client.try_send(step.twin.as_ref().unwrap_or(&step.bytes)).is_err() {
        seen.end = End::Closed;
        return seen;
    }
    if step.ends {
        read(client, &mut seen, usize::MAX, None, 0);
    } else {
        read(client, &mut seen, step.replies, None, 0);
    }
    seen
}
