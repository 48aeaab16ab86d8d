//! The words of the pair's channel: what the processes of a pair say to each other through pub/sub on the pair itself.
//!
//! Pure: text in, message out, and back. It neither publishes nor decides what a message means; how long a hold may
//! last is decided by the owner.
//!
//! Every client of Redis that may run a script may publish on the channel. So a message counts by its seal (`seal.rs`).
//! Without a secret there is no seal, and a message can say presence and hold only: [`Kind::needs_seal`].
//!
//! Every part is bounded before it is looked at, and a message that does not fit exactly is refused whole. One message is
//! one JSON object in one line, version 1 without a seal, version 2 with one:
//!
//! ```text
//! {"v":1,"from":"a-5f0c2d91","node":"a","seq":17,"kind":"hold","id":812736,"deadline_ms":5000,"event":1790000000123}
//! 2:<code>:{"v":2,"from":"a-5f0c2d91","node":"a","seq":17,"at":1790000000123,"nonce":"…","repeats":["…"],"kind":"leave"}
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::seal::{Broken, Seal};

/// Longest message that is read, in bytes.
pub const MAX_MESSAGE: usize = 4096;
/// Longest name of an instance or a node, in bytes.
pub const MAX_NAME: usize = 128;
/// Most challenges in one message.
pub const MAX_CHALLENGES: usize = 8;
/// The version of messages without a seal, and with one.
const VERSIONS: [u32; 2] = [1, 2];

/// One message, with its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender's instance: another process, or the same one after a restart, has another name.
    pub from: String,
    /// The node that the sender runs beside.
    pub node: Option<String>,
    /// Counts the sender's messages from 1; the same message may arrive through both nodes.
    pub seq: u64,
    /// That it was made lately, and for us; `None`: it has no seal.
    pub proof: Option<Proof>,
    /// What it says.
    pub kind: Kind,
}

/// What shows when a sealed message was made. No clocks are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The sender's clock, in milliseconds since 1970; to show a difference of clocks, and for nothing else.
    pub at: u64,
    /// The sender's challenge: a message that repeats it was made after it was drawn.
    pub nonce: Nonce,
    /// The challenges of the others, as the sender has heard them last.
    pub to: Vec<Nonce>,
}

/// A random number that was never used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(pub u128);

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        format!("{:032x}", nonce.0)
    }
}

