//! One client: what it says, act by act, and what it has come to know. What it makes of replies is in `judge.rs`.
//!
//! Values carry tokens (`t3.17`: client 3, number 17) that never repeat, so that the history shows what ran how often.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::change::Facts;
use crate::conversation::Conversation;
use crate::keyspace::{Words, words};
use crate::random::Random;
use crate::stage::Stage;

/// What became of a token, as far as the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Sent,
    Acknowledged,
    /// Acknowledged, and WAIT said that the replica has it.
    Safe,
    NotExecuted,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Simple(&'static str),
    Text(Vec<u8>),
    Number,
    /// INCR of a counter of its own, APPEND to a text, SET, GET.
    Counter,
    Append(Vec<u8>),
    Set(Vec<u8>),
    Get,
    /// A script that reads, which a demoted node runs.
    ReadByScript,
    Pop,
    Moved,
    Entries,
    Cursor,
    Map,
    Hello,
    Confirm(usize),
    Error(&'static str),
    Covered,
    /// A script that catches the refusal.
    Caught,
    Unwatch,
    Multi,
    Queued(Box<Expect>),
    Exec,
    Discard,
    /// No reply comes.
    Nothing,
    Quit,
}

#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) expect: Expect,
    pub(crate) words: String,
    pub(crate) db: usize,
    pub(crate) key: Vec<u8>,
    pub(crate) token: Option<usize>,
    /// It may have written if nobody knows.
    pub(crate) writes: bool,
    pub(crate) large: bool,
    pub(crate) resp3: bool,
    pub(crate) era: u64,
}

/// A value, and the era in which that was certain.
type Known = (Option<Vec<u8>>, u64);

struct Step {
    command: Words,
    pending: Pending,
    /// Everything before it is answered first, and it before everything behind it.
    alone: bool,
}

/// What a client heard between a subscription and its end.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) kind: usize,
    pub(crate) topic: Vec<u8>,
    pub(crate) heard: Vec<Vec<u8>>,
    /// Length of the log when the client knew that it was subscribed.
    pub(crate) from: usize,
    /// The same when it asked for the end.
    pub(crate) until: Option<usize>,
    pub(crate) open: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) inner: Vec<Pending>,
    pub(crate) broken: bool,
}

pub(crate) struct Client {
    pub(crate) id: usize,
    todo: VecDeque<Step>,
    pub(crate) waiting: VecDeque<Pending>,
    pub(crate) inbox: Vec<u8>,
    pub(crate) fates: Vec<Fate>,
    /// What its own keys hold, and since which era that is sure.
    pub(crate) known: BTreeMap<(usize, Vec<u8>), Known>,
    pub(crate) cached: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    pub(crate) windows: Vec<Window>,
    pub(crate) queue: Option<Queue>,
    /// Transactions whose EXEC ran: their tokens.
    pub(crate) transactions: Vec<Vec<usize>>,
    /// The watched key and its value when it was read, for the EXEC to come; then: with the token of its SET.
    pub(crate) watched: Option<(usize, Option<Vec<u8>>)>,
    pub(crate) succeeded: Vec<(usize, Option<Vec<u8>>, usize)>,
    pub(crate) popped: Vec<Vec<u8>>,
    pub(crate) seen: BTreeSet<Vec<u8>>,
    pub(crate) increments: BTreeMap<usize, (u64, u64)>,
    pub(crate) db: usize,
    pub(crate) resp3: bool,
    user: &'static str,
    name: Vec<u8>,
    pub(crate) tracking: bool,
    /// It has used MULTI in RESP3, where a client may be subscribed at the same time.
    pub(crate) transacted: bool,
    /// Its session has become a pipe.
    pub(crate) raw: bool,
    pub(crate) left: bool,
    acts: u64,
    budget: usize,
    patient: bool,
    eager: u64,
    last_was_alone: bool,
}

const CHANNELS: [&str; 2] = ["news", "talk"];

