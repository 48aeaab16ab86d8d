//! How each fault is done to the pair, and how the pair is put right again.
//!
//! It knows nothing of clients. Every wait has a generous limit and fails with what it waited for.

use std::time::Duration;

use super::admin::{self, Admin, PASSWORD, USER};
use super::table::{Fault, OUTPUT_LIMIT};
use crate::differential::streams::Random;
use crate::support::redis::Redis;
use crate::support::{Pair, Proxy, Value, pause, wait_until};

/// A machine that does other work may be this slow.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn is_primary(node: &Redis) -> bool {
    let role = Admin::of(node).and_then(|mut admin| admin.words("ROLE"));
    matches!(role, Ok(Value::Array(items)) if items.len() == 3)
}

/// The node that takes writes.
pub(super) fn primary(pair: &Pair) -> &Redis {
    wait_until("one of both is primary", PATIENCE, || is_primary(&pair.a) != is_primary(&pair.b));
    if is_primary(&pair.a) { &pair.a } else { &pair.b }
}

fn in_step(primary: &Redis, replica: &Redis) -> bool {
    let asked = Admin::of(primary).and_then(|mut admin| {
        let role = admin.words("ROLE")?;
        let one = role.items().len() == 3 && role.items()[2].items().len() == 1;
        admin.words("PUBLISH harness x")?;
        Ok(one && admin.words("WAIT 1 2000")? == Value::Int(1))
    });
    let follows = Admin::of(replica).and_then(|mut admin| admin.words("ROLE"));
    asked.unwrap_or(false)
        && matches!(follows, Ok(Value::Array(role)) if role.len() == 5 && role[3].text() == "connected")
}

/// Waits until the replica has everything, and both proxies see the same primary.
pub(super) fn settle(pair: &Pair, proxies: &[Proxy; 2]) {
    wait_until("the replica is in step", PATIENCE, || {
        let primary = primary(pair);
        let replica = if primary.name == "a" { &pair.b } else { &pair.a };
        in_step(primary, replica)
    });
    let name = primary(pair).name;
    for proxy in proxies {
        wait_until("the proxy follows", PATIENCE, || proxy.primary().as_deref() == Some(name));
    }
}

/// Lets the replicas log in with the superuser.
pub(super) fn configure(node: &Redis) {
    for line in [format!("masteruser {USER}"), format!("masterauth {PASSWORD}"), "maxmemory-policy noeviction".into()] {
        assert_eq!(admin::words(node, &format!("CONFIG SET {line}")), crate::support::value::ok(), "{line}");
    }
}

/// What a fault needs; the choices come from the seed.
pub(super) struct Ground<'a> {
    pub(super) pair: &'a mut Pair,
    pub(super) proxies: &'a [Proxy; 2],
    pub(super) random: Random,
}

impl Ground<'_> {
    fn other(&self) -> &'static str {
        if primary(self.pair).name == "a" { "b" } else { "a" }
    }

    fn kill(&self, what: &str) {
        // (The connection that asks is spared.)
        Admin::of(primary(self.pair)).and_then(|mut admin| admin.words(&format!("CLIENT KILL {what}"))).ok();
    }

    /// Lets the fault happen, now.
    pub(super) fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Nothing => {}
            Fault::KillNormal => {
                pause(self.random.below(40) as u64);
                self.kill("TYPE normal");
            }
            Fault::KillQuickly => {
                pause(self.random.below(20) as u64);
                for _ in 0..3 {
                    self.kill("TYPE normal");
                    pause(1 + self.random.below(5) as u64);
                }
            }
            Fault::KillSubscribers => {
                pause(self.random.below(40) as u64);
                self.kill("TYPE pubsub");
            }
            Fault::KillOne => {
                for _ in 0..3 {
                    pause(self.random.below(25) as u64);
                    if let Some(id) = self.somebody() {
                        self.kill(&format!("ID {id}"));
                    }
                }
            }
            Fault::OutputLimit => {}
            Fault::Switchover => {
                pause(self.random.below(30) as u64);
                let out = self.proxies[self.random.below(2)]
                    .operate(&format!("switchover --to {} --timeout 20s", self.other()));
                if !out.status.success() {
                    println!("(no switchover: {})", String::from_utf8_lossy(&out.stderr).trim());
                }
            }
            Fault::Failover => {
                pause(self.random.below(30) as u64);
                let to = if self.other() == "a" { self.pair.a.port } else { self.pair.b.port };
                admin::words(primary(self.pair), &format!("FAILOVER TO 127.0.0.1 {to} TIMEOUT 20000"));
            }
            Fault::Death => self.death(),
        }
    }

    /// One connection that carries commands of clients.
    fn somebody(&mut self) -> Option<String> {
        let list = Admin::of(primary(self.pair)).and_then(|mut admin| admin.words("CLIENT LIST TYPE normal")).ok()?;
        let list = list.text();
        let ids: Vec<&str> = list
            .lines()
            .filter(|line| !line.contains(&format!("user={USER} ")))
            .filter_map(|line| line.strip_prefix("id=")?.split(' ').next())
            .collect();
        (!ids.is_empty()).then(|| ids[self.random.below(ids.len())].to_owned())
    }

    fn death(&mut self) {
        pause(self.random.below(30) as u64);
        let users = admin::words(primary(self.pair), "ACL LIST");
        let a_dies = primary(self.pair).name == "a";
        let certs = &self.pair.certs;
        let (dies, lives) =
            if a_dies { (&mut self.pair.a, &mut self.pair.b) } else { (&mut self.pair.b, &mut self.pair.a) };
        dies.kill();
        pause(self.random.below(300) as u64);
        admin::words(lives, "REPLICAOF NO ONE");
        pause(self.random.below(300) as u64);
        dies.boot(certs, None);
        wait_until("it takes commands", PATIENCE, || Admin::of(dies).is_ok());
        configure(dies);
        for line in users.items().iter().map(Value::text) {
            admin::words(dies, &line.replacen("user ", "ACL SETUSER ", 1));
        }
        admin::words(dies, &format!("REPLICAOF 127.0.0.1 {}", lives.port));
    }
}

/// Sets or lifts the limit on both nodes.
pub(super) fn limit_output(pair: &Pair, on: bool) {
    let limit = if on { OUTPUT_LIMIT } else { 0 };
    for node in [&pair.a, &pair.b] {
        admin::ask(node, |admin| {
            let value = format!("normal {limit} 0 0");
            admin.call(&[b"CONFIG", b"SET", b"client-output-buffer-limit", value.as_bytes()])
        });
    }
}
