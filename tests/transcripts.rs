//! Stories about who is primary, in a form that an operator can read: `tests/transcripts/*.txt`.
//!
//! A line that begins with a time (milliseconds) is what happens; the lines with an arrow below it are everything that
//! the rule had to say to it. A story is right only if the whole text is reproduced. `UPDATE_TRANSCRIPTS=1` writes what
//! is said now instead of comparing (then read the difference). The words of a line:
//!
//! ```text
//! nodes a b                          the configured nodes (this is the default)
//! 100 a: primary run=1 id=A off=593  a says so; also id2= s2= failover=waiting|progress shutdown=MS asked=MS
//! 100 b: replica run=2 id=A off=593  also link=down
//! 100 a: loading run=3 id=N off=0     a process that has just begun, says that it is primary, and loads its data
//! 100 a: refused | eof | failed | silent | tripped | refused-command
//! 100 a: answers busy run=1 says=primary   an error on a connection of process 1, and its role by HELLO, if it told it
//! 100 a: answers login               an error (busy, login, denied, full, error, expired, not-tls) of nobody knows which
//! 100 adopt b                        the operator's command
//! 100 restart                        this proxy restarts, with its memory; `restart forgetful`: without
//! 100 slept                          this proxy did not run since the line before
//! 100 wait                           nothing happens
//! ```
//!
//! Identifiers are short names here; `id2` and `s2` are what a promoted node says of the history that it left.
//! A node that says nothing for 1,000 ms is silent: stories that last longer let it speak.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use changeover::protocol::info::{
    FailoverState, Loading, PrimaryLink, ReplId, ReplicationInfo, RunId, ServerInfo, WireRole,
};
use changeover::topology::primary::Settings;
use changeover::topology::{
    Answer, Doubt, Evidence, Gone, Memory, NoPrimary, NodeId, NodeReport, Notice, Output, Role, Topology, Trouble, View,
};

const SILENT_AFTER: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

