//! Transactions that the server may not have begun, or that lost a command.

use super::*;

#[test]
fn what_followed_a_multi_without_a_reply_is_sent_again_only_if_it_was_queued() {
    let mut story = Story::attached();
    story.client("MULTI\r\nINCR n\r\nGET n\r\n").upstream_gets("MULTI|INCR n|GET n|");
    story.another_upstream().upstream_gets("MULTI|").upstream("+OK\r\n").upstream_gets("INCR n|GET n|");
    story.upstream("+QUEUED\r\n+QUEUED\r\n").client_gets("+OK\r\n+QUEUED\r\n+QUEUED\r\n");
    story.client("EXEC\r\n").upstream_gets("EXEC|").upstream("*2\r\n:1\r\n$1\r\n1\r\n");
    story.client_gets("*2\r\n:1\r\n$1\r\n1\r\n");

    // A user that may not: the INCR was run, or not.
    let refused = "-NOPERM this user has no permissions to run the 'multi' command\r\n";
    story.client("MULTI\r\nINCR n\r\nGET n\r\n").upstream_gets("MULTI|INCR n|GET n|");
    story.another_upstream().another_upstream().upstream_gets("MULTI|").upstream(refused).upstream_gets("GET n|");
    story.upstream("$1\r\n2\r\n");
    let text = String::from_utf8(story.out.split().to_vec()).unwrap();
    let expected = [refused, "-OUTCOMEUNKNOWN ", "$1\r\n2\r\n"];
    assert!(text.starts_with(expected[0]) && text.ends_with(expected[2]) && text.contains(expected[1]), "{text}");
    assert_eq!(story.session.take_tally().unknown, 1);
    story.client("INCR n\r\n").upstream_gets("INCR n|").upstream(":3\r\n").client_gets(":3\r\n");
}

#[test]
fn a_multi_with_arguments_begins_nothing_and_an_exec_with_arguments_aborts() {
    let wrong = "-ERR wrong number of arguments for 'multi' command\r\n";
    let mut story = Story::attached();
    story.client("MULTI x\r\nINCR n\r\n").upstream_gets("MULTI x|INCR n|");
    story.another_upstream().upstream_gets("MULTI x|").upstream(wrong);
    let text = String::from_utf8(story.out.split().to_vec()).unwrap();
    assert!(text.starts_with(wrong) && text[wrong.len()..].starts_with("-OUTCOMEUNKNOWN "), "{text}");
    story.client("MULTI\r\nEXEC x\r\n").upstream_gets("MULTI|EXEC x|");
    story.upstream("+OK\r\n-EXECABORT Transaction discarded because of: wrong number of arguments\r\n");
    // The transaction is over, as in Redis: what follows is no part of it, and is not run again.
    story.client("INCR n\r\n").upstream_gets("INCR n|").upstream(":1\r\n");
    story.out.clear();
    story.another_upstream().upstream_gets("");
    assert!(story.session.quiet());
}

#[test]
fn a_transaction_that_lost_a_command_to_a_limit_never_runs_in_part() {
    let mut story = Story::attached();
    story.client("MULTI\r\nSET a 1\r\n").upstream_gets("MULTI|SET a 1|").upstream("+OK\r\n+QUEUED\r\n");
    story.client_gets("+OK\r\n+QUEUED\r\n");
    story.session.detach(&mut story.out);
    story.client("SET b 2\r\n");
    assert_eq!(story.session.expire("LOADING no primary", &mut story.out), 1);
    story.client_gets("-LOADING no primary\r\n");
    story.session.attach();
    story.client("SET c 3\r\nEXEC\r\nGET a\r\n").upstream_gets("GET a|");
    story.client_gets("+QUEUED\r\n-EXECABORT Transaction discarded because of previous errors.\r\n");
}

