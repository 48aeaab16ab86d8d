//! One snapshot as a page for a terminal of 100 columns or more.
//!
//! The first lines answer the question with which most people come (who is primary, is all well); what is amiss says
//! what to do about it. Times are relative to the snapshot, so that the page depends on nothing else.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::show::{Paint, bytes, count, counted, indented, table, time, time_ms};
use crate::io::admin::status::{
    Acknowledge, ChangeReport, ChannelStatus, FailoverStatus, NodeLink, NodeRole, NodeStatus, Status, ViewState,
    WitnessStatus,
};

/// Characters of an id that tell one from another.
const SHORT_ID: usize = 8;

/// The page.
pub(super) fn page(status: &Status, paint: Paint, zone: &TimeZone) -> String {
    let mut page = head(status, paint);
    page.push('\n');
    for (name, text) in facts(status) {
        page.push_str(&format!("  {name:<8} {text}\n"));
    }
    page.push('\n');
    page.push_str(&nodes(status));
    if !status.last_changes.is_empty() {
        page.push('\n');
        page.push_str(&changes(&status.last_changes, zone));
    }
    page
}

fn head(status: &Status, paint: Paint) -> String {
    let beside = status.node.as_ref().map(|node| format!(" beside {node}")).unwrap_or_default();
    let title = format!("changeover {}{beside}, up {}", status.version, time_ms(status.uptime_ms));
    let mut head = format!("{}\n\n", paint.faint(&title));
    let view = &status.view;
    let stood = paint.faint(&format!("(view {}, for {})", view.epoch, time_ms(view.since_ms)));
    let why = view.reason.as_deref().unwrap_or("no reason given");
    let line = match (view.state, view.primary.as_deref()) {
        (ViewState::Serving, Some(primary)) => paint.good(&format!("● {primary} is primary")),
        (ViewState::Starting, _) => paint.warn(&format!("○ no primary yet: {why}")),
        (ViewState::Doubt, _) => paint.bad(&format!("▲ no primary, in doubt: {why}")),
        (ViewState::Serving | ViewState::Demoted | ViewState::Lost, _) => paint.warn(&format!("○ no primary: {why}")),
    };
    head.push_str(&format!("{line}  {stood}\n"));
    if view.state == ViewState::Doubt {
        head.push_str("  Find out which node has the data, then: changeover adopt NODE\n");
    }
    if let Some(names) = status.channel.as_ref().and_then(|channel| channel.names.as_ref()) {
        head.push_str(&format!("{}\n", paint.bad(&format!("▲ {names}; correct `node` there"))));
    }
    if let Some(drain) = &status.drain {
        let text = if drain.done && drain.open == 0 {
            "▲ drained: no clients are taken; changeover undrain ends that".to_owned()
        } else {
            format!("▲ draining: {} left, cut in {}", counted(drain.open, "connection"), time_ms(drain.left_ms))
        };
        let so_far = format!(
            "({} closed, {} moved, {} cut, for {})",
            drain.closed,
            drain.moved,
            drain.cut,
            time_ms(drain.since_ms)
        );
        head.push_str(&format!("{}  {}\n", paint.warn(&text), paint.faint(&so_far)));
    }
    head
}

fn facts(status: &Status) -> Vec<(&'static str, String)> {
    let clients = &status.connections;
    let mut facts = vec![(
        "Clients",
        format!(
            "{} open of at most {}, {} accepted, {} answered",
            count(clients.open),
            count(clients.most),
            count(clients.accepted),
            counted(clients.commands, "command")
        ),
    )];
    if let Some(acknowledge) = status.acknowledge {
        let text = match acknowledge {
            Acknowledge::Replicated => "answered once a replica has them",
            Acknowledge::Alone => "answered without a replica: there is none",
            Acknowledge::Refused => "refused: there is no replica",
        };
        facts.push(("Writes", text.to_owned()));
    }
    if let Some(hold) = &status.hold {
        let end = match hold.left_ms {
            0 => "its limit has passed".to_owned(),
            left => format!("ends by itself in {}", time_ms(left)),
        };
        let held = counted(hold.sessions, "session");
        facts.push(("Hold", format!("{held} for {}, {end}: {}", time_ms(hold.since_ms), hold.why)));
    }
    let peers = status.peers.iter().map(|peer| {
        let beside = peer.node.as_deref().map_or_else(|| short(&peer.instance), |node| format!("beside {node}"));
        format!("{beside}, heard {} ago", time_ms(peer.age_ms))
    });
    let peers: Vec<String> = peers.collect();
    if let Some(failover) = &status.failover {
        facts.push(("Failover", outlook(failover)));
        facts.extend(failover.witness.as_ref().map(|witness| ("Witness", witness_in_words(witness))));
    }
    facts.push(("Peers", if peers.is_empty() { "none heard".to_owned() } else { peers.join("; ") }));
    facts.extend(status.channel.as_ref().and_then(channel_in_words).map(|text| ("Channel", text)));
    facts
}

