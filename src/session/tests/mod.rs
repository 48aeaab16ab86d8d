//! A session told byte by byte what happens to it; stories a client would tell.

mod halves;
mod identity;
mod lanes;
mod maintenance;
mod quick;
mod receipts;
mod redirect;
mod subscribers;
mod transactions;
mod words;

use super::*;
use crate::protocol::reply::{ReplyEnd, ReplyFramer, ReplyLimits};

struct Story {
    session: Session,
    framer: ReplyFramer,
    out: BytesMut,
}

const READONLY: &str = "-READONLY You can't write against a read only replica.\r\n";
const UNBLOCKED: &str =
    "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n";
const ABORTED: &str =
    "-EXECABORT Transaction discarded because of: READONLY You can't write against a read only replica.\r\n";

impl Story {
    fn new() -> Self {
        let settings = Settings {
            limits: Limits::default(),
            resend_bytes: 4096,
            reserved_channel: b"__changeover__".to_vec(),
            lanes: false,
            notifications: true,
            receipts: None,
        };
        let framer = ReplyFramer::new(ReplyLimits::default());
        Self { session: Session::new(Rc::new(settings)), framer, out: BytesMut::new() }
    }

    fn on_a_lane() -> Self {
        let mut story = Self::new();
        let settings = Settings { lanes: true, ..(*story.session.settings).clone() };
        story.session = Session::new(Rc::new(settings));
        story.session.board();
        story
    }

    fn attached() -> Self {
        let mut story = Self::new();
        story.session.attach();
        story
    }

    /// The client says something; inline, one command a line.
    fn client(&mut self, bytes: &str) -> &mut Self {
        let used = self.session.handle_input(bytes.as_bytes(), &mut self.out);
        assert_eq!(used, bytes.len(), "the session takes all of {bytes:?}");
        self
    }

    /// Everything the session has for its upstream, as lines.
    fn upstream_gets(&mut self, expected: &str) -> &mut Self {
        let mut got = Vec::new();
        loop {
            let bytes = self.session.to_send(false).to_vec();
            if bytes.is_empty() {
                break;
            }
            self.session.sent(bytes.len());
            got.extend(bytes);
        }
        assert_eq!(plain(&got), expected);
        self
    }

    fn upstream(&mut self, bytes: &str) -> &mut Self {
        let mut rest = bytes.as_bytes();
        while !rest.is_empty() {
            let (used, end) = self.framer.scan(rest).unwrap();
            self.session.handle_reply(&rest[..used], self.framer.is_push(), end != ReplyEnd::More, &mut self.out);
            rest = &rest[used..];
        }
        self
    }

    fn client_gets(&mut self, expected: &str) -> &mut Self {
        assert_eq!(String::from_utf8_lossy(&self.out.split()), expected);
        self
    }

    fn another_upstream(&mut self) -> &mut Self {
        self.session.detach(&mut self.out);
        self.framer = ReplyFramer::new(ReplyLimits::default());
        self.session.attach();
        self
    }
}

/// `*2 $3 GET $1 a` as `GET a|`.
fn plain(bytes: &[u8]) -> String {
    let mut framer = RequestFramer::new(Limits::default());
    let (mut rest, mut text) = (bytes, String::new());
    while !rest.is_empty() {
        let (used, _) = framer.scan(rest).unwrap();
        let words: Vec<_> = crate::protocol::args::args(&rest[..used]).map(String::from_utf8_lossy).collect();
        text += &words.join(" ");
        text += "|";
        rest = &rest[used..];
    }
    text
}

#[test]
fn commands_go_up_and_replies_come_down_in_order() {
    let mut story = Story::attached();
    story.client("SET a 1\r\nGET a\r\n\r\n").upstream_gets("SET a 1|GET a|");
    story.upstream("+OK\r\n$1\r\n1\r\n").client_gets("+OK\r\n$1\r\n1\r\n");
    assert!(story.session.quiet());
}

#[test]
fn a_refused_write_and_all_that_followed_it_is_sent_again_to_the_next_primary() {
    let mut story = Story::attached();
    story.client("GET a\r\nSET a 1\r\nGET a\r\nINCR n\r\n").upstream_gets("GET a|SET a 1|GET a|INCR n|");
    story.upstream("$1\r\n0\r\n").upstream(READONLY).client_gets("$1\r\n0\r\n");
    assert!(story.session.refused().is_none(), "two replies are still to come");
    story.upstream("$1\r\n0\r\n").upstream(READONLY).client_gets("");
    assert!(story.session.refused().is_some());
    story.another_upstream().upstream_gets("SET a 1|GET a|INCR n|");
    story.upstream("+OK\r\n$1\r\n1\r\n:1\r\n").client_gets("+OK\r\n$1\r\n1\r\n:1\r\n");
}

