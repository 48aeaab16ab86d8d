//! The words of the pair's channel: what the processes of a pair say to each other through pub/sub on the pair itself.
//!
//! Pure: text in, message out, and back. It neither publishes nor decides what a message means; who is believed, and how
//! long a hold may last, is decided by the owner.
//!
//! Whoever may publish on the channel can say anything, so every part is bounded before it is looked at, and a message
//! that does not fit exactly is refused whole. One message is one JSON object in one line:
//!
//! ```text
//! {"v":1,"from":"a-5f0c2d91","node":"a","seq":17,"kind":"hold","id":812736,"deadline_ms":5000}
//! ```

use serde::{Deserialize, Serialize};

/// Longest message that is read, in bytes.
pub const MAX_MESSAGE: usize = 4096;
/// Longest name of an instance or a node, in bytes.
pub const MAX_NAME: usize = 128;
/// The version that we speak.
const VERSION: u32 = 1;

/// One message, with its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender's instance: another process, or the same one after a restart, has another name.
    pub from: String,
    /// The node that the sender runs beside.
    pub node: Option<String>,
    /// Counts the sender's messages from 1; the same message may arrive through both nodes.
    pub seq: u64,
    /// What it says.
    pub kind: Kind,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// I have just joined: answer with your presence.
    Hello,
    /// I am here.
    Presence,
    /// Start nothing new, let what is in flight finish, then say [`Kind::Quiesced`].
    Hold {
        /// Drawn at random by the coordinator; names the hold from here on.
        id: u64,
        /// Let go by yourself after this time, counted from the moment that the message is heard, in milliseconds.
        deadline_ms: u64,
    },
    /// Nothing is in flight here, under this hold.
    Quiesced {
        /// Which hold.
        id: u64,
    },
    /// The hold is over.
    Release {
        /// Which hold.
        id: u64,
        /// Whether the other node is primary now.
        switched: bool,
    },
    /// The primary seems lost to me: what do you see of this node? Answer with [`Kind::Sees`].
    Suspect {
        /// Its name.
        about: String,
    },
    /// What I see of a node, asked after I was.
    Sees {
        /// Its name.
        about: String,
        /// It answers; otherwise it refuses connections.
        answers: bool,
    },
    /// The witness does not answer me: do not promote your node for so long. Answer with [`Kind::Leased`].
    Lease {
        /// Counts the sender's own.
        plea: u64,
        /// In milliseconds.
        lease_ms: u64,
    },
    /// I will not.
    Leased {
        /// Whose plea.
        to: String,
        /// Which.
        plea: u64,
    },
    /// What this process of Redis beside me has is saved: it may become a replica.
    Saved {
        /// Its `run_id`.
        process: String,
    },
    /// I am going: do not wait for me.
    Leave,
}

/// A message that was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misunderstood {
    /// Longer than [`MAX_MESSAGE`].
    #[error("a message of {0} bytes is longer than {MAX_MESSAGE}")]
    TooLong(usize),
    /// Not an object of the form above.
    #[error("not a message: {0}")]
    Malformed(String),
    /// Of a version that we do not speak.
    #[error("version {0} is not spoken here")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u32,
    from: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    seq: u64,
    #[serde(flatten)]
    kind: Kind,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

impl Message {
    /// As it is published.
    pub fn encode(&self) -> Vec<u8> {
        let wire = Wire {
            v: VERSION,
            from: self.from.clone(),
            node: self.node.clone(),
            seq: self.seq,
            kind: self.kind.clone(),
        };
        // Plain data with string keys always serialises.
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    /// Reads what was published. The version is looked at first, so that a later one is named as such.
    pub fn decode(payload: &[u8]) -> Result<Self, Misunderstood> {
        if payload.len() > MAX_MESSAGE {
            return Err(Misunderstood::TooLong(payload.len()));
        }
        let malformed = |error: serde_json::Error| Misunderstood::Malformed(error.to_string());
        let version: Version = serde_json::from_slice(payload).map_err(malformed)?;
        if version.v != VERSION {
            return Err(Misunderstood::Version(version.v));
        }
        let wire: Wire = serde_json::from_slice(payload).map_err(malformed)?;
        let about = match &wire.kind {
            Kind::Suspect { about } | Kind::Sees { about, .. } | Kind::Leased { to: about, .. } => Some(about.as_str()),
            Kind::Saved { process } => Some(process.as_str()),
            _ => None,
        };
        if !is_name(&wire.from) || !wire.node.as_deref().is_none_or(is_name) || !about.is_none_or(is_name) {
            return Err(Misunderstood::Malformed("a name is empty, too long or not printable ASCII".to_owned()));
        }
        if wire.seq == 0 {
            return Err(Misunderstood::Malformed("seq counts from 1".to_owned()));
        }
        Ok(Self { from: wire.from, node: wire.node, seq: wire.seq, kind: wire.kind })
    }
}

/// Names end in logs and on terminals: printable ASCII without spaces only.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: Kind) -> Message {
        Message { from: "a-5f0c2d91".to_owned(), node: Some("a".to_owned()), seq: 17, kind }
    }

    #[test]
    fn every_kind_survives_the_wire() {
        for kind in [
            Kind::Hello,
            Kind::Presence,
            Kind::Hold { id: u64::MAX, deadline_ms: 5000 },
            Kind::Quiesced { id: 1 },
            Kind::Release { id: 1, switched: true },
            Kind::Suspect { about: "a".to_owned() },
            Kind::Sees { about: "a".to_owned(), answers: false },
            Kind::Lease { plea: 1, lease_ms: 4000 },
            Kind::Leased { to: "a-5f0c2d91".to_owned(), plea: 1 },
            Kind::Saved { process: "5".repeat(40) },
            Kind::Leave,
        ] {
            let sent = message(kind);
            assert_eq!(Message::decode(&sent.encode()), Ok(sent));
        }
    }

    #[test]
    fn the_form_on_the_wire_is_the_documented_one() {
        let text = r#"{"v":1,"from":"a-5f0c2d91","node":"a","seq":17,"kind":"hold","id":812736,"deadline_ms":5000}"#;
        let expected = message(Kind::Hold { id: 812_736, deadline_ms: 5000 });
        assert_eq!(String::from_utf8(expected.encode()).unwrap(), text);
        assert_eq!(Message::decode(text.as_bytes()), Ok(expected));
    }

    #[test]
    fn a_process_without_a_node_of_its_own_may_speak() {
        let text = br#"{"v":1,"from":"x-1","seq":1,"kind":"hello"}"#;
        assert_eq!(Message::decode(text).unwrap().node, None);
    }

    #[test]
    fn what_does_not_fit_is_refused_whole() {
        let refused = |text: &str| Message::decode(text.as_bytes()).unwrap_err();
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
            r#"{"v":1,"from":"x","seq":1,"kind":"hello"} trailing"#,
        ] {
            assert!(matches!(refused(text), Misunderstood::Malformed(_)), "{text}");
        }
        let nested =
            format!(r#"{{"v":1,"from":"x","seq":1,"kind":"hello","more":{}1{}}}"#, "[".repeat(1500), "]".repeat(1500));
        assert!(matches!(refused(&nested), Misunderstood::Malformed(_)));
    }
}
