//! What a session costs per command, from the client's bytes to the client's reply, and what it allocates.
//! `cargo bench --bench session`
//!
//! As a conversation on a lane does it: the client's bytes are taken, what is to go up is copied to the lane's buffer, the
//! replies are cut and handed over, the client's buffer is emptied. No socket, no TLS. divan's items are commands.

use std::rc::Rc;

use bytes::BytesMut;
use changeover::protocol::encode;
use changeover::protocol::reply::{ReplyEnd, ReplyFramer, ReplyLimits};
use changeover::protocol::request::Limits;
use changeover::session::{Session, Settings};
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A session in the middle of its life: its buffers have their size.
struct Bed {
    session: Session,
    framer: ReplyFramer,
    lane: BytesMut,
    out: BytesMut,
}

impl Bed {
    fn new() -> Self {
        let settings = Settings {
            limits: Limits::default(),
            resend_bytes: 1 << 20,
            reserved_channel: b"__changeover__".to_vec(),
            lanes: true,
            receipts: None,
            notifications: false,
        };
        let mut session = Session::new(Rc::new(settings));
        session.board();
        let framer = ReplyFramer::new(ReplyLimits::default());
        Self { session, framer, lane: BytesMut::new(), out: BytesMut::new() }
    }

    /// One batch, up and down.
    fn pass(&mut self, commands: &[u8], mut replies: &[u8]) -> usize {
        self.session.handle_input(commands, &mut self.out);
        let bytes = self.session.to_send(false);
        self.lane.extend_from_slice(bytes);
        let count = bytes.len();
        let sent = self.session.sent(count);
        while !replies.is_empty() {
            let (count, used) = self.framer.run(replies, self.session.plain_ahead(sent));
            if count > 0 {
                self.session.handle_plain_replies(&replies[..used], count, &mut self.out);
                replies = &replies[used..];
                continue;
            }
            let Ok((used, end)) = self.framer.scan(replies) else { break };
            self.session.handle_reply(&replies[..used], false, end != ReplyEnd::More, &mut self.out);
            replies = &replies[used..];
        }
        let tally = self.session.take_tally();
        assert_eq!(self.session.in_flight(), 0);
        let passed = self.lane.len() + self.out.len() + tally.commands.len();
        self.lane.clear();
        self.out.clear();
        passed
    }
}

fn batch(name: &str, pipeline: usize) -> (Vec<u8>, Vec<u8>) {
    let value = [b'x'; 64];
    let (command, reply): (&[&[u8]], &[u8]) = match name {
        "GET" => (&[b"GET", b"key:000000000123"], b"$16\r\nxxxxxxxxxxxxxxxx\r\n"),
        "SET 64 B" => (&[b"SET", b"key:000000000123", &value], b"+OK\r\n"),
        // Not plain: the reply is an array, and every command is looked at by itself.
        _ => (&[b"MGET", b"a", b"b"], b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n"),
    };
    let mut commands = BytesMut::new();
    (0..pipeline).for_each(|_| encode::command(&mut commands, command));
    (commands.to_vec(), reply.repeat(pipeline))
}

#[divan::bench(args = [1, 16, 64])]
fn get(bencher: Bencher<'_, '_>, pipeline: usize) {
    measure(bencher, "GET", pipeline);
}

#[divan::bench(args = [1, 16, 64])]
fn set(bencher: Bencher<'_, '_>, pipeline: usize) {
    measure(bencher, "SET 64 B", pipeline);
}

#[divan::bench(args = [1, 16, 64])]
fn mget(bencher: Bencher<'_, '_>, pipeline: usize) {
    measure(bencher, "MGET", pipeline);
}

fn measure(bencher: Bencher<'_, '_>, name: &str, pipeline: usize) {
    let (commands, replies) = batch(name, pipeline);
    let mut bed = Bed::new();
    for _ in 0..100 {
        bed.pass(&commands, &replies);
    }
    bencher.counter(ItemsCount::new(pipeline)).bench_local(|| bed.pass(black_box(&commands), black_box(&replies)));
}
