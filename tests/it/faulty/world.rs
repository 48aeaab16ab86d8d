//! Eight clients at both proxies of a pair, each with its half at the twin; and the rounds that they live through.
//!
//! A failure prints the seed, the round, the fault, what the client said, and the command that plays it again.

use std::fmt;

use super::admin::{self, PASSWORD, USER};
use super::faults::{self, Ground};
use super::oracle::{Half, Oracle, Portrait, Verdict};
use super::stream::{self, Author, Batch, Moment, SHARED, Speaker, USERS};
use super::table::{Fault, Known};
use super::wire::{self, End, Manner};
use crate::differential::streams::Random;
use crate::support::redis::Redis;
use crate::support::{ANYTHING, Client, Options, Pair, PairOptions, Proxy, pause};

const CLIENTS: usize = 8;
/// Longer than a client stays on a connection of its own for nothing.
const REST: u64 = 400;

/// The pair, and the twin. They are started once.
pub(super) struct Servers {
    pair: Pair,
    twin: Pair,
}

impl Servers {
    pub(super) fn start() -> Self {
        let superuser = "proxy on >superuser ~* &* +@all";
        let options = PairOptions { users: vec![superuser], ..PairOptions::default() };
        let (pair, twin) = (Pair::with(&options), Pair::with(&options));
        for node in [&pair.a, &pair.b, &twin.a, &twin.b] {
            faults::configure(node);
        }
        Self { pair, twin }
    }

    /// As of the beginning of a seed: no data but the shared, the first users, `a` is primary.
    fn reset(&mut self) {
        for node in [&self.pair.a, &self.pair.b, &self.twin.a] {
            people(node);
        }
        for node in [&self.twin.a, faults::primary(&self.pair)] {
            admin::words(node, "FLUSHALL");
            for number in 0..SHARED.len() {
                let (key, value) = (format!("shared:{number}"), stream::shared(number));
                admin::ask(node, |admin| admin.call(&[b"SET", key.as_bytes(), &value]));
            }
        }
    }
}

/// The users of the stories. The twin's have one more password, so that a connection can be made again there.
fn people(node: &Redis) {
    admin::words(node, "ACL SETUSER default reset on nopass ~* &* +@all");
    admin::words(node, "ACL SETUSER u1 reset on >u1 >twin ~* &* +@all");
    admin::words(node, "ACL SETUSER u2 reset on >u2 >twin ~* &* +@all -append -xadd");
}

/// One client.
struct Person {
    client: Client,
    half: Half,
    /// It has just connected.
    fresh: bool,
    /// What it has said since then.
    said: Vec<String>,
}

/// What was seen in a seed.
#[derive(Default)]
pub(super) struct Tally {
    batches: usize,
    commands: usize,
    unknown: usize,
    closed: usize,
    adopted: usize,
    faults: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batches, commands, unknown, closed, adopted, faults } = self;
        write!(
            f,
            "{faults} faults, {batches} batches, {commands} commands, {unknown} unknown outcomes, \
             {closed} closed, {adopted} adopted"
        )
    }
}

pub(super) struct World<'a> {
    seed: u64,
    random: Random,
    known: &'a Known,
    servers: &'a mut Servers,
    proxies: [Proxy; 2],
    people: Vec<Person>,
    /// Every answer is of a write that a replica has; so the primary may die.
    replicated: bool,
    /// The default user needs no password.
    open: bool,
    /// Rounds since the roles changed.
    since_change: usize,
    pub(super) tally: Tally,
}

/// What is said in a round, by whom and how.
struct Saying {
    who: usize,
    batch: Batch,
    manner: Manner,
    /// The client connects anew afterwards.
    leaves: bool,
}

impl<'a> World<'a> {
    pub(super) fn of(seed: u64, servers: &'a mut Servers, known: &'a Known) -> Self {
        servers.reset();
        let replicated = seed.is_multiple_of(3);
        let proxies = ["a", "b"].map(|name| {
            let password = servers.pair.dir.path().join("superuser");
            std::fs::write(&password, PASSWORD).unwrap();
            let lanes = if seed % 4 == 2 { "off" } else { "on" };
            let acknowledge = if replicated { "replicated" } else { "executed" };
            let options = Options::default().arg("--lanes", lanes).arg("--acknowledge", acknowledge);
            let options = options.arg("--redis-user", USER).arg("--redis-password-file", password.to_str().unwrap());
            Proxy::with(&servers.pair, name, options.arg("--workers", "1").announce(ANYTHING))
        });
        faults::settle(&servers.pair, &proxies);
        let mut world = Self {
            seed,
            random: Random::new(seed),
            known,
            servers,
            proxies,
            people: Vec::new(),
            replicated,
            open: true,
            since_change: 0,
            tally: Tally::default(),
        };
        world.people = (0..CLIENTS).map(|number| world.person(number)).collect();
        world
    }

