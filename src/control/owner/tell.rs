//! The owner tells: the status, as operators and the readiness check see it.

use std::sync::Arc;
use std::time::Duration;

use super::Owner;
use crate::config::FailoverMode;
use crate::io::admin::status::{
    ConnectionsStatus, FailoverStatus, FeltStatus, HoldStatus, NodeLink, NodeRole, NodeStatus, PeerStatus, Status,
    ViewState, ViewStatus, WitnessStatus,
};
use crate::io::admin::whole_ms;
use crate::io::clock;
use crate::io::files::OpenFiles;
use crate::metrics::worker::{Counter, Gauge, Totals};
use crate::topology::{Gone, NoPrimary, NodeId, Reach, Role};

impl Owner {
    pub(super) fn publish_status(&self, now: Duration) {
        let status = self.status(now);
        for (node, told) in (0_u8..).zip(&status.nodes) {
            if let Some(lag) = told.lag_bytes.or((told.role == Some(NodeRole::Primary)).then_some(0)) {
                self.events.lag(NodeId(node), lag);
            }
        }
        if let Some(failover) = &status.failover {
            let heard = failover.witness.as_ref().is_some_and(|witness| witness.heard);
            self.events.outlook(failover.would_promote, failover.cut_off, heard);
        }
        self.reins.status.send_replace(Arc::new(status));
    }

    /// One line, for the service manager.
    pub(super) fn headline(&self) -> String {
        let view = self.topology.view();
        match &view.primary {
            Ok(node) => format!("primary {}, epoch {}", self.node_name(*node), view.epoch),
            Err(reason) => format!("no primary: {}", self.reason(reason)),
        }
    }

