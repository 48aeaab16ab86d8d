//! Random streams of commands: of every class, in both forms, now and then large, wrong or cut off.

use changeover::protocol::command::Class;
use changeover::protocol::table::commands;

use crate::support::client::encode;

/// A small generator; the same seed draws the same stream on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % limit as u64).unwrap()
    }

    pub(crate) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    pub(crate) fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    /// Cuts bytes at up to four places, half of the time.
    pub(crate) fn cuts<'a>(&mut self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let count = if self.one_in(2) { 1 + self.below(4) } else { 0 };
        let mut at: Vec<_> = (0..count).map(|_| self.below(bytes.len())).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        at.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
    }
}

/// What one client sends at a time.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) bytes: Vec<u8>,
    /// The answer is compared by shape.
    pub(super) loose: bool,
    /// The server closes the connection after it.
    pub(super) ends: bool,
    /// What another client sends meanwhile.
    pub(super) partner: Option<Vec<u8>>,
    /// The client waits until then.
    pub(super) blocks: bool,
    /// How a subscriber leaves.
    pub(super) leave: Vec<u8>,
}

impl Turn {
    /// The next turn; its last answer has `word` in it, unless the connection ends.
    pub(super) fn draw(random: &mut Random, word: &str) -> Self {
        let mut turn = Self::default();
        match random.below(100) {
            0..4 => {
                turn.bytes = random.of(MALFORMED).as_bytes().to_vec();
                turn.ends = true;
                return turn;
            }
            4..6 => {
                turn.bytes = [line(random, "GET $s"), line(random, "QUIT")].concat();
                turn.ends = true;
                return turn;
            }
            6..16 => {
                let words = random.of(LOOSE);
                turn.bytes = line(random, words);
                turn.loose = true;
            }
            16..24 => {
                let (waits, brings) = WAITS[random.below(WAITS.len())];
                turn.bytes = format_commands(&["SELECT 0", "DEL wl wz wx wy", waits, "GET s0"]);
                (turn.partner, turn.blocks) = (Some(format_commands(&["SELECT 0", brings])), true);
            }
            24..30 => {
                let (begin, message, leave) = SUBSCRIPTIONS[random.below(SUBSCRIPTIONS.len())];
                turn.bytes = format_commands(&[begin]);
                turn.partner = Some(format_commands(&[message, message]));
                turn.leave = format_commands(&[leave]);
            }
            30..42 => turn.bytes = transaction(random),
            42..46 => turn.bytes = quietly(random),
            _ => {
                for _ in 0..=random.below(12) {
                    turn.bytes.extend(command(random));
                }
            }
        }
        turn.bytes.extend(encode(&[b"PING", word.as_bytes()]));
        turn
    }
}

fn format_commands(lines: &[&str]) -> Vec<u8> {
    lines.iter().flat_map(|words| encode(&words.split(' ').map(str::as_bytes).collect::<Vec<_>>())).collect()
}

fn transaction(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    if random.one_in(3) {
        bytes.extend(line(random, "WATCH $s $h"));
        if random.one_in(2) {
            bytes.extend(command(random));
        }
    }
    bytes.extend(line(random, "MULTI"));
    for _ in 0..random.below(6) {
        let words = random.of(COMMANDS);
        bytes.extend(line(random, words));
    }
    let end = random.of(&["EXEC", "EXEC", "EXEC", "DISCARD", "RESET"]);
    bytes.extend(line(random, end));
    bytes
}

/// CLIENT REPLY makes replies fewer than commands.
fn quietly(random: &mut Random) -> Vec<u8> {
    let mode = random.of(&["CLIENT REPLY SKIP", "CLIENT REPLY OFF"]);
    [line(random, mode), command(random), line(random, "CLIENT REPLY ON")].concat()
}

/// Any command that answers the same on any server.
fn command(random: &mut Random) -> Vec<u8> {
    match random.below(20) {
        0..3 => anything(random),
        3..5 => {
            let words = random.of(CONNECTION);
            line(random, words)
        }
        _ => {
            let words = random.of(COMMANDS);
            line(random, words)
        }
    }
}

