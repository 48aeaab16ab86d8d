//! The same random streams of commands to a Redis and, through the proxy, to its twin: the same bytes come back.
//!
//! Three clients take turns. What one of them sends in a turn is cut at random places and ends with a PING of its own,
//! so that everything up to that answer belongs to the turn, however many replies and pushes it is. Commands whose
//! answers cannot be the same on any two servers are asked alone and compared by shape; they are listed in
//! `streams::LOOSE`. Left out, because the answer is ours and not the server's (docs/compatibility.md): SCAN's cursors
//! and PUBSUB CHANNELS. A difference prints its seed:
//!
//! * `CHANGEOVER_DIFFERENTIAL_SEED=n` plays one seed again,
//! * `CHANGEOVER_DIFFERENTIAL_SECONDS=n` plays for longer (20 is the default).

pub(crate) mod streams;

use std::io::ErrorKind;
use std::time::Duration;

use crate::support::client::encode;
use crate::support::{Client, Options, Pair, Proxy, Value, now, wait_until};
use streams::{Random, Turn};

const CLIENTS: usize = 3;
const TURNS: u32 = 40;

/// One server and a way to it.
struct World<'a> {
    pair: &'a Pair,
    connect: &'a dyn Fn() -> Client,
    clients: Vec<Client>,
}

impl<'a> World<'a> {
    fn fresh(pair: &'a Pair, connect: &'a dyn Fn() -> Client) -> Self {
        for words in ["FLUSHALL", "SCRIPT FLUSH", "FUNCTION FLUSH"] {
            pair.a.cmd(words);
        }
        Self { pair, connect, clients: (0..CLIENTS).map(|_| connect()).collect() }
    }

    /// Sends the pieces, and reads up to the answer with this word in it, or to the end.
    fn exchange(&mut self, client: usize, pieces: &[&[u8]], word: &str) -> Vec<(Value, Vec<u8>)> {
        let client = &mut self.clients[client];
        for piece in pieces {
            if client.try_send(piece).is_err() {
                break;
            }
        }
        let mut all = Vec::new();
        loop {
            let reply = match client.try_read_raw() {
                Ok(reply) => reply,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    all.push((Value::Null, b"(no answer)".to_vec()));
                    break;
                }
                Err(_over) => break,
            };
            let last = mentions(&reply.0, word);
            all.push(reply);
            if last {
                break;
            }
        }
        all
    }

    fn blocked(&self) -> usize {
        let info = self.pair.a.cmd("CLIENT LIST").text();
        info.lines()
            .filter(|line| line.contains("cmd=b") || line.contains("cmd=xread"))
            .filter(|line| line.contains("flags=b"))
            .count()
    }
}

fn all_quiet(answers: &[(Value, Vec<u8>)]) -> bool {
    answers.last().is_some_and(|(_, raw)| raw == b"(no answer)")
}

pub(crate) fn mentions(value: &Value, word: &str) -> bool {
    match value {
        Value::Bulk(bytes) => bytes == word.as_bytes(),
        Value::Array(items) | Value::Push(items) => items.len() == 2 && mentions(&items[1], word),
        _ => false,
    }
}

/// What must be the same of an answer that is compared by shape.
pub(crate) fn shape(value: &Value) -> String {
    match value {
        Value::Error(text) => format!("-{text}"),
        Value::Array(items) | Value::Set(items) => {
            let mut items: Vec<_> = items.iter().map(shape).collect();
            items.sort();
            format!("{items:?}")
        }
        Value::Map(items) => format!("map of {}", items.len()),
        Value::Int(_) => ":".to_owned(),
        Value::Bulk(bytes) if !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit) => "a number".to_owned(),
        Value::Bulk(bytes) if bytes.len() <= 64 => format!("{:?}", String::from_utf8_lossy(bytes)),
        Value::Bulk(_) | Value::Verbatim(_) => "text".to_owned(),
        other => format!("{other:?}"),
    }
}

