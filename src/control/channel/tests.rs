//! What is read, what is refused, and the form on the wire.

use super::*;
use crate::config::{ChannelSecret, Secret};

fn seal() -> Seal {
    let secret = ChannelSecret { file: "none".into(), secrets: vec![Secret::new(vec![b'x'; 32])] };
    Seal::new(&secret, "__changeover__")
}

fn message(kind: Kind) -> Message {
    Message { from: "a-5f0c2d91".to_owned(), node: Some("a".to_owned()), seq: 17, proof: None, kind }
}

fn sealed(kind: Kind) -> Message {
    let proof = Proof { at: 1_790_000_000_123, nonce: Nonce(7), to: vec![Nonce(8), Nonce(u128::MAX)] };
    Message { proof: Some(proof), ..message(kind) }
}

fn presence(drained: bool) -> Kind {
    Kind::Presence { drained, nodes: BTreeMap::new() }
}

/// One of each kind.
fn kinds() -> Vec<Kind> {
    let (about, to) = ("a".to_owned(), "a-5f0c2d91".to_owned());
    vec![
        Kind::Hello,
        presence(false),
        Kind::Presence { drained: true, nodes: BTreeMap::from([("a".to_owned(), "5".repeat(40))]) },
        Kind::Hold { id: u64::MAX, deadline_ms: 5000, event: 1 },
        Kind::Quiesced { id: 1 },
        Kind::Release { id: 1, switched: true },
        Kind::Suspect { about: about.clone(), question: 1 },
        Kind::Sees { about, answers: false, to: to.clone(), question: 1 },
        Kind::Lease { plea: 1, lease_ms: 4000 },
        Kind::Leased { to, plea: 1 },
        Kind::Saved { process: "5".repeat(40) },
        Kind::Leave,
    ]
}

#[test]
fn every_kind_survives_the_wire_under_a_seal() {
    for kind in kinds() {
        let sent = sealed(kind);
        assert_eq!(Message::decode(&sent.encode(Some(&seal())), Some(&seal())), Ok(sent));
    }
}

#[test]
fn without_a_secret_only_presence_and_holds_are_believed() {
    for kind in kinds() {
        let (sent, needs) = (message(kind.clone()), kind.needs_seal());
        let read = Message::decode(&sent.encode(None), None);
        assert_eq!(read, if needs { Err(Misunderstood::NeedsSecret) } else { Ok(sent) }, "{kind:?}");
    }
}

#[test]
fn with_a_secret_nothing_without_a_seal_is_read() {
    for kind in kinds() {
        let unsealed = message(kind).encode(None);
        assert_eq!(Message::decode(&unsealed, Some(&seal())), Err(Misunderstood::Broken(Broken::Unsealed)));
    }
    // Under a seal, but without what shows when it was made.
    let undated = seal().close(&message(Kind::Leave).encode(None));
    assert_eq!(Message::decode(&undated, Some(&seal())), Err(Misunderstood::Version(1)));
    let text = br#"{"v":2,"from":"a-1","seq":1,"kind":"leave"}"#;
    assert!(matches!(Message::decode(&seal().close(text), Some(&seal())), Err(Misunderstood::Malformed(_))));
}

#[test]
fn one_without_a_secret_says_that_it_lacks_one() {
    let text = sealed(Kind::Leave).encode(Some(&seal()));
    assert_eq!(Message::decode(&text, None), Err(Misunderstood::NoSecret));
}

#[test]
fn the_form_on_the_wire_is_the_documented_one() {
    let text = concat!(
        r#"{"v":1,"from":"a-5f0c2d91","node":"a","seq":17,"kind":"hold","id":812736,"deadline_ms":5000,"#,
        r#""event":1790000000123}"#
    );
    let expected = message(Kind::Hold { id: 812_736, deadline_ms: 5000, event: 1_790_000_000_123 });
    assert_eq!(String::from_utf8(expected.encode(None)).unwrap(), text);
    assert_eq!(Message::decode(text.as_bytes(), None), Ok(expected));
    let text = String::from_utf8(sealed(Kind::Leave).encode(Some(&seal()))).unwrap();
    let (head, body) = text.split_at("2:".len() + 64);
    assert!(head.starts_with("2:"), "{text}");
    assert_eq!(
        body,
        concat!(
            r#":{"v":2,"from":"a-5f0c2d91","node":"a","seq":17,"at":1790000000123,"#,
            r#""nonce":"00000000000000000000000000000007","#,
            r#""repeats":["00000000000000000000000000000008","ffffffffffffffffffffffffffffffff"],"kind":"leave"}"#
        )
    );
}

#[test]
fn a_process_without_a_node_of_its_own_may_speak() {
    let text = br#"{"v":1,"from":"x-1","seq":1,"kind":"hello"}"#;
    assert_eq!(Message::decode(text, None).unwrap().node, None);
}

#[test]
fn what_does_not_fit_is_refused_whole() {
    let refused = |text: &str| Message::decode(text.as_bytes(), None).unwrap_err();
    assert_eq!(refused(r#"{"v":2,"whatever":[]}"#), Misunderstood::Version(2));
    assert_eq!(refused(&"x".repeat(MAX_MESSAGE + 1)), Misunderstood::TooLong(MAX_MESSAGE + 1));
    for text in [
        "",
        "null",
        "[]",
        r#"{"v":1}"#,
        r#"{"v":1,"from":"x","seq":1,"kind":"promote"}"#,
        r#"{"v":1,"from":"x","seq":1,"kind":"hold","id":-1,"deadline_ms":1}"#,
        r#"{"v":1,"from":"x","seq":1,"kind":"hold","id":1}"#,
        r#"{"v":1,"from":"x","seq":0,"kind":"hello"}"#,
        r#"{"v":1,"from":"","seq":1,"kind":"hello"}"#,
        r#"{"v":1,"from":"x\n","seq":1,"kind":"hello"}"#,
        r#"{"v":1,"from":"x","seq":1,"kind":"presence","nodes":{"a":"\n"}}"#,
        r#"{"v":1,"from":"x","seq":1,"kind":"hello"} trailing"#,
    ] {
        assert!(matches!(refused(text), Misunderstood::Malformed(_)), "{text}");
    }
    let nested =
        format!(r#"{{"v":1,"from":"x","seq":1,"kind":"hello","more":{}1{}}}"#, "[".repeat(1500), "]".repeat(1500));
    assert!(matches!(refused(&nested), Misunderstood::Malformed(_)));
    let many: Vec<_> = (0..=MAX_CHALLENGES as u128).map(Nonce).collect();
    let mut crowd = sealed(Kind::Leave);
    crowd.proof = crowd.proof.map(|proof| Proof { to: many, ..proof });
    assert!(Message::decode(&crowd.encode(Some(&seal())), Some(&seal())).is_err());
}
