//! The session's model of connection state beside a real server, for every short sequence of state commands.
//!
//! Each sequence is said to the server directly, through a session, and through sessions that change their upstream
//! behind each of its commands. Questions about the state follow. All replies must be the same bytes.
//!
//! All sequences of two commands are tried, and all of three from the first twelve commands of the alphabet.
//! `CHANGEOVER_SEQUENCES=n` tries all sequences up to that length (3: some minutes).

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use changeover::protocol::encode;
use changeover::protocol::reply::{ReplyEnd, ReplyFramer, ReplyLimits};
use changeover::protocol::request::Limits;
use changeover::session::{Session, Settings};

use super::server::Server;

/// `_` is a space inside a word, `%` the number of the sequence: each has its own keys.
const ALPHABET: [&str; 33] = [
    "MULTI",
    "EXEC",
    "DISCARD",
    "WATCH k%",
    "RESET",
    "SELECT 3",
    "AUTH u right",
    "AUTH u wrong",
    "SUBSCRIBE c",
    "INCR n%",
    "MULTI x",
    "EXEC x",
    "HELLO 3",
    "DISCARD x",
    "UNWATCH",
    "RESET x",
    "SELECT 99",
    "SELECT abc",
    "HELLO 2",
    "HELLO 4",
    "HELLO 3 AUTH u wrong",
    "HELLO 3 SETNAME m",
    "CLIENT SETNAME n",
    "CLIENT SETNAME a_b",
    "CLIENT REPLY OFF",
    "CLIENT REPLY SKIP",
    "CLIENT REPLY ON",
    "CLIENT TRACKING ON",
    "UNSUBSCRIBE",
    "SUBSCRIBE",
    "QUIT",
    "READONLY",
    "NOSUCH thing",
];
/// So many of them are tried in longer sequences.
const CORE: usize = 12;
/// In MULTI? As whom, called what, in which database and protocol? The last two end every reply stream.
const QUESTIONS: [&str; 10] = [
    "PING",
    "EXEC",
    "ECHO behind-exec",
    "ACL WHOAMI",
    "CLIENT GETNAME",
    "GET where",
    "CLIENT TRACKINGINFO",
    "HGETALL nothing",
    "RESET",
    "ECHO end-of-questions",
];
const END: &[u8] = b"$16\r\nend-of-questions\r\n";
/// What a session says when the server left out the reply of a failing login inside EXEC.
const LEFT_OUT: &str = "the server left out the reply of a login";
/// Stands in for a reply that does not come.
const SILENCE: &[u8] = b"-SILENCE\r\n";
/// The cache is void: a client that tracks keys hears it when its upstream changes.
const VOID: &[u8] = b">2\r\n$10\r\ninvalidate\r\n_\r\n";

fn encoded(text: &str, number: usize) -> Vec<u8> {
    let text = text.replace('%', &number.to_string());
    let words: Vec<String> = text.split(' ').map(|word| word.replace('_', " ")).collect();
    let mut out = BytesMut::new();
    encode::command(&mut out, &words.iter().map(String::as_bytes).collect::<Vec<_>>());
    out.to_vec()
}

/// Client ids differ from connection to connection.
fn without_ids(replies: &[u8]) -> String {
    let text = String::from_utf8_lossy(replies).into_owned();
    let mut parts = text.split("\r\nid\r\n:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out += "\r\nid\r\n:N";
        out += part.trim_start_matches(|digit: char| digit.is_ascii_digit());
    }
    out
}

fn write(stream: &mut UnixStream, bytes: &[u8]) {
    match stream.write_all(bytes) {
        Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => panic!("{error}"),
        _ => {}
    }
}

/// What has come; nothing at the end of the connection.
fn read(stream: &mut UnixStream, piece: &mut [u8]) -> usize {
    match stream.read(piece) {
        Ok(count) => count,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            piece[..SILENCE.len()].copy_from_slice(SILENCE);
            SILENCE.len()
        }
        Err(error) => panic!("{error}"),
    }
}

/// One sequence, with the questions behind it.
struct Sequence<'a> {
    words: Vec<&'a str>,
    number: usize,
}