#[test]
fn what_ran_although_an_earlier_command_was_refused_is_not_run_twice() {
    let mut story = Story::attached();
    // The node refused the first write, became primary again, and ran the second.
    story.client("SET a 1\r\nINCR n\r\nSET b 2\r\n").upstream_gets("SET a 1|INCR n|SET b 2|");
    story.upstream(READONLY).upstream(":1\r\n").upstream(READONLY).client_gets("");
    story.another_upstream().upstream_gets("SET a 1|SET b 2|");
    story.upstream("+OK\r\n").client_gets("+OK\r\n:1\r\n").upstream("+OK\r\n").client_gets("+OK\r\n");
}

#[test]
fn an_unknown_outcome_is_said_once_and_reads_are_asked_again() {
    let mut story = Story::attached();
    story.client("GET a\r\nINCR n\r\nGET n\r\n").upstream_gets("GET a|INCR n|GET n|");
    story.another_upstream().client_gets("").upstream_gets("GET a|GET n|");
    story.upstream("$1\r\n0\r\n");
    let unknown = String::from_utf8_lossy(&story.out.split()).into_owned();
    assert!(unknown.starts_with("$1\r\n0\r\n-OUTCOMEUNKNOWN "), "{unknown}");
    story.upstream("$1\r\n1\r\n").client_gets("$1\r\n1\r\n");
    assert_eq!(story.session.take_tally().unknown, 1);
}

#[test]
fn what_was_not_sent_or_only_in_part_has_not_run() {
    let mut story = Story::attached();
    story.client("INCR n\r\nINCR m\r\n");
    story.session.sent(5);
    story.another_upstream().upstream_gets("INCR n|INCR m|").upstream(":1\r\n:1\r\n").client_gets(":1\r\n:1\r\n");
}

#[test]
fn a_blocked_command_that_was_unblocked_by_demotion_is_issued_again_and_so_is_what_waited_behind_it() {
    let mut story = Story::attached();
    story.client("BLPOP q 0\r\nINCR n\r\n").upstream_gets("BLPOP q 0|");
    assert!(story.session.blocked());
    story.upstream(UNBLOCKED).another_upstream().client_gets("").upstream_gets("BLPOP q 0|");
    story.upstream("*2\r\n$1\r\nq\r\n$1\r\nx\r\n").client_gets("*2\r\n$1\r\nq\r\n$1\r\nx\r\n").upstream_gets("INCR n|");
    story.upstream(":1\r\n").client_gets(":1\r\n");
}

#[test]
fn what_waits_behind_a_blocked_command_was_not_sent_and_is_not_unknown() {
    let large = format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9000\r\n{}\r\n", "x".repeat(9000));
    let mut story = Story::attached();
    story.client("GET a\r\nXREAD BLOCK 0 STREAMS s 0\r\nINCR n\r\n").upstream_gets("GET a|XREAD BLOCK 0 STREAMS s 0|");
    story.upstream("$-1\r\n").client_gets("$-1\r\n").another_upstream().client_gets("");
    assert_eq!(story.session.take_tally().unknown, 0);
    story.upstream_gets("XREAD BLOCK 0 STREAMS s 0|").upstream("*-1\r\n").client_gets("*-1\r\n");
    story.upstream_gets("INCR n|").upstream(":1\r\n").client_gets(":1\r\n");
    // A large one does not begin to stream either: it could not be sent again.
    story.client("BLPOP q 0\r\n").upstream_gets("BLPOP q 0|").client(&large[..5000]);
    assert!(story.session.to_send(false).is_empty() && !story.session.may_take());
    story.upstream(UNBLOCKED).another_upstream().client_gets("").upstream_gets("BLPOP q 0|").upstream("*-1\r\n");
    story.client_gets("*-1\r\n").client(&large[5000..]);
    assert_eq!(story.session.to_send(false).len(), large.len());
    // Inside a transaction nothing blocks.
    let mut story = Story::attached();
    story.client("MULTI\r\nBLPOP q 0\r\nEXEC\r\n").upstream_gets("MULTI|BLPOP q 0|EXEC|");
    assert!(!story.session.blocked());
}

