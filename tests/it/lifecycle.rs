//! The process as its operators meet it: drain, reload, status, health.

use std::time::Duration;

use crate::support::value::ok;
use crate::support::{Client, Load, Options, Pair, Proxy, Value, now, pause, wait_until};

#[test]
fn sigterm_drains_and_ends_well() {
    let pair = Pair::start();
    let mut proxy = Proxy::with(&pair, "a", Options::default().arg("--drain-spread", "500ms"));
    let mut idle: Vec<Client> = (0..10).map(|_| proxy.client()).collect();
    for client in &mut idle {
        client.cmd("PING");
    }
    let mut blocked = proxy.client();
    blocked.start("BLPOP queue 0");
    pause(100);
    proxy.process.signal("TERM");
    for client in &mut idle {
        assert!(client.read_to_end().is_empty(), "closed in silence");
    }
    assert!(proxy.process.running(), "somebody still waits for a reply");
    assert_eq!(proxy.http("/readyz").0, 503);
    assert_eq!(pair.a.cmd("RPUSH queue job").int(), 1);
    assert_eq!(blocked.read(), Value::Array(vec!["queue".into(), "job".into()]));
    assert!(blocked.read_to_end().is_empty());
    assert!(proxy.process.end(Duration::from_secs(10)).success());
}

#[test]
fn a_drain_under_load_closes_between_commands_only() {
    let pair = Pair::start();
    let mut proxy = Proxy::with(&pair, "a", Options::default().arg("--drain-spread", "500ms"));
    let load = Load::start(&[proxy.at], &pair.tls, 6);
    pause(500);
    proxy.process.signal("TERM");
    assert!(proxy.process.end(Duration::from_secs(20)).success());
    let seen = load.stop();
    assert!(seen.wrong.is_empty(), "{seen:?}");
    for (key, told) in &seen.counters {
        // A command that crossed the close was not executed: a client that sends it again does no harm.
        assert_eq!(pair.a.cmd(&format!("GET {key}")).text(), told.to_string(), "{key}");
    }
}

#[test]
fn the_drain_deadline_cuts_what_is_left() {
    let pair = Pair::start();
    let options = Options::default().arg("--drain-spread", "100ms").arg("--drain-deadline", "1s");
    let mut proxy = Proxy::with(&pair, "a", options.announce("cut"));
    let mut blocked = proxy.client();
    blocked.start("BLPOP queue 0");
    pause(100);
    let began = now();
    proxy.process.signal("TERM");
    proxy.process.end(Duration::from_secs(5));
    assert!(began.elapsed() >= Duration::from_millis(800), "{:?}", began.elapsed());
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let pair = Pair::start();
    let mut proxy = Proxy::with(&pair, "a", Options::default().announce("SIGTERM").announce("signal").announce("cut"));
    let mut blocked = proxy.client();
    blocked.start("BLPOP queue 0");
    pause(100);
    proxy.process.signal("TERM");
    pause(300);
    assert!(proxy.process.running());
    proxy.process.signal("TERM");
    proxy.process.end(Duration::from_secs(2));
}

#[test]
fn sighup_takes_the_new_certificate_and_drops_nobody() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    let mut old = proxy.client();
    old.cmd("SET k 1");
    let before = old.server_certificate();
    pair.certs.issue("renewed", &pair.certs.cert, &pair.certs.key);
    proxy.process.signal("HUP");
    wait_until("the new certificate is shown", Duration::from_secs(5), || {
        // A fresh client configuration: a resumed session shows the old certificate.
        Client::connect(proxy.at, &pair.certs.client(None)).server_certificate() != before
    });
    assert_eq!(old.cmd("GET k"), Value::from("1"));
}

