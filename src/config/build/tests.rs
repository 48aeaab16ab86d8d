//! What people write, and what they are told.

use std::path::PathBuf;

use super::super::{Admin, keys::Fallback, to_toml};
use super::*;

const SMALLEST: &str = "listen = \"127.0.0.1:6380\"\ncert = \"s.crt\"\nkey = \"s.key\"\nnode = [\"a=10.0.0.1:6379\"]\n";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn load(&self, text: &str, flags: &[(&'static Key, &str)]) -> Result<Loaded, Problems> {
        let config = Some(self.write("x.toml", text));
        load(&Flags { config, ..Flags::of(flags.iter().map(|(key, value)| (*key, (*value).to_owned()))) })
    }

    /// The report, without the name of the folder.
    fn report(&self, text: &str, flags: &[(&'static Key, &str)]) -> String {
        let report = self.load(text, flags).unwrap_err().to_string();
        report.replace(&format!("{}/", self.0.path().display()), "")
    }
}

#[test]
fn the_smallest_file_is_completed_by_the_defaults_of_the_table() {
    let config = Folder::new().load(SMALLEST, &[]).unwrap().config;
    assert_eq!(config.nodes, [Node { name: "a".to_owned(), host: "10.0.0.1".to_owned(), port: 6379 }]);
    assert_eq!(config.hold.time, Duration::from_secs(15));
    assert_eq!(config.hold.bytes, 64 * 1024 * 1024);
    assert_eq!(config.limits.max_bulk, 512 * 1024 * 1024);
    assert_eq!(config.probe.fast_interval, Duration::from_millis(5));
    assert_eq!(config.channel, "__changeover__");
    assert!((1..=8).contains(&config.workers));
    assert!(config.metrics.is_none() && config.upstream_tls.is_none() && config.redis_password.is_none());
}

#[test]
fn every_key_of_the_table_is_read_once_and_in_its_order() {
    let effective = Folder::new().load(SMALLEST, &[]).unwrap().effective;
    let read: Vec<_> = effective.iter().map(|setting| setting.key.name).collect();
    let table: Vec<_> = keys::ALL.iter().map(|key| key.name).collect();
    assert_eq!(read, table);
    let fixed = effective.iter().filter(|setting| matches!(setting.key.fallback, Fallback::Value(_)));
    assert!(fixed.clone().count() > 10);
    fixed.for_each(|setting| assert_eq!(setting.origin, "default"));
}

#[test]
fn every_mistake_is_shown_at_once_where_it_stands() {
    let text =
        "lissten = 1\nlisten = \"127.0.0.1\"\n\thold-time = 15\nnode = [\"a=h:1\", \"a=h:2\", \"b=h\"]\nself = \"z\"\n";
    let report = Folder::new().report(text, &[(&keys::REDIS_USER, "joe"), (&keys::WORKERS, "0")]);
    let expected = r#"error: x.toml:1:1: unknown key `lissten`; did you mean `listen`?
  1 | lissten = 1
    | ^^^^^^^
error: x.toml:2:10: expected IP:PORT, such as 127.0.0.1:6380 or [::]:6380, not "127.0.0.1"
  2 | listen = "127.0.0.1"
    |          ^^^^^^^^^^^
error: x.toml:3:14: expected a time with its unit, such as "15s" or "500ms", not "15"
  3 | 	hold-time = 15
    | 	            ^^
error: x.toml:4:18: the name "a" is taken by another node
  4 | node = ["a=h:1", "a=h:2", "b=h"]
    |                  ^^^^^^^
error: x.toml:4:27: expected NAME=HOST:PORT, such as a=10.0.0.1:6379, not "b=h"
  4 | node = ["a=h:1", "a=h:2", "b=h"]
    |                           ^^^^^
error: x.toml:5:8: no node is called "z"; there is a
  5 | self = "z"
    |        ^^^
error: --redis-user: needs redis-password-file as well
error: --workers: 0 is out of range: 1 to 256
error: missing: --cert FILE, or `cert` in the file
error: missing: --key FILE, or `key` in the file
10 errors in the configuration"#;
    assert_eq!(report, expected);
}

#[test]
fn a_broken_file_is_told_once_for_each_line_and_nothing_is_called_missing() {
    let report = Folder::new().report("workers = true\nlisten = \ncert \"x\"\n", &[]);
    let lines: Vec<_> = report.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!(lines.len(), 3, "{report}");
    assert!(lines[1].starts_with("error: x.toml:2:10: "), "{report}");
    assert!(lines[2].starts_with("error: x.toml:3:6: "), "{report}");
    assert_eq!(lines[0], "error: x.toml:1:11: workers: expected a text such as \"N\"", "{report}");
}

#[test]
fn flags_win_over_the_file() {
    let flags = [(&keys::NODE, "c=[::1]:7001"), (&keys::NODE, "d=redis.example:7002"), (&keys::SELF, "d")];
    let loaded = Folder::new().load(SMALLEST, &flags).unwrap();
    let nodes: Vec<_> = loaded.config.nodes.iter().map(|node| (node.name.as_str(), node.host.as_str())).collect();
    assert_eq!(nodes, [("c", "::1"), ("d", "redis.example")]);
    assert_eq!(loaded.config.self_node, Some(1));
}

#[test]
fn paths_in_a_file_are_relative_to_it_and_paths_of_flags_are_not() {
    let folder = Folder::new();
    let text = format!("{SMALLEST}admin = \"unix:run/x.sock\"\n");
    let config = folder.load(&text, &[(&keys::KEY, "elsewhere.key")]).unwrap().config;
    assert_eq!(config.tls.cert, folder.0.path().join("s.crt"));
    assert_eq!(config.tls.key, PathBuf::from("elsewhere.key"));
    assert_eq!(config.admin, Admin::Unix(folder.0.path().join("run/x.sock")));
}

#[test]
fn the_effective_configuration_is_a_configuration() {
    let folder = Folder::new();
    folder.write("pw", "s3cret\n");
    let text = format!("{SMALLEST}hold-time = \"1m 30s\"\nmax-args = 1_000\nmetrics = \"localhost:9121\"\n");
    let flags =
        [(&keys::REDIS_USER, "ops"), (&keys::REDIS_PASSWORD_FILE, folder.0.path().join("pw").to_str().unwrap())]
            .map(|(key, value)| (key, value.to_owned()));
    let flags: Vec<_> = flags.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let first = folder.load(&text, &flags).unwrap();
    let printed = to_toml(&first.effective, &first.config.hooks);
    assert!(!printed.contains("s3cret"), "{printed}");
    assert!(printed.contains("hold-time = \"1m 30s\"  # "), "{printed}");
    let second = folder.load(&printed, &[]).unwrap();
    assert_eq!(format!("{:?}", first.config), format!("{:?}", second.config));
}

#[test]
fn the_password_is_the_content_of_its_file_without_the_newline() {
    let folder = Folder::new();
    let load = |content: &str| {
        folder.write("pw", content);
        folder.load(&format!("{SMALLEST}redis-password-file = \"pw\"\n"), &[])
    };
    for content in ["two words", "two words\n", "two words\r\n"] {
        assert_eq!(load(content).unwrap().config.redis_password.unwrap().expose(), b"two words");
    }
    assert_eq!(load("x\n\n").unwrap().config.redis_password.unwrap().expose(), b"x\n");
    assert!(load("\n").unwrap_err().to_string().contains("pw is empty"));
    std::fs::remove_file(folder.0.path().join("pw")).unwrap();
    let report = folder.report(&format!("{SMALLEST}redis-password-file = \"pw\"\n"), &[]);
    assert!(report.starts_with("error: x.toml:5:23: cannot read pw: No such file"), "{report}");
}

#[test]
fn what_only_makes_sense_together_is_asked_for_together() {
    let folder = Folder::new();
    for (extra, expected) in [
        ("redis-cert = \"c\"\nredis-ca = \"ca\"", "x.toml:5:14: needs redis-key as well"),
        ("redis-key = \"k\"\nredis-ca = \"ca\"", "x.toml:5:13: needs redis-cert as well"),
        ("redis-server-name = \"n\"", "x.toml:5:21: needs redis-ca as well"),
        ("drain-spread = \"1m\"", "x.toml:5:16: drain-spread may not be longer than drain-deadline"),
        ("probe-interval = \"2s\"", "x.toml:5:18: probe-interval may not be longer than probe-deadline"),
        (
            "probe-interval = \"5ms\"\nprobe-fast-interval = \"6ms\"",
            "x.toml:6:23: probe-fast-interval may not be longer",
        ),
        ("admin = \"0.0.0.0:9380\"", "x.toml:5:9: 0.0.0.0:9380 can be reached from other machines"),
        ("log-format = \"xml\"", "x.toml:5:14: expected text or json, not \"xml\""),
        ("log = \"changeover=loud\"", "x.toml:5:7: expected error, warn, info"),
        ("channel = \"a b\"", "x.toml:5:11: expected 1 to 64 characters without blanks"),
        ("[hold]\ntime = \"3s\"", "x.toml:5:2: unknown key `hold`"),
        ("max-bulk = \"1\"", "x.toml:5:12: 1 is out of range: 1KiB to 4GiB"),
        ("hold-time = \"-3s\"", "x.toml:5:13: expected a time with its unit"),
        ("hold-time = \"20us\"", "x.toml:5:13: expected whole milliseconds"),
    ] {
        let report = folder.report(&format!("{SMALLEST}{extra}\n"), &[]);
        assert!(
            report.starts_with(&format!("error: {expected}")) && report.ends_with("\n1 error in the configuration"),
            "{report}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_file_makes_the_reader_panic(cut in 0_usize..200, noise in "\\PC{0,12}") {
        let folder = Folder::new();
        let at = (0..=cut.min(SMALLEST.len())).rev().find(|&at| SMALLEST.is_char_boundary(at)).unwrap_or(0);
        let (head, tail) = SMALLEST.split_at(at);
        if let Err(problems) = folder.load(&format!("{head}{noise}{tail}"), &[]) {
            proptest::prop_assert!(!problems.0.is_empty());
            drop(problems.to_string());
        }
    }
}

#[test]
fn an_admin_api_that_others_can_reach_needs_a_login() {
    let folder = Folder::new();
    std::fs::write(folder.0.path().join("token"), "short\n").unwrap();
    let wrong = |text: &str| folder.report(&format!("{SMALLEST}{text}"), &[]);
    let shown = wrong("admin = \"0.0.0.0:7000\"\n");
    assert!(shown.contains("it needs admin-client-ca") && shown.contains("^^^"), "{shown}");
    let shown = wrong("admin = \"0.0.0.0:7000\"\nadmin-token-file = \"token\"\n");
    assert!(shown.contains("holds no token"), "{shown}");
    let shown = wrong("admin = \"unix:x.sock\"\nadmin-client-ca = \"ca.crt\"\n");
    assert!(shown.contains("is for an admin API over TCP"), "{shown}");
}

#[test]
fn hooks_stand_in_the_file_and_are_printed_again() {
    let folder = Folder::new();
    let text = format!("{SMALLEST}[hooks]\nreboot = [\"systemctl\", \"reboot\"]\n");
    let loaded = folder.load(&text, &[]).unwrap();
    let printed = to_toml(&loaded.effective, &loaded.config.hooks);
    assert!(printed.contains("[hooks]\nreboot = [\"systemctl\", \"reboot\"]"), "{printed}");
    let shown = folder.report(&format!("{SMALLEST}[hooks]\nreboot = \"agent\"\nrebot = [\"x\"]\n"), &[]);
    assert!(shown.contains("x.toml:6:10: reboot: expected a program"), "{shown}");
    assert!(shown.contains("unknown key `rebot`; did you mean `reboot`?"), "{shown}");
}

#[test]
fn sentinels_have_tls_as_the_nodes_unless_it_is_said_otherwise() {
    let folder = Folder::new();
    let text = SMALLEST.replace("]\n", ", \"b=10.0.0.2:6379\"]\n")
        + "self = \"a\"\nfailover = \"sentinel\"\nsentinel = [\"10.0.0.3:26379\"]\nsentinel-name = \"m\"\n";
    let tls = |more: &str| folder.load(&format!("{text}{more}"), &[]).unwrap().config.sentinels.tls;
    assert!(tls("").is_none());
    let at = |name| folder.0.path().join(name);
    assert_eq!(tls("redis-ca = \"nodes.crt\"\n").unwrap().ca, at("nodes.crt"));
    assert!(tls("redis-ca = \"nodes.crt\"\nsentinel-tls = \"off\"\n").is_none());
    let own = tls("redis-ca = \"nodes.crt\"\nsentinel-ca = \"own.crt\"\nsentinel-server-name = \"s\"\n").unwrap();
    assert_eq!((own.ca, own.server_name), (at("own.crt"), Some("s".to_owned())));
    for wrong in ["sentinel-tls = \"on\"\n", "sentinel-cert = \"c.crt\"\n", "sentinel-user = \"u\"\n"] {
        assert!(folder.load(&format!("{text}{wrong}"), &[]).is_err(), "{wrong}");
    }
}
