//! Watches one node: asks what it is, again and again, and reports what it said or that it did not answer.
//!
//! It draws no conclusion; `topology` does. One connection is one process of the node, so the process' identity is asked
//! when a connection is new (and once a second, for a shutdown that was announced), its replication state each time.
//! A process that is frozen still accepts connections, so the deadline is on the answer.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::client::{Link, LinkError, Reply, Target};
use super::clock;
use crate::config::ProbeTimes;
use crate::protocol::info::{ServerInfo, parse_replication, parse_server};
use crate::topology::node::NodeId;
use crate::topology::{Evidence, Gone, NodeReport};

/// How often a process is asked anew who it is.
const SERVER_EVERY: Duration = Duration::from_secs(1);
/// Between the beginnings of two polls, however many ask for one.
const CLOSEST: Duration = Duration::from_millis(1);
/// First pause after a failure that follows another; doubles up to the interval.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// Evidence with the node that it is about.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// Which node.
    pub node: NodeId,
    /// What was seen.
    pub evidence: Evidence,
}

/// How often every node is asked; a new value is obeyed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between the beginnings of two polls.
    pub interval: Duration,
    /// Whoever raises it has everyone asked now.
    pub kick: u64,
}

struct Connected {
    link: Link,
    server: ServerInfo,
    server_asked: Duration,
}

/// Watches one node until nobody listens any more.
pub async fn watch(target: Target, times: ProbeTimes, mut pace: watch::Receiver<Pace>, out: mpsc::Sender<Sighting>) {
    let mut connected = None;
    let mut failures: u32 = 0;
    loop {
        let interval = pace.borrow_and_update().interval;
        let began = clock::now();
        let evidence = match poll(&mut connected, &target, began, times.deadline).await {
            Ok(report) => {
                failures = 0;
                Evidence::Report(report)
            }
            Err(error) => {
                connected = None;
                failures = failures.saturating_add(1);
                failed(error)
            }
        };
        if out.send(Sighting { node: target.node, evidence }).await.is_err() {
            return;
        }
        let pause = pause(interval, failures);
        let next = clock::instant((began + pause).max(clock::now()));
        tokio::select! {
            () = sleep_until(next) => {}
            changed = pace.changed() => {
                if changed.is_err() {
                    return;
                }
                // A node that cannot be reached is not asked faster because others want to know.
                let soonest = if failures > 1 { next } else { clock::instant(began + CLOSEST).min(next) };
                sleep_until(soonest).await;
            }
        }
    }
}

/// The first failure is looked into at once (an end of file may be a restart), the following ones less and less often.
fn pause(interval: Duration, failures: u32) -> Duration {
    match failures {
        0 => interval,
        1 => Duration::ZERO,
        more => FIRST_PAUSE.saturating_mul(1 << (more - 2).min(16)).min(interval.max(FIRST_PAUSE)),
    }
}

async fn poll(
    connected: &mut Option<Connected>,
    target: &Target,
    asked_at: Duration,
    limit: Duration,
) -> Result<NodeReport, LinkError> {
    let deadline = asked_at + limit;
    let connected = match connected {
        Some(connected) => connected,
        none => {
            let mut link = Link::connect(target, deadline).await?;
            let server_asked = clock::now();
            let answer = link.command(&[b"INFO", b"server"], deadline).await?;
            let server = server(&answer)?;
            none.insert(Connected { link, server, server_asked })
        }
    };
    let ask_server = asked_at.saturating_sub(connected.server_asked) >= SERVER_EVERY;
    if ask_server {
        connected.link.send(&[b"INFO", b"server"], deadline).await?;
    }
    // After a long connect the question is younger than the round: what counts is when the node was asked.
    let asked_at = clock::now();
    connected.link.send(&[b"INFO", b"replication"], deadline).await?;
    if ask_server {
        let answer = connected.link.reply(deadline).await?;
        connected.server = server(&answer)?;
        connected.server_asked = asked_at;
    }
    let answer = connected.link.reply(deadline).await?;
    let replication = answer.bytes().and_then(parse_replication).ok_or_else(unintelligible)?;
    Ok(NodeReport { server: connected.server.clone(), replication, asked_at })
}

fn server(answer: &Reply) -> Result<ServerInfo, LinkError> {
    answer.bytes().and_then(parse_server).ok_or_else(unintelligible)
}

fn unintelligible() -> LinkError {
    LinkError::Failed("its INFO is not understood".to_owned())
}

/// What a failed poll says about the node.
pub fn failed(error: LinkError) -> Evidence {
    match error {
        LinkError::Refused => Evidence::Gone(Gone::Refused),
        LinkError::EndOfFile => Evidence::Gone(Gone::EndOfFile),
        LinkError::TimedOut => Evidence::Silent,
        LinkError::Failed(why) | LinkError::Redis(why) | LinkError::Protocol(why) => Evidence::Gone(Gone::Failed(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_looked_into_at_once_and_the_rest_slow_down_to_the_interval() {
        let interval = Duration::from_millis(100);
        let pauses: Vec<_> = (0..9).map(|failures| pause(interval, failures).as_millis()).collect();
        assert_eq!(pauses, [100, 0, 5, 10, 20, 40, 80, 100, 100]);
        assert_eq!(pause(interval, u32::MAX), interval);
        assert_eq!(pause(Duration::from_millis(2), 7), FIRST_PAUSE);
    }
}
