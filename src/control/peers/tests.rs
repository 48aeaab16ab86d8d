//! Who counts as there, and that a message counts once.

use super::*;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn from(name: &str, seq: u64, kind: Kind) -> Message {
    Message { from: name.to_owned(), node: None, seq, proof: None, kind }
}

const HERE: Kind = Kind::Presence { drained: false, nodes: BTreeMap::new() };
const HOLD: Kind = Kind::Hold { id: 9, deadline_ms: 1, event: 0 };

/// A process under a seal: its challenge, and what it has heard of others.
fn sealed(name: &str, seq: u64, nonce: u128, to: &[u128], kind: Kind) -> Message {
    let proof = Proof { at: 0, nonce: Nonce(nonce), to: to.iter().copied().map(Nonce).collect() };
    Message { proof: Some(proof), ..from(name, seq, kind) }
}

/// A table whose challenge is 1.
fn challenging() -> Peers {
    let mut peers = Peers::new("a-1");
    peers.challenge(Nonce(1), at(0));
    peers
}

fn hear(peers: &mut Peers, message: &Message, now: u64) -> Heard {
    peers.handle_message(message, 0, at(now))
}

const JOINED: Heard = Heard::New { joined: true };
const NEW: Heard = Heard::New { joined: false };

#[test]
fn a_message_that_arrives_through_both_nodes_counts_once() {
    for seal in [false, true] {
        let mut peers = challenging();
        let say = |seq, kind| if seal { sealed("b-1", seq, 5, &[1], kind) } else { from("b-1", seq, kind) };
        assert_eq!(hear(&mut peers, &say(1, Kind::Hello), 0), JOINED);
        assert_eq!(hear(&mut peers, &say(1, Kind::Hello), 1), Heard::Nothing);
        assert_eq!(hear(&mut peers, &say(3, HERE), 2), NEW);
        assert_eq!(hear(&mut peers, &say(2, HOLD), 3), NEW, "overtaken");
        assert_eq!(hear(&mut peers, &say(2, HOLD), 4), Heard::Nothing);
        assert_eq!(hear(&mut peers, &say(500, HERE), 5), NEW);
        assert_eq!(hear(&mut peers, &say(500, HERE), 6), Heard::Nothing);
    }
}

#[test]
fn one_does_not_hear_oneself() {
    let mut peers = challenging();
    assert_eq!(hear(&mut peers, &from("a-1", 1, Kind::Hello), 0), Heard::Nothing);
    assert_eq!(hear(&mut peers, &sealed("a-1", 1, 1, &[1], Kind::Hello), 0), Heard::Nothing);
    assert!(peers.present(at(0)).is_empty());
}

#[test]
fn the_silent_and_the_gone_are_not_waited_for() {
    for seal in [false, true] {
        let mut peers = challenging();
        let say = |name, seq, kind| if seal { sealed(name, seq, 5, &[1], kind) } else { from(name, seq, kind) };
        hear(&mut peers, &say("b-1", 1, Kind::Hello), 0);
        hear(&mut peers, &say("c-1", 1, Kind::Hello), 0);
        hear(&mut peers, &say("c-1", 5, Kind::Leave), 10);
        // Published before the farewell, heard after it.
        hear(&mut peers, &say("c-1", 4, HERE), 11);
        assert_eq!(peers.present(at(20)), ["b-1"]);
        assert!(peers.present(at(4000)).is_empty());
        assert_eq!(hear(&mut peers, &say("b-1", 2, HERE), 5000), JOINED);
        assert!(peers.is_present("b-1", at(5000)));
    }
}

#[test]
fn whoever_is_late_is_missed_before_it_counts_as_absent_and_not_for_ever() {
    let mut peers = Peers::new("a-1");
    assert!(!peers.is_anybody_there(at(0)) && !peers.is_anybody_missed(at(0)));
    hear(&mut peers, &from("b-1", 1, Kind::Hello), 0);
    assert!(peers.is_anybody_there(at(1000)) && !peers.is_anybody_missed(at(1000)));
    assert!(peers.is_present("b-1", at(2000)) && peers.is_anybody_missed(at(2000)));
    assert!(peers.is_anybody_missed(at(59_000)));
    assert!(!peers.is_anybody_there(at(61_000)) && !peers.is_anybody_missed(at(61_000)));
    hear(&mut peers, &from("b-1", 2, Kind::Leave), 61_000);
    assert!(!peers.is_anybody_there(at(61_000)) && !peers.is_anybody_missed(at(63_000)));
}

#[test]
fn a_crowd_is_bounded_and_newcomers_are_heard_again_once_it_has_gone() {
    let mut peers = Peers::new("a-1");
    for n in 0..1000 {
        hear(&mut peers, &from(&format!("x-{n}"), 1, Kind::Hello), n);
    }
    assert_eq!(peers.present(at(1000)).len(), MAX_PEERS);
    assert_eq!(hear(&mut peers, &from("b-1", 1, Kind::Hello), 1000), Heard::Nothing);
    assert_eq!(hear(&mut peers, &from("b-1", 2, Kind::Hello), 9000), JOINED);
    assert_eq!(peers.present(at(9000)), ["b-1"]);
}

#[test]
fn without_a_secret_a_number_far_ahead_makes_nobody_deaf() {
    let mut peers = Peers::new("a-1");
    hear(&mut peers, &from("b-1", 1, HERE), 0);
    hear(&mut peers, &from("b-1", u64::MAX, HERE), 1);
    for seq in 2..500 {
        assert_eq!(hear(&mut peers, &from("b-1", seq, HERE), 1000 * seq), NEW, "{seq}");
    }
    assert!(peers.is_present("b-1", at(500_000)));
}

