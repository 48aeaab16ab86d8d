//! The change under way: what happens to the nodes, and what orders follow from it when.
//!
//! The moments between its steps are chance, so that any of them can meet any command. Which primary is named is as
//! certain here as the rule makes it: never two, and the next one only when it is one.

use crate::stage::Stage;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A switchover that was announced: hold, quiesce, FAILOVER, release.
    Announced,
    /// FAILOVER behind the proxy's back.
    Bare,
    /// The same, given up before the demotion.
    Aborted,
    /// kill -9.
    Kill,
    /// Frozen, replaced, and awake again, still a primary in its own eyes.
    Freeze,
}

/// What clients may have felt so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    /// Grows when acknowledged writes may be lost.
    pub(crate) era: u64,
    pub(crate) killed: bool,
    pub(crate) bare: bool,
    /// Single connections to the nodes are lost.
    pub(crate) cuts: bool,
    /// Holds may reach their limit.
    pub(crate) short: bool,
    /// Clients that were closed on in the middle of a reply.
    pub(crate) halves: u64,
    /// Changes of primary that were completed.
    pub(crate) completed: u64,
}

pub(crate) struct Change {
    pub(crate) kind: Kind,
    phase: u32,
    due: u64,
    began: u64,
    from: usize,
}

impl Change {
    pub(crate) fn new(kind: Kind, due: u64) -> Self {
        Self { kind, phase: 0, due, began: due, from: 0 }
    }

    /// Does what is due. `quiet`: nothing is in flight that a server would still run. False once it is over.
    pub(crate) fn drive(&mut self, stage: &mut Stage, facts: &mut Facts, quiet: bool) -> bool {
        if stage.now < self.due {
            return true;
        }
        if self.phase == 0 {
            self.from = stage.orders.primary.expect("a primary to change from");
            self.began = stage.now;
            let kind = self.kind;
            stage.tell(|| format!("CHANGE {kind:?}"));
        }
        match self.kind {
            Kind::Announced => self.announced(stage, facts, quiet),
            Kind::Bare => self.bare(stage, facts),
            Kind::Aborted => self.aborted(stage, facts),
            Kind::Kill | Kind::Freeze => self.lost(stage, facts),
        }
    }

    fn next(&mut self, stage: &mut Stage, within: u64) -> bool {
        self.phase += 1;
        self.due = stage.now + stage.random.below(within + 1);
        true
    }

    fn in_step(&self, stage: &Stage) -> bool {
        stage.nodes[1 - self.from].applied == stage.log.entries.len()
    }

    fn announced(&mut self, stage: &mut Stage, facts: &mut Facts, quiet: bool) -> bool {
        match self.phase {
            0 => stage.order(|orders| orders.hold = true),
            1 if !quiet => {
                assert!(stage.now < self.began + 5000, "it never became quiet under an ordered hold");
                return true;
            }
            1 => stage.nodes[self.from].paused = true,
            2..=4 => return self.switch(stage),
            5 => stage.order(|orders| orders.primary = None),
            6 => {
                let (to, at_once) = (1 - self.from, stage.random.percent(70));
                stage.order(|orders| {
                    (orders.primary, orders.epoch) = (Some(to), orders.epoch + 1);
                    orders.hold &= !at_once;
                });
                facts.completed += 1;
            }
            _ => {
                stage.order(|orders| orders.hold = false);
                return false;
            }
        }
        self.next(stage, 4)
    }

    /// The phases 2 to 4 of a FAILOVER: in step, demoted, promoted.
    fn switch(&mut self, stage: &mut Stage) -> bool {
        match self.phase {
            2 if !self.in_step(stage) => return true,
            2 => {}
            3 if !self.in_step(stage) => return true,
            3 => {
                stage.tell(|| "the old primary is demoted".into());
                stage.nodes[self.from].demote();
            }
            _ => {
                stage.tell(|| "the other one is primary".into());
                stage.nodes[1 - self.from].promote();
            }
        }
        self.next(stage, 3)
    }

    fn bare(&mut self, stage: &mut Stage, facts: &mut Facts) -> bool {
        facts.bare = true;
        match self.phase {
            0 => {
                stage.nodes[self.from].paused = true;
                self.next(stage, 0) && self.next(stage, 300)
            }
            2..=4 => {
                let within = if self.phase == 4 { 150 } else { 3 };
                self.switch(stage) && self.delay(stage, within)
            }
            5 => {
                if stage.random.percent(70) {
                    stage.order(|orders| orders.primary = None);
                }
                self.next(stage, 60)
            }
            _ => {
                let to = 1 - self.from;
                stage.order(|orders| (orders.primary, orders.epoch) = (Some(to), orders.epoch + 1));
                facts.completed += 1;
                false
            }
        }
    }

    fn delay(&mut self, stage: &mut Stage, within: u64) -> bool {
        self.due = stage.now + stage.random.below(within + 1);
        true
    }

    fn aborted(&mut self, stage: &mut Stage, facts: &mut Facts) -> bool {
        facts.bare = true;
        let pause = self.phase == 0;
        stage.nodes[self.from].paused = pause;
        pause && self.next(stage, 400)
    }

    fn lost(&mut self, stage: &mut Stage, facts: &mut Facts) -> bool {
        let (from, to) = (self.from, 1 - self.from);
        match self.phase {
            0 => {
                (facts.killed, facts.era) = (true, facts.era + 1);
                if self.kind == Kind::Kill {
                    stage.kill(from);
                } else {
                    stage.nodes[from].frozen = true;
                }
                self.next(stage, 100)
            }
            1 => {
                if stage.random.percent(80) {
                    stage.order(|orders| (orders.primary, orders.given_up) = (None, orders.epoch));
                }
                let outage = if facts.short { 900 } else { 300 };
                self.next(stage, outage)
            }
            2 => {
                let kept = stage.nodes[to].applied;
                let lost = stage.log.entries.split_off(kept);
                stage.tell(|| format!("the other one is primary; {} entries are lost", lost.len()));
                stage.log.lost.extend(lost);
                stage.nodes[from].stale = true;
                stage.nodes[to].promote();
                self.next(stage, 50)
            }
            3 => {
                stage.order(|orders| {
                    (orders.primary, orders.given_up) = (Some(to), orders.epoch);
                    orders.epoch += 1;
                });
                facts.completed += 1;
                self.next(stage, 300)
            }
            _ => {
                stage.nodes[from].frozen = false;
                false
            }
        }
    }
}
