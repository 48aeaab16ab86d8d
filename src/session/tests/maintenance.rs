//! Stories of `CLIENT MAINT_NOTIFICATIONS`, of what is pushed, and of clients that are let go.

use super::*;
use crate::session::maintenance::{failed_over, failing_over, moving};

const ON: &str = "CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type external-fqdn\r\n";
const HELLO: &str = "%1\r\n$5\r\nproto\r\n:3\r\n";

/// A client that speaks RESP3.
fn resp3() -> Story {
    let mut story = Story::attached();
    story.client("HELLO 3\r\n").upstream_gets("HELLO 3|").upstream(HELLO).client_gets(HELLO);
    story
}

#[test]
fn the_opt_in_is_answered_here_and_never_forwarded() {
    let mut story = resp3();
    story.client(ON).upstream_gets("").client_gets("+OK\r\n");
    assert_eq!(story.session.opted_in(), Some(Endpoint::Name));
    story.client("client maint_notifications on moving-endpoint-type internal-ip\r\n").client_gets("+OK\r\n");
    assert_eq!(story.session.opted_in(), Some(Endpoint::Address));
    story.client("CLIENT MAINT_NOTIFICATIONS ON\r\n").client_gets("+OK\r\n");
    assert_eq!(story.session.opted_in(), Some(Endpoint::Any));
    story.client("CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type none\r\n").client_gets("+OK\r\n");
    assert_eq!(story.session.opted_in(), Some(Endpoint::None));
    story.client("CLIENT MAINT_NOTIFICATIONS OFF\r\n").upstream_gets("").client_gets("+OK\r\n");
    assert_eq!(story.session.opted_in(), None);
}

#[test]
fn in_one_pipeline_the_hello_before_it_counts() {
    let mut story = Story::attached();
    let all = format!("HELLO 3\r\n{ON}GET a\r\n");
    // What follows a HELLO is taken once that is answered.
    let used = story.session.handle_input(all.as_bytes(), &mut story.out);
    assert_eq!(&all[..used], "HELLO 3\r\n");
    story.upstream_gets("HELLO 3|").client_gets("");
    story.upstream(HELLO).client_gets(HELLO).client(ON).client_gets("+OK\r\n");
    story.client("GET a\r\n").upstream_gets("GET a|").upstream("_\r\n").client_gets("_\r\n");
    assert_eq!(story.session.opted_in(), Some(Endpoint::Name));
}

#[test]
fn resp2_is_refused_and_a_push_never_reaches_it() {
    let mut story = Story::attached();
    story.client(ON).upstream_gets("").client_gets("-ERR maintenance notifications need RESP3\r\n");
    let mut story = resp3();
    story.client(ON).client_gets("+OK\r\n");
    story.client("HELLO 2\r\n").upstream_gets("HELLO 2|").upstream("*0\r\n").client_gets("*0\r\n");
    story.client("HELLO 3\r\n").upstream_gets("HELLO 3|").upstream(HELLO).client_gets(HELLO);
    assert_eq!(story.session.opted_in(), None, "what was asked for was forgotten with RESP2");
}

#[test]
fn it_survives_another_upstream_and_not_reset() {
    let mut story = resp3();
    story.client(ON).client_gets("+OK\r\n").another_upstream();
    assert_eq!(story.session.opted_in(), Some(Endpoint::Name));
    story.client("RESET\r\n").upstream_gets("HELLO 3|").upstream(HELLO).upstream_gets("RESET|");
    story.upstream("+RESET\r\n").client_gets("+RESET\r\n");
    story.client("HELLO 3\r\n").upstream_gets("HELLO 3|").upstream(HELLO);
    assert_eq!(story.session.opted_in(), None);
}

#[test]
fn nonsense_is_refused_and_so_is_everything_when_it_is_switched_off() {
    let mut story = resp3();
    story.client("CLIENT MAINT_NOTIFICATIONS\r\n").client_gets(SYNTAX);
    story.client("CLIENT MAINT_NOTIFICATIONS PERHAPS\r\n").client_gets(SYNTAX);
    story.client("CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type x\r\n");
    story.client_gets("-ERR unknown moving-endpoint-type\r\n").upstream_gets("");
    let mut story = Story::new();
    let settings = Settings { notifications: false, ..(*story.session.settings).clone() };
    story.session = Session::new(Rc::new(settings));
    story.session.attach();
    story.client(ON).upstream_gets("");
    // Word for word what Redis 7 says.
    story.client_gets("-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.\r\n");
}

const DOOMED: &str = "-EXECABORT Transaction discarded because of previous errors.\r\n";
const SYNTAX: &str = "-ERR syntax error, expected ON [moving-endpoint-type TYPE] or OFF\r\n";

#[test]
fn in_a_transaction_it_is_refused_and_dooms_it() {
    let mut story = resp3();
    story.client("MULTI\r\nSET a 1\r\n").upstream_gets("MULTI|SET a 1|").upstream("+OK\r\n+QUEUED\r\n");
    story.client_gets("+OK\r\n+QUEUED\r\n").client(ON).upstream_gets("changeover-refused|");
    story.upstream("-ERR unknown command 'changeover-refused', with args beginning with: \r\n");
    story.client_gets("-ERR CLIENT MAINT_NOTIFICATIONS is not allowed in a transaction\r\n");
    story.client("EXEC\r\n").upstream_gets("EXEC|").upstream(DOOMED).client_gets(DOOMED);
    assert_eq!(story.session.opted_in(), None);
}

