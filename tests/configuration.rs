//! `docs/configuration.md` says what the table of settings says, its examples work, and `check` and `certs` end as
//! documented.
//!
//! After a change of the table: `CHANGEOVER_WRITE_DOCS=1 cargo test --test configuration`.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it cannot go on")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use changeover::config::keys::{self, Fallback, Key, Kind};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
const BEGIN: &str = "<!-- from src/config/keys.rs -->\n";
const END: &str = "<!-- end -->\n";

fn reference() -> String {
    let mut out = String::new();
    let mut group = "";
    for key in keys::ALL {
        if key.group != group {
            group = key.group;
            let _ = write!(out, "\n### {group}\n\n| Key | Value | Default | What it does |\n|---|---|---|---|\n");
        }
        let _ = writeln!(out, "| `{}` | {} | {} | {} |", key.name, value(key), default(key), key.doc);
    }
    out + "\n"
}

fn value(key: &Key) -> String {
    let placeholder = key.kind.placeholder().replace('|', "` or `");
    match key.kind.limits() {
        limits if limits.is_empty() => format!("`{placeholder}`"),
        words if matches!(key.kind, Kind::Either(..)) => words,
        limits => format!("`{placeholder}`, {limits}"),
    }
}

fn default(key: &Key) -> String {
    match key.fallback {
        Fallback::Required => "must be given".to_owned(),
        Fallback::Nothing(meaning) => format!("not set: {meaning}"),
        Fallback::Value(value) => format!("`{value}`"),
        Fallback::Found(how, _) => how.to_owned(),
    }
}

/// What stands before, between and after the two marks.
fn parts(page: &str) -> (&str, &str, &str) {
    let (before, rest) = page.split_once(BEGIN).expect("the page has a begin mark");
    let (between, after) = rest.split_once(END).expect("the page has an end mark");
    (before, between, after)
}

#[test]
fn the_page_is_as_the_table() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, between, after) = parts(&page);
    if std::env::var_os("CHANGEOVER_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, format!("{before}{BEGIN}{}{END}{after}", reference())).unwrap();
        return;
    }
    assert_eq!(between, reference(), "run: CHANGEOVER_WRITE_DOCS=1 cargo test --test configuration");
}

fn changeover(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_changeover"));
    // What the machine has set must not decide a test.
    for key in keys::ALL {
        command.env_remove(key.variable());
    }
    command.current_dir(dir).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_example_of_the_page_is_accepted_with_the_certificates_that_certs_makes() {
    let dir = tempfile::tempdir().unwrap();
    let made = changeover(dir.path(), &["certs", "--dir", "certs", "--client"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert_eq!(text(&made.stdout).lines().count(), 6);
    let page = std::fs::read_to_string(PAGE).unwrap();
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    std::fs::write(dir.path().join("changeover.toml"), example).unwrap();
    std::fs::write(dir.path().join("password"), "hidden-word\n").unwrap();
    assert!(changeover(dir.path(), &["secret", "channel.secret"]).status.success());
    let secret = std::fs::read_to_string(dir.path().join("channel.secret")).unwrap();
    let checked = changeover(dir.path(), &["check", "--config", "changeover.toml"]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(!text(&checked.stdout).contains("hidden-word") && !text(&checked.stdout).contains(secret.trim()));
    assert!(checked.stderr.is_empty(), "{}", text(&checked.stderr));
    // What it prints is a configuration itself.
    std::fs::write(dir.path().join("printed.toml"), &checked.stdout).unwrap();
    assert!(changeover(dir.path(), &["check", "--config", "printed.toml"]).status.success());
}

#[test]
fn without_a_secret_the_check_says_what_is_missing_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    assert!(changeover(dir.path(), &["certs"]).status.success());
    let flags = ["--listen", "127.0.0.1:0", "--cert", "certs/server.crt", "--key", "certs/server.key"];
    let node = ["--node", "a=127.0.0.1:1", "--channel-secret-file", "channel.secret"];
    let check = |node: &[&str]| changeover(dir.path(), &[&["check"], &flags[..], node].concat());
    let checked = check(&node[..2]);
    assert!(checked.status.success(), "it is no mistake");
    assert!(text(&checked.stderr).contains("changeover secret FILE"), "{}", text(&checked.stderr));
    assert!(!check(&node).status.success(), "the file is not there");
    assert!(changeover(dir.path(), &["secret", "channel.secret"]).status.success());
    assert!(!changeover(dir.path(), &["secret", "channel.secret"]).status.success(), "nothing is overwritten");
    let checked = check(&node);
    assert!(checked.status.success() && checked.stderr.is_empty(), "{}", text(&checked.stderr));
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(dir.path().join("channel.secret"), readable).unwrap();
    assert!(text(&check(&node).stderr).contains("chmod 600"), "others can read it");
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_every_reason() {
    let dir = tempfile::tempdir().unwrap();
    assert!(changeover(dir.path(), &["certs", "--client"]).status.success());
    let flags = ["--listen", "127.0.0.1:0", "--node", "a=127.0.0.1:7001", "--cert", "certs/server.crt"];
    let check = |more: &[&str]| changeover(dir.path(), &[&["check"], &flags[..], more].concat());

    let fine = check(&["--key", "certs/server.key"]);
    assert_eq!(fine.status.code(), Some(0), "{}", text(&fine.stderr));

    let mixed = check(&["--key", "certs/client.key", "--client-ca", "certs/ca.key"]);
    assert_eq!(mixed.status.code(), Some(1));
    let told = text(&mixed.stderr);
    assert!(
        told.contains("does not match the certificate") && told.contains("no certificate in certs/ca.key"),
        "{told}"
    );

    let run = changeover(dir.path(), &["run", "--workers", "0"]);
    assert_eq!(run.status.code(), Some(2));
    assert!(text(&run.stderr).ends_with("5 errors in the configuration\n"), "{}", text(&run.stderr));
}

#[test]
fn a_setting_may_come_from_the_environment_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    assert!(changeover(dir.path(), &["certs"]).status.success());
    let checked = Command::new(env!("CARGO_BIN_EXE_changeover"))
        .current_dir(dir.path())
        .args(["check", "--listen", "127.0.0.1:0", "--cert", "certs/server.crt", "--key", "certs/server.key"])
        .env("CHANGEOVER_NODE", "a=127.0.0.1:7001,b=127.0.0.1:7002")
        .env("CHANGEOVER_LISTEN", "0.0.0.0:1")
        .output()
        .unwrap();
    let printed = text(&checked.stdout);
    assert!(printed.contains("node = [\"a=127.0.0.1:7001\", \"b=127.0.0.1:7002\"]  # CHANGEOVER_NODE\n"), "{printed}");
    assert!(printed.contains("listen = \"127.0.0.1:0\"  # --listen\n"), "{printed}");
}

#[test]
fn there_are_completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let made = changeover(Path::new("."), &["completions", shell]);
        assert!(made.status.success() && text(&made.stdout).contains("switchover"), "{shell}");
    }
}
