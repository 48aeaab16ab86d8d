//! What clients are told of changes and drains: maintenance notifications, and hints on channels.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::client::encode;
use crate::support::value::ok;
use crate::support::{Client, Options, Pair, Proxy, Value, free_port, pause, wait_until};

/// Two proxies with the same port, as on two hosts, that know where clients reach them.
fn proxies(pair: &Pair, options: &Options) -> [Proxy; 2] {
    let port = free_port();
    let at = |host: u8| SocketAddr::from(([127, 0, 0, host], port));
    let proxy = |node: &str, listen| {
        let mut options = Options { listen: Some(listen), ..options.clone() };
        for (node, at) in [("a", at(1)), ("b", at(2))] {
            options = options.arg("--advertise", &format!("{node}={at}"));
        }
        Proxy::with(pair, node, options)
    };
    let proxies = [proxy("a", at(1)), proxy("b", at(2))];
    for proxy in &proxies {
        wait_until("the proxies know each other", Duration::from_secs(5), || {
            proxy.status()["peers"].as_array().is_some_and(|peers| peers.len() == 1)
        });
    }
    proxies
}

/// A client of RESP3 that calls itself so and has opted in.
fn opted_in(proxy: &Proxy, library: &str, kind: &str) -> Client {
    let mut client = resp3(proxy, library);
    assert_eq!(client.cmd(&format!("CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type {kind}")), ok());
    client
}

fn resp3(proxy: &Proxy, library: &str) -> Client {
    let mut client = proxy.client();
    assert!(matches!(client.cmd("HELLO 3"), Value::Map(_)));
    // Servers before 7.2 refuse it; it is noted all the same.
    client.cmd(&format!("CLIENT SETINFO LIB-NAME {library}"));
    client
}

/// The next thing is a push of this type; its other elements.
fn push(client: &mut Client, kind: &str) -> Vec<Value> {
    match client.read() {
        Value::Push(items) if items[0].text() == kind => items[1..].to_vec(),
        other => panic!("not {kind}: {other:?}"),
    }
}

fn drained(proxy: &Proxy) -> serde_json::Value {
    wait_until("drained", Duration::from_secs(40), || proxy.status()["drain"]["done"] == true);
    proxy.status()["drain"].clone()
}

#[test]
fn at_a_drain_those_who_opted_in_are_told_where_to_go_and_move_by_themselves() {
    let pair = Pair::start();
    let options = Options::default().arg("--drain-spread", "0s").arg("--drain-deadline", "12s");
    let proxies = proxies(&pair, &options);
    let other = proxies[1].at.to_string();
    let mut lettuce = opted_in(&proxies[0], "lettuce", "external-fqdn");
    let mut unnamed = opted_in(&proxies[0], "node-redis", "none");
    let mut python = opted_in(&proxies[0], "redis-py", "internal-ip");
    let (mut silent, mut old) = (resp3(&proxies[0], "lettuce"), proxies[0].client());
    old.cmd("CLIENT SETINFO LIB-NAME lettuce");
    assert!(old.cmd("CLIENT MAINT_NOTIFICATIONS ON").is_error("ERR"), "RESP2 cannot be told");
    let mut subscribed = opted_in(&proxies[0], "node-redis", "internal-ip");
    subscribed.cmd("SUBSCRIBE c");
    proxies[0].operate("drain --no-wait");
    let told = push(&mut lettuce, "MOVING");
    let (event, seconds) = (told[0].int(), told[1].int());
    assert_eq!(told[2], Value::from(other.as_str()));
    assert!(event > 1_700_000_000_000 && event < 1 << 53, "{event}");
    assert!((1..=15).contains(&seconds), "{seconds}");
    assert_eq!(push(&mut unnamed, "MOVING"), [Value::Int(event), Value::Int(seconds), Value::Null]);
    // Who does not listen is told with its next command, before the reply, and is served on.
    python.start("SET k 1");
    assert_eq!(push(&mut python, "MOVING")[2], Value::from(other.as_str()));
    assert_eq!((python.read(), lettuce.cmd("GET k")), (ok(), Value::from("1")));
    for client in [&mut silent, &mut old, &mut subscribed] {
        assert!(client.read_to_end().is_empty(), "told nothing, closed in silence");
    }
    assert_eq!(lettuce.cmd("GET k"), Value::from("1"), "told once, and it has time");
    drop((lettuce, python, unnamed));
    let drain = drained(&proxies[0]);
    assert_eq!((drain["moved"].as_u64(), drain["cut"].as_u64()), (Some(3), Some(0)), "{drain}");
    assert_eq!(drain["closed"].as_u64(), Some(3), "{drain}");
    // And back: the other way round the drained one is nowhere to go.
    proxies[1].operate("drain --no-wait");
    drained(&proxies[1]);
    let metrics = proxies[0].http("/metrics").1;
    assert!(metrics.contains("changeover_notifications_total{kind=\"moving\"} 3"), "{metrics}");
}

