//! The quick way and the way byte by byte: whatever comes, both say the same to both sides.

use proptest::prelude::*;

use super::*;

/// One thing that happens to a session.
#[derive(Clone, Debug)]
enum Event {
    /// The client asks this.
    Ask(&'static str),
    /// The upstream takes what it is to get and answers so many commands, each with this.
    Answer(usize, &'static str),
    /// The upstream is lost and another is there.
    Change,
}

fn event() -> impl Strategy<Value = Event> {
    let asked = vec![
        "GET a",
        "GET a",
        "SET a 1",
        "INCR a",
        "MGET a b",
        "PING",
        "MULTI",
        "EXEC",
        "DISCARD",
        "WATCH a",
        "BLPOP q 1",
        "SCAN 0",
        "PUBLISH c m",
        "EVAL return 0",
        "NO.SUCH x",
        "CLIENT SETNAME n",
        "SELECT 1",
        "get lower",
    ];
    let answered = vec![
        "+OK\r\n",
        "+OK\r\n",
        "$1\r\n1\r\n",
        "$-1\r\n",
        ":7\r\n",
        "*2\r\n$1\r\na\r\n:1\r\n",
        "-ERR no\r\n",
        READONLY,
        "+QUEUED\r\n",
        "*-1\r\n",
    ];
    prop_oneof![
        6 => prop::sample::select(asked).prop_map(Event::Ask),
        5 => (1_usize..6, prop::sample::select(answered)).prop_map(|(count, reply)| Event::Answer(count, reply)),
        1 => Just(Event::Change),
    ]
}

fn encoded(command: &str) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    crate::protocol::encode::command(&mut bytes, &words);
    bytes.to_vec()
}

impl Story {
    /// Like a conversation: offers what it has until nothing more is taken, in pieces of `size`.
    fn offer(&mut self, pending: &mut Vec<u8>, size: usize) {
        loop {
            let piece = &pending[..size.min(pending.len())];
            let used = self.session.handle_input(piece, &mut self.out);
            pending.drain(..used);
            if used == 0 {
                return;
            }
        }
    }

    fn sent_up(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        while let bytes @ [_, ..] = self.session.to_send(false) {
            sent.extend_from_slice(bytes);
            let count = bytes.len();
            self.session.sent(count);
        }
        sent
    }

    /// Replies as an upstream that is in step gives them, the quick way where the session allows it.
    fn answer(&mut self, mut replies: &[u8], quick: bool) {
        while !replies.is_empty() {
            let most = if quick { self.session.plain_ahead(usize::MAX) } else { 0 };
            let (count, used) = self.framer.run(replies, most);
            if count > 0 {
                self.session.handle_plain_replies(&replies[..used], count, &mut self.out);
                replies = &replies[used..];
                continue;
            }
            let (used, end) = self.framer.scan(replies).unwrap();
            self.session.handle_reply(&replies[..used], false, end != ReplyEnd::More, &mut self.out);
            replies = &replies[used..];
        }
    }
}

proptest! {
    #[test]
    fn both_ways_say_the_same(events in prop::collection::vec(event(), 1..40), lane: bool) {
        let begin = || if lane { Story::on_a_lane() } else { Story::attached() };
        let (mut quick, mut slow) = (begin(), begin());
        let (mut to_quick, mut to_slow) = (Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::Ask(command) => {
                    to_quick.extend(encoded(command));
                    to_slow.extend(encoded(command));
                }
                Event::Answer(count, reply) => {
                    let owed = quick.session.in_flight();
                    prop_assert_eq!(owed, slow.session.in_flight());
                    let replies = reply.repeat(count.min(owed));
                    quick.answer(replies.as_bytes(), true);
                    slow.answer(replies.as_bytes(), false);
                }
                Event::Change => {
                    quick.another_upstream();
                    slow.another_upstream();
                }
            }
            quick.offer(&mut to_quick, usize::MAX);
            slow.offer(&mut to_slow, 1);
            prop_assert_eq!(plain(&quick.sent_up()), plain(&slow.sent_up()));
            let (heard, slowly) = (quick.out.split(), slow.out.split());
            prop_assert_eq!(String::from_utf8_lossy(&heard), String::from_utf8_lossy(&slowly));
            prop_assert_eq!((quick.session.home(), quick.session.quiet()), (slow.session.home(), slow.session.quiet()));
            prop_assert_eq!(quick.session.take_tally(), slow.session.take_tally());
        }
    }
}
