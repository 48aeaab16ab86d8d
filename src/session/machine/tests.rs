//! What counts and what does not, reply by reply.

use super::*;
use crate::protocol::encode;
use bytes::BytesMut;

fn say(machine: &mut Machine, class: Class, words: &[&str], reply: &str) -> Effect {
    let mut command = BytesMut::new();
    encode::command(&mut command, &words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
    machine.answered(class, &command, reply.as_bytes())
}

const MULTI: Class = Class::Transaction(Transaction::Multi);
const EXEC: Class = Class::Transaction(Transaction::Exec);
const AUTH: Class = Class::Connection(Connection::Auth);

#[test]
fn what_is_queued_counts_when_exec_has_run_it_and_not_before() {
    for (end, reply, counts) in [
        (EXEC, "*1\r\n+OK\r\n", true),
        (EXEC, "*1\r\n-WRONGPASS invalid username-password pair or user is disabled.\r\n", false),
        (EXEC, "*-1\r\n", false),
        (EXEC, "-EXECABORT Transaction discarded because of previous errors.\r\n", false),
        (Class::Transaction(Transaction::Discard), "+OK\r\n", false),
        (Class::Connection(Connection::Reset), "+RESET\r\n", false),
    ] {
        let mut machine = Machine::default();
        say(&mut machine, MULTI, &["MULTI"], "+OK\r\n");
        say(&mut machine, MULTI, &["MULTI"], "-ERR MULTI calls can not be nested\r\n");
        say(&mut machine, AUTH, &["AUTH", "other", "secret"], "+QUEUED\r\n");
        assert_eq!((machine.in_multi(), machine.state.user()), (true, &b"default"[..]));
        say(&mut machine, end, &["END"], reply);
        let user: &[u8] = if counts { b"other" } else { b"default" };
        assert_eq!((machine.in_multi(), machine.state.user()), (false, user), "{reply}");
    }
}

const DISCARD: Class = Class::Transaction(Transaction::Discard);
const RESET: Class = Class::Connection(Connection::Reset);
const SELECT: Class = Class::Connection(Connection::Select);
const NAME: Class = Class::Connection(Connection::SetName);
const WATCH: Class = Class::Transaction(Transaction::Watch);

/// What another upstream would be told.
fn replayed(machine: &Machine) -> String {
    let preamble = machine.state.preamble(false, None);
    let all: Vec<u8> = preamble.first.iter().flat_map(|alone| alone.to_vec()).chain(preamble.rest.to_vec()).collect();
    let text = String::from_utf8(all).unwrap();
    let words = text.split("\r\n").filter(|word| !word.is_empty() && !word.starts_with(['*', '$']));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn each_element_of_exec_counts_for_its_own_command() {
    let mut machine = Machine::default();
    say(&mut machine, MULTI, &["MULTI"], "+OK\r\n");
    say(&mut machine, SELECT, &["SELECT", "3"], "+QUEUED\r\n");
    say(&mut machine, Class::Read, &["HGETALL", "h"], "+QUEUED\r\n");
    say(&mut machine, AUTH, &["AUTH", "u", "wrong"], "+QUEUED\r\n");
    say(&mut machine, SELECT, &["SELECT", "99"], "+QUEUED\r\n");
    say(&mut machine, NAME, &["CLIENT", "SETNAME", "n"], "+QUEUED\r\n");
    say(&mut machine, MULTI, &["MULTI"], "-ERR MULTI calls can not be nested\r\n");
    assert_eq!((machine.in_multi(), replayed(&machine).as_str()), (true, ""));
    let reply = "*5\r\n+OK\r\n*2\r\n$1\r\na\r\n-ERR x\r\n-WRONGPASS x\r\n-ERR DB index is out of range\r\n+OK\r\n";
    assert_eq!(say(&mut machine, EXEC, &["EXEC"], reply), Effect::default());
    assert_eq!((machine.in_multi(), replayed(&machine).as_str()), (false, "SELECT 3 CLIENT SETNAME n"));
}

#[test]
fn a_reset_or_discard_ends_the_transaction_only_if_it_says_so() {
    for (end, word, failure, success) in [
        (DISCARD, "DISCARD", "-ERR wrong number of arguments for 'discard' command\r\n", "+OK\r\n"),
        (RESET, "RESET", "-NOPERM x\r\n", "+RESET\r\n"),
        (EXEC, "EXEC", "-NOPERM x\r\n", "-EXECABORT Transaction discarded because of: wrong number\r\n"),
    ] {
        let mut machine = Machine::default();
        say(&mut machine, SELECT, &["SELECT", "3"], "+OK\r\n");
        say(&mut machine, WATCH, &["WATCH", "k"], "+OK\r\n");
        say(&mut machine, MULTI, &["MULTI"], "+OK\r\n");
        say(&mut machine, SELECT, &["SELECT", "5"], "+QUEUED\r\n");
        say(&mut machine, end, &[word], failure);
        assert!(machine.in_multi() && machine.watching(), "{word}");
        say(&mut machine, end, &[word], success);
        assert!(!machine.in_multi() && !machine.watching(), "{word}");
        assert_eq!(replayed(&machine), if word == "RESET" { "" } else { "SELECT 3" });
    }
}

#[test]
fn outside_multi_an_exec_or_discard_that_fails_leaves_keys_watched() {
    let mut machine = Machine::default();
    say(&mut machine, WATCH, &["WATCH", "k"], "+OK\r\n");
    say(&mut machine, EXEC, &["EXEC"], "-ERR EXEC without MULTI\r\n");
    say(&mut machine, DISCARD, &["DISCARD"], "-ERR DISCARD without MULTI\r\n");
    assert!(machine.watching());
    say(&mut machine, EXEC, &["EXEC", "x"], "-EXECABORT Transaction discarded because of: wrong number\r\n");
    assert!(!machine.watching());
}

#[test]
fn whoever_is_nobody_after_a_hello_that_failed_is_in_no_doubt() {
    let mut machine = Machine::default();
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    let hello = Class::Connection(Connection::Hello);
    assert!(say(&mut machine, hello, &["HELLO", "3", "AUTH", "u", "wrong"], wrong).doubt);
    assert!(machine.user_is(b"-NOAUTH Authentication required.\r\n"));
    assert!(say(&mut machine, hello, &["HELLO", "3", "AUTH", "u", "wrong"], wrong).doubt);
    assert!(!machine.user_is(b"-NOPERM this user has no permissions\r\n"), "who it is now, nobody says");
}
