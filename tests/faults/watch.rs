//! What the nodes themselves say, seen past every cut: over their Unix sockets, each asked every few milliseconds.
//!
//! It only looks. What it saw is the measure by which the clients' reports are judged.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::client::encode;
use crate::support::value;
use crate::support::{Value, now};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(4);

/// What a node is, as far as it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Is {
    Gone,
    Primary,
    Replica,
    /// Another process from here on.
    Restarted,
}

/// How long the machine stood still at most: a sleep of ours that lasted longer than it should.
pub(crate) struct Stillness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Stillness {
    pub(crate) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let before = now();
                std::thread::sleep(EVERY);
                longest = longest.max(before.elapsed().saturating_sub(EVERY));
            }
            longest
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Everything one node was, each with the time at which it began.
pub(crate) type History = Vec<(Duration, Is)>;

pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    histories: Arc<Mutex<[History; 2]>>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn start(sockets: [PathBuf; 2], began: Instant) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let histories = Arc::new(Mutex::new([Vec::new(), Vec::new()]));
        let threads = (0..).zip(sockets).map(|(node, socket)| {
            let (stop, histories) = (Arc::clone(&stop), Arc::clone(&histories));
            std::thread::spawn(move || look(node, &socket, began, &stop, &histories))
        });
        let threads = threads.collect();
        Self { stop, histories, threads }
    }

    /// A node's process is started again.
    pub(crate) fn restarted(&self, node: usize, at: Duration) {
        self.histories.lock().unwrap()[node].push((at, Is::Restarted));
    }

    pub(crate) fn stop(self) -> [History; 2] {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let histories = self.histories.lock().unwrap();
        histories.clone()
    }
}

fn look(node: usize, socket: &Path, began: Instant, stop: &AtomicBool, histories: &Mutex<[History; 2]>) {
    let mut stream = None;
    while !stop.load(Ordering::Relaxed) {
        let is = role(&mut stream, socket);
        let at = began.elapsed();
        let mut histories = histories.lock().unwrap();
        let history = &mut histories[node];
        if history.last().is_none_or(|(_, last)| *last != is) {
            history.push((at, is));
        }
        drop(histories);
        std::thread::sleep(EVERY);
    }
}

/// A frozen process does not answer: it is still what it was, but nobody can know, so it counts as gone.
fn role(stream: &mut Option<UnixStream>, socket: &Path) -> Is {
    if stream.is_none() {
        *stream = connect(socket).ok();
    }
    let answer = stream.as_mut().map(|stream| exchange(stream, &["ROLE"]));
    match answer {
        Some(Ok(Value::Array(role))) => match role[0].text().as_str() {
            "master" => Is::Primary,
            _ => Is::Replica,
        },
        _ => {
            *stream = None;
            Is::Gone
        }
    }
}

fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.set_write_timeout(Some(Duration::from_millis(500)))?;
    Ok(stream)
}

fn exchange(stream: &mut UnixStream, words: &[&str]) -> std::io::Result<Value> {
    stream.write_all(&encode(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>()))?;
    let (mut input, mut chunk) = (Vec::new(), [0; 65_536]);
    loop {
        match stream.read(&mut chunk)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => input.extend_from_slice(&chunk[..n]),
        }
        if let Some((value, _)) = value::decode(&input) {
            return Ok(value);
        }
    }
}

/// One command to a node, past every cut.
pub(crate) fn ask(socket: &Path, words: &[&str]) -> std::io::Result<Value> {
    exchange(&mut connect(socket)?, words)
}

/// When a node that had been a replica became primary first.
pub(crate) fn promoted(history: &History) -> Option<Duration> {
    let mut known = Is::Gone;
    for (at, is) in history {
        if *is == Is::Primary && known == Is::Replica {
            return Some(*at);
        }
        known = match is {
            Is::Gone => known,
            Is::Restarted => Is::Gone,
            is => *is,
        };
    }
    None
}

/// For how long both said that they are primary.
pub(crate) fn both_primary(histories: &[History; 2], until: Duration) -> Duration {
    let spans = |history: &History| -> Vec<(Duration, Duration)> {
        let ends = history.iter().skip(1).map(|(at, _)| *at).chain([until]);
        history.iter().zip(ends).filter(|((_, is), _)| *is == Is::Primary).map(|((at, _), end)| (*at, end)).collect()
    };
    let (first, second) = (spans(&histories[0]), spans(&histories[1]));
    let overlap = |a: &(Duration, Duration), b: &(Duration, Duration)| a.1.min(b.1).saturating_sub(a.0.max(b.0));
    first.iter().flat_map(|a| second.iter().map(move |b| overlap(a, b))).sum()
}
