//! The witness of the pair: the real machine, on a machine that stops, pauses and is cut off, with connections that break and
//! messages that come late. It keeps what it must keep, as the real one does.

use std::time::Duration;

use changeover::topology::failover::NoAnswer;
use changeover::topology::failover::witness::{Answer, Ask, Witness};

use crate::world::Random;

/// An agent gives a question up after this time.
const PATIENCE: Duration = Duration::from_millis(700);

/// A question on its way, or in the socket of a witness that does not run.
#[derive(Clone, Debug)]
struct Asked {
    at: Duration,
    by: usize,
    line: u64,
    ask: Ask,
}

/// An agent's end.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    line: u64,
    /// It has been used before.
    open: bool,
    /// What is asked is given up then; whether it has left.
    due: Option<(Duration, bool)>,
}

#[derive(Debug)]
pub(crate) struct Voice {
    machine: Witness,
    pub(crate) up: bool,
    pub(crate) paused_until: Duration,
    /// From each agent.
    pub(crate) cut: [bool; 2],
    ends: [End; 2],
    lines: u64,
    asked: Vec<Asked>,
    answers: Vec<(Duration, usize, u64, Answer)>,
}

impl Voice {
    pub(crate) fn new() -> Self {
        Self {
            machine: Witness::default(),
            up: true,
            paused_until: Duration::ZERO,
            cut: [false; 2],
            ends: [End::default(); 2],
            lines: 0,
            asked: Vec::new(),
            answers: Vec::new(),
        }
    }

    pub(crate) fn stop(&mut self) {
        self.up = false;
        self.asked.clear();
        self.answers.clear();
    }

    /// With what it kept.
    pub(crate) fn start(&mut self, now: Duration) {
        self.machine = Witness::new(self.machine.kept(), now);
        self.up = true;
    }

    /// The agent has ended, and its connection with it.
    pub(crate) fn hang_up(&mut self, agent: usize) {
        self.ends[agent] = End { line: self.ends[agent].line, ..End::default() };
    }

    pub(crate) fn ask(&mut self, by: usize, ask: Ask, now: Duration, random: &mut Random) {
        let reachable = self.up && !self.cut[by];
        let end = &mut self.ends[by];
        if !end.open && !reachable {
            end.due = Some((now + random.millis(700), false));
            return;
        }
        if !end.open {
            self.lines += 1;
            (end.open, end.line) = (true, self.lines);
        }
        end.due = Some((now + PATIENCE, true));
        // Lost, late, or as it should be.
        if reachable && !random.one_in(40) {
            let slow = random.one_in(20);
            let at = now + random.millis(if slow { 1500 } else { 20 });
            self.asked.push(Asked { at, by, line: end.line, ask });
        }
    }

    /// Goes on; returns what reaches the agents.
    pub(crate) fn step(&mut self, now: Duration, random: &mut Random) -> Vec<(usize, Result<Answer, NoAnswer>)> {
        let mut told = Vec::new();
        if self.up && now >= self.paused_until {
            // What has waited for it is read in any order.
            let mut due: Vec<_> = self.asked.extract_if(.., |asked| asked.at <= now).collect();
            while !due.is_empty() {
                let one = due.swap_remove(random.below(due.len() as u64) as usize);
                let answered = self.machine.handle_ask("pair", one.line, &one.ask, now);
                if let Some((answer, _)) = answered
                    && !random.one_in(40)
                {
                    self.answers.push((now + random.millis(20), one.by, one.line, answer));
                }
            }
        }
        for (_, by, line, answer) in self.answers.extract_if(.., |(at, ..)| *at <= now) {
            let end = &mut self.ends[by];
            if !self.cut[by] && end.due.is_some() && end.open && end.line == line {
                end.due = None;
                told.push((by, Ok(answer)));
            }
        }
        for (by, end) in self.ends.iter_mut().enumerate() {
            if let Some((_, left)) = end.due.take_if(|(due, _)| *due <= now) {
                end.open = false;
                told.push((by, Err(if left { NoAnswer::Unanswered } else { NoAnswer::Unasked })));
            }
        }
        told
    }
}
