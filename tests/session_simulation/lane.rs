//! A shared upstream, as `io::lane` runs it: gathers, sends, cuts replies, hands them to the oldest that is owed one.

use std::collections::VecDeque;

use changeover::protocol::reply::{ReplyEnd, ReplyFramer, ReplyLimits};
use changeover::session::{Greeting, Heard, LaneKey};

use crate::conversation::Conversation;
use crate::stage::{Link, Read, Stage};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Opening,
    Open,
    Over,
}

struct Owed {
    to: usize,
    ticket: u32,
    commands: usize,
    bytes: usize,
}

pub(crate) struct Lane {
    key: LaneKey,
    node: usize,
    epoch: u64,
    pub(crate) state: State,
    pub(crate) passengers: usize,
    link: Option<Link>,
    greeting: Option<Greeting>,
    reply: Vec<u8>,
    framer: ReplyFramer,
    out: Vec<u8>,
    owed: VecDeque<Owed>,
}

impl Lane {
    /// The lane of this key to the node; opened if there is none.
    pub(crate) fn find(lanes: &mut [Lane], key: &LaneKey, node: usize, stage: &mut Stage) -> usize {
        let given_up = stage.orders.given_up;
        let fits =
            |lane: &Lane| lane.state != State::Over && lane.node == node && lane.epoch > given_up && lane.key == *key;
        if let Some(at) = lanes.iter().position(fits) {
            return at;
        }
        let at = lanes.iter().position(|lane| lane.state == State::Over && lane.passengers == 0).expect("a free lane");
        let (link, greeting) = (stage.connect(node), key.greeting());
        let state = match (link, &greeting) {
            (None, _) => State::Over,
            (Some(_), Some(_)) => State::Opening,
            (Some(_), None) => State::Open,
        };
        lanes[at] = Self { key: key.clone(), node, epoch: stage.orders.epoch, state, link, greeting, ..Self::unused() };
        at
    }

    /// A place for a lane.
    pub(crate) fn unused() -> Self {
        Self {
            key: LaneKey::default(),
            node: 0,
            epoch: 0,
            state: State::Over,
            passengers: 0,
            link: None,
            greeting: None,
            reply: Vec::new(),
            framer: ReplyFramer::new(ReplyLimits::default()),
            out: Vec::new(),
            owed: VecDeque::new(),
        }
    }

    pub(crate) fn append(&mut self, bytes: &[u8], commands: usize, to: usize, ticket: u32) {
        self.out.extend(bytes);
        match self.owed.back_mut() {
            Some(last) if last.to == to && last.ticket == ticket => {
                last.commands += commands;
                last.bytes += bytes.len();
            }
            _ => self.owed.push_back(Owed { to, ticket, commands, bytes: bytes.len() }),
        }
    }

    /// Its task's turn.
    pub(crate) fn poll(&mut self, stage: &mut Stage, conversations: &mut [Conversation]) -> bool {
        let Some(link) = self.link.filter(|_| self.state != State::Over) else { return false };
        if stage.orders.primary == Some(self.node) && self.epoch > stage.orders.given_up {
            self.epoch = stage.orders.epoch;
        }
        if self.epoch <= stage.orders.given_up {
            return self.end(stage, conversations);
        }
        let mut moved = false;
        let bytes = match &self.greeting {
            Some(greeting) => greeting.to_send().to_vec(),
            None => self.out.clone(),
        };
        if !bytes.is_empty() {
            let Some(count) = stage.write(link, &bytes) else { return self.end(stage, conversations) };
            match &mut self.greeting {
                Some(greeting) => greeting.sent(count),
                None => drop(self.out.drain(..count)),
            }
            moved = true;
        }
        match stage.read(link) {
            Read::Nothing => moved,
            Read::End => self.end(stage, conversations),
            Read::Bytes(bytes) => {
                self.hear(&bytes, conversations);
                true
            }
        }
    }

    fn hear(&mut self, mut bytes: &[u8], conversations: &mut [Conversation]) {
        while !bytes.is_empty() {
            let (used, end) = self.framer.scan(bytes).unwrap();
            let (piece, rest) = bytes.split_at(used);
            let last = end != ReplyEnd::More;
            bytes = rest;
            assert!(!self.framer.is_push(), "a push on a lane: somebody subscribed or tracks there");
            if let Some(greeting) = &mut self.greeting {
                self.reply.extend(piece);
                if last && greeting.heard(&std::mem::take(&mut self.reply)) == Heard::Done {
                    (self.greeting, self.state) = (None, State::Open);
                }
                continue;
            }
            let front = self.owed.front_mut().expect("nobody asked on the lane");
            let to = &mut conversations[front.to];
            if front.ticket == to.ticket && !to.ended {
                to.session.handle_reply(piece, false, last, &mut to.out);
            }
            front.commands -= usize::from(last);
            if front.commands == 0 {
                self.owed.pop_front();
            }
        }
    }

    /// What never left is given back; the rest of what is owed will not come.
    fn end(&mut self, stage: &mut Stage, conversations: &mut [Conversation]) -> bool {
        self.state = State::Over;
        if let Some(link) = self.link.take() {
            stage.close(link);
        }
        let mut unsent = std::mem::take(&mut self.out).len();
        for owed in std::mem::take(&mut self.owed).into_iter().rev() {
            let back = if unsent >= owed.bytes { owed.commands } else { 0 };
            unsent = unsent.saturating_sub(owed.bytes);
            let to = &mut conversations[owed.to];
            if owed.ticket == to.ticket && !to.ended {
                to.session.retract(back);
            }
        }
        true
    }
}
