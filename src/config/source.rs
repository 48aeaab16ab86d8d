//! Flags and file become texts by key, each with the place it came from; flags win.
//!
//! It knows the names of keys, not what their values mean. Invariant: whatever the file holds is either taken or
//! reported; nothing is ignored silently.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::fleet::{self, Commands};
use super::keys::{self, Key, Kind};
use super::problem::{Place, Problems};

/// What the command line said.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// The settings, in the order they were given.
    pub given: Vec<Given>,
}

impl Flags {
    /// The flags `--name value`, for programs and tests.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a Key, String)>) -> Self {
        let given = pairs.into_iter().map(|(key, value)| Given {
            key: key.name.to_owned(),
            place: Place::Flag(format!("--{}", key.name)),
            value,
        });
        Self { config: None, given: given.collect() }
    }
}

/// One value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The key's name.
    pub key: String,
    /// What was written.
    pub value: String,
    /// Where.
    pub place: Place,
}

/// Everything that was given.
#[derive(Debug, Default)]
pub(super) struct Sources {
    values: BTreeMap<String, Vec<Given>>,
    /// The file could be read as a whole, so that what is missing is really missing.
    pub(super) complete: bool,
    /// `[hooks]` of the file.
    pub(super) hooks: Commands,
}

impl Sources {
    /// Reads the file, if there is one, then lays the flags over it.
    pub(super) fn read(flags: &Flags, problems: &mut Problems) -> Self {
        let mut sources = Self { complete: true, ..Self::default() };
        if let Some(path) = &flags.config {
            sources.complete = sources.read_file(path, problems);
        }
        let flagged: Vec<&str> = flags.given.iter().map(|given| given.key.as_str()).collect();
        sources.values.retain(|key, _| !flagged.contains(&key.as_str()));
        flags.given.iter().for_each(|given| sources.push(given.clone()));
        sources
    }

    /// What was given for `key`, in order.
    pub(super) fn of(&self, key: &Key) -> &[Given] {
        self.values.get(key.name).map_or(&[], Vec::as_slice)
    }

    fn push(&mut self, given: Given) {
        self.values.entry(given.key.clone()).or_default().push(given);
    }

    /// Whether the whole file was understood.
    fn read_file(&mut self, path: &Path, problems: &mut Problems) -> bool {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let flag = Place::Flag("--config".to_owned());
                problems.add(flag, format!("cannot read {}: {error}", path.display()));
                return false;
            }
        };
        let (table, errors) = DeTable::parse_recoverable(&text);
        let file = FileText { path, text: &text };
        let mut broken_lines = Vec::new();
        for error in &errors {
            let place = file.place(error.span().unwrap_or_default());
            broken_lines.extend(place.line());
            problems.add(place, error.message());
        }
        for (name, value) in table.get_ref() {
            // What the parser made up to get past its own error is not worth a second one.
            if file.place(name.span()).line().is_some_and(|line| broken_lines.contains(&line)) {
                continue;
            }
            if name.get_ref() == "hooks" {
                self.hooks = fleet::hooks(path, &text, value, problems);
                continue;
            }
            match keys::named(name.get_ref()) {
                Some(key) => file.values(key, value, problems).into_iter().for_each(|given| self.push(given)),
                None => problems.add(file.place(name.span()), unknown(name.get_ref())),
            }
        }
        errors.is_empty()
    }
}

struct FileText<'a> {
    path: &'a Path,
    text: &'a str,
}

impl FileText<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        Place::in_file(self.path, self.text, span)
    }

    fn values(&self, key: &Key, value: &toml::Spanned<DeValue<'_>>, problems: &mut Problems) -> Vec<Given> {
        match value.get_ref() {
            DeValue::Array(items) if key.repeats() => {
                items.iter().filter_map(|item| self.value(key, item, problems)).collect()
            }
            _ => self.value(key, value, problems).into_iter().collect(),
        }
    }

    fn value(&self, key: &Key, value: &toml::Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Given> {
        let place = self.place(value.span());
        let text = match value.get_ref() {
            DeValue::String(text) => self.anchored(key, text),
            DeValue::Integer(_) => self.text.get(value.span())?.replace('_', ""),
            _ => {
                let several = if key.repeats() { ", or a list of them" } else { "" };
                let message = format!("{}: expected a text such as {:?}{several}", key.name, key.kind.placeholder());
                problems.add(place, message);
                return None;
            }
        };
        Some(Given { key: key.name.to_owned(), value: text, place })
    }

    /// Paths in a file are relative to the folder of the file: a service has no meaningful folder of its own.
    fn anchored(&self, key: &Key, text: &str) -> String {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let anchor = |path: &str| folder.join(path).display().to_string();
        match (key.kind, text.strip_prefix("unix:")) {
            (Kind::File | Kind::Directory, _) if !text.is_empty() => anchor(text),
            (Kind::Admin, Some(path)) if !path.is_empty() => format!("unix:{}", anchor(path)),
            _ => text.to_owned(),
        }
    }
}

fn unknown(name: &str) -> String {
    let nearest = keys::ALL.iter().map(|key| (distance(name, key.name), key.name)).min();
    match nearest {
        // A name with more than a third of its letters wrong is no slip of the hand.
        Some((slips, near)) if slips * 3 <= near.len().max(3) => {
            format!("unknown key `{name}`; did you mean `{near}`?")
        }
        _ => format!("unknown key `{name}`; `changeover run --help` lists all keys"),
    }
}

/// How many letters must be changed, added or dropped (Levenshtein).
pub(super) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let here = (diagonal + usize::from(ca != *cb)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
