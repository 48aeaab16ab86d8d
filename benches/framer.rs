//! What framing costs per command and per reply, and that it allocates nothing. `cargo bench --bench framer`
//!
//! Sixty-four commands or replies stand in one buffer, as a pipeline does; divan's items per second are those. The other
//! decoder is measured beside ours on the same bytes.

use bytes::BytesMut;
use changeover::protocol::command::lookup;
use changeover::protocol::encode;
use changeover::protocol::reply::{ReplyEnd, ReplyFramer, ReplyLimits};
use changeover::protocol::request::{Framed, Limits, RequestFramer};
use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const PIPELINE: usize = 64;

fn main() {
    divan::main();
}

fn pipeline(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    for _ in 0..PIPELINE {
        encode::command(&mut bytes, args);
    }
    bytes.to_vec()
}

/// Frames everything and finds every name in the table.
fn commands(framer: &mut RequestFramer, mut rest: &[u8]) -> usize {
    let mut known = 0;
    while let Ok((used, framed)) = framer.scan(rest) {
        if let Framed::Command(shape) = framed {
            known += usize::from(shape.name.of(rest).and_then(lookup).is_some());
        }
        rest = &rest[used..];
        if rest.is_empty() {
            break;
        }
    }
    known
}

fn replies(framer: &mut ReplyFramer, mut rest: &[u8]) -> usize {
    let mut ended = 0;
    while let Ok((used, end)) = framer.scan(rest) {
        ended += usize::from(end != ReplyEnd::More);
        rest = &rest[used..];
        if rest.is_empty() {
            break;
        }
    }
    ended
}

fn other(mut rest: &[u8]) -> usize {
    let mut ended = 0;
    while let Ok(Some((_, used))) = redis_protocol::resp2::decode::decode_range(rest) {
        ended += 1;
        rest = &rest[used..];
    }
    ended
}

fn request(name: &str) -> Vec<u8> {
    match name {
        "GET" => pipeline(&[b"GET", b"key:123"]),
        _ => pipeline(&[b"SET", b"key:123", &[b'x'; 64]]),
    }
}

fn reply(name: &str) -> Vec<u8> {
    let mut one = BytesMut::new();
    match name {
        "+OK" => encode::simple(&mut one, "OK"),
        _ => encode::bulk(&mut one, &[b'x'; 64]),
    }
    one.repeat(PIPELINE)
}

#[divan::bench(args = ["GET", "SET 64 B"])]
fn requests(bencher: Bencher<'_, '_>, name: &str) {
    let bytes = request(name);
    let mut framer = RequestFramer::new(Limits::default());
    assert_eq!(commands(&mut framer, &bytes), PIPELINE);
    bencher.counter(ItemsCount::new(PIPELINE)).bench_local(|| commands(&mut framer, black_box(&bytes)));
}

#[divan::bench(args = ["GET", "SET 64 B"])]
fn requests_by_redis_protocol(bencher: Bencher<'_, '_>, name: &str) {
    let bytes = request(name);
    assert_eq!(other(&bytes), PIPELINE);
    bencher.counter(ItemsCount::new(PIPELINE)).bench_local(|| other(black_box(&bytes)));
}

#[divan::bench(args = ["+OK", "64 B"])]
fn small_replies(bencher: Bencher<'_, '_>, name: &str) {
    let bytes = reply(name);
    let mut framer = ReplyFramer::new(ReplyLimits::default());
    assert_eq!(replies(&mut framer, &bytes), PIPELINE);
    bencher.counter(ItemsCount::new(PIPELINE)).bench_local(|| replies(&mut framer, black_box(&bytes)));
}

/// 50,000 items that arrive in reads of this many bytes: every byte is looked at once.
#[divan::bench(args = [4096, 16_384, usize::MAX])]
fn large_array(bencher: Bencher<'_, '_>, read: usize) {
    let mut bytes = b"*50000\r\n".to_vec();
    bytes.extend(b"$16\r\n0123456789abcdef\r\n".repeat(50_000));
    let mut framer = ReplyFramer::new(ReplyLimits::default());
    bencher.counter(BytesCount::new(bytes.len())).bench_local(|| {
        black_box(&bytes).chunks(read.min(bytes.len())).map(|piece| replies(&mut framer, piece)).sum::<usize>()
    });
}

#[divan::bench(args = ["GET", "set", "ZREVRANGEBYSCORE", "GEORADIUSBYMEMBER_RO", "UNHEARD.OF"])]
fn name(bencher: Bencher<'_, '_>, name: &str) {
    bencher.bench(|| lookup(black_box(name.as_bytes())));
}
