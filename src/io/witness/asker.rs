//! Asks the witness: one question at a time on one connection, which is made anew after whatever went wrong.
//!
//! It never asks twice by itself. Invariant: [`NoAnswer::Unasked`] is said only when not a byte of the question has left.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::sync::mpsc;

use super::{AskedBy, PATIENCE, Reply, VERSION, line, next_line};
use crate::config::TcpTimes;
use crate::config::{Config, Secret};
use crate::io::client::{LinkError, Place, Target, TargetTls, Upstream, dial};
use crate::io::clock;
use crate::io::tls::{TlsError, UpstreamSide};
use crate::topology::failover::NoAnswer;
use crate::topology::failover::witness::{Answer, Ask};
use crate::topology::node::NodeId;

/// The witness is no node.
const NOBODY: NodeId = NodeId(u8::MAX);

/// Whom to ask, and as whom.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The witness; its login is not used.
    pub target: Target,
    /// What the pair is called.
    pub pair: String,
    /// What shows that we may ask.
    pub token: Option<Secret>,
}

impl Asker {
    /// TLS towards the witness, so that its files can be read again.
    pub fn side(&self) -> Option<Arc<UpstreamSide>> {
        self.target.tls.as_ref().map(|tls| Arc::clone(&tls.side))
    }

    /// As configured; `None` without a witness.
    ///
    /// # Errors
    /// When the files for TLS are not usable.
    pub fn of(config: &Config) -> Result<Option<Self>, TlsError> {
        let Some(witness) = &config.witness else { return Ok(None) };
        let tls = match &witness.tls {
            Some(files) => {
                let side = Arc::new(UpstreamSide::load(files.clone())?);
                let name = side.server_name(&witness.host)?;
                Some(TargetTls { side, name })
            }
            None => None,
        };
        let target = Target {
            node: NOBODY,
            host: witness.host.clone(),
            port: witness.port,
            place: Place::default(),
            tls,
            login: None,
            tcp: TcpTimes::default(),
        };
        Ok(Some(Self { target, pair: witness.pair.clone(), token: witness.token.clone() }))
    }
}

/// Asks whatever comes, until nobody asks any more.
pub async fn ask(asker: Asker, mut asks: mpsc::Receiver<Ask>, out: mpsc::Sender<Result<Answer, NoAnswer>>) {
    let mut kept = None;
    let mut complaint = None;
    while let Some(ask) = asks.recv().await {
        let deadline = clock::now() + PATIENCE;
        let result = one(&asker, &mut kept, ask, deadline).await;
        let told = match result {
            Ok(answer) => {
                if complaint.take().is_some() {
                    tracing::info!("the witness is heard again");
                }
                Ok(answer)
            }
            Err((why, no_answer)) => {
                kept = None;
                if complaint.as_ref() != Some(&why) {
                    tracing::warn!(witness = format!("{}:{}", asker.target.host, asker.target.port), why, "no answer");
                    complaint = Some(why);
                }
                Err(no_answer)
            }
        };
        if out.send(told).await.is_err() {
            return;
        }
    }
}

async fn one(
    asker: &Asker,
    kept: &mut Option<BufReader<Upstream>>,
    ask: Ask,
    deadline: Duration,
) -> Result<Answer, (String, NoAnswer)> {
    let stream = match kept {
        Some(stream) => stream,
        none => {
            let dialled =
                dial(&asker.target, deadline).await.map_err(|error| (error.to_string(), NoAnswer::Unasked))?;
            none.insert(BufReader::new(dialled))
        }
    };
    let token = asker.token.as_ref().and_then(|token| std::str::from_utf8(token.expose()).ok());
    let question = zeroize::Zeroizing::new(line(&AskedBy { v: VERSION, pair: &asker.pair, token, ask: &ask }));
    let exchange = async {
        stream.write_all(&question).await?;
        stream.flush().await?;
        next_line(stream).await
    };
    let unanswered = |why: String| (why, NoAnswer::Unanswered);
    match tokio::time::timeout_at(clock::instant(deadline), exchange).await {
        Err(_) => Err(unanswered(LinkError::TimedOut.to_string())),
        Ok(Err(error)) => Err(unanswered(error.to_string())),
        Ok(Ok(None)) => Err(unanswered(LinkError::EndOfFile.to_string())),
        Ok(Ok(Some(line))) => match serde_json::from_slice(&line) {
            Ok(Reply::Answer(answer)) => Ok(answer),
            Ok(Reply::Refused(why)) => Err((why.chars().take(200).collect(), NoAnswer::Unasked)),
            Err(error) => Err(unanswered(error.to_string())),
        },
    }
}
