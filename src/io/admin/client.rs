//! Asks a running process over its admin API: HTTP/1.1 over a Unix socket, loopback TCP, or TLS.
//!
//! One connection for each request, no retry, no pool. Every wait has a deadline except the one for a switchover's next
//! line, which the process itself bounds. Answers are bounded in bytes.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::config::{AdminAddress, is_trusted_socket};
use crate::io::admin::access::Access;
use crate::io::admin::events::AdminEvent;
use crate::io::admin::examination::Examination;
use crate::io::admin::hooks::{HookOrder, HookStatus};
use crate::io::admin::status::{DrainStatus, Status, ViewStatus};
use crate::io::admin::{AdoptOrder, DrainOrder, Progress, Refused, SwitchoverOrder, SwitchoverReport};

/// For connecting, and for the head and the body of an answer.
const DEADLINE: Duration = Duration::from_secs(15);
/// Largest answer in bytes, and largest line of one.
const ANSWER_BYTES: usize = 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("no changeover answers at {0}: is `changeover run` up, and is this its --admin address?")]
    Nobody(String),
    /// This user may not connect.
    #[error("{0}: permission denied: the socket is for the user that runs changeover")]
    Denied(String),
    /// Any other failure to connect, ask or read.
    #[error("{at}: {error}")]
    Failed {
        /// Which address.
        at: String,
        /// What failed.
        error: String,
    },
    /// The process ended, or cut the answer, before it had told the outcome.
    #[error("{0}: the connection ended before the report; see `changeover status` for how things stand")]
    Cut(String),
    /// The process refused; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// It cannot say now: it is ending, or too much is asked of it. Another time it may.
    #[error("{0}")]
    NotNow(String),
}

/// Where a process is asked.
#[derive(Clone, Debug)]
pub struct AdminClient {
    at: AdminAddress,
    access: Access,
}

impl AdminClient {
    /// Asks there.
    pub fn new(at: impl Into<AdminAddress>) -> Self {
        Self { at: at.into(), access: Access::default() }
    }

