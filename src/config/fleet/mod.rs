//! The fleet file: which shards there are, how their nodes are reached, and what is run on them.
//!
//! [`KEYS`] is the one table of its keys; `reader.rs` reads the text. All mistakes at once, each with its place, as for
//! the configuration of a process. It opens no socket and runs nothing. Invariant: a `Fleet` that exists has shards with
//! one or two nodes each, unique names, and commands that are not empty.

mod reader;

pub(super) use reader::hooks;

use std::path::Path;
use std::time::Duration;

use super::keys::Kind as Value;
use super::problem::{Place, Problems};
use super::{AdminAddress, AdminLogin, value};
use crate::patch::plan::{Hook, Kind, Plan, ShardPlan, Steps};

/// Everything that a rollout needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Groups that are worked on at the same time.
    pub parallel: usize,
    /// How long a shard may take to be healthy before a node is begun.
    pub settle: Duration,
    /// How long a node may take to be back and in sync after its work.
    pub back_within: Duration,
    /// How long a command may take.
    pub deadline: Duration,
    /// How far behind a replica may be to count as in sync.
    pub max_lag: u64,
    /// A node's proxy lets its clients go and ends before the work, and the work starts it again.
    pub drain: bool,
    /// The work restarts Redis.
    pub restarts: bool,
    /// The first primary becomes primary again at the end.
    pub switch_back: bool,
    /// What is shown to proxies that are reached with TLS.
    pub login: AdminLogin,
    /// The commands.
    pub commands: Commands,
    /// The shards, in the order of the file.
    pub shards: Vec<Shard>,
}

/// Who runs a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// Whoever has the file that names it: the program and its arguments.
    Local(Vec<String>),
    /// The node's agent: the command of the same name under `[hooks]` of the node's own configuration.
    Agent,
}

/// What is run, and for which node: each is a program with its arguments, in which `{group}`, `{shard}` and `{node}`
/// are replaced. No shell sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commands {
    /// Patches a node, reboot included.
    pub patch: Option<Run>,
    /// Takes a patch back.
    pub roll_back: Option<Run>,
    /// Restarts a node, for drills.
    pub reboot: Option<Run>,
    /// Kills a node, for rude drills.
    pub crash: Option<Run>,
    /// Before a node's clients are let go.
    pub before_drain: Option<Run>,
    /// When a node is back and in sync.
    pub after_ready: Option<Run>,
}

/// A shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its name, unique in the fleet.
    pub name: String,
    /// Shards of one group are done one after another.
    pub group: String,
    /// Its nodes, one or two.
    pub nodes: Vec<Node>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What its proxy calls it (`self`).
    pub name: String,
    /// Where its proxy serves the admin API.
    pub admin: AdminAddress,
}

/// A key of the file.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What its value looks like.
    pub(super) kind: Form,
    /// What holds without it, as it would be written; empty when that is nothing.
    pub fallback: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// What a value of the fleet file looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A number, a size or a time.
    Number(Value),
    /// `true` or `false`.
    Switch,
    /// A file; relative to the folder of the fleet file.
    File,
    /// A list of texts.
    Command,
}

const SECOND: u64 = 1000;
const DAY: u64 = 24 * 3600 * SECOND;

/// The keys at the top of the file.
pub const KEYS: [Key; 12] = [
    key("parallel", Form::Number(Value::Count(1, 1000)), "1", "groups that are worked on at the same time"),
    key(
        "settle",
        Form::Number(Value::Time(SECOND, DAY)),
        "5m",
        "how long a shard may take to be healthy before a node is begun",
    ),
    key(
        "back-within",
        Form::Number(Value::Time(SECOND, DAY)),
        "30m",
        "how long a node may take to be back and in sync after its work",
    ),
    key("deadline", Form::Number(Value::Time(SECOND, DAY)), "1h", "how long a command may take before it is killed"),
    key(
        "max-lag",
        Form::Number(Value::Size(0, 1 << 40)),
        "1MiB",
        "how far behind a replica may be to count as in sync",
    ),
    key(
        "drain",
        Form::Switch,
        "true",
        "a node's proxy lets its clients go and ends before the work, which starts it again; `false` when the work leaves the proxy running",
    ),
    key(
        "restarts",
        Form::Switch,
        "true",
        "the work restarts Redis: the node is not back before another process runs there",
    ),
    key("switch-back", Form::Switch, "true", "the first primary becomes primary again at the end"),
    key("admin-ca", Form::File, "", "who signed the certificates of proxies that are reached by `https://`"),
    key("admin-cert", Form::File, "", "the certificate shown to them (their `admin-client-ca`); needs `admin-key`"),
    key("admin-key", Form::File, "", "its key"),
    key("admin-token-file", Form::File, "", "the token shown to them (their `admin-token-file`)"),
];

/// The keys under `[commands]`.
pub const COMMANDS: [Key; 6] = [
    key("patch", Form::Command, "", "patches a node, reboot included (`changeover patch`)"),
    key("roll-back", Form::Command, "", "takes a patch back (`changeover patch --roll-back`)"),
    key(
        "reboot",
        Form::Command,
        "",
        "restarts a node (`changeover reboot`); `{blip}` is how many milliseconds it is to stay away",
    ),
    key(
        "crash",
        Form::Command,
        "",
        "kills a node without warning (`changeover reboot --rude kill`); `{blip}` as for `reboot`",
    ),
    key(
        "before-drain",
        Form::Command,
        "",
        "before a node's clients are let go: take it out of the load balancer; may run twice",
    ),
    key("after-ready", Form::Command, "", "when a node is back and in sync; may run twice"),
];

