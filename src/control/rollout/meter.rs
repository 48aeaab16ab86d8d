//! What clients felt of each step, as the proxies of a shard count it: read when the step is announced and when it has
//! ended, and the difference is written down with it.
//!
//! It measures; it decides nothing, and a step never waits for it longer than [`DEADLINE`]. What a proxy counted between
//! the last look and its own end (a drain) is lost; a proxy that was started meanwhile counts from nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::fleet::{Fleet, Node};
use crate::io::admin::access::Access;
use crate::io::admin::status::{FeltStatus, Status};
use crate::io::clock;
use crate::patch::journal::{At, Felt, Record};
use crate::patch::plan::{Plan, Step};

/// For everything that is asked about one step.
const DEADLINE: Duration = Duration::from_secs(2);

/// What was read last, for each shard and process.
#[derive(Debug, Default)]
pub(super) struct Meter {
    shards: BTreeMap<String, Reading>,
}

#[derive(Debug, Default)]
struct Reading {
    began_unix_ms: u64,
    /// Changes of primary until then were told.
    told_unix_ms: u64,
    counted: BTreeMap<String, FeltStatus>,
}

impl Meter {
    /// Reads where the record begins or ends a step, and adds to it what was felt.
    pub(super) async fn handle_record(&mut self, record: &mut Record, fleet: &Fleet, access: &Access, plan: &Plan) {
        match record {
            Record::Begun(at) if !self.shards.contains_key(&at.shard) => {
                let now = clock::unix_millis();
                let read = self.read(&at.shard, fleet, access).await;
                let counted = read.into_iter().map(|status| (status.instance, status.felt)).collect();
                self.shards.insert(at.shard.clone(), Reading { began_unix_ms: now, told_unix_ms: now, counted });
            }
            Record::Ended { at, felt, .. } => {
                self.add(&at.shard, felt, fleet, access).await;
                if at.step == Step::Sync {
                    *felt = resynced(at, *felt, fleet, access, plan).await;
                }
            }
            _ => {}
        }
    }

    async fn add(&mut self, shard: &str, felt: &mut Felt, fleet: &Fleet, access: &Access) {
        if !self.shards.contains_key(shard) {
            return;
        }
        let read = self.read(shard, fleet, access).await;
        let Some(reading) = self.shards.get_mut(shard) else { return };
        let told = std::mem::replace(&mut reading.told_unix_ms, clock::unix_millis());
        for status in read {
            let (started_unix_ms, now) = (status.at_unix_ms.saturating_sub(status.uptime_ms), status.felt);
            // A switchover has told of its own change; any other is one that nobody ordered, or a crash.
            for change in status.last_changes.iter().filter(|change| change.at_unix_ms >= told && felt.held.is_none()) {
                let longest = [felt.longest_stall_ms, change.longest_stall_ms].into_iter().flatten().reduce(f64::max);
                felt.longest_stall_ms = longest;
                felt.lost_bytes = felt.lost_bytes.max(change.lost_bytes);
            }
            let known = reading.counted.insert(status.instance, now);
            // One that is new and was there before was not reached at first: nothing is known of it yet.
            let before = match known {
                Some(before) => before,
                None if started_unix_ms >= reading.began_unix_ms => FeltStatus::default(),
                None => continue,
            };
            let add = |sum: &mut Option<u64>, now: u64, before: u64| {
                *sum = Some(sum.unwrap_or_default() + now.saturating_sub(before));
            };
            add(&mut felt.waits, now.waits, before.waits);
            add(&mut felt.errors, now.errors, before.errors);
            add(&mut felt.closed_by_clients, now.closed_by_clients, before.closed_by_clients);
        }
    }

    /// Every proxy of the shard that answers.
    async fn read(&self, shard: &str, fleet: &Fleet, access: &Access) -> Vec<Status> {
        let nodes = fleet.shard(shard).map_or(&[][..], |shard| shard.nodes.as_slice());
        let one = |node: Option<Node>| async {
            let client = access.client(&node?.admin);
            tokio::time::timeout(DEADLINE, client.status()).await.ok()?.ok()
        };
        let (first, second) = tokio::join!(one(nodes.first().cloned()), one(nodes.get(1).cloned()));
        [first, second].into_iter().flatten().collect()
    }
}

/// How much a node that has come back had to be sent, and whether everything: what its server has received since it was
/// started, as the server counts it (Redis 7.0 and later).
async fn resynced(at: &At, felt: Felt, fleet: &Fleet, access: &Access, plan: &Plan) -> Felt {
    let nodes = fleet.shard(&at.shard).map_or(&[][..], |shard| shard.nodes.as_slice());
    let pair = plan.shards.iter().any(|shard| shard.name == at.shard && shard.is_pair());
    for node in nodes.iter().filter(|_| pair) {
        let client = access.client(&node.admin);
        let Ok(Ok(examination)) = tokio::time::timeout(DEADLINE, client.examine(true)).await else { continue };
        let back = examination.nodes.iter().find(|node| node.name == at.node);
        let bytes = back.and_then(|node| node.number("total_net_repl_input_bytes"));
        return Felt { resync_bytes: bytes, ..felt };
    }
    felt
}