/// What is amiss with the pair's channel, and what to do.
fn channel_in_words(channel: &ChannelStatus) -> Option<String> {
    let open = "not authenticated: make a secret (changeover secret FILE), give it to both (channel-secret-file)";
    let refused: Vec<_> =
        channel.refused.iter().map(|(reason, messages)| format!("{} {reason}", count(*messages))).collect();
    let refused = (!refused.is_empty()).then(|| format!("ignored messages: {}", refused.join(", ")));
    let parts: Vec<_> = (!channel.authenticated).then(|| open.to_owned()).into_iter().chain(refused).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn outlook(failover: &FailoverStatus) -> String {
    let promote = if failover.would_promote { "would promote" } else { "would not promote" };
    let state = if failover.cut_off { "cut off: the node in service is not served here" } else { &failover.state };
    let fence = match (failover.fence_replicas, failover.fence_max_lag_ms) {
        (Some(replicas), Some(lag)) => format!("; fence: {} within {}", counted(replicas, "replica"), time_ms(lag)),
        _ => String::new(),
    };
    format!("{}, {state}; {promote}: {}{fence}", failover.mode, failover.why)
}

fn witness_in_words(witness: &WitnessStatus) -> String {
    let heard = match (witness.heard, witness.age_ms) {
        (true, _) => "heard".to_owned(),
        (false, Some(age)) => format!("silent for {}", time_ms(age)),
        (false, None) => "never heard".to_owned(),
    };
    let holder = witness.holder.as_ref().map(|node| format!(", the pair is held beside {node}")).unwrap_or_default();
    let lease = witness.lease_left_ms.map(|left| format!(", lease ends in {}", time_ms(left))).unwrap_or_default();
    format!("{heard}{holder} (term {}){lease}", witness.term)
}

fn nodes(status: &Status) -> String {
    let headers = ["Node", "Address", "Says", "Link", ">Offset", ">Behind", ">Heard", "Server", "History"];
    let mut table = table(&headers);
    for node in &status.nodes {
        table.add_row([
            node.name.clone(),
            node.addr.clone(),
            role(node),
            link(node).to_owned(),
            node.offset.map(count).unwrap_or_default(),
            node.lag_bytes.map(bytes).unwrap_or_default(),
            node.last_heard_ms.map_or_else(|| "never".to_owned(), |ms| format!("{} ago", time_ms(ms))),
            server(node),
            history(node),
        ]);
    }
    let mut text = indented(&table);
    for note in status.nodes.iter().filter_map(|node| note(node, status.view.primary.as_deref())) {
        text.push_str(&format!("  ▲ {note}\n"));
    }
    text
}

/// What it says; what it last said, once it does not answer.
fn role(node: &NodeStatus) -> String {
    let word = match node.role {
        None => return "?".to_owned(),
        Some(NodeRole::Replica) => "replica",
        Some(NodeRole::Primary) => "primary",
    };
    if node.link == NodeLink::Up { word.to_owned() } else { format!("was {word}") }
}

fn link(node: &NodeStatus) -> &'static str {
    match node.link {
        NodeLink::Unknown => "?",
        NodeLink::Up => "up",
        NodeLink::Silent => "silent",
        NodeLink::Down => "down",
        NodeLink::Error => "error",
    }
}

/// What is amiss with a node, in words.
fn note(node: &NodeStatus, primary: Option<&str>) -> Option<String> {
    let name = &node.name;
    match (node.link, node.role) {
        (NodeLink::Silent | NodeLink::Down | NodeLink::Error, _) | (_, Some(_)) if !node.detail.is_empty() => {
            let remedy = node.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
            Some(format!("{name}: {}{remedy}", node.detail))
        }
        (NodeLink::Up, Some(NodeRole::Primary)) if primary != Some(name.as_str()) => {
            Some(format!("{name} says that it is primary, but is not followed"))
        }
        (NodeLink::Up, Some(NodeRole::Replica)) if node.primary_link_up == Some(false) => {
            Some(format!("{name}: its replication link is down"))
        }
        _ => None,
    }
}

/// `7.0.15`; of another server than Redis its name as well.
fn server(node: &NodeStatus) -> String {
    let version = node.redis_version.as_deref().unwrap_or_default();
    match node.server.as_deref() {
        None | Some("Redis") => version.to_owned(),
        Some(other) => format!("{other} {version}"),
    }
}

fn history(node: &NodeStatus) -> String {
    match (&node.replid, &node.replid2) {
        (Some(now), Some(before)) => format!("{} after {}", short(now), short(before)),
        (Some(now), None) => short(now),
        (None, _) => String::new(),
    }
}

fn short(id: &str) -> String {
    id.chars().take(SHORT_ID).collect()
}

fn changes(changes: &[ChangeReport], zone: &TimeZone) -> String {
    let mut table = table(&["Change", "From", "To", "When", ">Took", ">Longest stall", ">Held", ">Lost"]);
    for change in changes {
        table.add_row([
            change.kind.name().to_owned(),
            change.from.clone().unwrap_or_else(|| "-".to_owned()),
            change.to.clone(),
            when(change.at_unix_ms, zone),
            time(change.took_ms),
            change.longest_stall_ms.map_or_else(|| "?".to_owned(), time),
            counted(change.held, "session"),
            change.lost_bytes.map_or_else(|| "unknown".to_owned(), bytes),
        ]);
    }
    indented(&table)
}

fn when(unix_ms: u64, zone: &TimeZone) -> String {
    let at = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| "?".to_owned(), |at| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string())
}
