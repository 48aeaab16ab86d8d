//! The text of a fleet file becomes a [`Fleet`], or every reason why not.
//!
//! It knows the shape of the file; what a value may be is `config::value`'s business. Invariant: whatever the file
//! holds is either taken or reported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{COMMANDS, Commands, Fleet, Form, KEYS, Key, Node, Place, Problems, Run, Shard, value};
use crate::config::source::distance;
use crate::config::{AdminAddress, AdminLogin, admin_address};

/// A pair, or a single node.
const MAX_NODES: usize = 2;

type Table<'i> = DeTable<'i>;
type Item<'i> = Spanned<DeValue<'i>>;

pub(super) fn read(path: &Path, text: &str) -> Result<Fleet, Problems> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { agents: true, path, text, problems: Problems::default() };
    for error in &errors {
        let place = reader.place(error.span().unwrap_or_default());
        reader.problems.add(place, error.message());
    }
    // What a parser makes up to get past an error is not worth a second one.
    if errors.is_empty() {
        let fleet = reader.fleet(table.get_ref());
        if reader.problems.0.is_empty() {
            return Ok(fleet);
        }
    }
    reader.problems.sort();
    Err(reader.problems)
}

/// The commands of a node's own configuration, `[hooks]`.
pub(in crate::config) fn hooks(path: &Path, text: &str, item: &Item<'_>, problems: &mut Problems) -> Commands {
    let mut reader = Reader { agents: false, path, text, problems: Problems::default() };
    let commands = match item.get_ref() {
        DeValue::Table(table) => reader.commands(table),
        _ => {
            reader.wrong(item, "expected a table: [hooks]");
            Commands::default()
        }
    };
    problems.0.append(&mut reader.problems.0);
    commands
}

struct Reader<'a> {
    /// Commands may be left to the nodes' agents.
    agents: bool,
    path: &'a Path,
    text: &'a str,
    problems: Problems,
}

/// A value that was read.
enum Read {
    Number(u64),
    Switch(bool),
    Command(Run),
    File(PathBuf),
}

