//! Settings of Redis that make a patch, or a change of primary, dangerous or slow: what is wrong, why, and how to mend it.
//!
//! Judges what was read; reads nothing. Invariant: what a node does not tell (an older version, no permission) is not
//! held against it.

use std::collections::BTreeMap;

use serde::Serialize;

/// What is read of each node.
pub const ASKED: [&str; 12] = [
    "replica-read-only",
    "min-replicas-to-write",
    "repl-backlog-size",
    "repl-backlog-ttl",
    "repl-diskless-sync-delay",
    "repl-ping-replica-period",
    "repl-timeout",
    "rdb-del-sync-files",
    "save",
    "appendonly",
    "shutdown-timeout",
    "masterauth",
];

/// A node may be away this long without a full resynchronisation, in seconds: a reboot.
const AWAY_SECONDS: u64 = 120;

/// A node as it is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSettings {
    /// Its values by name; what it does not tell is missing.
    pub values: BTreeMap<String, String>,
    /// Whoever replicates from it needs a password.
    pub requires_password: bool,
    /// Bytes that are written to its replication stream in a second.
    pub write_rate: u64,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// A patch would do harm.
    Must,
    /// It would be slower, or a rare accident worse.
    Should,
}

/// Something that should be otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub weight: Weight,
    /// Which setting.
    pub setting: &'static str,
    /// What it is.
    pub found: String,
    /// What comes of it.
    pub why: String,
    /// The command that mends it.
    pub mend: String,
}

/// What is wrong with a node; `other` is the other node of its pair.
pub fn judge(node: &NodeSettings, other: Option<&NodeSettings>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |weight, setting, bad: &dyn Fn(&str) -> bool, why: &str, mend: &str| {
        let Some(found) = node.values.get(setting).filter(|found| bad(found)) else { return };
        let mend = format!("CONFIG SET {setting} {mend}");
        findings.push(Finding { weight, setting, found: found.clone(), why: why.to_owned(), mend });
    };
    let above = |limit: u64| move |found: &str| number(found).is_some_and(|found| found > limit);
    find(
        Weight::Must,
        "replica-read-only",
        &|found| found == "no",
        "a demoted node would take writes that reach nobody and are lost with the next synchronisation",
        "yes",
    );
    find(
        Weight::Must,
        "min-replicas-to-write",
        &above(0),
        "the primary refuses every write (NOREPLICAS) within milliseconds when its replica is restarted; set it to 0 for \
         the patch",
        "0",
    );
    if let Some(other) = other
        && other.requires_password
    {
        find(
            Weight::Must,
            "masterauth",
            &str::is_empty,
            "the other node asks for a password that this one does not have: demoted, it could not follow",
            "PASSWORD",
        );
    }
    find(
        Weight::Should,
        "repl-backlog-ttl",
        &above(0),
        "alone for this many seconds, a node forgets the history that proves it to be the successor",
        "0",
    );
    find(
        Weight::Should,
        "repl-diskless-sync-delay",
        &above(0),
        "a full synchronisation begins only after this many seconds",
        "0",
    );
    find(
        Weight::Should,
        "repl-ping-replica-period",
        &above(1),
        "on an idle pair a replica cannot tell silence from death for this many seconds",
        "1",
    );
    find(
        Weight::Should,
        "repl-timeout",
        &above(10),
        "the link to a frozen primary counts as up for this many seconds",
        "10",
    );
    find(
        Weight::Should,
        "shutdown-timeout",
        &|found| number(found) == Some(0),
        "a primary that is shut down does not wait until its replica has everything",
        "10",
    );
    let unsaved = |name: &str, off: &str| node.values.get(name).is_some_and(|value| value == off);
    if unsaved("save", "") && unsaved("appendonly", "no") {
        find(
            Weight::Should,
            "rdb-del-sync-files",
            &|found| found == "no",
            "without persistence the file of the last full synchronisation stays, and a node that is restarted alone \
             comes back with that old data",
            "yes",
        );
    }
    let wanted = node.write_rate.saturating_mul(AWAY_SECONDS);
    find(
        Weight::Should,
        "repl-backlog-size",
        &|found| number(found).is_some_and(|found| found < wanted),
        &format!(
            "at {} bytes a second, a node that is away for {AWAY_SECONDS} s needs a full synchronisation when it comes back",
            node.write_rate
        ),
        &wanted.to_string(),
    );
    findings.sort_by_key(|finding| finding.weight);
    findings
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(values: &[(&str, &str)]) -> NodeSettings {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        NodeSettings { values: values.collect(), ..NodeSettings::default() }
    }

    fn names(node: &NodeSettings, other: Option<&NodeSettings>) -> Vec<&'static str> {
        judge(node, other).into_iter().map(|finding| finding.setting).collect()
    }

    #[test]
    fn what_does_harm_comes_first_with_the_command_that_mends_it() {
        let bad = node(&[("repl-timeout", "60"), ("replica-read-only", "no"), ("min-replicas-to-write", "1")]);
        let findings = judge(&bad, None);
        assert_eq!(names(&bad, None), ["replica-read-only", "min-replicas-to-write", "repl-timeout"]);
        assert_eq!(findings[0].mend, "CONFIG SET replica-read-only yes");
        assert_eq!((findings[1].weight, findings[2].weight), (Weight::Must, Weight::Should));
    }

    #[test]
    fn what_is_not_told_or_is_well_is_no_finding() {
        assert_eq!(names(&node(&[]), None), [""; 0]);
        let well = node(&[("repl-backlog-ttl", "0"), ("repl-timeout", "5"), ("masterauth", "")]);
        assert_eq!(names(&well, Some(&node(&[]))), [""; 0]);
        let other = NodeSettings { requires_password: true, ..node(&[]) };
        assert_eq!(names(&well, Some(&other)), ["masterauth"]);
    }

    #[test]
    fn the_backlog_is_measured_by_what_is_written() {
        let mut busy = node(&[("repl-backlog-size", "1048576")]);
        busy.write_rate = 8_000;
        assert_eq!(names(&busy, None), [""; 0]);
        busy.write_rate = 100_000;
        assert_eq!(judge(&busy, None)[0].mend, "CONFIG SET repl-backlog-size 12000000");
    }

    #[test]
    fn an_old_snapshot_matters_only_without_persistence() {
        let trap = [("save", ""), ("appendonly", "no"), ("rdb-del-sync-files", "no")];
        assert_eq!(names(&node(&trap), None), ["rdb-del-sync-files"]);
        assert_eq!(names(&node(&[("save", "60 1"), trap[1], trap[2]]), None), [""; 0]);
    }
}