#[test]
fn the_pushes_have_the_shapes_that_libraries_parse() {
    let text = |write: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    };
    assert_eq!(
        text(&|out| moving(out, 1_790_000_000_123, 30, Some("cache.example.com:6380"))),
        ">4\r\n$6\r\nMOVING\r\n:1790000000123\r\n:30\r\n$22\r\ncache.example.com:6380\r\n"
    );
    assert_eq!(text(&|out| moving(out, 7, 15, None)), ">4\r\n$6\r\nMOVING\r\n:7\r\n:15\r\n_\r\n");
    assert_eq!(text(&|out| failing_over(out, 7, 10)), ">4\r\n$12\r\nFAILING_OVER\r\n:7\r\n:10\r\n$5\r\n[\"1\"]\r\n");
    assert_eq!(text(&|out| failed_over(out, 8)), ">3\r\n$11\r\nFAILED_OVER\r\n:8\r\n$5\r\n[\"1\"]\r\n");
}

#[test]
fn nothing_is_put_into_the_middle_of_a_reply() {
    let mut story = resp3();
    story.client(ON).client_gets("+OK\r\n").client("GET big\r\n").upstream_gets("GET big|");
    assert!(story.session.may_tell());
    let big = format!("$200000\r\n{}", "x".repeat(100_000));
    story.upstream(&big);
    assert!(!story.session.may_tell(), "half of a reply has gone to the client");
    story.upstream(&("x".repeat(100_000) + "\r\n"));
    assert!(story.session.may_tell());
}

#[test]
fn a_library_is_known_by_its_name() {
    for (name, library, moment) in [
        ("redis-py", Library::RedisPy, Moment::BehindReply),
        ("go-redis(,go1.25)", Library::GoRedis, Moment::BehindReplyFewAtOnce),
        ("node-redis", Library::NodeRedis, Moment::InLull),
        ("SE.Redis", Library::StackExchange, Moment::InLull),
        ("jedis", Library::Jedis, Moment::OnPing),
        ("redis-rs", Library::RedisRs, Moment::OnPing),
        ("whatever", Library::Unknown, Moment::BehindReply),
    ] {
        let mut story = Story::on_a_lane();
        story.client(&format!("CLIENT SETINFO LIB-NAME {name}\r\n"));
        story.upstream_gets("CLIENT SETINFO LIB-NAME changeover|").upstream("+OK\r\n").client_gets("+OK\r\n");
        assert_eq!((story.session.library(), story.session.moment()), (library, moment), "{name}");
    }
    assert_eq!(Library::RedisRs.moment(true), Moment::InLull);
}

#[test]
fn a_null_for_a_command_that_was_to_block_for_ever_is_kept_from_the_client() {
    let mut story = Story::attached();
    story.client("BLPOP q 0\r\n").upstream_gets("BLPOP q 0|");
    assert_eq!(story.session.unfinished(), Some(Unfinished::Blocked));
    story.session.begin_unblocking();
    story.upstream("*-1\r\n").client_gets("");
    assert!(story.session.left_unanswered());
}

#[test]
fn an_element_that_comes_while_it_is_let_go_reaches_the_client() {
    let mut story = Story::attached();
    story.client("BLPOP q 0\r\n").upstream_gets("BLPOP q 0|");
    story.session.begin_unblocking();
    let element = "*2\r\n$1\r\nq\r\n$1\r\nx\r\n";
    story.upstream(element).client_gets(element);
    assert!(!story.session.left_unanswered() && story.session.unfinished().is_none());
}

#[test]
fn a_command_with_a_time_limit_ends_as_if_it_had_passed() {
    let mut story = Story::attached();
    story.client("BLPOP q 30\r\n").upstream_gets("BLPOP q 30|");
    story.session.begin_unblocking();
    story.upstream("*-1\r\n").client_gets("*-1\r\n");
    assert!(!story.session.left_unanswered());
}

#[test]
fn with_more_behind_it_the_null_is_told() {
    let mut story = Story::attached();
    story.client("BLPOP q 0\r\nINCR n\r\n").upstream_gets("BLPOP q 0|");
    story.session.begin_unblocking();
    story.upstream("*-1\r\n").client_gets("*-1\r\n").upstream_gets("INCR n|");
    assert!(!story.session.left_unanswered());
}

#[test]
fn what_is_unfinished_has_a_name() {
    let mut story = Story::attached();
    assert_eq!(story.session.unfinished(), None);
    story.client("GET a\r\n").upstream_gets("GET a|");
    assert_eq!(story.session.unfinished(), Some(Unfinished::Owed));
    story.upstream("_\r\n").client("*2\r\n$3\r\nGE");
    assert_eq!(story.session.unfinished(), Some(Unfinished::Speaking));
    story.client("T\r\n$1\r\na\r\n").upstream_gets("GET a|").upstream("_\r\n");
    story.client("MULTI\r\n").upstream_gets("MULTI|").upstream("+OK\r\n");
    assert_eq!(story.session.unfinished(), Some(Unfinished::Transaction));
}

#[test]
fn a_hint_goes_to_those_who_listen_on_its_channel() {
    let mut story = Story::attached();
    assert!(!story.session.tell_channel(b"c", b"*", &mut story.out));
    story.client("SUBSCRIBE c\r\n").upstream_gets("SUBSCRIBE c|");
    story.upstream("*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
    story.out.clear();
    assert!(story.session.tell_channel(b"c", b"*", &mut story.out));
    story.client_gets("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\n*\r\n");
}
