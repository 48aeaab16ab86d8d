//! Routes for scrapers and load balancers: `/metrics`, `/livez`, `/readyz`.
//!
//! They may be reached by anyone who reaches their address: nothing can be changed here, and nothing names a client.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::io::admin::status::Status;
use crate::io::clock;
use crate::metrics::exposition::{CONTENT_TYPE, Scrape};

/// The owner publishes at least once a second; after this it is not alive.
const ALIVE: Duration = Duration::from_secs(30);
/// Between two upkeeps of the recorder.
const UPKEEP: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Shared {
    scrape: Scrape,
    status: watch::Receiver<Arc<Status>>,
}

/// The routes.
pub fn routes(scrape: Scrape, status: watch::Receiver<Arc<Status>>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(Shared { scrape, status })
}

/// Runs for ever, beside the server: gives back the memory of samples that nobody scraped.
pub async fn upkeep(scrape: Scrape) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        scrape.run_upkeep();
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], shared.scrape.render()).into_response()
}

async fn livez(State(shared): State<Shared>) -> Response {
    let published = Duration::from_millis(shared.status.borrow().uptime_ms);
    let silent = clock::now().saturating_sub(published);
    if shared.status.has_changed().is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the control plane has ended\n").into_response();
    }
    if silent > ALIVE {
        let why = format!("the control plane has been silent for {} s\n", silent.as_secs());
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    }
    "alive\n".into_response()
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let ready = shared.status.borrow().ready();
    match ready {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}
