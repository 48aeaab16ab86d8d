//! What Redis could have said: a twin server that executes the same commands without faults.
//!
//! Where an outcome is unknown there are several histories. Each is tried on the twin, from a copy of the client's keys as
//! of before the batch, until one explains every byte that the client got *and* the data that the real primary now has.
//! A command is executed once or not at all in each of them, so that a second execution is explained by none.

use std::time::Duration;

use super::admin::{self, Admin};
use super::stream::{Batch, Effect, SHARED_DATABASES, Speaker, Step};
use super::table::Excuse;
use super::wire::{self, End, Seen};
use crate::differential::shape;
use crate::support::redis::Redis;
use crate::support::{Client, Value, now};

/// Histories that are tried before one is given up.
const MOST_HISTORIES: usize = 600;

/// Who a client is at the server, as the twin says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Portrait {
    /// `None`: it has not logged in, and has to.
    pub(super) user: Option<String>,
    database: String,
    resp3: bool,
    name: String,
    /// In a state that a new connection cannot be brought to.
    pub(super) odd: bool,
}

/// One client's part of the twin.
pub(super) struct Half {
    pub(super) speaker: Speaker,
    pub(super) client: Client,
    pub(super) portrait: Portrait,
    /// It has said CLIENT REPLY: whenever its connection to Redis is lost, it is closed.
    pub(super) quiet: bool,
}

/// What a batch came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As Redis does it.
    Same,
    /// As Redis could have done it, with this many unknown outcomes.
    Explained(usize),
    /// The connection was closed for a stated reason.
    Closed,
    /// A transaction was half known when its connection was lost; the real state was taken over.
    Adopted,
}

pub(super) struct Oracle<'a> {
    pub(super) twin: &'a Redis,
    pub(super) connect: &'a dyn Fn() -> Client,
}