impl TryFrom<String> for Nonce {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = u128::from_str_radix(&text, 16).ok().filter(|_| digits);
        value.map(Self).ok_or("a challenge is 32 hexadecimal digits")
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// I have just joined: answer with your presence.
    Hello,
    /// I am here.
    Presence {
        /// I take no clients: nobody is to be sent to me.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        drained: bool,
        /// The `run_id` of each node that answers me, by the name that I have for it.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        nodes: BTreeMap<String, String>,
    },
    /// Start nothing new, let what is in flight finish, then say [`Kind::Quiesced`].
    Hold {
        /// Drawn at random by the coordinator; names the hold from here on.
        id: u64,
        /// Let go by yourself after this time, counted from the moment that the message is heard, in milliseconds.
        deadline_ms: u64,
        /// What clients are told that this change is called; of no other meaning.
        #[serde(default)]
        event: u64,
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
        /// Counts the sender's own.
        question: u64,
    },
    /// What I see of a node, asked after I was.
    Sees {
        /// Its name.
        about: String,
        /// It answers; otherwise it refuses connections.
        answers: bool,
        /// Who asked.
        to: String,
        /// What: [`Kind::Suspect`].
        question: u64,
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

impl Kind {
    /// Whether anything is risked on its word: then it is neither said nor believed without a seal.
    pub fn needs_seal(&self) -> bool {
        match self {
            Self::Hello
            | Self::Presence { .. }
            | Self::Hold { .. }
            | Self::Quiesced { .. }
            | Self::Release { .. }
            | Self::Leave => false,
            Self::Suspect { .. }
            | Self::Sees { .. }
            | Self::Lease { .. }
            | Self::Leased { .. }
            | Self::Saved { .. } => true,
        }
    }

    /// Names that stand in it.
    fn names(&self) -> Vec<&String> {
        match self {
            Self::Suspect { about, .. } => vec![about],
            Self::Sees { about, to, .. } => vec![about, to],
            Self::Leased { to, .. } => vec![to],
            Self::Saved { process } => vec![process],
            Self::Presence { nodes, .. } => nodes.keys().chain(nodes.values()).collect(),
            _ => Vec::new(),
        }
    }
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
    /// Its seal is missing or wrong.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// It has a seal, and we have no secret.
    #[error("it is authenticated, and this process has no channel-secret-file")]
    NoSecret,
    /// It says what needs a seal, and has none.
    #[error("it says what is not believed without a channel-secret-file")]
    NeedsSecret,
}

impl Misunderstood {
    /// One of the reasons in the metrics' catalogue.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLong(_) | Self::Malformed(_) | Self::Version(_) => "malformed",
            Self::Broken(Broken::Unsealed) | Self::NeedsSecret => "unsigned",
            Self::Broken(Broken::Forged) => "forged",
            Self::NoSecret => "no-secret",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u32,
    from: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nonce: Option<Nonce>,
    // Not `to`: some kinds have a word of that name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    repeats: Vec<Nonce>,
    #[serde(flatten)]
    kind: Kind,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

impl Message {
    /// As it is published. A message with a proof is sealed; one without is not.
    pub fn encode(&self, seal: Option<&Seal>) -> Vec<u8> {
        let [unsealed, sealed] = VERSIONS;
        let proof = self.proof.as_ref();
        let wire = Wire {
            v: if proof.is_some() { sealed } else { unsealed },
            from: self.from.clone(),
            node: self.node.clone(),
            seq: self.seq,
            at: proof.map(|proof| proof.at),
            nonce: proof.map(|proof| proof.nonce),
            repeats: proof.map(|proof| proof.to.clone()).unwrap_or_default(),
            kind: self.kind.clone(),
        };
        // Plain data with string keys always serialises.
        let text = serde_json::to_vec(&wire).unwrap_or_default();
        match seal {
            Some(seal) if proof.is_some() => seal.close(&text),
            _ => text,
        }
    }

    /// Reads what was published. The seal comes first, then the version, so that a later one is named as such.
    ///
    /// # Errors
    /// See [`Misunderstood`]. With a seal of ours, nothing is read that it does not open.
    pub fn decode(payload: &[u8], seal: Option<&Seal>) -> Result<Self, Misunderstood> {
        if payload.len() > MAX_MESSAGE {
            return Err(Misunderstood::TooLong(payload.len()));
        }
        let text = match seal {
            Some(seal) => seal.open(payload)?,
            None if payload.starts_with(b"2:") => return Err(Misunderstood::NoSecret),
            None => payload,
        };
        let malformed = |error: serde_json::Error| Misunderstood::Malformed(error.to_string());
        let version: Version = serde_json::from_slice(text).map_err(malformed)?;
        if version.v != VERSIONS[usize::from(seal.is_some())] {
            return Err(Misunderstood::Version(version.v));
        }
        let wire: Wire = serde_json::from_slice(text).map_err(malformed)?;
        if !is_name(&wire.from)
            || !wire.node.as_deref().is_none_or(is_name)
            || !wire.kind.names().into_iter().all(|name| is_name(name))
        {
            return Err(Misunderstood::Malformed("a name is empty, too long or not printable ASCII".to_owned()));
        }
        if wire.seq == 0 {
            return Err(Misunderstood::Malformed("seq counts from 1".to_owned()));
        }
        let proof = match (seal, wire.at, wire.nonce) {
            (None, ..) if wire.kind.needs_seal() => return Err(Misunderstood::NeedsSecret),
            (None, ..) => None,
            (Some(_), Some(at), Some(nonce)) if wire.repeats.len() <= MAX_CHALLENGES => {
                Some(Proof { at, nonce, to: wire.repeats })
            }
            _ => return Err(Misunderstood::Malformed("its time or its challenge is missing".to_owned())),
        };
        Ok(Self { from: wire.from, node: wire.node, seq: wire.seq, proof, kind: wire.kind })
    }
}

/// Names end in logs and on terminals: printable ASCII without spaces only.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests;
