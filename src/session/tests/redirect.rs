//! `-REDIRECT` of Valkey is a refusal for clients that can get it, and data for all others.

use super::*;

const REDIRECT: &str = "-REDIRECT 127.0.0.1:6380\r\n";

#[test]
fn a_redirection_is_a_refusal_only_for_a_client_that_said_capa() {
    let mut story = Story::attached();
    story.client("EVAL x 0\r\n").upstream_gets("EVAL x 0|").upstream(REDIRECT).client_gets(REDIRECT);
    story.client("CLIENT CAPA redirect\r\n").upstream_gets("CLIENT CAPA redirect|").upstream("+OK\r\n");
    story.client_gets("+OK\r\n").client("INCR n\r\nGET n\r\n").upstream_gets("INCR n|GET n|");
    story.upstream(REDIRECT).upstream(REDIRECT).client_gets("");
    assert_eq!(story.session.refused(), Some(Refusal::Redirect));
    story
        .another_upstream()
        .upstream_gets("INCR n|GET n|")
        .upstream(":1\r\n$1\r\n1\r\n")
        .client_gets(":1\r\n$1\r\n1\r\n");
}

#[test]
fn a_transaction_and_a_blocked_command_that_are_redirected_go_on_elsewhere() {
    let mut story = Story::attached();
    story
        .client("CLIENT CAPA redirect\r\n")
        .upstream_gets("CLIENT CAPA redirect|")
        .upstream("+OK\r\n")
        .client_gets("+OK\r\n");
    story.client("MULTI\r\nINCR n\r\nEXEC\r\n").upstream_gets("MULTI|INCR n|EXEC|");
    story
        .upstream("+OK\r\n")
        .upstream(REDIRECT)
        .upstream("-EXECABORT Transaction discarded because of previous errors.\r\n");
    story.client_gets("+OK\r\n").another_upstream().upstream_gets("MULTI|").upstream("+OK\r\n");
    story.upstream_gets("INCR n|EXEC|").upstream("+QUEUED\r\n*1\r\n:1\r\n").client_gets("+QUEUED\r\n*1\r\n:1\r\n");
    story.client("BLPOP q 0\r\n").upstream_gets("BLPOP q 0|").upstream(REDIRECT).client_gets("");
    story.another_upstream().upstream_gets("BLPOP q 0|");
    assert_eq!(story.session.take_tally().unknown, 0);
}