    /// With this to show where it is reached with TLS.
    #[must_use]
    pub fn with(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// What the process knows.
    pub async fn status(&self) -> Result<Status, AskError> {
        let request = Request::get("/v1/status");
        self.json(self.send(request, Bytes::new()).await?).await
    }

    /// Looks at the nodes and the certificates; `quick`: only at what the nodes' INFO says.
    pub async fn examine(&self, quick: bool) -> Result<Examination, AskError> {
        let request = Request::get(format!("/v1/examination?quick={quick}"));
        self.json(self.send(request, Bytes::new()).await?).await
    }

    /// Begins a hook of the node's own configuration, unless it was begun before under its id.
    pub async fn begin_hook(&self, order: &HookOrder) -> Result<HookStatus, AskError> {
        self.json(self.post("/v1/hook", order).await?).await
    }

    /// What the hook with this id has come to.
    pub async fn hook(&self, id: &str) -> Result<HookStatus, AskError> {
        self.json(self.send(Request::get(format!("/v1/hook?id={id}")), Bytes::new()).await?).await
    }

    /// Starts a drain; with `stop`, the process ends afterwards.
    pub async fn drain(&self, stop: bool) -> Result<DrainStatus, AskError> {
        self.json(self.post("/v1/drain", &DrainOrder { stop }).await?).await
    }

    /// Has the process serve again.
    pub async fn undrain(&self) -> Result<DrainStatus, AskError> {
        self.json(self.post("/v1/undrain", &serde_json::Map::new()).await?).await
    }

    /// Ends a doubt.
    pub async fn adopt(&self, node: &str) -> Result<ViewStatus, AskError> {
        self.json(self.post("/v1/adopt", &AdoptOrder { node: node.to_owned() }).await?).await
    }

    /// Runs a switchover; `watch` sees every line as it comes, the report too.
    pub async fn switchover(
        &self,
        order: &SwitchoverOrder,
        mut watch: impl FnMut(&Progress),
    ) -> Result<SwitchoverReport, AskError> {
        let mut response = self.post("/v1/switchover", order).await?;
        if !response.status().is_success() {
            return self.json(response).await;
        }
        let mut pending = Vec::new();
        while let Some(line) = self.line(response.body_mut(), &mut pending).await? {
            let progress: Progress = serde_json::from_slice(&line).map_err(|error| self.failed(error))?;
            watch(&progress);
            if let Progress::Report(report) = progress {
                return Ok(report);
            }
        }
        Err(AskError::Cut(self.name()))
    }

    /// The newest events, `last` of them at most; with `follow`, those that come as well, until the process ends.
    pub async fn events(
        &self,
        last: Option<usize>,
        follow: bool,
        mut watch: impl FnMut(&AdminEvent),
    ) -> Result<(), AskError> {
        let last = last.map_or_else(String::new, |last| format!("&last={last}"));
        let mut response = self.send(Request::get(format!("/v1/events?follow={follow}{last}")), Bytes::new()).await?;
        if !response.status().is_success() {
            return self.json(response).await;
        }
        let mut pending = Vec::new();
        while let Some(line) = self.line(response.body_mut(), &mut pending).await? {
            // An empty one only shows that somebody is there.
            if !line.trim_ascii().is_empty() {
                watch(&serde_json::from_slice(&line).map_err(|error| self.failed(error))?);
            }
        }
        Ok(())
    }

    /// The next line of an answer; `None` at its end.
    async fn line(&self, body: &mut Incoming, pending: &mut Vec<u8>) -> Result<Option<Vec<u8>>, AskError> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', pending) {
                return Ok(Some(pending.drain(..=end).collect()));
            }
            if pending.len() > ANSWER_BYTES {
                return Err(self.failed("a line of the answer is too long"));
            }
            match body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    let frame = frame.map_err(|_| AskError::Cut(self.name()))?;
                    pending.extend_from_slice(&frame.into_data().unwrap_or_default());
                }
            }
        }
    }

    /// The address as it is typed.
    pub fn name(&self) -> String {
        self.at.to_string()
    }

    fn failed(&self, error: impl ToString) -> AskError {
        AskError::Failed { at: self.name(), error: error.to_string() }
    }

    async fn post(&self, path: &str, body: &impl Serialize) -> Result<Response<Incoming>, AskError> {
        let body = serde_json::to_vec(body).map_err(|error| self.failed(error))?;
        self.send(Request::post(path).header(header::CONTENT_TYPE, "application/json"), body.into()).await
    }

    async fn send(&self, head: hyper::http::request::Builder, body: Bytes) -> Result<Response<Incoming>, AskError> {
        let head = match (&self.at, &self.access.token) {
            (AdminAddress::Tls { .. }, Some(token)) => {
                let mut bearer = HeaderValue::from_bytes(&[b"Bearer ", token.expose()].concat())
                    .map_err(|error| self.failed(error))?;
                bearer.set_sensitive(true);
                head.header(header::AUTHORIZATION, bearer)
            }
            _ => head,
        };
        let request = head.header(header::HOST, "localhost").body(Full::new(body)).map_err(|e| self.failed(e))?;
        let exchange = async {
            let stream = self.connect().await.map_err(|error| self.unreachable(&error))?;
            let (mut sender, connection) =
                http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.failed(error))?;
            // Ends with the answer's body or with the process; an error reaches us through the body.
            let conversation = async move { drop(connection.await) };
            drop(spawn(conversation));
            sender.send_request(request).await.map_err(|error| self.cut(&error))
        };
        tokio::time::timeout(DEADLINE, exchange).await.unwrap_or_else(|_| Err(self.failed("no answer in time")))
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match &self.at {
            AdminAddress::Unix(path) => {
                if !is_trusted_socket(path)? {
                    return Err(io::Error::other("the socket belongs to another user: no process of yours made it"));
                }
                Box::new(UnixStream::connect(path).await?)
            }
            AdminAddress::Tcp(addr) => Box::new(TcpStream::connect(addr).await?),
            AdminAddress::Tls { host, port } => {
                let Some(side) = &self.access.tls else {
                    return Err(io::Error::other("--admin-ca is needed: who signed its certificate"));
                };
                let name = side.server_name(host).map_err(io::Error::other)?;
                let tcp = TcpStream::connect((host.as_str(), *port)).await?;
                Box::new(TlsConnector::from(side.config()).connect(name, tcp).await?)
            }
        })
    }

    /// A process that ends and one that does not like our certificate both end the connection; the latter says so.
    fn cut(&self, error: &hyper::Error) -> AskError {
        let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
        match causes.last().map(ToString::to_string).filter(|cause| cause.contains("alert")) {
            Some(cause) => self.failed(format!("{cause}: does it ask for a certificate (--admin-cert, --admin-key)?")),
            None => AskError::Cut(self.name()),
        }
    }

    fn unreachable(&self, error: &io::Error) -> AskError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::Nobody(self.name()),
            io::ErrorKind::PermissionDenied => AskError::Denied(self.name()),
            _ => self.failed(error),
        }
    }

    async fn json<T: DeserializeOwned>(&self, response: Response<Incoming>) -> Result<T, AskError> {
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect();
        let body = match tokio::time::timeout(DEADLINE, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => return Err(AskError::Cut(self.name())),
            Err(_) => return Err(self.failed("no answer in time")),
        };
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.failed(error));
        }
        match serde_json::from_slice::<Refused>(&body) {
            Ok(refused) if status == StatusCode::SERVICE_UNAVAILABLE => Err(AskError::NotNow(refused.error)),
            Ok(refused) => Err(AskError::Refused(refused.error)),
            Err(_) => Err(self.failed(format!("{status}: {}", String::from_utf8_lossy(&body).trim()))),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

#[expect(clippy::disallowed_methods, reason = "io owns it; it ends with the connection")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::spawn(task)
}