#[test]
fn nobody_is_sent_to_a_proxy_that_does_not_serve() {
    let pair = Pair::start();
    let options = Options::default().arg("--drain-spread", "0s").arg("--drain-deadline", "5s");
    let proxies = proxies(&pair, &options);
    proxies[1].operate("drain");
    pause(300);
    let mut lettuce = opted_in(&proxies[0], "lettuce", "external-fqdn");
    proxies[0].operate("drain --no-wait");
    assert!(lettuce.read_to_end().is_empty());
    assert_eq!(drained(&proxies[0])["moved"].as_u64(), Some(0));
}

#[test]
fn without_an_address_only_those_who_understand_are_told() {
    let pair = Pair::start();
    let options = || Options::default().arg("--drain-spread", "0s").arg("--drain-deadline", "8s");
    let proxies = [Proxy::with(&pair, "a", options()), Proxy::with(&pair, "b", options())];
    wait_until("heard", Duration::from_secs(5), || {
        proxies[0].status()["peers"].as_array().is_some_and(|peers| peers.len() == 1)
    });
    let mut lettuce = opted_in(&proxies[0], "lettuce", "external-fqdn");
    let mut node = opted_in(&proxies[0], "node-redis", "external-ip");
    proxies[0].operate("drain --no-wait");
    assert_eq!(push(&mut lettuce, "MOVING")[2], Value::Null);
    assert!(node.read_to_end().is_empty(), "it would end its whole process");
    // Who stays although it was told to go is closed in the end, in silence.
    assert!(lettuce.read_to_end().is_empty());
    let drain = drained(&proxies[0]);
    assert_eq!((drain["closed"].as_u64(), drain["cut"].as_u64()), (Some(2), Some(0)), "{drain}");
}

#[test]
fn around_a_switchover_that_is_felt_both_proxies_tell_the_same_event() {
    let pair = Pair::start();
    let proxies = proxies(&pair, &Options::default());
    let mut clients = [0, 1].map(|at| opted_in(&proxies[at], "redis-py", "internal-ip"));
    let mut never = resp3(&proxies[0], "redis-py");
    // Keeps the hold for as long as it goes on, up to the limit of such a wait.
    let mut busy = proxies[0].client();
    let large = encode(&[b"SET", b"large", &vec![b'x'; 3_000_000]]);
    busy.send(&large[..2_000_000]);
    pause(100);
    busy = std::thread::scope(|scope| {
        let switchover = scope.spawn(|| proxies[0].operate("switchover --timeout 10s"));
        let (large, mut slow) = (&large, busy);
        let trickle = scope.spawn(move || {
            for piece in large[2_000_000..2_900_000].chunks(100_000) {
                slow.send(piece);
                pause(60);
            }
            slow
        });
        for proxy in &proxies {
            wait_until("requests are held", Duration::from_secs(5), || !proxy.status()["hold"].is_null());
        }
        let mut events = Vec::new();
        for client in &mut clients {
            client.start("INCR n");
            let told = push(client, "FAILING_OVER");
            assert!((1..=10).contains(&told[1].int()), "{told:?}");
            assert_eq!(told[2], Value::from("[\"1\"]"));
            events.push(told[0].int());
        }
        never.start("INCR n");
        assert_eq!(events[0], events[1]);
        let mut busy = trickle.join().unwrap();
        busy.send(&large[2_900_000..]);
        let out = switchover.join().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let mut values = Vec::new();
        for client in &mut clients {
            let mut said = [client.read(), client.read()];
            said.sort_by_key(|value| matches!(value, Value::Push(_)));
            values.push(said[0].int());
            let over = [Value::from("FAILED_OVER"), Value::Int(events[0] + 1), Value::from("[\"1\"]")];
            assert_eq!(said[1].items(), over);
        }
        values.push(never.read().int());
        values.sort_unstable();
        assert_eq!(values, [1, 2, 3]);
        busy
    });
    assert_eq!(busy.read(), ok());
    pair.wait_primary_b();
    for client in &mut clients {
        assert_eq!(client.cmd("GET n"), Value::from("3"));
        client.expect_silence(100);
    }
}

