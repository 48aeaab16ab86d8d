//! What the history must say once everything is over.

use std::collections::{BTreeMap, BTreeSet};

use crate::change::Facts;
use crate::client::{Client, Fate};
use crate::conversation::Conversation;
use crate::keyspace::Value;
use crate::redis::Entry;
use crate::stage::Stage;

/// The tokens in a command: (client, number).
fn tokens(command: &[Vec<u8>]) -> impl Iterator<Item = (usize, usize)> {
    let written = !matches!(command[0].as_slice(), b"LPOP" | b"RPOP" | b"LMOVE");
    command.iter().skip(2).filter(move |_| written).filter_map(|word| {
        let text = std::str::from_utf8(word.strip_prefix(b"t")?).ok()?;
        let (client, number) = text.split(':').next()?.split_once('.')?;
        Some((client.parse().ok()?, number.parse().ok()?))
    })
}

fn all(entries: &[Entry]) -> impl Iterator<Item = (usize, (usize, usize))> {
    let commands = entries.iter().enumerate().flat_map(|(at, entry)| entry.commands.iter().map(move |c| (at, c)));
    commands.flat_map(|(at, command)| tokens(command).map(move |token| (at, token)))
}

pub(crate) fn check(
    stage: &Stage,
    clients: &[Client],
    conversations: &[Conversation],
    facts: &Facts,
) -> Result<(), String> {
    fates(stage, clients, facts)?;
    for client in clients {
        transactions(stage, client, facts)?;
        counters(stage, client, facts)?;
        watches(stage, client)?;
        if client.tracking && !client.left && !client.raw {
            cache(stage, client)?;
        }
        messages(stage, client, conversations[client.id].gaps, facts)
            .map_err(|why| format!("client {}: {why}", client.id))?;
    }
    if !facts.killed {
        elements(stage, clients)?;
    }
    Ok(())
}

/// Every acknowledged write once, none twice, in the order in which its client asked.
fn fates(stage: &Stage, clients: &[Client], facts: &Facts) -> Result<(), String> {
    let mut places: BTreeMap<(usize, usize), Vec<&str>> = BTreeMap::new();
    let log = &stage.log;
    for (name, entries) in [("history", &log.entries), ("lost", &log.lost), ("stray", &log.stray)] {
        for (_, token) in all(entries) {
            places.entry(token).or_default().push(name);
        }
    }
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    for (_, (client, number)) in all(&log.entries) {
        if let Some(before) = last.insert(client, number).filter(|before| *before >= number) {
            return Err(format!("t{client}.{number} ran after t{client}.{before}"));
        }
    }
    for client in clients {
        for (number, fate) in client.fates.iter().enumerate() {
            let places = places.remove(&(client.id, number)).unwrap_or_default();
            let survived = places.contains(&"history");
            let right = places.len() <= 1
                && match fate {
                    Fate::Acknowledged => survived || facts.killed && places == ["lost"] || places == ["stray"],
                    Fate::Safe => survived || places == ["stray"],
                    Fate::NotExecuted => places.is_empty(),
                    Fate::Unknown => true,
                    Fate::Sent => client.left || client.raw,
                };
            if !right {
                return Err(format!("t{}.{number} is {fate:?} for its client, and was found in {places:?}", client.id));
            }
        }
    }
    if !facts.bare && !facts.killed && !log.stray.is_empty() {
        return Err("something was published on a demoted node, in an announced change".into());
    }
    match places.keys().next() {
        Some(stranger) => Err(format!("nobody wrote {stranger:?}")),
        None => Ok(()),
    }
}

/// A transaction's writes stand together.
fn transactions(stage: &Stage, client: &Client, facts: &Facts) -> Result<(), String> {
    let place = |token: usize| {
        let both = all(&stage.log.entries).chain(all(&stage.log.lost).map(|(at, token)| (at + 1_000_000, token)));
        both.filter(|(_, known)| *known == (client.id, token)).map(|(at, _)| at).next()
    };
    for tokens in &client.transactions {
        let places: BTreeSet<_> = tokens.iter().map(|token| place(*token)).collect();
        if places.len() > 1 || !facts.killed && places.contains(&None) {
            return Err(format!("client {}: the transaction {tokens:?} was torn: {places:?}", client.id));
        }
    }
    Ok(())
}

fn counters(stage: &Stage, client: &Client, facts: &Facts) -> Result<(), String> {
    let key = format!("n:{}", client.id).into_bytes();
    for (db, (acknowledged, asked)) in &client.increments {
        let log = stage.log.entries.iter().chain(&stage.log.lost).filter(|entry| entry.db == *db);
        let ran = log.flat_map(|entry| &entry.commands).filter(|command| command[0] == b"INCR" && command[1] == key);
        let ran = ran.count() as u64;
        let enough = ran >= *acknowledged && (facts.killed || client.left || ran == *acknowledged);
        if ran > *asked || !enough {
            return Err(format!("client {}: {acknowledged} increments of {asked} acknowledged, {ran} ran", client.id));
        }
    }
    Ok(())
}

