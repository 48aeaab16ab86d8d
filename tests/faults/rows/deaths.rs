//! A process dies.

use std::time::Duration;

use super::{EVERY, NEVER, Needs, PROMOTING, Row};
use crate::judge::Expected;
use crate::support::{pause, wait_until};
use crate::world::{Disk, Mode, Setup, World};

const SECOND: Duration = Duration::from_secs(1);

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "kill-primary",
        title: "`kill -9` of the primary",
        modes: EVERY,
        daily: PROMOTING,
        needs: Needs::Nothing,
        setup: Setup::default,
        story: kill_primary,
    },
    Row {
        name: "kill-node",
        title: "`kill -9` of the primary and of its proxy",
        modes: EVERY,
        daily: NEVER,
        needs: Needs::Nothing,
        setup: Setup::default,
        story: kill_node,
    },
    Row {
        name: "kill-replica",
        title: "`kill -9` of the replica; it returns empty after 3 s",
        modes: EVERY,
        daily: &[Mode::Pair],
        needs: Needs::Nothing,
        setup: Setup::default,
        story: kill_replica,
    },
    Row {
        name: "both-die-primary-first",
        title: "both servers die and return from their logs, the old primary first",
        modes: EVERY,
        daily: NEVER,
        needs: Needs::Nothing,
        setup: logs,
        story: |world| both_die(world, 0),
    },
    Row {
        name: "both-die-replica-first",
        title: "the same, the old replica first",
        modes: EVERY,
        daily: &[Mode::Pair],
        needs: Needs::Nothing,
        setup: logs,
        story: |world| both_die(world, 1),
    },
    Row {
        name: "kill-proxy-of-primary",
        title: "`kill -9` of the proxy beside the primary; it is started again after 2 s",
        modes: EVERY,
        daily: NEVER,
        needs: Needs::Nothing,
        setup: Setup::default,
        story: |world| kill_proxy(world, 0),
    },
    Row {
        name: "kill-proxy-of-replica",
        title: "`kill -9` of the proxy beside the replica; it is started again after 2 s",
        modes: EVERY,
        daily: NEVER,
        needs: Needs::Nothing,
        setup: Setup::default,
        story: |world| kill_proxy(world, 1),
    },
    Row {
        name: "kill-two-sentinels",
        title: "two of three Sentinels die, then the primary; one Sentinel returns after 4 s",
        modes: &[Mode::Sentinel],
        daily: NEVER,
        needs: Needs::Nothing,
        setup: Setup::default,
        story: kill_sentinels,
    },
];

fn logs() -> Setup {
    Setup { disk: Disk::Log, ..Setup::default() }
}

/// After the primary has died: an operator, Sentinel or the proxy beside the replica promotes.
pub(super) fn somebody_promotes(world: &mut World) {
    if world.mode == Mode::None {
        pause(1000);
        assert!(!world.is_primary(1), "nobody promotes in this mode");
        world.operator_promotes(1);
    }
    world.wait_named(1, Duration::from_secs(20));
    pause(1000);
}

fn promised(world: &World) -> Duration {
    if world.mode == Mode::Sentinel { SECOND * 5 / 2 } else { SECOND }
}

fn kill_primary(world: &mut World) -> Expected {
    world.fault();
    world.kill_redis(0);
    somebody_promotes(world);
    Expected { primary: 1, promoted: true, may_lose: true, within: Some(promised(world)), ..Expected::default() }
}

fn kill_node(world: &mut World) -> Expected {
    world.fault();
    world.nodes[0].proxy = None;
    world.kill_redis(0);
    somebody_promotes(world);
    Expected { primary: 1, promoted: true, may_lose: true, within: Some(promised(world)), ..Expected::default() }
}

fn kill_replica(world: &mut World) -> Expected {
    world.fault();
    world.kill_redis(1);
    pause(3000);
    world.boot(1, None);
    if world.mode == Mode::None {
        // Nobody but the operator makes it a replica.
        let (host, port) = (world.ground.address(0), world.ask(0, "CONFIG GET port").items()[1].text());
        world.ask(1, &format!("REPLICAOF {host} {port}"));
    }
    world.wait_in_step();
    pause(1000);
    let fenced = world.mode.fenced();
    let errors = if fenced { vec!["NOREPLICAS"] } else { Vec::new() };
    let remark = if fenced { "refused with -NOREPLICAS meanwhile" } else { "" };
    let within = if fenced { SECOND * 8 } else { SECOND };
    Expected { within: Some(within), errors, remark, ..Expected::default() }
}

/// With a log, but without the name of its history, a server cannot show that it has everything: an operator adopts it.
fn both_die(world: &mut World, first: usize) -> Expected {
    world.fault();
    world.kill_redis(1);
    world.kill_redis(0);
    pause(500);
    world.boot(first, None);
    pause(2000);
    if first == 1 {
        assert_ne!(world.status(1)["view"]["primary"], "b", "the old replica is not believed");
    }
    world.boot(1 - first, None);
    pause(1000);
    world.counted_from = Some(world.now());
    for proxy in [0, 1] {
        let adopted = world.operate(proxy, "adopt a");
        assert!(adopted.status.success(), "adopt: {}", String::from_utf8_lossy(&adopted.stderr));
    }
    world.wait_named(0, SECOND * 10);
    if world.mode == Mode::None || world.mode == Mode::Sentinel {
        let (host, port) = (world.ground.address(0), world.ask(0, "CONFIG GET port").items()[1].text());
        world.ask(1, &format!("REPLICAOF {host} {port}"));
    }
    wait_until("the other one follows", SECOND * 20, || !world.is_primary(1));
    world.wait_in_step();
    pause(1000);
    let remark = "doubt: served after `adopt`";
    Expected { primary: 0, within: Some(SECOND), remark, errors: vec!["NOREPLICAS"], ..Expected::default() }
}

fn kill_proxy(world: &mut World, proxy: usize) -> Expected {
    world.fault();
    world.nodes[proxy].proxy = None;
    pause(2000);
    world.start_proxy(proxy);
    world.wait_named(0, SECOND * 10);
    pause(1000);
    Expected { primary: 0, within: Some(SECOND), ..Expected::default() }
}

fn kill_sentinels(world: &mut World) -> Expected {
    world.sentinels.truncate(1);
    pause(500);
    world.fault();
    world.kill_redis(0);
    pause(4000);
    assert!(!world.is_primary(1), "a minority promotes nobody");
    world.counted_from = Some(world.now());
    let back = world.run_sentinel(1);
    world.sentinels.push(back);
    world.wait_named(1, SECOND * 20);
    pause(1000);
    Expected { primary: 1, promoted: true, may_lose: true, within: Some(SECOND * 6), ..Expected::default() }
}
