//! A reply whose beginning the client has: it is completed by the same upstream, or nothing follows it.

use super::*;

/// Larger than what is kept whole before it is passed on.
const LARGE: usize = 70 * 1024;

fn bulk(len: usize) -> String {
    format!("${len}\r\n{}\r\n", "v".repeat(len))
}

/// One large reply of each shape.
fn shapes() -> Vec<(&'static str, String)> {
    let small = bulk(30);
    let many = small.repeat(2 * LARGE / small.len());
    let count = 2 * LARGE / small.len();
    vec![
        ("bulk", bulk(2 * LARGE)),
        ("verbatim", format!("={}\r\ntxt:{}\r\n", LARGE + 4, "v".repeat(LARGE))),
        ("array of small", format!("*{count}\r\n{many}")),
        ("array of large", format!("*3\r\n{0}{0}:1\r\n", bulk(LARGE))),
        ("nested", format!("*2\r\n*2\r\n+x\r\n*{count}\r\n{many}*0\r\n")),
        ("map", format!("%{}\r\n{}", count, many.repeat(2))),
        ("set", format!("~{count}\r\n{many}")),
        ("attribute", format!("|1\r\n+ttl\r\n:1\r\n*{count}\r\n{many}")),
    ]
}

/// Plays `reply` to a story whose client waits for it, up to `cut`; then the upstream is lost, and another one answers
/// everything that it is asked. Says what the client got, and whether its connection is over.
fn cut(mut story: Story, reply: &str, cut: usize) -> (String, bool) {
    story.upstream(&reply[..cut]);
    story.session.detach(&mut story.out);
    story.framer = ReplyFramer::new(ReplyLimits::default());
    if !story.session.finished() {
        if story.session.home() == Home::Lane {
            story.session.board();
        } else {
            story.session.attach();
        }
    }
    for _ in 0..20 {
        let sent = story.session.to_send(false).to_vec();
        story.session.sent(sent.len());
        let asked = plain(&sent).matches('|').count();
        for _ in 0..asked {
            story.upstream("+another\r\n");
        }
    }
    story.session.handle_input(b"PUBLISH __changeover__ x\r\nPING\r\n", &mut story.out);
    story.session.expire("LOADING over", &mut story.out);
    (String::from_utf8(story.out.to_vec()).unwrap(), story.session.finished())
}

/// At every one of some places: the client has nothing of the reply, or a beginning and no more.
fn check(what: &str, reply: &str, before: &str, story: impl Fn() -> Story) {
    let places = [0, 1, 5, 40, 60_000, 65_530, LARGE, LARGE + 30, LARGE + 12_345, reply.len() - 1];
    let places = places.into_iter().chain((0..reply.len()).step_by(9_973));
    for at in places.filter(|at| *at < reply.len()) {
        let (got, over) = cut(story(), reply, at);
        let rest = got.strip_prefix(before).unwrap_or_else(|| panic!("{what}, {at}: earlier replies are complete"));
        let begun = rest.bytes().zip(reply.bytes()).take_while(|(a, b)| a == b).count();
        // Either a beginning of the true reply and then the end, or nothing of it and whatever another upstream says.
        let whole = !rest.is_empty() && rest.len() == begun && over;
        let fresh = !rest.contains("vvv") && !over && begun <= 1;
        assert!(whole || fresh, "{what} cut at {at}: over {over}, {} bytes, {begun} of them right", rest.len());
    }
}

#[test]
fn nothing_follows_half_a_reply_whatever_its_shape() {
    for (what, reply) in shapes() {
        check(what, &reply, "", || {
            let mut story = Story::attached();
            story.client("GET a\r\n").upstream_gets("GET a|");
            story
        });
    }
}

