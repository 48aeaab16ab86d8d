//! Whatever bytes arrive: a definite end for that connection, bounded memory, and nobody else notices.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::value::ok;
use crate::support::{Certs, Client, Options, Pair, Proxy, Value, now, pause, wait_until};

/// Enough for buffers and allocator slack, far less than what the attacks announce.
const GROWTH_KIB: u64 = 48 * 1024;

/// Runs an attack beside an innocent client; the proxy must neither end nor grow.
fn withstand(options: Options, attack: impl FnOnce(&Proxy)) {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", options);
    let mut innocent = proxy.client();
    assert_eq!(innocent.cmd("INCR n"), Value::from(1));
    let before = proxy.process.memory_kib();
    attack(&proxy);
    let after = proxy.process.memory_kib();
    assert!(after < before + GROWTH_KIB, "grew from {before} to {after} KiB");
    assert_eq!(innocent.cmd("INCR n"), Value::from(2));
    assert_eq!(proxy.client().cmd("INCR n"), Value::from(3), "new clients come in");
}

/// What is left to read, and that the peer closed.
fn closed(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut all, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return all,
            Ok(n) => all.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return all,
            Err(e) => panic!("still open: {e}"),
        }
    }
}

#[test]
fn garbage_instead_of_tls() {
    withstand(Options::default(), |proxy| {
        let attacks: [&[u8]; 4] =
            [&[0xff; 3000], b"GET / HTTP/1.1\r\n\r\n", b"*1\r\n$4\r\nPING\r\n", &[0x16, 3, 1, 0xff, 0xff]];
        for bytes in attacks {
            let mut stream = TcpStream::connect(proxy.at).unwrap();
            stream.write_all(bytes).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let said = closed(&mut stream);
            assert!(said.len() < 100, "more than a TLS alert: {said:?}");
        }
    });
}

#[test]
fn garbage_after_the_handshake_is_a_protocol_error() {
    withstand(Options::default(), |proxy| {
        for bytes in [&b"*1\r\n:1\r\n"[..], b"*x\r\n", b"*1\r\n$-5\r\n", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\nvalue\r\n"] {
            let mut client = proxy.client();
            client.send(bytes);
            let replies = client.read_to_end();
            assert!(replies.len() == 1 && replies[0].is_error("ERR Protocol error"), "{bytes:?}: {replies:?}");
        }
        // An endless line without an end.
        let mut client = proxy.client();
        let line = vec![b'x'; 64 << 10];
        for _ in 0..64 {
            if client.try_send(&line).is_err() {
                break;
            }
        }
        let replies = client.read_to_end();
        assert!(replies.iter().all(|r| r.is_error("ERR Protocol error")), "{replies:?}");
    });
}

#[test]
fn a_hundred_thousand_deep_array_is_refused() {
    withstand(Options::default(), |proxy| {
        let mut client = proxy.client();
        // It may be refused, and the connection closed, before all is sent.
        client.try_send(&b"*1\r\n".repeat(100_000)).ok();
        let replies = client.read_to_end();
        assert!(replies.iter().all(|r| r.is_error("ERR Protocol error")), "{replies:?}");
    });
}

#[test]
fn announced_lengths_are_not_believed() {
    withstand(Options::default(), |proxy| {
        for bytes in [&b"*1\r\n$9999999999\r\n"[..], b"*2147483648\r\n", b"*1\r\n$99999999999999999999999\r\n"] {
            let mut client = proxy.client();
            client.send(bytes);
            let replies = client.read_to_end();
            assert!(replies.len() == 1 && replies[0].is_error("ERR Protocol error"), "{bytes:?}: {replies:?}");
        }
        // Within the limits, but never sent: nothing is reserved for it.
        let mut clients: Vec<Client> = (0..50).map(|_| proxy.client()).collect();
        for client in &mut clients {
            client.send(b"*1000000\r\n$500000000\r\nabc");
        }
        assert_eq!(proxy.client().cmd("PING"), Value::Simple("PONG".into()));
    });
}

