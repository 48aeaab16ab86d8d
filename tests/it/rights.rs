//! What a client may do is what a connection of its own could do: on lanes, on connections that were kept or made
//! before, after passwords and users have changed, and after a switchover.
//!
//! A client that connects to the server itself at the same moment is the control. The random story prints its seed;
//! `CHANGEOVER_RIGHTS_SEED=n` plays one seed again, `CHANGEOVER_RIGHTS_SECONDS=n` plays for longer (10 is the default).

use std::time::Duration;

use crate::support::client::pipeline;
use crate::support::redis::Redis;
use crate::support::value::ok;
use crate::support::{Client, Options, Pair, PairOptions, Proxy, Value, now, wait_until};

/// Whom operators and the proxies log in as; no change touches it.
const ROOT: &str = "root on >r ~* &* +@all";

fn open_pair() -> Pair {
    let users = vec![ROOT, "alice on >w1 ~* &* +@all"];
    let pair = Pair::with(&PairOptions { users, acl_file: true, ..PairOptions::default() });
    for node in [&pair.a, &pair.b] {
        let mut operator = operator_of(&pair, node);
        assert_eq!(operator.cmd("CONFIG SET masteruser root masterauth r"), ok());
    }
    pair
}

fn operator_of(pair: &Pair, node: &Redis) -> Client {
    let mut client = Client::connect(node.tls(), &pair.tls);
    assert_eq!(client.cmd("AUTH root r"), ok());
    client
}

fn proxy(pair: &Pair, lanes: &str) -> Proxy {
    let file = pair.dir.path().join("root-password");
    std::fs::write(&file, "r").unwrap();
    let options = Options::default().arg("--lanes", lanes).arg("--redis-user", "root");
    Proxy::with(pair, "a", options.arg("--redis-password-file", file.to_str().unwrap()))
}

/// A way to ask for a password, and the way back.
struct Way {
    name: &'static str,
    close: fn(&Redis, &mut Client),
    open: fn(&Redis, &mut Client),
}

/// (Redis closes the connections of users that it has loaded, ours among them.)
fn load(node: &Redis, operator: &mut Client, line: &str) {
    node.write_users(line);
    operator.start("ACL LOAD");
    let _closed = operator.try_read();
}

const WAYS: [Way; 5] = [
    Way {
        name: "CONFIG SET requirepass",
        close: |_, operator| assert_eq!(operator.cmd("CONFIG SET requirepass pw"), ok()),
        open: |_, operator| assert_eq!(operator.call(&[b"CONFIG", b"SET", b"requirepass", b""]), ok()),
    },
    Way {
        name: "ACL SETUSER default off",
        close: |_, operator| assert_eq!(operator.cmd("ACL SETUSER default off"), ok()),
        open: |_, operator| assert_eq!(operator.cmd("ACL SETUSER default on"), ok()),
    },
    Way {
        name: "ACL SETUSER default >pw",
        close: |_, operator| assert_eq!(operator.cmd("ACL SETUSER default resetpass >pw"), ok()),
        open: |_, operator| assert_eq!(operator.cmd("ACL SETUSER default nopass"), ok()),
    },
    Way {
        name: "ACL SETUSER default resetpass",
        close: |_, operator| assert_eq!(operator.cmd("ACL SETUSER default resetpass"), ok()),
        open: |_, operator| assert_eq!(operator.cmd("ACL SETUSER default nopass"), ok()),
    },
    Way {
        name: "ACL LOAD",
        close: |node, operator| load(node, operator, "user default on >pw ~* &* +@all"),
        open: |node, operator| load(node, operator, "user default on nopass ~* &* +@all"),
    },
];