#[test]
fn a_blocking_command_is_issued_again_with_the_time_that_is_left() {
    for (command, again) in [
        ("BLPOP q 5", "BLPOP q 3.000"),
        ("BLPOP q 0", "BLPOP q 0"),
        ("BLMPOP 1 1 q LEFT", "BLMPOP 0.001 1 q LEFT"),
        ("XREAD BLOCK 5000 STREAMS s 0", "XREAD BLOCK 3000 STREAMS s 0"),
        ("WAIT 1 2500", "WAIT 1 500"),
    ] {
        let mut story = Story::attached();
        story.session.handle_time(Duration::from_secs(10));
        story.client(&format!("{command}\r\n")).upstream_gets(&format!("{command}|"));
        story.session.handle_time(Duration::from_secs(12));
        story.upstream(UNBLOCKED).another_upstream().upstream_gets(&format!("{again}|"));
    }
}

#[test]
fn the_end_of_a_stream_is_the_end_at_the_time_of_asking() {
    let mut story = Story::attached();
    story.client("XREAD BLOCK 0 STREAMS s t u $ 5-1 $\r\n");
    story.upstream_gets("XREVRANGE s + - COUNT 1|XREVRANGE u + - COUNT 1|");
    story.upstream("*1\r\n*2\r\n$3\r\n7-1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n").upstream("*0\r\n").client_gets("");
    story.upstream_gets("XREAD BLOCK 0 STREAMS s t u 7-1 5-1 0-0|").upstream(UNBLOCKED);
    story.another_upstream().upstream_gets("XREAD BLOCK 0 STREAMS s t u 7-1 5-1 0-0|");
    story.upstream("*-1\r\n").client_gets("*-1\r\n");
    assert!(story.session.quiet());
    // A key of another type: the server says so itself.
    story
        .client("XREAD BLOCK 0 STREAMS s $\r\n")
        .upstream_gets("XREVRANGE s + - COUNT 1|")
        .upstream("-WRONGTYPE x\r\n");
    story.client_gets("").upstream_gets("XREAD BLOCK 0 STREAMS s $|").upstream("-WRONGTYPE x\r\n");
    story.client_gets("-WRONGTYPE x\r\n").client("GET a\r\n").upstream_gets("GET a|");
}

#[test]
fn what_follows_a_resolved_stream_end_stays_behind_it() {
    let mut story = Story::attached();
    let all = "SELECT 0\r\nDEL s\r\nXREAD BLOCK 0 STREAMS s $\r\nGET a\r\n";
    let used = story.session.handle_input(all.as_bytes(), &mut story.out);
    story.upstream_gets("SELECT 0|DEL s|XREVRANGE s + - COUNT 1|");
    story.upstream("+OK\r\n:0\r\n*0\r\n").client_gets("+OK\r\n:0\r\n");
    story.client(&all[used..]).upstream_gets("XREAD BLOCK 0 STREAMS s 0-0|").upstream("*-1\r\n");
    story.upstream_gets("GET a|").upstream("$-1\r\n").client_gets("*-1\r\n$-1\r\n");
}

#[test]
fn an_open_transaction_is_replayed_without_the_client_noticing() {
    let mut story = Story::attached();
    story.client("MULTI\r\nSET a 1\r\n").upstream_gets("MULTI|SET a 1|");
    story.upstream("+OK\r\n+QUEUED\r\n").client_gets("+OK\r\n+QUEUED\r\n");
    story.another_upstream().client("SET b 2\r\nEXEC\r\n").upstream_gets("MULTI|").upstream("+OK\r\n");
    story.upstream_gets("SET a 1|SET b 2|EXEC|");
    story.upstream("+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n").client_gets("+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n");
    assert!(story.session.quiet());
    story.client("GET a\r\n").upstream_gets("GET a|").upstream("$1\r\n1\r\n").client_gets("$1\r\n1\r\n");
}

#[test]
fn an_exec_refused_by_demotion_runs_on_the_next_primary() {
    let mut story = Story::attached();
    story.client("MULTI\r\nSET a 1\r\nEXEC\r\n").upstream_gets("MULTI|SET a 1|EXEC|");
    story.upstream("+OK\r\n+QUEUED\r\n").upstream(ABORTED).client_gets("+OK\r\n+QUEUED\r\n");
    story.another_upstream().upstream_gets("MULTI|").upstream("+OK\r\n").upstream_gets("SET a 1|EXEC|");
    story.upstream("+QUEUED\r\n*1\r\n+OK\r\n").client_gets("*1\r\n+OK\r\n");
}