    fn person(&self, number: usize) -> Person {
        let twin = &self.servers.twin;
        let connect = || twin.direct();
        let half = Oracle { twin: &twin.a, connect: &connect }.fresh(Speaker { number });
        Person { client: self.proxies[number % 2].client(), half, fresh: true, said: Vec::new() }
    }

    pub(super) fn round(&mut self, round: usize) {
        // Whatever became of the rounds before, this one is drawn alike.
        self.random = Random::new(self.seed * 1000 + round as u64);
        if self.random.one_in(6) {
            self.change_users();
        }
        let fault = self.fault();
        let sayings = self.sayings(round, fault == Fault::Nothing);
        let told = self.told(round, fault);
        println!("round {round}: {fault:?}, {} clients", sayings.len());
        if fault == Fault::OutputLimit {
            faults::limit_output(&self.servers.pair, true);
        }
        let seen = self.speak(round, fault, &sayings);
        if fault == Fault::OutputLimit {
            faults::limit_output(&self.servers.pair, false);
        }
        self.tally.faults += usize::from(fault != Fault::Nothing);
        for (saying, seen) in sayings.iter().zip(&seen) {
            self.judge(fault, saying, seen).unwrap_or_else(|why| {
                let others: Vec<String> =
                    sayings.iter().map(|other| format!("  client {}: {}", other.who, other.batch.told())).collect();
                let before = self.people[saying.who].said.join("\n  ");
                let (who, said) = (saying.who, saying.batch.told());
                panic!(
                    "{told}, client {who}: {why}\nit said: {said}\nbefore:\n  {before}\nall said:\n{}",
                    others.join("\n")
                )
            });
        }
        if fault.excuse(self.known).quiet {
            for number in 0..CLIENTS {
                if self.people[number].half.quiet {
                    self.people[number] = self.person(number);
                }
            }
        }
        if self.random.one_in(4) {
            pause(REST);
        }
    }

    fn told(&self, round: usize, fault: Fault) -> String {
        let all = if std::env::var_os("CHANGEOVER_FAULTY_ALL").is_some() { "CHANGEOVER_FAULTY_ALL=1 " } else { "" };
        let seed = self.seed;
        format!(
            "seed {seed}, round {round}, {fault:?} ({all}CHANGEOVER_FAULTY_SEED={seed} cargo test --test it faulty -- --nocapture)"
        )
    }

    fn fault(&mut self) -> Fault {
        self.since_change += 1;
        let fault = match self.random.below(20) {
            0..7 => Fault::Nothing,
            7..10 => Fault::KillNormal,
            10..12 if !self.known.off("quick kills") => Fault::KillQuickly,
            10..14 => Fault::KillOne,
            14 => Fault::KillSubscribers,
            15..17 if !self.known.off("output limits") => Fault::OutputLimit,
            15..17 => Fault::KillNormal,
            17 => Fault::Switchover,
            18 => Fault::Failover,
            _ if self.replicated => Fault::Death,
            _ => Fault::Switchover,
        };
        if matches!(fault, Fault::Switchover | Fault::Failover | Fault::Death) {
            if self.since_change < 3 {
                return Fault::Nothing;
            }
            self.since_change = 0;
            faults::settle(&self.servers.pair, &self.proxies);
        }
        fault
    }

    fn sayings(&mut self, round: usize, calm: bool) -> Vec<Saying> {
        let mut all = Vec::new();
        for who in 0..CLIENTS {
            if self.random.one_in(3) {
                continue;
            }
            self.random = Random::new((self.seed * 1000 + round as u64) * 100 + who as u64);
            let login = LOGINS[self.random.below(LOGINS.len())];
            let login = if self.people[who].fresh { login } else { "" };
            self.people[who].fresh = false;
            let word = format!("word-{}-{round}-{who}", self.seed);
            let speaker = self.people[who].half.speaker;
            let logged_in = self.people[who].half.portrait.logged_in();
            let moment = Moment { logged_in, open: self.open, replicated: self.replicated, calm };
            let mut author = Author { random: &mut self.random, speaker, known: self.known, moment };
            let batch = author.batch(&word, Some(login));
            let manner = Manner::draw(&mut self.random);
            all.push(Saying { who, batch, manner, leaves: self.random.one_in(12) });
        }
        all
    }

