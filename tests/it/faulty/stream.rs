//! What one client of the fault-injecting differential says at a time: a batch of steps, in phases.
//!
//! A client writes only keys of its own: `@` in a table stands for its prefix. So what the clients did to the data can be
//! told apart, in whatever order their commands ran. Commands whose second execution shows (INCR, APPEND, RPUSH, XADD)
//! are most of the writes. The shared values are only read; each of them is different at every place.

use super::table::Known;
use crate::differential::streams::Random;
use crate::support::client::encode;

/// Databases that clients write to besides their own one.
pub(super) const SHARED_DATABASES: [usize; 2] = [0, 15];
/// Lengths of the shared values.
pub(super) const SHARED: [usize; 4] = [20_000, 150_000, 1_200_000, 5_000_000];
/// Users besides `default`; their first password is their name.
pub(super) const USERS: [&str; 2] = ["u1", "u2"];

/// What is known of a command whose reply was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It can be asked again: an unknown outcome is never told.
    Reads,
    /// It may have been executed.
    Writes,
    /// It says something about the connection.
    State,
    /// MULTI
    Begins,
    /// EXEC
    Commits,
}

/// One command.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) bytes: Vec<u8>,
    pub(super) text: String,
    pub(super) effect: Effect,
    /// How many replies it gets.
    pub(super) replies: usize,
    /// Its replies are compared by shape.
    pub(super) loose: bool,
    /// The server closes the connection after it.
    pub(super) ends: bool,
    /// What stands for it at the twin: a command that Redis refuses, for one that only the proxy refuses.
    pub(super) twin: Option<Vec<u8>>,
    /// Not a command: somebody else publishes on this channel.
    pub(super) heard: Option<String>,
}

impl Step {
    /// A command of plain words.
    pub(super) fn plain(words: &str) -> Self {
        Self {
            bytes: super::words(words),
            text: words.to_owned(),
            effect: Effect::Reads,
            replies: 1,
            loose: false,
            ends: false,
            twin: None,
            heard: None,
        }
    }
}

/// What a client sends in one round. Each phase is sent once the replies of the one before are there.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    pub(super) phases: Vec<Vec<Step>>,
    /// Its last reply has this word in it, unless the client has to log in first.
    pub(super) word: String,
    pub(super) ends: bool,
    /// A WATCH is in force at some time.
    pub(super) watches: bool,
    /// Its replies may be above an output limit of the server.
    pub(super) greedy: bool,
}

impl Batch {
    pub(super) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.phases.iter().flatten()
    }

    /// Whether CLIENT REPLY is in it.
    pub(super) fn quiet(&self) -> bool {
        self.steps().any(|step| step.replies == 0)
    }

    pub(super) fn told(&self) -> String {
        let phases = self.phases.iter().map(|phase| phase.iter().map(|s| s.text.as_str()).collect::<Vec<_>>());
        phases.map(|phase| phase.join(" | ")).collect::<Vec<_>>().join(" // ")
    }
}

/// Who says it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speaker {
    pub(super) number: usize,
}

/// What is known of a speaker and a round when a batch is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// It has logged in, or need not. (Redis closes others for large commands.)
    pub(super) logged_in: bool,
    /// The default user needs no password. (After RESET, Redis closes others for large commands.)
    pub(super) open: bool,
    /// A write is answered once a replica has it.
    pub(super) replicated: bool,
    /// No fault happens in this round.
    pub(super) calm: bool,
}

impl Speaker {
    pub(super) fn prefix(self) -> String {
        format!("c{}:", self.number)
    }

    /// A database that nobody else writes to.
    pub(super) fn database(self) -> usize {
        self.number + 1
    }

    /// Every key that it may write.
    pub(super) fn keys(self) -> Vec<String> {
        let kinds = ["n0", "n1", "s0", "s1", "l0", "l1", "h0", "z0", "x0", "t0", "big", "biglist", "w"];
        kinds.iter().map(|kind| format!("{}{kind}", self.prefix())).collect()
    }
}

