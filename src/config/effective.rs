//! The effective configuration as TOML that `run --config` would read again.
//!
//! Secrets cannot show: the table has names of files that hold them, never their content.

use std::fmt::Write as _;

use super::build::Setting;
use super::fleet::{COMMANDS, Commands, Run};
use super::keys::{Fallback, Kind};

/// One line for each key; what is not set stands as a comment.
pub fn to_toml(settings: &[Setting], hooks: &Commands) -> String {
    let mut out = String::new();
    let mut group = "";
    for setting in settings {
        if setting.key.group != group {
            group = setting.key.group;
            let gap = if out.is_empty() { "" } else { "\n" };
            let _ = writeln!(out, "{gap}# {group}");
        }
        let line = match (&setting.values[..], setting.key.fallback) {
            ([], Fallback::Nothing(meaning)) => format!("# {} is not set: {meaning}", setting.key.name),
            ([], _) => format!("# {} is not set", setting.key.name),
            (values, _) => format!("{} = {}  # {}", setting.key.name, shown(setting.key.kind, values), setting.origin),
        };
        let _ = writeln!(out, "{line}");
    }
    let words = |run: &Run| if let Run::Local(words) = run { words.clone() } else { Vec::new() };
    let hooks = COMMANDS.iter().filter_map(|key| Some((key.name, words(hooks.named(key.name)?))));
    let hooks: Vec<_> = hooks.map(|(name, words)| format!("{name} = {}", toml::Value::from(words))).collect();
    if !hooks.is_empty() {
        let _ = writeln!(out, "\n[hooks]\n{}", hooks.join("\n"));
    }
    out
}

fn shown(kind: Kind, values: &[String]) -> String {
    let quoted = |value: &String| toml::Value::String(value.clone()).to_string();
    match (kind, values) {
        (Kind::Count(..), [count]) => count.clone(),
        (Kind::Node | Kind::Address, nodes) => format!("[{}]", nodes.iter().map(quoted).collect::<Vec<_>>().join(", ")),
        (_, values) => values.last().map(quoted).unwrap_or_default(),
    }
}
