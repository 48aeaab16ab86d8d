//! Routes for operators: `GET /v1/status`, `POST /v1/switchover`, `/v1/drain`, `/v1/undrain`, `/v1/adopt`.
//!
//! JSON in and out; a refusal is 409, a busy or ended owner 503, both with `{"error": …}`. A switchover answers with one
//! JSON object per line as things happen, the report last, and goes on when its asker hangs up. Over TCP there is no
//! login (loopback only), so requests that a browser was lured into are refused: every POST must be JSON, no request
//! may carry `Origin`, and `Host` must be a loopback name.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper::body::{Bytes, Frame};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::io::admin::{
    AdminHandle, AdminRequest, AdoptOrder, DrainOrder, PROGRESS_LINES, Progress, Refused, SwitchoverOrder,
};

/// The routes.
pub fn routes(owner: AdminHandle) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/switchover", post(switchover))
        .route("/v1/drain", post(drain))
        .route("/v1/undrain", post(undrain))
        .route("/v1/adopt", post(adopt))
        .layer(middleware::from_fn(refuse_browsers))
        .with_state(owner)
}

async fn status(State(owner): State<AdminHandle>) -> Response {
    let status = Arc::clone(&owner.status.borrow());
    Json(&*status).into_response()
}

type Posted<T> = Result<Json<T>, JsonRejection>;

async fn switchover(State(owner): State<AdminHandle>, order: Posted<SwitchoverOrder>) -> Response {
    let Json(order) = match order {
        Ok(order) => order,
        Err(rejection) => return misread(&rejection),
    };
    let (progress, lines) = mpsc::channel(PROGRESS_LINES);
    match ask(&owner, AdminRequest::Switchover { order, progress }) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(Lines(lines))).into_response(),
        Err(why) => failed(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn drain(State(owner): State<AdminHandle>, order: Posted<DrainOrder>) -> Response {
    let Json(DrainOrder { stop }) = match order {
        Ok(order) => order,
        Err(rejection) => return misread(&rejection),
    };
    let (reply, answer) = oneshot::channel();
    match ask(&owner, AdminRequest::Drain { stop, reply }) {
        Ok(()) => told(answer).await,
        Err(why) => failed(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

/// The body is an empty object: it is asked for so that the request cannot come from a browser's form.
async fn undrain(
    State(owner): State<AdminHandle>,
    order: Posted<serde_json::Map<String, serde_json::Value>>,
) -> Response {
    if let Err(rejection) = order {
        return misread(&rejection);
    }
    let (reply, answer) = oneshot::channel();
    match ask(&owner, AdminRequest::Undrain { reply }) {
        Ok(()) => told(answer).await,
        Err(why) => failed(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn adopt(State(owner): State<AdminHandle>, order: Posted<AdoptOrder>) -> Response {
    let Json(AdoptOrder { node }) = match order {
        Ok(order) => order,
        Err(rejection) => return misread(&rejection),
    };
    let (reply, answer) = oneshot::channel();
    match ask(&owner, AdminRequest::Adopt { node, reply }) {
        Ok(()) => told(answer).await,
        Err(why) => failed(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

/// Hands the request to the owner, or says why that cannot be done now.
fn ask(owner: &AdminHandle, request: AdminRequest) -> Result<(), &'static str> {
    owner.requests.try_send(request).map_err(|error| match error {
        TrySendError::Full(_) => "busy: too many requests wait already",
        TrySendError::Closed(_) => ENDING,
    })
}

const ENDING: &str = "the process is ending";

async fn told<T: serde::Serialize>(answer: oneshot::Receiver<Result<T, Refused>>) -> Response {
    match answer.await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(refused)) => (StatusCode::CONFLICT, Json(refused)).into_response(),
        Err(_) => failed(StatusCode::SERVICE_UNAVAILABLE, ENDING),
    }
}

fn misread(rejection: &JsonRejection) -> Response {
    failed(rejection.status(), rejection.body_text())
}

fn failed(status: StatusCode, why: impl Into<String>) -> Response {
    (status, Json(Refused::because(why))).into_response()
}

async fn refuse_browsers(request: Request, next: Next) -> Response {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) {
        return failed(StatusCode::FORBIDDEN, "requests from web pages are refused");
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_loopback(host) {
        return failed(StatusCode::FORBIDDEN, "the Host header must be localhost or a loopback address");
    }
    next.run(request).await
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The body of a switchover's answer: each progress as a line.
struct Lines(mpsc::Receiver<Progress>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.get_mut().0.poll_recv(cx).map(|progress| {
            let mut line = serde_json::to_vec(&progress?).ok()?;
            line.push(b'\n');
            Some(Ok(Frame::data(Bytes::from(line))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_loopback_names_pass_for_the_host() {
        for host in ["localhost", "LOCALHOST:9", "127.0.0.1:80", "127.9.9.9", "[::1]:80", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "10.0.0.1:80", "[::2]", "127.0.0.1.evil:1", "::1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
