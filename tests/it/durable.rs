//! `acknowledge = "replicated"`: what was answered is on the replica, whatever happens to the primary.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::load::Load;
use crate::support::value::ok;
use crate::support::{ANYTHING, Options, Pair, Proxy, Value, now, pause, wait_until};

fn options() -> Options {
    Options::default().arg("--acknowledge", "replicated").announce(ANYTHING)
}

fn promise(proxy: &Proxy) -> String {
    proxy.status()["acknowledge"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_write_is_answered_when_a_replica_has_it_and_without_one_as_the_policy_says() {
    let pair = Pair::start();
    let answers = Proxy::with(&pair, "a", options().arg("--acknowledge-time", "700ms"));
    let refuses = options().arg("--acknowledge-time", "700ms").arg("--without-replica", "refuse");
    let refuses = Proxy::with(&pair, "b", refuses);
    let mut client = answers.client();
    let mut other = refuses.client();
    for n in 1..=100 {
        assert_eq!(client.cmd("INCR n"), Value::Int(n));
        assert_eq!(pair.b.cmd("GET n").text(), n.to_string(), "the replica has it by then");
    }
    assert_eq!(promise(&answers), "replicated");
    // The replica hangs: the first write waits for it, and later ones know.
    pair.b.signal("STOP");
    let began = now();
    assert_eq!(client.cmd("SET a 1"), ok());
    assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    let unknown = other.cmd("SET b 1");
    assert!(unknown.is_error("OUTCOMEUNKNOWN") || unknown.is_error("NOREPLICAS"), "{unknown:?}");
    wait_until("the proxies know that there is no replica", Duration::from_secs(10), || {
        promise(&answers) == "alone" && promise(&refuses) == "refused"
    });
    let began = now();
    assert_eq!(client.cmd("SET a 2"), ok());
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    assert!(other.cmd("SET b 2").is_error("NOREPLICAS"));
    assert!(other.cmd("MULTI").is_error("NOREPLICAS"));
    assert_eq!(other.cmd("GET a"), Value::from("2"));
    assert_ne!(pair.a.cmd("GET b").text(), "2", "it was refused before it was sent");
    let (_, metrics) = answers.http("/metrics");
    let alone = metrics.lines().find_map(|line| line.strip_prefix("changeover_writes_alone_total "));
    assert_eq!(alone, Some("2"), "the one that waited in vain, and the one that did not wait");
    pair.b.signal("CONT");
    wait_until("a replica is there again", Duration::from_secs(10), || {
        promise(&answers) == "replicated" && promise(&refuses) == "replicated"
    });
    assert_eq!(other.cmd("SET b 3"), ok());
    assert_eq!(pair.b.cmd("GET b").text(), "3");
}

#[test]
fn planned_changes_go_unnoticed_with_it_as_without_it() {
    let pair = Pair::start();
    let proxies = [Proxy::with(&pair, "a", options()), Proxy::with(&pair, "b", options())];
    let load = Load::start(&[proxies[0].at, proxies[1].at], &pair.tls, 8);
    pause(400);
    for to in ["b", "a", "b", "a"] {
        let done = proxies[0].operate(&format!("switchover --to {to}"));
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        pause(300);
    }
    let seen = load.stop();
    println!("four switchovers: {} commands, longest {:?}", seen.commands, seen.longest);
    seen.assert_unnoticed(&pair.a);
    // Everything that a client can do with a connection of its own.
    let mut client = proxies[1].client();
    for (words, reply) in [("MULTI", "+OK"), ("INCR t", "+QUEUED"), ("RPUSH l x", "+QUEUED")] {
        assert_eq!(format!("+{}", client.cmd(words).text()), reply);
    }
    assert_eq!(client.cmd("EXEC").items().len(), 2);
    assert_eq!(client.cmd("BLPOP l 1").items().len(), 2);
    assert_eq!(pair.b.cmd("LLEN l"), Value::Int(0), "the pop is on the replica, too");
    assert_eq!(client.cmd("EVAL return{redis.call('INCR','t')} 0").items().len(), 1);
    let large = "x".repeat(3 << 20);
    assert_eq!(client.call(&[b"SET", b"large", large.as_bytes()]), ok());
    assert_eq!(pair.b.cmd("STRLEN large"), Value::Int(3 << 20));
}

/// Writers, each with numbered keys of its own, while the replica hangs for a moment and then the primary dies. Says how
/// many keys were acknowledged, and how many of those are gone.
fn die_with_a_replica_behind(options: impl Fn() -> Options) -> (usize, usize) {
    let mut pair = Pair::start();
    let proxies = ["a", "b"].map(|node| Proxy::with(&pair, node, options().arg("--failover", "pair")));
    wait_until("the proxies hear each other", Duration::from_secs(10), || {
        proxies.iter().all(|proxy| proxy.status()["peers"].as_array().is_some_and(|peers| peers.len() == 1))
    });
    pause(1200);
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (mut client, stop) = (proxies[writer % 2].client(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let (mut acknowledged, mut value) = (HashMap::new(), vec![b'x'; 64 * 1024 - 200]);
                value.extend_from_slice(writer.to_string().as_bytes());
                for n in 0.. {
                    let key = format!("{writer}:{n}");
                    match client.call(&[b"SET", key.as_bytes(), &value]) {
                        reply if reply == ok() => drop(acknowledged.insert(key, n)),
                        reply if reply.is_error("OUTCOMEUNKNOWN") => {}
                        reply => panic!("{key}: {reply:?}"),
                    }
                    if stop.load(Ordering::Relaxed) {
                        return acknowledged;
                    }
                }
                unreachable!()
            })
        })
        .collect();
    pause(200);
    pair.b.signal("STOP");
    pause(400);
    pair.a.kill();
    pair.b.signal("CONT");
    wait_until("the replica is promoted", Duration::from_secs(10), || pair.b.is_primary());
    pause(300);
    stop.store(true, Ordering::Relaxed);
    let mut client = proxies[1].client();
    let (mut all, mut gone) = (0, 0);
    for writer in writers {
        for key in writer.join().expect("a writer").keys() {
            all += 1;
            gone += usize::from(client.cmd(&format!("EXISTS {key}")) != Value::Int(1));
        }
    }
    println!("{all} writes acknowledged, {gone} of them gone");
    (all, gone)
}

#[test]
fn nothing_that_was_acknowledged_dies_with_the_primary() {
    let (all, gone) = die_with_a_replica_behind(|| options().arg("--acknowledge-time", "5s"));
    assert!(all > 20, "{all}");
    assert_eq!(gone, 0, "of {all}");
    // The same without it: asynchronous replication alone. Otherwise the above would show nothing.
    let (all, gone) = die_with_a_replica_behind(|| Options::default().announce(ANYTHING));
    assert!(gone > 0, "of {all}");
}
