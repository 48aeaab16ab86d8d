//! Subscribers, in steady state and on their way to another upstream.

use super::*;

fn subscribe(name: &str, count: usize) -> String {
    format!("*3\r\n$9\r\nsubscribe\r\n${}\r\n{name}\r\n:{count}\r\n", name.len())
}

fn message(channel: &str, text: &str) -> String {
    format!("*3\r\n$7\r\nmessage\r\n${}\r\n{channel}\r\n${}\r\n{text}\r\n", channel.len(), text.len())
}

fn subscriber() -> Story {
    let mut story = Story::attached();
    story.client("SUBSCRIBE a b\r\n").upstream_gets("SUBSCRIBE a b|");
    let confirmations = subscribe("a", 1) + &subscribe("b", 2);
    story.upstream(&confirmations).client_gets(&confirmations);
    assert!(story.session.subscribed() && story.session.quiet());
    story
}

impl Story {
    fn next(&mut self, bytes: &str) -> &mut Self {
        let mut framer = ReplyFramer::new(ReplyLimits::default());
        let mut rest = bytes.as_bytes();
        while !rest.is_empty() {
            let (used, end) = framer.scan(rest).unwrap();
            assert!(self.session.handle_next(&rest[..used], end != ReplyEnd::More));
            rest = &rest[used..];
        }
        self
    }

    fn next_gets(&mut self, expected: &str) -> &mut Self {
        let got = self.session.to_send_next().to_vec();
        self.session.sent_next(got.len());
        assert_eq!(plain(&got), expected);
        self
    }
}

const MARK: &str = "__changeover__:1";

#[test]
fn confirmations_and_messages_are_not_replies() {
    let mut story = subscriber();
    let hello = message("a", "hello");
    story.upstream(&hello).client_gets(&hello);
    story.client("UNSUBSCRIBE\r\nGET x\r\n").upstream_gets("UNSUBSCRIBE|GET x|");
    let ended = "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n";
    story.upstream(ended).upstream("$-1\r\n").client_gets(&format!("{ended}$-1\r\n"));
    assert!(!story.session.subscribed());
    // What only looks like a message is an ordinary reply again.
    story.client("LRANGE l 0 -1\r\n").upstream_gets("LRANGE l 0 -1|").upstream(&hello).client_gets(&hello);
    assert!(story.session.quiet());
}

#[test]
fn a_refused_subscription_is_an_ordinary_error() {
    let mut story = Story::attached();
    story.client("SUBSCRIBE a\r\nPING\r\n").upstream_gets("SUBSCRIBE a|PING|");
    story.upstream("-NOPERM x\r\n+PONG\r\n").client_gets("-NOPERM x\r\n+PONG\r\n");
    assert!(!story.session.subscribed() && story.session.quiet());
}

#[test]
fn what_patterns_catch_of_the_pairs_own_channels_stays_hidden() {
    let mut story = Story::attached();
    let confirmation = "*3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:1\r\n";
    story.client("PSUBSCRIBE *\r\n").upstream_gets("PSUBSCRIBE *|").upstream(confirmation).client_gets(confirmation);
    story.upstream("*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$14\r\n__changeover__\r\n$1\r\nx\r\n").client_gets("");
}

#[test]
fn after_a_loss_the_next_upstream_is_subscribed_again_and_the_gap_is_counted() {
    let mut story = subscriber();
    story.another_upstream().upstream_gets("SUBSCRIBE a b|");
    let hello = message("a", "hello");
    story.upstream(&subscribe("a", 1)).upstream(&hello).upstream(&subscribe("b", 2)).client_gets(&hello);
    assert_eq!(story.session.take_tally().gaps, 1);
    assert!(story.session.quiet());
}

#[test]
fn a_subscription_that_was_half_confirmed_is_not_confirmed_twice() {
    let mut story = Story::attached();
    story.client("SUBSCRIBE a b\r\n").upstream_gets("SUBSCRIBE a b|");
    story.upstream(&subscribe("a", 1)).client_gets(&subscribe("a", 1));
    story.another_upstream().upstream_gets("SUBSCRIBE a|").upstream(&subscribe("a", 1)).client_gets("");
    story.upstream_gets("SUBSCRIBE a b|").upstream(&subscribe("a", 1)).upstream(&subscribe("b", 2));
    story.client_gets(&subscribe("b", 2));
}

