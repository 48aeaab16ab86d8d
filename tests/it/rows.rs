//! Every row of docs/life-of-a-request.md against real servers, in each kind of change: one client for each row, all of
//! them in the middle of something when the roles change.
//!
//! What is in flight is so for certain: announced, a script keeps the server busy; bare, the replica is stopped for a
//! moment, so that FAILOVER's pause lasts; kill -9, the server is stopped before it is killed.

use std::time::Duration;

use crate::support::client::{encode, pipeline};
use crate::support::value::ok;
use crate::support::{ANYTHING, Client, Options, Pair, Proxy, Value, pause, wait_until};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Announced,
    Bare,
    Killed,
}

const SLOW: &str = "local t = redis.call('TIME') local till = t[1] * 1000 + t[2] / 1000 + 400 repeat t = redis.call('TIME') \
                    until t[1] * 1000 + t[2] / 1000 > till return redis.call('INCR', KEYS[1])";

struct Rows {
    kind: Kind,
    script: Client,
    publisher: Client,
    reader: Client,
    writer: Client,
    late: Client,
    blocked: Client,
    stream: Client,
    transaction: Client,
    watching: Client,
    subscriber: Client,
    tracking: Client,
    large: Client,
}

/// A SET of 200,000 bytes, in two parts.
fn large() -> [Vec<u8>; 2] {
    let mut bytes = encode(&[b"SET", b"large", &[b'x'; 200_000]]);
    let rest = bytes.split_off(150_000);
    [bytes, rest]
}

impl Rows {
    /// Everybody has begun what can be begun before the change.
    fn begin(proxy: &Proxy, kind: Kind) -> Self {
        let client = || proxy.client();
        let mut rows = Self {
            kind,
            script: client(),
            publisher: client(),
            reader: client(),
            writer: client(),
            late: client(),
            blocked: client(),
            stream: client(),
            transaction: client(),
            watching: client(),
            subscriber: client(),
            tracking: client(),
            large: client(),
        };
        rows.tracking.cmd("HELLO 3");
        assert_eq!([rows.writer.cmd("SET k 1"), rows.tracking.cmd("CLIENT TRACKING ON")], [ok(), ok()]);
        assert_eq!([rows.tracking.cmd("GET k"), rows.reader.cmd("GET k")], ["1".into(), "1".into()]);
        assert_eq!([rows.transaction.cmd("MULTI"), rows.watching.cmd("WATCH k")], [ok(), ok()]);
        assert_eq!(rows.transaction.cmd("INCR inside"), Value::Simple("QUEUED".into()));
        assert_eq!(rows.writer.cmd("XADD s 1-1 f v"), "1-1".into());
        assert_eq!(rows.subscriber.cmd("SUBSCRIBE news").items()[0], "subscribe".into());
        for waits in [&mut rows.publisher, &mut rows.script, &mut rows.late, &mut rows.large] {
            assert_eq!(waits.cmd("PING").text(), "PONG");
        }
        rows.blocked.start("BLPOP queue 0");
        rows.stream.start("XREAD BLOCK 0 STREAMS s $");
        assert_eq!(rows.writer.cmd("WAIT 1 5000"), Value::from(1));
        pause(150);
        rows
    }

    /// In flight, for certain.
    fn fly(&mut self) {
        let [head, _] = large();
        match self.kind {
            Kind::Announced => self.script.send(&encode(&[b"EVAL", SLOW.as_bytes(), b"1", b"scripts"])),
            _ => self.script.send(&encode(&[b"EVAL", b"return redis.call('INCR', KEYS[1])", b"1", b"scripts"])),
        }
        pause(50);
        self.large.send(&head);
        self.writer.start("INCR n");
        self.reader.start("GET k");
        self.publisher.start("PUBLISH elsewhere x");
        pause(100);
    }

    /// The change is over: what has become of each.
    fn end(mut self, primary: &crate::support::redis::Redis) {
        let unknown = |value: &Value| value.is_error("OUTCOMEUNKNOWN");
        let lost = self.kind == Kind::Killed;
        assert_eq!(self.reader.read(), "1".into(), "a read is answered");
        let (written, script, published) = (self.writer.read(), self.script.read(), self.publisher.read());
        if lost {
            assert!([&written, &script, &published].into_iter().all(unknown), "{written:?} {script:?} {published:?}");
        } else {
            assert_eq!([written, script], [1.into(), 1.into()]);
            assert!(matches!(published, Value::Int(_)), "{published:?}");
        }
        assert_eq!(self.late.read(), ok(), "what was not sent is sent to the new primary");
        let [ran, scripts] = [primary.cmd("GET n"), primary.cmd("GET scripts")];
        let once: Value = if lost { Value::Null } else { "1".into() };
        assert_eq!([ran, scripts], [once.clone(), once], "nothing ran twice");
        self.end_large();
        self.end_blocked();
        assert_eq!(self.transaction.cmd("INCR inside").text(), "QUEUED");
        assert_eq!(self.transaction.cmd("EXEC").items(), [1.into(), 2.into()]);
        self.watching.send(&pipeline(&["MULTI", "SET k 2", "EXEC", "GET k"]));
        let replies: Vec<Value> = (0..4).map(|_| self.watching.read()).collect();
        assert_eq!(replies, [ok(), Value::Simple("QUEUED".into()), Value::Null, "1".into()]);
        assert_eq!(self.tracking.read().items(), ["invalidate".into(), Value::Null], "everything cached is void");
        assert_eq!(self.tracking.cmd("GET k"), "1".into());
        assert_eq!(self.late.cmd("SET k 3"), ok());
        assert_eq!(self.tracking.read().items()[1].items(), ["k".into()], "and tracked again");
        self.end_subscribed();
    }

