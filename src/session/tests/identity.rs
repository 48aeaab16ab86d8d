//! Ids that a client was told, and ids that it names.

use std::collections::HashMap;

use super::*;

impl Story {
    fn at(&mut self, mark: Mark) -> &mut Self {
        self.session.follow(Some(mark));
        self.another_upstream()
    }

    /// The session asks about these, and is told what they are called.
    fn finds(&mut self, asked: &[u64], found: &[Option<u64>]) -> &mut Self {
        let question = self.session.question().expect("it asks");
        assert_eq!(question.ids, asked);
        let found: Vec<_> =
            asked.iter().zip(found).map(|(told, actual)| Found { told: *told, actual: *actual }).collect();
        self.session.answer(&found, HashMap::new(), &mut self.out);
        self
    }
}

fn a() -> Mark {
    Mark::new(0, b"a")
}

fn b() -> Mark {
    Mark::new(1, b"b")
}

#[test]
fn the_id_that_a_client_was_told_stays_its_id() {
    let mut story = Story::new();
    let told = a().id(57);
    story.at(a()).client("CLIENT ID\r\n").upstream_gets("CLIENT ID|").upstream(":57\r\n");
    story.client_gets(&format!(":{told}\r\n"));
    assert_eq!(story.session.whereabouts(), Some(Whereabouts { told, at: Some((a(), 57)) }));
    story.at(b()).upstream_gets("CLIENT ID|").upstream(":91\r\n").client_gets("");
    assert_eq!(story.session.whereabouts(), Some(Whereabouts { told, at: Some((b(), 91)) }));
    story.client("CLIENT ID\r\n").upstream_gets("CLIENT ID|").upstream(":91\r\n");
    story.client_gets(&format!(":{told}\r\n"));
    story.client("CLIENT INFO\r\n").upstream_gets("CLIENT INFO|").upstream("$20\r\nid=91 redir=-1 db=0\n\r\n");
    story.client_gets(&format!("$34\r\nid={told} redir=-1 db=0\n\r\n"));
}

#[test]
fn hello_tells_the_same_id_and_says_what_the_next_upstream_is_called() {
    let hello = |id: u64| format!("%2\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:{id}\r\n");
    let mut story = Story::new();
    let told = a().id(57);
    story.at(a()).client("HELLO 3\r\n").upstream_gets("HELLO 3|").upstream(&hello(57)).client_gets(&hello(told));
    story.at(b()).upstream_gets("HELLO 3|").upstream(&hello(91));
    assert_eq!(story.session.whereabouts(), Some(Whereabouts { told, at: Some((b(), 91)) }));
    story.client("HELLO 3\r\n").upstream_gets("HELLO 3|").upstream(&hello(91)).client_gets(&hello(told));
}

#[test]
fn everybody_is_listed_under_the_id_that_clients_were_told() {
    let mut story = Story::new();
    story.at(b()).client("CLIENT LIST\r\n").upstream_gets("");
    assert!(story.session.question().unwrap().everyone);
    let moved = a().id(57);
    story.session.answer(&[], HashMap::from([(91, moved)]), &mut story.out);
    story.upstream_gets("CLIENT LIST|").upstream("=32\r\ntxt:id=91 redir=4\nid=4 redir=-1\n\r\n");
    let text = format!("txt:id={moved} redir={}\nid={} redir=-1\n", b().id(4), b().id(4));
    story.client_gets(&format!("={}\r\n{text}\r\n", text.len()));
}

#[test]
fn a_named_client_is_looked_for_again_on_another_upstream_and_nothing_overtakes() {
    let mut story = Story::new();
    let other = a().id(57);
    story.at(a()).client("GET a\r\n").upstream_gets("GET a|");
    let kill = format!("CLIENT KILL ID {other} SKIPME yes\r\n");
    story.client(&kill).upstream_gets("");
    assert_eq!(story.session.question(), None, "what came before is answered first");
    assert!(!story.session.may_take() && !story.session.quiet() && story.session.waits());
    story.upstream("$-1\r\n").client_gets("$-1\r\n").finds(&[other], &[Some(57)]);
    story.upstream_gets("CLIENT KILL ID 57 SKIPME yes|");
    assert!(!story.session.may_take());
    story.at(b()).upstream_gets("").finds(&[other], &[Some(91)]).upstream_gets("CLIENT KILL ID 91 SKIPME yes|");
    story.upstream(":1\r\n").client_gets(":1\r\n");
    assert_eq!((story.session.take_verdict(), story.session.take_verdict()), (Some(1), None));
    assert!(story.session.may_take() && story.session.quiet() && !story.session.doomed());
}

