//! Reads what the proxies of a shard say: is it healthy, and may this node be taken down now?
//!
//! It decides nothing else. Invariant: anything that was not seen counts as bad; two proxies that disagree are bad.

use std::time::Duration;

/// A look at a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When the look began: what is seen later than that may be older than what was done since.
    pub asked_at: Duration,
    /// What the proxy beside each node says, in the order of the shard's nodes.
    pub proxies: Vec<Proxy>,
}

/// What the proxy beside a node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// No usable answer; why.
    Down(String),
    /// Its answer.
    Up(Sight),
}

/// The shard as one proxy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Whether clients may be sent to it; why not.
    pub ready: Result<(), String>,
    /// The node that it follows.
    pub primary: Option<usize>,
    /// The nodes as it hears them, in the order of the shard's nodes.
    pub nodes: Vec<NodeSeen>,
}

/// A node as a proxy hears it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSeen {
    /// Whether it answers; why not.
    pub up: Result<(), String>,
    /// It says that it is primary.
    pub primary: bool,
    /// Its process.
    pub run_id: Option<String>,
    /// For a replica: linked, and near enough; why not.
    pub in_sync: Result<(), String>,
}

/// The primary of a shard in which everything is as it should be.
///
/// # Errors
/// The first thing that is not.
pub fn healthy(seen: &Observation, names: &[String]) -> Result<usize, String> {
    let name = |node: usize| names.get(node).map_or("?", String::as_str);
    let mut agreed = None;
    for (at, proxy) in seen.proxies.iter().enumerate() {
        let sight = serving(proxy, name(at))?;
        let primary = followed(sight, name(at))?;
        if *agreed.get_or_insert(primary) != primary {
            return Err("the two proxies follow different nodes".to_owned());
        }
        for (node, seen) in sight.nodes.iter().enumerate() {
            seen.up.as_ref().map_err(|why| format!("{}: {why}", name(node)))?;
            match (seen.primary, node == primary) {
                (true, true) => {}
                (false, false) => seen.in_sync.clone().map_err(|why| format!("{}: {why}", name(node)))?,
                (true, false) => return Err(format!("{} says that it is primary as well", name(node))),
                (false, true) => return Err(format!("{} says that it is a replica", name(node))),
            }
        }
        if sight.nodes.len() != names.len() {
            return Err(format!("the proxy of {} does not know every node", name(at)));
        }
    }
    if seen.proxies.len() != names.len() {
        return Err("not every proxy was asked".to_owned());
    }
    agreed.ok_or_else(|| "a shard without nodes".to_owned())
}

/// Whether `node` may be taken down: the other node is primary and its proxy serves. `node` itself may be in any state.
/// A single node may always be.
///
/// # Errors
/// Why not.
pub fn expendable(seen: &Observation, names: &[String], node: usize) -> Result<(), String> {
    let name = |node: usize| names.get(node).map_or("?", String::as_str);
    if names.len() < 2 {
        return Ok(());
    }
    let other = 1 - node.min(1);
    let proxy = seen.proxies.get(other).ok_or_else(|| format!("the proxy of {} was not asked", name(other)))?;
    let sight = serving(proxy, name(other))?;
    if followed(sight, name(other))? != other {
        return Err(format!("{} is primary", name(node)));
    }
    let alive = sight.nodes.get(other).ok_or_else(|| format!("{} is unknown to its proxy", name(other)))?;
    alive.up.as_ref().map_err(|why| format!("{}: {why}", name(other)))?;
    if !alive.primary {
        return Err(format!("{} does not say that it is primary", name(other)));
    }
    // The node's own proxy may be gone by now; while it is not, its word counts too.
    match seen.proxies.get(node) {
        Some(Proxy::Up(own)) if own.primary == Some(node) => {
            Err(format!("the proxy of {} still follows it", name(node)))
        }
        _ => Ok(()),
    }
}

