//! The admin API beyond the machine: over TLS, for operators who show a certificate or know the token, and for no others.

use std::process::{Command, Output};
use std::time::Duration;

use crate::support::proxy::binary;
use crate::support::{Options, Pair, Proxy, free_port, wait_until};

const TOKEN: &str = "correct-horse-battery-staple";

/// Operator commands for one process.
struct Operator<'a> {
    pair: &'a Pair,
    at: String,
}

impl Operator<'_> {
    /// Exit code, and everything that was said.
    fn says(&self, words: &str, further: &[&str]) -> (Option<i32>, String) {
        let mut command = binary();
        command.args(words.split(' ')).args(["--admin", &self.at]).arg("--admin-ca").arg(&self.pair.certs.ca);
        said(command.args(further))
    }
}

fn said(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

/// A pair whose proxies serve the admin API on every address: `a` asks for the token, `b` for a certificate.
fn guarded(pair: &Pair) -> [(Proxy, u16); 2] {
    let token = pair.dir.path().join("token");
    std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
    std::fs::write(pair.dir.path().join("wrong"), "some-other-words-of-length\n").unwrap();
    ["a", "b"].map(|node| {
        let port = free_port();
        let guard = match node {
            "a" => Options::default().arg("--admin-token-file", token.to_str().unwrap()),
            _ => Options::default().arg("--admin-client-ca", pair.certs.ca.to_str().unwrap()),
        };
        let options = Options { admin: Some(format!("0.0.0.0:{port}")), ..guard };
        (Proxy::with(pair, node, options), port)
    })
}

#[test]
fn beyond_the_machine_the_admin_api_wants_a_token_or_a_certificate() {
    let pair = Pair::start();
    let [(_a, a), (_b, b)] = guarded(&pair);
    let file = |name: &str| pair.dir.path().join(name).to_str().unwrap().to_owned();
    let a = Operator { pair: &pair, at: format!("https://localhost:{a}") };
    let b = Operator { pair: &pair, at: format!("https://127.0.0.1:{b}") };
    let (token, wrong) = (file("token"), file("wrong"));
    wait_until("a serves", Duration::from_secs(10), || a.says("status", &["--admin-token-file", &token]).0 == Some(0));
    for further in [&[][..], &["--admin-token-file", &wrong]] {
        let (code, text) = a.says("switchover --to b", further);
        assert!(code == Some(1) && text.contains("the token is missing or wrong"), "{code:?}: {text}");
    }
    let (code, text) = b.says("switchover --to a", &[]);
    assert!(code == Some(3) && text.contains("does it ask for a certificate"), "{code:?}: {text}");
    assert!(pair.a.is_primary(), "nobody was let in");
    // Whoever is not who it says gets neither the request nor the token.
    let mut stranger = binary();
    stranger.args(["status", "--admin", &a.at, "--admin-token-file", &token]);
    assert_eq!(said(&mut stranger).0, Some(3));
    let shown = ["--admin-cert", pair.certs.client_cert.to_str().unwrap(), "--admin-key"];
    let shown = [shown.as_slice(), &[pair.certs.client_key.to_str().unwrap()]].concat();
    let (code, text) = b.says("switchover --to b", &shown);
    assert_eq!(code, Some(0), "{text}");
    pair.wait_primary_b();
}

#[test]
fn a_fleet_is_reached_beyond_the_machine() {
    let pair = Pair::start();
    let [(_a, a), (_b, b)] = guarded(&pair);
    let fleet = format!(
        "admin-ca = \"ca.crt\"\nadmin-cert = \"client.crt\"\nadmin-key = \"client.key\"\nadmin-token-file = \"token\"\n\
         [commands]\npatch = [\"true\"]\n[[shard]]\nname = \"s\"\n\
         node = [\"a=https://localhost:{a}\", \"b=https://localhost:{b}\"]\n"
    );
    let path = pair.dir.path().join("fleet.toml");
    std::fs::write(&path, fleet).unwrap();
    let check = || said(binary().arg("check").arg("--fleet").arg(&path));
    wait_until("the fleet is ready", Duration::from_secs(15), || check().0 == Some(0));
    assert!(check().1.contains("● s: healthy, a is primary"), "{}", check().1);
}

#[test]
fn events_tell_what_happened_as_it_happens() {
    let pair = Pair::start();
    let mut proxy = Proxy::with(&pair, "a", Options::default().arg("--drain-deadline", "5s"));
    let path = pair.dir.path().join("events");
    let mut follower = binary();
    follower.args(["events", "--follow", "--json", "--admin", &proxy.admin]);
    let mut follower = follower.stdout(std::fs::File::create(&path).unwrap()).spawn().unwrap();
    let told = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let names = || told().iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    wait_until("it follows a", Duration::from_secs(10), || names() == ["following"]);
    let out = proxy.operate("switchover --to b");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    wait_until("the switchover is told", Duration::from_secs(10), || names().contains(&"switchover-ended".to_owned()));
    let changed = told().into_iter().find(|event| event["event"] == "changed").unwrap();
    assert_eq!((changed["kind"].as_str(), changed["to"].as_str()), (Some("announced"), Some("b")), "{changed}");
    let last = proxy.operate("events --last 1");
    assert!(String::from_utf8_lossy(&last.stdout).contains("switchover a → b: switched"), "{last:?}");
    proxy.process.signal("TERM");
    proxy.process.end(Duration::from_secs(10));
    assert!(follower.wait().unwrap().success(), "it ends with the process");
    let names = names();
    for name in ["hold-began", "hold-ended", "drain-began", "drained"] {
        assert_eq!(names.iter().filter(|told| *told == name).count(), 1, "{name}: {names:?}");
    }
    let seqs: Vec<_> = told().iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "none was missed");
}
