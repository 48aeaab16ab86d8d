//! Nothing dies, but something is not as it should be: a pause, a full disk, a clock.

use std::time::Duration;

use super::deaths::somebody_promotes;
use super::{EVERY, NEVER, Needs, PAIR, Row};
use crate::clock;
use crate::ground::Cut;
use crate::judge::Expected;
use crate::support::{pause, wait_until};
use crate::world::{Disk, Mode, Setup, World};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: i64 = 3600;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "pause-proxy-of-primary",
        title: "the proxy beside the primary is paused for 20 s (`SIGSTOP`)",
        modes: EVERY,
        daily: NEVER,
        needs: Needs::Nothing,
        setup: Setup::default,
        story: |world| pause_proxy(world, 0),
    },
    Row {
        name: "pause-proxy-of-replica",
        title: "the proxy beside the replica is paused for 20 s",
        modes: EVERY,
        daily: NEVER,
        needs: Needs::Nothing,
        setup: Setup::default,
        story: |world| pause_proxy(world, 1),
    },
    Row {
        name: "pause-then-death",
        title: "the proxy beside the replica is paused for 20 s; the primary dies in the tenth",
        modes: PAIR,
        daily: &[Mode::Pair],
        needs: Needs::Nothing,
        setup: Setup::default,
        story: pause_then_death,
    },
    Row {
        name: "disk-full",
        title: "the primary's disk is full for 5 s (its log cannot be written)",
        modes: EVERY,
        daily: NEVER,
        needs: Needs::Namespaces,
        setup: || Setup { disk: Disk::Log, small_disk_kib: 8 * 1024, ..Setup::default() },
        story: disk_full,
    },
    Row {
        name: "state-disk-full",
        title: "the disks of both proxies are full, then the primary dies",
        modes: EVERY,
        daily: NEVER,
        needs: Needs::Namespaces,
        setup: || Setup { small_state_kib: 256, ..Setup::default() },
        story: state_disk_full,
    },
    Row {
        name: "wall-clock",
        title: "the wall clocks of both proxies jump ahead by an hour, then back by two; then the primary dies",
        modes: EVERY,
        daily: NEVER,
        needs: Needs::Compiler,
        setup: || Setup { false_clock: (false, true), ..Setup::default() },
        story: wall_clock,
    },
    Row {
        name: "proxy-clock",
        title: "the proxies' monotonic clocks jump ahead by a minute, one after the other; then the primary dies",
        modes: EVERY,
        daily: &[Mode::Fence],
        needs: Needs::Compiler,
        setup: || Setup { false_clock: (false, true), ..Setup::default() },
        story: proxy_clock,
    },
    Row {
        name: "primary-clock-back",
        title: "the machines lose each other, and the primary's wall clock jumps back by an hour",
        modes: &[Mode::Fence],
        daily: NEVER,
        needs: Needs::Both,
        setup: || Setup { false_clock: (true, false), ..Setup::default() },
        story: primary_clock_back,
    },
];

/// The proxy's clients cannot be served; those of the other are, and nobody is promoted.
fn pause_proxy(world: &mut World, proxy: usize) -> Expected {
    world.fault();
    world.signal_proxy(proxy, "STOP");
    world.unreachable(proxy, true);
    pause(20_000);
    world.signal_proxy(proxy, "CONT");
    world.unreachable(proxy, false);
    pause(2000);
    world.wait_named(0, SECOND * 10);
    // What its clients had sent lay in its sockets.
    Expected { within: Some(SECOND), may_be_late: true, ..Expected::default() }
}

/// It does not act on what it saw before its pause.
fn pause_then_death(world: &mut World) -> Expected {
    world.signal_proxy(1, "STOP");
    world.unreachable(1, true);
    pause(10_000);
    world.fault();
    world.kill_redis(0);
    pause(10_000);
    assert!(!world.is_primary(1), "nobody else promotes it");
    world.signal_proxy(1, "CONT");
    world.unreachable(1, false);
    pause(3000);
    let by_itself = world.is_primary(1);
    assert!(!by_itself, "it cannot know how old the replica's data are");
    // As the page tells an operator to do: the fence that B has for others would close on itself.
    world.ask(1, "CONFIG SET min-replicas-to-write 0");
    world.operator_promotes(1);
    world.wait_named(1, SECOND * 20);
    pause(1000);
    let remark = "an operator promotes";
    let within = Some(SECOND);
    Expected { primary: 1, promoted: true, may_lose: true, may_be_late: true, within, remark, ..Expected::default() }
}