/// The shared value of that number.
pub(super) fn shared(number: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(number as u64 + 1);
    (0..SHARED[number])
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b'a' + u8::try_from((state >> 32) % 26).unwrap()
        })
        .collect()
}

/// Draws batches for one client.
pub(super) struct Author<'a> {
    pub(super) random: &'a mut Random,
    pub(super) speaker: Speaker,
    pub(super) known: &'a Known,
    pub(super) moment: Moment,
}

impl Author<'_> {
    /// What a client says in a round; `login` comes first, if the connection is new.
    pub(super) fn batch(&mut self, word: &str, login: Option<&str>) -> Batch {
        let mut batch = Batch { word: word.to_owned(), ..Batch::default() };
        if let Some(login) = login.filter(|login| !login.is_empty()) {
            batch.phases.push(vec![self.step(login, Effect::State)]);
        }
        match self.random.below(100) {
            0..3 => {
                let bytes = self.random.of(MALFORMED).as_bytes().to_vec();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let step = Step { bytes, text, ends: true, ..self.step("PING", Effect::State) };
                batch.phases.push(vec![step]);
                batch.ends = true;
                return batch;
            }
            3..5 => {
                let mut steps = vec![self.step("MULTI", Effect::Begins), self.write(), self.quit()];
                if self.known.off("QUIT inside MULTI") || self.random.one_in(2) {
                    steps.remove(0);
                }
                batch.phases.push(steps);
                batch.ends = true;
                return batch;
            }
            5..30 => self.transaction(&mut batch),
            30..40 => self.states(&mut batch),
            40..52 if self.moment.logged_in => self.large(&mut batch),
            52..57 => self.quietly(&mut batch),
            57..63 => self.subscribes(&mut batch),
            63..68 => self.blocks(&mut batch),
            68..71 => self.tracks(&mut batch),
            _ => {
                let count = 1 + self.random.below(10);
                let steps = (0..count).map(|_| self.any()).collect();
                batch.phases.push(steps);
            }
        }
        self.close(&mut batch);
        batch
    }

    /// Who and where the client is, and the word.
    fn close(&mut self, batch: &mut Batch) {
        let mut last = vec![self.step("GET @none", Effect::Reads)];
        if self.random.one_in(3) {
            last.push(self.step("ACL WHOAMI", Effect::Reads));
        }
        if self.random.one_in(4) {
            last.push(self.step("CLIENT GETNAME", Effect::Reads));
        }
        let ping = format!("PING {}", batch.word);
        last.push(self.step(&ping, Effect::Reads));
        // In a pipeline of its own, or with the rest.
        match batch.phases.last_mut() {
            Some(phase) if self.random.one_in(2) => phase.extend(last),
            _ => batch.phases.push(last),
        }
    }

    fn quit(&mut self) -> Step {
        Step { ends: true, ..self.step("QUIT", Effect::State) }
    }

    fn write(&mut self) -> Step {
        let words = self.random.of(WRITES);
        self.step(words, Effect::Writes)
    }

    fn any(&mut self) -> Step {
        match self.random.below(20) {
            0..11 => self.write(),
            11..16 => {
                let words = self.random.of(READS);
                self.step(words, Effect::Reads)
            }
            16..18 => {
                // (What it would have done is judged by its name alone.)
                let words = self.random.of(WRONG);
                self.step(words, Effect::Writes)
            }
            _ => self.state(),
        }
    }

    fn state(&mut self) -> Step {
        let words = match self.random.of(STATES) {
            "HELLO 3 SETNAME @hello" if !self.moment.open && self.known.off("the name of a refused HELLO") => "HELLO 3",
            words => words,
        };
        self.step(words, Effect::State)
    }

    fn states(&mut self, batch: &mut Batch) {
        for _ in 0..1 + self.random.below(3) {
            let steps = vec![self.state(), self.write(), self.state()];
            batch.phases.push(steps);
        }
    }

    fn transaction(&mut self, batch: &mut Batch) {
        let mut steps = Vec::new();
        if self.random.one_in(4) {
            steps.push(self.step("WATCH @n0 @s0", Effect::State));
            batch.watches = true;
            if self.random.one_in(3) {
                steps.push(self.write());
            }
        }
        steps.push(self.step("MULTI", Effect::Begins));
        for _ in 0..1 + self.random.below(5) {
            // Left alone for a moment now and then.
            if self.random.one_in(3) {
                batch.phases.push(std::mem::take(&mut steps));
            }
            steps.push(match self.random.below(12) {
                0..7 => self.write(),
                7 => {
                    let words = self.random.of(READS);
                    self.step(words, Effect::Reads)
                }
                9 if !self.known.off("wrong commands inside MULTI") => {
                    let words =
                        self.random.of(&["MULTI", "EXEC x", "DISCARD x", "GET", "NOSUCH", "WATCH @n0", "RESET x"]);
                    self.step(words, Effect::State)
                }
                8 if !self.known.off("refusals of the proxy inside MULTI") && self.random.one_in(3) => {
                    Step { twin: Some(encode(&[b"NOSUCH"])), ..self.step("PUBLISH __changeover__ x", Effect::State) }
                }
                10.. if !self.known.off("state commands inside MULTI") => self.state(),
                _ => self.write(),
            });
        }
        let end = match self.random.of(&["EXEC", "EXEC", "EXEC", "EXEC", "DISCARD", "RESET"]) {
            "RESET" if batch.watches && self.known.off("QUEUED behind a lost WATCH") => "DISCARD",
            end => end,
        };
        steps.push(self.step(end, if end == "EXEC" { Effect::Commits } else { Effect::State }));
        if self.random.one_in(3) {
            steps.push(self.write());
        }
        // Whatever was refused above, nothing is left open.
        steps.push(self.step("DISCARD", Effect::State));
        steps.push(self.step("UNWATCH", Effect::State));
        batch.phases.push(steps);
        // EXEC brings the replies of what was queued.
        if batch.steps().any(|step| step.loose) {
            batch.phases.iter_mut().flatten().filter(|s| s.text == "EXEC").for_each(|s| s.loose = true);
        }
    }

    fn large(&mut self, batch: &mut Batch) {
        let mut steps = Vec::new();
        batch.greedy = true;
        if !self.known.off("more replies than the proxy holds") && self.random.one_in(10) {
            // 40 MB.
            batch.phases.push((0..8).map(|_| self.step("GET shared:3", Effect::Reads)).collect());
        }
        for _ in 0..1 + self.random.below(3) {
            steps.push(match self.random.below(8) {
                0 => self.step("SET @big $big", Effect::Writes),
                1 => self.step("RPUSH @biglist $medium $medium $v", Effect::Writes),
                2 => self.step("LRANGE @biglist 0 -1", Effect::Reads),
                3 => self.step("GETRANGE @big 10 2000000", Effect::Reads),
                4 => self.step("DEL @biglist", Effect::Writes),
                5 => self.write(),
                _ => {
                    let words = format!("GET shared:{}", self.random.below(SHARED.len()));
                    self.step(&words, Effect::Reads)
                }
            });
        }
        if self.random.one_in(6) {
            steps.insert(0, self.step("MULTI", Effect::Begins));
            steps.push(self.step("EXEC", Effect::Commits));
        }
        batch.phases.push(steps);
        batch.phases.push(vec![self.step("SELECT 0", Effect::State)]);
    }

    /// CLIENT REPLY makes replies fewer than commands.
    fn quietly(&mut self, batch: &mut Batch) {
        if !self.moment.logged_in {
            let steps = vec![self.any(), self.any()];
            return batch.phases.push(steps);
        }
        let skip = self.random.one_in(2);
        let mode = if skip { "CLIENT REPLY SKIP" } else { "CLIENT REPLY OFF" };
        let mut steps = vec![Step { replies: 0, ..self.step(mode, Effect::State) }];
        for _ in 0..if skip { 1 } else { 1 + self.random.below(3) } {
            steps.push(Step { replies: 0, ..self.write() });
        }
        steps.push(self.step("CLIENT REPLY ON", Effect::State));
        batch.phases.push(steps);
    }

    fn subscribes(&mut self, batch: &mut Batch) {
        let kinds = [("SUBSCRIBE", "UNSUBSCRIBE"), ("PSUBSCRIBE", "PUNSUBSCRIBE"), ("SSUBSCRIBE", "SUNSUBSCRIBE")];
        let (begin, end) = kinds[self.random.below(3)];
        let begin = self.step(&format!("{begin} @ch"), Effect::State);
        if self.known.off("SUBSCRIBE inside MULTI") || self.random.one_in(2) {
            batch.phases.push(vec![self.write(), begin]);
        } else {
            batch.phases.push(vec![self.step("MULTI", Effect::Begins), begin, self.step("EXEC", Effect::Commits)]);
        }
        if self.moment.calm && self.moment.logged_in && !end.starts_with("SU") {
            let channel = format!("{}ch", self.speaker.prefix());
            let text = format!("(somebody publishes on {channel})");
            batch.phases.push(vec![Step {
                bytes: Vec::new(),
                text,
                heard: Some(channel),
                ..self.step("PING", Effect::Reads)
            }]);
        }
        batch.phases.push(vec![self.any()]);
        batch.phases.push(vec![self.step(&format!("{end} @ch"), Effect::State), self.write()]);
    }

    fn blocks(&mut self, batch: &mut Batch) {
        let off = self.moment.replicated && self.known.off("blocking commands and receipts");
        let words = if off { "LLEN @l0" } else { self.random.of(BLOCKING) };
        let steps = vec![self.write(), self.step(words, Effect::Writes), self.write()];
        batch.phases.push(steps);
    }

    fn tracks(&mut self, batch: &mut Batch) {
        let steps = vec![
            self.step("HELLO 3", Effect::State),
            self.step("CLIENT TRACKING on", Effect::State),
            self.step("GET @n0", Effect::Reads),
            self.write(),
            self.step("CLIENT TRACKING off", Effect::State),
        ];
        batch.phases.push(steps);
    }

    /// A line of a table as a command, inline now and then.
    pub(super) fn step(&mut self, words: &str, effect: Effect) -> Step {
        let args: Vec<Vec<u8>> = words.split(' ').map(|word| self.draw(word)).collect();
        let plain = |word: &Vec<u8>| !word.is_empty() && word.len() < 100 && word.iter().all(u8::is_ascii_alphanumeric);
        let bytes = if args.iter().all(plain) && self.random.one_in(8) {
            [args.join(&b' '), b"\r\n".to_vec()].concat()
        } else {
            encode(&args.iter().map(Vec::as_slice).collect::<Vec<_>>())
        };
        let show = |arg: &Vec<u8>| match arg.len() {
            0..60 => String::from_utf8_lossy(arg).into_owned(),
            len => format!("({len} bytes)"),
        };
        let text = args.iter().map(show).collect::<Vec<_>>().join(" ");
        let loose = LOOSE.iter().any(|start| words.starts_with(start));
        Step { bytes, text, effect, loose, ..Step::plain("") }
    }

    fn draw(&mut self, word: &str) -> Vec<u8> {
        let len = match word {
            "$v" => match self.random.below(40) {
                0 if self.moment.open => 70_000 + self.random.below(100_000),
                1..8 => self.random.below(3000),
                _ => 1 + self.random.below(20),
            },
            "$medium" => 100_000 + self.random.below(200_000),
            "$big" => 400_000 + self.random.below(2_500_000),
            "$own" => return self.speaker.database().to_string().into(),
            "$i" => return self.random.below(50).to_string().into(),
            _ => return word.replace('@', &self.speaker.prefix()).replace('~', " ").into(),
        };
        let first = self.random.below(26);
        (0..len).map(|at| b'A' + u8::try_from((first + at * 7 + at / 26) % 26).unwrap()).collect()
    }
}

