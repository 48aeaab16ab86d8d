//! What becomes of a request, row by row of docs/life-of-a-request.md, as an operator can read it:
//! `tests/transcripts/sessions/*.txt`, one for each row, with a part for each kind of change.
//!
//! A line is what happens; the lines with an arrow below it are everything that the session did about it. A story is
//! right only if the whole text is reproduced. `UPDATE_TRANSCRIPTS=1` writes what is done now instead of comparing
//! (then read the difference). `##` begins a new client, whose upstream is there. The words of a line:
//!
//! ```text
//! client SET a 1 | GET a         the client says these commands; `client begins SET a x` says all but the last byte,
//!                                `client ends` that one; a word `large` is one of 9,000 bytes
//! node +OK | *1 | "x" | nil      the upstream answers, line by line; nil is the null, nil* the null array
//! refuses | unblocks | aborts    a demoted node's words for a write, a blocked command, an EXEC
//! hold, release                  an ordered hold begins, or ends
//! lost                           the upstream is gone, or given up; `upstream`: another one is there
//! 2000                           so many milliseconds have passed
//! next, next "x", marked, over   a subscriber's second upstream is there, says something; the marker arrives through
//!                                both; it takes the first one's place
//! ```

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "it/support/value.rs"]
#[expect(dead_code, reason = "only decoding is needed here")]
mod value;

use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use changeover::protocol::args::args;
use changeover::protocol::reply::{ReplyEnd, ReplyFramer, ReplyLimits};
use changeover::protocol::request::{Limits, RequestFramer};
use changeover::session::{Session, Settings};

const KINDS: [&str; 3] = ["## announced", "## bare", "## kill -9"];
const REFUSES: &str = "-READONLY You can't write against a read only replica.";
const UNBLOCKS: &str = "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";
const ABORTS: &str =
    "-EXECABORT Transaction discarded because of: READONLY You can't write against a read only replica.";
const MARKER: &[u8] = b"__changeover__:1";