const fn key(name: &'static str, kind: Form, fallback: &'static str, doc: &'static str) -> Key {
    Key { name, kind, fallback, doc }
}

/// Which nodes, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Only these shards; all when empty.
    pub shards: Vec<String>,
    /// Only these nodes of each shard (by index); all when `None`.
    pub nodes: Option<Vec<(String, usize)>>,
    /// As rude as a crash.
    pub rude: bool,
    /// How long the nodes are to stay away, in milliseconds.
    pub blip_ms: u64,
}

impl Fleet {
    /// Reads the file.
    ///
    /// # Errors
    /// Every mistake that was found.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::read(path, &text),
            Err(error) => {
                problems.add(Place::Flag("--fleet".to_owned()), format!("cannot read {}: {error}", path.display()));
                Err(problems)
            }
        }
    }

    /// Reads the text of the file at `path`.
    ///
    /// # Errors
    /// Every mistake that was found.
    pub fn read(path: &Path, text: &str) -> Result<Self, Problems> {
        reader::read(path, text)
    }

    /// The shard with this name.
    pub fn shard(&self, name: &str) -> Option<&Shard> {
        self.shards.iter().find(|shard| shard.name == name)
    }

    /// The plan of a rollout.
    ///
    /// # Errors
    /// A command is missing, or something was chosen that is not there.
    pub fn plan(&self, kind: Kind, choice: &Choice) -> Result<Plan, String> {
        let name = if choice.rude { "crash" } else { kind.name() };
        let Some(command) = self.commands.work(kind, choice.rude) else {
            return Err(format!("the fleet file has no command `{name}` under [commands]"));
        };
        if choice.blip_ms > 0 && !command.has_place_for("{blip}") {
            return Err(format!("--blip: the command `{name}` has no place for it; give it {{blip}}, in milliseconds"));
        }
        if let Some(stranger) = choice.shards.iter().find(|name| self.shard(name).is_none()) {
            return Err(format!("no shard is called {stranger:?}"));
        }
        let wanted = |shard: &&Shard| choice.shards.is_empty() || choice.shards.contains(&shard.name);
        let shards = self.shards.iter().filter(wanted).map(|shard| self.shard_plan(shard, choice));
        let shards: Vec<_> = shards.filter(|shard| !shard.targets.is_empty()).collect();
        if shards.is_empty() { Err("there is nothing to do".to_owned()) } else { Ok(Plan { kind, shards }) }
    }

    fn shard_plan(&self, shard: &Shard, choice: &Choice) -> ShardPlan {
        let wanted = |node: &usize| match &choice.nodes {
            Some(nodes) => nodes.iter().any(|(name, wanted)| *name == shard.name && wanted == node),
            None => true,
        };
        ShardPlan {
            group: shard.group.clone(),
            name: shard.name.clone(),
            nodes: shard.nodes.iter().map(|node| node.name.clone()).collect(),
            targets: (0..shard.nodes.len()).filter(wanted).collect(),
            with: Steps {
                before_drain: self.commands.before_drain.is_some(),
                drain: self.drain,
                after_ready: self.commands.after_ready.is_some(),
                switch_back: self.switch_back && !choice.rude,
                restarts: self.restarts || choice.rude,
                rude: choice.rude,
                blip_ms: choice.blip_ms,
            },
        }
    }

    /// The program and its arguments for a node.
    pub fn command(&self, plan: &Plan, shard: &ShardPlan, hook: Hook, node: usize) -> Option<Run> {
        let command = match hook {
            Hook::BeforeDrain => self.commands.before_drain.as_ref(),
            Hook::Work => self.commands.work(plan.kind, shard.with.rude),
            Hook::AfterReady => self.commands.after_ready.as_ref(),
        };
        let fill = |word: &String| {
            let word = word.replace("{group}", &shard.group).replace("{shard}", &shard.name);
            word.replace("{node}", shard.node(node)).replace("{blip}", &shard.with.blip_ms.to_string())
        };
        Some(match command? {
            Run::Local(words) => Run::Local(words.iter().map(fill).collect()),
            Run::Agent => Run::Agent,
        })
    }
}

impl Run {
    /// What an agent's command has a place for is known there.
    fn has_place_for(&self, what: &str) -> bool {
        match self {
            Self::Local(words) => words.iter().any(|word| word.contains(what)),
            Self::Agent => true,
        }
    }
}

/// The name under which the command for a hook is kept.
pub fn command_name(plan: &Plan, shard: &ShardPlan, hook: Hook) -> &'static str {
    match (hook, plan.kind) {
        (Hook::BeforeDrain, _) => "before-drain",
        (Hook::AfterReady, _) => "after-ready",
        (Hook::Work, Kind::Reboot) if shard.with.rude => "crash",
        (Hook::Work, kind) => kind.name(),
    }
}

impl Commands {
    /// The command with this name.
    pub fn named(&self, name: &str) -> Option<&Run> {
        match name {
            "patch" => self.patch.as_ref(),
            "roll-back" => self.roll_back.as_ref(),
            "reboot" => self.reboot.as_ref(),
            "crash" => self.crash.as_ref(),
            "before-drain" => self.before_drain.as_ref(),
            "after-ready" => self.after_ready.as_ref(),
            _ => None,
        }
    }

    fn work(&self, kind: Kind, rude: bool) -> Option<&Run> {
        match (kind, rude) {
            (Kind::Patch, _) => self.patch.as_ref(),
            (Kind::RollBack, _) => self.roll_back.as_ref(),
            (Kind::Reboot, false) => self.reboot.as_ref(),
            (Kind::Reboot, true) => self.crash.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests;
