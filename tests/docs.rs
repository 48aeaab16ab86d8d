//! The pages are true where a machine can tell: links, names of tests, files, metrics, flags, the proxy's permissions.
//!
//! Reads Markdown as text: links, code spans and code blocks, nothing more. What the pages promise is tested elsewhere.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Page {
    /// Relative to the repository.
    path: PathBuf,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<Page> {
    let mut pages = Vec::new();
    for folder in ["", "docs", "certs", "benches", "docker"] {
        let Ok(entries) = fs::read_dir(root().join(folder)) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.extension().is_some_and(|ending| ending == "md") {
                let text = fs::read_to_string(&path).unwrap();
                pages.push(Page { path: path.strip_prefix(root()).unwrap().to_path_buf(), text });
            }
        }
    }
    assert!(pages.len() > 8, "the pages are missing");
    pages
}

fn page(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The text without fenced blocks.
fn prose(text: &str) -> String {
    text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n")
}

/// The contents of fenced blocks, their language in the first line.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n```").skip(1).step_by(2)
}

/// What stands between single backticks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Targets of `[text](target)`.
fn links(text: &str) -> Vec<String> {
    let without_spans: String =
        prose(text).lines().map(|line| line.split('`').step_by(2).collect::<String>() + "\n").collect();
    let targets = without_spans.split("](").skip(1);
    targets.map(|rest| rest.split(')').next().unwrap_or_default().to_owned()).collect()
}

/// A heading as links name it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn broken(page: &Page, target: &str) -> Option<String> {
    if target.starts_with("https://") || target.starts_with("http://") {
        return None;
    }
    let (file, fragment) = target.split_once('#').map_or((target, None), |(file, fragment)| (file, Some(fragment)));
    let folder = page.path.parent().unwrap_or(Path::new(""));
    let path = if file.is_empty() { root().join(&page.path) } else { root().join(folder).join(file) };
    let Ok(text) = fs::read_to_string(&path) else {
        return (!path.is_dir()).then(|| format!("{}: {target}: no such file", page.path.display()));
    };
    let fragment = fragment?;
    let known = prose(&text).lines().any(|line| line.starts_with('#') && anchor(line) == fragment);
    (!known).then(|| format!("{}: {target}: no such heading", page.path.display()))
}

#[test]
fn links_lead_somewhere() {
    let wrong = Page { path: "docs/x.md".into(), text: "[a](nothing.md) [b](metrics.md#nothing) [c](#nothing)".into() };
    for target in links(&wrong.text) {
        assert!(broken(&wrong, &target).is_some(), "the rule does not see what is wrong with {target}");
    }
    let pages = pages();
    let found: Vec<_> =
        pages.iter().flat_map(|page| links(&page.text).into_iter().filter_map(|t| broken(page, &t))).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_readme_is_short() {
    let lines = page("README.md").lines().count();
    assert!(lines < 150, "README.md has {lines} lines");
}

fn collect(folder: &Path, into: &mut String) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// Rows of the table under a heading, without its head.
fn rows(page_path: &str, heading: &str) -> Vec<String> {
    let text = page(page_path);
    let (_, section) = text.split_once(&format!("\n## {heading}")).unwrap();
    let table = section.split("\n## ").next().unwrap();
    table.lines().filter(|line| line.starts_with("| ")).skip(1).map(str::to_owned).collect()
}

fn assert_tests_exist<'a>(page: &str, names: impl Iterator<Item = &'a str>) {
    let mut sources = String::new();
    collect(&root().join("src"), &mut sources);
    collect(&root().join("tests"), &mut sources);
    for name in names {
        assert!(sources.contains(&format!("fn {name}(")), "{page} names the test {name}, which does not exist");
    }
}

#[test]
fn every_test_that_keeps_an_invariant_exists() {
    let rows = rows("ARCHITECTURE.md", "What is never so");
    let cells = rows.iter().filter_map(|line| line.strip_prefix("| ")?.split(" | ").nth(1));
    let names: Vec<_> = cells.flat_map(spans).collect();
    assert!(names.len() > 15, "the table is missing");
    assert_tests_exist("ARCHITECTURE.md", names.into_iter());
}

#[test]
fn every_row_of_the_life_of_a_request_is_shown_in_every_kind_of_change() {
    let path = "docs/life-of-a-request.md";
    let stories = fs::read_dir(root().join("tests/transcripts/sessions")).unwrap().count();
    let rows = rows(path, "Who shows it");
    assert_eq!(rows.len(), stories, "one row for each transcript");
    for row in &rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        assert!(cells.len() == 4 && cells.iter().all(|cell| spans(cell).next().is_some()), "a cell is empty: {row}");
        // (That the transcript exists is checked with all other files that pages name.)
        assert_tests_exist(path, cells.iter().skip(1).flat_map(|cell| spans(cell)));
    }
}

#[test]
fn files_that_pages_name_exist() {
    for page in pages() {
        for name in spans(&prose(&page.text)) {
            let name = name.trim_end_matches('/');
            let ours = ["src/", "tests/", "benches/", "docs/", "docker/"].iter().any(|folder| name.starts_with(folder));
            if ours && !name.contains(['*', ' ', '<', '…']) {
                assert!(root().join(name).exists(), "{}: there is no {name}", page.path.display());
            }
        }
    }
}

#[test]
fn metrics_that_pages_name_exist() {
    let catalogue = page("src/metrics/catalogue.rs");
    for page in pages() {
        let words = page.text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for name in words.filter(|word| word.starts_with("changeover_")) {
            let family =
                ["_bucket", "_sum", "_count"].iter().fold(name, |name, end| name.strip_suffix(end).unwrap_or(name));
            let known = catalogue.contains(&format!("\"{family}\""));
            assert!(known, "{}: {name} is not in the catalogue", page.path.display());
        }
    }
}

/// Commands of shell blocks: sub-command and flags.
fn commands(text: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for block in blocks(text).filter(|block| block.starts_with("sh")) {
        for line in block.replace("\\\n", " ").lines() {
            let words: Vec<_> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            let ["changeover", sub, rest @ ..] = words.as_slice() else { continue };
            let flags = rest.iter().filter(|word| word.starts_with("--")).map(|flag| (*flag).to_owned());
            found.push(((*sub).to_owned(), flags.collect()));
        }
    }
    found
}

#[test]
fn commands_that_pages_show_are_understood() {
    let mut seen = HashSet::new();
    for page in pages() {
        for (sub, flags) in commands(&page.text) {
            let out = Command::new(env!("CARGO_BIN_EXE_changeover")).args([&sub, "--help"]).output().unwrap();
            assert!(out.status.success(), "{}: there is no `changeover {sub}`", page.path.display());
            let help = String::from_utf8(out.stdout).unwrap();
            let known: HashSet<_> = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).collect();
            for flag in flags {
                assert!(known.contains(flag.as_str()), "{}: `changeover {sub}` has no {flag}", page.path.display());
            }
            seen.insert(sub);
        }
    }
    assert!(seen.len() > 4, "the pages show too few commands for the rule to mean anything: {seen:?}");
}

#[test]
fn the_permissions_are_the_same_on_every_page() {
    let permissions = |text: &str, before: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(before)).expect("the rule").to_owned();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let tested = permissions(&page("docs/configuration.md"), "ACL SETUSER changeover ");
    assert_eq!(permissions(&page("docs/operations.md"), "user changeover "), tested);
}
