//! Makes a replica say at once how far it is.
//!
//! A replica acknowledges once a second, and a primary in FAILOVER waits for that with all writes paused: up to a second.
//! `REPLCONF GETACK *` from anyone makes the replica acknowledge now, which shortens the pause to about 2.5 ms. Redis does
//! not answer it. The link is kept open beforehand, so that the first nudge costs no connection.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep_until;

use super::client::{Link, LinkError, Target};
use super::clock;

/// Between two nudges.
pub const EVERY: Duration = Duration::from_millis(1);
/// Between attempts to connect while nothing is to be done.
const RECONNECT: Duration = Duration::from_secs(1);
/// The same while something is.
const RECONNECT_SOON: Duration = Duration::from_millis(20);

/// Nudges one node whenever, and for as long as, `until` (process clock) lies ahead.
pub async fn nudge(target: Target, limit: Duration, mut until: watch::Receiver<Duration>) {
    let mut link = None;
    let mut refused = String::new();
    loop {
        let now = clock::now();
        let busy = *until.borrow_and_update() > now;
        let kept = link.is_some();
        let pause = match step(&mut link, &target, now + limit, busy).await {
            Ok(()) if busy => EVERY,
            Ok(()) => {
                if until.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Err(error) => {
                link = None;
                if let LinkError::Redis(text) = error
                    && refused != text
                {
                    tracing::warn!(node = target.node.0, %text, "a switchover may take a second: no REPLCONF GETACK");
                    refused = text;
                }
                match busy {
                    // The link that was kept had ended long ago.
                    true if kept => Duration::ZERO,
                    true => RECONNECT_SOON,
                    false => RECONNECT,
                }
            }
        };
        tokio::select! {
            () = sleep_until(clock::instant(now + pause)) => {}
            changed = until.changed(), if !busy => if changed.is_err() { return },
        }
    }
}

async fn step(link: &mut Option<Link>, target: &Target, deadline: Duration, busy: bool) -> Result<(), LinkError> {
    let link = match link {
        Some(link) => link,
        none => none.insert(Link::connect(target, deadline).await?),
    };
    if busy { link.send_only(&[b"REPLCONF", b"GETACK", b"*"], deadline).await } else { Ok(()) }
}
