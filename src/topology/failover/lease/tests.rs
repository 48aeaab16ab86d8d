//! What this process makes of the witness' words.

use super::*;

const ME: NodeId = NodeId(0);
const OTHER: NodeId = NodeId(1);
const LENGTH: Duration = Duration::from_secs(2);

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn answer(term: u64, holder: NodeId, granted: bool) -> Result<Answer, NoAnswer> {
    Ok(Answer { term, holder: Some(holder), granted })
}

/// Asks, and has it answered 10 ms later.
fn told(lease: &mut Lease, standing: Standing, result: Result<Answer, NoAnswer>, now: u64) -> Want {
    let want = lease.look(standing, "x", at(now)).expect("a question").want;
    lease.handle_answer(result, standing, at(now + 10));
    want
}

/// One that has followed the other, which holds the pair in term 5.
fn follower() -> Lease {
    let mut lease = Lease::new(ME, LENGTH, at(0));
    assert!(!lease.may_serve(at(0)), "it may have held the pair before it began");
    assert_eq!(told(&mut lease, Standing::Following, answer(5, OTHER, true), 0), Want::Release);
    assert_eq!(lease.until(), None);
    lease
}

#[test]
fn a_lease_counts_from_the_question_and_from_the_last_one_that_was_answered() {
    let mut lease = Lease::new(ME, LENGTH, at(0));
    assert_eq!(told(&mut lease, Standing::Serving, answer(1, ME, true), 1000), Want::Hold);
    assert!(lease.may_serve(at(2999)) && !lease.may_serve(at(3000)));
    told(&mut lease, Standing::Serving, Err(NoAnswer::Unanswered), 2000);
    assert!(lease.may_serve(at(2999)) && !lease.may_serve(at(3000)));
    told(&mut lease, Standing::Serving, answer(1, ME, true), 2500);
    assert!(lease.may_serve(at(4499)));
    // The other was given the pair meanwhile.
    told(&mut lease, Standing::Serving, answer(2, OTHER, false), 2800);
    assert!(!lease.may_serve(at(4500)));
}

#[test]
fn who_was_free_needs_a_lease_only_from_when_it_first_asks_for_one() {
    let mut lease = follower();
    // Promoted in agreement, while the witness does not answer.
    told(&mut lease, Standing::Serving, Err(NoAnswer::Unasked), 10_000);
    assert_eq!(lease.until(), None, "it was never asked");
    told(&mut lease, Standing::Serving, answer(5, OTHER, false), 11_000);
    assert_eq!(lease.until(), None, "and has not taken us for the holder");
    told(&mut lease, Standing::Serving, Err(NoAnswer::Unanswered), 12_000);
    assert_eq!(lease.until(), Some(at(14_000)), "it may have");
    told(&mut lease, Standing::Serving, answer(7, OTHER, false), 13_000);
    assert_eq!(lease.until(), Some(at(14_000)), "it had, and has given the pair away since");
}

#[test]
fn a_vote_is_used_only_after_what_was_promised_has_run_out() {
    let mut lease = follower();
    assert!(lease.handle_plea(Standing::Following, LENGTH, at(8000)));
    assert_eq!(told(&mut lease, Standing::Pressing { dead: false }, answer(6, ME, true), 9000), Want::Vote);
    assert!(!lease.has_vote(at(10_999)) && lease.has_vote(at(11_000)));
    assert!(!lease.handle_plea(Standing::Pressing { dead: false }, LENGTH, at(9500)), "no more promises");
    lease.look(Standing::Following, "x", at(12_000));
    assert!(!lease.has_vote(at(12_000)), "it was not needed");
}

#[test]
fn the_peer_is_asked_when_the_witness_is_silent_and_its_promise_counts_from_the_plea() {
    let mut lease = Lease::new(ME, LENGTH, at(0));
    told(&mut lease, Standing::Serving, answer(1, ME, true), 0);
    assert_eq!(lease.plead(Standing::Serving, at(500)), None);
    let plea = lease.plead(Standing::Serving, at(1000)).expect("a plea");
    assert_eq!(lease.plead(Standing::Serving, at(1050)), None);
    lease.handle_promise(plea + 1);
    assert!(!lease.may_serve(at(2000)));
    lease.handle_promise(plea);
    assert!(lease.may_serve(at(2999)) && !lease.may_serve(at(3000)));
}

#[test]
fn one_question_at_a_time() {
    let mut lease = follower();
    assert!(lease.look(Standing::Pressing { dead: false }, "x", at(5000)).is_some());
    assert!(lease.look(Standing::Pressing { dead: false }, "x", at(6000)).is_none());
}
