//! Settings of Redis that make a patch, or a change of primary, dangerous or slow: what is wrong, why, and how to mend it.
//!
//! Judges what was read; reads nothing. Invariant: what a node does not tell (an older version, no permission) is not
//! held against it.

use std::collections::BTreeMap;

use serde::Serialize;

/// What is read of each node.
pub const ASKED: [&str; 13] = [
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
    "client-output-buffer-limit",
];

/// What is read of each node's INFO.
pub const INFO: [&str; 10] = [
    "loading",
    "config_file",
    "used_memory",
    "used_memory_rss",
    "maxmemory",
    "total_system_memory",
    "total_net_repl_input_bytes",
    "sync_full",
    "sync_partial_ok",
    "mem_replication_backlog",
];

/// A full synchronisation moves about so much in a second, bytes: for an estimate of how long one takes.
const SYNC_RATE: u64 = 50 << 20;

/// A node may be away this long without a full resynchronisation, in seconds: a reboot.
const AWAY_SECONDS: u64 = 120;

/// A node as it is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSettings {
    /// Its values by name; what it does not tell is missing.
    pub values: BTreeMap<String, String>,
    /// What its INFO says, by name.
    pub info: BTreeMap<String, String>,
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

/// A value that is bad whatever else is the case.
struct Rule {
    weight: Weight,
    setting: &'static str,
    bad: fn(&str) -> bool,
    why: &'static str,
    mend: &'static str,
}

const RULES: [Rule; 7] = [
    Rule {
        weight: Weight::Must,
        setting: "replica-read-only",
        bad: |found| found == "no",
        why: "a demoted node would take writes that reach nobody and are lost with the next synchronisation",
        mend: "yes",
    },
    Rule {
        weight: Weight::Must,
        setting: "min-replicas-to-write",
        bad: |found| above(found, 0),
        why: "the primary refuses every write (NOREPLICAS) within milliseconds when its replica is restarted; set it to 0 \
              for the patch",
        mend: "0",
    },
    Rule {
        weight: Weight::Should,
        setting: "repl-backlog-ttl",
        bad: |found| above(found, 0),
        why: "alone for this many seconds, a node forgets the history that proves it to be the successor",
        mend: "0",
    },
    Rule {
        weight: Weight::Should,
        setting: "repl-diskless-sync-delay",
        bad: |found| above(found, 0),
        why: "a full synchronisation begins only after this many seconds",
        mend: "0",
    },
    Rule {
        weight: Weight::Should,
        setting: "repl-ping-replica-period",
        bad: |found| above(found, 1),
        why: "on an idle pair a replica cannot tell silence from death for this many seconds",
        mend: "1",
    },
    Rule {
        weight: Weight::Should,
        setting: "repl-timeout",
        bad: |found| above(found, 10),
        why: "the link to a frozen primary counts as up for this many seconds",
        mend: "10",
    },
    Rule {
        weight: Weight::Should,
        setting: "shutdown-timeout",
        bad: |found| number(found) == Some(0),
        why: "a primary that is shut down does not wait until its replica has everything",
        mend: "10",
    },
];

/// What is wrong with a node; `other` is the other node of its pair.
pub fn judge(node: &NodeSettings, other: Option<&NodeSettings>) -> Vec<Finding> {
    let value = |setting: &str| node.values.get(setting).map(String::as_str);
    let finding = |weight, setting, why: &str, mend: &str| Finding {
        weight,
        setting,
        found: value(setting).unwrap_or_default().to_owned(),
        why: why.to_owned(),
        mend: format!("CONFIG SET {setting} {mend}"),
    };
    let broken = RULES.iter().filter(|rule| value(rule.setting).is_some_and(rule.bad));
    let mut findings: Vec<_> = broken.map(|rule| finding(rule.weight, rule.setting, rule.why, rule.mend)).collect();
    if value("masterauth") == Some("") && other.is_some_and(|other| other.requires_password) {
        let why = "the other node asks for a password that this one does not have: demoted, it could not follow";
        findings.push(finding(Weight::Must, "masterauth", why, "PASSWORD"));
    }
    let unsaved = value("save") == Some("") && value("appendonly") == Some("no");
    if unsaved && value("rdb-del-sync-files") == Some("no") {
        let why = "without persistence the file of the last full synchronisation stays, and a node that is restarted \
                   alone comes back with that old data";
        findings.push(finding(Weight::Should, "rdb-del-sync-files", why, "yes"));
    }
    let wanted = node.write_rate.saturating_mul(AWAY_SECONDS);
    if value("repl-backlog-size").and_then(number).is_some_and(|size| size < wanted) {
        let rate = node.write_rate;
        let why = format!(
            "at {rate} bytes a second, a node that is away for {AWAY_SECONDS} s needs a full synchronisation when it is back"
        );
        findings.push(finding(Weight::Should, "repl-backlog-size", &why, &wanted.to_string()));
    }
    findings.extend(resync(node));
    if node.info.get("config_file").is_some_and(String::is_empty) {
        findings.push(Finding {
            weight: Weight::Should,
            setting: "config_file",
            found: String::new(),
            why: "it was started without a configuration file: who follows whom, and what was set since, is forgotten when \
                  it is restarted, and it comes back as a second primary"
                .to_owned(),
            mend: "SHUTDOWN, then start it with a file that says `replicaof` the other node".to_owned(),
        });
    }
    findings.sort_by_key(|finding| finding.weight);
    findings
}