fn play(seed: u64, worlds: &mut [World<'_>; 2]) {
    let mut random = Random::new(seed);
    for step in 0..TURNS {
        let word = format!("ping-{seed}-{step}");
        let turn = Turn::draw(&mut random, &word);
        let client = random.below(CLIENTS);
        let cuts = random.cuts(&turn.bytes);
        let [direct, proxied] = worlds.each_mut().map(|world| {
            if let Some(partner) = &turn.partner {
                return with_partner(world, client, &turn, partner, &word);
            }
            world.exchange(client, &cuts, &word)
        });
        let told = || {
            format!(
                "seed {seed}, turn {step}, client {client}:\n{}",
                String::from_utf8_lossy(&turn.bytes[..turn.bytes.len().min(2000)])
            )
        };
        assert!(!all_quiet(&direct), "Redis itself does not answer: {}", told());
        if turn.loose {
            let shapes = [&direct, &proxied].map(|all| all.iter().map(|(value, _)| shape(value)).collect::<Vec<_>>());
            assert_eq!(shapes[1], shapes[0], "shapes through the proxy (left), directly (right); {}", told());
        } else if direct.iter().map(|(_, raw)| raw).ne(proxied.iter().map(|(_, raw)| raw)) {
            let text = |all: &[(Value, Vec<u8>)]| {
                all.iter()
                    .map(|(_, raw)| String::from_utf8_lossy(&raw[..raw.len().min(300)]).into_owned())
                    .collect::<Vec<_>>()
            };
            let at = direct.iter().zip(&proxied).take_while(|(a, b)| a.1 == b.1).count();
            panic!(
                "{}\nfrom answer {at} on\ndirectly {:#?}\nthrough the proxy {:#?}",
                told(),
                text(&direct[at..]),
                text(&proxied[at..])
            );
        }
        if turn.ends {
            for world in worlds.iter_mut() {
                world.clients[client] = (world.connect)();
            }
        }
    }
}

/// One client waits (for an element, for a message), another one brings it.
fn with_partner(
    world: &mut World<'_>,
    client: usize,
    turn: &Turn,
    partner: &[u8],
    word: &str,
) -> Vec<(Value, Vec<u8>)> {
    let other = (client + 1) % CLIENTS;
    let mut all = Vec::new();
    if turn.blocks {
        world.clients[client].send(&turn.bytes);
        wait_until("a client is blocked", Duration::from_secs(10), || world.blocked() == 1);
    } else {
        all.extend(world.exchange(client, &[&turn.bytes], word));
    }
    let met = format!("{word}-met");
    all.extend(world.exchange(other, &[partner, &encode(&[b"PING", met.as_bytes()])], &met));
    if turn.blocks {
        all.extend(world.exchange(client, &[], word));
    } else {
        let after = format!("{word}-after");
        let leave = [turn.leave.as_slice(), &encode(&[b"PING", after.as_bytes()])].concat();
        all.extend(world.exchange(client, &[&leave], &after));
    }
    all
}

#[test]
fn random_commands_get_the_bytes_that_redis_itself_would_have_sent() {
    let env = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (one, two) = (Pair::start(), Pair::start());
    let proxies = ["on", "off"].map(|lanes| Proxy::with(&two, "a", Options::default().arg("--lanes", lanes)));
    let again = env("CHANGEOVER_DIFFERENTIAL_SEED");
    let until = now() + Duration::from_secs(env("CHANGEOVER_DIFFERENTIAL_SECONDS").unwrap_or(20));
    let mut seed = again.unwrap_or(1);
    while now() < until {
        let proxy = &proxies[usize::from(seed % 4 == 0)];
        let (direct, proxied) = (|| one.direct(), || proxy.client());
        println!("seed {seed}");
        play(seed, &mut [World::fresh(&one, &direct), World::fresh(&two, &proxied)]);
        seed += 1;
        if again.is_some() {
            break;
        }
    }
}
