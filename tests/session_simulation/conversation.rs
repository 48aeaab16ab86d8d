//! Drives one session as `io::downstream` does, over connections of the stage instead of sockets.
//!
//! It imitates that driver effect by effect (attach, board, detach, retract, leave, cut over, expire) and nothing of it
//! that a session cannot notice.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use changeover::protocol::reply::{ReplyEnd, ReplyFramer, ReplyLimits};
use changeover::session::{Home, Session, Settings};

use crate::lane::{Lane, State};
use crate::stage::{Link, Read, Stage};

const FAREWELL: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_millis(250);
const RETRY: Duration = Duration::from_millis(5);

pub(crate) enum Up {
    None,
    Ready(Ready),
    Shared(Shared),
}

pub(crate) struct Ready {
    link: Link,
    epoch: u64,
    leaving: Option<Duration>,
    framer: ReplyFramer,
}

pub(crate) struct Shared {
    lane: usize,
    node: usize,
    epoch: u64,
    leaving: Option<Duration>,
    boarded: bool,
}

pub(crate) struct Conversation {
    pub(crate) session: Session,
    /// From the client, on its way.
    pub(crate) wire: Vec<u8>,
    input: BytesMut,
    /// For the client.
    pub(crate) out: BytesMut,
    up: Up,
    next: Option<Ready>,
    pub(crate) ticket: u32,
    rest_at: Option<Duration>,
    retry: (u64, Duration),
    held: Option<Duration>,
    version: u64,
    /// The client has closed its side.
    pub(crate) gone: bool,
    pub(crate) ended: bool,
    pub(crate) gaps: u64,
    pub(crate) resent: u64,
}

fn ready(link: Link, epoch: u64) -> Ready {
    Ready { link, epoch, leaving: None, framer: ReplyFramer::new(ReplyLimits::default()) }
}

impl Conversation {
    pub(crate) fn new(settings: Rc<Settings>) -> Self {
        Self {
            session: Session::new(settings),
            wire: Vec::new(),
            input: BytesMut::new(),
            out: BytesMut::new(),
            up: Up::None,
            next: None,
            ticket: 0,
            rest_at: None,
            retry: (0, Duration::ZERO),
            held: None,
            version: 0,
            gone: false,
            ended: false,
            gaps: 0,
            resent: 0,
        }
    }

    /// One wake-up; true if something moved.
    pub(crate) fn poll(&mut self, me: usize, stage: &mut Stage, lanes: &mut [Lane]) -> bool {
        if self.ended {
            return false;
        }
        self.session.handle_time(stage.time());
        let mut moved = self.follow_orders(stage, lanes);
        moved |= self.read_upstream(stage, lanes);
        moved |= self.read_next(stage);
        moved |= self.read_client(stage);
        moved |= self.write_upstream(me, stage, lanes);
        let tally = self.session.take_tally();
        self.gaps += tally.gaps;
        self.resent += tally.resent_refused + tally.resent_lost;
        let owed = self.session.in_flight() > 0 && !self.session.blocked();
        if self.session.finished() || self.gone && (self.session.is_raw() || !owed) {
            self.leave_upstream(stage, lanes);
            self.drop_next(stage);
            self.ended = true;
        }
        moved
    }

    /// Something is in flight that the server would still run.
    pub(crate) fn flying(&self) -> bool {
        !self.ended && self.session.in_flight() > 0 && !self.session.blocked() && !self.session.is_raw()
    }

    // ---- orders ----

    fn follow_orders(&mut self, stage: &mut Stage, lanes: &mut [Lane]) -> bool {
        if self.version != stage.orders.version {
            self.version = stage.orders.version;
            self.take_orders(stage, lanes);
        }
        let now = stage.time();
        let place = match &self.up {
            Up::Ready(up) => Some((up.epoch, up.leaving)),
            Up::Shared(up) => Some((up.epoch, up.leaving)),
            Up::None => None,
        };
        let mut moved = false;
        if let Some((epoch, leaving)) = place {
            if self.session.refused().is_some() {
                self.retry = (epoch, now + RETRY);
                self.drop_upstream(stage, lanes);
                moved = true;
            } else if let Some(since) = leaving {
                let owed = self.session.in_flight() > 0 && !self.session.blocked();
                let late = since + if owed { stage.hold_time } else { FAREWELL } <= now;
                let listens = self.session.subscribed() && self.session.in_flight() == 0;
                let stays = self.session.is_raw() || listens && !late;
                if (late || self.session.in_flight() == 0) && !stays {
                    if !(listens && self.rescue(stage)) {
                        self.drop_upstream(stage, lanes);
                    }
                    moved = true;
                }
            } else if self.wrong_home(now) {
                self.drop_upstream(stage, lanes);
                moved = true;
            }
        }
        moved |= self.follow_cutover(stage);
        moved |= self.connect(stage, lanes);
        self.watch_hold(stage, lanes) || moved
    }