    fn end_large(&mut self) {
        if self.kind != Kind::Announced {
            let [_, rest] = large();
            self.large.send(&rest);
        }
        let reply = self.large.read();
        match self.kind {
            Kind::Announced => assert_eq!(reply, ok(), "it finished before the switch"),
            _ => assert!(reply.is_error("LOADING the primary"), "{reply:?}"),
        }
        let kept = if self.kind == Kind::Announced { 200_000 } else { 0 };
        assert_eq!(self.large.cmd("STRLEN large"), Value::from(kept));
    }

    fn end_blocked(&mut self) {
        assert_eq!(self.late.cmd("XADD s 2-1 f w"), "2-1".into());
        let entries = self.stream.read();
        assert_eq!(entries.items()[0].items()[1].items()[0].items()[0], "2-1".into(), "what came after the asking");
        if self.kind == Kind::Killed {
            let reply = self.blocked.read();
            assert!(reply.is_error("OUTCOMEUNKNOWN"), "{reply:?}");
            return;
        }
        assert_eq!(self.late.cmd("RPUSH queue job"), Value::from(1));
        assert_eq!(self.blocked.read().items(), ["queue".into(), "job".into()]);
        assert_eq!(self.blocked.cmd("LLEN queue"), Value::from(0));
    }

    fn end_subscribed(&mut self) {
        let late = &mut self.late;
        wait_until("it listens", Duration::from_secs(5), || late.cmd("PUBLISH news x") == Value::from(1));
        assert_eq!(self.subscriber.read().items()[2], "x".into());
        assert_eq!(self.subscriber.cmd("UNSUBSCRIBE").items(), ["unsubscribe".into(), "news".into(), 0.into()]);
        assert_eq!(self.subscriber.cmd("GET k"), "3".into(), "and it is an ordinary client again");
    }
}

fn start(kind: Kind) -> (Pair, Proxy, Rows) {
    let pair = Pair::start();
    let options = Options::default().arg("--resend-bytes", "64KiB");
    let proxy = Proxy::with(&pair, "a", if kind == Kind::Killed { options.announce(ANYTHING) } else { options });
    let rows = Rows::begin(&proxy, kind);
    (pair, proxy, rows)
}

#[test]
fn announced_each_row_becomes_what_the_page_says() {
    let (pair, proxy, mut rows) = start(Kind::Announced);
    rows.fly();
    let switch = std::thread::scope(|scope| {
        let switch = scope.spawn(|| proxy.operate("switchover --to b --timeout 10s"));
        pause(100);
        rows.late.start("SET late 1");
        let [_, rest] = large();
        rows.large.send(&rest);
        switch.join().unwrap()
    });
    assert!(switch.status.success(), "{}", String::from_utf8_lossy(&switch.stderr));
    pair.wait_primary_b();
    rows.end(&pair.b);
}

#[test]
fn in_a_bare_failover_each_row_becomes_what_the_page_says() {
    let (pair, _proxy, mut rows) = start(Kind::Bare);
    pair.b.signal("STOP");
    // The replica lags behind this, so that the pause lasts until it goes on.
    assert_eq!(pair.a.cmd("SET elsewhere 1"), ok());
    assert_eq!(pair.a.cmd("FAILOVER"), ok());
    rows.fly();
    rows.late.start("SET late 1");
    pair.b.signal("CONT");
    pair.wait_primary_b();
    rows.end(&pair.b);
}

#[test]
fn after_kill_9_each_row_becomes_what_the_page_says() {
    let (mut pair, _proxy, mut rows) = start(Kind::Killed);
    pair.a.signal("STOP");
    rows.fly();
    pair.a.kill();
    pause(100);
    rows.late.start("SET late 1");
    pause(100);
    assert_eq!(pair.b.cmd("REPLICAOF NO ONE"), ok());
    rows.end(&pair.b);
}
