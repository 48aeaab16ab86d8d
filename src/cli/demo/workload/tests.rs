//! The workload against a model of a server that can be told to misbehave.

use std::collections::HashMap;

use super::*;

/// A faithful single-connection model of the four commands.
#[derive(Default)]
struct Model {
    values: HashMap<Vec<u8>, Vec<u8>>,
    counters: HashMap<Vec<u8>, i64>,
    lists: HashMap<Vec<u8>, Vec<u64>>,
}

impl Model {
    fn run(&mut self, args: &[Vec<u8>]) -> Vec<u8> {
        let key = args[1].clone();
        match args[0].as_slice() {
            b"SET" if self.values.contains_key(&key) => b"$-1\r\n".to_vec(),
            b"SET" => {
                self.values.insert(key, args[2].clone());
                b"+OK\r\n".to_vec()
            }
            b"GET" => match self.values.get(&key) {
                Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
                None => b"$-1\r\n".to_vec(),
            },
            b"INCR" => {
                let value = self.counters.entry(key).or_default();
                *value += 1;
                format!(":{value}\r\n").into_bytes()
            }
            _ => {
                let list = self.lists.entry(key).or_default();
                list.push(String::from_utf8_lossy(&args[2]).parse().unwrap());
                format!(":{}\r\n", list.len()).into_bytes()
            }
        }
    }
}

/// What the server does with one command instead of running it once and answering.
#[derive(Clone, Copy, PartialEq)]
enum Misdeed {
    Nothing,
    RunTwice,
    AnswerOnly,
    Refuse,
    RunAndRefuse,
    Unknown,
}

fn commands(bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let (mut rest, mut all) = (bytes, Vec::new());
    while let Some((Item::Array(count), used)) = wire::item(rest).unwrap() {
        rest = &rest[used..];
        let mut args = Vec::new();
        for _ in 0..count {
            let Some((Item::Bulk(arg), used)) = wire::item(rest).unwrap() else { panic!("not a command") };
            args.push(arg.to_vec());
            rest = &rest[used..];
        }
        all.push(args);
    }
    all
}

/// Runs 100 commands in batches; the server misbehaves at the first command of this name after the 40th.
fn play(name: &[u8], misdeed: Misdeed, batch: usize) -> (Tally, Workload, Model) {
    let (mut work, mut model, mut tally) = (Workload::new(3, 7), Model::default(), Tally::default());
    let (mut count, mut done) = (0, misdeed == Misdeed::Nothing);
    while count < 100 {
        let mut out = Vec::new();
        work.batch(&mut out, batch);
        assert_eq!(work.outstanding(), batch);
        for args in commands(&out) {
            count += 1;
            let now = !done && count > 40 && args[0] == name;
            done |= now;
            let reply = match (now, misdeed) {
                (true, Misdeed::RunTwice) => {
                    model.run(&args);
                    model.run(&args)
                }
                (true, Misdeed::AnswerOnly) if name == b"INCR" => {
                    format!(":{}\r\n", model.counters[&args[1]] + 1).into_bytes()
                }
                (true, Misdeed::AnswerOnly) => b"+OK\r\n".to_vec(),
                (true, Misdeed::Refuse) => b"-READONLY no\r\n".to_vec(),
                (true, Misdeed::RunAndRefuse) => {
                    model.run(&args);
                    b"-LOADING no\r\n".to_vec()
                }
                (true, Misdeed::Unknown) => b"-OUTCOMEUNKNOWN maybe\r\n".to_vec(),
                _ => model.run(&args),
            };
            let (item, _) = wire::item(&reply).unwrap().unwrap();
            work.reply(item, &mut tally);
        }
    }
    assert!(done, "the script has no such command");
    (tally, work, model)
}

/// The check at the end of a phase, on the model.
fn settle(tally: &mut Tally, work: &Workload, model: &Model) {
    let ledger = work.ledger();
    tally.found(ledger.pushes.check_list(&model.lists[&b"l:3:7".to_vec()]));
    tally.found(ledger.counter.check(model.counters[&b"c:3:7".to_vec()]));
    for n in 0..ledger.sets.issued {
        let value = model.values.get(format!("k:3:7:{n}").as_bytes());
        let value = value.map(|v| String::from_utf8_lossy(v).parse().unwrap());
        tally.found(ledger.sets.check_value(n, value));
    }
}

