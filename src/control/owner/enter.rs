//! The owner and its diary: what is worth telling operators is entered here and published.

use super::Owner;
use crate::control::holding::{End, Ended};
use crate::io::admin::events::What;
use crate::io::admin::status::ChangeReport;
use crate::io::admin::{SwitchoverReport, ms, whole_ms};
use crate::io::clock;
use crate::topology::failover::Note;

impl Owner {
    /// Enters an event and publishes it.
    pub(super) fn enter(&mut self, what: What) {
        let tail = self.diary.enter(what, clock::unix_millis());
        self.reins.diary.send_replace(tail);
    }

    /// The hold that has just begun.
    pub(super) fn enter_hold(&mut self) {
        let hold = self.holding.current().map(|hold| (hold.by.clone(), hold.until.saturating_sub(hold.began)));
        if let Some((by, time)) = hold {
            self.enter(What::HoldBegan { by, for_ms: whole_ms(time) });
        }
    }

    pub(super) fn enter_hold_ended(&mut self, ended: &Ended) {
        let how = match ended.how {
            End::Released => "released",
            End::Switched => "switched",
            End::Deadline => "deadline",
        };
        self.enter(What::HoldEnded { by: ended.by.clone(), lasted_ms: ms(ended.lasted), how: how.to_owned() });
    }

    pub(super) fn enter_change(&mut self, report: &ChangeReport) {
        let (from, to) = (report.from.clone(), report.to.clone());
        let (epoch, took_ms, lost_bytes) = (report.epoch, report.took_ms, report.lost_bytes);
        self.enter(What::Changed { kind: report.kind, from, to, epoch, took_ms, lost_bytes });
    }

    pub(super) fn enter_switchover(&mut self, report: &SwitchoverReport) {
        self.enter(What::SwitchoverEnded {
            outcome: report.outcome,
            from: report.from.clone(),
            to: report.to.clone(),
            took_ms: report.took_ms,
            stopped: report.stopped.clone(),
        });
    }

    pub(super) fn enter_failover(&mut self, note: &Note) {
        let (node, step) = match note {
            Note::Suspected(node) => (node, "the primary seems lost".to_owned()),
            Note::FalseAlarm(node) => (node, "the primary is there".to_owned()),
            Note::Unfit(node, why) => (node, format!("not promoted: {why}")),
            Note::Unproven(node) => (node, "the primary is silent, and may still take writes".to_owned()),
            Note::Promoting(node, proof) => (node, format!("is promoted: {proof}")),
            Note::Promoted(node, _) => (node, "promoted".to_owned()),
            Note::Rejoining(node, _) => (node, "becomes a replica".to_owned()),
            Note::Rejoined(node) => (node, "a replica in sync".to_owned()),
            Note::LeftAlone(node) => (node, "left as it is: it holds data that the primary lacks".to_owned()),
            // Of no interest to people, or newer than this page.
            _ => return,
        };
        let node = self.node_name(*node);
        self.enter(What::Failover { node, step });
    }
}