    /// All of them speak at once, while the fault happens.
    fn speak(&mut self, round: usize, fault: Fault, sayings: &[Saying]) -> Vec<wire::Seen> {
        let random = Random::new(self.seed * 1000 + round as u64 + (1 << 40));
        let Self { servers, proxies, people, .. } = self;
        // (It is published in calm rounds only: then nothing changes who is primary.)
        let port = faults::primary(&servers.pair).port;
        let clients = people.iter_mut().enumerate().map(|(number, person)| (number, &mut person.client));
        std::thread::scope(|scope| {
            let threads: Vec<_> = clients
                .filter_map(|(number, client)| {
                    let saying = sayings.iter().find(|saying| saying.who == number)?;
                    let publish = move |channel: &str| admin::publish(port, channel, &saying.batch.word);
                    Some(scope.spawn(move || wire::exchange(client, &saying.batch, &saying.manner, &publish)))
                })
                .collect();
            Ground { pair: &mut servers.pair, proxies, random }.strike(fault);
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn judge(&mut self, fault: Fault, saying: &Saying, seen: &wire::Seen) -> Result<(), String> {
        let twin = &self.servers.twin;
        let connect = || twin.direct();
        let oracle = Oracle { twin: &twin.a, connect: &connect };
        let pair = &self.servers.pair;
        let person = &mut self.people[saying.who];
        let speaker = person.half.speaker;
        let real = || faults::primary(pair);
        let verdict = oracle.judge(&mut person.half, &saying.batch, seen, fault.excuse(self.known), &real)?;
        person.said.push(format!("({fault:?}) {}", saying.batch.told()));
        person.half.quiet |= saying.batch.quiet();
        self.tally.batches += 1;
        self.tally.commands += saying.batch.steps().count();
        let mut over = saying.batch.ends || saying.leaves;
        match verdict {
            Verdict::Same => {}
            Verdict::Explained(count) => self.tally.unknown += count,
            Verdict::Closed => (self.tally.closed, over) = (self.tally.closed + 1, true),
            Verdict::Adopted => {
                oracle.adopt(speaker, faults::primary(pair));
                (self.tally.adopted, over) = (self.tally.adopted + 1, true);
            }
        }
        if !over && seen.end == End::Done {
            person.half.portrait = oracle.portrait(&mut person.half.client);
            over = person.half.portrait.odd;
        }
        if over {
            self.people[saying.who] = self.person(saying.who);
        }
        Ok(())
    }

    /// The same on both nodes and the twin, while nobody speaks; whom it concerns connects anew.
    fn change_users(&mut self) {
        let changes = if self.known.off("a password for clients that never log in") { &CHANGES[..4] } else { CHANGES };
        let (who, change) = changes[self.random.below(changes.len())];
        println!("{change:?}");
        for node in [&self.servers.pair.a, &self.servers.pair.b, &self.servers.twin.a] {
            for line in change {
                admin::words(node, line);
            }
        }
        self.open = if who.is_none() { change[0].ends_with("nopass") } else { self.open };
        for number in 0..CLIENTS {
            if self.people[number].half.portrait.is(who) {
                self.people[number] = self.person(number);
            }
        }
    }
}

/// How a new connection begins.
const LOGINS: &[&str] = &[
    "",
    "",
    "",
    "HELLO 3",
    "AUTH u1 u1",
    "AUTH u2 u2",
    "AUTH u1 new",
    "AUTH u1 wrong",
    "HELLO 3 AUTH u1 u1",
    "HELLO 3 AUTH u2 u2 SETNAME @me",
    "HELLO 2 AUTH u1 new",
    "AUTH needed",
    "HELLO 3 AUTH default needed",
];

/// Whom a change concerns, and how it is made.
const CHANGES: &[(Option<&str>, &[&str])] = &[
    (Some("u1"), &["ACL SETUSER u1 resetpass >new >twin"]),
    (Some("u1"), &["ACL SETUSER u1 resetpass >u1 >twin"]),
    (Some("u1"), &["ACL DELUSER u1", "ACL SETUSER u1 on >u1 >twin ~* &* +@all"]),
    (Some("u2"), &["ACL SETUSER u2 +append -incr"]),
    (None, &["CONFIG SET requirepass needed", "ACL SETUSER default >twin"]),
    (None, &["CONFIG SET requirepass needed", "ACL SETUSER default >twin"]),
    (None, &["ACL SETUSER default off"]),
    (None, &["ACL SETUSER default on nopass"]),
];

impl Portrait {
    fn logged_in(&self) -> bool {
        self.user.is_some()
    }

    /// `None` stands for clients that have not logged in.
    fn is(&self, user: Option<&str>) -> bool {
        match user {
            Some(name) => self.user.as_deref() == Some(name),
            None => self.user.as_deref().is_none_or(|user| !USERS.contains(&user)),
        }
    }
}
