//! What happened, as `GET /v1/events` tells it: the nouns.
//!
//! `control::diary` keeps the newest, `io::http` sends them, `cli` shows them. Nothing here decides. Readers ignore
//! events and fields that they do not know, so that some may be added.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::io::admin::status::ChangeKind;
use crate::io::admin::{Outcome, Stopped};

/// The newest events, oldest first.
pub type Tail = VecDeque<Arc<AdminEvent>>;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdminEvent {
    /// Counts from 1 in the life of a process; a gap means that some were not seen.
    pub seq: u64,
    /// When.
    pub at_unix_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// A primary was named for the first time since the process began.
    Following {
        /// The node.
        primary: String,
        /// The epoch.
        epoch: u64,
    },
    /// The primary changed. What clients felt is told later.
    Changed {
        /// Which kind of change.
        kind: ChangeKind,
        /// Primary before.
        from: Option<String>,
        /// Primary after.
        to: String,
        /// The epoch that began with it.
        epoch: u64,
        /// How long there was none, or requests were held for it.
        took_ms: f64,
        /// Bytes of history that the new primary lacked; `None` when it cannot be known.
        lost_bytes: Option<u64>,
    },
    /// What clients felt of a change.
    Felt {
        /// Of which kind of change.
        kind: ChangeKind,
        /// The longest that one was held.
        longest_stall_ms: f64,
    },
    /// There is no primary: requests are held.
    NoPrimary {
        /// Who was.
        was: String,
        /// Why, in words.
        why: String,
    },
    /// A hold was ordered.
    HoldBegan {
        /// By which process.
        by: String,
        /// It ends by itself after this time.
        for_ms: u64,
    },
    /// It is over.
    HoldEnded {
        /// By which process it was ordered.
        by: String,
        /// How long it lasted.
        lasted_ms: f64,
        /// `released`, `switched` or `deadline`.
        how: String,
    },
    /// A switchover that this process was asked for has ended.
    SwitchoverEnded {
        /// How.
        outcome: Outcome,
        /// Primary before.
        from: Option<String>,
        /// The node to promote.
        to: Option<String>,
        /// From the order to the release.
        took_ms: f64,
        /// Where and why it stopped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stopped: Option<Stopped>,
    },
    /// Nothing proves who has the data: `changeover adopt NODE` decides.
    Doubt {
        /// In words.
        why: String,
    },
    /// It is over.
    DoubtEnded,
    /// A second node says that it is primary; it gets no traffic.
    SecondPrimary {
        /// Which.
        node: String,
    },
    /// A node gives no usable answer: for a reason, or for another reason than before.
    NodeTrouble {
        /// Which.
        node: String,
        /// In words.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// It answers as it should again, or is gone for good.
    NodeWell {
        /// Which.
        node: String,
    },
    /// An operator ended a doubt.
    Adopted {
        /// The node that is followed.
        node: String,
    },
    /// A failover of this process has come to this point.
    Failover {
        /// The node that it is about.
        node: String,
        /// In words.
        step: String,
    },
    /// A drain began.
    DrainBegan {
        /// Who ordered it.
        why: String,
        /// Connections then open.
        open: u64,
        /// What is left is cut after this time.
        deadline_ms: u64,
    },
    /// A drain is over; the process ends.
    Drained {
        /// Connections closed at a quiet moment.
        closed: u64,
        /// Connections cut at the deadline.
        cut: u64,
        /// How long it took.
        took_ms: f64,
    },
    /// Certificates were read again.
    Reloaded {
        /// Why those in force stay.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// Written by a newer version.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object_and_what_is_newer_is_no_error() {
        let event = AdminEvent { seq: 7, at_unix_ms: 9, what: What::Adopted { node: "b".into() } };
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(line, r#"{"seq":7,"at_unix_ms":9,"event":"adopted","node":"b"}"#);
        assert_eq!(serde_json::from_str::<AdminEvent>(&line).unwrap(), event);
        let newer: AdminEvent = serde_json::from_str(r#"{"seq":1,"at_unix_ms":2,"event":"tea","cups":3}"#).unwrap();
        assert_eq!(newer.what, What::Unknown);
    }
}
