//! The witness' end: accepts, numbers connections, checks tokens, and hands questions to whoever owns the machine.
//!
//! It decides nothing. Invariants: connections are numbered in the order in which they were accepted; a question whose
//! token is wrong goes no further; whatever comes in costs bounded memory and time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{MAX_PAIR, PATIENCE, Question, Reply, VERSION, line, next_line};
use crate::config::Secret;
use crate::io::tls::ServerSide;
use crate::topology::failover::witness::{Answer, Ask};

/// Connections open at the same time.
const CONNECTIONS: usize = 4096;
/// For the handshake, and for the first question.
const FIRST: Duration = Duration::from_secs(5);
/// Processes ask several times a second.
const IDLE: Duration = Duration::from_secs(60);

/// A question, with where the answer goes.
#[derive(Debug)]
pub struct Asked {
    /// The pair.
    pub pair: String,
    /// The number of the connection.
    pub line: u64,
    /// What is asked.
    pub ask: Ask,
    /// `None`: no answer is given.
    pub reply: oneshot::Sender<Option<Answer>>,
}

/// Who may ask.
#[derive(Clone, Debug)]
pub struct Guard {
    /// TLS, with a CA for the certificates of those who ask where they need one.
    pub tls: Option<Arc<ServerSide>>,
    /// Whether TLS asks them for a certificate.
    pub certified: bool,
    /// What every question must carry.
    pub token: Option<Secret>,
}

/// The listener could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system's words.
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, io::Error),
    /// Whoever could ask could decide who is primary.
    #[error(
        "{0} is not a loopback address: a witness there needs --cert and --key, and --client-ca or --token-file, since \
         whoever may ask it could have a replica promoted"
    )]
    Open(SocketAddr),
}

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    guard: Guard,
}

impl Listener {
    /// Binds, unless that would be open to anybody.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(at: SocketAddr, guard: Guard) -> Result<Self, BindError> {
        let guarded = guard.tls.is_some() && (guard.certified || guard.token.is_some());
        if !guarded && !at.ip().is_loopback() {
            return Err(BindError::Open(at));
        }
        let tcp = TcpListener::bind(at).await.map_err(|error| BindError::Bind(at, error))?;
        Ok(Self { tcp, guard })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp.local_addr().ok()
    }
}

/// Serves until told to stop.
pub async fn serve(listener: Listener, out: mpsc::Sender<Asked>, stop: CancellationToken) {
    let Listener { tcp, guard } = listener;
    let mut connections = JoinSet::new();
    let mut number = 0_u64;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(_) = connections.join_next() => {}
            accepted = tcp.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, from)) => {
                    number += 1;
                    let (guard, out, number) = (guard.clone(), out.clone(), number);
                    connections.spawn(async move {
                        if let Err(error) = converse(stream, &guard, number, &out).await {
                            tracing::debug!(%from, %error, "a connection ended early");
                        }
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
}

async fn converse(tcp: TcpStream, guard: &Guard, number: u64, out: &mpsc::Sender<Asked>) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let Some(side) = &guard.tls else { return answer_all(tcp, guard, number, out).await };
    let handshake = TlsAcceptor::from(side.config()).accept(tcp);
    let stream = tokio::time::timeout(FIRST, handshake).await.map_err(|_| io::ErrorKind::TimedOut)??;
    answer_all(stream, guard, number, out).await
}

async fn answer_all<S>(stream: S, guard: &Guard, number: u64, out: &mpsc::Sender<Asked>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = BufReader::new(stream);
    let mut patience = FIRST;
    loop {
        let read = tokio::time::timeout(patience, next_line(&mut stream)).await;
        let Some(text) = read.map_err(|_| io::ErrorKind::TimedOut)?? else { return Ok(()) };
        patience = IDLE;
        let reply = match judge(&text, guard) {
            Ok((pair, ask)) => {
                let (reply, answer) = oneshot::channel();
                let asked = Asked { pair, line: number, ask, reply };
                if out.send(asked).await.is_err() {
                    return Ok(());
                }
                // No answer, no word: an answer that is given up by the other end is worse than none.
                match tokio::time::timeout(PATIENCE, answer).await {
                    Ok(Ok(Some(answer))) => Reply::Answer(answer),
                    _ => return Ok(()),
                }
            }
            Err(why) => Reply::Refused(why),
        };
        stream.write_all(&line(&reply)).await?;
        stream.flush().await?;
        if matches!(reply, Reply::Refused(_)) {
            return Ok(());
        }
    }
}

fn judge(text: &[u8], guard: &Guard) -> Result<(String, Ask), String> {
    let question: Question = serde_json::from_slice(text).map_err(|error| format!("not a question: {error}"))?;
    if question.v != VERSION {
        return Err(format!("version {} is not spoken here", question.v));
    }
    if let Some(token) = &guard.token
        && !same(question.token.as_deref().unwrap_or_default().as_bytes(), token.expose())
    {
        return Err("the token is wrong".to_owned());
    }
    let plain = question.pair.bytes().all(|byte| byte.is_ascii_graphic());
    if question.pair.is_empty() || question.pair.len() > MAX_PAIR || !plain || question.ask.process.len() > MAX_PAIR {
        return Err("the name of the pair is empty, too long or not printable ASCII".to_owned());
    }
    Ok((question.pair, question.ask))
}

/// Compares in a time that does not depend on where the first difference is.
fn same(given: &[u8], known: &[u8]) -> bool {
    let differences = given.iter().zip(known).fold(0, |sum, (a, b)| sum | (a ^ b));
    given.len() == known.len() && differences == 0
}
