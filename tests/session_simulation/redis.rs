//! One Redis node as its connections see it, after what was measured on real servers: which command waits in a pause,
//! what a demotion answers to whom, who is told what and whose connection is closed.
//!
//! It knows neither the proxy nor the other node; what it writes goes to a [`Log`].

use std::collections::{BTreeMap, BTreeSet};

use crate::keyspace::{Keyspace, Reply, Words, apply_pop, bulk, is_write, words};

pub(crate) const READONLY: &str = "READONLY You can't write against a read only replica.";
const UNBLOCKED: &str = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";
const ON_REPLICA: &str = "WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is \
                          configured to be writable (which is not the default) writes to replicas are just local and are not propagated.";

/// Changes that belong together, in a database.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) db: usize,
    pub(crate) commands: Vec<Words>,
}

/// What was written, and where that went.
#[derive(Default)]
pub(crate) struct Log {
    /// The history that survives.
    pub(crate) entries: Vec<Entry>,
    /// Written by a primary that was lost before it was replicated, or that was not primary any more.
    pub(crate) lost: Vec<Entry>,
    /// Published on a node that was demoted: only its own subscribers heard it.
    pub(crate) stray: Vec<Entry>,
    /// The end of each stream when somebody began to wait behind it.
    pub(crate) waits: BTreeMap<(usize, Vec<u8>), u64>,
}

#[derive(Default)]
pub(crate) struct Conn {
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
    /// The server has closed it; what is in `output` may still be read.
    pub(crate) closed: bool,
    /// The other side has.
    pub(crate) left: bool,
    pub(crate) db: usize,
    pub(crate) name: Vec<u8>,
    pub(crate) user: Vec<u8>,
    pub(crate) resp3: bool,
    pub(crate) topics: [BTreeSet<Vec<u8>>; 3],
    pub(crate) multi: Option<Multi>,
    pub(crate) watch: Vec<(usize, Vec<u8>)>,
    pub(crate) dirty: bool,
    pub(crate) blocked: Option<Blocked>,
    pub(crate) tracking: bool,
    pub(crate) tracked: BTreeSet<Vec<u8>>,
    pub(crate) silent: Silent,
    /// How much of the log its last command had to cover.
    pub(crate) offset: usize,
}

#[derive(Default, PartialEq, Eq)]
pub(crate) enum Silent {
    #[default]
    No,
    Next,
    Skipping,
    Off,
}

#[derive(Default)]
pub(crate) struct Multi {
    queued: Vec<Words>,
    broken: bool,
}

pub(crate) struct Blocked {
    pub(crate) command: Words,
    until: Option<u64>,
    order: u64,
}

pub(crate) struct Node {
    /// Tells this process from others.
    pub(crate) process: u64,
    pub(crate) alive: bool,
    pub(crate) frozen: bool,
    pub(crate) primary: bool,
    pub(crate) paused: bool,
    /// It goes on as a primary although another one is.
    pub(crate) stale: bool,
    pub(crate) applied: usize,
    pub(crate) data: Keyspace,
    pub(crate) conns: BTreeMap<u64, Conn>,
    pub(crate) now: u64,
    next: u64,
}

const SIDES: [&str; 3] = ["subscribe", "psubscribe", "ssubscribe"];

impl Node {
    pub(crate) fn new(process: u64, primary: bool) -> Self {
        Self {
            process,
            alive: true,
            frozen: false,
            primary,
            paused: false,
            stale: false,
            applied: 0,
            data: Keyspace::default(),
            conns: BTreeMap::new(),
            now: 0,
            next: 0,
        }
    }

    pub(crate) fn connect(&mut self) -> Option<u64> {
        if !self.alive {
            return None;
        }
        self.next += 1;
        self.conns.insert(self.next, Conn { user: b"default".to_vec(), ..Conn::default() });
        Some(self.next)
    }

    pub(crate) fn runs(&self) -> bool {
        self.alive && !self.frozen
    }

