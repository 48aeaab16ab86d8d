//! Writes that are answered only when a replica has them.

use super::*;

impl Story {
    fn with_receipts(strict: bool) -> Self {
        let mut story = Self::new();
        let settings = Settings { receipts: Some(Receipts::new(500, strict)), ..(*story.session.settings).clone() };
        story.session = Session::new(Rc::new(settings));
        story.session.attach();
        story
    }

    fn with_receipts_on_a_lane() -> Self {
        let mut story = Self::with_receipts(false);
        let settings = Settings { lanes: true, ..(*story.session.settings).clone() };
        story.session = Session::new(Rc::new(settings));
        story.session.board();
        story
    }

    /// The lane has a receipt.
    fn receipt(&mut self, reply: &str) -> &mut Self {
        self.session.handle_receipt(reply.as_bytes(), &mut self.out);
        self
    }
}

const NOBODY: &str =
    "-OUTCOMEUNKNOWN the primary had executed the command, and was lost before a replica confirmed it\r\n";

#[test]
fn one_receipt_serves_the_writes_of_a_batch_and_what_follows_waits_for_it() {
    let mut story = Story::with_receipts(false);
    story.client("GET a\r\nSET a 1\r\nINCR n\r\nGET a\r\n");
    story.upstream_gets("GET a|SET a 1|INCR n|GET a|PING|WAIT 1 500|");
    story.upstream("$-1\r\n").client_gets("$-1\r\n");
    story.upstream("+OK\r\n:1\r\n$1\r\n1\r\n+PONG\r\n").client_gets("");
    assert!(story.session.in_flight() > 0, "a switchover waits for the receipt");
    story.upstream(":1\r\n").client_gets("+OK\r\n:1\r\n$1\r\n1\r\n");
    assert!(story.session.quiet());
    story.client("GET a\r\n").upstream_gets("GET a|").upstream("$1\r\n1\r\n").client_gets("$1\r\n1\r\n");
}

#[test]
fn a_write_whose_upstream_is_lost_before_its_receipt_is_unknown_and_not_sent_again() {
    let mut story = Story::with_receipts(false);
    story
        .client("INCR n\r\nSET a 1 XX WRONG\r\nGET n\r\n")
        .upstream_gets("INCR n|SET a 1 XX WRONG|GET n|PING|WAIT 1 500|");
    story.upstream(":1\r\n-ERR syntax error\r\n$1\r\n1\r\n").client_gets("");
    story.another_upstream().client_gets(&format!("{NOBODY}-ERR syntax error\r\n$1\r\n1\r\n"));
    assert_eq!(story.session.take_tally().unknown, 1);
}

#[test]
fn without_a_confirmation_in_time_the_policy_decides() {
    let mut story = Story::with_receipts(false);
    story
        .client("SET a 1\r\n")
        .upstream_gets("SET a 1|PING|WAIT 1 500|")
        .upstream("+OK\r\n+PONG\r\n:0\r\n")
        .client_gets("+OK\r\n");
    assert_eq!(story.session.take_tally().alone, 1);
    let mut story = Story::with_receipts(true);
    story.client("SET a 1\r\n").upstream_gets("SET a 1|PING|WAIT 1 500|").upstream("+OK\r\n+PONG\r\n:0\r\n");
    let told = String::from_utf8(story.out.split().to_vec()).unwrap();
    assert!(told.starts_with("-OUTCOMEUNKNOWN the primary has executed the command, but no replica"), "{told}");
}

#[test]
fn without_a_replica_writes_are_answered_or_refused_before_they_are_sent() {
    let mut story = Story::with_receipts(false);
    story.session.handle_replica(false);
    story.client("SET a 1\r\n").upstream_gets("SET a 1|").upstream("+OK\r\n").client_gets("+OK\r\n");
    assert_eq!(story.session.take_tally().alone, 1);
    let mut story = Story::with_receipts(true);
    story.session.handle_replica(false);
    story.client("SET a 1\r\nMULTI\r\nGET a\r\n").upstream_gets("GET a|").upstream("$-1\r\n");
    let refused = "-NOREPLICAS Not enough good replicas to write.\r\n";
    story.client_gets(&format!("{refused}{refused}$-1\r\n"));
    story.session.handle_replica(true);
    story.client("SET a 1\r\n").upstream_gets("SET a 1|PING|WAIT 1 500|");
}