/// What a client says that does not log in, and what comes of it, until one of its replies is another than the control's.
fn newcomers(proxy: &Proxy, pair: &Pair, node: &Redis, what: &str) {
    for words in ["GET k", "SET k 1", "PING", "HELLO 3", "MULTI", "SELECT 2", "SUBSCRIBE c", "CLIENT SETNAME x", "NONE"]
    {
        let (mut client, mut control) = (proxy.client(), Client::connect(node.tls(), &pair.tls));
        for words in [words, "GET k"] {
            let (found, wanted) = (client.cmd(words), control.cmd(words));
            let same = found == wanted || matches!((&found, &wanted), (Value::Map(_), Value::Map(_)));
            assert!(same, "{what}: {words}: {found:?}, directly {wanted:?}");
        }
    }
}

#[test]
fn a_password_is_asked_of_newcomers_at_once_however_it_was_set_and_whoever_is_in_stays_in() {
    for lanes in ["on", "off"] {
        let pair = open_pair();
        let proxy = proxy(&pair, lanes);
        for way in &WAYS {
            let what = format!("lanes {lanes}, {}", way.name);
            // On lanes, on upstreams of their own, and on some that were put back.
            let mut inside: Vec<Client> = (0..6).map(|_| proxy.client()).collect();
            for client in &mut inside {
                client.send(&pipeline(&["SET k v", "MULTI", "SET k v", "EXEC"]));
                assert_eq!((0..4).map(|_| client.read()).filter(|reply| *reply == ok()).count(), 2, "{what}");
            }
            // They rest, and are back on their lanes.
            crate::support::pause(700);
            for client in &mut inside {
                assert_eq!(client.cmd("GET k"), "v".into(), "{what}");
            }
            newcomers(&proxy, &pair, &pair.a, &format!("{what}, before"));
            let mut operator = operator_of(&pair, &pair.a);
            (way.close)(&pair.a, &mut operator);
            newcomers(&proxy, &pair, &pair.a, &format!("{what}, closed"));
            let stays = way.name != "ACL LOAD";
            for client in inside.iter_mut().filter(|_| stays) {
                assert!(!client.cmd("GET k").is_error("NOAUTH"), "{what}: as in Redis, whoever is in stays in");
            }
            let mut operator = operator_of(&pair, &pair.a);
            (way.open)(&pair.a, &mut operator);
            newcomers(&proxy, &pair, &pair.a, &format!("{what}, open again"));
        }
    }
}

#[test]
fn connections_that_were_warm_before_a_password_was_set_let_nobody_in_after_a_switchover() {
    for lanes in ["on", "off"] {
        let pair = open_pair();
        let proxy = proxy(&pair, lanes);
        let mut inside = proxy.client();
        assert_eq!(inside.cmd("SET k v"), ok());
        // Some connections are open to b by now.
        let mut other = operator_of(&pair, &pair.b);
        let warm = |other: &mut Client| other.cmd("CLIENT LIST").text().lines().count();
        wait_until("warm connections", Duration::from_secs(10), || warm(&mut other) >= 6);
        for node in [&pair.a, &pair.b] {
            assert_eq!(operator_of(&pair, node).cmd("CONFIG SET requirepass pw"), ok());
        }
        let out = proxy.operate("switchover --to b --timeout 10s");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        newcomers(&proxy, &pair, &pair.b, lanes);
        let mut knows = proxy.client();
        assert_eq!([knows.cmd("AUTH pw"), knows.cmd("SET k w")], [ok(), ok()]);
        assert!(inside.cmd("GET k").is_error("NOAUTH"), "to b it is a newcomer");
    }
}

#[test]
fn whoever_resets_its_connection_is_a_newcomer() {
    let pair = open_pair();
    let proxy = proxy(&pair, "on");
    let mut operator = operator_of(&pair, &pair.a);
    let (mut client, mut alice, mut stays) = (proxy.client(), proxy.client(), proxy.client());
    assert_eq!([client.cmd("SET k v"), alice.cmd("AUTH alice w1"), stays.cmd("SET k v")], [ok(), ok(), ok()]);
    assert_eq!(operator.cmd("CONFIG SET requirepass pw"), ok());
    for client in [&mut client, &mut alice] {
        assert_eq!(client.cmd("RESET"), Value::Simple("RESET".to_owned()));
        crate::support::pause(600);
        assert!(client.cmd("GET k").is_error("NOAUTH"));
    }
    assert_eq!(stays.cmd("GET k"), "v".into());
}