#[test]
fn stackexchange_is_told_to_look_again_and_azures_listeners_what_happens() {
    let pair = Pair::start();
    let options = Options::default().arg("--azure-events", "on").arg("--drain-spread", "200ms");
    let proxy = Proxy::with(&pair, "a", options);
    let quiet = Proxy::with(&pair, "b", Options::default().arg("--stackexchange-hint", "off"));
    let (mut old, mut new, mut azure) = (proxy.client(), resp3(&proxy, "SE.Redis"), proxy.client());
    let (mut off, mut unasked) = (quiet.client(), quiet.client());
    for client in [&mut old, &mut new, &mut off] {
        client.cmd("SUBSCRIBE __Booksleeve_MasterChanged");
    }
    azure.cmd("SUBSCRIBE AzureRedisEvents");
    unasked.cmd("SUBSCRIBE AzureRedisEvents");
    assert!(proxy.operate("switchover").status.success());
    let hint = || vec![Value::from("message"), "__Booksleeve_MasterChanged".into(), "*".into()];
    assert_eq!((old.read(), new.read()), (Value::Array(hint()), Value::Push(hint())));
    let event = azure.read().items()[2].text();
    let complete = format!(
        "NotificationType|NodeMaintenanceFailoverComplete|IsReplica|True|IPAddress|127.0.0.1|SSLPort|{}|NonSSLPort|0",
        proxy.at.port()
    );
    assert_eq!(event, complete);
    off.expect_silence(300);
    unasked.expect_silence(100);
    proxy.operate("drain --no-wait");
    let event = azure.read().items()[2].text();
    assert!(event.starts_with("NotificationType|NodeMaintenanceStarting|StartTimeInUTC|20"), "{event}");
    assert!(azure.read_to_end().is_empty());
}

#[test]
fn switched_off_it_is_as_if_nobody_knew_the_word() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", Options::default().arg("--maint-notifications", "off"));
    let mut client = resp3(&proxy, "redis-py");
    let said = client.cmd("CLIENT MAINT_NOTIFICATIONS ON");
    assert!(said.is_error("ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP."), "{said:?}");
}

/// redis-py with maintenance notifications demanded (it does not connect without), under load, in a switchover and in
/// the drain of each proxy: no error, every increment once, and it moved by itself.
#[test]
fn redis_py_moves_by_itself_and_its_application_notices_nothing() {
    let pair = Pair::start();
    let options = Options::default().arg("--drain-spread", "1s").arg("--drain-deadline", "10s");
    let options = options.announce("did not run");
    let proxies = proxies(&pair, &options);
    let stop = pair.dir.path().join("stop");
    let python = std::env::var("CHANGEOVER_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compat/redis_py_maintenance.py");
    let mut clients = Command::new(python);
    clients.args([script, "--port", &proxies[0].at.port().to_string(), "--ca"]).arg(&pair.certs.ca);
    clients.arg("--stop").arg(&stop).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut clients = clients.spawn().expect("python3 (make deps)");
    wait_until("all of its threads are at work", Duration::from_secs(60), || {
        let open = proxies[0].status()["connections"]["open"].as_u64();
        open.is_some_and(|open| open >= 6) || clients.try_wait().unwrap().is_some()
    });
    pause(500);
    let mut drains = Vec::new();
    for (at, to) in [(0, "b"), (1, "a")] {
        let out = proxies[at].operate(&format!("switchover --to {to}"));
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        proxies[at].operate("drain --no-wait");
        drains.push(drained(&proxies[at]));
        assert!(proxies[at].operate("undrain").status.success());
        pause(1500);
    }
    std::fs::write(stop, "").unwrap();
    let told = clients.wait_with_output().unwrap();
    let words = format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    if words.contains("too old") {
        return eprintln!("{words}");
    }
    assert!(told.status.success(), "{words}\n{drains:?}");
    for drain in &drains {
        assert_eq!(drain["cut"].as_u64(), Some(0), "{drain}");
    }
    assert!(drains[0]["moved"].as_u64().unwrap() > 0, "{drains:?}");
}
