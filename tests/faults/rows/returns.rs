//! The primary dies and something returns in its place.

use std::time::Duration;

use super::deaths::somebody_promotes;
use super::{EVERY, NEVER, Needs, Row};
use crate::ground::Cut;
use crate::judge::Expected;
use crate::support::{pause, wait_until};
use crate::world::{Disk, Mode, Setup, World};

const SECOND: Duration = Duration::from_secs(1);

pub(super) const ROWS: &[Row] = &[
    row(
        "returns-empty-at-once",
        "the primary dies and is back at once, empty",
        &[Mode::Pair],
        Setup::default,
        empty_at_once,
    ),
    row("returns-empty", "it is back empty after the promotion", NEVER, Setup::default, empty),
    row("returns-stale", "it is back after the promotion, with an old snapshot", NEVER, Setup::default, stale),
    Row {
        name: "returns-ahead",
        title: "it is back after the promotion, with a second of writes that the replica never got",
        modes: EVERY,
        daily: NEVER,
        needs: Needs::Namespaces,
        setup: logs,
        story: ahead,
    },
    row(
        "returns-whole",
        "it is stopped in good order and is back after 1 s with everything",
        NEVER,
        Setup::default,
        whole,
    ),
];

const fn row(
    name: &'static str,
    title: &'static str,
    daily: &'static [Mode],
    setup: fn() -> Setup,
    story: fn(&mut World) -> Expected,
) -> Row {
    Row { name, title, modes: EVERY, daily, needs: Needs::Nothing, setup, story }
}

fn logs() -> Setup {
    Setup { disk: Disk::Log, ..Setup::default() }
}

/// Where nobody parks the replica, a node that starts again starts as a replica: `replicaof` stands in both configurations.
fn configured(world: &World) -> Option<usize> {
    matches!(world.mode, Mode::None | Mode::Sentinel).then_some(1)
}

/// With Sentinel this is nobody's case: the primary was not down for long enough, and when it has been a replica for long
/// enough, its replica has been without a primary for too long.
fn empty_at_once(world: &mut World) -> Expected {
    world.fault();
    world.kill_redis(0);
    world.boot(0, configured(world));
    if !matches!(world.mode, Mode::None | Mode::Sentinel) {
        return served_by_b(world);
    }
    pause(3000);
    assert!(world.nodes_are_replicas(), "nobody promotes");
    world.operator_promotes(1);
    Expected { remark: "an operator promotes", ..served_by_b(world) }
}

fn empty(world: &mut World) -> Expected {
    world.fault();
    world.kill_redis(0);
    somebody_promotes(world);
    let before = world.ask(1, "DBSIZE").int();
    world.boot(0, None);
    pause(1500);
    assert!(world.ask(1, "DBSIZE").int() >= before, "the new primary keeps everything");
    served_by_b(world)
}

fn stale(world: &mut World) -> Expected {
    world.ask(0, "SAVE");
    pause(1000);
    empty(world)
}

/// The replica hears nothing for a second while the primary goes on, dies, and keeps what it had in its log.
fn ahead(world: &mut World) -> Expected {
    world.fault();
    world.cut(1, Cut::From(0));
    pause(1000);
    world.counted_from = Some(world.now());
    world.kill_redis(0);
    world.mend(1, Cut::From(0));
    somebody_promotes(world);
    world.boot(0, None);
    Expected { within: Some(SECOND * 4), ..served_by_b(world) }
}

/// The new primary is served, the other follows it in the end.
fn served_by_b(world: &mut World) -> Expected {
    world.wait_named(1, SECOND * 20);
    if world.mode == Mode::None && world.is_primary(0) {
        let (host, port) = (world.ground.address(1), world.ask(1, "CONFIG GET port").items()[1].text());
        world.ask(0, &format!("REPLICAOF {host} {port}"));
    }
    wait_until("the other one follows", SECOND * 30, || !world.is_primary(0));
    world.wait_in_step();
    pause(1000);
    let within = if world.mode == Mode::Sentinel { SECOND * 5 / 2 } else { SECOND };
    Expected { primary: 1, promoted: true, may_lose: true, within: Some(within), ..Expected::default() }
}

/// `SHUTDOWN SAVE` waits for the replica, and what is read from the disk names the history.
fn whole(world: &mut World) -> Expected {
    world.fault();
    world.try_ask(0, "SHUTDOWN SAVE").ok();
    wait_until("it has ended", SECOND * 10, || !world.nodes[0].redis.as_mut().is_some_and(|redis| redis.running()));
    world.kill_redis(0);
    pause(1000);
    world.boot(0, None);
    pause(3000);
    let primary = usize::from(world.is_primary(1));
    world.wait_named(primary, SECOND * 20);
    wait_until("the other one follows", SECOND * 30, || !world.is_primary(1 - primary));
    world.wait_in_step();
    pause(1000);
    let promoted = primary == 1;
    // Sentinel may promote the replica before that has found the primary again: what was written in between is lost, and
    // who is right is a doubt until Sentinel has demoted the other one.
    let sentinel = world.mode == Mode::Sentinel;
    let within = if sentinel { SECOND * 16 } else { SECOND * 5 };
    Expected { primary, promoted, may_lose: sentinel && promoted, within: Some(within), ..Expected::default() }
}
