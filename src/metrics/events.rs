//! The rare events of the owner, recorded through the `metrics` facade.
//!
//! One method for each thing that happens, so that no metric's name is typed anywhere else. Nothing here is called per
//! command: the facade queues every sample of a histogram until it is scraped. Without an installed recorder every
//! method does nothing.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::catalogue::{self as table, Family, Kind, Source};
use crate::topology::Trouble;
use crate::topology::node::NodeId;
use crate::topology::view::{NoPrimary, View};

/// Records what the owner sees. Knows the nodes' names, which are labels.
#[derive(Clone, Debug)]
pub struct Events {
    nodes: Vec<String>,
}

/// How a question to a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Answered.
    Ok,
    /// Not answered in time.
    Silent,
    /// Answered with an error.
    Error,
    /// Connection refused or ended, or not to be had.
    Gone,
}

impl Events {
    /// For these nodes, in configured order. Describes every metric and sets every series to 0, so that the first
    /// event is an increase and not a new series (which `increase()` would not see).
    pub fn new(nodes: Vec<String>) -> Self {
        let events = Self { nodes };
        for family in table::ALL.iter().filter(|family| family.source == Source::Control) {
            describe(family);
            if *family != &table::BUILD_INFO {
                events.zero(family);
            }
        }
        gauge!(table::BUILD_INFO.name, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        events
    }

    fn zero(&self, family: &Family) {
        let mut series: Vec<Vec<metrics::Label>> = vec![Vec::new()];
        for label in family.labels {
            let values: Vec<String> = match label.values {
                [] => self.nodes.clone(),
                closed => closed.iter().map(|(value, _)| (*value).to_owned()).collect(),
            };
            series = series
                .iter()
                .flat_map(|head| {
                    values.iter().map(move |value| {
                        let mut labels = head.clone();
                        labels.push(metrics::Label::new(label.name, value.clone()));
                        labels
                    })
                })
                .collect();
        }
        for labels in series {
            match family.kind {
                Kind::Counter => counter!(family.name, labels).absolute(0),
                Kind::Gauge => gauge!(family.name, labels).set(0.0),
                Kind::Histogram => drop(histogram!(family.name, labels)),
            }
        }
    }

    fn name(&self, node: NodeId) -> String {
        self.nodes.get(node.index()).cloned().unwrap_or_default()
    }

    /// A view was published.
    pub fn view(&self, view: &View) {
        gauge!(table::VIEW_EPOCH.name).set(float(view.epoch.0));
        for (at, node) in self.nodes.iter().enumerate() {
            let primary = view.primary.as_ref().is_ok_and(|primary| primary.index() == at);
            gauge!(table::PRIMARY.name, "node" => node.clone()).set(flag(primary));
        }
        gauge!(table::DOUBT.name).set(flag(matches!(view.primary, Err(NoPrimary::Doubt(_)))));
    }

    /// The primary changed; `kind` is one of the catalogue's.
    pub fn changed(&self, kind: &'static str, took: Duration, lost_bytes: Option<u64>) {
        counter!(table::CHANGES.name, "kind" => kind).increment(1);
        histogram!(table::CHANGE_SECONDS.name, "kind" => kind).record(took);
        counter!(table::LOST_BYTES.name).increment(lost_bytes.unwrap_or(0));
    }

    /// The workers have told how long clients were held for the newest change; once for each change.
    pub fn felt(&self, kind: &'static str, longest: Duration) {
        histogram!(table::CHANGE_STALL_SECONDS.name, "kind" => kind).record(longest);
        gauge!(table::LAST_STALL_SECONDS.name).set(longest.as_secs_f64());
    }

    /// A switchover that this process was asked for has ended; `outcome` is one of the catalogue's.
    pub fn switchover(&self, outcome: &'static str) {
        counter!(table::SWITCHOVERS.name, "outcome" => outcome).increment(1);
    }

    /// A promotion was ordered; `proof` is one of the catalogue's.
    pub fn promotion(&self, proof: &'static str) {
        counter!(table::PROMOTIONS.name, "proof" => proof).increment(1);
    }

    /// The replica is not promoted for now; `reason` is one of the catalogue's.
    pub fn refusal(&self, reason: &'static str) {
        counter!(table::REFUSALS.name, "reason" => reason).increment(1);
    }

    /// An old primary with so many bytes of its own becomes a replica.
    pub fn split(&self, bytes: u64) {
        counter!(table::SPLIT_BYTES.name).increment(bytes);
    }

    /// What an old primary has was to be saved.
    pub fn rdb_saved(&self, saved: bool) {
        counter!(table::RDB_SAVES.name, "result" => if saved { "ok" } else { "failed" }).increment(1);
    }

    /// A message on the pair's channel is not believed; `reason` is one of the catalogue's.
    pub fn refused_message(&self, reason: &'static str) {
        counter!(table::CHANNEL_REFUSED.name, "reason" => reason).increment(1);
    }

    /// How a failover would go now.
    pub fn outlook(&self, would_promote: bool, cut_off: bool, witness_heard: bool) {
        gauge!(table::WOULD_PROMOTE.name).set(flag(would_promote));
        gauge!(table::CUT_OFF.name).set(flag(cut_off));
        gauge!(table::WITNESS_HEARD.name).set(flag(witness_heard));
    }

    /// A question to a node has ended.
    pub fn probe(&self, node: NodeId, probe: Probe) {
        let result = match probe {
            Probe::Ok => "ok",
            Probe::Silent => "silent",
            Probe::Error => "error",
            Probe::Gone => "gone",
        };
        counter!(table::PROBES.name, "node" => self.name(node), "result" => result).increment(1);
        gauge!(table::NODE_UP.name, "node" => self.name(node)).set(flag(probe == Probe::Ok));
    }

    /// What is wrong with a node now; one of [`Trouble::KINDS`].
    pub fn trouble(&self, node: NodeId, kind: Option<&'static str>) {
        for (reason, _) in Trouble::KINDS {
            let set = flag(kind == Some(reason));
            gauge!(table::NODE_TROUBLE.name, "node" => self.name(node), "reason" => reason).set(set);
        }
    }

    /// A replica's distance from the primary; 0 for the primary.
    pub fn lag(&self, node: NodeId, bytes: u64) {
        gauge!(table::NODE_LAG_BYTES.name, "node" => self.name(node)).set(float(bytes));
    }

    /// How many other processes of the pair are heard.
    pub fn peers(&self, heard: usize) {
        gauge!(table::PEERS.name).set(float(u64::try_from(heard).unwrap_or(u64::MAX)));
    }

    /// A drain began, or the process serves again.
    pub fn draining(&self, draining: bool) {
        gauge!(table::DRAINING.name).set(flag(draining));
    }

    /// A worker has drained: so many connections were closed between two commands, left by themselves, were cut.
    pub fn drained(&self, closed: u64, moved: u64, cut: u64) {
        counter!(table::DRAINED.name, "how" => "closed").increment(closed);
        counter!(table::DRAINED.name, "how" => "moved").increment(moved);
        counter!(table::DRAINED.name, "how" => "cut").increment(cut);
    }

    /// A reload was tried.
    pub fn reload(&self, accepted: bool) {
        counter!(table::RELOADS.name, "result" => if accepted { "ok" } else { "failed" }).increment(1);
    }

    /// The memory was saved, or not.
    pub fn saved(&self, saved: bool) {
        counter!(table::STATE_SAVES.name, "result" => if saved { "ok" } else { "failed" }).increment(1);
    }
}

fn describe(family: &Family) {
    match family.kind {
        Kind::Counter => describe_counter!(family.name, family.help),
        Kind::Gauge => describe_gauge!(family.name, family.help),
        Kind::Histogram => describe_histogram!(family.name, family.help),
    }
}

fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

/// Prometheus' numbers are floats: exact up to 2^53, which no count here reaches.
fn float(number: u64) -> f64 {
    number as f64
}
