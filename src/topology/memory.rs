//! What must be remembered across our own restart: whom we followed, and how far.
//!
//! Text in, text out; the file itself is the shell's. Without it a proxy that restarts would believe an old primary
//! that came back empty. Invariant: what is read back was written by us, in this version, whole; anything else is an
//! error that says so, never a guess.

use serde::{Deserialize, Serialize};

use super::lineage::{Branch, Followed, MAX_BRANCHES, MAX_KIN, MAX_PAST};
use super::node::{Epoch, NodeId};
use crate::protocol::info::{ReplId, RunId};

const VERSION: u32 = 1;
/// Longest name of a node, in bytes.
const MAX_NODE: usize = 512;

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the followed node is called: its address.
    pub node: String,
    /// The process.
    pub run_id: RunId,
    /// Its history.
    pub id: ReplId,
    /// The highest offset seen in it.
    pub offset: u64,
    /// Histories before it, oldest first.
    pub past: Vec<ReplId>,
    /// Histories that left it.
    pub branches: Vec<Branch>,
    /// Processes that have held it.
    pub kin: Vec<RunId>,
    /// Whether nothing has said that the process ceased to be primary.
    pub unbroken: bool,
    /// The last epoch that was published.
    pub epoch: Epoch,
}

/// Why a text is not a memory.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Not JSON, or not of our shape.
    #[error("not readable as the memory of a pair: {0}")]
    Shape(#[from] serde_json::Error),
    /// Written by another version.
    #[error("written in version {0} of the format; this program reads version {VERSION}")]
    Version(u32),
    /// A field that cannot be right.
    #[error("field `{0}` is damaged")]
    Damaged(&'static str),
    /// The text was changed, or is not whole.
    #[error("the checksum does not fit the content")]
    Checksum,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    node: String,
    run_id: String,
    replid: String,
    offset: u64,
    past: Vec<String>,
    branches: Vec<(String, u64)>,
    kin: Vec<String>,
    unbroken: bool,
    epoch: u64,
    checksum: String,
}

impl Memory {
    /// The memory of what is followed now.
    pub(super) fn of(node: String, followed: &Followed, epoch: Epoch) -> Self {
        Self {
            node,
            run_id: followed.run_id,
            id: followed.id,
            offset: followed.offset,
            past: followed.past.clone(),
            branches: followed.branches.clone(),
            kin: followed.kin.clone(),
            unbroken: followed.unbroken,
            epoch,
        }
    }

    /// Follows again what was followed, on this node.
    pub(super) fn followed(&self, node: Option<NodeId>) -> Followed {
        Followed {
            node,
            run_id: self.run_id,
            id: self.id,
            offset: self.offset,
            past: self.past.clone(),
            branches: self.branches.clone(),
            kin: self.kin.clone(),
            unbroken: self.unbroken,
            certain: false,
        }
    }

    /// Whether only the offset is different (which changes all the time).
    pub(super) fn differs_in_offset_only(&self, other: &Self) -> bool {
        *self == Self { offset: self.offset, ..other.clone() }
    }

    /// As text: one JSON object.
    pub fn to_text(&self) -> String {
        let mut text = Text {
            version: VERSION,
            node: self.node.clone(),
            run_id: self.run_id.to_string(),
            replid: self.id.to_string(),
            offset: self.offset,
            past: self.past.iter().map(ReplId::to_string).collect(),
            branches: self.branches.iter().map(|branch| (branch.id.to_string(), branch.at)).collect(),
            kin: self.kin.iter().map(RunId::to_string).collect(),
            unbroken: self.unbroken,
            epoch: self.epoch.0,
            checksum: String::new(),
        };
        text.checksum = checksum(&text);
        serde_json::to_string_pretty(&text).unwrap_or_default()
    }

    /// Reads what [`Memory::to_text`] wrote.
    pub fn from_text(text: &str) -> Result<Self, MemoryError> {
        let mut text: Text = serde_json::from_str(text)?;
        if text.version != VERSION {
            return Err(MemoryError::Version(text.version));
        }
        let claimed = std::mem::take(&mut text.checksum);
        if claimed != checksum(&text) {
            return Err(MemoryError::Checksum);
        }
        if text.node.len() > MAX_NODE {
            return Err(MemoryError::Damaged("node"));
        }
        if text.past.len() > MAX_PAST || text.branches.len() > MAX_BRANCHES || text.kin.len() > MAX_KIN {
            return Err(MemoryError::Damaged("past"));
        }
        let replid = |text: &String, field| digits(text).map(ReplId).ok_or(MemoryError::Damaged(field));
        Ok(Self {
            run_id: digits(&text.run_id).map(RunId).ok_or(MemoryError::Damaged("run_id"))?,
            id: replid(&text.replid, "replid")?,
            offset: text.offset,
            past: text.past.iter().map(|id| replid(id, "past")).collect::<Result<_, _>>()?,
            branches: text
                .branches
                .iter()
                .map(|(id, at)| Ok(Branch { id: replid(id, "branches")?, at: *at }))
                .collect::<Result<_, MemoryError>>()?,
            kin: text
                .kin
                .iter()
                .map(|id| digits(id).map(RunId).ok_or(MemoryError::Damaged("kin")))
                .collect::<Result<_, _>>()?,
            unbroken: text.unbroken,
            epoch: Epoch(text.epoch),
            node: text.node,
        })
    }
}

fn digits(text: &str) -> Option<[u8; 40]> {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric()).then(|| text.as_bytes().try_into().ok())?
}

/// FNV-1a over the text with an empty checksum: finds damage, not malice.
fn checksum(text: &Text) -> String {
    let canonical = serde_json::to_vec(text).unwrap_or_default();
    let hash = canonical
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        Memory {
            node: "127.0.0.1:7001".into(),
            run_id: RunId([b'1'; 40]),
            id: ReplId([b'a'; 40]),
            offset: 593,
            past: vec![ReplId([b'b'; 40])],
            branches: vec![Branch { id: ReplId([b'c'; 40]), at: 594 }],
            kin: vec![RunId([b'2'; 40])],
            unbroken: true,
            epoch: Epoch(7),
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        assert_eq!(Memory::from_text(&memory().to_text()).unwrap(), memory());
    }

    #[test]
    fn every_cut_and_every_changed_character_is_an_error() {
        let text = memory().to_text();
        for at in 0..text.len() {
            assert!(Memory::from_text(&text[..at]).is_err(), "cut at {at}");
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(bytes).unwrap();
            let read = Memory::from_text(&changed);
            assert!(read.is_err() || read.unwrap() == memory(), "changed at {at}: {changed}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let text = memory().to_text().replace("\"version\": 1", "\"version\": 9");
        assert_eq!(
            Memory::from_text(&text).unwrap_err().to_string(),
            "written in version 9 of the format; this program reads version 1"
        );
    }
}
