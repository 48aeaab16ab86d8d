//! Keeps the memory of who was primary on disk, without making anyone wait for the disk.
//!
//! Only the newest text matters: while one is being written, later ones replace each other. A disk that is full or gone is
//! reported once, tried again, and never stops serving; what it costs is said in the message.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::io::clock;
use crate::io::state_file::StateFile;
use crate::metrics::events::Events;

/// Before a failed save is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Saves every new text until the sender is gone and the last one is saved or has failed.
pub async fn keep(file: StateFile, mut newest: watch::Receiver<Option<String>>, events: Events) {
    let mut complained = false;
    let mut again = false;
    loop {
        // A text that was not seen yet counts as a change, also when the sender is gone.
        let open = if again {
            tokio::select! {
                changed = newest.changed() => changed.is_ok(),
                () = sleep_until(clock::instant(clock::now() + AGAIN)) => true,
            }
        } else {
            newest.changed().await.is_ok()
        };
        if !open && !again {
            return;
        }
        let Some(text) = newest.borrow_and_update().clone() else { continue };
        let result = save(&file, text).await;
        again = result.is_err();
        events.saved(!again);
        match result {
            Ok(()) if complained => {
                complained = false;
                tracing::info!(file = %file.path().display(), "the memory of who was primary can be saved again");
            }
            Ok(()) => {}
            Err(error) if !complained => {
                complained = true;
                tracing::warn!(
                    file = %file.path().display(), %error,
                    "the memory of who was primary cannot be saved; serving goes on, but if this process restarts now, \
                     it knows only what was saved before"
                );
            }
            Err(_) => {}
        }
        if !open {
            return;
        }
    }
}

async fn save(file: &StateFile, text: String) -> std::io::Result<()> {
    let file = file.clone();
    tokio::task::spawn_blocking(move || file.save(&text))
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