impl Client {
    /// `patient`: no hold of its session will reach its limit.
    pub(crate) fn new(id: usize, acts: u64, budget: usize, patient: bool, random: &mut Random) -> Self {
        Self {
            id,
            todo: VecDeque::new(),
            waiting: VecDeque::new(),
            inbox: Vec::new(),
            fates: Vec::new(),
            known: BTreeMap::new(),
            cached: BTreeMap::new(),
            windows: Vec::new(),
            queue: None,
            transactions: Vec::new(),
            watched: None,
            succeeded: Vec::new(),
            popped: Vec::new(),
            seen: BTreeSet::new(),
            increments: BTreeMap::new(),
            db: 0,
            resp3: false,
            transacted: false,
            user: "default",
            name: Vec::new(),
            tracking: false,
            raw: false,
            left: false,
            acts,
            budget,
            patient,
            eager: random.below(100),
            last_was_alone: false,
        }
    }

    fn pending(&self, expect: Expect, key: impl AsRef<[u8]>) -> Pending {
        Pending {
            expect,
            words: String::new(),
            db: self.db,
            key: key.as_ref().to_vec(),
            token: None,
            writes: false,
            large: false,
            resp3: self.resp3,
            era: 0,
        }
    }

    fn token(&mut self) -> (usize, Vec<u8>) {
        self.fates.push(Fate::Sent);
        let number = self.fates.len() - 1;
        (number, format!("t{}.{number}", self.id).into_bytes())
    }

    fn say(&mut self, text: &str, expect: Expect) -> &mut Step {
        self.say_words(words(text), expect)
    }

    fn say_words(&mut self, command: Words, expect: Expect) -> &mut Step {
        let key = command.get(1).cloned().unwrap_or_default();
        let mut pending = self.pending(expect, key);
        // What is not known may write, too.
        let unknown = matches!(pending.expect, Expect::Error("ERR unknown command") | Expect::Covered);
        pending.writes = unknown || matches!(pending.expect, Expect::Set(_) | Expect::Counter | Expect::Append(_));
        self.todo.push_back(Step { command, pending, alone: false });
        self.todo.back_mut().unwrap()
    }

    /// A command with a token as its last word, which writes.
    fn mark(&mut self, text: &str, expect: Expect) -> &mut Step {
        let (number, token) = self.token();
        let mut command = words(text);
        command.push(token);
        let step = self.say_words(command, expect);
        (step.pending.token, step.pending.writes) = (Some(number), true);
        step
    }

    fn set(&mut self, key: &str) -> &mut Step {
        let (number, token) = self.token();
        let mut command = words(&format!("SET {key}"));
        command.push(token.clone());
        let step = self.say_words(command, Expect::Set(token));
        step.pending.token = Some(number);
        step
    }

    /// Puts more to say at the front.
    pub(crate) fn say_next(&mut self, text: &str, expect: Expect) {
        self.say(text, expect).alone = true;
        let step = self.todo.pop_back().unwrap();
        self.todo.push_front(step);
    }

    // ---- acts ----

    fn act(&mut self, random: &mut Random) {
        let me = self.id;
        let subscribed = self.windows.iter().any(|window| window.open);
        if subscribed && !self.resp3 {
            return self.act_as_subscriber(random);
        }
        let act = random.below(if self.raw { 3 } else { 33 });
        if subscribed && matches!(act, 11 | 13 | 29) {
            // Whoever blocks is closed on by a demotion, and misses messages: the gap is counted.
            return;
        }
        match act {
            0 => drop(self.say("PING", Expect::Simple("PONG"))),
            1 => drop(self.say(&format!("GET k:{me}"), Expect::Get)),
            2 => drop(self.say("HGETALL nothing", Expect::Map)),
            3..=5 => drop(self.set(&format!("k:{me}"))),
            6 | 7 => {
                self.increments.entry(self.db).or_default().1 += 1;
                self.say(&format!("INCR n:{me}"), Expect::Counter);
                self.say(&format!("GET k:{me}"), Expect::Get);
            }
            8 => {
                let step = self.mark(&format!("APPEND a:{me}"), Expect::Number);
                step.pending.expect = Expect::Append(step.command[2].clone());
            }
            9 | 10 => drop(self.mark("RPUSH q", Expect::Number)),
            11 => self.pop(random),
            12 => drop(self.mark(&format!("XADD s:{} * f", random.below(4)), Expect::Text(Vec::new()))),
            13 => self.read_on(random),
            14..=16 => self.transaction(random),
            17 | 18 => self.watch(random),
            19 | 20 => {
                let channel = CHANNELS[usize::try_from(random.below(2)).unwrap()];
                for _ in 0..=random.below(3) {
                    self.mark(&format!("PUBLISH {channel}"), Expect::Number);
                }
            }
            21 => drop(self.mark("SPUBLISH shard", Expect::Number)),
            22 | 31 => self.subscribe(random),
            23 => {
                self.seen.clear();
                self.say("SCAN 0", Expect::Cursor).alone = true;
            }
            24..=26 => self.state(random),
            27 => self.script(random),
            28 | 30 => self.large(random),
            29 => {
                self.mark("RPUSH q", Expect::Number);
                self.say(
                    &format!("WAIT 1 {}", [100, 2000][usize::try_from(random.below(2)).unwrap()]),
                    Expect::Covered,
                );
            }
            _ => self.rarely(random),
        }
    }