#[test]
fn what_follows_a_multi_that_failed_is_not_taken_for_queued() {
    let mut story = Story::attached();
    story.client("MULTI\r\nINCR n\r\n").upstream_gets("MULTI|INCR n|").upstream("-NOPERM x\r\n");
    story.client_gets("-NOPERM x\r\n").client("INCR m\r\n").upstream_gets("INCR m|");
    story.another_upstream().upstream_gets("");
    assert_eq!(story.session.take_tally().unknown, 2);
}

#[test]
fn a_lost_watch_is_still_lost_behind_an_exec_or_discard_without_multi() {
    for (word, error) in [("EXEC", "-ERR EXEC without MULTI\r\n"), ("DISCARD", "-ERR DISCARD without MULTI\r\n")] {
        for moved_first in [true, false] {
            let mut story = Story::attached();
            story.client("WATCH a\r\n").upstream_gets("WATCH a|").upstream("+OK\r\n").client_gets("+OK\r\n");
            if moved_first {
                story.another_upstream();
            }
            story.client(&format!("{word}\r\n")).upstream_gets(&format!("{word}|")).upstream(error).client_gets(error);
            if !moved_first {
                story.another_upstream();
            }
            story.client("MULTI\r\nINCR n\r\nEXEC\r\n").upstream_gets("").client_gets("+OK\r\n+QUEUED\r\n*-1\r\n");
        }
    }
}

#[test]
fn a_client_that_lost_its_watch_and_asks_for_no_replies_is_closed_on() {
    let mut story = Story::attached();
    story.client("WATCH a\r\n").upstream_gets("WATCH a|").upstream("+OK\r\n").client_gets("+OK\r\n");
    story.another_upstream().client("CLIENT REPLY SKIP\r\n").upstream_gets("CLIENT REPLY SKIP|");
    assert!(story.session.closing() && story.session.lost());
}

#[test]
fn while_the_server_is_busy_a_kill_needs_no_database_and_nobody_is_closed() {
    let busy = "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n";
    let mut story = Story::attached();
    story.client("SELECT 3\r\n").upstream_gets("SELECT 3|").upstream("+OK\r\n").client_gets("+OK\r\n");
    // What needs the database is answered as by the server, and tried anew next time.
    story.session.detach(&mut story.out);
    story.client("GET a\r\nGET b\r\n").session.attach();
    story.upstream_gets("SELECT 3|").upstream(busy).client_gets(&format!("{busy}{busy}"));
    assert!(story.session.misplaced() && !story.session.finished());
    // The kill goes first, and alone.
    story.session.detach(&mut story.out);
    story.client("SCRIPT KILL\r\nGET a\r\n").session.attach();
    story.upstream_gets("SCRIPT KILL|").upstream("+OK\r\n").client_gets("+OK\r\n").upstream_gets("");
    assert!(story.session.misplaced());
    story.another_upstream().upstream_gets("SELECT 3|").upstream("+OK\r\n").upstream_gets("GET a|");
    story.upstream("$1\r\n1\r\n").client_gets("$1\r\n1\r\n");
    assert!(!story.session.misplaced());
}

#[test]
fn a_kill_whose_outcome_is_unknown_leaves_its_client_where_it_was() {
    let mut story = Story::attached();
    story.client("SELECT 3\r\n").upstream_gets("SELECT 3|").upstream("+OK\r\n").client_gets("+OK\r\n");
    story.session.detach(&mut story.out);
    story.client("SCRIPT KILL\r\n").session.attach();
    story.upstream_gets("SCRIPT KILL|");
    story.session.detach(&mut story.out);
    let text = String::from_utf8(story.out.split().to_vec()).unwrap();
    assert!(text.starts_with("-OUTCOMEUNKNOWN "), "{text}");
    assert!(!story.session.finished(), "it changes nothing of the connection");
    story.client("GET a\r\n").session.attach();
    story.upstream_gets("SELECT 3|").upstream("+OK\r\n").upstream_gets("GET a|");
}
