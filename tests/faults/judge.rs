//! The verdict on a cell: what the clients were told, held against what the servers have in the end.
//!
//! A write that was acknowledged and is gone is *explained* when asynchronous replication alone can lose it: it was
//! acknowledged after the replica may have been cut off (a moment before the fault), and before that replica was promoted.
//! Anything lost earlier, or acknowledged by the old primary later, is a violation; so is anything that stands there twice,
//! or after it was refused.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::load::Told;
use crate::watch::{History, both_primary, promoted};
use crate::world::{Mode, World};

/// A replica may be this far behind when the fault comes: the machine is shared by everything in the cell.
const BEHIND: Duration = Duration::from_millis(300);
/// Between the promotion and the moment when the watch sees it, and for what was on its way to a client.
const SEEN_LATE: Duration = Duration::from_millis(100);

/// What a row expects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    /// Who is primary in the end.
    pub(crate) primary: usize,
    /// Somebody is promoted.
    pub(crate) promoted: bool,
    /// Writes work again within this time.
    pub(crate) within: Option<Duration>,
    /// Errors that clients may see besides an unknown outcome and `-LOADING`.
    pub(crate) errors: Vec<&'static str>,
    /// Acknowledged writes may be lost as far as they are explained.
    pub(crate) may_lose: bool,
    /// A write of unknown outcome may run after later ones: it lay in the sockets of a process that did not run.
    pub(crate) may_be_late: bool,
    /// For the table.
    pub(crate) remark: &'static str,
}

/// What a cell ended with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) row: String,
    pub(crate) mode: String,
    /// Milliseconds from the fault (or from the operator's deed) until a write was acknowledged that counts, if any was.
    pub(crate) again_ms: Option<u64>,
    /// The longest that one client waited for one answer.
    pub(crate) longest_ms: u64,
    pub(crate) acknowledged: u64,
    pub(crate) lost: u64,
    pub(crate) unknown: u64,
    /// Writes of unknown outcome that ran after later ones of the same client.
    pub(crate) late: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    /// Milliseconds for which both servers said that they are primary.
    pub(crate) two_ms: u64,
    pub(crate) remark: String,
    /// How long the machine stood still at most: times mean nothing then, and waiting in vain may mean nothing.
    pub(crate) still_ms: u64,
    pub(crate) violations: Vec<String>,
}

impl Outcome {
    /// The cell.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.row, self.mode)
    }
}

/// Ends the load and the watch, and judges.
pub(crate) fn judge(world: &mut World, expected: &Expected) -> Outcome {
    let told = world.load.take().expect("judged once").stop();
    let end = world.now();
    let histories = world.watch.take().expect("judged once").stop();
    let rise = promoted(&histories[expected.primary]).or_else(|| promoted(&histories[1 - expected.primary]));
    let mut outcome = Outcome {
        acknowledged: told.iter().map(|one| one.logged.len() as u64).sum(),
        unknown: told.iter().map(|one| one.unknown.len() as u64).sum(),
        longest_ms: told.iter().map(|one| millis(one.longest.0)).max().unwrap_or_default(),
        two_ms: millis(both_primary(&histories, end)),
        remark: expected.remark.to_owned(),
        ..Outcome::default()
    };
    let mut wrong: Vec<String> = told.iter().flat_map(|one| one.wrong.clone()).collect();
    if outcome.acknowledged < 10 {
        wrong.push(format!("hardly a load: {} writes", outcome.acknowledged));
    }
    if rise.is_some() != expected.promoted {
        wrong.push(format!("promoted: {rise:?}, although expected: {}", expected.promoted));
    }
    // Nothing explains the loss of a write that a replica had confirmed.
    let expected = &Expected { may_lose: expected.may_lose && world.mode != Mode::Replicated, ..expected.clone() };
    let window = Window { from: world.fault.saturating_sub(BEHIND), to: rise.map(|at| at + SEEN_LATE) };
    (outcome.lost, outcome.late) = compare(world, expected, &told, window, &mut wrong);
    outcome.late += stories(&told, window, &mut wrong);
    if outcome.late > 0 && !expected.may_be_late {
        wrong.push(format!("{} writes of unknown outcome ran after later ones of the same client", outcome.late));
    }
    for one in &told {
        for (word, times) in &one.errors {
            *outcome.errors.entry(word.clone()).or_default() += times;
            let refused = world.mode == Mode::Replicated && word == "NOREPLICAS";
            if word != "OUTCOMEUNKNOWN" && word != "LOADING" && !refused && !expected.errors.contains(&word.as_str()) {
                wrong.push(format!("clients saw -{word} {times} times"));
            }
        }
    }
    let again = again(&told, world, rise);
    // Told to refuse writes without a replica, the pair takes none until it has one again: that is no matter of time.
    let waits_for_replica = world.mode == Mode::Replicated;
    match again {
        Some(again) => {
            outcome.again_ms = Some(millis(again));
            if let Some(within) = expected.within.filter(|within| again > *within && !waits_for_replica) {
                wrong.push(format!("writes work again after {again:?}, later than {within:?}"));
            }
        }
        None if waits_for_replica => {}
        None => wrong.push("writes never worked again".to_owned()),
    }
    if !wrong.is_empty() {
        wrong.push(told_of(&histories, world.fault));
    }
    outcome.violations = wrong;
    outcome
}

