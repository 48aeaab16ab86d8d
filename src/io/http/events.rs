//! `GET /v1/events`: the newest events as one JSON object per line; with `follow`, those that come as well.
//!
//! A follower that reads too slowly misses what has left the ring and sees a gap in the numbers; it slows nobody.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::{Bytes, Frame};
use serde::Deserialize;
use tokio::sync::{Semaphore, mpsc, watch};

use super::seats::Lasting;

use crate::io::admin::AdminHandle;
use crate::io::admin::events::Tail;

/// Lines that may wait for a reader.
const LINES: usize = 16;
/// So often an empty line is sent, so that a follower that has gone is noticed.
const BEAT: Duration = Duration::from_secs(10);

/// Readers at the same time. Far below the connections of a listener, so that commands always find a place.
const FOLLOWERS: usize = 32;

/// The places of those who read events.
#[derive(Clone, Debug)]
pub(super) struct Followers(Arc<Semaphore>);

impl Default for Followers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(FOLLOWERS)))
    }
}

/// What is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    /// So many of those that have happened; all that are kept, without it.
    last: Option<usize>,
    /// Go on with those that come.
    #[serde(default)]
    follow: bool,
}

pub(super) async fn events(
    State(owner): State<AdminHandle>,
    Extension(Followers(followers)): Extension<Followers>,
    Query(asked): Query<Asked>,
) -> Response {
    let Ok(place) = followers.try_acquire_owned() else {
        let why = format!("{FOLLOWERS} readers follow the events already: end one of them, or ask without `follow`");
        return super::admin::failed(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    let (lines, body) = mpsc::channel(LINES);
    spawn(async move {
        let gone = lines.clone();
        tokio::select! {
            () = feed(owner.events, asked, lines) => {}
            () = gone.closed() => {}
        }
        drop(place);
    });
    let lasting = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (Extension(Lasting), lasting, Body::new(Lines(body))).into_response()
}

/// Ends when the reader has gone, when the process ends, or when there is nothing more to tell.
async fn feed(mut events: watch::Receiver<Tail>, asked: Asked, lines: mpsc::Sender<Bytes>) {
    let mut seen = {
        let tail = events.borrow();
        let skipped = tail.len().saturating_sub(asked.last.unwrap_or(usize::MAX));
        skipped.checked_sub(1).and_then(|at| tail.get(at)).map_or(0, |event| event.seq)
    };
    loop {
        let tail = events.borrow_and_update().clone();
        for event in tail.iter().filter(|event| event.seq > seen) {
            let mut line = serde_json::to_vec(&**event).unwrap_or_default();
            line.push(b'\n');
            if lines.send(line.into()).await.is_err() {
                return;
            }
        }
        seen = tail.back().map_or(seen, |event| event.seq);
        if !asked.follow {
            return;
        }
        match tokio::time::timeout(BEAT, events.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) if lines.send(Bytes::from_static(b"\n")).await.is_err() => return,
            Err(_) => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "io owns it; it ends with its reader or with the process")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

/// The body of the answer.
struct Lines(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.get_mut().0.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
