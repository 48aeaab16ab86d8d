//! Routes for operators: `GET /v1/status`, `/v1/events` and `/v1/examination`, `POST /v1/switchover`, `/v1/drain`,
//! `/v1/undrain`, `/v1/adopt`.
//!
//! JSON in and out; a refusal is 409, a busy or ended owner 503, both with `{"error": …}`. A switchover answers with one
//! JSON object per line as things happen, the report last, and goes on when its asker hangs up. On a loopback address
//! there is no login, so requests that a browser was lured into are refused: every POST must be JSON, no request may
//! carry `Origin`, and `Host` must be a loopback name. Beyond it, TLS has asked for a certificate, or every request must
//! carry the token; what does not is 401 and learns nothing.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use hyper::body::{Bytes, Frame};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{mpsc, oneshot};

use crate::config::Secret;
use crate::io::admin::examination::Look;
use crate::io::admin::hooks::{HookAsked, HookOrder, HookStatus};
use crate::io::admin::{
    AdminHandle, AdminRequest, AdoptOrder, DrainOrder, PROGRESS_LINES, Progress, Refused, SwitchoverOrder,
};

/// Who may ask.
#[derive(Clone, Debug)]
pub enum Guard {
    /// Whoever can connect: a Unix socket, or a loopback address.
    Local,
    /// Whoever passed TLS and, where there is one, knows the token.
    Login(Option<Secret>),
}

/// The routes.
pub fn routes(owner: AdminHandle, guard: Guard) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/switchover", post(switchover))
        .route("/v1/drain", post(drain))
        .route("/v1/undrain", post(undrain))
        .route("/v1/adopt", post(adopt))
        .route("/v1/examination", get(examination))
        .route("/v1/hook", get(look_at_hook).post(begin_hook))
        .route("/v1/events", get(super::events::events))
        .layer(Extension(super::events::Followers::default()))
        .layer(middleware::from_fn_with_state(Arc::new(guard), admit))
        .with_state(owner)
}

async fn status(State(owner): State<AdminHandle>) -> Response {
    let status = Arc::clone(&owner.status.borrow());
    Json(&*status).into_response()
}

/// What is asked of a look at the nodes.
#[derive(serde::Deserialize)]
struct Depth {
    /// Only what INFO says.
    #[serde(default)]
    quick: bool,
}

async fn examination(State(owner): State<AdminHandle>, Query(Depth { quick }): Query<Depth>) -> Response {
    let (reply, answer) = oneshot::channel();
    match owner.looks.try_send(Look { quick, reply }) {
        Ok(()) => told(async { answer.await.map(Ok) }).await,
        Err(_) => failed(StatusCode::SERVICE_UNAVAILABLE, "busy: too many looks at the nodes wait already"),
    }
}

async fn begin_hook(State(owner): State<AdminHandle>, order: Posted<HookOrder>) -> Response {
    match order {
        Ok(Json(order)) => ask_hooks(&owner, |reply| HookAsked::Begin(order, reply)).await,
        Err(rejection) => misread(&rejection),
    }
}

/// Which hook is asked after.
#[derive(serde::Deserialize)]
struct HookId {
    id: String,
}

async fn look_at_hook(State(owner): State<AdminHandle>, Query(HookId { id }): Query<HookId>) -> Response {
    ask_hooks(&owner, |reply| HookAsked::Look(id, reply)).await
}

async fn ask_hooks(
    owner: &AdminHandle,
    asked: impl FnOnce(oneshot::Sender<Result<HookStatus, Refused>>) -> HookAsked,
) -> Response {
    let (reply, answer) = oneshot::channel();
    match owner.hooks.try_send(asked(reply)) {
        Ok(()) => told(answer).await,
        Err(TrySendError::Closed(_)) => failed(StatusCode::SERVICE_UNAVAILABLE, ENDING),
        Err(TrySendError::Full(_)) => {
            failed(StatusCode::SERVICE_UNAVAILABLE, "busy: too many questions about hooks wait already")
        }
    }
}

type Posted<T> = Result<Json<T>, JsonRejection>;

async fn switchover(State(owner): State<AdminHandle>, order: Posted<SwitchoverOrder>) -> Response {
    let Json(order) = match order {
        Ok(order) => order,
        Err(rejection) => return misread(&rejection),
    };
    let (progress, lines) = mpsc::channel(PROGRESS_LINES);
    match ask(&owner, AdminRequest::Switchover { order, progress }) {
        Ok(()) => {
            let lasting = [(header::CONTENT_TYPE, "application/x-ndjson")];
            (Extension(super::seats::Lasting), lasting, Body::new(Lines(lines))).into_response()
        }
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

async fn told<T: serde::Serialize>(answer: impl Future<Output = Result<Result<T, Refused>, RecvError>>) -> Response {
    match answer.await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(refused)) => (StatusCode::CONFLICT, Json(refused)).into_response(),
        Err(_) => failed(StatusCode::SERVICE_UNAVAILABLE, ENDING),
    }
}

fn misread(rejection: &JsonRejection) -> Response {
    failed(rejection.status(), rejection.body_text())
}

pub(super) fn failed(status: StatusCode, why: impl Into<String>) -> Response {
    (status, Json(Refused::because(why))).into_response()
}

async fn admit(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) {
        return failed(StatusCode::FORBIDDEN, "requests from web pages are refused");
    }
    if let Guard::Login(token) = &*guard {
        let shown = headers.get(header::AUTHORIZATION).and_then(|shown| shown.as_bytes().strip_prefix(b"Bearer "));
        return match token {
            Some(token) if !is_token(token, shown.unwrap_or_default()) => {
                failed(StatusCode::UNAUTHORIZED, "the token is missing or wrong (--admin-token-file)")
            }
            _ => next.run(request).await,
        };
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_loopback(host) {
        return failed(StatusCode::FORBIDDEN, "the Host header must be localhost or a loopback address");
    }
    next.run(request).await
}

/// Compares digests, in a time that depends on neither the token nor how much of it was right.
fn is_token(token: &Secret, shown: &[u8]) -> bool {
    let [token, shown] = [token.expose(), shown].map(|text| digest::digest(&digest::SHA256, text));
    verify_slices_are_equal(token.as_ref(), shown.as_ref()).is_ok()
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
    use super::{Secret, is_loopback, is_token};

    #[test]
    fn only_the_whole_token_passes() {
        let token = Secret::new(b"0123456789abcdef".to_vec());
        assert!(is_token(&token, b"0123456789abcdef"));
        for shown in [&b""[..], b"0", b"0123456789abcdee", b"0123456789abcdef0"] {
            assert!(!is_token(&token, shown), "{shown:?}");
        }
    }

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
