//! Opening a connection to a node: TCP, then TLS where configured. Used by our own links and by the data plane.
//!
//! It never retries and keeps nothing: back-off is the caller's. Invariant: what is returned has finished its
//! handshake; whatever goes wrong before that ends by the deadline.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::LinkError;
use super::login::Login;
use super::place::Place;
use super::trouble;
use crate::config::{Config, FailoverMode, TcpTimes};
use crate::io::clock;
use crate::io::tls::{Records, TlsError, UpstreamSide};
use crate::topology::node::NodeId;

/// rustls reads 4 KiB at a time from an idle state; a buffer below it makes a large reply one system call.
const TLS_READ_BUFFER_BYTES: usize = 32 * 1024;

/// Everything needed to reach one node.
#[derive(Clone, Debug)]
pub struct Target {
    /// Which node.
    pub node: NodeId,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What is known of its addresses.
    pub place: Place,
    /// TLS, where configured.
    pub tls: Option<TargetTls>,
    /// Whom our own links log in as; connections of clients bring their own.
    pub login: Option<Login>,
    /// How a dead node is found.
    pub tcp: TcpTimes,
}

/// How to speak TLS with one node.
#[derive(Clone, Debug)]
pub struct TargetTls {
    /// Trust and our own certificate, shared by all nodes.
    pub side: Arc<UpstreamSide>,
    /// The name that the node's certificate must have.
    pub name: ServerName<'static>,
}

impl Target {
    /// One target for each configured node, in order; `side` is `Some` when `config.upstream_tls` is.
    ///
    /// # Errors
    /// [`TlsError::ServerName`] when a node's host can be no certificate's name.
    pub fn all(config: &Config, side: Option<&Arc<UpstreamSide>>) -> Result<Vec<Self>, TlsError> {
        let login = config.redis_password.as_ref().map(|password| {
            Login::new(config.redis_user.clone(), password.clone(), config.redis_password_file.clone())
        });
        (0_u8..)
            .zip(&config.nodes)
            .map(|(id, node)| {
                let tls = match side {
                    Some(side) => Some(TargetTls { side: Arc::clone(side), name: side.server_name(&node.host)? }),
                    None => None,
                };
                let (host, port, place) = (node.host.clone(), node.port, Place::default());
                Ok(Self { node: NodeId(id), host, port, place, tls, login: login.clone(), tcp: config.tcp })
            })
            .collect()
    }
}

impl Target {
    /// The Sentinels; `side` is `Some` when `config.sentinels.tls` is. They are no nodes: their number means nothing.
    ///
    /// # Errors
    /// [`TlsError::ServerName`] when a Sentinel's host can be no certificate's name.
    pub fn sentinels(config: &Config, side: Option<&Arc<UpstreamSide>>) -> Result<Vec<Self>, TlsError> {
        if config.failover.mode != FailoverMode::Sentinel {
            return Ok(Vec::new());
        }
        let sentinels = &config.sentinels;
        let login = sentinels.password.clone().map(|password| Login::new(sentinels.user.clone(), password, None));
        let target = |(host, port): &(String, u16)| {
            let tls = match side {
                Some(side) => Some(TargetTls { side: Arc::clone(side), name: side.server_name(host)? }),
                None => None,
            };
            let (host, port, place) = (host.clone(), *port, Place::default());
            Ok(Self { node: NodeId(u8::MAX), host, port, place, tls, login: login.clone(), tcp: config.tcp })
        };
        sentinels.addresses.iter().map(target).collect()
    }
}

/// A connection to a node, ready to carry RESP.
#[derive(Debug)]
pub enum Upstream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS, with a read buffer below it.
    Tls(Box<Encrypted>),
}

/// TLS over TCP.
#[derive(Debug)]
pub struct Encrypted {
    stream: TlsStream<BufReader<TcpStream>>,
    records: Records,
}

impl Upstream {
    /// The socket below, for its options.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.stream.get_ref().0.get_ref(),
        }
    }

    /// Its node was given up. What the system has not delivered by now must not arrive later: a command whose outcome
    /// was said to be unknown would run after commands that the same client sent since.
    pub fn forsake(&self) {
        if let Err(error) = socket2::SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a connection cannot be reset");
        }
    }
}

impl Upstream {
    /// Another connection should take its place soon: its TLS key has encrypted nearly as much as it may.
    pub fn worn(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.records.worn())
    }
}

impl Encrypted {
    /// Fails where rustls would take the bytes and send nothing.
    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.records.spent() {
            return Poll::Ready(Err(io::Error::other("the TLS 1.2 key of this connection is used up")));
        }
        let written = match bufs {
            [one] => Pin::new(&mut self.stream).poll_write(cx, one),
            _ => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
        };
        if let Poll::Ready(Ok(count)) = &written {
            self.records.wrote(*count);
        }
        written
    }
}

/// Connects to `target`; gives up at `deadline` (process clock).
///
/// # Errors
/// [`LinkError::Refused`], [`LinkError::EndOfFile`], [`LinkError::TimedOut`], [`LinkError::Node`] with what is wrong
/// (name, route, TLS, limits of this machine), or [`LinkError::Failed`].
pub async fn dial(target: &Target, deadline: Duration) -> Result<Upstream, LinkError> {
    within(deadline, async {
        let tcp = connect(target).await?;
        tcp.set_nodelay(true)?;
        find_dead_peers(&socket2::SockRef::from(&tcp), target.tcp)?;
        let Some(tls) = &target.tls else { return Ok(Upstream::Plain(tcp)) };
        let buffered = BufReader::with_capacity(TLS_READ_BUFFER_BYTES, tcp);
        let stream = TlsConnector::from(tls.side.config()).connect(tls.name.clone(), buffered).await?;
        let records = Records::of(stream.get_ref().1.negotiated_cipher_suite());
        Ok(Upstream::Tls(Box::new(Encrypted { stream, records })))
    })
    .await
}

async fn connect(target: &Target) -> Result<TcpStream, LinkError> {
    let mut last = LinkError::EndOfFile;
    for address in target.place.addresses(&target.host, target.port).await? {
        match TcpStream::connect(address).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = trouble::of_connect(error),
        }
    }
    Err(last)
}

/// Sets what finds a dead peer: as Redis does, three probes, a third of the time apart.
///
/// # Errors
/// As the system says.
pub fn find_dead_peers(socket: &socket2::SockRef<'_>, times: TcpTimes) -> io::Result<()> {
    if let Some(time) = times.keepalive {
        let time = time.max(Duration::from_secs(1));
        let between = Duration::from_secs((time.as_secs() / 3).max(1));
        let probes = socket2::TcpKeepalive::new().with_time(time).with_interval(between).with_retries(3);
        socket.set_tcp_keepalive(&probes)?;
    }
    match times.user_timeout {
        Some(_) => socket.set_tcp_user_timeout(times.user_timeout),
        None => Ok(()),
    }
}

/// Runs `work` until `deadline` (process clock).
pub(super) async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    tokio::time::timeout_at(clock::instant(deadline), work).await.unwrap_or(Err(LinkError::TimedOut))
}

impl AsyncRead for Upstream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Upstream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => tls.poll_write(cx, &[io::IoSlice::new(bytes)]),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => tls.poll_write(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_shutdown(cx),
        }
    }
}
