//! A publisher that numbers its messages, and subscribers that compare the numbers.

use std::rc::Rc;
use std::time::Duration;

use super::super::redis::Value;
use super::line::{Line, Lost};
use super::{Crew, Role};
use crate::io::clock;

/// For subscribers to hear the last messages.
const LEVEL: Duration = Duration::from_secs(5);
/// A message reaches everybody well within this time.
const ECHO: Duration = Duration::from_millis(30);

/// Publishes `<phase>:<number>`.
#[derive(Debug)]
pub(super) struct Publisher;

impl Role for Publisher {
    const PERIOD: Duration = Duration::from_millis(10);

    async fn step(&mut self, line: &mut Line, crew: &Crew) -> Result<(), Lost> {
        let number = crew.published.get();
        crew.published.set(number + 1);
        let message = format!("{}:{number}", crew.phase.get());
        let reply = line.ask(&[b"PUBLISH", b"demo:news", message.as_bytes()]).await?;
        // A message that was refused counts as missed.
        let _counted = crew.failure(&reply);
        Ok(())
    }

    /// A gap shows only when something is heard after it.
    async fn close(&mut self, line: &mut Line, crew: &Crew) -> Result<(), Lost> {
        let until = clock::now() + LEVEL;
        loop {
            tokio::time::sleep(ECHO).await;
            let level = crew.ears.borrow().iter().all(|ear| ear.is_level(crew.published.get()));
            if level || clock::now() >= until {
                return Ok(());
            }
            self.step(line, crew).await?;
        }
    }
}

/// Subscribes: RESP2 by channel and by pattern, RESP3 by channel.
pub(super) async fn subscribe(line: &mut Line, number: usize) -> Result<(), Lost> {
    let confirmation = match number % 4 {
        2 => line.ask(&[b"PSUBSCRIBE", b"demo:n*s"]).await?,
        0 => line.ask(&[b"SUBSCRIBE", b"demo:news"]).await?,
        _ => {
            line.ask(&[b"HELLO", b"3"]).await?;
            line.ask(&[b"SUBSCRIBE", b"demo:news"]).await?
        }
    };
    if confirmation.items().is_empty() { Err(Lost) } else { Ok(()) }
}

/// The life of a subscriber.
pub(super) async fn listen(crew: Rc<Crew>, number: usize, mut line: Line) {
    loop {
        while let Ok(message) = line.read().await {
            hear(&crew, number, &message);
        }
        line = crew.again(number, false).await;
        if subscribe(&mut line, number).await.is_err() {
            continue;
        }
    }
}

fn hear(crew: &Crew, number: usize, message: &Value) {
    let text = message.items().last().and_then(Value::text).unwrap_or_default();
    match numbered(text) {
        // A late message of an earlier phase was counted as missed there.
        Some((phase, _)) if phase != crew.phase.get() => {}
        Some((_, message)) => {
            if let Some(ear) = crew.ears.borrow_mut().get_mut(number) {
                ear.hear(message);
            }
        }
        None => crew.shared.tally.borrow_mut().misplaced += 1,
    }
}

/// Reads `<phase>:<number>`.
pub(super) fn numbered(text: &[u8]) -> Option<(usize, u64)> {
    let (phase, number) = std::str::from_utf8(text).ok()?.split_once(':')?;
    Some((phase.parse().ok()?, number.parse().ok()?))
}