#[test]
fn a_planned_change_misses_doubles_and_reorders_nothing() {
    let mut story = subscriber();
    story.session.begin_cutover(MARK.as_bytes().to_vec());
    story.upstream_gets(&format!("SUBSCRIBE {MARK}|")).next_gets(&format!("SUBSCRIBE a b|SUBSCRIBE {MARK}|"));
    let (one, two, three, four) = (message("a", "1"), message("b", "2"), message("a", "3"), message("b", "4"));
    story.upstream(&one).client_gets(&one);
    story.next(&subscribe("a", 1)).next(&two).next(&subscribe("b", 2));
    assert_eq!(story.session.marker_to_publish(), None);
    story.upstream(&subscribe(MARK, 3)).next(&subscribe(MARK, 3)).client_gets("");
    assert_eq!(story.session.marker_to_publish().as_deref(), Some(MARK.as_bytes()));
    assert_eq!(story.session.marker_to_publish(), None, "it is published once");
    // The new side is ahead: it has delivered the marker and what comes after it.
    story.next(&message(MARK, "")).next(&three).upstream(&two).client_gets(&two);
    assert!(!story.session.may_cut_over());
    story.upstream(&message(MARK, "")).upstream(&three).client_gets("");
    assert!(story.session.may_cut_over());
    story.session.finish_cutover(false, &mut story.out);
    story.client_gets(&three).upstream(&four).client_gets(&four);
    assert_eq!(story.session.take_tally().gaps, 0);
    // The marker is no channel of the client: it is let go of before anything that the client says.
    let (ended, gone) = (
        "*3\r\n$11\r\nunsubscribe\r\n$16\r\n__changeover__:1\r\n:2\r\n",
        "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n",
    );
    story.client("UNSUBSCRIBE a\r\n").upstream_gets(&format!("UNSUBSCRIBE {MARK}|UNSUBSCRIBE a|"));
    story.upstream(ended).upstream(gone).client_gets(gone);
}

#[test]
fn a_change_that_is_taken_back_leaves_no_marker_behind() {
    let mut story = subscriber();
    story.session.begin_cutover(MARK.as_bytes().to_vec());
    story.session.cancel_cutover();
    story.upstream_gets("");
    story.session.begin_cutover(MARK.as_bytes().to_vec());
    story.upstream_gets(&format!("SUBSCRIBE {MARK}|"));
    story.session.cancel_cutover();
    story.session.begin_cutover(b"__changeover__:2".to_vec());
    story.upstream_gets(&format!("UNSUBSCRIBE {MARK}|SUBSCRIBE __changeover__:2|"));
    assert!(story.session.marker_to_publish().is_none());
}

#[test]
fn resp3_mixes_commands_and_messages() {
    let push = |text: &str| text.replacen('*', ">", 1);
    let mut story = Story::attached();
    let hello = "%1\r\n+proto\r\n:3\r\n";
    story.client("HELLO 3\r\n").upstream_gets("HELLO 3|").upstream(hello).client_gets(hello);
    story.client("SUBSCRIBE a\r\nGET x\r\n").upstream_gets("SUBSCRIBE a|GET x|");
    let all = format!("{}{}$1\r\n1\r\n", push(&subscribe("a", 1)), push(&message("a", "m")));
    story.upstream(&all).client_gets(&all);
    assert!(story.session.quiet() && story.session.subscribed());
    story.client("INCR n\r\n").another_upstream().upstream_gets("HELLO 3|SUBSCRIBE a|");
    story.upstream("%1\r\n+proto\r\n:3\r\n").upstream(&push(&subscribe("a", 1))).upstream_gets("INCR n|");
    story.upstream(":1\r\n").client_gets(":1\r\n");
}

#[test]
fn a_client_that_may_not_hear_markers_goes_over_with_a_gap() {
    let mut story = subscriber();
    story.session.begin_cutover(MARK.as_bytes().to_vec());
    story.upstream_gets(&format!("SUBSCRIBE {MARK}|")).next_gets(&format!("SUBSCRIBE a b|SUBSCRIBE {MARK}|"));
    story.upstream("-NOPERM x\r\n").client_gets("");
    story.next(&subscribe("a", 1)).next(&subscribe("b", 2)).next("-NOPERM x\r\n");
    assert!(story.session.must_cut_over_with_gap());
    story.session.finish_cutover(true, &mut story.out);
    let hello = message("a", "hello");
    story.client_gets("").upstream(&hello).client_gets(&hello);
    assert!(!story.session.closing());
    assert_eq!(story.session.take_tally().gaps, 1);
}