impl Reader<'_> {
    fn fleet(&mut self, table: &Table<'_>) -> Fleet {
        let mut settings = BTreeMap::new();
        let (mut commands, mut shards) = (Commands::default(), Vec::new());
        for (name, item) in table {
            match (name.get_ref().as_ref(), item.get_ref()) {
                ("commands", DeValue::Table(table)) => commands = self.commands(table),
                ("commands", _) => self.wrong(item, "expected a table: [commands]"),
                ("shard", DeValue::Array(items)) => shards = self.shards(items),
                ("shard", _) => self.wrong(item, "expected tables: [[shard]]"),
                (known, _) => match KEYS.iter().find(|key| key.name == known) {
                    Some(key) => drop(self.value(key, item).map(|read| settings.insert(key.name, read))),
                    None => self.unknown(name, KEYS.iter().map(|key| key.name).chain(["commands", "shard"])),
                },
            }
        }
        if shards.is_empty() && self.problems.0.is_empty() {
            self.problems.add(Place::Nowhere, "missing: at least one [[shard]]");
        }
        let number = |name: &str| match settings.get(name) {
            Some(Read::Number(number)) => *number,
            _ => fallback(name),
        };
        let switch = |name: &str| !matches!(settings.get(name), Some(Read::Switch(false)));
        let file = |name: &str| match settings.get(name) {
            Some(Read::File(file)) => Some(file.clone()),
            _ => None,
        };
        let (ca, cert, key) = (file("admin-ca"), file("admin-cert"), file("admin-key"));
        let token_file = file("admin-token-file");
        let login = AdminLogin { ca, client: cert.clone().zip(key.clone()), token_file };
        let work = [&commands.patch, &commands.roll_back, &commands.reboot];
        if switch("drain") && work.into_iter().any(|run| *run == Some(Run::Agent)) {
            let message = "patch, roll-back or reboot = \"agent\" needs drain = false: an agent that was drained has ended; \
                           it drains by itself when its machine, or the command, stops it";
            self.problems.add(Place::Nowhere, message);
        }
        self.check_login(&login, cert.is_some() != key.is_some(), &shards);
        Fleet {
            login,
            parallel: usize::try_from(number("parallel")).unwrap_or(usize::MAX),
            settle: Duration::from_millis(number("settle")),
            back_within: Duration::from_millis(number("back-within")),
            deadline: Duration::from_millis(number("deadline")),
            max_lag: number("max-lag"),
            drain: switch("drain"),
            restarts: switch("restarts"),
            switch_back: switch("switch-back"),
            commands,
            shards,
        }
    }

    fn check_login(&mut self, login: &AdminLogin, halves: bool, shards: &[Shard]) {
        if halves {
            self.problems.add(Place::Nowhere, "admin-cert and admin-key belong together");
        }
        let mut nodes = shards.iter().flat_map(|shard| &shard.nodes);
        if let Some(node) = nodes.find(|node| matches!(node.admin, AdminAddress::Tls { .. }) && login.ca.is_none()) {
            self.problems.add(Place::Nowhere, format!("{}: needs admin-ca: who signed its certificate", node.admin));
        }
    }

    fn value(&mut self, key: &Key, item: &Item<'_>) -> Option<Read> {
        let read = match (key.kind, item.get_ref()) {
            (Form::Number(kind), DeValue::String(text)) => value::number(kind, text).map(Read::Number),
            (Form::Number(kind), DeValue::Integer(_)) => {
                let text = self.text.get(item.span()).unwrap_or_default().replace('_', "");
                value::number(kind, &text).map(Read::Number)
            }
            (Form::Number(kind), _) => Err(format!("{}: expected {}", key.name, kind.placeholder())),
            (Form::Switch, DeValue::Boolean(on)) => Ok(Read::Switch(*on)),
            (Form::Switch, _) => Err(format!("{}: expected true or false", key.name)),
            (Form::File, DeValue::String(file)) if !file.is_empty() => {
                Ok(Read::File(self.path.parent().unwrap_or(Path::new("")).join(file.as_ref())))
            }
            (Form::File, _) => Err(format!("{}: expected a path", key.name)),
            (Form::Command, DeValue::Array(words)) if !words.is_empty() => {
                self.words(words).map(|words| Read::Command(Run::Local(words)))
            }
            (Form::Command, DeValue::String(word)) if word == "agent" && self.agents => Ok(Read::Command(Run::Agent)),
            (Form::Command, _) => Err(format!(
                "{}: expected a program and its arguments as a list, such as [\"ssh\", \"{{node}}\", \"patch\"]; no shell \
                 is started",
                key.name
            )),
        };
        read.map_err(|message| self.wrong(item, &message)).ok()
    }

    fn words(&self, items: &[Item<'_>]) -> Result<Vec<String>, String> {
        let word = |item: &Item<'_>| match item.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            _ => Err("every argument is a text in quotes".to_owned()),
        };
        items.iter().map(word).collect()
    }

    fn commands(&mut self, table: &Table<'_>) -> Commands {
        let mut commands = Commands::default();
        for (name, item) in table {
            let Some(key) = COMMANDS.iter().find(|key| key.name == name.get_ref().as_ref()) else {
                self.unknown(name, COMMANDS.iter().map(|key| key.name));
                continue;
            };
            let Some(Read::Command(run)) = self.value(key, item) else { continue };
            let place = match key.name {
                "patch" => &mut commands.patch,
                "roll-back" => &mut commands.roll_back,
                "reboot" => &mut commands.reboot,
                "crash" => &mut commands.crash,
                "before-drain" => &mut commands.before_drain,
                _ => &mut commands.after_ready,
            };
            *place = Some(run);
        }
        commands
    }

    fn shards(&mut self, items: &[Item<'_>]) -> Vec<Shard> {
        let mut shards: Vec<Shard> = Vec::new();
        for item in items {
            let DeValue::Table(table) = item.get_ref() else {
                self.wrong(item, "expected a table: [[shard]]");
                continue;
            };
            let Some(shard) = self.shard(item, table) else { continue };
            if shards.iter().any(|other| other.name == shard.name) {
                self.wrong(item, &format!("the name {:?} is taken by another shard", shard.name));
            }
            for node in &shard.nodes {
                if shards.iter().flat_map(|other| &other.nodes).any(|other| other.admin == node.admin) {
                    self.wrong(item, &format!("{} is the proxy of another node already", node.admin));
                }
            }
            shards.push(shard);
        }
        shards
    }

    fn shard(&mut self, whole: &Item<'_>, table: &Table<'_>) -> Option<Shard> {
        let (mut name, mut group, mut nodes) = (None, None, Vec::new());
        let before = self.problems.0.len();
        for (key, item) in table {
            match (key.get_ref().as_ref(), item.get_ref()) {
                ("name", DeValue::String(text)) => name = self.name(item, text),
                ("group", DeValue::String(text)) => group = self.name(item, text),
                ("node", DeValue::Array(items)) => nodes = self.nodes(items),
                ("name" | "group", _) => self.wrong(item, "expected a name in quotes"),
                ("node", _) => self.wrong(item, "expected a list, such as [\"a=unix:/run/changeover-a.sock\"]"),
                _ => self.unknown(key, ["name", "group", "node"].into_iter()),
            }
        }
        if self.problems.0.len() > before {
            return None;
        }
        match (name, nodes.len()) {
            (None, _) => self.wrong(whole, "a shard needs a name"),
            (_, 0) => self.wrong(whole, "a shard needs node = [\"NAME=ADMIN\", …]"),
            (Some(name), 1..=MAX_NODES) => {
                let group = group.unwrap_or_else(|| name.clone());
                return Some(Shard { name, group, nodes });
            }
            _ => self.wrong(whole, "a shard has one or two nodes"),
        }
        None
    }

    fn nodes(&mut self, items: &[Item<'_>]) -> Vec<Node> {
        let mut nodes: Vec<Node> = Vec::new();
        for item in items {
            let text = if let DeValue::String(text) = item.get_ref() { text.as_ref() } else { "" };
            let Some((name, admin)) = text.split_once('=') else {
                self.wrong(
                    item,
                    "expected NAME=ADMIN, such as \"a=unix:/run/changeover-a.sock\" or \"a=https://redis-a:9380\"",
                );
                continue;
            };
            let Some(name) = self.name(item, name) else { continue };
            let admin = match admin_address(admin) {
                Ok(admin) => admin,
                Err(message) => {
                    self.wrong(item, &message);
                    continue;
                }
            };
            if nodes.iter().any(|other| other.name == name || other.admin == admin) {
                self.wrong(item, "the other node has this name or this address already");
            }
            nodes.push(Node { name, admin });
        }
        nodes
    }

    /// A name that is safe in file names and in the arguments of commands.
    fn name(&mut self, item: &Item<'_>, text: &str) -> Option<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let fits = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.len() <= 64 && text.chars().all(plain);
        if !fits {
            let rule = "a name is made of letters, digits, `-`, `_` and `.`, and begins with a letter or digit";
            self.wrong(item, &format!("{rule}, not {text:?}"));
        }
        fits.then(|| text.to_owned())
    }

    fn unknown<'k>(&mut self, name: &Spanned<toml::de::DeString<'_>>, known: impl Iterator<Item = &'k str>) {
        let nearest = known.map(|key| (distance(name.get_ref(), key), key)).min();
        let message = match nearest {
            Some((slips, near)) if slips * 3 <= near.len().max(3) => {
                format!("unknown key `{}`; did you mean `{near}`?", name.get_ref())
            }
            _ => format!("unknown key `{}`", name.get_ref()),
        };
        let place = self.place(name.span());
        self.problems.add(place, message);
    }

    fn wrong(&mut self, item: &Item<'_>, message: &str) {
        let place = self.place(item.span());
        self.problems.add(place, message);
    }

    fn place(&self, span: std::ops::Range<usize>) -> Place {
        Place::in_file(self.path, self.text, span)
    }
}

/// The default of a key as the table has it; a test keeps every one readable.
fn fallback(name: &str) -> u64 {
    let key = KEYS.iter().find(|key| key.name == name);
    key.and_then(|key| if let Form::Number(kind) = key.kind { value::number(kind, key.fallback).ok() } else { None })
        .unwrap_or_default()
}
