//! Which upstream a session rides, and when it changes to another.

use super::*;

#[test]
fn a_large_first_command_asks_for_an_upstream() {
    let mut story = Story::new();
    let large = format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9000\r\n{}\r\n", "x".repeat(9000));
    assert_eq!(story.session.handle_input(&large.as_bytes()[..5000], &mut story.out), 5000);
    assert!(story.session.wants_upstream() && !story.session.may_take());
    story.session.attach();
    story.client(&large[5000..]);
    assert_eq!(story.session.to_send(false).len(), large.len());
}

#[test]
fn a_slow_reader_leaves_its_lane_with_what_waits() {
    let mut story = Story::on_a_lane();
    story.client("GET a\r\n").upstream_gets("GET a|").client("GET b\r\n");
    story.session.leave_lane(&mut story.out);
    assert_eq!(story.session.home(), Home::Lane, "the lane still owes a reply");
    story.upstream("$1\r\n1\r\n").client_gets("$1\r\n1\r\n");
    assert_eq!(story.session.home(), Home::Own);
    story.another_upstream().upstream_gets("GET b|");
}

#[test]
fn a_command_that_needs_its_own_upstream_waits_for_the_lane_and_no_longer() {
    let mut story = Story::on_a_lane();
    let all = "MULTI\r\nSET a 1\r\n";
    story.client("GET a\r\n").upstream_gets("GET a|");
    let used = story.session.handle_input(all.as_bytes(), &mut story.out);
    story.upstream_gets("").upstream("$-1\r\n").client_gets("$-1\r\n");
    assert_eq!(story.session.home(), Home::Own);
    story.another_upstream().client(&all[used..]).upstream_gets("MULTI|SET a 1|");
}

#[test]
fn a_huge_reply_on_a_lane_is_asked_for_again_on_an_upstream_of_its_own() {
    let mut story = Story::on_a_lane();
    story.client("GET huge\r\n").upstream_gets("GET huge|");
    let huge = format!("$2000000\r\n{}\r\n", "x".repeat(2_000_000));
    let (first, rest) = huge.split_at(100_000);
    story.upstream(first).client_gets("");
    // What the client asks meanwhile waits.
    assert_eq!(story.session.handle_input(b"SET huge y\r\n", &mut story.out), 0);
    story.upstream(rest).client_gets("");
    assert_eq!((story.session.home(), story.session.in_flight()), (Home::Own, 0));
    story.another_upstream().upstream_gets("GET huge|");
    story.upstream(first).upstream(rest).client_gets(&huge);
    story.client("SET huge y\r\n").upstream_gets("SET huge y|");
}

#[test]
fn a_huge_reply_that_something_stands_behind_is_passed_on() {
    let mut story = Story::on_a_lane();
    story.client("GET huge\r\nSET huge y\r\n").upstream_gets("GET huge|SET huge y|");
    let huge = format!("$2000000\r\n{}\r\n", "x".repeat(2_000_000));
    let (first, rest) = huge.split_at(100_000);
    story.upstream(first).client_gets(first);
    story.upstream(rest).upstream("+OK\r\n").client_gets(&format!("{rest}+OK\r\n"));
}

#[test]
fn without_bytes_for_sending_again_commands_pass_all_the_same() {
    for lanes in [false, true] {
        let mut story = if lanes { Story::on_a_lane() } else { Story::attached() };
        let settings = Settings { resend_bytes: 0, lanes, ..(*story.session.settings).clone() };
        story.session = Session::new(Rc::new(settings));
        if lanes {
            story.session.board();
        } else {
            story.session.attach();
        }
        story.client("SET a 1\r\nGET a\r\n").upstream_gets("SET a 1|GET a|");
        story.upstream("+OK\r\n$1\r\n1\r\n").client_gets("+OK\r\n$1\r\n1\r\n");
        story.session.handle_shortage(Some(16));
        story.client("PING\r\n").upstream_gets("PING|").upstream("+PONG\r\n").client_gets("+PONG\r\n");
    }
}

/// Everything that the session has for its lane now, as lines.
fn to_lane(story: &mut Story) -> String {
    let bytes = story.session.to_send_on_lane().to_vec();
    story.session.sent(bytes.len());
    plain(&bytes)
}

#[test]
fn what_a_lane_carries_for_a_client_depends_on_the_size_of_its_replies() {
    let mut story = Story::on_a_lane();
    story.client(&"GET a\r\n".repeat(200));
    assert_eq!(to_lane(&mut story), "GET a|".repeat(32), "nothing is known of a newcomer");
    story.upstream(&"$1\r\n1\r\n".repeat(32));
    assert_eq!(to_lane(&mut story), "GET a|".repeat(128));
    story.upstream(&"$1\r\n1\r\n".repeat(128));
    assert_eq!(to_lane(&mut story), "GET a|".repeat(40));
    story.upstream(&"$1\r\n1\r\n".repeat(39)).upstream(&format!("$60000\r\n{}\r\n", "x".repeat(60_000)));
    story.client(&"GET a\r\n".repeat(50));
    assert_eq!(to_lane(&mut story), "GET a|".repeat(17), "a megabyte, not a number of commands");
}

#[test]
fn large_replies_of_a_pipeline_are_asked_again_alone_and_in_order() {
    let mut story = Story::on_a_lane();
    story.client("GET a\r\nGET b\r\nGET c\r\n");
    assert_eq!(to_lane(&mut story), "GET a|GET b|GET c|");
    let large = format!("$2000000\r\n{}\r\n", "x".repeat(2_000_000));
    story.upstream("$1\r\n1\r\n").upstream(&large[..100_000]).client_gets("$1\r\n1\r\n");
    assert!(story.session.sheds());
    // The lane says it all before the session has left: nobody hears it.
    story.upstream(&large[100_000..]).upstream("$1\r\n3\r\n").client_gets("");
    assert_eq!(to_lane(&mut story), "");
    story.session.shed();
    story.another_upstream().upstream_gets("GET b|GET c|");
    story.upstream("$1\r\n2\r\n$1\r\n3\r\n").client_gets("$1\r\n2\r\n$1\r\n3\r\n");
}

#[test]
fn a_read_in_front_of_a_write_is_not_asked_again() {
    let mut story = Story::on_a_lane();
    story.client("GET a\r\nSET a 2\r\n");
    assert_eq!(to_lane(&mut story), "GET a|SET a 2|");
    let large = format!("$2000000\r\n{}\r\n", "x".repeat(2_000_000));
    story.upstream(&large[..100_000]);
    assert!(!story.session.sheds(), "it would read what was written behind it");
    story.upstream(&large[100_000..]).upstream("+OK\r\n").client_gets(&format!("{large}+OK\r\n"));
    assert_eq!(story.session.home(), Home::Own);
}

#[test]
fn nobody_waits_behind_the_script_of_another() {
    for script in ["EVAL return 0", "FCALL f 0", "EVAL_RO return 0"] {
        let mut story = Story::on_a_lane();
        story.client("GET a\r\n").upstream_gets("GET a|").upstream("$-1\r\n").client_gets("$-1\r\n");
        story.session.handle_input(format!("{script}\r\n").as_bytes(), &mut story.out);
        assert_eq!(story.session.home(), Home::Own, "{script}");
        story.another_upstream().upstream_gets(&format!("{script}|"));
    }
}