/// What a full synchronisation would cost: it forks, and what is written meanwhile waits in a buffer with a limit.
fn resync(node: &NodeSettings) -> Vec<Finding> {
    let info = |name: &str| node.info.get(name).and_then(|text| number(text));
    let mut findings = Vec::new();
    let mut found = |setting, found, why, mend| {
        findings.push(Finding { weight: Weight::Should, setting, found, why, mend });
    };
    if let (Some(used), Some(whole)) = (info("used_memory_rss"), info("total_system_memory"))
        && used.saturating_mul(2) > whole
    {
        let why = format!(
            "of {whole} bytes of memory: a full synchronisation forks, and what is written meanwhile is copied: in the \
             worst case as much again"
        );
        found("used_memory_rss", used.to_string(), why, format!("CONFIG SET maxmemory {}", whole / 2));
    }
    let seconds = info("used_memory").unwrap_or_default() / SYNC_RATE + 1;
    let wanted = node.write_rate.saturating_mul(seconds);
    if let Some(text) = node.values.get("client-output-buffer-limit")
        && let Some(limit) = replica_limit(text)
        && limit < wanted
    {
        let rate = node.write_rate;
        let why = format!(
            "for replicas {limit} bytes: at {rate} bytes a second, a full synchronisation of about {seconds} s is cut there \
             and begins again, without end"
        );
        let mend = format!("CONFIG SET client-output-buffer-limit \"replica {0} {0} 60\"", wanted.saturating_mul(2));
        found("client-output-buffer-limit", text.clone(), why, mend);
    }
    findings
}

/// The hard limit for replicas of `normal 0 0 0 slave 268435456 67108864 60 pubsub …`; `None`: there is none.
fn replica_limit(text: &str) -> Option<u64> {
    let mut words = text.split(' ').skip_while(|word| !matches!(*word, "slave" | "replica")).skip(1);
    words.next().and_then(number).filter(|limit| *limit > 0)
}

fn above(text: &str, limit: u64) -> bool {
    number(text).is_some_and(|found| found > limit)
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
    fn the_load_of_a_full_synchronisation_is_reckoned() {
        let mut node = node(&[("client-output-buffer-limit", "normal 0 0 0 slave 1000000 64 60 pubsub 1 1 60")]);
        node.info = [("used_memory_rss", "600"), ("total_system_memory", "1000"), ("used_memory", "104857600")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        assert_eq!(names(&node, None), ["used_memory_rss"]);
        node.write_rate = 400_000;
        assert_eq!(names(&node, None), ["used_memory_rss", "client-output-buffer-limit"]);
        node.values.insert("client-output-buffer-limit".into(), "normal 0 0 0 slave 0 0 0".into());
        node.info.insert("total_system_memory".into(), "1200".into());
        assert_eq!(names(&node, None), [""; 0]);
        node.info.insert("config_file".into(), String::new());
        assert_eq!(names(&node, None), ["config_file"]);
    }

    #[test]
    fn an_old_snapshot_matters_only_without_persistence() {
        let trap = [("save", ""), ("appendonly", "no"), ("rdb-del-sync-files", "no")];
        assert_eq!(names(&node(&trap), None), ["rdb-del-sync-files"]);
        assert_eq!(names(&node(&[("save", "60 1"), trap[1], trap[2]]), None), [""; 0]);
    }
}