/// The process that runs on `node`, as any proxy hears it; the other node's proxy first, because it outlives the work.
pub fn run_id(seen: &Observation, node: usize) -> Option<&str> {
    let sights = seen.proxies.iter().enumerate().filter_map(|(at, proxy)| match proxy {
        Proxy::Up(sight) => Some((at == node, sight)),
        Proxy::Down(_) => None,
    });
    let mut heard: Vec<_> =
        sights.filter_map(|(own, sight)| Some((own, sight.nodes.get(node)?.run_id.as_deref()?))).collect();
    heard.sort_by_key(|(own, _)| *own);
    heard.first().map(|(_, run_id)| *run_id)
}

fn serving<'a>(proxy: &'a Proxy, name: &str) -> Result<&'a Sight, String> {
    match proxy {
        Proxy::Down(why) => Err(format!("the proxy of {name}: {why}")),
        Proxy::Up(sight) => match &sight.ready {
            Ok(()) => Ok(sight),
            Err(why) => Err(format!("the proxy of {name} is not ready: {why}")),
        },
    }
}

fn followed(sight: &Sight, name: &str) -> Result<usize, String> {
    sight.primary.ok_or_else(|| format!("the proxy of {name} sees no primary"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(primary: bool) -> NodeSeen {
        NodeSeen { up: Ok(()), primary, run_id: None, in_sync: Ok(()) }
    }

    fn pair(primary: usize) -> Observation {
        let sight =
            Sight { ready: Ok(()), primary: Some(primary), nodes: vec![node(primary == 0), node(primary == 1)] };
        Observation { asked_at: Duration::ZERO, proxies: vec![Proxy::Up(sight.clone()), Proxy::Up(sight)] }
    }

    fn names() -> Vec<String> {
        vec!["a".to_owned(), "b".to_owned()]
    }

    fn change(mut seen: Observation, proxy: usize, change: impl Fn(&mut Sight)) -> Observation {
        let Proxy::Up(sight) = &mut seen.proxies[proxy] else { panic!("down") };
        change(sight);
        seen
    }

    #[test]
    fn a_healthy_pair_has_one_primary_and_everything_else_is_said() {
        assert_eq!(healthy(&pair(1), &names()), Ok(1));
        let cases = [
            (change(pair(0), 1, |sight| sight.primary = Some(1)), "the two proxies follow different nodes"),
            (change(pair(0), 1, |sight| sight.primary = None), "the proxy of b sees no primary"),
            (change(pair(0), 0, |sight| sight.ready = Err("draining".into())), "the proxy of a is not ready: draining"),
            (change(pair(0), 0, |sight| sight.nodes[1].in_sync = Err("link down".into())), "b: link down"),
            (change(pair(0), 0, |sight| sight.nodes[1].primary = true), "b says that it is primary as well"),
            (change(pair(0), 0, |sight| sight.nodes[0].primary = false), "a says that it is a replica"),
            (change(pair(0), 0, |sight| sight.nodes.truncate(1)), "the proxy of a does not know every node"),
        ];
        for (seen, why) in cases {
            assert_eq!(healthy(&seen, &names()), Err(why.to_owned()));
        }
        let one = Observation { proxies: vec![pair(0).proxies[0].clone()], ..pair(0) };
        assert_eq!(healthy(&one, &names()), Err("not every proxy was asked".to_owned()));
    }

    #[test]
    fn a_node_is_expendable_only_while_the_other_serves_as_primary() {
        assert_eq!(expendable(&pair(0), &names(), 1), Ok(()));
        assert_eq!(expendable(&pair(1), &names(), 1), Err("b is primary".to_owned()));
        let mut gone = pair(0);
        gone.proxies[1] = Proxy::Down("drained".into());
        assert_eq!(expendable(&gone, &names(), 1), Ok(()));
        assert_eq!(expendable(&gone, &names(), 0), Err("the proxy of b: drained".to_owned()));
        let sick = change(gone, 0, |sight| sight.nodes[0].up = Err("connection refused".into()));
        assert_eq!(expendable(&sick, &names(), 1), Err("a: connection refused".to_owned()));
        let torn = change(pair(0), 1, |sight| sight.primary = Some(1));
        assert_eq!(expendable(&torn, &names(), 1), Err("the proxy of b still follows it".to_owned()));
    }
}