    /// Takes one command of a connection; false when there is none that it may take now.
    pub(crate) fn step(&mut self, id: u64, log: &mut Log) -> bool {
        let runs = self.runs();
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| runs && !conn.closed && conn.blocked.is_none()) else {
            return false;
        };
        let Some((command, used)) = parse(&conn.input) else { return false };
        if self.paused && waits_in_a_pause(&command, conn.multi.as_ref()) {
            return false;
        }
        conn.input.drain(..used);
        let reply = self.execute(id, &command, log);
        self.answer(id, reply);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.offset = self.applied;
            conn.silent = match conn.silent {
                Silent::Next => Silent::Skipping,
                Silent::Skipping => Silent::No,
                Silent::Off => Silent::Off,
                Silent::No => Silent::No,
            };
        }
        self.serve(log);
        true
    }

    fn answer(&mut self, id: u64, reply: Option<Reply>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if let Some(reply) = reply.filter(|_| matches!(conn.silent, Silent::No)) {
            reply.write(conn.resp3, &mut conn.output);
        }
    }

    fn execute(&mut self, id: u64, command: &Words, log: &mut Log) -> Option<Reply> {
        let name = String::from_utf8_lossy(&command[0]).to_uppercase();
        let conn = self.conns.get_mut(&id)?;
        let subscribed = conn.topics.iter().any(|topics| !topics.is_empty());
        let about_topics = name.ends_with("SUBSCRIBE");
        if subscribed && !conn.resp3 && !about_topics && !matches!(name.as_str(), "PING" | "QUIT" | "RESET") {
            return Some(Reply::Error(format!("ERR Can't execute '{}': only (P|S)SUBSCRIBE", name.to_lowercase())));
        }
        if let Some(multi) = &mut conn.multi
            && !matches!(name.as_str(), "EXEC" | "DISCARD" | "MULTI" | "RESET" | "QUIT" | "WATCH")
        {
            let wrong = match name.as_str() {
                "NOSUCH" => Some("ERR unknown command 'NOSUCH', with args beginning with: ".to_owned()),
                _ if !self.primary && is_write(&name) => Some(READONLY.to_owned()),
                _ => None,
            };
            if let Some(wrong) = wrong {
                multi.broken = true;
                return Some(Reply::Error(wrong));
            }
            multi.queued.push(command.clone());
            return Some(Reply::Simple("QUEUED"));
        }
        match name.as_str() {
            "MULTI" => {
                conn.multi = Some(Multi::default());
                Some(Reply::Simple("OK"))
            }
            "EXEC" => Some(self.exec(id, log)),
            "DISCARD" if conn.multi.is_some() => {
                (conn.multi, conn.dirty, conn.watch) = (None, false, Vec::new());
                Some(Reply::Simple("OK"))
            }
            "DISCARD" => Some(Reply::Error("ERR DISCARD without MULTI".into())),
            _ if about_topics => self.subscription(id, &name, command),
            "PUBLISH" | "SPUBLISH" => Some(self.publish(command, log)),
            _ if self.about_connection(id, &name, command).is_some_and(|reply| {
                self.answer(id, reply);
                true
            }) =>
            {
                None
            }
            _ => self.data_command(id, &name, command, log),
        }
    }

    fn data_command(&mut self, id: u64, name: &str, command: &Words, log: &mut Log) -> Option<Reply> {
        let conn = self.conns.get_mut(&id)?;
        let db = conn.db;
        if is_write(name) && !self.primary {
            return Some(Reply::Error(READONLY.into()));
        }
        match name {
            "EVAL" => return Some(self.script(db, command, log)),
            "WAIT" if !self.primary => return Some(Reply::Error(format!("ERR {ON_REPLICA}"))),
            "NOSUCH" => return Some(Reply::Error("ERR unknown command 'NOSUCH', with args beginning with: ".into())),
            "GET" if conn.tracking => drop(conn.tracked.insert(command[1].clone())),
            _ => {}
        }
        let done = if name == "WAIT" { None } else { self.data.run(db, command, self.now, self.process) };
        let Some(done) = done else {
            self.block(id, name, command, log);
            return None;
        };
        if let Some(effect) = done.effect {
            self.record(log, Entry { db, commands: vec![effect] });
        }
        self.touch(db, &done.touched);
        Some(done.reply)
    }

    fn block(&mut self, id: u64, name: &str, command: &Words, log: &mut Log) {
        let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
        let place = |name: &str| command.iter().position(|word| word.eq_ignore_ascii_case(name.as_bytes()));
        let mut command = command.clone();
        let millis = match name {
            "XREAD" => {
                let Some(at) = place("BLOCK") else { return self.answer(id, Some(Reply::NullArray)) };
                text(&command[at + 1]).parse().unwrap()
            }
            "WAIT" => text(&command[2]).parse().unwrap(),
            "BLMPOP" => seconds(&text(&command[1])),
            _ => seconds(&text(command.last().unwrap())),
        };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if name == "XREAD" {
            let key = command[command.len() - 2].clone();
            let end = self.data.last_id(conn.db, &key);
            if command.last().is_some_and(|id| id == b"$") {
                *command.last_mut().unwrap() = format!("{end}-0").into_bytes();
            }
            log.waits.entry((conn.db, key)).or_insert(end);
        }
        self.next += 1;
        let until = (millis > 0).then(|| self.now + millis);
        conn.blocked = Some(Blocked { command, until, order: self.next });
    }

    /// Those who are blocked are served, in the order in which they came; or their time is over.
    pub(crate) fn serve(&mut self, log: &mut Log) {
        if !self.runs() {
            return;
        }
        let mut blocked: Vec<(u64, u64)> =
            self.conns.iter().filter_map(|(id, conn)| Some((conn.blocked.as_ref()?.order, *id))).collect();
        blocked.sort_unstable();
        for (_, id) in blocked {
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            let Some(Blocked { command, until, .. }) = &conn.blocked else { continue };
            let (command, db, wait) = (command.clone(), conn.db, command[0].eq_ignore_ascii_case(b"WAIT"));
            let over = until.is_some_and(|until| until <= self.now);
            let may = self.primary && !self.paused || command[0].eq_ignore_ascii_case(b"XREAD");
            let done = if wait || !may { None } else { self.data.run(db, &command, self.now, self.process) };
            let reply = match done {
                Some(done) => {
                    if let Some(effect) = done.effect {
                        self.record(log, Entry { db, commands: vec![effect] });
                    }
                    self.touch(db, &done.touched);
                    done.reply
                }
                None if over && wait => Reply::Int(0),
                None if over && command[0].eq_ignore_ascii_case(b"BLMOVE") => Reply::Null,
                None if over => Reply::NullArray,
                None => continue,
            };
            self.unblock(id, reply);
        }
    }

    fn unblock(&mut self, id: u64, reply: Reply) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.blocked = None;
            conn.offset = self.applied;
        }
        self.answer(id, Some(reply));
    }

    /// The replica has so much of the log.
    pub(crate) fn acknowledged(&mut self, offset: usize) {
        let waiting = |conn: &Conn| {
            let command = conn.blocked.as_ref().map(|blocked| &blocked.command);
            command.is_some_and(|command| command[0].eq_ignore_ascii_case(b"WAIT")) && conn.offset <= offset
        };
        let ids: Vec<u64> = self.conns.iter().filter(|(_, conn)| waiting(conn)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.unblock(id, Reply::Int(1)));
    }

    fn script(&mut self, db: usize, command: &Words, log: &mut Log) -> Reply {
        let (key, value) = (command[3].clone(), command.get(4).cloned().unwrap_or_default());
        match command[1].as_slice() {
            b"read" => self.data.text(db, &key).map_or(Reply::Null, bulk),
            b"caught" if !self.primary => bulk("swallowed"),
            _ if !self.primary => Reply::Error(format!("{READONLY} script: c0ffee, on @user_script:1.")),
            _ => {
                let effect = vec![b"SET".to_vec(), key.clone(), value];
                self.data.run(db, &effect, self.now, self.process);
                self.record(log, Entry { db, commands: vec![effect] });
                self.touch(db, &[key]);
                Reply::Simple("OK")
            }
        }
    }

    fn exec(&mut self, id: u64, log: &mut Log) -> Reply {
        let Some(conn) = self.conns.get_mut(&id) else { return Reply::Null };
        let Some(multi) = conn.multi.take() else { return Reply::Error("ERR EXEC without MULTI".into()) };
        let dirty = std::mem::take(&mut conn.dirty);
        conn.watch.clear();
        let writes = |command: &Words| is_write(&String::from_utf8_lossy(&command[0]).to_uppercase());
        if multi.broken {
            return Reply::Error("EXECABORT Transaction discarded because of previous errors.".into());
        }
        if !self.primary && multi.queued.iter().any(writes) {
            return Reply::Error(format!("EXECABORT Transaction discarded because of: {READONLY}"));
        }
        if dirty {
            return Reply::NullArray;
        }
        let db = conn.db;
        let (mut replies, mut commands, mut touched) = (Vec::new(), Vec::new(), Vec::new());
        for command in &multi.queued {
            let Some(done) = self.data.run(db, command, self.now, self.process) else {
                replies.push(Reply::Null);
                continue;
            };
            commands.extend(done.effect);
            touched.extend(done.touched);
            replies.push(done.reply);
        }
        if !commands.is_empty() {
            self.record(log, Entry { db, commands });
        }
        self.touch(db, &touched);
        Reply::Array(replies)
    }

    fn record(&mut self, log: &mut Log, entry: Entry) {
        if self.stale {
            return log.lost.push(entry);
        }
        log.entries.push(entry);
        self.applied = log.entries.len();
    }

    /// Keys have changed: who watches or tracks them learns of it.
    fn touch(&mut self, db: usize, keys: &[Vec<u8>]) {
        for conn in self.conns.values_mut() {
            conn.dirty |= conn.watch.iter().any(|(at, key)| *at == db && keys.contains(key));
            for key in keys {
                if conn.tracked.remove(key) {
                    let push = Reply::Push(vec![bulk("invalidate"), Reply::Array(vec![bulk(key)])]);
                    push.write(true, &mut conn.output);
                }
            }
        }
    }

    // ---- pub/sub ----

    fn subscription(&mut self, id: u64, name: &str, command: &Words) -> Option<Reply> {
        let conn = self.conns.get_mut(&id)?;
        let word = name.to_lowercase();
        let ends = word.contains("unsubscribe");
        let kind = SIDES.iter().position(|side| *side == word.replace("un", "")).unwrap();
        let mut topics: Vec<Vec<u8>> = command[1..].to_vec();
        if topics.is_empty() {
            topics = conn.topics[kind].iter().cloned().collect();
        }
        if topics.is_empty() {
            return Some(Reply::Push(vec![bulk(&word), Reply::Null, Reply::Int(0)]));
        }
        for topic in topics {
            if ends {
                conn.topics[kind].remove(&topic);
            } else {
                conn.topics[kind].insert(topic.clone());
            }
            let count = if kind == 2 { conn.topics[2].len() } else { conn.topics[0].len() + conn.topics[1].len() };
            let push = Reply::Push(vec![bulk(&word), bulk(&topic), Reply::Int(count)]);
            push.write(conn.resp3, &mut conn.output);
        }
        None
    }

    pub(crate) fn publish(&mut self, command: &Words, log: &mut Log) -> Reply {
        let heard = self.deliver(command);
        let entry = Entry { db: 0, commands: vec![command.clone()] };
        if self.primary {
            self.record(log, entry);
        } else {
            log.stray.push(entry);
        }
        Reply::Int(heard)
    }

    fn deliver(&mut self, command: &Words) -> usize {
        let (channel, text) = (&command[1], &command[2]);
        let mut heard = 0;
        for conn in self.conns.values_mut().filter(|conn| !conn.closed) {
            let shard = command[0].eq_ignore_ascii_case(b"SPUBLISH");
            if conn.topics[if shard { 2 } else { 0 }].contains(channel) {
                let kind = if shard { "smessage" } else { "message" };
                Reply::Push(vec![bulk(kind), bulk(channel), bulk(text)]).write(conn.resp3, &mut conn.output);
                heard += 1;
            }
            for pattern in conn.topics[1].iter().filter(|_| !shard) {
                let fits = pattern.strip_suffix(b"*").is_some_and(|start| channel.starts_with(start));
                if fits {
                    let push = Reply::Push(vec![bulk("pmessage"), bulk(pattern), bulk(channel), bulk(text)]);
                    push.write(conn.resp3, &mut conn.output);
                    heard += 1;
                }
            }
        }
        heard
    }

    // ---- replication and roles ----

    /// Applies the next entry of the log, as a replica.
    pub(crate) fn apply(&mut self, entry: &Entry) {
        for command in &entry.commands {
            if command[0].ends_with(b"PUBLISH") {
                self.deliver(command);
            } else if matches!(command[0].as_slice(), b"LPOP" | b"RPOP") {
                apply_pop(&mut self.data, entry.db, command);
                self.touch(entry.db, &[command[1].clone()]);
            } else if let Some(done) = self.data.run(entry.db, command, self.now, self.process) {
                self.touch(entry.db, &done.touched);
            }
        }
        self.applied += 1;
    }

    /// It becomes a replica: whoever is blocked is told so and let go.
    pub(crate) fn demote(&mut self) {
        (self.primary, self.paused) = (false, false);
        let ids: Vec<u64> = self.conns.iter().filter(|(_, conn)| conn.blocked.is_some()).map(|(id, _)| *id).collect();
        for id in ids {
            self.unblock(id, Reply::Error(UNBLOCKED.into()));
            self.conns.get_mut(&id).unwrap().closed = true;
        }
    }

    pub(crate) fn promote(&mut self) {
        self.primary = true;
    }
}