#[test]
fn a_transaction_is_answered_with_the_receipt_of_its_exec() {
    let mut story = Story::with_receipts(false);
    story.client("SET a 1\r\nMULTI\r\nINCR n\r\nEXEC\r\n");
    story.upstream_gets("SET a 1|PING|WAIT 1 500|MULTI|INCR n|EXEC|PING|WAIT 1 500|");
    story.upstream("+OK\r\n+PONG\r\n:1\r\n").client_gets("+OK\r\n");
    story.upstream("+OK\r\n+QUEUED\r\n*1\r\n:1\r\n+PONG\r\n").client_gets("+OK\r\n+QUEUED\r\n");
    story.upstream(":1\r\n").client_gets("*1\r\n:1\r\n");
    assert!(story.session.quiet());
    // Said one by one, it is open for the client until EXEC is answered.
    story.client("MULTI\r\n").upstream_gets("MULTI|").upstream("+OK\r\n").client_gets("+OK\r\n");
    story.client("INCR n\r\n").upstream_gets("INCR n|").upstream("+QUEUED\r\n").client_gets("+QUEUED\r\n");
    story.client("EXEC\r\n").upstream_gets("EXEC|PING|WAIT 1 500|").upstream("*1\r\n:2\r\n").client_gets("");
    story.another_upstream().client_gets(NOBODY).client("GET n\r\n").upstream_gets("PING|WAIT 1 500|GET n|");
    story.upstream("+PONG\r\n:0\r\n$1\r\n2\r\n").client_gets("$1\r\n2\r\n");
}

#[test]
fn a_refused_write_takes_its_receipt_along() {
    let mut story = Story::with_receipts(false);
    story.client("INCR n\r\nSET a 1\r\n").upstream_gets("INCR n|SET a 1|PING|WAIT 1 500|");
    story
        .upstream(":1\r\n")
        .upstream(READONLY)
        .upstream("+PONG\r\n-ERR WAIT cannot be used with replica instances.\r\n");
    assert!(story.session.refused().is_some());
    story.another_upstream().client_gets(NOBODY).upstream_gets("SET a 1|PING|WAIT 1 500|");
    story.upstream("+OK\r\n+PONG\r\n:1\r\n").client_gets("+OK\r\n");
}

#[test]
fn a_half_sent_command_neither_delays_the_receipt_nor_is_torn() {
    let mut story = Story::with_receipts(false);
    story.client("SET a 1\r\n*2\r\n$3\r\nGE").upstream_gets("SET a 1|PING|WAIT 1 500|");
    story.client("T\r\n$1\r\na\r\n").upstream_gets("GET a|");
}

#[test]
fn a_blocking_write_and_a_lost_block_have_receipts_of_their_own() {
    let mut story = Story::with_receipts(false);
    story.client("LPUSH l 1\r\nBLPOP l 0\r\nGET a\r\n");
    story.upstream_gets("LPUSH l 1|PING|WAIT 1 500|BLPOP l 0|");
    story.upstream(":1\r\n+PONG\r\n:1\r\n").client_gets(":1\r\n");
    assert!(story.session.blocked());
    story.upstream(UNBLOCKED).another_upstream().client_gets("").upstream_gets("BLPOP l 0|");
    story.upstream("*2\r\n$1\r\nl\r\n$1\r\n1\r\n").client_gets("").upstream_gets("GET a|PING|WAIT 1 500|");
    story.upstream("$-1\r\n+PONG\r\n:1\r\n").client_gets("*2\r\n$1\r\nl\r\n$1\r\n1\r\n$-1\r\n");
}

#[test]
fn on_a_lane_the_lane_asks_and_the_session_waits() {
    let mut story = Story::with_receipts_on_a_lane();
    story.client("GET a\r\n").upstream_gets("GET a|");
    assert!(!story.session.take_written());
    story.client("SET a 1\r\nGET a\r\n").upstream("$-1\r\n").client_gets("$-1\r\n").upstream_gets("SET a 1|GET a|");
    assert!(story.session.take_written());
    story.upstream("+OK\r\n$1\r\n1\r\n").client_gets("");
    assert_eq!(story.session.in_flight(), 1, "a switchover waits for the receipt");
    story.receipt(":1\r\n").client_gets("+OK\r\n$1\r\n1\r\n");
    // What waits when the session leaves its lane gets a receipt on its own upstream.
    story.client("SET b 1\r\nMULTI\r\n");
    assert_eq!(story.session.home(), Home::Own, "nothing was in flight");
    story.another_upstream().upstream_gets("SET b 1|PING|WAIT 1 500|MULTI|");
}

#[test]
fn a_large_write_that_went_through_has_a_receipt_too() {
    let mut story = Story::with_receipts(false);
    let large = "x".repeat(5000);
    story.client(&format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5000\r\n{}", &large[..4900]));
    let begun = story.session.to_send(false).len();
    assert!(begun > 4900);
    story.session.sent(begun);
    story.client(&format!("{}\r\n", &large[4900..]));
    let rest = story.session.to_send(false).len();
    story.session.sent(rest);
    story.upstream_gets("PING|WAIT 1 500|");
    story.upstream("+OK\r\n+PONG\r\n").client_gets("").upstream(":1\r\n").client_gets("+OK\r\n");
}