    fn pop(&mut self, random: &mut Random) {
        let (command, expect) = match random.below(4) {
            0 => ("BLMOVE q done LEFT RIGHT", Expect::Moved),
            1 => ("BRPOP q", Expect::Pop),
            2 => ("BLMPOP", Expect::Pop),
            _ => ("BLPOP q", Expect::Pop),
        };
        let time = ["0", "0.2", "3"][usize::try_from(random.below(3)).unwrap()];
        let text = match command {
            "BLMPOP" => format!("BLMPOP {time} 1 q LEFT"),
            _ => format!("{command} {time}"),
        };
        self.say(&text, expect).pending.writes = true;
    }

    fn read_on(&mut self, random: &mut Random) {
        let me = self.id;
        let step = self.say(
            &format!("XREAD BLOCK {} STREAMS s:{me} $", [0, 400, 3000][usize::try_from(random.below(3)).unwrap()]),
            Expect::Entries,
        );
        step.pending.key = format!("s:{me}").into_bytes();
        step.alone = random.percent(70);
    }

    fn transaction(&mut self, random: &mut Random) {
        let me = self.id;
        self.transacted |= self.resp3;
        self.say("MULTI", Expect::Multi);
        for _ in 0..random.below(4) {
            let step = match random.below(7) {
                6 => self.say(&format!("GET big:{me}"), Expect::Get),
                0 => self.say(&format!("GET k:{me}"), Expect::Get),
                1 => {
                    self.increments.entry(self.db).or_default().1 += 1;
                    self.say(&format!("INCR n:{me}"), Expect::Counter)
                }
                2 => self.say("NOSUCH thing", Expect::Error("ERR unknown command")),
                3 => self.mark("RPUSH q", Expect::Number),
                _ => self.set(&format!("k:{me}")),
            };
            step.pending.expect = Expect::Queued(Box::new(step.pending.expect.clone()));
        }
        let ends = if random.percent(80) { ("EXEC", Expect::Exec) } else { ("DISCARD", Expect::Discard) };
        self.say(ends.0, ends.1).pending.writes = true;
        if random.percent(50) {
            self.say(&format!("GET k:{me}"), Expect::Get);
        }
    }

    fn watch(&mut self, random: &mut Random) {
        self.say("WATCH w", Expect::Simple("OK")).alone = random.percent(50);
        let step = self.say("GET w", Expect::Get);
        (step.alone, step.pending.key) = (random.percent(50), b"watched".to_vec());
        if random.percent(15) {
            self.say("UNWATCH", Expect::Unwatch);
            self.say("PING", Expect::Simple("PONG"));
        }
        self.transacted |= self.resp3;
        self.say("MULTI", Expect::Multi);
        let step = self.set("w");
        step.pending.expect = Expect::Queued(Box::new(Expect::Simple("OK")));
        step.pending.key = b"watched".to_vec();
        let step = self.say("EXEC", Expect::Exec);
        (step.pending.writes, step.alone) = (true, random.percent(30));
    }

    fn subscribe(&mut self, random: &mut Random) {
        if self.tracking || self.windows.iter().any(|window| window.open) {
            return;
        }
        let (text, count) = match random.below(4) {
            0 => ("PSUBSCRIBE ne*", 1),
            1 => ("SUBSCRIBE news talk", 2),
            2 => ("SSUBSCRIBE shard", 1),
            _ => ("SUBSCRIBE news", 1),
        };
        self.say(text, Expect::Confirm(count)).alone = true;
    }