/// A command of the table with arguments that are mostly wrong for it.
fn anything(random: &mut Random) -> Vec<u8> {
    let plain = |class| matches!(class, Class::Read | Class::Write | Class::Publish | Class::Harmless);
    let found = loop {
        let found = &commands()[random.below(commands().len())];
        if found.blocks.is_none() && plain(found.class) && !UNLIKE.split(' ').any(|name| name == found.name) {
            break found;
        }
    };
    let mut words = vec![found.name.to_owned()];
    if !found.subs.is_empty() {
        words.push("HELP".to_owned());
    }
    for _ in 0..random.below(4) {
        words.push(random.of(&["$s", "$h", "$l", "$t", "$z", "$n", "$f", "0", "-1", "LIMIT", "WITHSCORES"]).to_owned());
    }
    line(random, &words.join(" "))
}

/// A line of words as a command, inline now and then. `$` and a letter stand for something to be drawn.
fn line(random: &mut Random, words: &str) -> Vec<u8> {
    let words: Vec<Vec<u8>> = words.split(' ').map(|word| draw(random, word)).collect();
    let plain = |word: &Vec<u8>| !word.is_empty() && word.len() < 100 && word.iter().all(u8::is_ascii_alphanumeric);
    if words.iter().all(plain) && random.one_in(6) {
        return [words.join(&b' '), random.of(&["\r\n", "\n"]).into()].concat();
    }
    let mut words = words;
    if random.one_in(8) {
        words[0].make_ascii_lowercase();
    }
    encode(&words.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn draw(random: &mut Random, word: &str) -> Vec<u8> {
    match word {
        "$v" => value(random),
        "$n" => random.of(&["0", "1", "2", "-1", "3.5", "7", "100"]).into(),
        "$f" => random.of(&["f", "g", "h", "x"]).into(),
        "$script" => random.of(SCRIPTS).into(),
        _ => match word.strip_prefix('$') {
            Some(kind) if kind.len() == 1 && random.one_in(15) => format!("s{}{}", random.below(3), &kind[1..]).into(),
            Some(kind) if kind.len() == 1 => format!("{kind}{}", random.below(3)).into(),
            _ => word.replace('~', " ").into(),
        },
    }
}

fn value(random: &mut Random) -> Vec<u8> {
    let len = match random.below(60) {
        0 => 70_000 + random.below(150_000),
        1 => 1_500_000 + random.below(1_000_000),
        2..10 => random.below(3000),
        10..20 => return random.below(1000).to_string().into(),
        _ => random.below(20),
    };
    let first = random.below(256);
    (0..len).map(|at| u8::try_from((first + at * 7) % 256).unwrap()).collect()
}

/// Not drawn at random: their effect or answer depends on time, chance, the order of a hash table, or on files.
const UNLIKE: &str = "SPOP SRANDMEMBER RANDOMKEY HRANDFIELD ZRANDMEMBER KEYS SMEMBERS SUNION SINTER SDIFF HGETALL HKEYS \
    HVALS SORT SORT_RO TTL PTTL EXPIRETIME PEXPIRETIME EXPIRE PEXPIRE EXPIREAT PEXPIREAT SETEX PSETEX GETEX INFO TIME \
    LASTSAVE ROLE LOLWUT MIGRATE RESTORE RESTORE-ASKING DUMP LCS XADD XPENDING PFDEBUG SETRANGE SETBIT COMMAND";

/// Compared by shape, each asked alone.
const LOOSE: &[&str] = &[
    "HELLO",
    "HELLO 3",
    "HELLO 2",
    "HELLO 3 SETNAME n",
    "HELLO 4",
    "CLIENT ID",
    // How far the replica has said to be, which it says once a second.
    "WAIT 0 0",
    "TIME",
    "TTL $s",
    "PTTL $s",
    "EXPIRETIME $s",
    "KEYS s*",
    "SMEMBERS $t",
    "SUNION $t $t",
    "SINTER $t $t",
    "SDIFF $t $t",
    "HGETALL $h",
    "HKEYS $h",
    "HVALS $h",
    "OBJECT IDLETIME $s",
    "LASTSAVE",
    "COMMAND COUNT",
    "SCRIPT LOAD $script",
    "MEMORY USAGE $n",
];

const WAITS: &[(&str, &str)] = &[
    ("BLPOP wl 0", "RPUSH wl a b"),
    ("BRPOP wy wl 0", "RPUSH wl a b"),
    ("BLMOVE wl wy LEFT RIGHT 0", "RPUSH wl a b"),
    ("BRPOPLPUSH wl wy 0", "RPUSH wl a"),
    ("BLMPOP 0 2 wy wl LEFT COUNT 2", "RPUSH wl a b c"),
    ("BZPOPMIN wz 0", "ZADD wz 1 a 2 b"),
    ("BZMPOP 0 1 wz MAX", "ZADD wz 1 a 2 b"),
    ("XREAD BLOCK 0 STREAMS wx $", "XADD wx 1-1 f v"),
    ("XREAD BLOCK 0 COUNT 1 STREAMS wx wy 0 0", "XADD wx 1-1 f v"),
];

const SUBSCRIPTIONS: &[(&str, &str, &str)] = &[
    ("SUBSCRIBE c1 c2", "PUBLISH c1 message", "UNSUBSCRIBE c2 c1"),
    ("SUBSCRIBE c1", "PUBLISH c1 message", "UNSUBSCRIBE c1"),
    ("PSUBSCRIBE c*", "PUBLISH c1 message", "PUNSUBSCRIBE"),
    ("SSUBSCRIBE c1", "SPUBLISH c1 message", "SUNSUBSCRIBE"),
];

const MALFORMED: &[&str] = &[
    "*1\r\n$x\r\n",
    "*x\r\n",
    "*-10\r\n*2\r\n!\r\n",
    "*1\r\n$-1\r\n",
    "*3000000000\r\n",
    "*2\r\n$3\r\nGET\r\n$9999999999\r\n",
    "SET \"unbalanced\r\n",
    "*1\r\nPING\r\n",
    "*1\r\n$1 \r\n",
];

const SCRIPTS: &[&str] = &[
    "return 1",
    "return redis.call('GET',KEYS[1])",
    "redis.setresp(3); return redis.call('HGETALL','none')",
    "return {1,'two',{3}}",
    "return redis.error_reply('MINE no')",
    "return redis.call('INCR','n0')",
    "this is no script",
];

const CONNECTION: &[&str] = &[
    "SELECT 0",
    "SELECT 1",
    "SELECT 99",
    "SELECT x",
    "AUTH wrong",
    "AUTH default wrong",
    "AUTH nobody wrong",
    "CLIENT SETNAME n1",
    "CLIENT SETNAME n~2",
    "CLIENT GETNAME",
    "CLIENT SETINFO LIB-NAME lib",
    "client setinfo lib-ver 1",
    "CLIENT NO-EVICT on",
    "CLIENT NO-EVICT off",
    "CLIENT TRACKING on",
    "CLIENT TRACKING off",
    // (Of keys that nobody writes: broadcasts leave at the end of a round of the server's loop, wherever in a pipeline that is.)
    "CLIENT TRACKING on BCAST PREFIX unwritten:",
    "CLIENT GETREDIR",
    "CLIENT TRACKINGINFO",
    "CLIENT CACHING yes",
    "RESET",
    "READONLY",
    "READWRITE",
    "ASKING",
    "UNWATCH",
    "EXEC",
    "DISCARD",
    "ACL WHOAMI",
    "CLIENT NOTHING",
    "CLIENT",
    "CLIENT SETNAME",
    "CLIENT SETNAME \u{e9}",
    "WATCH $s",
    "UNSUBSCRIBE nothing",
    "PUNSUBSCRIBE",
    "CLIENT KILL ID 99999999",
    "CLIENT UNBLOCK 99999999",
    "NOSUCH command",
    "NOSUCH",
    "GET",
    "SET $s",
];

const COMMANDS: &[&str] = &[
    "SET $s $v",
    "SET $s $v NX",
    "SET $s $v XX GET",
    "SET $s $v EX 1000",
    "GET $s",
    "GETRANGE $s $n $n",
    "APPEND $s $v",
    "STRLEN $s",
    "INCR $n",
    "INCR n1",
    "INCRBY n1 $n",
    "INCRBYFLOAT n1 1.5",
    "MSET $s $v $s $v",
    "MGET $s $s $h $s",
    "GETDEL $s",
    "GETSET $s $v",
    "SETNX $s $v",
    "SETBIT $b 100 1",
    "BITCOUNT $b",
    "BITFIELD $b SET u8 0 7 GET u4 1",
    "BITOP AND $b $b $b",
    "HSET $h $f $v $f $v",
    "HGET $h $f",
    "HDEL $h $f",
    "HINCRBY $h i $n",
    "HMGET $h $f $f",
    "HLEN $h",
    "LPUSH $l $v $v",
    "RPUSH $l $f $v",
    "LPOP $l",
    "RPOP $l 2",
    "LRANGE $l 0 -1",
    "LLEN $l",
    "LINDEX $l $n",
    "LSET $l 0 $v",
    "LREM $l 1 $f",
    "LINSERT $l BEFORE f $v",
    "LMOVE $l $l LEFT RIGHT",
    "LMPOP 2 $l $l LEFT COUNT 2",
    "LPOS $l f",
    "SADD $t $f $n",
    "SREM $t $f",
    "SISMEMBER $t f",
    "SMISMEMBER $t f g",
    "SCARD $t",
    "SMOVE $t $t f",
    "SUNIONSTORE $t $t $t",
    "SINTERCARD 2 $t $t",
    "ZADD $z $n f $n g",
    "ZADD $z GT CH $n f",
    "ZINCRBY $z 1.25 g",
    "ZRANGE $z 0 -1 WITHSCORES",
    "ZRANGEBYSCORE $z -inf +inf LIMIT 0 3",
    "ZSCORE $z f",
    "ZMSCORE $z f g",
    "ZPOPMIN $z",
    "ZUNION 2 $z $z WITHSCORES",
    "ZRANGESTORE $z $z 0 1",
    "ZMPOP 1 $z MIN",
    "XADD $x 1-$n f $v",
    "XADD $x 99999-1 f v",
    "XLEN $x",
    "XRANGE $x - +",
    "XREAD COUNT 2 STREAMS $x 0",
    "XGROUP CREATE $x g0 0 MKSTREAM",
    "XREADGROUP GROUP g0 c0 COUNT 1 STREAMS $x >",
    "XACK $x g0 1-1",
    "XTRIM $x MAXLEN 2",
    "GEOADD $g 13.3 38.1 f 15.0 37.5 g",
    "GEODIST $g f g",
    "GEOSEARCH $g FROMLONLAT 15 37 BYRADIUS 900 km ASC",
    "GEOPOS $g f none",
    "PFADD $p $f $f",
    "PFCOUNT $p $p",
    "EXPIRE $s 1000",
    "PERSIST $s",
    "TYPE $s",
    "EXISTS $s $h",
    "DEL $s",
    "UNLINK $l $t",
    "RENAME $s $s",
    "COPY $s $s REPLACE",
    "OBJECT ENCODING $z",
    "DBSIZE",
    "MOVE $s 3",
    "SWAPDB 0 1",
    "FLUSHDB",
    "EVAL $script 1 $s",
    "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0",
    "EVAL_RO $script 1 $s",
    "FCALL nothing 0",
    "PUBLISH nobody $v",
    "ECHO $v",
    "PING",
    "PING $v",
    "BLPOP none 0.01",
    "XREAD BLOCK 10 STREAMS none $",
    "COMMAND GETKEYS SET a b",
    "CONFIG GET maxmemory",
    "CONFIG GET nothing",
    "OBJECT FREQ $s",
    "DEBUG JMAP",
    "BLPOP $l x",
    "LOLWUT VERSION x",
    "SCRIPT EXISTS x",
    "$s",
];