#[test]
fn without_a_secret_a_farewell_in_anothers_name_counts_only_until_that_one_speaks_again() {
    let mut peers = Peers::new("a-1");
    hear(&mut peers, &from("b-1", 1, HERE), 0);
    hear(&mut peers, &from("b-1", u64::MAX, Kind::Leave), 100);
    assert!(!peers.is_present("b-1", at(101)));
    hear(&mut peers, &from("b-1", 2, HERE), 1000);
    assert_eq!(hear(&mut peers, &from("b-1", 3, HERE), 2000), JOINED);
}

#[test]
fn without_a_secret_a_stranger_is_heard_once_it_has_said_that_it_is_there() {
    let mut peers = Peers::new("a-1");
    for kind in [HOLD, Kind::Quiesced { id: 1 }, Kind::Release { id: 1, switched: false }, Kind::Leave] {
        assert_eq!(hear(&mut peers, &from("!", 1, kind), 0), Heard::Stranger);
    }
    assert!(peers.present(at(0)).is_empty());
}

#[test]
fn three_messages_make_two_processes_known_to_each_other() {
    let (mut a, mut b) = (Peers::new("a-1"), Peers::new("b-1"));
    a.challenge(Nonce(1), at(0));
    b.challenge(Nonce(2), at(0));
    let say = |peers: &Peers, name: &str, seq, kind| Message { proof: peers.proof(0), ..from(name, seq, kind) };
    let greeting = say(&b, "b-1", 1, Kind::Hello);
    assert_eq!(hear(&mut a, &greeting, 0), Heard::Unproven);
    assert!(a.present(at(0)).is_empty());
    let answer = say(&a, "a-1", 1, HERE);
    assert_eq!(hear(&mut b, &answer, 0), JOINED);
    let third = say(&b, "b-1", 2, HERE);
    assert_eq!(hear(&mut a, &third, 0), JOINED);
    assert_eq!((a.present(at(0)), b.present(at(0))), (vec!["b-1".to_owned()], vec!["a-1".to_owned()]));
}

#[test]
fn what_was_said_before_this_process_began_is_never_believed() {
    let recorded = sealed("b-1", 7, 5, &[1], HOLD);
    assert_eq!(hear(&mut challenging(), &recorded, 0), JOINED);
    // The same process started again has another challenge.
    let mut again = Peers::new("a-2");
    again.challenge(Nonce(99), at(0));
    for now in [0, 10_000, 70_000, 1_000_000] {
        assert!(matches!(hear(&mut again, &recorded, now), Heard::Unproven | Heard::Nothing), "{now}");
    }
}

/// At whatever time a message is said again, and whatever else was heard meanwhile: it counts once.
#[test]
fn a_recorded_message_is_believed_once_at_any_time() {
    for later in (0..200_000).step_by(500) {
        for lively in [false, true] {
            let mut peers = challenging();
            let recorded = sealed("b-1", 7, 5, &[1], HOLD);
            assert_eq!(hear(&mut peers, &recorded, 0), JOINED);
            for now in (0..later).step_by(1000) {
                if peers.needs_challenge(at(now)) {
                    peers.challenge(Nonce(1000 + u128::from(now)), at(now));
                }
                if lively {
                    let to = peers.proof(0).unwrap().nonce.0;
                    hear(&mut peers, &sealed("b-1", 8 + now, 5, &[to], HERE), now);
                    hear(&mut peers, &sealed("c-1", 8 + now, 6, &[to], HERE), now);
                }
            }
            let heard = hear(&mut peers, &recorded, later);
            assert!(matches!(heard, Heard::Nothing | Heard::Unproven), "{later} ms later: {heard:?}");
        }
    }
}

#[test]
fn a_message_that_was_lost_and_comes_late_is_not_believed_after_its_challenge() {
    let mut peers = challenging();
    let lost = sealed("b-1", 7, 5, &[1], HOLD);
    let limit = u64::try_from(CHALLENGE_FOR.as_millis()).unwrap();
    assert_eq!(hear(&mut peers, &lost, limit + 1), Heard::Unproven);
    // A process that was frozen has old challenges only, until it draws another one.
    assert!(peers.needs_challenge(at(limit)));
}

#[test]
fn others_prove_themselves_although_strangers_replay_greetings_of_the_dead() {
    let mut peers = challenging();
    for n in 0..200 {
        assert_eq!(hear(&mut peers, &sealed(&format!("old-{n}"), 1, 100 + n, &[], Kind::Hello), 0), Heard::Unproven);
    }
    assert_eq!(hear(&mut peers, &sealed("b-1", 1, 5, &[], Kind::Hello), 1), Heard::Unproven);
    assert!(peers.proof(0).unwrap().to.contains(&Nonce(5)), "the newest is repeated");
    assert_eq!(hear(&mut peers, &sealed("b-1", 2, 5, &[1], HERE), 2), JOINED);
    for n in 200..400 {
        hear(&mut peers, &sealed(&format!("old-{n}"), 1, 100 + n, &[], Kind::Hello), 3);
    }
    assert_eq!(peers.present(at(3)), ["b-1"]);
}

#[test]
fn clocks_that_differ_by_years_change_nothing() {
    let mut peers = challenging();
    let year = 31_536_000_000;
    for (seq, theirs) in [(1, 0), (2, 40 * year), (3, u64::MAX), (4, 60 * year)] {
        let mut message = sealed("b-1", seq, 5, &[1], HERE);
        message.proof = message.proof.map(|proof| Proof { at: theirs, ..proof });
        assert!(matches!(peers.handle_message(&message, 50 * year, at(seq)), Heard::New { .. }), "{theirs}");
    }
}