#[test]
fn a_certificate_that_does_not_load_leaves_the_old_one_in_force() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", Options::default().announce("server.crt").announce("certificate"));
    let before = proxy.client().server_certificate();
    std::fs::write(&pair.certs.cert, "nonsense").unwrap();
    proxy.process.signal("HUP");
    pause(500);
    let mut client = Client::connect(proxy.at, &pair.certs.client(None));
    assert_eq!(client.server_certificate(), before);
    assert_eq!(client.cmd("PING"), Value::Simple("PONG".into()));
}

#[test]
fn an_expired_certificate_does_not_replace_a_good_one() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", Options::default().announce("expired at"));
    let before = proxy.client().server_certificate();
    pair.certs.issue_expired("late", &pair.certs.cert, &pair.certs.key);
    proxy.process.signal("HUP");
    wait_until("the reload is refused", Duration::from_secs(5), || proxy.process.log().contains("reload refused"));
    let mut client = Client::connect(proxy.at, &pair.certs.client(None));
    assert_eq!(client.server_certificate(), before);
    assert_eq!(client.cmd("PING"), Value::Simple("PONG".into()));
}

#[test]
fn with_the_override_an_expired_certificate_is_taken_with_a_warning() {
    let pair = Pair::start();
    let options = Options::default().arg("--certificate-dates", "accept").announce("outside its dates");
    let proxy = Proxy::with(&pair, "a", options);
    pair.certs.issue_expired("late", &pair.certs.cert, &pair.certs.key);
    proxy.process.signal("HUP");
    wait_until("the reload is done", Duration::from_secs(5), || proxy.process.log().contains("were read again"));
    assert!(proxy.process.log().contains("outside its dates"), "{}", proxy.process.log());
    assert!(Client::try_connect(proxy.at, &pair.certs.client(None)).is_err());
}

#[test]
fn status_health_and_metrics_tell_the_same_story() {
    let pair = Pair::start();
    let proxies = [Proxy::with(&pair, "a", Options::default()), Proxy::with(&pair, "b", Options::default())];
    let mut client = proxies[0].client();
    for _ in 0..10 {
        client.cmd("INCR n");
    }
    wait_until("ready", Duration::from_secs(5), || proxies[0].http("/readyz").0 == 200);
    assert_eq!(proxies[0].http("/livez").0, 200);
    let (code, metrics) = proxies[0].http("/metrics");
    assert!(code == 200 && metrics.contains("changeover_"), "{metrics}");
    wait_until("the proxies know each other", Duration::from_secs(5), || {
        proxies[0].status()["peers"].as_array().is_some_and(|peers| peers.len() == 1)
    });
    let status = proxies[0].status();
    assert_eq!(status["node"], "a");
    assert_eq!(status["view"]["primary"], "a");
    assert_eq!(status["view"]["state"], "serving");
    assert_eq!(status["nodes"][0]["role"], "primary");
    assert_eq!(status["nodes"][1]["role"], "replica");
    // The snapshot is at most a second old.
    wait_until("the client is counted", Duration::from_secs(5), || proxies[0].status()["connections"]["open"] == 1);
    let out = proxies[0].operate("status");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && text.contains("primary"), "{text}");
}

#[test]
fn operator_commands_say_clearly_that_nobody_listens() {
    let out = crate::support::proxy::binary().args(["status", "--admin", "unix:/nonexistent/socket"]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("/nonexistent/socket"), "{said}");
}

#[test]
fn drain_can_be_ordered_by_command() {
    let pair = Pair::start();
    let mut proxy = Proxy::with(&pair, "a", Options::default().arg("--drain-spread", "100ms"));
    let mut client = proxy.client();
    assert_eq!(client.cmd("SET k 1"), ok());
    let out = proxy.operate("drain --stop");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(client.read_to_end().is_empty());
    proxy.process.end(Duration::from_secs(10));
}

#[test]
fn a_single_node_is_a_pair_of_one() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", Options { single: true, ..Options::default() });
    assert_eq!(proxy.client().cmd("INCR n"), Value::from(1));
    assert_eq!(proxy.primary().as_deref(), Some("a"));
}