    fn take_orders(&mut self, stage: &mut Stage, lanes: &mut [Lane]) {
        self.session.follow(stage.mark());
        let (orders, now) = (stage.orders, stage.time());
        let (node, epoch, leaving) = match &mut self.up {
            Up::Ready(up) => (up.link.node, &mut up.epoch, &mut up.leaving),
            Up::Shared(up) => (up.node, &mut up.epoch, &mut up.leaving),
            Up::None => return,
        };
        if *epoch > orders.given_up {
            match orders.primary {
                Some(primary) if primary == node => (*epoch, *leaving) = (orders.epoch, None),
                Some(_) => *leaving = leaving.or(Some(now)),
                None => {}
            }
            return;
        }
        let own = matches!(self.up, Up::Ready(_));
        if !own || self.session.in_flight() > 0 || self.session.is_raw() || !self.rescue(stage) {
            self.drop_upstream(stage, lanes);
        }
    }

    fn wrong_home(&mut self, now: Duration) -> bool {
        match (&self.up, self.session.home()) {
            (Up::Shared(_), _) if self.session.sheds() => {
                self.session.shed();
                true
            }
            (Up::Shared(_), Home::Own) => self.session.in_flight() == 0,
            (Up::Ready(_), Home::Own) => {
                if *self.rest_at.get_or_insert(now + REST) <= now {
                    self.rest_at = Some(now + REST);
                    if self.session.rested() {
                        self.session.share();
                        self.rest_at = None;
                    }
                }
                self.session.home() == Home::Lane
            }
            _ => false,
        }
    }

    fn connect(&mut self, stage: &mut Stage, lanes: &mut [Lane]) -> bool {
        if !matches!(self.up, Up::None) || !self.session.wants_upstream() || !stage.may_begin() {
            return false;
        }
        let (Some(node), epoch) = (stage.orders.primary, stage.orders.epoch) else { return false };
        if self.retry.0 == epoch && self.retry.1 > stage.time() {
            return false;
        }
        if self.session.home() == Home::Lane {
            let key = self.session.lane_key();
            let lane = Lane::find(lanes, &key, node, stage);
            lanes[lane].passengers += 1;
            self.up = Up::Shared(Shared { lane, node, epoch, leaving: None, boarded: false });
            return true;
        }
        let Some(link) = stage.connect(node) else {
            self.retry = (epoch, stage.time() + RETRY);
            return true;
        };
        self.up = Up::Ready(ready(link, epoch));
        self.session.attach();
        true
    }

    fn watch_hold(&mut self, stage: &mut Stage, lanes: &mut [Lane]) -> bool {
        let now = stage.time();
        let waits = self.session.waits() || self.session.refusing();
        let leaving = match &self.up {
            Up::Ready(up) => Some(up.leaving.is_some()),
            Up::Shared(up) if up.boarded => Some(up.leaving.is_some()),
            _ => None,
        };
        let may_send = !self.session.refusing() && leaving == Some(false) && stage.may_begin();
        if !waits || may_send {
            self.held = None;
            return false;
        }
        let since = *self.held.get_or_insert(now);
        let since = stage.holding_since.map_or(since, |all| all.min(since));
        if since + stage.hold_time > now {
            return false;
        }
        if self.session.must_leave_to_expire() {
            self.drop_upstream(stage, lanes);
        }
        self.session.expire("LOADING no primary was found in time", &mut self.out);
        self.held = None;
        true
    }

    // ---- the second upstream of a subscriber ----

    fn goes_over(&self, stage: &Stage) -> bool {
        let leaving = matches!(&self.up, Up::Ready(up) if up.leaving.is_some());
        leaving && self.session.subscribed() && self.session.in_flight() == 0 && stage.may_begin()
    }

    fn follow_cutover(&mut self, stage: &mut Stage) -> bool {
        if !self.goes_over(stage) {
            return self.stop_cutover(stage);
        }
        let Some(node) = stage.orders.primary else { return false };
        match &self.next {
            None => {
                let Some(link) = stage.connect(node) else { return false };
                self.next = Some(ready(link, stage.orders.epoch));
                let channel = stage.marker_channel();
                self.session.begin_cutover(channel);
                true
            }
            Some(next) if next.link.node != node => self.stop_cutover(stage),
            Some(_) => {
                if let Some(channel) = self.session.marker_to_publish() {
                    stage.markers.push((node, channel));
                }
                if self.session.may_cut_over() {
                    return self.take_next(false, stage);
                }
                self.session.must_cut_over_with_gap() && self.take_next(true, stage)
            }
        }
    }

    fn take_next(&mut self, gap: bool, stage: &mut Stage) -> bool {
        if gap && !self.session.may_cut_over_with_gap() {
            return false;
        }
        let Some(mut next) = self.next.take() else { return false };
        next.epoch = stage.orders.epoch;
        if let Up::Ready(old) = std::mem::replace(&mut self.up, Up::Ready(next)) {
            stage.close(old.link);
        }
        self.session.finish_cutover(gap, &mut self.out);
        true
    }

    fn rescue(&mut self, stage: &mut Stage) -> bool {
        let current = self.next.as_ref().is_some_and(|next| Some(next.link.node) == stage.orders.primary);
        current && self.take_next(true, stage) || self.stop_cutover(stage)
    }