impl Oracle<'_> {
    pub(super) fn fresh(&self, speaker: Speaker) -> Half {
        let mut half = Half { speaker, client: (self.connect)(), portrait: Portrait::default(), quiet: false };
        half.portrait = self.portrait(&mut half.client);
        half
    }

    /// Judges what came back for a batch; `primary` is where the real data is.
    pub(super) fn judge<'b>(
        &self,
        half: &mut Half,
        batch: &Batch,
        seen: &Seen,
        excuse: Excuse,
        primary: &dyn Fn() -> &'b Redis,
    ) -> Result<Verdict, String> {
        match &seen.end {
            End::Silent => return Err(format!("no answer; so far {:?}", tail(seen))),
            End::Garbage(bytes) => return Err(format!("no reply at all: {bytes}; before it {:?}", tail(seen))),
            End::Done | End::Closed => {}
        }
        let simple = !excuse.any();
        if !simple {
            self.save(half);
        }
        let until = now() + Duration::from_secs(15);
        loop {
            let real = digests(primary(), half.speaker);
            let mut best: Option<(usize, String)> = None;
            for history in histories(batch, seen, excuse) {
                match self.attempt(half, batch, seen, excuse, &history) {
                    Err((at, why)) => {
                        if best.as_ref().is_none_or(|(known, _)| at > *known) {
                            best = Some((at, format!("{why}; history {history:?}")));
                        }
                    }
                    Ok(()) => {
                        let twin = digests(self.twin, half.speaker);
                        if twin == real {
                            return Ok(verdict(batch, seen, &history));
                        }
                        let differ = real.differences(&twin);
                        let [has, could] = [primary(), self.twin].map(|node| describe(node, &differ));
                        let before = best.map_or_else(String::new, |(_, why)| why + "\n");
                        let why = format!(
                            "{before}the data differ: it has {has}; it could have {could}; history {history:?}"
                        );
                        best = Some((usize::MAX, why));
                    }
                }
            }
            let late = best.as_ref().is_some_and(|(at, _)| *at == usize::MAX) && excuse.unknown;
            if !late || now() > until {
                if excuse.unknown && half_known(batch, seen) {
                    return Ok(Verdict::Adopted);
                }
                let why = best.map_or_else(|| "no history".to_owned(), |(_, why)| why);
                let got: Vec<_> = seen.replies.iter().map(|(value, _)| value).collect();
                return Err(format!("{why}\nit got: {got:?}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Plays one history on the twin. An error says how far it explains what the client got.
    fn attempt(
        &self,
        half: &mut Half,
        batch: &Batch,
        seen: &Seen,
        excuse: Excuse,
        history: &[bool],
    ) -> Result<(), (usize, String)> {
        if excuse.any() {
            self.restore(half);
            half.client = self.again(&half.portrait);
        }
        let publish = |channel: &str| {
            admin::words(self.twin, &format!("PUBLISH {channel} {}", batch.word));
        };
        let mut at = 0;
        // Reads that were asked again once the writes behind them had run, and the last of those writes.
        let mut deferred: Vec<(&Step, usize)> = Vec::new();
        let behind = last_unknown(batch, seen);
        for (number, (step, ran)) in batch.steps().zip(history).enumerate() {
            let ends_here = behind.is_none_or(|last| number >= last);
            if ends_here {
                self.read_late(half, seen, &mut deferred)?;
            }
            let over = at >= seen.replies.len();
            if !ran {
                if step.text == "EXEC" {
                    wire::one(&mut half.client, &Step { bytes: super::words("DISCARD"), ..step.clone() }, &publish);
                }
                if !over {
                    allowed_instead(step, &seen.replies[at].0, excuse, batch).map_err(|why| (at, why))?;
                    at += 1;
                }
                continue;
            }
            let twin = wire::one(&mut half.client, step, &publish);
            for reply in &twin.replies {
                match compare(step, reply, seen, at, batch, excuse).map_err(|why| (at, why))? {
                    Match::Yes => at += 1,
                    Match::Cut => at = usize::MAX,
                    Match::No(_) if excuse.later_reads && step.effect == Effect::Reads && !ends_here => {
                        deferred.push((step, at));
                        at += 1;
                    }
                    Match::No(why) => return Err((at, why)),
                }
            }
        }
        if at < seen.replies.len() {
            return Err((at, format!("nobody asked for {:?}", seen.replies[at].0)));
        }
        if seen.end == End::Closed && !batch.ends {
            closed_for_a_reason(batch, seen, excuse, half).map_err(|why| (at.min(1 << 20), why))?;
        }
        Ok(())
    }

    /// Reads that were asked again behind later writes: what they say now is what the client has got.
    fn read_late(&self, half: &mut Half, seen: &Seen, late: &mut Vec<(&Step, usize)>) -> Result<(), (usize, String)> {
        for (step, at) in late.drain(..) {
            let again = wire::one(&mut half.client, step, &|_| ());
            if again.replies.first().is_none_or(|(_, raw)| *raw != seen.replies[at].1) {
                return Err((
                    at,
                    format!("{}: {}, neither in its place nor later", step.text, text(&seen.replies[at].1)),
                ));
            }
        }
        Ok(())
    }

    /// After a batch that ended well: who the client is now.
    pub(super) fn portrait(&self, client: &mut Client) -> Portrait {
        let asked = |client: &mut Client, words: &str| {
            let step = Step::plain(words);
            wire::one(client, &step, &|_| ()).replies.into_iter().next().map(|(value, _)| value)
        };
        let id = match asked(client, "CLIENT ID") {
            Some(Value::Int(id)) => id,
            Some(error) if error.is_error("NOAUTH") => return Portrait::default(),
            Some(error) if error.is_error("NOPERM") => return Portrait { odd: true, ..Portrait::default() },
            _ => return Portrait { odd: true, ..Portrait::default() },
        };
        let line = admin::words(self.twin, &format!("CLIENT LIST ID {id}")).text();
        let field = |name: &str| {
            let start = format!("{name}=");
            line.split(' ').find_map(|word| word.trim().strip_prefix(&start)).unwrap_or_default().to_owned()
        };
        let odd = field("sub") != "0"
            || field("psub") != "0"
            || field("multi") != "-1"
            || !["0", ""].contains(&field("ssub").as_str());
        Portrait {
            user: Some(field("user")),
            database: field("db"),
            resp3: field("resp") == "3",
            name: field("name"),
            odd,
        }
    }

    /// A connection of the same client, made anew. Every user of the twin has one more password, `twin`.
    fn again(&self, portrait: &Portrait) -> Client {
        let mut client = (self.connect)();
        let mut said = |words: String| {
            let reply = client.try_cmd(&words).unwrap_or_else(|e| panic!("the twin: {words}: {e}"));
            assert!(!matches!(reply, Value::Error(_)), "the twin: {words}: {reply:?}");
        };
        if let Some(user) = &portrait.user {
            said(format!("AUTH {user} twin"));
            if portrait.resp3 {
                said("HELLO 3".to_owned());
            }
            if portrait.database != "0" {
                said(format!("SELECT {}", portrait.database));
            }
            if !portrait.name.is_empty() {
                said(format!("CLIENT SETNAME {}", portrait.name));
            }
        }
        client
    }

    fn save(&self, half: &Half) {
        self.copy(half, "local to='saved:'..k; redis.call('DEL',to); redis.call('COPY',k,to)");
    }

    fn restore(&self, half: &Half) {
        self.copy(half, "redis.call('DEL',k); redis.call('COPY','saved:'..k,k)");
    }

    fn copy(&self, half: &Half, each: &str) {
        let script = format!("for _,k in ipairs(KEYS) do {each} end");
        let keys = half.speaker.keys();
        let count = keys.len().to_string();
        admin::ask(self.twin, |admin| {
            for database in databases(half.speaker) {
                admin.words(&format!("SELECT {database}"))?;
                let mut args: Vec<&[u8]> = vec![b"EVAL", script.as_bytes(), count.as_bytes()];
                args.extend(keys.iter().map(String::as_bytes));
                let reply = admin.call(&args)?;
                assert_eq!(reply, Value::Null, "{script}");
            }
            Ok(())
        });
    }

    /// The twin takes over what the primary has of this client.
    pub(super) fn adopt(&self, speaker: Speaker, primary: &Redis) {
        for database in databases(speaker) {
            for key in speaker.keys() {
                let dumped = admin::ask(primary, |admin| {
                    admin.words(&format!("SELECT {database}"))?;
                    admin.words(&format!("DUMP {key}"))
                });
                admin::ask(self.twin, |admin| {
                    admin.words(&format!("SELECT {database}"))?;
                    admin.words(&format!("DEL {key}"))?;
                    match &dumped {
                        Value::Bulk(bytes) => admin.call(&[b"RESTORE", key.as_bytes(), b"0", bytes]),
                        _ => Ok(Value::Null),
                    }
                });
            }
        }
    }
}

/// Which steps ran, for every history that has to be tried; the likeliest first.
fn histories(batch: &Batch, seen: &Seen, excuse: Excuse) -> Vec<Vec<bool>> {
    let steps: Vec<&Step> = batch.steps().collect();
    // (RESP2 subscribers and CLIENT REPLY aside, replies come one for one.)
    let mut open = Vec::new();
    let mut base = vec![true; steps.len()];
    let mut at = 0;
    let mut told = steps.len();
    for (number, step) in steps.iter().enumerate() {
        if step.replies == 0 {
            if excuse.quiet && seen.end == End::Closed {
                open.push(number);
            }
            continue;
        }
        match seen.replies.get(at).map(|(value, _)| value) {
            Some(value) if value.is_error("OUTCOMEUNKNOWN") => open.push(number),
            Some(value) if value.is_error("LOADING") => base[number] = false,
            Some(Value::Null) if step.text == "EXEC" && excuse.watch && batch.watches => open.push(number),
            Some(_) => {}
            None => {
                told = told.min(number);
            }
        }
        at += 1;
    }
    let mut all = Vec::new();
    let limit = if open.len() <= 7 { 1_usize << open.len() } else { open.len() + 1 };
    for choice in 0..limit {
        for upto in (told..=steps.len()).rev() {
            let mut history = base.clone();
            for (bit, number) in open.iter().enumerate() {
                // Up to seven: any of them. More: those that were sent first.
                let skipped = if open.len() <= 7 {
                    choice >> (open.len() - 1 - bit) & 1 == 1
                } else {
                    bit + choice >= open.len()
                };
                if skipped {
                    history[*number] = false;
                }
            }
            history[upto..].fill(false);
            all.push(history);
            if all.len() >= MOST_HISTORIES {
                return all;
            }
        }
    }
    all
}

/// How a reply of the twin and what the client got are to each other.
enum Match {
    Yes,
    /// The client got a part of it, or nothing; the rest of the batch may have run, and nobody has heard of it.
    Cut,
    No(String),
}

fn compare(
    step: &Step,
    (value, raw): &(Value, Vec<u8>),
    seen: &Seen,
    at: usize,
    batch: &Batch,
    excuse: Excuse,
) -> Result<Match, String> {
    let Some((got, bytes)) = seen.replies.get(at) else {
        let part = &seen.rest[..];
        if seen.end != End::Closed {
            return Err(format!("{}: no reply; the twin said {value:?}", step.text));
        }
        if at == seen.replies.len() && !raw.starts_with(part) && !step.loose {
            return Err(format!("{}: a part that is no part of the reply: {}", step.text, text(part)));
        }
        return Ok(Match::Cut);
    };
    if got.is_error("OUTCOMEUNKNOWN") {
        return allowed_instead(step, got, excuse, batch).map(|()| Match::Yes);
    }
    let refused = step.twin.is_some() && matches!((got, value), (Value::Error(_), Value::Error(_)));
    let large = excuse.limit.is_some_and(|limit| batch.greedy && raw.len() > limit);
    if excuse.queued && batch.watches && bytes == b"+QUEUED\r\n" && matches!(value, Value::Error(_)) {
        return Ok(Match::Yes);
    }
    let same = if step.loose { shape(got) == shape(value) } else { bytes == raw };
    if same || refused || large && matches!(got, Value::Error(_)) {
        return Ok(Match::Yes);
    }
    Ok(Match::No(format!("{}: {} instead of {}", step.text, difference(bytes, raw), text(raw))))
}

/// What a client may get for a step that did not run.
fn allowed_instead(step: &Step, got: &Value, excuse: Excuse, batch: &Batch) -> Result<(), String> {
    let writes = matches!(step.effect, Effect::Writes | Effect::Commits) || step.text == "EXEC";
    let fine = match got {
        Value::Error(text) if text.starts_with("OUTCOMEUNKNOWN") => {
            (excuse.unknown || excuse.limit.is_some() && batch.greedy) && writes
        }
        Value::Error(text) if text.starts_with("LOADING") => excuse.loading,
        Value::Null => excuse.watch && batch.watches && step.text == "EXEC",
        _ => false,
    };
    if fine { Ok(()) } else { Err(format!("{}: {got:?}, which nothing explains", step.text)) }
}

/// Which clients a fault may close.
fn closed_for_a_reason(batch: &Batch, seen: &Seen, excuse: Excuse, half: &mut Half) -> Result<(), String> {
    if excuse.half && !seen.rest.is_empty() {
        return Ok(());
    }
    if excuse.quiet && (half.quiet || batch.quiet()) {
        return Ok(());
    }
    if excuse.subscribed && batch.steps().any(|step| step.text.contains("SUBSCRIBE")) {
        return Ok(());
    }
    if excuse.limit.is_some() && batch.greedy {
        return Ok(());
    }
    Err(format!("closed without a reason, after {:?}", tail(seen)))
}

/// The step behind the last one whose outcome is unknown.
fn last_unknown(batch: &Batch, seen: &Seen) -> Option<usize> {
    let at = seen.replies.iter().rposition(|(value, _)| value.is_error("OUTCOMEUNKNOWN"))?;
    let with_reply = batch.steps().enumerate().filter(|(_, step)| step.replies > 0);
    with_reply.map(|(number, _)| number + 1).nth(at)
}

/// An outcome inside a transaction is unknown: how much of it ran depends on where MULTI was lost.
fn half_known(batch: &Batch, seen: &Seen) -> bool {
    let multi = batch.steps().any(|step| step.effect == Effect::Begins);
    multi && seen.replies.iter().any(|(value, _)| value.is_error("OUTCOMEUNKNOWN"))
}

fn verdict(batch: &Batch, seen: &Seen, _history: &[bool]) -> Verdict {
    let unknown = seen.replies.iter().filter(|(value, _)| value.is_error("OUTCOMEUNKNOWN")).count();
    match () {
        () if seen.end == End::Closed && !batch.ends => Verdict::Closed,
        () if unknown > 0 => Verdict::Explained(unknown),
        () => Verdict::Same,
    }
}

fn databases(speaker: Speaker) -> [usize; 3] {
    [SHARED_DATABASES[0], SHARED_DATABASES[1], speaker.database()]
}

/// What a server has of one client, by database and key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Digests(Vec<((usize, String), Value)>);

impl Digests {
    fn differences(&self, twin: &Self) -> Vec<(usize, String)> {
        self.0.iter().zip(&twin.0).filter(|(a, b)| a != b).map(|(a, _)| a.0.clone()).collect()
    }
}

/// What a server has in these keys, for the reader of a failure.
fn describe(node: &Redis, keys: &[(usize, String)]) -> String {
    let value = |database: usize, key: &str| {
        admin::ask(node, |admin: &mut Admin| {
            admin.words(&format!("SELECT {database}"))?;
            let words = match admin.words(&format!("TYPE {key}"))?.text().as_str() {
                "string" => format!("GET {key}"),
                "list" => format!("LRANGE {key} 0 -1"),
                "hash" => format!("HGETALL {key}"),
                "zset" => format!("ZRANGE {key} 0 -1 WITHSCORES"),
                "set" => format!("SMEMBERS {key}"),
                "stream" => format!("XRANGE {key} - +"),
                _ => "PING nothing".to_owned(),
            };
            admin.words(&words)
        })
    };
    let told = keys.iter().map(|(database, key)| format!("{database}/{key}: {:?}", value(*database, key)));
    told.collect::<Vec<_>>().join(", ")
}

pub(super) fn digests(node: &Redis, speaker: Speaker) -> Digests {
    let keys = speaker.keys();
    Digests(admin::ask(node, |admin: &mut Admin| {
        let mut all = Vec::new();
        for database in databases(speaker) {
            admin.words(&format!("SELECT {database}"))?;
            let reply = admin.words(&format!("DEBUG DIGEST-VALUE {}", keys.join(" ")))?;
            let named = keys.iter().map(|key| (database, key.clone()));
            all.extend(named.zip(reply.items().iter().cloned()));
        }
        Ok(all)
    }))
}

fn tail(seen: &Seen) -> Vec<String> {
    let all: Vec<String> = seen.replies.iter().map(|(value, _)| format!("{value:?}")).collect();
    let mut last: Vec<String> = all[all.len().saturating_sub(4)..].to_vec();
    if !seen.rest.is_empty() {
        last.push(format!("and {} bytes of a reply: {}", seen.rest.len(), text(&seen.rest)));
    }
    last
}

fn text(bytes: &[u8]) -> String {
    match bytes.len() {
        0..120 => format!("{:?}", String::from_utf8_lossy(bytes)),
        len => format!("{:?}… ({len} bytes)", String::from_utf8_lossy(&bytes[..60])),
    }
}

/// Where two replies part.
fn difference(got: &[u8], twin: &[u8]) -> String {
    let at = got.iter().zip(twin).take_while(|(a, b)| a == b).count();
    match at {
        0..60 => text(got),
        _ => format!("the same up to byte {at}, then {}", text(&got[at..got.len().min(at + 100)])),
    }
}