#[test]
fn a_client_that_never_reads_does_not_fill_the_memory() {
    withstand(Options::default(), |proxy| {
        let mut filler = proxy.client();
        let value = vec![b'x'; 1 << 20];
        filler.call(&[b"SET", b"big", &value]);
        let mut deaf = proxy.client();
        deaf.send(&crate::support::client::encode(&[b"GET", b"big"]).repeat(200));
        for _ in 0..50 {
            assert_eq!(filler.cmd("STRLEN big").int(), 1 << 20);
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

#[test]
fn a_handshake_that_never_ends_is_ended() {
    withstand(Options::default().arg("--handshake-timeout", "1s"), |proxy| {
        let began = now();
        let mut silent: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(proxy.at).unwrap()).collect();
        let mut drip = TcpStream::connect(proxy.at).unwrap();
        for byte in [0x16, 3, 1, 1] {
            drip.write_all(&[byte]).unwrap();
            std::thread::sleep(Duration::from_millis(200));
        }
        for stream in silent.iter_mut().chain([&mut drip]) {
            closed(stream);
        }
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    });
}

#[test]
fn without_the_right_client_certificate_nobody_comes_in() {
    let pair = Pair::start();
    let stranger = Certs::make(&pair.dir.path().join("stranger"));
    let proxy = Proxy::with(&pair, "a", Options { mtls: true, ..Options::default() });
    let wrong = [pair.certs.client(None), pair.certs.client(Some(&stranger))];
    for tls in wrong {
        // In TLS 1.3 the refusal may come only with the first read.
        if let Ok(mut client) = Client::try_connect(proxy.at, &tls) {
            client.try_send(b"*1\r\n$4\r\nPING\r\n").ok();
            assert!(client.read_to_end().is_empty(), "a stranger was answered");
        }
    }
    let mut friend = Client::connect(proxy.at, &pair.certs.client(Some(&pair.certs)));
    assert_eq!(friend.cmd("PING"), Value::Simple("PONG".into()));
}

#[test]
fn connections_above_the_limit_are_turned_away_and_come_in_later() {
    let pair = Pair::start();
    let options = Options::default().arg("--max-connections", "5").announce("connections");
    let proxy = Proxy::with(&pair, "a", options);
    let mut inside: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    assert!(Client::try_connect(proxy.at, &pair.tls).is_err(), "a sixth came in");
    for client in &mut inside {
        assert_eq!(client.cmd("PING"), Value::Simple("PONG".into()));
    }
    inside.pop();
    wait_until("room again", Duration::from_secs(5), || Client::try_connect(proxy.at, &pair.tls).is_ok());
}

/// A client that asks for much and reads nothing.
fn deaf(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    let value = vec![b'x'; 1 << 20];
    assert_eq!(client.call(&[b"SET", b"large", &value]), ok());
    for _ in 0..100 {
        client.start("GET large");
    }
    pause(1500);
    client
}

#[test]
fn a_client_that_reads_nothing_does_not_outlast_a_drain() {
    let pair = Pair::start();
    let options = Options::default().arg("--drain-spread", "100ms").arg("--drain-deadline", "1s");
    let mut proxy = Proxy::with(&pair, "a", options.announce("cut"));
    let _deaf = deaf(&proxy);
    proxy.process.signal("TERM");
    proxy.process.end(Duration::from_secs(4));
}

#[test]
fn a_client_that_reads_nothing_does_not_stop_a_switchover() {
    let pair = Pair::start();
    let proxies = [Proxy::with(&pair, "a", Options::default()), Proxy::with(&pair, "b", Options::default())];
    let _deaf = deaf(&proxies[0]);
    let out = proxies[0].operate("switchover --to b --timeout 10s");
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    pair.wait_primary_b();
}

#[test]
fn a_long_pipeline_may_be_sent_before_its_first_reply_is_read() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    let mut client = proxy.client();
    assert_eq!(client.call(&[b"SET", b"k", &[b'x'; 200]]), ok());
    // 2 MB of commands and 20 MB of replies: more than sockets hold.
    let batch = "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".repeat(1000).into_bytes();
    for _ in 0..100 {
        client.send(&batch);
    }
    for _ in 0..100_000 {
        assert_eq!(client.read(), Value::Bulk(vec![b'x'; 200]));
    }
}
