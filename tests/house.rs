//! The rules of the house that a machine can keep: layers, sizes, heads, words, purity.
//!
//! Reads the source as text and knows no Rust beyond comments, strings and paths. Each rule is shown to be able to fail.

#![expect(clippy::expect_used, reason = "a test that cannot go on says so")]

use std::fs;
use std::path::{Path, PathBuf};

/// Each folder of `src`, and the folders it may use besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("session", &["protocol"]),
    ("topology", &["protocol"]),
    ("patch", &["protocol", "session", "topology"]),
    ("config", &["protocol", "session", "topology", "patch"]),
    ("metrics", &["protocol", "session", "topology", "patch"]),
    ("io", &["protocol", "session", "topology", "patch", "config", "metrics"]),
    ("control", &["protocol", "session", "topology", "patch", "config", "metrics", "io"]),
    ("cli", &["protocol", "session", "topology", "patch", "config", "metrics", "io", "control"]),
];

/// Folders in which nothing waits, locks, logs, draws randomness or reads the clock.
const PURE: &[&str] = &["protocol", "session", "topology", "patch"];
const EFFECTS: &[&str] = &[
    "tokio::",
    "tracing::",
    "metrics::",
    "std::fs",
    "std::thread",
    "Instant",
    "SystemTime",
    "Mutex",
    "RwLock",
    "getrandom",
    "TcpStream",
    "async ",
    ".await",
    "println!",
];

const MAX_LINES: usize = 600;
const RESERVED: &[&str] = &["utils", "util", "common", "helpers", "helper", "types", "manager", "misc"];

struct Source {
    /// Relative to the repository.
    path: String,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// The folder of `src` that it is in.
    fn layer(&self) -> Option<&str> {
        self.path.strip_prefix("src/")?.split_once('/').map(|(layer, _)| layer)
    }

    /// Without tests (which stand last), comments and strings.
    fn code(&self) -> String {
        let lines = before_tests(&self.text).lines().map(without_quotes);
        lines.map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect()
    }

