//! The wire between a process and the witness: one JSON object in one line each way, over TCP, with TLS as configured.
//!
//! ```text
//! > {"v":1,"pair":"a=10.0.0.1:6379,b=10.0.0.2:6379","token":"…","ask":{"node":0,"want":"hold",…}}
//! < {"answer":{"term":7,"holder":0,"granted":true}}
//! < {"refused":"the token is wrong"}
//! ```
//!
//! `asker` is the process' end, `server` the witness'. Neither decides anything. Invariant: every line is bounded, every
//! wait has a deadline, and a question that was not answered in time ends its connection, so that its answer can never be
//! taken for that to another.

mod asker;
mod server;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use crate::topology::failover::witness::{Answer, Ask};

pub use asker::{Asker, ask};
pub use server::{Asked, BindError, Guard, Listener, serve};

/// The version that we speak.
const VERSION: u32 = 1;
/// Longest line in bytes.
const MAX_LINE: u64 = 4096;
/// Longest name of a pair in bytes.
pub const MAX_PAIR: usize = 512;
/// A question is answered within this time, or not at all.
pub const PATIENCE: Duration = Duration::from_millis(700);

#[derive(Serialize)]
struct AskedBy<'a> {
    v: u32,
    pair: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    ask: &'a Ask,
}

#[derive(Deserialize)]
struct Question {
    v: u32,
    pair: String,
    #[serde(default)]
    token: Option<String>,
    ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Answer(Answer),
    Refused(String),
}

fn line(value: &impl Serialize) -> Vec<u8> {
    // Plain data with string keys always serialises.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The next line; `None` at the end, or when it is too long.
async fn next_line(stream: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    stream.take(MAX_LINE).read_until(b'\n', &mut line).await?;
    Ok(line.ends_with(b"\n").then_some(line))
}