#[test]
fn a_lane_that_is_lost_is_no_way_back_in() {
    let pair = open_pair();
    let proxy = proxy(&pair, "on");
    let mut operator = operator_of(&pair, &pair.a);
    let (mut nobody, mut alice) = (proxy.client(), proxy.client());
    assert_eq!([nobody.cmd("SET k v"), alice.cmd("AUTH alice w1"), alice.cmd("GET k")], [ok(), ok(), "v".into()]);
    crate::support::pause(600);
    assert_eq!(alice.cmd("GET k"), "v".into());
    assert_eq!(operator.cmd("CONFIG SET requirepass pw"), ok());
    assert_eq!(operator.cmd("ACL SETUSER alice resetpass >w2"), ok());
    let mut again = proxy.client();
    assert!(again.cmd("AUTH alice w1").is_error("WRONGPASS") && again.cmd("GET k").is_error("NOAUTH"));
    for user in ["default", "alice"] {
        operator.cmd(&format!("CLIENT KILL USER {user}"));
    }
    assert!(nobody.cmd("GET k").is_error("NOAUTH"));
    alice.start("GET k");
    let last = alice.read_to_end();
    assert!(last.len() == 1 && last[0].is_error("WRONGPASS"), "{last:?}");
}

#[test]
fn a_changed_password_costs_nobody_the_connection_that_it_has() {
    let pair = open_pair();
    let proxy = proxy(&pair, "on");
    let mut operator = operator_of(&pair, &pair.a);
    assert_eq!(operator.cmd("SET k v"), ok());
    let (mut nobody, mut alice) = (proxy.client(), proxy.client());
    // Both have upstreams of their own at the moment of the change.
    assert_eq!([nobody.cmd("MULTI"), alice.cmd("AUTH alice w1")], [ok(), ok()]);
    assert_eq!(operator.cmd("CONFIG SET requirepass pw"), ok());
    assert_eq!(operator.cmd("ACL SETUSER alice resetpass >w2"), ok());
    assert_eq!(nobody.cmd("EXEC"), Value::Array(vec![]));
    for _ in 0..4 {
        assert_eq!([nobody.cmd("GET k"), alice.cmd("GET k")], ["v".into(), "v".into()]);
        crate::support::pause(400);
    }
    let mut newcomer = proxy.client();
    assert!(newcomer.cmd("GET k").is_error("NOAUTH") && newcomer.cmd("AUTH alice w1").is_error("WRONGPASS"));
}

// ---- users and passwords that change while clients come and go ----

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

const CHANGES: [&str; 11] = [
    "CONFIG SET requirepass p1",
    "CONFIG SET requirepass p2",
    "ACL SETUSER default nopass",
    "ACL SETUSER default on nopass",
    "ACL SETUSER default off",
    "ACL SETUSER default resetpass",
    "ACL SETUSER default nopass -set -multi",
    "ACL SETUSER default +@all",
    "ACL SETUSER alice on >w1 ~* &* +@all",
    "ACL SETUSER alice resetpass >w2",
    "ACL DELUSER alice",
];

const SAYINGS: [&str; 16] = [
    "GET k",
    "GET k",
    "GET k",
    "SET k v",
    "SET k v",
    "PING",
    "AUTH p1",
    "AUTH p2",
    "AUTH alice w1",
    "AUTH alice w2",
    "AUTH default x",
    "HELLO 2",
    "HELLO 3 AUTH alice w1",
    "MULTI",
    "EXEC",
    "RESET",
];

/// A client through the proxy, and one of the server's own that says the same.
struct Twins {
    client: Client,
    control: Client,
    /// What both have said since the last change, and before.
    since: Vec<String>,
    before: Vec<String>,
}

