//! Commands that the proxy has never heard of: their meaning is the server's own.

use crate::support::value::ok;
use crate::support::{ANYTHING, Options, Pair, PairOptions, Proxy, Value, pause};

/// `get` is called READIT there, and so on.
fn renamed() -> Pair {
    let renamed = vec!["GET READIT", "INCR COUNTIT", "BLPOP POPIT", "EVAL RUNIT"];
    let users = vec![
        "probe on >secret resetchannels &__changeover__ &__changeover__:* -@all +ping +info +wait +role +subscribe +publish",
    ];
    Pair::with(&PairOptions { renamed, users, ..PairOptions::default() })
}

/// How many commands of a kind the proxy has counted.
fn counted(proxy: &Proxy, kind: &str) -> u64 {
    let name = format!("changeover_commands_total{{class=\"{kind}\"}} ");
    let page = proxy.http("/metrics").1;
    page.lines().filter_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok()).sum()
}

#[test]
fn an_unknown_command_is_what_the_server_says_of_it() {
    let mut pair = renamed();
    let proxy = Proxy::with(&pair, "a", Options::default().announce(ANYTHING));
    let (mut one, mut other, mut blocked) = (proxy.client(), proxy.client(), proxy.client());
    assert_eq!(one.cmd("SET k v"), ok());
    assert_eq!((one.cmd("READIT k"), other.cmd("readit k")), ("v".into(), "v".into()));
    assert_eq!(one.cmd("COUNTIT n"), Value::from(1));
    assert!(one.cmd("NOSUCH a b").is_error("ERR unknown command"));
    assert!(one.cmd("GET k").is_error("ERR unknown command"), "it is renamed");
    one.start("MULTI");
    one.start("COUNTIT n");
    one.start("EXEC");
    assert_eq!(
        [one.read(), one.read(), one.read()],
        [ok(), Value::Simple("QUEUED".into()), Value::Array(vec![2.into()])]
    );
    blocked.start("POPIT list 0");
    pause(200);
    assert_eq!((other.cmd("READIT k"), other.cmd("RPUSH list x")), ("v".into(), 1.into()), "nobody waits behind it");
    assert_eq!(blocked.read().items()[1], "x".into());
    pause(1200);
    let kinds = ["read", "write", "blocking", "other"].map(|kind| counted(&proxy, kind));
    assert_eq!(kinds, [4, 4, 1, 1], "read (with GET), write (with SET, RPUSH), blocking, other");
    assert_eq!(one.cmd("WAIT 1 2000"), Value::from(1));
    // In flight when the primary dies: what only reads is asked again, what writes is not.
    pair.a.signal("STOP");
    one.start("COUNTIT n");
    other.start("READIT k");
    pause(100);
    pair.a.kill();
    assert_eq!(pair.b.cmd("REPLICAOF NO ONE"), ok());
    assert!(one.read().is_error("OUTCOMEUNKNOWN"));
    assert_eq!(other.read(), "v".into());
}

#[test]
fn without_permission_to_ask_it_is_taken_for_the_worst() {
    let mut pair = renamed();
    let file = pair.dir.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    let options = Options::default().arg("--redis-user", "probe").arg("--redis-password-file", file.to_str().unwrap());
    let proxy = Proxy::with(&pair, "a", options.announce(ANYTHING));
    let mut one = proxy.client();
    assert_eq!(one.cmd("SET k v"), ok());
    assert_eq!((one.cmd("READIT k"), one.cmd("READIT k")), ("v".into(), "v".into()));
    pair.a.signal("STOP");
    one.start("READIT k");
    pause(100);
    pair.a.kill();
    assert_eq!(pair.b.cmd("REPLICAOF NO ONE"), ok());
    assert!(one.read().is_error("OUTCOMEUNKNOWN"), "it may have written, for all that is known");
    assert_eq!(counted(&proxy, "other"), 3);
}