#[test]
fn nothing_follows_half_a_reply_in_a_pipeline() {
    for (what, reply) in shapes() {
        check(what, &reply, "+OK\r\n", || {
            let mut story = Story::attached();
            story.client("SET a 1\r\nGET a\r\nINCR n\r\nGET b\r\n").upstream_gets("SET a 1|GET a|INCR n|GET b|");
            story.client("GET c\r\n").upstream("+OK\r\n");
            story
        });
    }
}

#[test]
fn nothing_follows_half_a_reply_of_a_lane() {
    for (what, reply) in shapes() {
        check(what, &reply, "", || {
            let mut story = Story::on_a_lane();
            story.client("GET a\r\nINCR n\r\n").upstream_gets("GET a|INCR n|");
            story
        });
    }
}

#[test]
fn nothing_follows_half_of_what_exec_answers() {
    for (what, reply) in shapes() {
        let reply = format!("*2\r\n+OK\r\n{reply}");
        check(what, &reply, "+OK\r\n+QUEUED\r\n", || {
            let mut story = Story::attached();
            story.client("MULTI\r\nGET a\r\nEXEC\r\nGET a\r\n").upstream_gets("MULTI|GET a|EXEC|GET a|");
            story.upstream("+OK\r\n+QUEUED\r\n");
            story
        });
    }
}

fn subscriber() -> Story {
    let mut story = Story::attached();
    story.client("HELLO 3\r\n").upstream_gets("HELLO 3|").upstream("%1\r\n+proto\r\n:3\r\n");
    story.client("SUBSCRIBE news\r\n").upstream_gets("SUBSCRIBE news|");
    story.upstream(">3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    story.out.clear();
    story
}

fn message() -> String {
    format!(">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n{}", bulk(2 * LARGE))
}

#[test]
fn nothing_follows_half_a_message() {
    let (message, at) = (message(), LARGE + 11);
    let mut story = subscriber();
    story.upstream(&message[..at]);
    // What we answer by ourselves waits for the end of the message.
    story.client("PUBLISH __changeover__ x\r\n").client_gets(&message[..at]);
    assert!(!story.session.quiet(), "half a message is out");
    story.upstream(&message[at..]).client_gets(&format!("{}{RESERVED}", &message[at..]));

    let mut story = subscriber();
    story.upstream(&message[..at]).client("PUBLISH __changeover__ x\r\n");
    story.session.detach(&mut story.out);
    story.client_gets(&message[..at]);
    assert!(story.session.finished() && story.session.halved() && !story.session.wants_upstream());
}

#[test]
fn a_subscriber_that_goes_over_in_the_middle_of_a_message_is_closed() {
    let (message, at) = (message(), LARGE + 11);
    let mut story = subscriber();
    story.upstream(&message[..at]).client_gets(&message[..at]);
    story.session.begin_cutover(b"__changeover__:1".to_vec());
    let confirmed = "%1\r\n+proto\r\n:3\r\n>3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";
    for frame in [&confirmed[..17], &confirmed[17..]] {
        story.session.handle_next(frame.as_bytes(), true);
    }
    story.session.finish_cutover(true, &mut story.out);
    story.client_gets("");
    assert!(story.session.finished() && story.session.halved());
}

#[test]
fn a_tracking_client_gets_no_push_behind_half_a_reply() {
    let mut story = Story::attached();
    story.client("HELLO 3\r\n").upstream_gets("HELLO 3|").upstream("%1\r\n+proto\r\n:3\r\n");
    story.client("CLIENT TRACKING ON\r\nGET a\r\n").upstream_gets("CLIENT TRACKING ON|GET a|").upstream("+OK\r\n");
    story.out.clear();
    let reply = bulk(2 * LARGE);
    story.upstream(&reply[..LARGE]).client_gets(&reply[..LARGE]);
    assert!(!story.session.void_cache(&mut story.out));
    story.session.detach(&mut story.out);
    story.client_gets("");
    assert!(story.session.void_cache(&mut story.out));
    story.client_gets("");
    assert!(story.session.finished());
}

const RESERVED: &str = "-NOPERM this channel is reserved for the proxies of the pair\r\n";
