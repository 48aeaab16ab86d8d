//! A queue of numbered jobs: one producer, workers that are blocked in BLPOP for most of the time.

use std::rc::Rc;
use std::time::Duration;

use super::super::ledger::Outcome;
use super::super::redis::Value;
use super::line::{Line, Lost};
use super::messages::numbered;
use super::{Crew, POLL, Role};
use crate::io::clock;

const QUEUE: &[u8] = b"demo:jobs";
/// For workers to take the last jobs.
const DRAIN: Duration = Duration::from_secs(3);

/// Appends `<phase>:<number>`.
#[derive(Debug)]
pub(super) struct Producer;

impl Role for Producer {
    const PERIOD: Duration = Duration::from_millis(10);

    async fn step(&mut self, line: &mut Line, crew: &Crew) -> Result<(), Lost> {
        let number = crew.jobs.borrow().queue.issued;
        let job = format!("{}:{number}", crew.phase.get());
        let reply = line.ask(&[b"RPUSH", QUEUE, job.as_bytes()]).await;
        let outcome = reply.as_ref().map_or(Some(Outcome::Unknown), |reply| crew.failure(reply));
        crew.jobs.borrow_mut().queue.learn(number, outcome);
        reply.map(drop)
    }

    async fn close(&mut self, _line: &mut Line, crew: &Crew) -> Result<(), Lost> {
        let until = clock::now() + DRAIN;
        while !crew.jobs.borrow().all_taken() && clock::now() < until {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

/// The life of a worker: every other pair waits without a limit, the others for a second at a time.
pub(super) async fn serve(crew: Rc<Crew>, number: usize, mut line: Line) {
    let limit: &[u8] = if number.is_multiple_of(2) { b"0" } else { b"1" };
    loop {
        let Ok(reply) = line.block(&[b"BLPOP", QUEUE, limit]).await else {
            line = crew.again(number, true).await;
            continue;
        };
        if reply == Value::Null || crew.failure(&reply).is_some() {
            continue;
        }
        match reply.items().last().and_then(Value::text).and_then(numbered) {
            Some((phase, job)) if phase == crew.phase.get() => crew.jobs.borrow_mut().taken.push(job),
            // A job that was late is counted as lost in its own phase.
            Some(_) => {}
            None => crew.shared.tally.borrow_mut().misplaced += 1,
        }
    }
}