/// When an acknowledged write can have been lost by asynchronous replication.
#[derive(Clone, Copy, Debug)]
struct Window {
    from: Duration,
    /// Nobody was promoted: nothing can be lost.
    to: Option<Duration>,
}

impl Window {
    fn explains(self, at: Duration) -> bool {
        at >= self.from && self.to.is_some_and(|to| at <= to)
    }
}

/// The logs on the primary, and on its replica if it is in step, against what was told. Returns how many are lost,
/// and how many of unknown outcome ran late.
fn compare(world: &World, expected: &Expected, told: &[Told], window: Window, wrong: &mut Vec<String>) -> (u64, u64) {
    let (mut lost, mut late) = (0, 0);
    for (number, one) in told.iter().enumerate() {
        let log = match world.try_ask(expected.primary, &format!("LRANGE log:{number} 0 -1")) {
            Ok(log) => log.items().iter().map(|item| item.text().parse().unwrap()).collect::<Vec<u64>>(),
            Err(error) => {
                wrong.push(format!("the primary does not answer: {error}"));
                return (0, 0);
            }
        };
        let mut times: HashMap<u64, usize> = HashMap::new();
        for n in &log {
            *times.entry(*n).or_default() += 1;
        }
        let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).map(|(n, _)| *n).collect();
        if !twice.is_empty() {
            wrong.push(format!("log:{number}: executed twice: {twice:?}"));
        }
        let refused: Vec<_> = one.refused.iter().filter(|n| times.contains_key(n)).collect();
        if !refused.is_empty() {
            wrong.push(format!("log:{number}: refused, and executed all the same: {refused:?}"));
        }
        let acknowledged: Vec<u64> = one.logged.iter().map(|(n, _)| *n).collect();
        let order: Vec<u64> = log.iter().copied().filter(|n| acknowledged.binary_search(n).is_ok()).collect();
        if !order.is_sorted() {
            wrong.push(format!("log:{number}: acknowledged writes out of order"));
        }
        let gone: Vec<_> = one.logged.iter().filter(|(n, _)| !times.contains_key(n)).collect();
        let unexplained: Vec<_> = gone.iter().filter(|(_, at)| !expected.may_lose || !window.explains(*at)).collect();
        if !unexplained.is_empty() {
            wrong.push(format!(
                "log:{number}: {} acknowledged writes are lost without an explanation {window:?}: first {:?}, last {:?}",
                unexplained.len(),
                unexplained.first(),
                unexplained.last()
            ));
        }
        lost += gone.len() as u64;
        late += log.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
    }
    (lost, late)
}

/// Reads and counts that went back: as a loss explains, or not at all. Returns how many reads saw a late write.
fn stories(told: &[Told], window: Window, wrong: &mut Vec<String>) -> u64 {
    let mut late = 0;
    for (number, one) in told.iter().enumerate() {
        for (at, before, after) in &one.shrunk {
            if window.to.is_none() || *at < window.from {
                wrong.push(format!("count:{number} fell from {before} to {after} at {at:?}"));
            }
        }
        for (at, whose, floor, seen) in &one.stale {
            if told[*whose].last_unknown.contains(seen) {
                late += 1;
                continue;
            }
            let skipped = told[*whose].last.iter().filter(|(n, _)| n > seen && n <= floor);
            if !skipped.clone().all(|(_, at)| window.explains(*at)) {
                wrong.push(format!(
                    "client {number} read last:{whose} = {seen} at {at:?}, after {floor} was acknowledged"
                ));
            }
        }
    }
    late
}

/// From the fault (or from when the outage is counted) to the first write that was acknowledged by whoever serves
/// afterwards; without either, the longest time without any acknowledged write after the fault.
fn again(told: &[Told], world: &World, rise: Option<Duration>) -> Option<Duration> {
    let mut all: Vec<Duration> = told.iter().flat_map(|one| one.acknowledged.iter().copied()).collect();
    all.sort_unstable();
    let from = world.counted_from.unwrap_or(world.fault);
    if let Some(serves) = rise.filter(|rise| *rise >= from).or(world.counted_from) {
        return all.iter().find(|at| **at >= serves).map(|at| at.saturating_sub(from));
    }
    let start = all.partition_point(|at| *at < from).saturating_sub(1);
    let later = all.get(start..).filter(|later| later.len() > 1)?;
    later.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max()
}

fn told_of(histories: &[History; 2], fault: Duration) -> String {
    format!("the fault was at {fault:?}; a was {:?}; b was {:?}", histories[0], histories[1])
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