impl Sequence<'_> {
    fn bytes(&self, from: usize, to: usize) -> Vec<u8> {
        self.words[from..to].iter().flat_map(|word| encoded(word, self.number)).collect()
    }

    /// Without a session. The keys that are watched change before word `touched`.
    ///
    /// Some servers drop the reply of a failing login that is not first in a batch: each login begins one.
    fn directly(&self, server: &Server, control: &mut UnixStream, touched: Option<usize>) -> String {
        let (mut stream, mut sent) = (server.connect(), 0);
        for (at, word) in self.words.iter().enumerate() {
            let login = word.starts_with("AUTH") || word.starts_with("HELLO");
            if touched == Some(at) || login && at > sent {
                write(&mut stream, &self.bytes(sent, at));
                sent = at;
                // Behind the first reply the server knows the connection. Behind the second it has the connection
                // before this one in its list, so that behind the third it has read all that was written above.
                let touch = ["SELECT 3", "INCR k%", "SELECT 0", "INCR k%"].iter();
                let touch = touch.filter(|_| touched == Some(at));
                for settles in ["PING"; 3].iter().chain(touch) {
                    write(control, &encoded(settles, self.number));
                    assert!(read(control, &mut [0; 64]) > 0);
                }
            }
        }
        write(&mut stream, &self.bytes(sent, self.words.len()));
        let (mut replies, mut piece) = (Vec::new(), [0; 4096]);
        while !replies.ends_with(END) && !replies.ends_with(SILENCE) {
            match read(&mut stream, &mut piece) {
                0 => break,
                count => replies.extend_from_slice(&piece[..count]),
            }
        }
        without_ids(&replies)
    }

    /// Through a session that changes its upstream before word `moved`; `None`: replies go through as bytes by then,
    /// or the conversation is over.
    fn through_a_session(&self, server: &Server, moved: Option<usize>) -> Option<String> {
        let mut proxied = Proxied::new(server);
        if let Some(moved) = moved {
            proxied.say(&self.bytes(0, moved), false);
            if proxied.session.is_raw() || proxied.session.closing() {
                return None;
            }
            proxied.another_upstream();
        }
        proxied.say(&self.bytes(moved.unwrap_or(0), self.words.len()), true);
        // It says no more where watched keys were lost and replies go through as bytes: the client is closed on.
        let cut = moved.is_some() && proxied.session.is_raw() && proxied.session.lost();
        (!cut).then(|| without_ids(&proxied.out))
    }
}

/// A session, driven as the proxy drives it.
struct Proxied<'a> {
    server: &'a Server,
    stream: UnixStream,
    session: Session,
    framer: ReplyFramer,
    out: BytesMut,
}

impl<'a> Proxied<'a> {
    fn new(server: &'a Server) -> Self {
        let settings = Settings {
            limits: Limits::default(),
            resend_bytes: 1 << 20,
            reserved_channel: b"__changeover__".to_vec(),
            lanes: false,
            notifications: false,
            receipts: None,
        };
        let mut session = Session::new(Rc::new(settings));
        session.attach();
        let framer = ReplyFramer::new(ReplyLimits::default());
        Self { server, stream: server.connect(), session, framer, out: BytesMut::new() }
    }

    fn another_upstream(&mut self) {
        let before = self.out.len();
        self.session.detach(&mut self.out);
        let added = self.out.split_off(before);
        assert!(added.is_empty() || added == VOID, "{:?}", String::from_utf8_lossy(&added));
        self.framer = ReplyFramer::new(ReplyLimits::default());
        self.stream = self.server.connect();
        self.session.attach();
    }

    /// Until everything is answered, or the conversation is over; `last`: up to the end mark.
    fn say(&mut self, mut input: &[u8], last: bool) {
        let mut piece = [0; 4096];
        loop {
            let used = self.session.handle_input(input, &mut self.out);
            input = &input[used..];
            if used > 0 {
                continue;
            }
            let bytes = self.session.to_send(false).to_vec();
            if !bytes.is_empty() {
                write(&mut self.stream, &bytes);
                self.session.sent(bytes.len());
                continue;
            }
            // Nobody counts the replies of a raw session: only the end mark says that there are no more.
            let raw_rest = self.session.is_raw() && !last;
            let idle = !self.session.is_raw() && !self.session.waits() && self.session.in_flight() == 0;
            if raw_rest || idle && input.is_empty() || self.session.finished() || self.out.ends_with(END) {
                return;
            }
            match read(&mut self.stream, &mut piece) {
                0 => return,
                count if &piece[..count] == SILENCE => return self.out.extend_from_slice(SILENCE),
                count => self.hear(&piece[..count]),
            }
        }
    }

    fn hear(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.session.is_raw() {
                return self.out.extend_from_slice(bytes);
            }
            let (used, end) = self.framer.scan(bytes).expect("the server speaks RESP");
            let push = self.framer.is_push();
            self.session.handle_reply(&bytes[..used], push, end != ReplyEnd::More, &mut self.out);
            bytes = &bytes[used..];
        }
    }
}