fn disk_full(world: &mut World) -> Expected {
    let filler = world.nodes[0].home.join("data/filler");
    world.fault();
    fill(&filler);
    pause(5000);
    std::fs::remove_file(&filler).unwrap();
    // To Sentinel a server that answers PING with -MISCONF is down.
    let primary = usize::from(world.mode == Mode::Sentinel);
    world.wait_named(primary, SECOND * 10);
    pause(3000);
    Expected {
        primary,
        promoted: primary == 1,
        within: Some(SECOND * 8),
        errors: vec!["MISCONF"],
        remark: "refused with -MISCONF meanwhile, as by Redis",
        ..Expected::default()
    }
}

fn state_disk_full(world: &mut World) -> Expected {
    for node in &world.nodes {
        fill(&node.home.join("state/filler"));
    }
    pause(500);
    world.fault();
    world.kill_redis(0);
    somebody_promotes(world);
    let within = if world.mode == Mode::Sentinel { SECOND * 5 / 2 } else { SECOND };
    Expected { primary: 1, promoted: true, may_lose: true, within: Some(within), ..Expected::default() }
}

/// Writes zeros until nothing more fits.
fn fill(file: &std::path::Path) {
    let mut out = std::fs::File::create(file).unwrap();
    for size in [65_536, 4096, 1] {
        let block = vec![0; size];
        while std::io::Write::write_all(&mut out, &block).is_ok() {}
    }
}

fn jump_proxies(world: &World, wall: i64, monotonic: i64) {
    for node in &world.nodes {
        clock::jump(&node.home, "proxy", wall, monotonic);
    }
}

fn wall_clock(world: &mut World) -> Expected {
    jump_proxies(world, HOUR, 0);
    pause(2000);
    jump_proxies(world, -HOUR, 0);
    pause(2000);
    assert!(world.is_primary(0) && !world.is_primary(1), "nobody was promoted");
    world.fault();
    world.kill_redis(0);
    somebody_promotes(world);
    let within = if world.mode == Mode::Sentinel { SECOND * 5 / 2 } else { SECOND };
    Expected { primary: 1, promoted: true, may_lose: true, within: Some(within), ..Expected::default() }
}

/// To the process it looks as if it had not run for a minute: proofs start anew.
fn proxy_clock(world: &mut World) -> Expected {
    for node in [1, 0] {
        clock::jump(&world.nodes[node].home, "proxy", 0, 60);
        pause(2000);
        world.wait_named(0, SECOND * 10);
    }
    assert!(world.is_primary(0) && !world.is_primary(1), "nobody was promoted");
    world.fault();
    world.kill_redis(0);
    somebody_promotes(world);
    let within = if world.mode == Mode::Sentinel { SECOND * 5 / 2 } else { SECOND };
    Expected { primary: 1, promoted: true, may_lose: true, within: Some(within), ..Expected::default() }
}

/// Redis measures the age of its replica's word by the wall clock: its fence stays open for an hour. The proxy beside it
/// does not rely on that.
fn primary_clock_back(world: &mut World) -> Expected {
    world.fault();
    for (host, other) in [(0, 1), (1, 0)] {
        world.cut(host, Cut::From(other));
    }
    clock::jump(&world.nodes[0].home, "redis", -HOUR, 0);
    pause(12_000);
    for (host, other) in [(0, 1), (1, 0)] {
        world.mend(host, Cut::From(other));
    }
    world.wait_named(1, SECOND * 20);
    wait_until("the other one follows", SECOND * 20, || !world.is_primary(0));
    world.wait_in_step();
    pause(1000);
    let errors = vec!["NOREPLICAS"];
    Expected { primary: 1, promoted: true, may_lose: true, within: Some(SECOND * 10), errors, ..Expected::default() }
}