#[test]
fn a_write_refused_while_queueing_takes_its_transaction_along() {
    let mut story = Story::attached();
    story.client("MULTI\r\nSET a 1\r\nEXEC\r\n").upstream_gets("MULTI|SET a 1|EXEC|");
    story
        .upstream("+OK\r\n")
        .upstream(READONLY)
        .upstream("-EXECABORT Transaction discarded because of previous errors.\r\n");
    story.client_gets("+OK\r\n").another_upstream().upstream_gets("MULTI|").upstream("+OK\r\n");
    story.upstream_gets("SET a 1|EXEC|").upstream("+QUEUED\r\n*1\r\n+OK\r\n").client_gets("+QUEUED\r\n*1\r\n+OK\r\n");
}

#[test]
fn a_transaction_that_only_reads_is_asked_again_like_any_read() {
    let mut story = Story::attached();
    story.client("SET a 1\r\nMULTI\r\nGET a\r\nEXEC\r\n").upstream_gets("SET a 1|MULTI|GET a|EXEC|");
    story.upstream(READONLY).upstream("+OK\r\n+QUEUED\r\n*1\r\n$1\r\n0\r\n").client_gets("");
    story.another_upstream().upstream_gets("SET a 1|MULTI|GET a|EXEC|");
    story.upstream("+OK\r\n+OK\r\n").client_gets("+OK\r\n+OK\r\n");
    story.another_upstream().upstream_gets("MULTI|").upstream("+OK\r\n");
    story.upstream_gets("GET a|EXEC|").upstream("+QUEUED\r\n*1\r\n$1\r\n1\r\n");
    story.client_gets("+QUEUED\r\n*1\r\n$1\r\n1\r\n");
    assert!(story.session.quiet() && story.session.take_tally().unknown == 0);
    // The next one writes.
    story.client("MULTI\r\nGET a\r\nDEL a\r\nEXEC\r\n").upstream_gets("MULTI|GET a|DEL a|EXEC|").another_upstream();
    assert_eq!(story.session.take_tally().unknown, 1);
}

