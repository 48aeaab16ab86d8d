//! What a process finds when it looks at its nodes and its certificates: the nouns of `GET /v1/examination`.
//!
//! `control::advice` looks, `patch::settings` judges, `cli` shows. Nothing here decides.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// What operators ask of the one who looks.
#[derive(Debug)]
pub struct Look {
    /// Only what INFO says of the nodes.
    pub quick: bool,
    /// The answer.
    pub reply: oneshot::Sender<Examination>,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examination {
    /// The nodes, in configured order.
    pub nodes: Vec<NodeExamined>,
    /// The certificates that the process uses.
    pub certificates: Vec<CertificateExamined>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeExamined {
    /// As configured.
    pub name: String,
    /// `host:port` as configured.
    pub addr: String,
    /// Why it could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What should be otherwise, the worst first.
    #[serde(default)]
    pub findings: Vec<FindingReport>,
    /// Some of what INFO said, as it said it.
    #[serde(default)]
    pub info: BTreeMap<String, String>,
}

impl NodeExamined {
    /// A number of INFO.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.info.get(name)?.parse().ok()
    }
}

/// Something that should be otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingReport {
    /// A patch would do harm; otherwise it would be slower, or a rare accident worse.
    pub must: bool,
    /// Which setting.
    pub setting: String,
    /// What it is.
    pub found: String,
    /// What comes of it.
    pub why: String,
    /// The command that mends it.
    pub mend: String,
}

/// A file with certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateExamined {
    /// The file.
    pub file: String,
    /// When the first certificate in it expires, in calendar time; `None` when it does not say so.
    pub expires_unix_ms: Option<i64>,
    /// Why it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