/// The answers to the questions behind EXEC.
fn behind_exec(replies: &str) -> Option<&str> {
    replies.rsplit_once("behind-exec").map(|(_, behind)| behind)
}

/// Compares everything about one sequence; says what differs.
fn compare(server: &Server, control: &mut UnixStream, words: &[&str], number: usize, left_out: bool) -> Vec<String> {
    let length = words.len();
    let sequence = Sequence { words: words.iter().copied().chain(QUESTIONS).collect(), number };
    let mut differences = Vec::new();
    let mut renumbered = sequence;
    let expected = renumbered.directly(server, control, None);
    for moved in std::iter::once(None).chain((1..=length).map(Some)) {
        let watched = moved.is_some_and(|moved| words[..moved].iter().any(|word| word.starts_with("WATCH")));
        renumbered.number = number + 10 + moved.unwrap_or(0);
        let touched = if watched { Some(renumbered.directly(server, control, moved)) } else { None };
        renumbered.number = number + 1 + moved.unwrap_or(0);
        let Some(got) = renumbered.through_a_session(server, moved) else { continue };
        let expected = touched.as_ref().unwrap_or(&expected);
        // A transaction that can only fail is not shown to the other upstream: its commands are answered `+QUEUED`
        // unseen, and EXEC may fail with a null for another reason.
        let doomed = moved.is_some() && (watched || expected.contains("EXECABORT"));
        let same =
            got == *expected || doomed && behind_exec(&got).is_some_and(|got| Some(got) == behind_exec(expected));
        // Behind CLIENT REPLY bytes go through as the client batched them, and such a server leaves out replies.
        let raw = words.iter().any(|word| word.starts_with("CLIENT REPLY"));
        let stated = left_out && (raw || got.contains(LEFT_OUT));
        if !(same || stated) {
            let story = words.join(" | ");
            differences
                .push(format!("{story}; another upstream behind {moved:?}\n  direct  {expected:?}\n  session {got:?}"));
        }
    }
    differences
}

/// The words of sequence `index` of this length, from so many letters of the alphabet.
fn sequence(mut index: usize, length: usize, letters: usize) -> Vec<&'static str> {
    let mut words = Vec::new();
    for _ in 0..length {
        words.push(ALPHABET[index % letters]);
        index /= letters;
    }
    words
}

#[test]
fn every_short_sequence_leaves_a_client_where_the_server_would() {
    let server = Server::start();
    server.ask(&["ACL", "SETUSER", "u", "on", ">right", "~*", "&*", "+@all"]);
    server.ask(&["CONFIG", "SET", "maxclients", "1000"]);
    for database in ["0", "3"] {
        let mut stream = server.connect();
        write(&mut stream, &encoded(&format!("SELECT {database}"), 0));
        write(&mut stream, &encoded(&format!("SET where {database}"), 0));
        let mut heard = 0;
        while heard < 10 {
            heard += read(&mut stream, &mut [0; 64]);
        }
    }
    let login = Sequence { words: vec!["MULTI", "AUTH u wrong", "EXEC", "RESET", QUESTIONS[9]], number: 0 };
    let left_out = !login.directly(&server, &mut server.connect(), None).contains("*1\r\n-WRONGPASS");
    let asked: Option<usize> = std::env::var("CHANGEOVER_SEQUENCES").ok().and_then(|n| n.parse().ok());
    for length in 1..=asked.unwrap_or(3) {
        let letters = if length > 2 && asked.is_none() { CORE } else { ALPHABET.len() };
        let found = compare_all(&server, length, letters, left_out);
        let text: Vec<&str> = found.values().map(String::as_str).collect();
        assert!(found.is_empty(), "{} sequences of {length} commands:\n{}", found.len(), text.join("\n"));
    }
}

/// What differs, by sequence; it stops when that is much.
fn compare_all(server: &Server, length: usize, letters: usize, left_out: bool) -> BTreeMap<usize, String> {
    let all = letters.pow(u32::try_from(length).unwrap());
    let (found, next) = (Mutex::new(BTreeMap::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let mut control = server.connect();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= all || found.lock().unwrap().len() > 20 {
                        return;
                    }
                    // Each conversation has keys of its own.
                    let number = (index + 100_000 * length) * 20;
                    let words = sequence(index, length, letters);
                    let differences = compare(server, &mut control, &words, number, left_out);
                    if !differences.is_empty() {
                        found.lock().unwrap().insert(index, differences.join("\n"));
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}
