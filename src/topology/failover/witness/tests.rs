//! What the witness gives, and to whom; the random stories are in `tests/failover_simulation`.

use super::*;

const A: NodeId = NodeId(0);
const B: NodeId = NodeId(1);

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A witness that is asked on one connection for each node.
struct Story(Witness);

impl Story {
    fn ask(&mut self, node: NodeId, want: Want, term: u64, now: u64) -> Answer {
        let process = if node == A || want == Want::VoteDead { "x" } else { "y" };
        let ask = Ask { node, want, term, process: process.to_owned(), lease_ms: 2000 };
        self.0.handle_ask("pair", 1 + u64::from(node.0), &ask, at(now)).unwrap().0
    }

    fn granted(&mut self, node: NodeId, want: Want, term: u64, now: u64) -> bool {
        self.ask(node, want, term, now).granted
    }

    /// A holds the pair, in term 1, and has renewed at 0.
    fn held() -> Self {
        let mut story = Self(Witness::default());
        assert_eq!(story.ask(A, Want::Hold, 0, 0), Answer { term: 1, holder: Some(A), granted: true });
        story
    }
}

#[test]
fn a_vote_is_given_once_the_lease_has_run_out_and_to_one_only() {
    let mut story = Story::held();
    assert!(!story.granted(B, Want::Vote, 1, 2999));
    assert!(story.granted(A, Want::Hold, 1, 2999), "it renews");
    assert!(!story.granted(B, Want::Vote, 1, 5998));
    let voted = Answer { term: 2, holder: Some(B), granted: true };
    assert_eq!(story.ask(B, Want::Vote, 1, 5999), voted);
    assert_eq!(story.ask(B, Want::Vote, 1, 6000), voted, "the answer may have been lost");
    assert!(!story.granted(A, Want::Hold, 1, 6000), "it wakes up");
    assert!(!story.granted(A, Want::Hold, 1, 60_000), "even when the other is not heard either");
}

#[test]
fn who_has_slept_through_a_change_gets_no_vote_against_it() {
    let mut story = Story::held();
    assert!(story.granted(B, Want::Vote, 1, 5000));
    assert!(!story.granted(A, Want::Vote, 1, 60_000));
    assert!(story.granted(A, Want::Vote, 2, 60_000), "unless it knows about it");
}

#[test]
fn who_has_slept_through_a_change_does_not_get_the_pair_because_the_other_node_has_died() {
    let mut story = Story::held();
    assert!(story.granted(B, Want::Vote, 1, 5000));
    assert!(story.granted(B, Want::Dead, 2, 6000));
    assert!(!story.granted(A, Want::Hold, 1, 6001), "what was written meanwhile is not at A");
    assert!(!story.granted(A, Want::Hold, 1, 60_000));
    assert!(story.granted(B, Want::Release, 2, 60_001), "unless the other sees it in service");
    assert!(story.granted(A, Want::Hold, 1, 60_002));
}

#[test]
fn what_is_released_is_given_at_once_and_an_old_release_counts_for_nothing() {
    let mut story = Story::held();
    assert!(!story.granted(A, Want::Release, 0, 100), "of another term");
    assert!(!story.granted(B, Want::Hold, 1, 100));
    assert!(story.granted(A, Want::Release, 1, 200));
    assert!(story.granted(B, Want::Hold, 1, 200));
    let late = Ask { node: B, want: Want::Release, term: 2, process: String::new(), lease_ms: 2000 };
    assert_eq!(story.0.handle_ask("pair", 1, &late, at(300)), None, "on an older connection");
    assert!(!story.granted(A, Want::Hold, 2, 300));
}

#[test]
fn the_dead_process_is_believed_to_be_dead_only_when_its_neighbour_no_longer_renews() {
    let mut story = Story::held();
    assert!(!story.granted(B, Want::VoteDead, 1, 499));
    assert!(story.granted(B, Want::VoteDead, 1, 500));
    let mut story = Story::held();
    let other = Ask { node: B, want: Want::VoteDead, term: 1, process: "z".to_owned(), lease_ms: 2000 };
    assert!(!story.0.handle_ask("pair", 2, &other, at(2000)).unwrap().0.granted, "another process stands there now");
}

#[test]
fn a_restarted_witness_remembers_the_holder_and_waits_a_lease() {
    let mut story = Story::held();
    let mut again = Story(Witness::new(story.0.kept(), at(10_000)));
    assert!(!again.granted(B, Want::Vote, 1, 12_999));
    assert!(again.granted(A, Want::Hold, 1, 12_999));
    assert!(story.granted(B, Want::Vote, 1, 5000));
    let mut again = Story(Witness::new(story.0.kept(), at(10_000)));
    assert!(!again.granted(A, Want::Hold, 1, 60_000));
    assert!(again.granted(B, Want::Hold, 2, 60_000));
}

#[test]
fn one_that_has_lost_its_memory_gives_the_pair_to_whoever_knows_most() {
    let mut story = Story(Witness::default());
    assert!(!story.granted(A, Want::Hold, 1, 0));
    assert!(!story.granted(B, Want::Hold, 2, 1000));
    assert!(!story.granted(A, Want::Hold, 1, 3000));
    assert_eq!(story.ask(B, Want::Hold, 2, 3000), Answer { term: 3, holder: Some(B), granted: true });
}

#[test]
fn nobody_can_make_it_remember_without_limit() {
    let mut witness = Witness::default();
    let ask = Ask { node: A, want: Want::Hold, term: 0, process: String::new(), lease_ms: u64::MAX };
    for number in 0..MAX_PAIRS {
        assert!(witness.handle_ask(&number.to_string(), 1, &ask, at(0)).is_some());
    }
    assert_eq!(witness.handle_ask("more", 1, &ask, at(0)), None);
    let vote = Ask { node: B, want: Want::Vote, term: 1, ..ask };
    assert!(witness.handle_ask("0", 2, &vote, MAX_LEASE + SLACK).unwrap().0.granted, "no lease is longer");
    assert_eq!(witness.handle_ask("0", 3, &Ask { node: NodeId(2), ..vote }, at(0)), None);
}