#[test]
fn a_transaction_that_ran_although_an_earlier_command_was_refused_leaves_nothing_to_replay() {
    let mut story = Story::attached();
    story.client("SET a 1\r\nMULTI\r\nINCR n\r\nEXEC\r\n").upstream_gets("SET a 1|MULTI|INCR n|EXEC|");
    story.upstream(READONLY).upstream("+OK\r\n+QUEUED\r\n*1\r\n:1\r\n").client_gets("");
    story.another_upstream().upstream_gets("SET a 1|").upstream("+OK\r\n");
    story.client_gets("+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    assert!(story.session.quiet());
}

#[test]
fn what_follows_an_exec_of_unknown_outcome_is_no_part_of_it_even_under_watch() {
    let mut story = Story::attached();
    story.client("WATCH a\r\nMULTI\r\nINCR n\r\n").upstream_gets("WATCH a|MULTI|INCR n|");
    story.upstream("+OK\r\n+OK\r\n+QUEUED\r\n").client_gets("+OK\r\n+OK\r\n+QUEUED\r\n").client("EXEC\r\nGET b\r\n");
    story.upstream_gets("EXEC|GET b|").another_upstream().upstream_gets("GET b|").upstream("$1\r\n1\r\n");
    let out = String::from_utf8_lossy(&story.out.split()).into_owned();
    assert!(out.starts_with("-OUTCOMEUNKNOWN ") && out.ends_with("\r\n$1\r\n1\r\n"), "{out}");
    assert!(story.session.quiet());
}

#[test]
fn an_exec_of_unknown_outcome_ends_its_watch_and_fails_no_later_transaction() {
    let mut story = Story::attached();
    story.client("WATCH a\r\n").upstream_gets("WATCH a|").upstream("+OK\r\n").client_gets("+OK\r\n");
    story
        .client("MULTI\r\nINCR n\r\nEXEC\r\n")
        .upstream_gets("MULTI|INCR n|EXEC|")
        .client("MULTI\r\nINCR m\r\nEXEC\r\n");
    story.another_upstream().upstream_gets("MULTI|INCR m|EXEC|");
    let out = String::from_utf8_lossy(&story.out.split()).into_owned();
    assert!(out.starts_with("+OK\r\n+QUEUED\r\n-OUTCOMEUNKNOWN "), "{out}");
    story.upstream("+OK\r\n+QUEUED\r\n*1\r\n:1\r\n").client_gets("+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    assert!(story.session.quiet());
}

#[test]
fn a_transaction_that_failed_for_its_watch_is_over_for_good() {
    let mut story = Story::attached();
    story.client("WATCH a\r\n").upstream_gets("WATCH a|").upstream("+OK\r\n").client_gets("+OK\r\n");
    story.client("MULTI\r\nSET a 1\r\n").another_upstream().client_gets("+OK\r\n+QUEUED\r\n");
    story.client("EXEC\r\n").client_gets("*-1\r\n").client("INCR n\r\n").upstream_gets("INCR n|");
    story.upstream(":1\r\n").client_gets(":1\r\n").another_upstream().upstream_gets("");
    assert!(story.session.quiet());
}

#[test]
fn a_lost_watch_fails_exec_with_the_null_that_means_try_again() {
    for (before, answered, after) in [
        ("WATCH a\r\n", "+OK\r\n", "MULTI\r\nSET a 1\r\nEXEC\r\n"),
        ("WATCH a\r\nMULTI\r\n", "+OK\r\n+OK\r\n", "SET a 1\r\nEXEC\r\n"),
        ("WATCH a\r\nMULTI\r\nSET a 1\r\n", "+OK\r\n+OK\r\n+QUEUED\r\n", "EXEC\r\n"),
    ] {
        let mut story = Story::attached();
        story.client(before);
        let sent = story.session.to_send(false).len();
        story.session.sent(sent);
        story.upstream(answered).client_gets(answered);
        story.another_upstream().client(after).upstream_gets("");
        let all = format!("{answered}{}", String::from_utf8_lossy(&story.out));
        assert_eq!(all, "+OK\r\n+OK\r\n+QUEUED\r\n*-1\r\n");
        story.out.clear();
        story.client("GET a\r\n").upstream_gets("GET a|").upstream("$1\r\n0\r\n").client_gets("$1\r\n0\r\n");
        assert!(story.session.quiet());
    }
}

#[test]
fn an_exec_of_unknown_outcome_ends_its_transaction() {
    let mut story = Story::attached();
    story.client("MULTI\r\nINCR n\r\nEXEC\r\nGET n\r\n").upstream_gets("MULTI|INCR n|EXEC|GET n|");
    story.upstream("+OK\r\n").client_gets("+OK\r\n").another_upstream().upstream_gets("GET n|");
    let out = String::from_utf8_lossy(&story.out.split()).into_owned();
    assert!(out.starts_with("+QUEUED\r\n-OUTCOMEUNKNOWN "), "{out}");
    story.upstream("$1\r\n1\r\n").client_gets("$1\r\n1\r\n");
    assert!(story.session.quiet());
}

#[test]
fn connection_state_comes_before_everything_else_and_auth_comes_alone() {
    let mut story = Story::attached();
    story.client("AUTH u p\r\n").upstream_gets("AUTH u p|").upstream("+OK\r\n");
    story.client("SELECT 3\r\n").upstream_gets("SELECT 3|").upstream("+OK\r\n");
    story.client_gets("+OK\r\n+OK\r\n").client("GET a\r\n").another_upstream();
    let mut story = story;
    story.upstream_gets("AUTH u p|").upstream("+OK\r\n").upstream_gets("SELECT 3|").upstream("+OK\r\n");
    story.upstream_gets("GET a|").upstream("$-1\r\n").client_gets("$-1\r\n");
}

#[test]
fn a_failed_auth_changes_nothing() {
    let mut story = Story::attached();
    story.client("AUTH u wrong\r\n").upstream_gets("AUTH u wrong|").upstream("-WRONGPASS x\r\n");
    story.client_gets("-WRONGPASS x\r\n").client("PING\r\n").another_upstream().upstream_gets("PING|");
}

#[test]
fn a_command_over_the_budget_streams_and_one_that_is_lost_says_so() {
    let large = format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9000\r\n{}\r\n", "x".repeat(9000));
    let mut story = Story::attached();
    story.client(&large[..5000]);
    assert!(!story.session.to_send(false).is_empty(), "it leaves before it has arrived");
    let taken = story.session.to_send(false).len();
    story.session.sent(taken);
    story.client(&large[5000..]);
    let taken = story.session.to_send(false).len();
    story.session.sent(taken);
    story.upstream("+OK\r\n").client_gets("+OK\r\n");

    story.client(&large[..5000]).session.sent(1);
    story.another_upstream();
    assert!(story.out.starts_with(b"-LOADING "));
    story.out.clear();
    story.client(&large[5000..]).client("GET a\r\n").upstream_gets("GET a|");
}

#[test]
fn a_large_command_that_arrives_under_an_ordered_hold_waits_like_any_other() {
    let large = format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9000\r\n{}\r\n", "x".repeat(9000));
    let mut story = Story::attached();
    story.client(&large[..5000]);
    assert!(story.session.to_send(true).is_empty() && story.session.in_flight() == 0 && story.session.waits());
    story.another_upstream().client_gets("").client(&large[5000..]);
    let all = story.session.to_send(false).to_vec();
    assert_eq!(String::from_utf8(all).unwrap(), large);
    story.session.sent(1);
    let rest = story.session.to_send(true).len();
    assert_eq!(rest, large.len() - 1, "what was begun is finished");
    story.session.sent(rest);
    story.upstream("+OK\r\n").client_gets("+OK\r\n");
    story.client(&large[..5000]);
    assert_eq!(story.session.expire("LOADING no primary", &mut story.out), 1);
    story.client_gets("-LOADING no primary\r\n").client(&large[5000..]).client("GET a\r\n").upstream_gets("GET a|");
}

#[test]
fn a_scan_that_is_continued_on_another_primary_begins_again() {
    let mut story = Story::attached();
    story.session.follow(Some(Mark::new(0, b"a")));
    story.another_upstream().client("SCAN 0\r\n").upstream_gets("SCAN 0|").upstream("*2\r\n$2\r\n17\r\n*0\r\n");
    let reply = String::from_utf8(story.out.split().to_vec()).unwrap();
    let cursor = reply.split("\r\n").nth(2).unwrap().to_owned();
    assert_ne!(cursor, "17");
    let next = format!("HSCAN h {cursor} COUNT 5\r\n");
    story.client(&next).upstream_gets("HSCAN h 17 COUNT 5|");
    story.session.follow(Some(Mark::new(1, b"b")));
    story.another_upstream().upstream_gets("HSCAN h 0 COUNT 5|").upstream("*2\r\n$1\r\n0\r\n*0\r\n");
    story.client_gets("*2\r\n$1\r\n0\r\n*0\r\n").client(&next).upstream_gets("HSCAN h 0 COUNT 5|");
}

#[test]
fn http_ends_the_conversation_without_a_word() {
    let mut story = Story::attached();
    story.session.handle_input(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET a 1\r\n", &mut story.out);
    story.upstream_gets("").client_gets("");
    assert!(story.session.finished());
}

#[test]
fn the_pairs_channel_is_reserved() {
    let mut story = Story::attached();
    story.client("PUBLISH __changeover__ x\r\nSUBSCRIBE a __changeover__\r\nGET a\r\n").upstream_gets("GET a|");
    let out = String::from_utf8_lossy(&story.out.split()).into_owned();
    assert_eq!(out.matches("-NOPERM ").count(), 2, "{out}");
}

#[test]
fn a_large_message_on_the_pairs_channel_is_refused_before_any_of_it_leaves() {
    for (command, channel) in [("PUBLISH", "__changeover__"), ("SPUBLISH", "__changeover__:7")] {
        let text = "x".repeat(1 << 20);
        let whole = format!("*3\r\n${}\r\n{command}\r\n${}\r\n{channel}\r\n$1048576\r\n", command.len(), channel.len());
        for cut in [5, 20, whole.len()] {
            let mut story = Story::attached();
            story.client("GET a\r\n").upstream_gets("GET a|").upstream("$-1\r\n").client_gets("$-1\r\n");
            story.client(&whole[..cut]);
            story.client(&format!("{}{text}", &whole[cut..])).upstream_gets("");
            story.client("\r\nGET b\r\n").upstream_gets("GET b|");
            let out = String::from_utf8_lossy(&story.out.split()).into_owned();
            assert!(out.starts_with("-NOPERM "), "{command}, {cut}: {out}");
        }
    }
}

#[test]
fn behind_client_reply_no_pattern_catches_the_pairs_channel() {
    for pattern in ["*", "__*", "?_changeover__"] {
        let mut story = Story::attached();
        story.client("CLIENT REPLY SKIP\r\n").upstream_gets("CLIENT REPLY SKIP|");
        story.client(&format!("PSUBSCRIBE {pattern}\r\n")).upstream_gets("");
    }
    let mut story = Story::attached();
    story.client("PSUBSCRIBE *\r\nPSUBSCRIBE __changeover__*\r\n").upstream_gets("PSUBSCRIBE *|");
}

#[test]
fn what_answers_sync_is_no_reply_and_goes_through_as_bytes() {
    let mut story = Story::attached();
    story.client("GET a\r\nSYNC\r\n").upstream_gets("GET a|SYNC|").upstream("$-1\r\n");
    assert!(story.session.is_raw());
}

#[test]
fn a_hold_that_expires_answers_everything_that_waits() {
    let mut story = Story::new();
    story.client("GET a\r\nSET a 1\r\n");
    assert_eq!(story.session.expire("LOADING no primary", &mut story.out), 2);
    story.client_gets("-LOADING no primary\r\n-LOADING no primary\r\n");
    story.session.attach();
    story.client("GET a\r\n").upstream_gets("GET a|");
}

#[test]
fn a_hold_that_expires_refuses_a_large_command_that_is_still_arriving() {
    let mut story = Story::new();
    let large = format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9000\r\n{}\r\n", "x".repeat(9000));
    story.session.handle_input(&large.as_bytes()[..5000], &mut story.out);
    assert_eq!(story.session.expire("LOADING no primary", &mut story.out), 1);
    story.client_gets("-LOADING no primary\r\n");
    assert!(!story.session.wants_upstream());
    story.client(&large[5000..]).client("GET a\r\n");
    story.session.attach();
    story.upstream_gets("GET a|");
    // The same behind another one that waits.
    let mut story = Story::new();
    story.client("GET a\r\n");
    story.session.handle_input(&large.as_bytes()[..5000], &mut story.out);
    assert_eq!(story.session.expire("LOADING no primary", &mut story.out), 2);
    story.client_gets("-LOADING no primary\r\n-LOADING no primary\r\n");
}

#[test]
fn garbage_is_answered_after_everything_owed_and_ends_the_conversation() {
    let mut story = Story::attached();
    story.client("GET a\r\n*1\r\n:5\r\n").upstream_gets("GET a|").client_gets("");
    assert!(!story.session.finished());
    story.upstream("$-1\r\n");
    assert!(story.out.starts_with(b"$-1\r\n-ERR Protocol error"), "{:?}", story.out);
    assert!(story.session.finished());
}

#[test]
fn an_ordered_hold_finishes_what_was_begun_and_nothing_more() {
    let mut story = Story::attached();
    story.client("INCR n\r\nINCR m\r\n");
    story.session.sent(5);
    assert_eq!(plain(&[b"*2\r\n$", story.session.to_send(true)].concat()), "INCR n|");
    let rest = story.session.to_send(true).len();
    story.session.sent(rest);
    assert!(story.session.to_send(true).is_empty());
    assert_eq!(story.session.in_flight(), 1);
}

#[test]
fn what_names_the_connection_inside_a_transaction_is_replayed_as_it_was_said() {
    let mut story = Story::attached();
    story.client("MULTI\r\nSELECT 2\r\nSET a 1\r\n").upstream_gets("MULTI|SELECT 2|SET a 1|");
    story.upstream("+OK\r\n+QUEUED\r\n+QUEUED\r\n").client_gets("+OK\r\n+QUEUED\r\n+QUEUED\r\n");
    story.another_upstream().upstream_gets("MULTI|").upstream("+OK\r\n").upstream_gets("SELECT 2|SET a 1|");
}

#[test]
fn a_stream_that_is_named_often_is_asked_about_once() {
    let mut story = Story::attached();
    story.client("XREAD BLOCK 0 STREAMS s t s s $ $ 5-1 $\r\n");
    story.upstream_gets("XREVRANGE s + - COUNT 1|XREVRANGE t + - COUNT 1|");
    story.upstream("*1\r\n*2\r\n$3\r\n7-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n*0\r\n");
    story.upstream_gets("XREAD BLOCK 0 STREAMS s t s s 7-1 0-0 5-1 7-1|");
}