fn refused(reply: &Value) -> bool {
    ["NOAUTH", "WRONGPASS", "NOPERM"].iter().any(|word| reply.is_error(word))
}

/// One round: false when the twins are of no more use.
fn say(pair: &Pair, twins: &mut Twins, words: &str) -> bool {
    twins.since.push(words.to_owned());
    let (found, wanted) = (twins.client.try_cmd(words), twins.control.try_cmd(words));
    let story = format!("before {:?}, since {:?}", twins.before, twins.since);
    match (found, wanted) {
        (Err(_), Err(_)) => false,
        (Ok(found), Ok(wanted)) => {
            let shape = |value: &Value| matches!(value, Value::Map(_) | Value::Array(_));
            if found == wanted || shape(&found) && shape(&wanted) {
                return true;
            }
            // A connection that was there before a change keeps rights that a new upstream cannot have. What a new one
            // is given, the client may have, too.
            let fewer = refused(&found) || found.is_error("EXECABORT") || found.is_error("ERR EXEC without MULTI");
            let fewer = fewer || !refused(&pair.direct().cmd(words));
            // Its upstream is as old as the MULTI, and may be newer than the control's connection.
            let fewer = fewer || found == Value::Simple("QUEUED".to_owned());
            assert!(fewer && !twins.before.is_empty(), "{found:?}, directly {wanted:?}: {story}");
            false
        }
        // The server has closed the connections of a user that is no more.
        (Ok(found), Err(_)) => {
            assert!(refused(&found) || !twins.before.is_empty(), "{found:?} after the end: {story}");
            false
        }
        (Err(_), Ok(wanted)) => {
            assert!(!twins.before.is_empty(), "closed, directly {wanted:?}: {story}");
            false
        }
    }
}

fn story(pair: &Pair, proxy: &Proxy, operator: &mut Client, seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    assert_eq!(operator.cmd("ACL SETUSER default reset on nopass ~* &* +@all"), ok());
    assert_eq!(operator.cmd("SET k v"), ok());
    let mut all: Vec<Twins> = Vec::new();
    for _ in 0..120 {
        match random.below(10) {
            0 => {
                let change = random.one(&CHANGES);
                assert!(!matches!(operator.cmd(change), Value::Error(_)), "{change}");
                for twins in &mut all {
                    let said = std::mem::take(&mut twins.since);
                    twins.before.extend(said);
                    twins.before.push(format!("({change})"));
                }
            }
            1 | 2 => {
                let (client, control) = (proxy.client(), pair.direct());
                let mut twins = Twins { client, control, since: Vec::new(), before: Vec::new() };
                // A client behind the proxy is a newcomer until it says something.
                assert!(say(pair, &mut twins, "PING"));
                all.push(twins);
            }
            3 if !all.is_empty() => drop(all.swap_remove(random.below(all.len()))),
            4 if random.below(8) == 0 => crate::support::pause(300),
            _ if all.is_empty() => {}
            _ => {
                let at = random.below(all.len());
                if !say(pair, &mut all[at], random.one(&SAYINGS)) {
                    drop(all.swap_remove(at));
                }
            }
        }
    }
}

#[test]
fn whatever_is_changed_while_clients_come_and_go_nobody_gets_what_the_server_would_refuse() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("CHANGEOVER_RIGHTS_SECONDS").unwrap_or(10);
    let pair = open_pair();
    let proxy = proxy(&pair, "on");
    let mut operator = operator_of(&pair, &pair.a);
    let (until, mut played) = (now() + Duration::from_secs(seconds), 0);
    let first = number("CHANGEOVER_RIGHTS_SEED");
    let mut seed = first.unwrap_or_else(|| u64::from(std::process::id()));
    while played < 8 || now() < until {
        println!("CHANGEOVER_RIGHTS_SEED={seed}");
        story(&pair, &proxy, &mut operator, seed);
        (seed, played) = (seed + 1, played + 1);
        if first.is_some() {
            break;
        }
    }
}
