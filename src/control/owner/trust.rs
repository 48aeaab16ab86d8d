//! The owner and what it believes of the pair's channel: the seal, what is refused, and names that do not agree.
//!
//! Without a secret the channel can at most hold clients within our own limits. Nothing else is said there, or believed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Owner;
use crate::config::{Config, FailoverMode};
use crate::control::channel::Nonce;
use crate::control::seal::Seal;
use crate::io::admin::status::ChannelStatus;
use crate::topology::evidence::NodeReport;

/// Without a secret, one hold by others lasts no longer, whatever it says.
pub(super) const UNSEALED_HOLD: Duration = Duration::from_secs(5);
/// Between two warnings about messages that are refused for the same reason.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// The other process must have contradicted our names for this long: after a restart of a node both take their time.
const CONTRADICTS_FOR: Duration = Duration::from_secs(3);

/// Messages that were refused, and names that do not agree.
#[derive(Debug, Default)]
pub(super) struct Distrust {
    refused: BTreeMap<&'static str, (u64, Option<Duration>)>,
    /// Since when another process has other names for the nodes, in words, and whether that was said.
    contradicted: Option<(Duration, String, bool)>,
}

/// Says at the start what the channel is good for.
pub(super) fn announce(config: &Config) {
    if config.channel_secret.is_some() {
        return;
    }
    let next = "make a secret (changeover secret FILE) and give both proxies the same file (channel-secret-file)";
    tracing::warn!(
        channel = config.channel,
        next,
        "the pair's channel is not authenticated: a client that may publish at Redis, or run a script, can hold everybody \
         for a while"
    );
    match (config.failover.mode, &config.witness) {
        (FailoverMode::Pair, Some(_)) => tracing::warn!(
            next,
            "without channel-secret-file the proxies give each other no leases: when the witness is away for longer than \
             witness-lease, the node in service is not served"
        ),
        (FailoverMode::Pair, None) => tracing::warn!(
            next,
            "without channel-secret-file a promotion rests on what this proxy sees alone; the other one is not asked"
        ),
        _ => {}
    }
}

impl Owner {
    /// What seals our messages now; `None`: nothing does.
    pub(super) fn seal(&self) -> Option<Arc<Seal>> {
        self.reins.seal.as_ref().map(|seal| Arc::clone(&seal.borrow()))
    }

    /// Messages are authenticated.
    pub(super) fn is_sealed(&self) -> bool {
        self.reins.seal.is_some()
    }

    /// The longest that a switchover of ours may hold: as long as the others would.
    pub(super) fn longest_hold(&self) -> Duration {
        if self.is_sealed() { self.config.hold.time } else { self.config.hold.time.min(UNSEALED_HOLD) }
    }

    /// Draws another challenge when it is time to.
    pub(super) fn draw_challenge(&mut self, now: Duration) {
        if !self.is_sealed() || !self.peers.needs_challenge(now) {
            return;
        }
        let mut random = [0_u8; 16];
        match getrandom::fill(&mut random) {
            Ok(()) => self.peers.challenge(Nonce(u128::from_le_bytes(random)), now),
            Err(error) => tracing::error!(%error, "no random number: the others cannot be challenged"),
        }
    }

    /// A message is not believed; `reason` is one of the catalogue's.
    pub(super) fn distrust(&mut self, reason: &'static str, why: &str, now: Duration) {
        self.events.refused_message(reason);
        let (count, warned) = self.distrust.refused.entry(reason).or_default();
        *count += 1;
        self.dirty |= *count == 1;
        if warned.is_none_or(|warned| now.saturating_sub(warned) >= WARN_EVERY) {
            *warned = Some(now);
            tracing::warn!(reason, why, so_far = *count, "a message on the pair's channel is ignored");
        }
    }

    /// Compares the others' names for the nodes with ours.
    pub(super) fn compare_names(&mut self, now: Duration) {
        let ours: Vec<_> = (0_u8..)
            .zip(&self.config.nodes)
            .filter_map(|(at, node)| {
                let report = self.topology.node(crate::topology::NodeId(at))?.current()?;
                Some((node.name.as_str(), NodeReport::run_id(report).to_string()))
            })
            .collect();
        let same = match ours.as_slice() {
            [(first, one), (second, other)] if one == other => {
                Some(format!("{first} and {second} are one process of Redis: one of the addresses is wrong"))
            }
            _ => None,
        };
        let contradiction = same.or_else(|| {
            self.peers.claims(now).find_map(|(who, name, process)| {
                let (other, _) = ours.iter().find(|(own, run_id)| *own != name && run_id == process)?;
                ours.iter().find(|(own, run_id)| *own == name && run_id != process)?;
                Some(format!(
                    "{who} calls {name} what is {other} here: the nodes' names are swapped on one of the proxies"
                ))
            })
        });
        let Some(text) = contradiction else {
            if self.distrust.contradicted.take().is_some_and(|(.., said)| said) {
                tracing::info!("the proxies' names for the nodes agree again");
                self.dirty = true;
            }
            return;
        };
        let (since, said) =
            self.distrust.contradicted.as_ref().map_or((now, false), |(since, _, said)| (*since, *said));
        let due = now.saturating_sub(since) >= CONTRADICTS_FOR;
        if due && !said {
            tracing::error!(why = text, "the proxies' names for the nodes do not agree; correct `node` on one of them");
            self.dirty = true;
        }
        self.distrust.contradicted = Some((since, text, said || due));
    }

    pub(super) fn channel_status(&self) -> ChannelStatus {
        let contradiction = self.distrust.contradicted.as_ref().filter(|(.., said)| *said);
        ChannelStatus {
            authenticated: self.is_sealed(),
            refused: self.distrust.refused.iter().map(|(reason, (count, _))| ((*reason).to_owned(), *count)).collect(),
            names: contradiction.map(|(_, text, _)| text.clone()),
        }
    }
}