#[test]
fn an_idle_subscriber_wants_another_upstream_at_once() {
    let mut story = subscriber();
    story.session.detach(&mut story.out);
    assert!(story.session.wants_upstream() && !story.session.waits());
}

const TOO_MANY_END: &[u8] = b"-ERR the names of this client's subscriptions take more than 16 MiB; closing\r\n";

#[test]
fn names_of_subscriptions_are_bounded() {
    let mut story = Story::attached();
    let name = "x".repeat(3 * 1024);
    let confirmed = |number: usize, kind: &str| {
        let name = format!("{number}{name}");
        format!("*3\r\n${}\r\n{kind}\r\n${}\r\n{name}\r\n:1\r\n", kind.len(), name.len())
    };
    // The same ones again, or ones that were given up, take no more.
    for number in (0..3000).map(|number| number % 100) {
        story.client(&format!("SUBSCRIBE {number}{name}\r\n")).upstream_gets(&format!("SUBSCRIBE {number}{name}|"));
        story.upstream(&confirmed(number, "subscribe"));
        story.out.clear();
    }
    let kept = story.session.kept();
    assert!((300 * 1024..400 * 1024).contains(&kept), "{kept}");
    for number in 100..10_000 {
        story.client(&format!("SUBSCRIBE {number}{name}\r\n")).upstream_gets(&format!("SUBSCRIBE {number}{name}|"));
        story.out.clear();
        story.upstream(&confirmed(number, "subscribe"));
        if story.session.closing() {
            assert!((5_000..6_000).contains(&number), "{number}");
            break;
        }
    }
    assert!(story.out.ends_with(TOO_MANY_END), "{:?}", story.out);
    assert!(story.session.finished() && story.session.overfull());
}

#[test]
fn a_transaction_that_goes_over_with_its_subscription_is_replayed_each_time() {
    let hello = "%1\r\n+proto\r\n:3\r\n";
    let confirmed = ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
    let mut story = Story::attached();
    story.client("HELLO 3\r\n").upstream_gets("HELLO 3|").upstream(hello).client_gets(hello);
    story.client("SUBSCRIBE a\r\n").upstream_gets("SUBSCRIBE a|").upstream(confirmed).client_gets(confirmed);
    story.client("MULTI\r\nINCR n\r\n").upstream_gets("MULTI|INCR n|").upstream("+OK\r\n").client_gets("+OK\r\n");
    let used = story.session.handle_input(b"DISCARD\r\n", &mut story.out);
    assert_eq!(used, 9);
    story.session.begin_cutover(b"__changeover__:1".to_vec());
    let marked = ">3\r\n$9\r\nsubscribe\r\n$16\r\n__changeover__:1\r\n:2\r\n";
    for frame in [hello, confirmed, marked] {
        story.session.handle_next(frame.as_bytes(), true);
    }
    story.session.finish_cutover(true, &mut story.out);
    story.framer = ReplyFramer::new(ReplyLimits::default());
    // The end of the marker is said once the transaction is over: inside it would be queued.
    story.client_gets("").upstream_gets("MULTI|").upstream("+OK\r\n");
    story.client_gets("").upstream_gets("INCR n|DISCARD|").upstream("+QUEUED\r\n").client_gets("+QUEUED\r\n");
    story.another_upstream().upstream_gets("HELLO 3|SUBSCRIBE a|").upstream(hello).upstream(confirmed);
    story.upstream_gets("MULTI|").upstream("+OK\r\n").upstream_gets("INCR n|DISCARD|");
    story.upstream("+QUEUED\r\n+OK\r\n").client_gets("+OK\r\n");
}

#[test]
fn nothing_about_markers_is_said_between_multi_and_exec() {
    let confirmed = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
    let mut story = Story::attached();
    story.client("MULTI\r\nSUBSCRIBE a\r\n").upstream_gets("MULTI|SUBSCRIBE a|").upstream("+OK\r\n+QUEUED\r\n");
    story.session.begin_cutover(b"__changeover__:1".to_vec());
    story.upstream_gets("");
    story.client("EXEC\r\n");
    story.session.handle_next(confirmed.as_bytes(), true);
    assert!(!story.session.may_cut_over());
}
