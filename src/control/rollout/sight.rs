//! What the proxies of a shard say, as `patch` wants to hear it.
//!
//! It asks and translates; `patch::health` judges. Invariant: a look is dated back by the age of the oldest word in it,
//! so that what a proxy heard before an order never passes for what came of it.

use std::time::Duration;

use crate::config::fleet::{Fleet, Node};
use crate::io::admin::access::Access;
use crate::io::admin::status::{NodeLink, NodeRole, NodeStatus, Status};
use crate::io::clock;
use crate::patch::health::{NodeSeen, Observation, Proxy, Sight};
use crate::patch::plan::ShardPlan;

/// For the answer of one proxy.
const DEADLINE: Duration = Duration::from_secs(3);

/// Asks every proxy of the shard at the same time.
pub async fn look(fleet: &Fleet, access: &Access, shard: &ShardPlan) -> Observation {
    let asked = clock::now();
    let nodes = fleet.shard(&shard.name).map_or(&[][..], |shard| shard.nodes.as_slice());
    let (first, second) = tokio::join!(ask(access, nodes.first()), ask(access, nodes.get(1)));
    let answers: Vec<_> = [first, second].into_iter().flatten().collect();
    let age = answers.iter().flatten().flat_map(|status| &status.nodes).filter(|node| node.link == NodeLink::Up);
    let age = age.filter_map(|node| node.last_heard_ms).max().unwrap_or_default();
    let proxies = answers.into_iter().zip(&shard.nodes).map(|(answer, name)| match answer {
        Ok(status) => proxy(&status, name, shard, fleet.max_lag),
        Err(why) => Proxy::Down(why),
    });
    Observation { asked_at: asked.saturating_sub(Duration::from_millis(age)), proxies: proxies.collect() }
}

async fn ask(access: &Access, node: Option<&Node>) -> Option<Result<Status, String>> {
    let client = access.client(&node?.admin);
    Some(match tokio::time::timeout(DEADLINE, client.status()).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("{}: no answer in time", client.name())),
    })
}

fn proxy(status: &Status, name: &str, shard: &ShardPlan, max_lag: u64) -> Proxy {
    if status.node.as_deref() != Some(name) {
        let is = status.node.as_deref().map_or("it does not say which node is its own (--self)".to_owned(), |node| {
            format!("this is the proxy of {node}")
        });
        return Proxy::Down(format!("{is}; the fleet file says that it is that of {name}"));
    }
    let place = |name: &str| shard.nodes.iter().position(|node| node == name);
    let heard = |name: &String| status.nodes.iter().find(|node| node.name == *name).map(|node| seen(node, max_lag));
    Proxy::Up(Sight {
        ready: status.ready(),
        primary: status.view.primary.as_deref().and_then(place),
        nodes: shard.nodes.iter().map_while(heard).collect(),
    })
}

fn seen(node: &NodeStatus, max_lag: u64) -> NodeSeen {
    let up = match node.link {
        NodeLink::Up => Ok(()),
        NodeLink::Unknown => Err("not heard yet".to_owned()),
        NodeLink::Silent | NodeLink::Down | NodeLink::Error if node.detail.is_empty() => {
            Err("it does not answer".to_owned())
        }
        NodeLink::Silent | NodeLink::Down | NodeLink::Error => Err(node.detail.clone()),
    };
    let in_sync = match (node.primary_link_up, node.lag_bytes) {
        (Some(true), Some(lag)) if lag <= max_lag => Ok(()),
        (Some(true), Some(lag)) => Err(format!("{lag} bytes behind the primary")),
        (Some(true), None) => Err("nobody knows how far it is behind the primary".to_owned()),
        _ => Err("its link to the primary is down".to_owned()),
    };
    NodeSeen { up, primary: node.role == Some(NodeRole::Primary), run_id: node.run_id.clone(), in_sync }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::admin::status::{ViewState, ViewStatus};
    use crate::patch::health::healthy;
    use crate::patch::plan::Steps;

    fn shard() -> ShardPlan {
        let nodes = vec!["a".to_owned(), "b".to_owned()];
        ShardPlan { group: "g".into(), name: "s".into(), targets: vec![0, 1], nodes, with: Steps::default() }
    }

    fn status(node: &str) -> Status {
        let one = |name: &str, role| NodeStatus {
            name: name.into(),
            role: Some(role),
            link: NodeLink::Up,
            primary_link_up: (role == NodeRole::Replica).then_some(true),
            lag_bytes: (role == NodeRole::Replica).then_some(9),
            ..NodeStatus::default()
        };
        let view = ViewStatus { primary: Some("b".into()), state: ViewState::Serving, ..ViewStatus::default() };
        // In the order of that process' own configuration, which need not be that of the fleet file.
        let nodes = vec![one("b", NodeRole::Primary), one("a", NodeRole::Replica)];
        Status { node: Some(node.into()), nodes, view, ..Status::default() }
    }

    fn health(a: &Status, b: &Status, max_lag: u64) -> Result<usize, String> {
        let shard = shard();
        let proxies = vec![proxy(a, "a", &shard, max_lag), proxy(b, "b", &shard, max_lag)];
        healthy(&Observation { asked_at: Duration::ZERO, proxies }, &shard.nodes)
    }

    #[test]
    fn nodes_are_told_apart_by_their_names() {
        assert_eq!(health(&status("a"), &status("b"), 9), Ok(1));
        assert_eq!(health(&status("a"), &status("b"), 8), Err("a: 9 bytes behind the primary".into()));
        let swapped = health(&status("b"), &status("a"), 9).unwrap_err();
        assert!(swapped.contains("this is the proxy of b; the fleet file says that it is that of a"), "{swapped}");
    }

    #[test]
    fn what_a_node_does_not_say_is_not_taken_for_well() {
        let mut odd = status("a");
        odd.nodes[1].lag_bytes = None;
        assert!(health(&odd, &status("b"), 9).unwrap_err().contains("nobody knows"));
        odd.nodes[1].primary_link_up = None;
        assert!(health(&odd, &status("b"), 9).unwrap_err().contains("link to the primary is down"));
        odd.nodes.pop();
        assert!(health(&odd, &status("b"), 9).unwrap_err().contains("does not know every node"));
    }
}