    fn stop_cutover(&mut self, stage: &mut Stage) -> bool {
        if self.next.is_some() {
            self.drop_next(stage);
            self.session.cancel_cutover();
        }
        false
    }

    fn drop_next(&mut self, stage: &mut Stage) {
        if let Some(next) = self.next.take() {
            stage.close(next.link);
        }
    }

    fn read_next(&mut self, stage: &mut Stage) -> bool {
        let Some(next) = &mut self.next else { return false };
        let bytes = self.session.to_send_next().to_vec();
        let mut moved = false;
        if !bytes.is_empty() {
            match stage.write(next.link, &bytes) {
                Some(count) => self.session.sent_next(count),
                None => return self.stop_cutover(stage),
            }
            moved = true;
        }
        if !self.session.may_hear_next() {
            return moved;
        }
        let bytes = match stage.read(next.link) {
            Read::Nothing => return moved,
            Read::End => return self.stop_cutover(stage),
            Read::Bytes(bytes) => bytes,
        };
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (used, end) = next.framer.scan(rest).unwrap();
            let (piece, behind) = rest.split_at(used);
            if !self.session.handle_next(piece, end != ReplyEnd::More) {
                return self.stop_cutover(stage);
            }
            rest = behind;
        }
        true
    }

    // ---- bytes ----

    fn read_client(&mut self, stage: &mut Stage) -> bool {
        if !self.input.is_empty() && self.session.may_take() {
            let used = self.session.handle_input(&self.input, &mut self.out);
            self.input.advance(used);
            return used > 0;
        }
        if self.wire.is_empty() || !self.input.is_empty() || !self.session.may_take() {
            return false;
        }
        let count = stage.some_of(self.wire.len());
        let read: Vec<u8> = self.wire.drain(..count).collect();
        let used = self.session.handle_input(&read, &mut self.out);
        self.input.extend_from_slice(&read[used..]);
        true
    }

    fn read_upstream(&mut self, stage: &mut Stage, lanes: &mut [Lane]) -> bool {
        match &mut self.up {
            Up::None => false,
            Up::Shared(up) => {
                let lane = &mut lanes[up.lane];
                match lane.state {
                    State::Over => self.lose_upstream(stage, lanes),
                    State::Open if !up.boarded => {
                        up.boarded = true;
                        self.session.board();
                    }
                    _ => return false,
                }
                true
            }
            Up::Ready(up) => {
                let bytes = match stage.read(up.link) {
                    Read::Nothing => return false,
                    Read::End => {
                        self.lose_upstream(stage, lanes);
                        return true;
                    }
                    Read::Bytes(bytes) => bytes,
                };
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    if self.session.is_raw() {
                        self.out.extend_from_slice(rest);
                        break;
                    }
                    let (used, end) = up.framer.scan(rest).unwrap();
                    let (piece, behind) = rest.split_at(used);
                    self.session.handle_reply(piece, up.framer.is_push(), end != ReplyEnd::More, &mut self.out);
                    rest = behind;
                }
                true
            }
        }
    }

    fn write_upstream(&mut self, me: usize, stage: &mut Stage, lanes: &mut [Lane]) -> bool {
        let hold = !stage.may_begin();
        match &self.up {
            Up::None => false,
            Up::Shared(up) => {
                let out_of_place = self.session.home() == Home::Own;
                if out_of_place || hold || !up.boarded || up.leaving.is_some() {
                    return false;
                }
                let bytes = self.session.to_send_on_lane().to_vec();
                if bytes.is_empty() {
                    return false;
                }
                let commands = self.session.sent(bytes.len());
                lanes[up.lane].append(&bytes, commands, me, self.ticket);
                true
            }
            Up::Ready(up) => {
                let (link, hold) = (up.link, hold || up.leaving.is_some());
                let bytes = self.session.to_send(hold).to_vec();
                if bytes.is_empty() {
                    return false;
                }
                match stage.write(link, &bytes) {
                    Some(count) => drop(self.session.sent(count)),
                    None => self.lose_upstream(stage, lanes),
                }
                true
            }
        }
    }

    // ---- the end of an upstream ----

    fn lose_upstream(&mut self, stage: &mut Stage, lanes: &mut [Lane]) {
        let epoch = match &self.up {
            Up::Ready(up) => up.epoch,
            Up::Shared(up) => up.epoch,
            Up::None => return,
        };
        self.retry = (epoch, stage.time() + RETRY);
        let rescued = self.session.may_rescue() && self.session.in_flight() == 0;
        if !rescued || self.session.is_raw() || !self.rescue(stage) {
            self.drop_upstream(stage, lanes);
        }
    }

    fn drop_upstream(&mut self, stage: &mut Stage, lanes: &mut [Lane]) {
        self.drop_next(stage);
        self.leave_upstream(stage, lanes);
        self.session.detach(&mut self.out);
    }

    fn leave_upstream(&mut self, stage: &mut Stage, lanes: &mut [Lane]) {
        match std::mem::replace(&mut self.up, Up::None) {
            Up::Ready(up) => stage.close(up.link),
            Up::Shared(up) => {
                self.ticket += 1;
                lanes[up.lane].passengers -= 1;
            }
            Up::None => {}
        }
    }
}
