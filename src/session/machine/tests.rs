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