#[test]
fn every_story_goes_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "txt"));
    files.sort();
    assert!(files.len() >= 20, "the stories are missing");
    let mut wrong = String::new();
    for path in files {
        let written = std::fs::read_to_string(&path).unwrap();
        let played = Story::play(&written);
        if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
            std::fs::write(&path, &played).unwrap();
        } else if let Some((line, (had, got))) =
            (1..).zip(written.lines().chain(["(end)"]).zip(played.lines().chain(["(end)"]))).find(|(_, (a, b))| a != b)
        {
            writeln!(wrong, "{}:{line}\n  written: {had}\n  played:  {got}", path.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

struct Story {
    names: Vec<String>,
    /// How long silence is put up with.
    silent_for: Duration,
    topology: Topology,
    memory: Option<Memory>,
    now: Duration,
    text: String,
}

impl Story {
    fn play(written: &str) -> String {
        let names = vec!["a".to_owned(), "b".to_owned()];
        let mut story = Self {
            topology: Self::topology(&names, SILENT_AFTER, None, Duration::ZERO),
            names,
            silent_for: SILENT_AFTER,
            memory: None,
            now: Duration::ZERO,
            text: String::new(),
        };
        for line in written.lines() {
            if line.trim_start().starts_with("->") {
                continue;
            }
            let words: Vec<_> = line.split_whitespace().collect();
            match words.as_slice() {
                ["nodes", names @ ..] => {
                    story.names = names.iter().map(|name| (*name).to_owned()).collect();
                    story.topology = Self::topology(&story.names, story.silent_for, None, Duration::ZERO);
                    writeln!(story.text, "{line}").unwrap();
                }
                ["patience", ms] => {
                    story.silent_for = Duration::from_millis(ms.parse().unwrap());
                    story.topology = Self::topology(&story.names, story.silent_for, None, Duration::ZERO);
                    writeln!(story.text, "{line}").unwrap();
                }
                [time, rest @ ..] if time.parse::<u64>().is_ok() => {
                    let at = Duration::from_millis(time.parse().unwrap());
                    if rest != ["slept"] {
                        story.pass(at);
                    }
                    writeln!(story.text, "{line}").unwrap();
                    story.now = at;
                    story.act(rest);
                    story.say("");
                }
                _ => writeln!(story.text, "{line}").unwrap(),
            }
        }
        story.text
    }

    fn topology(names: &[String], silent_for: Duration, memory: Option<Memory>, now: Duration) -> Topology {
        let settings = Settings { nodes: names.to_vec(), silent_after: SILENT_AFTER, silent_for };
        Topology::new(settings, memory, now)
    }

    /// Lets time pass as the shell does: the rule is woken whenever it asked for it.
    fn pass(&mut self, until: Duration) {
        while let Some(due) = self.topology.poll_timeout()
            && due <= until
        {
            self.now = due;
            self.topology.handle_timeout(due);
            self.say(&format!(" at {}:", due.as_millis()));
        }
    }

    fn node(&self, name: &str) -> NodeId {
        let name = name.trim_end_matches(':');
        let place = self.names.iter().position(|known| known == name);
        NodeId(u8::try_from(place.unwrap_or_else(|| panic!("no node {name}"))).unwrap())
    }

    fn act(&mut self, words: &[&str]) {
        match words {
            ["wait"] => {}
            ["slept"] => self.topology.handle_timeout(self.now),
            ["restart", rest @ ..] => {
                let memory = self.memory.take().filter(|_| rest.is_empty());
                let memory = memory.map(|memory| Memory::from_text(&memory.to_text()).unwrap());
                self.topology = Self::topology(&self.names, self.silent_for, memory, self.now);
            }
            ["adopt", name] => {
                if let Err(error) = self.topology.adopt(self.node(name), self.now) {
                    writeln!(self.text, "      -> refused: {error}").unwrap();
                }
            }
            [name, rest @ ..] => {
                let node = self.node(name);
                self.topology.handle_evidence(node, evidence(rest, self.now), self.now);
            }
            [] => panic!("a time without an event"),
        }
    }

    fn say(&mut self, when: &str) {
        while let Some(output) = self.topology.poll_output() {
            let line = match output {
                Output::Remember(memory) => {
                    self.memory = Some(memory);
                    continue;
                }
                Output::View(view) => self.view(&view),
                Output::Notice(notice) => self.notice(&notice),
                Output::ProbeNow => "ask every node now".into(),
                Output::Nudge(node) => format!("nudge {}", self.name(node)),
            };
            writeln!(self.text, "      ->{when} {line}").unwrap();
        }
    }

    fn name(&self, node: NodeId) -> &str {
        &self.names[node.index()]
    }

    fn view(&self, view: &View) -> String {
        let who = match &view.primary {
            Ok(node) => format!("primary is {}", self.name(*node)),
            Err(reason) => format!("no primary, {}", self.reason(reason)),
        };
        let cut = if view.given_up.0 > 0 { format!("; given up to {}", view.given_up) } else { String::new() };
        format!("VIEW {}: {who}{cut}", view.epoch)
    }

    fn reason(&self, reason: &NoPrimary) -> String {
        match reason {
            NoPrimary::Starting => "starting".into(),
            NoPrimary::Demoted => "demoted".into(),
            NoPrimary::Lost => "lost".into(),
            NoPrimary::Loading(node) => format!("{} loads its data", self.name(*node)),
            NoPrimary::Unproven(node) => {
                format!("{} answers with errors, and nothing shows who it is", self.name(*node))
            }
            NoPrimary::Doubt(doubt) => format!("doubt: {}", self.doubt(doubt)),
        }
    }

    fn doubt(&self, doubt: &Doubt) -> String {
        match doubt {
            Doubt::Restarted(node) => format!("{} restarted without the history", self.name(*node)),
            Doubt::Siblings => "two left the same history".into(),
            Doubt::Older(node) => format!("{} is an earlier primary", self.name(*node)),
            Doubt::Unknown(node) => format!("the history of {} is unknown", self.name(*node)),
            Doubt::TwoPrimaries => "two primaries".into(),
        }
    }

    fn notice(&self, notice: &Notice) -> String {
        match notice {
            Notice::Changed { from, to, lost_bytes, took, unplanned } => {
                let from = from.map_or("nobody", |node| self.name(node));
                let lost = lost_bytes.map_or("unknown loss".into(), |bytes| format!("{bytes} bytes lost"));
                let how = if *unplanned { "unplanned" } else { "planned" };
                format!("changed from {from} to {}, {how}, {lost}, {} ms without", self.name(*to), took.as_millis())
            }
            Notice::Held { from, reason } => format!("held: {} was primary; {}", self.name(*from), self.reason(reason)),
            Notice::Doubt(doubt) => format!("DOUBT: {}", self.doubt(doubt)),
            Notice::DoubtEnded => "the doubt is over".into(),
            Notice::SecondPrimary { node, split_bytes } => {
                let split = split_bytes.map_or("unknown".into(), |bytes| format!("{bytes}"));
                format!("second primary: {}, {split} bytes of its own", self.name(*node))
            }
            Notice::FollowedAnyway(node) => format!("followed anyway: {}", self.name(*node)),
            Notice::Slept(time) => format!("this process slept {} ms", time.as_millis()),
        }
    }
}

fn forty(name: &str) -> [u8; 40] {
    let mut digits = [b'0'; 40];
    digits[..name.len()].copy_from_slice(name.as_bytes());
    digits
}

fn evidence(words: &[&str], now: Duration) -> Evidence {
    match words {
        ["refused"] => Evidence::Gone(Gone::Refused),
        ["eof"] => Evidence::Gone(Gone::EndOfFile),
        ["failed"] => Evidence::Gone(Gone::Failed(Trouble::Unreachable("no route".into()))),
        ["name"] => Evidence::Gone(Gone::Failed(Trouble::Name("no such name".into()))),
        ["answers", kind, facts @ ..] => {
            let facts: HashMap<_, _> = facts.iter().map(|fact| fact.split_once('=').expect("name=value")).collect();
            let says = facts.get("says").map(|says| if *says == "primary" { Role::Primary } else { Role::Replica });
            let process = facts.get("run").map(|run| (RunId(forty(run)), says));
            Evidence::Answers(Answer { trouble: trouble(kind), process, asked_at: now.saturating_sub(MS) })
        }
        ["silent"] => Evidence::Silent,
        ["tripped"] => Evidence::Tripped,
        ["refused-command"] => Evidence::RefusedCommand,
        [role @ ("primary" | "replica" | "loading"), facts @ ..] => {
            let facts: HashMap<_, _> = facts.iter().map(|fact| fact.split_once('=').expect("name=value")).collect();
            let mut report = report(*role != "replica", &facts, now);
            report.loading = (*role == "loading").then(Loading::default);
            Evidence::Report(report)
        }
        _ => panic!("what is {words:?}?"),
    }
}

fn trouble(kind: &str) -> Trouble {
    match kind {
        "busy" => Trouble::Busy,
        "login" => Trouble::Login("WRONGPASS".into()),
        "denied" => Trouble::Denied("NOPERM".into()),
        "full" => Trouble::Full("ERR max number of clients reached".into()),
        "expired" => Trouble::Expired,
        "not-tls" => Trouble::NotTls,
        other => Trouble::Error(other.into()),
    }
}

fn report(primary: bool, facts: &HashMap<&str, &str>, now: Duration) -> NodeReport {
    let known = ["run", "id", "id2", "s2", "off", "failover", "shutdown", "asked", "link"];
    assert!(facts.keys().all(|name| known.contains(name)), "unknown fact in {facts:?}");
    let number = |name: &str| facts.get(name).map(|text| text.parse::<u64>().unwrap());
    let offset = number("off").unwrap();
    NodeReport {
        server: ServerInfo {
            run_id: RunId(forty(facts["run"])),
            version: "7.0.15".into(),
            valkey: None,
            shutdown_in_ms: number("shutdown"),
        },
        replication: ReplicationInfo {
            role: if primary { WireRole::Master } else { WireRole::Slave },
            replid: ReplId(forty(facts["id"])),
            replid2: facts.get("id2").filter(|id| **id != "0").map(|id| ReplId(forty(id))),
            offset,
            second_offset: number("s2"),
            failover: match facts.get("failover") {
                None => FailoverState::None,
                Some(&"waiting") => FailoverState::WaitingForSync,
                Some(_) => FailoverState::InProgress,
            },
            replicas: Vec::new(),
            primary_link: (!primary).then(|| PrimaryLink {
                host: "peer".into(),
                port: 7001,
                up: facts.get("link") != Some(&"down"),
                sync_in_progress: false,
                slave_repl_offset: offset,
                last_io_seconds: Some(0),
            }),
        },
        loading: None,
        asked_at: number("asked").map_or(now.saturating_sub(MS), Duration::from_millis),
    }
}