#[test]
fn every_row_goes_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/sessions");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 11, "rows are missing");
    let mut wrong = String::new();
    for path in files {
        let written = std::fs::read_to_string(&path).unwrap();
        let parts: Vec<&str> = written.lines().filter(|line| line.starts_with("##")).collect();
        for kind in KINDS {
            assert!(parts.iter().any(|part| part.starts_with(kind)), "{}: nothing about {kind}", path.display());
        }
        let played = play(&written);
        if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
            std::fs::write(&path, &played).unwrap();
        } else if let Some((line, (had, got))) =
            (1..).zip(written.lines().chain(["(end)"]).zip(played.lines().chain(["(end)"]))).find(|(_, (a, b))| a != b)
        {
            writeln!(wrong, "{}:{line}\n  written: {had}\n  played:  {got}", path.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

fn play(written: &str) -> String {
    let mut text = String::new();
    let mut story = Story::new();
    for line in written.lines().filter(|line| !line.trim_start().starts_with("->")) {
        writeln!(text, "{line}").unwrap();
        if line.starts_with("##") {
            story = Story::new();
        } else if !line.is_empty() && !line.starts_with('#') {
            story.act(line);
            story.settle(&mut text);
        }
    }
    text
}

struct Story {
    session: Session,
    framer: ReplyFramer,
    next: ReplyFramer,
    out: BytesMut,
    /// What the client has not finished saying.
    rest: Vec<u8>,
    /// What it has said, and the session has not taken.
    input: Vec<u8>,
    hold: bool,
    attached: bool,
    now: Duration,
    /// Bytes that went up, and are no whole command yet.
    sent: Vec<u8>,
    /// Their beginning has been shown.
    shown: bool,
}

impl Story {
    fn new() -> Self {
        let settings = Settings {
            limits: Limits::default(),
            resend_bytes: 4096,
            reserved_channel: b"__changeover__".to_vec(),
            lanes: false,
            receipts: None,
            notifications: false,
        };
        let framer = || ReplyFramer::new(ReplyLimits::default());
        let mut session = Session::new(Rc::new(settings));
        session.attach();
        let now = Duration::from_secs(1);
        let (out, sent) = (BytesMut::new(), Vec::new());
        Self {
            session,
            framer: framer(),
            next: framer(),
            out,
            rest: Vec::new(),
            input: Vec::new(),
            hold: false,
            attached: true,
            now,
            sent,
            shown: false,
        }
    }

    fn act(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        self.session.handle_time(self.now);
        match (word, rest) {
            ("client", "ends") => {
                let bytes = std::mem::take(&mut self.rest);
                self.client(&bytes);
            }
            ("client", rest) => match rest.strip_prefix("begins ") {
                Some(command) => {
                    let mut bytes = encode(command);
                    self.rest = bytes.split_off(bytes.len() - 1);
                    self.client(&bytes);
                }
                None => rest.split(" | ").for_each(|command| self.client(&encode(command))),
            },
            ("node", rest) => self.node(&reply(rest)),
            ("refuses", _) => self.node(&reply(REFUSES)),
            ("unblocks", _) => self.node(&reply(UNBLOCKS)),
            ("aborts", _) => self.node(&reply(ABORTS)),
            ("hold", _) => self.hold = true,
            ("release", _) => self.hold = false,
            ("lost", _) => self.detach(),
            ("upstream", _) => {
                self.attached = true;
                self.session.attach();
            }
            ("next", "") => self.session.begin_cutover(MARKER.to_vec()),
            ("next", rest) => self.next(&reply(rest)),
            ("marked", _) => {
                let message = reply("*3 | \"message\" | \"__changeover__:1\" | \"\"");
                self.next(&message);
                self.node(&message);
                assert!(self.session.may_cut_over());
            }
            ("over", _) => self.session.finish_cutover(false, &mut self.out),
            (millis, _) => {
                self.now += Duration::from_millis(millis.parse().unwrap_or_else(|_| panic!("what is {line}?")))
            }
        }
    }

    fn client(&mut self, bytes: &[u8]) {
        self.input.extend(bytes);
        let used = self.session.handle_input(&self.input, &mut self.out);
        self.input.drain(..used);
    }

    fn node(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (used, end) = self.framer.scan(bytes).unwrap();
            let last = end != ReplyEnd::More;
            self.session.handle_reply(&bytes[..used], self.framer.is_push(), last, &mut self.out);
            bytes = &bytes[used..];
        }
    }

    fn next(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (used, end) = self.next.scan(bytes).unwrap();
            assert!(self.session.handle_next(&bytes[..used], end != ReplyEnd::More));
            bytes = &bytes[used..];
        }
    }

    fn detach(&mut self) {
        self.session.detach(&mut self.out);
        self.framer = ReplyFramer::new(ReplyLimits::default());
        self.sent.clear();
        self.attached = false;
    }

    /// Says what the session does, as its driver would make it do it.
    fn settle(&mut self, text: &mut String) {
        loop {
            self.client(&[]);
            let bytes = self.session.to_send(self.hold).to_vec();
            if !self.attached || bytes.is_empty() {
                break;
            }
            self.session.sent(bytes.len());
            self.sent.extend(&bytes);
        }
        let mut said = commands(&mut self.sent);
        if !self.sent.is_empty() && !std::mem::replace(&mut self.shown, true) {
            said = format!("{said} (the beginning of a command)").trim_start().to_owned();
        }
        self.shown &= !self.sent.is_empty();
        say(text, "node gets", &said);
        let mut bytes = self.session.to_send_next().to_vec();
        self.session.sent_next(bytes.len());
        say(text, "next gets", &commands(&mut bytes));
        if let Some(channel) = self.session.marker_to_publish() {
            say(text, "published on the new primary", &String::from_utf8(channel).unwrap());
        }
        say(text, "client gets", &values(&mut self.out));
        if self.session.refused().is_some() {
            say(text, "this node is left", "it refuses");
            self.detach();
            say(text, "client gets", &values(&mut self.out));
        }
        if self.session.finished() {
            say(text, "the connection", "closes");
        }
    }
}

fn say(text: &mut String, what: &str, which: &str) {
    if !which.is_empty() {
        writeln!(text, "    -> {what}: {which}").unwrap();
    }
}

fn word(word: &str) -> Vec<u8> {
    if word == "large" { vec![b'x'; 9000] } else { word.as_bytes().to_vec() }
}

fn encode(command: &str) -> Vec<u8> {
    let words: Vec<Vec<u8>> = command.split(' ').map(word).collect();
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend(word);
        bytes.extend(b"\r\n");
    }
    bytes
}

fn reply(lines: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines.split(" | ") {
        match line.strip_prefix('"').and_then(|line| line.strip_suffix('"')) {
            Some(word) => bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes()),
            None if line == "nil" => bytes.extend(b"$-1\r\n"),
            None if line == "nil*" => bytes.extend(b"*-1\r\n"),
            None => bytes.extend(format!("{line}\r\n").bytes()),
        }
    }
    bytes
}

/// The whole commands at the beginning, taken out; the beginning of another one stays.
fn commands(bytes: &mut Vec<u8>) -> String {
    let mut said = Vec::new();
    let mut framer = RequestFramer::new(Limits::default());
    let mut at = 0;
    while at < bytes.len() {
        let (used, _) = framer.scan(&bytes[at..]).unwrap();
        if framer.in_command() {
            break;
        }
        let words = args(&bytes[at..at + used]).map(|word| match word.len() {
            0..=200 => String::from_utf8_lossy(word).into_owned(),
            _ => "large".to_owned(),
        });
        said.push(words.collect::<Vec<_>>().join(" "));
        at += used;
    }
    bytes.drain(..at);
    said.join(" | ")
}

fn values(out: &mut BytesMut) -> String {
    let mut said = Vec::new();
    while let Some((value, used)) = value::decode(out) {
        let _taken = out.split_to(used);
        said.push(format!("{value:?}"));
    }
    said.join(" | ")
}