/// Their replies have an id or a time in them.
const LOOSE: &[&str] = &["HELLO", "CLIENT ID", "CLIENT INFO"];

const BLOCKING: &[&str] = &[
    "BLPOP @w 0.02",
    "BLPOP @w @l0 0.05",
    "BRPOP @l0 @w 0.02",
    "BLMOVE @w @l1 LEFT RIGHT 0.02",
    "BZPOPMIN @w @z0 0.03",
    "XREAD BLOCK 15 STREAMS @x0 $",
    "XREAD BLOCK 15 COUNT 1 STREAMS @x0 0",
];

const MALFORMED: &[&str] = &["*1\r\n$x\r\n", "*x\r\n", "*1\r\n$-1\r\n", "*1\r\nPING\r\n", "SET \"unbalanced\r\n"];

const STATES: &[&str] = &[
    "SELECT 0",
    "SELECT 15",
    "SELECT $own",
    "SELECT 99",
    "SELECT x",
    "AUTH wrong",
    "AUTH nobody wrong",
    "AUTH u1 u1",
    "AUTH u2 u2",
    "AUTH u1 wrong",
    "HELLO 2",
    "HELLO 3",
    "HELLO 3 AUTH u1 u1",
    "HELLO 3 AUTH u1 wrong",
    "HELLO 2 AUTH nobody wrong SETNAME x",
    "HELLO 3 SETNAME @hello",
    "HELLO 4",
    "CLIENT SETNAME @name",
    "CLIENT SETNAME two~words",
    "CLIENT GETNAME",
    "CLIENT ID",
    "RESET",
    "UNWATCH",
    "CLIENT NO-EVICT off",
    "READONLY",
    "EXEC",
    "DISCARD",
];

