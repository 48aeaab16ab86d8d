//! HTTP/1.1 for operators and scrapers: accepts, limits, hands to the routes.
//!
//! `admin` has the operators' routes, `metrics` those of scrapers and load balancers, `socket` makes the Unix socket.
//! The routes answer from a snapshot or ask the owner; they decide nothing. Whatever comes in costs bounded memory and
//! time: few connections (`seats`), a deadline for the head of a request and for the start of its answer, small bodies.
//! (`axum::serve` has neither a limit of connections nor a deadline for heads, so the loop is our own.)

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::Admin;
use crate::io::tls::ServerSide;

mod admin;
mod events;
mod metrics;
mod seats;
mod socket;

pub use admin::{Guard, routes as admin_routes};
pub use metrics::{routes as metrics_routes, upkeep};
use seats::{Lasting, Seat, Seats};
use socket::OwnedSocket;

/// Connections open at the same time on one listener; a further one takes the place of the longest silent.
const CONNECTIONS: usize = 128;
/// For the head of a request; also how long an idle connection is kept.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// For the beginning of an answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// For answers under way when the listener is told to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(2);
/// Largest head of a request in bytes.
const HEAD_BYTES: usize = 16 * 1024;
/// Largest body of a request in bytes.
const BODY_BYTES: usize = 4 * 1024;

/// A bound listener.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Tls(TcpListener, Arc<ServerSide>),
    Unix(OwnedSocket),
}

/// A listener could not be bound; says where and why.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A TCP address.
    #[error("cannot listen on {addr}: {error}")]
    Tcp {
        /// Where.
        addr: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The admin API grants everything to whoever reaches it.
    #[error("the admin API cannot listen on {0} without a login")]
    NotLoopback(SocketAddr),
    /// A Unix socket.
    #[error("cannot listen on unix:{path}: {error}")]
    Unix {
        /// Where.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// Another process lives there.
    #[error("another process already answers at unix:{0}")]
    InUse(String),
    /// Something else lives there.
    #[error("unix:{0} exists and is not a socket; it was left alone")]
    NotASocket(String),
}

impl Listener {
    /// For `/metrics` and its companions.
    pub async fn metrics(addr: SocketAddr) -> Result<Self, BindError> {
        let listener = TcpListener::bind(addr).await.map_err(|error| BindError::Tcp { addr, error })?;
        Ok(Self(Kind::Tcp(listener)))
    }

    /// For operators; over TCP with TLS where there is a login.
    pub async fn admin(at: &Admin, tls: Option<Arc<ServerSide>>) -> Result<Self, BindError> {
        match (at, tls) {
            (Admin::Unix(path), _) => Ok(Self(Kind::Unix(OwnedSocket::bind(path).await?))),
            (Admin::Tcp(addr), Some(side)) => {
                let listener = TcpListener::bind(addr).await.map_err(|error| BindError::Tcp { addr: *addr, error })?;
                Ok(Self(Kind::Tls(listener, side)))
            }
            (Admin::Tcp(addr), None) if !addr.ip().is_loopback() => Err(BindError::NotLoopback(*addr)),
            (Admin::Tcp(addr), None) => Self::metrics(*addr).await,
        }
    }

    /// The bound address, where it is TCP.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Tcp(listener) | Kind::Tls(listener, _) => listener.local_addr().ok(),
            Kind::Unix(_) => None,
        }
    }

    /// The socket's path, where it is a Unix socket.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Tcp(_) | Kind::Tls(..) => None,
            Kind::Unix(socket) => Some(socket.path()),
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        Ok(match &self.0 {
            Kind::Tcp(listener) => Accepted { stream: Box::new(listener.accept().await?.0), tls: None },
            Kind::Tls(listener, side) => {
                Accepted { stream: Box::new(listener.accept().await?.0), tls: Some(TlsAcceptor::from(side.config())) }
            }
            Kind::Unix(socket) => Accepted { stream: Box::new(socket.listener().accept().await?.0), tls: None },
        })
    }
}

/// A connection whose TLS handshake, if any, is still to come.
struct Accepted {
    stream: Box<dyn Stream>,
    tls: Option<TlsAcceptor>,
}

impl Accepted {
    async fn ready(self) -> io::Result<Box<dyn Stream>> {
        let Some(tls) = self.tls else { return Ok(self.stream) };
        let handshake = tokio::time::timeout(HEAD_DEADLINE, tls.accept(self.stream));
        let stream = handshake.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(Box::new(stream))
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Serves until told to stop, then lets answers under way finish for a moment. A Unix socket is removed at the end.
pub async fn serve(listener: Listener, routes: Router, stop: CancellationToken) {
    let routes = routes.layer(DefaultBodyLimit::max(BODY_BYTES)).layer(middleware::from_fn(in_time));
    let mut connections = JoinSet::new();
    let seats = Seats::new(CONNECTIONS);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if seats.has_room() => match accepted {
                Ok(accepted) => {
                    drop(connections.spawn(converse(accepted, seats.take(), routes.clone(), stop.clone())));
                    // Its first bytes are looked at before the next connection may take its place.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    // Out of file descriptors, or the peer has left already: neither goes away by trying faster.
                    tracing::debug!(%error, "accept on an HTTP listener");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    // What is left is cut when the set is dropped.
    let _ = tokio::time::timeout(STOP_DEADLINE, finish).await;
}

async fn converse(accepted: Accepted, seat: Seat, routes: Router, stop: CancellationToken) {
    let closed = seat.closed();
    tokio::select! {
        biased;
        () = closed.cancelled() => tracing::debug!("a silent HTTP connection gave its place to a new one"),
        () = answer(accepted, seat, routes, stop) => {}
    }
}

async fn answer(accepted: Accepted, seat: Seat, routes: Router, stop: CancellationToken) {
    let stream = match accepted.ready().await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, "a TLS handshake on an HTTP listener"),
    };
    let (routes, seat) = (TowerToHyperService::new(routes), Arc::new(seat));
    let service = service_fn(move |request| {
        let (routes, seat) = (routes.clone(), Arc::clone(&seat));
        async move {
            seat.asked();
            let response = routes.call(request).await;
            if response.as_ref().is_ok_and(|response| response.extensions().get::<Lasting>().is_none()) {
                seat.answered();
            }
            response
        }
    });
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(conversation);
    let ended = tokio::select! {
        ended = conversation.as_mut() => ended,
        () = stop.cancelled() => {
            conversation.as_mut().graceful_shutdown();
            conversation.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "no answer in time\n").into_response(),
    }
}

#[cfg(test)]
mod tests;