    fn is_test(&self) -> bool {
        !self.path.starts_with("src/") || self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

/// A file without its inline tests, which stand last. A `#[cfg(test)]` before anything else, such as `mod tests;`
/// near the head, hides nothing behind it.
fn before_tests(text: &str) -> &str {
    let end = text.match_indices("#[cfg(test)]").find(|(at, attribute)| {
        let mut behind = text[at + attribute.len()..].lines().skip(1).map(str::trim);
        let item = behind.find(|line| !line.is_empty() && !line.starts_with("//") && !line.starts_with("#["));
        item.is_some_and(|item| item.starts_with("mod tests {"))
    });
    end.map_or(text, |(at, _)| &text[..at])
}

/// What stands between double quotes or backticks is dropped (line by line; good enough for words and paths).
fn without_quotes(line: &str) -> String {
    let (mut kept, mut quote, mut escaped) = (String::new(), None, false);
    for letter in line.chars() {
        match quote {
            None if letter == '"' || letter == '`' => quote = Some(letter),
            None => kept.push(letter),
            Some(_) if escaped => escaped = false,
            Some(_) if letter == '\\' => escaped = true,
            Some(open) if letter == open => quote = None,
            Some(_) => {}
        }
    }
    kept
}

/// First names behind `crate::`, braces included: `crate::{io, session::Phase}` gives both.
fn used(code: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut names = Vec::new();
    for (at, found) in code.match_indices("crate::").chain(code.match_indices("changeover::")) {
        let rest = &code[at + found.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.push(rest.chars().take_while(|&c| is_name(c)).collect());
            continue;
        };
        let (mut depth, mut name, mut first) = (1, String::new(), true);
        for letter in group.chars() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => (name, first) = (String::new(), true),
                _ if depth == 1 && first && is_name(letter) => name.push(letter),
                _ if depth == 1 && first && !name.is_empty() => {
                    names.push(std::mem::take(&mut name));
                    first = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        if !name.is_empty() {
            names.push(name);
        }
    }
    names
}

fn crossed_layers(source: &Source) -> Vec<String> {
    let Some(layer) = source.layer() else { return Vec::new() };
    let Some((_, may)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![format!("{}: the folder {layer} is in no layer", source.path)];
    };
    let is_layer = |name: &str| LAYERS.iter().any(|(layer, _)| *layer == name);
    let mut wrong: Vec<_> = used(&source.code())
        .into_iter()
        .filter(|name| is_layer(name) && name != layer && !may.contains(&name.as_str()))
        .map(|name| format!("{}: {layer} may not use {name}", source.path))
        .collect();
    // `super` must not lead out of the folder: the path's depth says how many are allowed.
    let depth = source.path.matches('/').count() - usize::from(source.path.ends_with("/mod.rs"));
    if source.code().contains(&"super::".repeat(depth)) {
        wrong.push(format!("{}: super leads out of {layer}", source.path));
    }
    wrong
}

fn impure(source: &Source) -> Vec<String> {
    if !source.layer().is_some_and(|layer| PURE.contains(&layer)) || source.is_test() {
        return Vec::new();
    }
    let code = source.code();
    let found = EFFECTS.iter().filter(|effect| code.contains(*effect));
    found.map(|effect| format!("{}: {effect} in a pure folder", source.path)).collect()
}

fn too_long(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines > MAX_LINES { vec![format!("{}: {lines} lines", source.path)] } else { Vec::new() }
}

fn headless(source: &Source) -> Vec<String> {
    if source.text.starts_with("//! ") { Vec::new() } else { vec![format!("{}: no module doc", source.path)] }
}

fn wire_words(source: &Source) -> Vec<String> {
    if source.layer() == Some("protocol") || source.is_test() {
        return Vec::new();
    }
    let lines = before_tests(&source.text).lines().enumerate();
    lines
        .filter(|(_, line)| {
            without_quotes(line)
                .split(|c: char| !(c.is_alphanumeric() || c == '_'))
                .any(|word| matches!(word.to_lowercase().trim_end_matches('s'), "master" | "slave"))
        })
        .map(|(at, line)| format!("{}:{}: a word of the wire: {}", source.path, at + 1, line.trim()))
        .collect()
}

fn reserved_name(source: &Source) -> Vec<String> {
    let parts = source.path.split('/').map(|part| part.trim_end_matches(".rs"));
    parts.filter(|part| RESERVED.contains(part)).map(|part| format!("{}: {part} says nothing", source.path)).collect()
}

fn sources() -> Vec<Source> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let mut sources = Vec::new();
    for folder in ["src", "tests", "benches"] {
        collect(&root, &root.join(folder), &mut sources);
    }
    assert!(sources.len() > 10, "too few files were found for the rules to mean anything");
    sources
}

fn collect(root: &Path, folder: &Path, into: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            collect(root, &path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let relative = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
            into.push(Source { path: relative, text: fs::read_to_string(&path).expect("text") });
        }
    }
}

/// The rule holds for every file, and finds what is wrong in the sample.
fn keep(rule: fn(&Source) -> Vec<String>, wrong: &[Source]) {
    for sample in wrong {
        assert!(!rule(sample).is_empty(), "the rule does not see what is wrong in {}: {}", sample.path, sample.text);
    }
    let found: Vec<_> = sources().iter().flat_map(rule).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn each_layer_uses_only_what_stands_left_of_it() {
    let wrong = [
        Source::new("src/protocol/x.rs", "use crate::session::Phase;"),
        Source::new("src/session/x.rs", "let x = crate::topology::view::View;"),
        Source::new("src/topology/x.rs", "use crate::{protocol::info, session};"),
        Source::new("src/topology/x.rs", "use crate::{protocol::{info, io}, io::{self}};"),
        Source::new("src/io/x.rs", "use crate::control::Event;"),
        Source::new("src/config/x.rs", "use crate::metrics::Counter;"),
        Source::new("src/config/x.rs", "use super::super::io;"),
        Source::new("src/config/mod.rs", "use super::io;"),
        Source::new("src/unheard_of/mod.rs", ""),
    ];
    keep(crossed_layers, &wrong);
    let right =
        Source::new("src/io/x/mod.rs", "use super::{y, clock};\nuse crate::{config::Config, io::y};\n// crate::cli");
    assert_eq!(crossed_layers(&right), Vec::<String>::new());
}

#[test]
fn pure_folders_have_no_effects() {
    // The tests of a folder are declared near the head, and hide nothing behind them.
    let declared = "mod x;\n#[cfg(test)]\nmod tests;\n\nuse tokio::net;";
    let wrong =
        [("src/session/x.rs", "use tokio::net;"), ("src/patch/x.rs", "x.await;"), ("src/session/mod.rs", declared)];
    keep(impure, &wrong.map(|(path, text)| Source::new(path, text)));
    let inline = "#[cfg(test)]\n#[expect(clippy::panic, reason = \"x\")]\nmod tests {\n    use tokio::net;\n}";
    assert_eq!(impure(&Source::new("src/session/x.rs", inline)), Vec::<String>::new());
}

#[test]
fn no_file_is_longer_than_its_cap() {
    keep(too_long, &[Source::new("src/io/x.rs", &"\n".repeat(601))]);
}

#[test]
fn every_file_says_what_it_is_for() {
    keep(headless, &[Source::new("src/io/x.rs", "use std::fmt;\n//! Late.")]);
}

#[test]
fn the_words_of_the_wire_stay_in_protocol() {
    let wrong = ["// the master", "let slave = 1;", "WireRole::Master", "/// Slaves of it."];
    keep(wire_words, &wrong.map(|text| Source::new("src/io/x.rs", text)));
    for quoted in [
        "/// `role:master`",
        "let x = \"role:slave\";",
        "link.slave_repl_offset",
        "#[cfg(test)]\nmod tests {\n    let master;\n}",
    ] {
        assert_eq!(wire_words(&Source::new("src/io/x.rs", quoted)), Vec::<String>::new());
    }
}

#[test]
fn no_name_says_nothing() {
    keep(reserved_name, &[Source::new("src/io/utils.rs", ""), Source::new("src/common/x.rs", "")]);
}
