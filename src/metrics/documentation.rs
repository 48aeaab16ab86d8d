//! Keeps docs/metrics.md the same as the catalogue: the part between its two marks is generated.
//!
//! `CHANGEOVER_WRITE_DOCS=1 cargo test --lib metrics::documentation` writes it anew. The queries that the page shows
//! are checked to name only metrics and labels that exist.

use std::fmt::Write as _;

use super::catalogue::{ALL, Family, Label};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
const BEGIN: &str = "<!-- generated from src/metrics/catalogue.rs: begin -->\n";
const END: &str = "<!-- generated from src/metrics/catalogue.rs: end -->\n";

fn generated() -> String {
    let mut page = String::from("\n");
    for family in ALL {
        let Family { name, kind, help, .. } = family;
        let unit = match family.unit() {
            "1" => String::new(),
            unit => format!(", {unit}"),
        };
        let _ = write!(page, "### `{name}`\n\n{help} ({}{unit})\n\n", kind.word());
        for label in family.labels {
            write_label(&mut page, label);
        }
    }
    page
}

fn write_label(page: &mut String, label: &Label) {
    if label.values.is_empty() {
        let what = if label.name == "node" { "the node's configured name" } else { "open" };
        let _ = write!(page, "| `{}` | |\n|---|---|\n| *any* | {what} |\n\n", label.name);
        return;
    }
    let _ = write!(page, "| `{}` | |\n|---|---|\n", label.name);
    for (value, meaning) in label.values {
        let _ = writeln!(page, "| `{value}` | {meaning} |");
    }
    page.push('\n');
}

#[test]
fn docs_metrics_md_is_the_catalogue() {
    let page = std::fs::read_to_string(PATH).unwrap();
    let (head, rest) = page.split_once(BEGIN).expect("the first mark");
    let (present, tail) = rest.split_once(END).expect("the second mark");
    if std::env::var_os("CHANGEOVER_WRITE_DOCS").is_some() {
        std::fs::write(PATH, [head, BEGIN, &generated(), END, tail].concat()).unwrap();
        return;
    }
    assert_eq!(present, generated(), "run: CHANGEOVER_WRITE_DOCS=1 cargo test --lib metrics::documentation");
}

#[test]
fn the_queries_on_the_page_name_only_what_exists() {
    let page = std::fs::read_to_string(PATH).unwrap();
    let (head, rest) = page.split_once(BEGIN).expect("the first mark");
    let written = [head, rest.split_once(END).expect("the second mark").1].concat();
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let mut named = 0;
    for name in written.split(word).filter(|name| name.starts_with("changeover_")) {
        let known = ALL.iter().any(|family| {
            let suffix = name.strip_prefix(family.name);
            suffix.is_some_and(|suffix| ["", "_bucket", "_sum", "_count"].contains(&suffix))
        });
        assert!(known, "{name} is not in the catalogue");
        named += 1;
    }
    assert!(named > 5, "the page shows no queries");
}