    pub(super) fn status(&self, now: Duration) -> Status {
        let totals = Totals::of(&self.stats);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.me.instance.clone(),
            node: self.me.node.clone(),
            at_unix_ms: clock::unix_millis(),
            uptime_ms: whole_ms(now),
            nodes: self.nodes_status(now),
            view: self.view_status(now),
            acknowledge: self.acknowledge(),
            hold: self.hold_status(totals.gauge(Gauge::HeldSessions), now),
            connections: ConnectionsStatus {
                open: totals.gauge(Gauge::ConnectionsOpen),
                accepted: totals.counter(Counter::ConnectionsAccepted),
                commands: totals.commands(),
                most: u64::try_from(self.config.limits.connections).unwrap_or(u64::MAX),
                open_files: OpenFiles::look().limit,
            },
            felt: felt(&totals),
            peers: self.peers_status(now),
            channel: Some(self.channel_status()),
            last_changes: self.changes.reports(),
            drain: self.drain_status(now),
            failover: self.failover_status(now),
        }
    }

    fn failover_status(&self, now: Duration) -> Option<FailoverStatus> {
        let machine = self.failover.as_ref()?;
        let outlook = self.scene(machine, now).map(|scene| machine.outlook(&scene)).unwrap_or_default();
        let witness = machine.witness_outlook().map(|witness| WitnessStatus {
            heard: witness.hears,
            age_ms: witness.heard.map(|at| whole_ms(now.saturating_sub(at))),
            holder: witness.holder.map(|node| self.node_name(node)),
            term: witness.term,
            lease_left_ms: witness.lease_until.map(|until| whole_ms(until.saturating_sub(now))),
        });
        Some(FailoverStatus {
            mode: if self.config.failover.mode == FailoverMode::Pair { "pair" } else { "sentinel" }.to_owned(),
            state: machine.state().to_owned(),
            would_promote: outlook.would_promote,
            why: outlook.why,
            parked: outlook.parked,
            cut_off: machine.suspends(),
            fence_replicas: outlook.fence.map(|(replicas, _)| replicas),
            fence_max_lag_ms: outlook.fence.map(|(_, lag)| whole_ms(lag)),
            witness,
        })
    }

    pub(super) fn view_status(&self, now: Duration) -> ViewStatus {
        let view = self.topology.view();
        let state = match &view.primary {
            Ok(_) => ViewState::Serving,
            Err(NoPrimary::Starting) => ViewState::Starting,
            Err(NoPrimary::Demoted) => ViewState::Demoted,
            Err(NoPrimary::Lost | NoPrimary::Loading(_) | NoPrimary::Unproven(_)) => ViewState::Lost,
            Err(NoPrimary::Doubt(_)) => ViewState::Doubt,
        };
        ViewStatus {
            epoch: view.epoch.0,
            primary: view.primary.as_ref().ok().map(|node| self.node_name(*node)),
            state,
            reason: view.primary.as_ref().err().map(|reason| self.reason(reason)),
            since_ms: whole_ms(now.saturating_sub(self.view_since)),
        }
    }

    fn hold_status(&self, sessions: u64, now: Duration) -> Option<HoldStatus> {
        if let Some(hold) = self.holding.current() {
            return Some(HoldStatus {
                why: format!("switchover ordered by {}", hold.by),
                since_ms: whole_ms(now.saturating_sub(hold.began)),
                left_ms: whole_ms(hold.until.saturating_sub(now)),
                sessions,
            });
        }
        let reason = self.topology.view().primary.as_ref().err()?;
        Some(HoldStatus {
            why: format!("no primary: {}", self.reason(reason)),
            since_ms: whole_ms(now.saturating_sub(self.view_since)),
            left_ms: whole_ms((self.view_since + self.config.hold.time).saturating_sub(now)),
            sessions,
        })
    }

    fn nodes_status(&self, now: Duration) -> Vec<NodeStatus> {
        let primary = self.topology.view().primary.as_ref().ok();
        let of_primary = primary.and_then(|node| self.topology.node(*node)).and_then(|state| state.report.as_ref());
        let ahead = of_primary.map(|report| report.replication.offset);
        let all = (0_u8..).map(NodeId).zip(&self.config.nodes);
        all.map(|(id, node)| {
            let addr = format!("{}:{}", node.host, node.port);
            self.node_status(id, NodeStatus { name: node.name.clone(), addr, ..NodeStatus::default() }, ahead, now)
        })
        .collect()
    }

    fn node_status(&self, id: NodeId, mut told: NodeStatus, ahead: Option<u64>, now: Duration) -> NodeStatus {
        let Some(state) = self.topology.node(id) else { return told };
        let since = state.heard_at.map(|at| now.saturating_sub(at));
        told.last_heard_ms = since.map(whole_ms);
        let trouble = self.trouble_in_words(id);
        let why = || trouble.as_ref().map(|(why, _)| why.clone());
        (told.link, told.detail) = match &state.reach {
            Reach::Unheard => (NodeLink::Unknown, String::new()),
            Reach::Answering => (NodeLink::Up, why().unwrap_or_default()),
            Reach::Erring => (NodeLink::Error, why().unwrap_or_default()),
            Reach::Suspect(gone) => (NodeLink::Down, gone_in_words(gone)),
            Reach::Refused => (NodeLink::Down, "connection refused".to_owned()),
            Reach::Silent => {
                let since = since.map_or_else(String::new, |since| format!(" for {:.1} s", since.as_secs_f64()));
                (NodeLink::Silent, why().unwrap_or_else(|| format!("silent{since}")))
            }
        };
        told.remedy = trouble.map(|(_, remedy)| remedy);
        let Some(report) = &state.report else { return told };
        let replication = &report.replication;
        let role = report.role();
        told.role = Some(match role {
            Role::Primary => NodeRole::Primary,
            Role::Replica => NodeRole::Replica,
        });
        let (server, version) = report.server.product();
        (told.server, told.redis_version) = (Some(server.to_owned()), Some(version.to_owned()));
        told.run_id = Some(report.server.run_id.to_string());
        told.replid = Some(replication.replid.to_string());
        told.replid2 = replication.replid2.map(|id| id.to_string());
        let link = replication.primary_link.as_ref();
        let offset = link.map_or(replication.offset, |link| link.slave_repl_offset);
        told.offset = Some(offset);
        told.primary_link_up = link.map(|link| link.up);
        if role == Role::Replica {
            told.lag_bytes = ahead.map(|ahead| ahead.saturating_sub(offset));
        }
        told
    }

    fn peers_status(&self, now: Duration) -> Vec<PeerStatus> {
        self.peers
            .iter()
            .map(|(instance, peer)| PeerStatus {
                instance: instance.to_owned(),
                node: peer.node.clone(),
                age_ms: whole_ms(now.saturating_sub(peer.heard)),
                clock_ahead_ms: peer.clock_ahead_ms,
            })
            .collect()
    }
}

fn felt(totals: &Totals) -> FeltStatus {
    let sum = |counters: &[Counter]| counters.iter().map(|counter| totals.counter(*counter)).sum();
    FeltStatus {
        waits: sum(&[
            Counter::HoldsReleased,
            Counter::HoldsRefused,
            Counter::HoldsLimitTime,
            Counter::HoldsLimitBytes,
            Counter::HoldsLimitRequests,
            Counter::HoldsClosed,
        ]),
        errors: sum(&[Counter::ErrorsAuthored]),
        closed_by_us: sum(&[Counter::ClosedDrain, Counter::ClosedDrainCut]),
        closed_by_clients: sum(&[Counter::ClosedByClient, Counter::ClosedReset]),
    }
}

fn gone_in_words(gone: &Gone) -> String {
    match gone {
        Gone::Refused => "connection refused".to_owned(),
        Gone::EndOfFile => "connection ended".to_owned(),
        Gone::Failed(trouble) => trouble.to_string(),
    }
}