/// Refused wherever they stand.
const WRONG: &[&str] = &["GET", "NOSUCH x", "SET @s0", "CLIENT NOTHING", "INCR", "LPUSH @n0 x", "BLPOP @w x"];

const READS: &[&str] = &[
    "GET @n0",
    "GET @s0",
    "MGET @n0 @n1 @s0 @s1",
    "GETRANGE @s1 2 40",
    "STRLEN @s0",
    "LRANGE @l0 0 -1",
    "LLEN @l1",
    "HGET @h0 f",
    "HMGET @h0 f g i",
    "ZRANGE @z0 0 -1 WITHSCORES",
    "XRANGE @x0 - +",
    "XLEN @x0",
    "XREAD COUNT 2 STREAMS @x0 0",
    "SCARD @t0",
    "TYPE @l0",
    "EXISTS @n0 @s0 @l0",
    "ZSCAN @z0 0",
    "EVAL_RO return~redis.call('GET',KEYS[1]) 1 @n0",
    "GET shared:0",
    "ECHO $v",
    "PING",
];

const WRITES: &[&str] = &[
    "INCR @n0",
    "INCR @n1",
    "INCRBY @n1 $i",
    "INCRBYFLOAT @n1 1.5",
    "APPEND @s0 $v",
    "APPEND @s1 $v",
    "RPUSH @l0 $v",
    "LPUSH @l1 $v $v",
    "XADD @x0 5-* f $v",
    "HINCRBY @h0 i $i",
    "ZINCRBY @z0 1.25 g",
    "INCR @n0",
    "APPEND @s0 $v",
    "RPUSH @l0 $v",
    "XADD @x0 5-* f $v",
    "SADD @t0 $i",
    "LPOP @l0",
    "RPOP @l1 2",
    "LMOVE @l0 @l1 LEFT RIGHT",
    "HSET @h0 f $i g $i",
    "ZADD @z0 $i f $i h",
    "XTRIM @x0 MAXLEN 6",
    "LTRIM @l0 0 8",
    "SET @s1 $v",
    "SET @s0 $v GET",
    "GETDEL @s1",
    "DEL @s0 @l1",
    "RENAME @l0 @l1",
    "COPY @s0 @s1 REPLACE",
    "EVAL redis.call('INCR',KEYS[1]);return~redis.call('APPEND',KEYS[2],'x') 2 @n0 @s1",
    "EVAL redis.call('RPUSH',KEYS[1],'e');return~redis.error_reply('MINE~no') 1 @l0",
];