    fn act_as_subscriber(&mut self, random: &mut Random) {
        if random.percent(85) {
            // A subscriber listens, mostly: PING is answered in another shape, so it waits for it.
            self.say("PING", Expect::Simple("pong")).alone = true;
            return;
        }
        let open: Vec<usize> = self.windows.iter().filter(|window| window.open).map(|window| window.kind).collect();
        let word = ["UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"][open[0]];
        self.say(word, Expect::Confirm(open.len())).alone = true;
    }

    fn state(&mut self, random: &mut Random) {
        if !self.patient {
            // A hold that ends refuses these, too, and then it would not know how it stands.
            self.say("PING", Expect::Simple("PONG"));
            return;
        }
        let subscribed = self.windows.iter().any(|window| window.open);
        match random.below(9) {
            0 if !subscribed => {
                let db = usize::try_from(random.below(2)).unwrap();
                self.say(&format!("SELECT {db}"), Expect::Simple("OK")).alone = true;
                self.db = db;
                self.say(&format!("GET k:{}", self.id), Expect::Get).alone = true;
            }
            1 => {
                let name = format!("client-{}-{}", self.id, random.below(9));
                self.say(&format!("CLIENT SETNAME {name}"), Expect::Simple("OK")).alone = true;
                self.name = name.into_bytes();
            }
            2 => {
                let name = self.name.clone();
                self.say("CLIENT GETNAME", Expect::Text(name)).alone = true;
            }
            3 if !subscribed && !self.tracking => {
                let version = if random.percent(60) { 3 } else { 2 };
                let step = self.say(&format!("HELLO {version}"), Expect::Hello);
                (step.alone, step.pending.resp3) = (true, version == 3);
                self.resp3 = version == 3;
                self.say("HGETALL nothing", Expect::Map).alone = true;
            }
            4 => {
                self.user = ["one", "two"][usize::try_from(random.below(2)).unwrap()];
                self.say(&format!("AUTH {0} secret-of-{0}", self.user), Expect::Simple("OK")).alone = true;
            }
            5 => self.say("AUTH three wrong", Expect::Error("WRONGPASS")).alone = true,
            6 | 7 => {
                let user = self.user.as_bytes().to_vec();
                self.say("ACL WHOAMI", Expect::Text(user)).alone = true;
            }
            _ if self.resp3 && !subscribed && !self.tracking && self.db == 0 => {
                self.say("CLIENT TRACKING ON", Expect::Simple("OK")).alone = true;
                self.tracking = true;
                for key in ["w", "k:0", "k:1"] {
                    let step = self.say(&format!("GET {key}"), Expect::Get);
                    (step.pending.key, step.alone) = (format!("cached {key}").into_bytes(), true);
                }
            }
            _ if !subscribed && !self.tracking && random.percent(40) => {
                self.say("RESET", Expect::Simple("RESET")).alone = true;
                (self.db, self.resp3, self.user, self.name) = (0, false, "default", Vec::new());
                self.say("HGETALL nothing", Expect::Map).alone = true;
            }
            _ => self.say("ECHO x", Expect::Text(b"x".to_vec())).alone = true,
        }
    }

    fn script(&mut self, random: &mut Random) {
        let me = self.id;
        match random.below(3) {
            0 => {
                self.say(&format!("EVAL read 1 k:{me}"), Expect::ReadByScript).pending.key =
                    format!("k:{me}").into_bytes();
                self.todo.back_mut().unwrap().pending.writes = true;
            }
            kind => {
                let name = if kind == 1 { "write" } else { "caught" };
                let (number, token) = self.token();
                let mut command = words(&format!("EVAL {name} 1 k:{me}"));
                command.push(token.clone());
                let expect = if kind == 1 { Expect::Set(token) } else { Expect::Caught };
                let step = self.say_words(command, expect);
                step.pending.key = format!("k:{me}").into_bytes();
                (step.pending.token, step.pending.writes) = (Some(number), true);
                self.say(&format!("GET k:{me}"), Expect::Get);
            }
        }
    }

