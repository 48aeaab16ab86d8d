//! Commands that the table does not have.

use super::*;
use crate::protocol::command::{Command, learnt};

fn told(story: &mut Story, name: &str, meaning: Option<&'static Command>) {
    let mut vocabulary = (*story.session.vocabulary).clone();
    vocabulary.learn(name.as_bytes().to_vec(), meaning);
    assert!(story.session.handle_vocabulary(&Rc::new(vocabulary), &mut story.out));
}

#[test]
fn an_unknown_command_waits_to_be_explained_and_is_then_what_the_server_says() {
    let mut story = Story::on_a_lane();
    story.session.handle_explanations(true);
    story.client("SET a 1\r\nreadit a\r\n").upstream_gets("SET a 1|");
    assert_eq!(story.session.unfamiliar(), Some(&b"readit"[..]));
    assert!(!story.session.may_take() && !story.session.quiet());
    told(&mut story, "READIT", learnt(b"get", &["readonly"], false));
    assert_eq!(story.session.home(), Home::Lane);
    story.upstream_gets("readit a|").upstream("+OK\r\n").client_gets("+OK\r\n");
    // Asked again when its upstream is lost, as any read; and not asked about a second time.
    story.session.detach(&mut story.out);
    story.session.board();
    story.upstream_gets("readit a|").upstream("$1\r\n1\r\n").client_gets("$1\r\n1\r\n");
    story.client("READIT b\r\n").upstream_gets("READIT b|").upstream("$-1\r\n");
    // A module may keep its connection busy: not on a lane, and not for ever off it.
    story.client("MOD.GET a\r\n");
    told(&mut story, "MOD.GET", learnt(b"mod.get", &["readonly", "module"], false));
    assert_eq!(story.session.home(), Home::Own);
    story.session.detach(&mut story.out);
    story.session.attach();
    story.upstream_gets("MOD.GET a|").upstream("$-1\r\n");
    assert!(story.session.free());
}

#[test]
fn what_nobody_explains_is_taken_for_the_worst() {
    let mut story = Story::on_a_lane();
    story.session.handle_explanations(true);
    story.client("WHATEVER a\r\n").upstream_gets("");
    assert!(story.session.take_unfamiliar(&mut story.out) && !story.session.take_unfamiliar(&mut story.out));
    assert_eq!(story.session.home(), Home::Own);
    story.session.detach(&mut story.out);
    story.session.attach();
    story.upstream_gets("WHATEVER a|");
    story.another_upstream().upstream_gets("");
    assert!(story.out.starts_with(b"-OUTCOMEUNKNOWN "));
    assert!(!story.session.free(), "it may have left something behind in its connection");
    // The server does not know it either.
    story.client("NOSUCH\r\n");
    told(&mut story, "NOSUCH", None);
    story.upstream_gets("NOSUCH|");
}

#[test]
fn on_a_lane_the_server_decides_whether_a_client_may_name_itself() {
    let mut story = Story::on_a_lane();
    story.client("CLIENT SETNAME app\r\nclient setinfo LIB-NAME redis-x\r\nGET a\r\n");
    story.upstream_gets("CLIENT SETNAME changeover|client setinfo LIB-NAME changeover|GET a|");
    story
        .upstream("+OK\r\n-ERR unknown subcommand\r\n$-1\r\n")
        .client_gets("+OK\r\n-ERR unknown subcommand\r\n$-1\r\n");
    // What is still to be said when the session leaves its lane is said for real.
    story.client("CLIENT SETNAME other\r\n");
    story.session.detach(&mut story.out);
    story.session.summon(&mut story.out);
    story.session.attach();
    story.upstream_gets("CLIENT SETNAME app|").upstream("+OK\r\n");
    story.upstream_gets("CLIENT SETNAME other|").upstream("+OK\r\n").client_gets("+OK\r\n");
    story.another_upstream().upstream_gets("CLIENT SETNAME other|");
}