#[test]
fn who_is_nowhere_is_named_by_an_id_that_nobody_has() {
    let mut story = Story::new();
    let gone = a().id(57);
    story.at(b()).client(&format!("CLIENT UNBLOCK {gone} ERROR\r\n")).finds(&[gone], &[None]);
    story.upstream_gets(&format!("CLIENT UNBLOCK {} ERROR|", i64::MAX)).upstream(":0\r\n").client_gets(":0\r\n");
    // Whether it has unblocked anybody is not known: it is not sent a second time.
    story.client(&format!("CLIENT UNBLOCK {gone}\r\n")).finds(&[gone], &[Some(4)]).upstream_gets("CLIENT UNBLOCK 4|");
    story.another_upstream().upstream_gets("");
    assert!(story.out.starts_with(b"-OUTCOMEUNKNOWN "));
}

#[test]
fn a_named_client_that_is_held_too_long_is_answered() {
    let mut story = Story::new();
    story.client("CLIENT KILL ID 5\r\n");
    story.session.expire("LOADING x", &mut story.out);
    story.client_gets("-LOADING x\r\n").client("GET a\r\n");
    story.session.attach();
    story.upstream_gets("GET a|");
}

#[test]
fn a_transaction_that_names_clients_is_not_replayed() {
    let mut story = Story::new();
    story.at(a()).client("MULTI\r\n").upstream_gets("MULTI|").upstream("+OK\r\n");
    story.client("CLIENT UNBLOCK 5\r\n").finds(&[5], &[Some(5)]).upstream_gets("CLIENT UNBLOCK 5|");
    story.upstream("+QUEUED\r\n").client_gets("+OK\r\n+QUEUED\r\n");
    story.at(b()).client("EXEC\r\nPING\r\n").upstream_gets("PING|");
    let text = String::from_utf8(story.out.split().to_vec()).unwrap();
    assert!(text.starts_with("-EXECABORT ") && text.ends_with("by their ids\r\n"), "{text}");
}

#[test]
fn invalidations_are_redirected_to_the_same_client_on_another_node_and_its_cache_is_void() {
    let mut story = Story::new();
    let target = a().id(57);
    let tracking = format!("CLIENT TRACKING ON REDIRECT {target} NOLOOP\r\n");
    story.at(a()).client(&tracking).finds(&[target], &[Some(57)]);
    story.upstream_gets("CLIENT TRACKING ON REDIRECT 57 NOLOOP|").upstream("+OK\r\n").client_gets("+OK\r\n");
    story.client("CLIENT GETREDIR\r\n").upstream_gets("CLIENT GETREDIR|").upstream(":57\r\n");
    story.client_gets(&format!(":{target}\r\n")).client("GET a\r\n").upstream_gets("GET a|");
    story.at(b()).upstream_gets("");
    assert_eq!(story.session.take_voided(), Some(target));
    story.finds(&[target], &[Some(91)]).upstream_gets("CLIENT TRACKING ON REDIRECT 91 NOLOOP|");
    story.upstream("+OK\r\n").upstream_gets("GET a|").upstream("$1\r\n1\r\n").client_gets("$1\r\n1\r\n");
    // Without its target, the client would believe its cache for ever.
    story.at(a()).finds(&[target], &[None]);
    assert!(story.session.closing() && story.session.lost() && story.session.question().is_none());
}

#[test]
fn the_client_that_hears_invalidations_hears_that_everything_is_void() {
    let mut story = Story::attached();
    story.client("SUBSCRIBE __redis__:invalidate\r\n").upstream_gets("SUBSCRIBE __redis__:invalidate|");
    story.upstream("*3\r\n$9\r\nsubscribe\r\n$20\r\n__redis__:invalidate\r\n:1\r\n");
    story.out.clear();
    let void = "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n$-1\r\n";
    story.another_upstream().client_gets(void);
    assert!(story.session.void_cache(&mut story.out));
    story.client_gets(void);
}

#[test]
fn who_kills_its_own_connection_is_not_given_another() {
    let mut story = Story::attached();
    for (kill, doomed) in [("TYPE normal", false), ("TYPE normal SKIPME no", true), ("127.0.0.1:5", true)] {
        let reply = if kill.starts_with('1') { "+OK\r\n" } else { ":2\r\n" };
        story.client(&format!("CLIENT KILL {kill}\r\n")).upstream_gets(&format!("CLIENT KILL {kill}|")).upstream(reply);
        assert_eq!(story.session.doomed(), doomed, "{kill}");
        story.client("PING\r\n").upstream_gets("PING|").upstream("+PONG\r\n");
        assert!(!story.session.doomed());
    }
}