    fn large(&mut self, random: &mut Random) {
        let size =
            if random.percent(20) { 160_000 } else { self.budget + usize::try_from(random.below(3000)).unwrap() };
        let step = self.set(&format!("big:{}", self.id));
        let value = [step.command[2].as_slice(), b":", &vec![b'x'; size]].concat();
        step.command[2].clone_from(&value);
        step.pending.expect = Expect::Set(value);
        if random.percent(60) {
            self.say(&format!("GET big:{}", self.id), Expect::Get);
        }
    }

    fn rarely(&mut self, random: &mut Random) {
        match random.below(5) {
            0 => drop(self.say("NOSUCH thing", Expect::Error("ERR unknown command"))),
            1 => drop(self.say("DISCARD", Expect::Error("ERR DISCARD without MULTI"))),
            2 if self.patient && !self.windows.iter().any(|window| window.open) && !self.tracking => {
                self.say("CLIENT REPLY OFF", Expect::Nothing).alone = true;
                for _ in 0..random.below(3) {
                    self.mark("RPUSH quiet", Expect::Nothing);
                }
                self.say("CLIENT REPLY ON", Expect::Simple("OK"));
                self.say("PING", Expect::Simple("PONG")).alone = true;
                self.raw = true;
            }
            3 if self.acts < 4 => {
                self.say("QUIT", Expect::Quit).alone = true;
                self.acts = 1;
            }
            _ if self.acts < 6 && random.percent(30) => self.left = true,
            _ => drop(self.say("PING", Expect::Simple("PONG"))),
        }
    }

    // ---- saying it ----

    /// Says a little more, if it is in the mood; true if it did.
    pub(crate) fn speak(&mut self, stage: &mut Stage, conversation: &mut Conversation, facts: &Facts) -> bool {
        if self.left || conversation.ended {
            return false;
        }
        let may_go_on = self.waiting.is_empty() || !self.last_was_alone && stage.random.percent(self.eager);
        if self.todo.is_empty() && self.acts > 0 && may_go_on {
            self.acts -= 1;
            self.act(&mut stage.random);
            if self.left {
                conversation.gone = true;
                let me = self.id;
                stage.tell(|| format!("client {me} leaves"));
                return true;
            }
        }
        let mut spoke = false;
        while let Some(step) = self.todo.front() {
            let blocked = step.alone || self.last_was_alone;
            if blocked && !self.waiting.is_empty() || spoke && stage.random.percent(30) {
                break;
            }
            let Some(step) = self.todo.pop_front() else { break };
            self.last_was_alone = step.alone;
            self.emit(step, stage, conversation, facts);
            spoke = true;
        }
        spoke
    }

    fn emit(&mut self, step: Step, stage: &mut Stage, conversation: &mut Conversation, facts: &Facts) {
        let Step { command, mut pending, .. } = step;
        let shown: Vec<String> = command.iter().map(|word| show(word)).collect();
        pending.words = shown.join(" ");
        pending.era = facts.era;
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for word in &command {
            bytes.extend(format!("${}\r\n", word.len()).bytes());
            bytes.extend(word);
            bytes.extend(b"\r\n");
        }
        pending.large = bytes.len() >= self.budget;
        if !pending.large && stage.random.percent(8) {
            bytes = [command.join(&b' '), b"\r\n".to_vec()].concat();
        }
        if command[0].ends_with(b"UNSUBSCRIBE") {
            let until = stage.log.entries.len();
            self.windows.iter_mut().filter(|window| window.open).for_each(|window| window.until = Some(until));
        }
        if pending.expect == Expect::Entries {
            // What an earlier one waited for, and was refused, is over.
            stage.log.waits.remove(&(pending.db, pending.key.clone()));
        }
        let (me, text) = (self.id, pending.words.clone());
        stage.tell(|| format!("client {me} says {text}"));
        conversation.wire.extend(bytes);
        if pending.expect != Expect::Nothing {
            self.waiting.push_back(pending);
        } else if let Some(token) = pending.token {
            self.fates[token] = Fate::Unknown;
        }
    }
}

pub(crate) fn show(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
    if bytes.len() > 40 { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}
