//! The pair's channel as clients can reach it: by scripts, which no proxy sees, and by their own commands.
//!
//! With a secret nothing counts that they say there; without one they can hold everybody for a stated time.

use std::time::Duration;

use crate::support::client::Client;
use crate::support::value::ok;
use crate::support::{ANYTHING, Options, Pair, PairOptions, Proxy, Value, now, pause, wait_until};

const CHANNEL: &str = "__changeover__";

/// Two proxies that hear each other.
fn two(pair: &Pair, options: &Options) -> [Proxy; 2] {
    let proxies = ["a", "b"].map(|node| Proxy::with(pair, node, options.clone()));
    for proxy in &proxies {
        wait_until("both know the primary and each other", Duration::from_secs(20), || {
            let status = proxy.status();
            status["view"]["primary"] == "a" && status["peers"].as_array().is_some_and(|peers| peers.len() == 1)
        });
    }
    proxies
}

/// Says it on the channel, as a client of the proxy.
fn forge(client: &mut Client, text: &str) {
    let script = b"return redis.call('publish', KEYS[1], ARGV[1])";
    let told = client.call(&[b"EVAL", script, b"1", CHANNEL.as_bytes(), text.as_bytes()]);
    assert!(matches!(told, Value::Int(_)), "{told:?}");
}

fn hold(from: &str, seq: u64, id: u64, deadline_ms: u64) -> String {
    format!(r#"{{"v":1,"from":"{from}","node":"b","seq":{seq},"kind":"hold","id":{id},"deadline_ms":{deadline_ms}}}"#)
}

fn instance(proxy: &Proxy) -> String {
    proxy.status()["instance"].as_str().unwrap().to_owned()
}

#[test]
fn with_a_secret_nothing_that_a_script_says_counts() {
    let pair = Pair::start();
    let [a, b] = two(&pair, &Options::default().announce("is ignored"));
    let (mut forger, mut client) = (a.client(), a.client());
    assert_eq!(client.cmd("SET k 1"), ok());
    let peer = instance(&b);
    for (n, kind) in [
        r#""kind":"presence""#,
        r#""kind":"leave""#,
        r#""kind":"suspect","about":"a","question":1"#,
        r#""kind":"sees","about":"a","answers":true,"to":"x","question":1"#,
        r#""kind":"lease","plea":1,"lease_ms":60000"#,
        r#""kind":"leased","to":"x","plea":1"#,
        r#""kind":"saved","process":"0123456789012345678901234567890123456789""#,
    ]
    .iter()
    .enumerate()
    {
        let seq = u64::MAX - u64::try_from(n).unwrap();
        forge(&mut forger, &format!(r#"{{"v":1,"from":"{peer}","node":"b","seq":{seq},{kind}}}"#));
    }
    forge(&mut forger, &hold(&peer, u64::MAX - 100, 7, 3_600_000));
    wait_until("all are refused", Duration::from_secs(10), || {
        a.status()["channel"]["refused"]["unsigned"].as_u64().is_some_and(|refused| refused >= 8)
    });
    assert_eq!(client.cmd("SET k 2"), ok());
    assert!(a.status()["hold"].is_null());
    let done = b.operate("switchover");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    assert_eq!(a.status()["peers"][0]["instance"], peer.as_str());
}

#[test]
fn without_a_secret_a_script_holds_everybody_for_a_stated_time_and_stops_no_switchover() {
    let pair = Pair::start();
    let [a, b] = two(&pair, &Options::default().unsealed().announce(ANYTHING));
    let (mut forger, mut client) = (a.client(), a.client());
    assert_eq!(client.cmd("SET k 1"), ok());
    let peer = instance(&b);
    client.wait_at_most(Duration::from_secs(60));
    forge(&mut forger, &hold("!", 1, 7, 3_600_000));
    pause(300);
    assert!(a.status()["hold"].is_null(), "nobody knows that one");
    // In the other's name.
    forge(&mut forger, &hold(&peer, 1_000_000, 8, 3_600_000));
    wait_until("everybody is held", Duration::from_secs(5), || !a.status()["hold"].is_null());
    let began = now();
    assert_eq!(client.cmd("SET k 2"), ok());
    let held = now().saturating_duration_since(began);
    assert!(held < Duration::from_secs(14), "5 s at most, and what a busy machine adds: {held:?}");
    // Used up: the next ones are let begin for a moment only.
    for round in 0..4 {
        forge(&mut forger, &hold(&peer, 2_000_000 + round, 100 + round, 3_600_000));
        let by = if round % 2 == 0 { &a } else { &b };
        let done = by.operate("switchover");
        assert!(done.status.success(), "{round}: {}", String::from_utf8_lossy(&done.stdout));
        wait_until("it is a replica in sync", Duration::from_secs(20), || {
            by.operate("switchover --dry-run").status.success()
        });
    }
}

/// The users of the documentation, word by word.
#[test]
fn the_documented_users_are_enough_and_no_more() {
    let page = std::fs::read_to_string("docs/operations.md").unwrap();
    let line = page.lines().find(|line| line.starts_with("user changeover on ")).expect("the documented user");
    let own = line.strip_prefix("user ").unwrap().replace(">PASSWORD", ">secret");
    assert!(own.contains("&__changeover__ &__changeover__:* "), "{own}");
    let page = std::fs::read_to_string("docs/clients.md").unwrap();
    assert!(page.contains("needs `&__changeover__:*`"), "what subscribers need");
    let listener = "listener on >p resetchannels &news:* &__changeover__:* ~* +@all";
    let users = vec![Box::leak(own.into_boxed_str()) as &'static str, listener];
    let pair = Pair::with(&PairOptions { users, ..PairOptions::default() });
    let password = pair.dir.path().join("own-password");
    std::fs::write(&password, "secret").unwrap();
    let options = Options::default().arg("--redis-user", "changeover");
    let [a, b] = two(&pair, &options.arg("--redis-password-file", password.to_str().unwrap()));
    let mut subscriber = a.client();
    assert_eq!(subscriber.cmd("AUTH listener p"), ok());
    let script = "return redis.call('publish', KEYS[1], 'x')";
    for (channel, allowed) in [("news:1", true), (CHANNEL, false)] {
        let told = subscriber.call(&[b"EVAL", script.as_bytes(), b"1", channel.as_bytes()]);
        assert_eq!(matches!(told, Value::Int(_)), allowed, "{channel}: {told:?}");
    }
    assert!(subscriber.cmd("SUBSCRIBE __changeover__").is_error("NOPERM"));
    subscriber.cmd("SUBSCRIBE news:1");
    let done = b.operate("switchover");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    let mut publisher = b.client();
    wait_until("it is heard on the new primary", Duration::from_secs(10), || {
        publisher.cmd("PUBLISH news:1 x") == Value::Int(1)
    });
    for proxy in [&a, &b] {
        let page = proxy.http("/metrics").1;
        assert!(page.lines().any(|line| line == "changeover_message_gaps_total 0"), "no gap");
    }
}
