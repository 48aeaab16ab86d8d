//! The course of a run: a control, announced switchovers, bare ones, kills; each phase verified before the next.
//!
//! It orders events and collects what was seen; it neither makes load nor judges.

use std::time::Duration;

use super::driver::Driver;
use super::ledger::{Findings, Ledger};
use super::pair::{Pair, Place};
use super::proxies::Proxies;
use super::report::{Kind, Phase};
use super::signals::Interrupt;
use super::table::Progress;
use super::verify;
use crate::io::clock;

/// Every window is at least this long, so that the control's can be compared with the others'.
const WINDOW: Duration = Duration::from_secs(1);
/// Load before the first window of a phase.
const WARM_UP: Duration = Duration::from_millis(500);
/// From the start of a window to the event.
const LEAD: Duration = Duration::from_millis(100);
/// From the new roles to the end of a window.
const TAIL: Duration = Duration::from_millis(200);
/// For roles to settle.
const PATIENCE: Duration = Duration::from_secs(20);
/// For the proxies to have looked around since the last change: they do not act in their first moments.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// Everything a run consists of.
pub(super) struct Stage<'a> {
    /// The servers.
    pub(super) pair: &'a mut Pair,
    /// The proxies.
    pub(super) proxies: &'a mut Proxies,
    /// The load.
    pub(super) driver: &'a Driver,
    /// Ctrl-C.
    pub(super) interrupt: &'a Interrupt,
    /// Where progress goes.
    pub(super) progress: &'a Progress,
    /// Ledgers of finished phases, and what has been reported of each.
    pub(super) past: Vec<(Vec<Ledger>, Findings)>,
}

impl Stage<'_> {
    /// One phase: `count` events of one kind under load, then the comparison with the primary's data.
    pub(super) fn phase(&mut self, kind: Kind, count: usize) -> Result<Phase, String> {
        let mut phase = Phase::new(kind);
        self.driver.resume(self.past.len())?;
        self.interrupt.sleep(WARM_UP)?;
        let (cpu_before, warm_up) = (self.proxies.cpu(), self.driver.counts()?.answered());
        for turn in 0..count {
            let began = clock::now();
            self.driver.open_window()?;
            let done = match kind {
                Kind::Control => Ok(()),
                Kind::Announced => self.announced(turn),
                Kind::Bare => self.bare(),
                Kind::Killed => self.killed(),
            };
            let left = WINDOW.saturating_sub(clock::now().saturating_sub(began));
            self.interrupt.sleep(left)?;
            phase.stalled(self.driver.close_window()?.longest);
            phase.events += 1;
            if let Some(casualty) = self.proxies.casualty() {
                return Err(casualty);
            }
            if let Err(why) = done {
                self.interrupt.sleep(Duration::ZERO)?;
                phase.failed.push(format!("event {}: {why}", turn + 1));
                if phase.failed.len() == 3 {
                    break;
                }
            }
            self.progress.live(&phase, count, &self.driver.counts()?);
        }
        let cpu = self.proxies.cpu().zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
        let measured = self.driver.counts()?.answered().saturating_sub(warm_up);
        self.settle(&mut phase)?;
        if let (Kind::Control, Some(cpu), 1..) = (kind, cpu, measured) {
            phase.proxy_cpu_us = Some(cpu.as_secs_f64() * 1e6 / measured as f64);
        }
        Ok(phase)
    }

    /// Stops the load, compares the data of this and all earlier phases, and fills in the counts.
    fn settle(&mut self, phase: &mut Phase) -> Result<(), String> {
        let paused = self.driver.pause()?;
        phase.tally = paused.tally;
        phase.tally.unanswered += paused.unanswered;
        phase.seconds = paused.took.as_secs_f64();
        self.past.push((paused.ledgers, Findings::default()));
        let Some(primary) = self.settled_primary()? else {
            phase.failed.push("the pair has no primary with a replica in step; nothing could be verified".to_owned());
            return Ok(());
        };
        let at = self.pair.node(primary).at;
        for (ledgers, reported) in &mut self.past {
            let found = verify::compare(at, ledgers)?;
            phase.tally.found(found.since(*reported));
            *reported = found;
        }
        Ok(())
    }

    fn settled_primary(&self) -> Result<Option<Place>, String> {
        let until = clock::now() + PATIENCE;
        while clock::now() < until {
            if let Some(primary) = self.pair.primary() {
                return Ok(Some(primary));
            }
            self.interrupt.sleep(Duration::from_millis(20))?;
        }
        Ok(None)
    }

    fn from(&self) -> Result<Place, String> {
        self.settled_primary()?.ok_or_else(|| "the pair has no primary with a replica in step".to_owned())
    }

    fn announced(&self, turn: usize) -> Result<(), String> {
        let from = self.from()?;
        self.interrupt.sleep(LEAD)?;
        self.proxies.switchover(self.pair.node(from.other()).name, turn)?;
        self.pair.wait_for(from.other(), PATIENCE, self.interrupt)?;
        self.interrupt.sleep(TAIL)
    }

    fn bare(&self) -> Result<(), String> {
        let from = self.from()?;
        self.interrupt.sleep(LEAD)?;
        self.pair.failover(from)?;
        self.pair.wait_for(from.other(), PATIENCE, self.interrupt)?;
        self.interrupt.sleep(TAIL)
    }

    fn killed(&mut self) -> Result<(), String> {
        let from = self.from()?;
        self.interrupt.sleep(LOOK_AROUND)?;
        self.pair.kill(from);
        self.pair.wait_promoted(from.other(), PATIENCE, self.interrupt)?;
        self.interrupt.sleep(TAIL)?;
        self.pair.come_back(from)?;
        self.pair.wait_for(from.other(), PATIENCE, self.interrupt)?;
        self.pair.wait_acknowledged(from.other())?;
        self.interrupt.sleep(TAIL)
    }
}