fn seconds(text: &str) -> u64 {
    // A time-out too short for a millisecond is still one.
    let seconds: f64 = text.parse().unwrap();
    std::time::Duration::from_secs_f64(seconds).as_millis().try_into().unwrap()
}

fn waits_in_a_pause(command: &Words, multi: Option<&Multi>) -> bool {
    let name = String::from_utf8_lossy(&command[0]).to_uppercase();
    let writes = |command: &Words| is_write(&String::from_utf8_lossy(&command[0]).to_uppercase());
    match name.as_str() {
        "EVAL" | "PUBLISH" | "SPUBLISH" => true,
        "EXEC" => multi.is_some_and(|multi| multi.queued.iter().any(writes)),
        name => is_write(name),
    }
}

/// One command in array form, and its length.
pub(crate) fn parse(input: &[u8]) -> Option<(Words, usize)> {
    let mut at = 0;
    let count = line(input, &mut at, b'*')?;
    let mut found = Vec::new();
    for _ in 0..count {
        let len = line(input, &mut at, b'$')?;
        let word = input.get(at..at + len)?;
        input.get(at + len + 1)?;
        found.push(word.to_vec());
        at += len + 2;
    }
    assert!(!found.is_empty() && found[0] != words("").concat(), "an empty command went up");
    Some((found, at))
}

/// The number in the line at `at`, which begins with `kind`.
fn line(input: &[u8], at: &mut usize, kind: u8) -> Option<usize> {
    assert!(*input.get(*at)? == kind, "not an array: {:?}", String::from_utf8_lossy(input));
    let end = *at + input.get(*at..)?.iter().position(|byte| *byte == b'\n')?;
    let number = std::str::from_utf8(&input[*at + 1..end - 1]).unwrap().parse().unwrap();
    *at = end + 1;
    Some(number)
}

impl Node {
    /// A write by somebody who is no client of the proxy.
    pub(crate) fn write_directly(&mut self, db: usize, command: &Words, log: &mut Log) {
        let Some(done) = self.data.run(db, command, self.now, self.process) else { return };
        let effect = done.effect.unwrap_or_default();
        self.record(log, Entry { db, commands: vec![effect] });
        self.touch(db, &done.touched);
        self.serve(log);
    }
}