/// What was read under WATCH was still there when EXEC wrote.
fn watches(stage: &Stage, client: &Client) -> Result<(), String> {
    for (db, read, token) in &client.succeeded {
        for log in [&stage.log.entries, &stage.log.lost] {
            let mut value: Option<&Vec<u8>> = None;
            let sets = log.iter().filter(|entry| entry.db == *db).flat_map(|entry| &entry.commands);
            for command in sets.filter(|command| command[0] == b"SET" && command[1] == b"w") {
                let mine = tokens(command).any(|known| known == (client.id, *token));
                let whole = std::ptr::eq(log, &raw const stage.log.entries);
                if mine && whole && value != read.as_ref() {
                    return Err(format!("client {}: EXEC with t{0}.{token} ran although w had changed", client.id));
                }
                value = Some(&command[2]);
            }
        }
    }
    Ok(())
}

/// What a tracking client has cached and was not told to forget is true.
fn cache(stage: &Stage, client: &Client) -> Result<(), String> {
    let primary = stage.orders.primary.unwrap();
    for (key, value) in &client.cached {
        let now = match stage.nodes[primary].data.0[client.db].get(key) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        };
        if now != *value {
            return Err(format!("client {} still has {value:?} for {key:?}, which is {now:?}", client.id));
        }
    }
    Ok(())
}

/// In order, none twice; none missed where that is promised.
fn messages(stage: &Stage, client: &Client, gaps: u64, facts: &Facts) -> Result<(), String> {
    for window in &client.windows {
        let fits = |command: &Vec<Vec<u8>>| match window.kind {
            0 => command[0] == b"PUBLISH" && command[1] == window.topic,
            1 => command[0] == b"PUBLISH" && command[1].starts_with(&window.topic[..window.topic.len() - 1]),
            _ => command[0] == b"SPUBLISH" && command[1] == window.topic,
        };
        let published: Vec<(usize, &[u8])> = stage
            .log
            .entries
            .iter()
            .enumerate()
            .flat_map(|(at, entry)| entry.commands.iter().filter(|command| fits(command)).map(move |c| (at, &c[2][..])))
            .collect();
        let once: BTreeSet<_> = window.heard.iter().collect();
        if once.len() != window.heard.len() {
            return Err(format!("heard something twice: {:?}", window.heard));
        }
        let places: Vec<usize> =
            window.heard.iter().filter_map(|heard| published.iter().position(|known| known.1 == *heard)).collect();
        if !places.is_sorted() {
            return Err(format!("heard out of order: {places:?}"));
        }
        if facts.killed || gaps > 0 {
            // With MULTI open there is no marker: nothing of ours may be queued there.
            if gaps > 0 && !facts.killed && !facts.bare && !client.transacted {
                return Err("a gap in an announced change".into());
            }
            continue;
        }
        let until = window.until.unwrap_or(usize::MAX);
        let promised = (0..published.len()).filter(|at| (window.from..until).contains(&published[*at].0));
        let whole = places.windows(2).all(|pair| pair[1] == pair[0] + 1);
        let missed = promised.filter(|at| !places.contains(at)).count();
        // Who listened on a demoted node for a moment may have been ahead of what is replicated to it.
        let ahead = facts.bare && window.until.is_some();
        if (!whole || missed > 0 && !ahead) && !client.left {
            return Err(format!("missed {missed} messages of {}; heard {places:?}", published.len()));
        }
    }
    Ok(())
}

/// What was pushed is in a list, or was given to exactly one client.
fn elements(stage: &Stage, clients: &[Client]) -> Result<(), String> {
    let mut given: BTreeSet<&[u8]> = BTreeSet::new();
    for element in clients.iter().flat_map(|client| &client.popped).filter(|element| *element != b"end") {
        if !given.insert(element) {
            return Err(format!("{} was given twice", String::from_utf8_lossy(element)));
        }
    }
    let left = clients.iter().any(|client| client.left || client.raw);
    let primary = stage.orders.primary.unwrap();
    let mut held = BTreeSet::new();
    for (key, value) in stage.nodes[primary].data.0.iter().flatten() {
        if let Value::List(list) = value
            && key != b"done"
        {
            held.extend(list.iter().map(Vec::as_slice));
        }
    }
    for entry in &stage.log.entries {
        for command in entry.commands.iter().filter(|command| command[0] == b"RPUSH" && command[1] == b"q") {
            for element in command[2..].iter().filter(|element| *element != b"end") {
                let places = usize::from(held.contains(&element[..])) + usize::from(given.contains(&element[..]));
                if places > 1 || places == 0 && !left {
                    return Err(format!("{} is in {places} places", String::from_utf8_lossy(element)));
                }
            }
        }
    }
    Ok(())
}
