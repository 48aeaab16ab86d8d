//! MULTI/EXEC with and without WATCH.
//!
//! A transfer takes one from a counter and gives it to another, so that the sum of both is always 0; the counters are
//! the client's own, so that each transaction shows whether the one before ran exactly once. Watchers increment one
//! counter that they share, each on the condition that it has not moved since they read it.

use std::time::Duration;

use super::super::ledger::{Counter, Outcome};
use super::super::redis::Value;
use super::super::wire;
use super::line::{Line, Lost};
use super::{ACTIVE, Crew, PATIENCE, POLL, Role};
use crate::io::clock;

/// Moves one from `x` to `y`.
#[derive(Debug)]
pub(super) struct Transfer {
    number: usize,
    phase: usize,
    counter: Counter,
}

impl Transfer {
    /// The books of this client.
    pub(super) fn new(number: usize) -> Self {
        Self { number, phase: 0, counter: Counter::default() }
    }

    fn keys(&self) -> [String; 2] {
        let Self { number, phase, .. } = self;
        [format!("x:{phase}:{number}"), format!("y:{phase}:{number}")]
    }

    /// The reply to EXEC, after an error reply to any of the commands the error.
    async fn transact(&self, line: &mut Line) -> Result<Value, Lost> {
        let [x, y] = self.keys();
        let commands: [&[&[u8]]; 4] = [&[b"MULTI"], &[b"DECR", x.as_bytes()], &[b"INCR", y.as_bytes()], &[b"EXEC"]];
        if self.number % 2 == 1 {
            let mut pipeline = Vec::new();
            commands.iter().for_each(|args| wire::command(&mut pipeline, args));
            let replies: [Value; 4] = line.ask_all(&pipeline).await?;
            let failed = replies.iter().take(3).find(|reply| matches!(reply, Value::Error(_)));
            let [_, _, _, last] = &replies;
            return Ok(failed.unwrap_or(last).clone());
        }
        let mut last = Value::Null;
        for args in commands {
            last = line.ask(args).await?;
            if matches!(last, Value::Error(_)) {
                return Ok(last);
            }
        }
        Ok(last)
    }
}

impl Role for Transfer {
    const PERIOD: Duration = Duration::from_millis(50);

    async fn step(&mut self, line: &mut Line, crew: &Crew) -> Result<(), Lost> {
        if self.phase != crew.phase.get() {
            *self = Self { phase: crew.phase.get(), ..Self::new(self.number) };
        }
        // Until we know better.
        self.counter.unknown += 1;
        let reply = self.transact(line).await?;
        match (crew.failure(&reply), reply.items()) {
            (None, [Value::Integer(x), Value::Integer(y)]) => {
                self.counter.unknown -= 1;
                let found = self.counter.step(*y);
                crew.count(|counts| {
                    counts.transactions += 1;
                    counts.compared(found);
                    counts.sums_broken += u64::from(x + y != 0);
                });
                return Ok(());
            }
            (Some(Outcome::Refused), _) => {
                self.counter.unknown -= 1;
                // Whatever is left of it; there may be nothing.
                line.ask(&[b"DISCARD"]).await?;
            }
            (Some(Outcome::Unknown), _) => {}
            (None, _) => self.counter.unknown -= 1,
        }
        crew.count(|counts| counts.failed += 1);
        Ok(())
    }

    async fn close(&mut self, line: &mut Line, crew: &Crew) -> Result<(), Lost> {
        let [x, y] = self.keys();
        let reply = line.ask(&[b"MGET", x.as_bytes(), y.as_bytes()]).await?;
        if crew.failure(&reply).is_none() {
            let [x, y] = [0, 1].map(|at| reply.items().get(at).and_then(Value::number).unwrap_or(0));
            let found = self.counter.check(y);
            crew.count(|counts| {
                counts.compared(found);
                counts.sums_broken += u64::from(x + y != 0);
            });
        }
        Ok(())
    }
}

/// Increments the shared counter if it has not moved.
#[derive(Debug)]
pub(super) struct Watcher {
    number: usize,
}

impl Watcher {
    /// One of them.
    pub(super) fn new(number: usize) -> Self {
        Self { number }
    }

    /// What was read, and the reply to EXEC; after an error reply to any of the commands the error.
    async fn transact(line: &mut Line, key: &[u8]) -> Result<(i64, Value), Lost> {
        let mut read = 0;
        let commands: [&[&[u8]]; 5] = [&[b"WATCH", key], &[b"GET", key], &[b"MULTI"], &[b"INCR", key], &[b"EXEC"]];
        let mut last = Value::Null;
        for (at, args) in commands.into_iter().enumerate() {
            last = line.ask(args).await?;
            if matches!(last, Value::Error(_)) {
                break;
            }
            if at == 1 {
                read = last.number().unwrap_or(0);
            }
        }
        Ok((read, last))
    }
}

fn watched(crew: &Crew) -> String {
    format!("w:{}", crew.phase.get())
}

impl Role for Watcher {
    const PERIOD: Duration = Duration::from_millis(50);

    async fn step(&mut self, line: &mut Line, crew: &Crew) -> Result<(), Lost> {
        let key = watched(crew);
        let done = Self::transact(line, key.as_bytes()).await;
        let Ok((read, reply)) = done else {
            crew.commits.borrow_mut().unknown += 1;
            return Err(Lost);
        };
        match (crew.failure(&reply), &reply) {
            (None, Value::Null) => crew.count(|counts| counts.retried += 1),
            (None, reply) => {
                let value = reply.items().first().and_then(Value::number);
                crew.commits.borrow_mut().told += 1;
                crew.count(|counts| {
                    counts.transactions += 1;
                    counts.sums_broken += u64::from(value != Some(read + 1));
                });
            }
            (Some(outcome), _) => {
                crew.commits.borrow_mut().unknown += i64::from(outcome == Outcome::Unknown);
                crew.count(|counts| counts.failed += 1);
                // Whatever is left of it; there may be nothing.
                line.ask(&[b"DISCARD"]).await?;
                line.ask(&[b"UNWATCH"]).await?;
            }
        }
        Ok(())
    }

    /// The first one compares, when all others are done.
    async fn close(&mut self, line: &mut Line, crew: &Crew) -> Result<(), Lost> {
        if self.number != 0 {
            return Ok(());
        }
        let until = clock::now() + PATIENCE;
        while crew.done.get() + 1 < ACTIVE && clock::now() < until {
            tokio::time::sleep(POLL).await;
        }
        let reply = line.ask(&[b"GET", watched(crew).as_bytes()]).await?;
        if crew.failure(&reply).is_none() {
            let found = crew.commits.borrow().check(reply.number().unwrap_or(0));
            crew.count(|counts| counts.compared(found));
        }
        Ok(())
    }
}