#[test]
fn a_faithful_server_is_found_faithful() {
    for batch in [1, 10] {
        let (mut tally, work, model) = play(b"", Misdeed::Nothing, batch);
        settle(&mut tally, &work, &model);
        assert_eq!(tally, Tally { commands: 100, writes: 90, ..Tally::default() });
        assert_eq!(work.outstanding(), 0);
    }
}

#[test]
fn every_write_that_ran_twice_is_found() {
    for name in [&b"SET"[..], b"INCR", b"RPUSH"] {
        let (mut tally, work, model) = play(name, Misdeed::RunTwice, 10);
        settle(&mut tally, &work, &model);
        assert_eq!((tally.doubled, tally.lost, tally.order_broken()), (1, 0, 0), "{name:?}");
    }
}

#[test]
fn every_acknowledged_write_that_is_gone_is_found() {
    for name in [&b"SET"[..], b"INCR"] {
        let (mut tally, work, model) = play(name, Misdeed::AnswerOnly, 1);
        settle(&mut tally, &work, &model);
        assert_eq!((tally.doubled, tally.lost), (0, 1), "{name:?}");
    }
}

#[test]
fn a_refused_write_is_an_error_and_nothing_else_unless_it_ran() {
    for name in [&b"SET"[..], b"INCR", b"RPUSH"] {
        let (mut tally, work, model) = play(name, Misdeed::Refuse, 10);
        settle(&mut tally, &work, &model);
        assert_eq!((tally.errors["READONLY"], tally.doubled, tally.lost, tally.order_broken()), (1, 0, 0, 0));
        let (mut tally, work, model) = play(name, Misdeed::RunAndRefuse, 10);
        settle(&mut tally, &work, &model);
        assert_eq!((tally.errors["LOADING"], tally.doubled, tally.lost), (1, 1, 0), "{name:?}");
    }
}

#[test]
fn an_unknown_outcome_is_no_error_and_accuses_nobody() {
    for name in [&b"SET"[..], b"INCR", b"RPUSH", b"GET"] {
        let (mut tally, work, model) = play(name, Misdeed::Unknown, 10);
        settle(&mut tally, &work, &model);
        assert_eq!((tally.unknown, tally.errors(), tally.doubled, tally.lost, tally.order_broken()), (1, 0, 0, 0, 0));
    }
}

#[test]
fn a_reply_too_many_or_of_another_command_is_misplaced() {
    let (mut work, mut tally) = (Workload::new(0, 0), Tally::default());
    work.batch(&mut Vec::new(), 2);
    work.reply(Item::Integer(1), &mut tally);
    assert_eq!(tally.misplaced, 1, "SET is not answered by a number");
    work.reply(Item::Bulk(b"5"), &mut tally);
    assert_eq!(tally.misplaced, 2, "GET of write 0 is not answered by 5");
    work.reply(Item::Simple(b"OK"), &mut tally);
    assert_eq!(tally.misplaced, 3, "nothing was asked");
}

#[test]
fn a_read_that_misses_the_own_write_is_stale() {
    let (mut work, mut tally) = (Workload::new(0, 0), Tally::default());
    work.batch(&mut Vec::new(), 2);
    work.reply(Item::Simple(b"OK"), &mut tally);
    work.reply(Item::Null, &mut tally);
    assert_eq!(tally.stale, 1);
}

#[test]
fn what_is_under_way_when_the_connection_ends_is_unknown() {
    let (mut work, mut tally) = (Workload::new(0, 0), Tally::default());
    work.batch(&mut Vec::new(), 10);
    work.connection_lost(&mut tally);
    assert_eq!((tally.unanswered, tally.unknown, work.outstanding()), (10, 0, 0));
    assert_eq!(work.ledger().sets.check_value(0, None), super::super::ledger::Findings::default());
    assert_eq!(work.ledger().counter.unknown, 3);
}
