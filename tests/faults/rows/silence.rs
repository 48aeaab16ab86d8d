//! Nothing is heard any more: frozen, cut off, or out of power. Silence alone proves nothing.

use std::time::Duration;

use super::{EVERY, NEVER, Needs, Row};
use crate::ground::Cut;
use crate::judge::Expected;
use crate::support::{pause, wait_until};
use crate::world::{Mode, Setup, World};

const SECOND: Duration = Duration::from_secs(1);

pub(super) const ROWS: &[Row] = &[
    row("freeze", "`SIGSTOP` of the primary, `SIGCONT` 12 s later", &[Mode::Fence], freeze),
    row(
        "power-off",
        "the primary's machine vanishes (every packet dropped) for 12 s",
        &[Mode::Replicated, Mode::Sentinel],
        power_off,
    ),
    row("cut-both", "the two machines lose each other for 12 s, clients reach both", NEVER, |world| {
        cut_between(world, &[(0, Cut::From(1)), (1, Cut::From(0))])
    }),
    row("cut-to-replica", "what the primary's machine sends to the other is lost for 12 s", NEVER, |world| {
        cut_between(world, &[(1, Cut::From(0))])
    }),
    row("cut-to-primary", "what the replica's machine sends to the other is lost for 12 s", NEVER, |world| {
        cut_between(world, &[(0, Cut::From(1))])
    }),
    row("flapping", "the link between the machines comes and goes for 10 s", &[Mode::Pair], flapping),
];

const fn row(
    name: &'static str,
    title: &'static str,
    daily: &'static [Mode],
    story: fn(&mut World) -> Expected,
) -> Row {
    Row { name, title, modes: EVERY, daily, needs: Needs::Namespaces, setup: Setup::default, story }
}

/// Whether somebody promotes on silence.
fn replaces(world: &World) -> bool {
    world.mode == Mode::Sentinel || world.mode.fenced()
}

/// The end of a silence in which the primary may have been replaced.
fn replaced_or_not(world: &mut World) -> Expected {
    let primary = usize::from(replaces(world));
    world.wait_named(primary, SECOND * 20);
    wait_until("the other one follows", SECOND * 20, || !world.is_primary(1 - primary));
    world.wait_in_step();
    pause(1000);
    let within = match world.mode {
        Mode::Sentinel => SECOND * 4,
        Mode::Fence | Mode::Replicated => SECOND * 10,
        Mode::None | Mode::Pair => SECOND * 14,
    };
    let remark = if primary == 0 { "nobody is promoted" } else { "" };
    let errors = if world.mode.fenced() { vec!["NOREPLICAS"] } else { Vec::new() };
    Expected {
        primary,
        promoted: primary == 1,
        may_lose: primary == 1,
        within: Some(within),
        errors,
        remark,
        ..Expected::default()
    }
}

fn freeze(world: &mut World) -> Expected {
    world.fault();
    world.signal_redis(0, "STOP");
    pause(12_000);
    world.signal_redis(0, "CONT");
    pause(500);
    // It executes what lies in its sockets when it wakes.
    Expected { may_be_late: true, ..replaced_or_not(world) }
}

fn power_off(world: &mut World) -> Expected {
    world.fault();
    world.cut(0, Cut::Everything);
    world.unreachable(0, true);
    pause(12_000);
    world.mend(0, Cut::Everything);
    world.unreachable(0, false);
    // What a client gave up, its own system still delivers when the machine is back.
    Expected { may_be_late: true, ..replaced_or_not(world) }
}

/// Sentinel: only one of the three no longer sees the primary, so nobody is promoted.
fn cut_between(world: &mut World, cuts: &[(usize, Cut)]) -> Expected {
    world.fault();
    for (host, cut) in cuts {
        world.cut(*host, *cut);
    }
    pause(12_000);
    for (host, cut) in cuts {
        world.mend(*host, *cut);
    }
    if world.mode == Mode::Sentinel {
        pause(1000);
        world.wait_named(0, SECOND * 20);
        world.wait_in_step();
        pause(1000);
        return Expected { within: Some(SECOND), remark: "nobody is promoted", ..Expected::default() };
    }
    let expected = replaced_or_not(world);
    // The clients of the primary's own proxy are served all the time.
    let within = if world.mode.fenced() { SECOND * 10 } else { SECOND };
    Expected { within: Some(within), ..expected }
}

fn flapping(world: &mut World) -> Expected {
    world.fault();
    for round in 0..10_u64 {
        world.cut(0, Cut::From(1));
        world.cut(1, Cut::From(0));
        pause(100 + 120 * round);
        world.mend(0, Cut::From(1));
        world.mend(1, Cut::From(0));
        pause(400);
    }
    world.wait_named(0, SECOND * 20);
    world.wait_in_step();
    pause(1000);
    let errors = if world.mode.fenced() { vec!["NOREPLICAS"] } else { Vec::new() };
    Expected { within: Some(SECOND * 3), errors, ..Expected::default() }
}
