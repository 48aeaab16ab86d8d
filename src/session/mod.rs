//! One client's conversation; knows neither which node is primary nor why it is held.
//!
//! A session is told what the client sent ([`Session::handle_input`]) and what the upstream answered
//! ([`Session::handle_reply`]); it says what the upstream gets next ([`Session::to_send`]) and appends what the client
//! gets to a buffer that the caller lends. Between two upstreams it keeps every command that has no definite reply:
//!
//! * refused as *not executed* by a node that is not (or no longer) primary: sent again, with everything behind it;
//! * sent and without a reply when the upstream was lost: sent again if that does no harm, otherwise answered with
//!   `-OUTCOMEUNKNOWN`, and the connection stays open;
//! * not sent: simply sent to the next upstream.
//!
//! ```text
//!               attach                    preamble accepted
//!  Detached ------------> Greeting -----------------------------> Open ----> Raw (MONITOR, CLIENT REPLY OFF:
//!     ^                      |                                     |              replies are not one for one)
//!     |                      |  lost                               | refusal
//!     +----------------------+---------------- Refused <-----------+
//!                 detach        (collects the other replies of this upstream first)
//! ```
//!
//! Before the greeting it may have to be told where another client is, which its state names ([`Phase::Asking`]).
//!
//! Nothing here waits, reads a clock or touches a socket. What is counted is left in a [`Tally`] for the caller.

mod admission;
mod affinity;
mod blocking;
mod change;
mod credit;
mod cutover;
mod entry;
mod greeting;
mod guard;
mod identity;
mod library;
mod machine;
pub mod maintenance;
mod mark;
mod naming;
mod notice;
mod pipeline;
mod plain;
mod preamble;
mod receipt;
mod replies;
mod reserved;
mod scan;
mod stream;
mod subscription;
mod tail;
mod tally;
#[cfg(test)]
mod tests;
mod transaction;
mod vocabulary;

use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;

use crate::protocol::args::args;
use crate::protocol::refusal::Refusal;
use crate::protocol::request::{Limits, RequestFramer, Shape};

use affinity::Affinity;
use credit::Credit;
use cutover::Cutover;
use guard::Guarded;
use identity::Identity;
use library::Unblocking;
use machine::Machine;
use maintenance::Maintenance;
use naming::Naming;
use pipeline::Pipeline;
use replies::Assembly;
use stream::Stream;
use tail::Tail;
use transaction::TransactionState;

pub use affinity::Home;
pub use greeting::{Greeting, Heard};
pub use identity::Whereabouts;
pub use library::{Library, Moment, Unfinished, is_ping};
pub use maintenance::Endpoint;
pub use mark::Mark;
pub use naming::{Found, Question};
pub use preamble::LaneKey;
pub use receipt::Receipts;
pub use tally::{Kind, Tally};
pub use vocabulary::Vocabulary;

/// What all sessions of a process have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Limits on requests.
    pub limits: Limits,
    /// Bytes of unanswered commands that are kept for sending again.
    pub resend_bytes: usize,
    /// The pair's channel, which clients may not use.
    pub reserved_channel: Vec<u8>,
    /// Sessions may share upstreams.
    pub lanes: bool,
    /// Clients may ask for maintenance notifications.
    pub notifications: bool,
    /// Writes are answered only with a receipt.
    pub receipts: Option<Receipts>,
}

/// Commands of one session that may be unanswered at a time; more wait in the client's socket.
const WINDOW: usize = 1024;

/// So many bytes of commands are kept in any case: less would make every command one that cannot be kept.
const LEAST_KEPT: usize = 1024;

/// One client's conversation.
pub struct Session {
    settings: Rc<Settings>,
    framer: RequestFramer,
    pipeline: Pipeline,
    server: Machine,
    transaction: TransactionState,
    affinity: Affinity,
    cutover: Option<Box<Cutover>>,
    /// For the upstream: the end of its subscription to a marker.
    parting: BytesMut,
    /// The upstream has not yet said whether the client may listen to a marker that is no longer wanted.
    marker_unanswered: bool,
    tail: Option<Tail>,
    identity: Identity,
    naming: Option<Naming>,
    vocabulary: Rc<Vocabulary>,
    /// A command that nobody has explained yet, complete, behind everything that was taken.
    unfamiliar: Option<Shape>,
    /// Nobody will explain the command that is being taken.
    unexplained: bool,
    /// The server may take the client for somebody else than is known here: it cannot be brought to another upstream.
    uncertain: bool,
    /// See [`Session::misplaced`].
    misplaced: bool,
    /// The client said CLIENT CAPA: the server may answer it `-REDIRECT`.
    redirectable: bool,
    /// Somebody explains commands.
    explains: bool,
    /// See [`Session::take_verdict`].
    verdict: Option<u64>,
    /// See [`Session::doomed`].
    doomed: bool,
    /// See [`Session::take_voided`].
    voided: Option<u64>,
    assembly: Assembly,
    credit: Credit,
    /// See [`Session::answered`].
    answered: u64,
    guarded: Guarded,
    stream: Stream,
    maintenance: Maintenance,
    unblocking: Unblocking,
    /// What the client's library calls itself, whether or not the server takes note of such names.
    library: Vec<u8>,
    /// Writes were taken whose receipt has not been asked for.
    receipt_due: bool,
    /// There is no replica that could confirm a write.
    replica_missing: bool,
    phase: Phase,
    /// Bytes for the upstream that are no entries of the pipeline (only in [`Phase::Raw`]).
    raw: BytesMut,
    /// A large command of a raw session is going through.
    raw_passing: bool,
    /// Bytes of unanswered commands that may be kept now.
    budget: usize,
    /// The time, as last told.
    now: Duration,
    /// The primary process, and the one that the upstream leads to.
    mark: Option<Mark>,
    upstream_mark: Option<Mark>,
    /// The conversation ends when everything owed has been delivered.
    closing: bool,
    /// It ends because state of the client was lost with its upstream.
    lost: bool,
    /// The client has the beginning of something whose rest will not come: it gets nothing more.
    severed: bool,
    /// That was a reply or a push.
    halved: bool,
    /// It ends because the client sent something that is not RESP.
    garbled: bool,
    /// It ends because the client is subscribed to more than is kept.
    overfull: bool,
    tally: Tally,
}

/// See the picture of this module.
enum Phase {
    /// No upstream.
    Detached,
    /// The client's connection state names another client: where that is has to be known before it is replayed.
    Asking,
    /// The client's connection state is being replayed.
    Greeting(Greeting),
    /// Commands go up, replies come down, one for one.
    Open,
    /// The node refuses; what else it has to say is collected, nothing more is sent to it.
    Refused(Refusal),
    /// Bytes go through both ways.
    Raw,
}

impl Session {
    /// A client that has said nothing yet.
    pub fn new(settings: Rc<Settings>) -> Self {
        let affinity = Affinity::new(settings.lanes);
        let budget = settings.resend_bytes.max(LEAST_KEPT);
        Self {
            framer: RequestFramer::new(settings.limits),
            settings,
            pipeline: Pipeline::default(),
            server: Machine::default(),
            transaction: TransactionState::default(),
            affinity,
            cutover: None,
            parting: BytesMut::new(),
            marker_unanswered: false,
            tail: None,
            identity: Identity::default(),
            naming: None,
            vocabulary: Rc::default(),
            unfamiliar: None,
            unexplained: false,
            uncertain: false,
            misplaced: false,
            redirectable: false,
            explains: false,
            verdict: None,
            doomed: false,
            voided: None,
            assembly: Assembly::default(),
            credit: Credit::default(),
            answered: 0,
            guarded: Guarded::default(),
            stream: Stream::default(),
            maintenance: Maintenance::default(),
            unblocking: Unblocking::No,
            library: Vec::new(),
            receipt_due: false,
            replica_missing: false,
            phase: Phase::Detached,
            raw: BytesMut::new(),
            raw_passing: false,
            budget,
            now: Duration::ZERO,
            mark: None,
            upstream_mark: None,
            closing: false,
            lost: false,
            severed: false,
            halved: false,
            garbled: false,
            overfull: false,
            tally: Tally::default(),
        }
    }

    /// It is `now`; told before anything else of a wake-up.
    pub fn handle_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// Memory is short (or no longer): only commands up to `most` bytes are kept for sending again.
    pub fn handle_shortage(&mut self, most: Option<usize>) {
        self.budget = self.settings.resend_bytes.min(most.unwrap_or(usize::MAX)).max(LEAST_KEPT);
    }

    /// Bytes kept for this client.
    pub fn kept(&self) -> usize {
        self.pipeline.len() + self.stream.backlog() + self.raw.len() + self.server.subscriptions.bytes()
    }

    // ---- the upstream ----

    /// A fresh upstream of the session's own is there: the client's state is replayed on it before anything else.
    pub fn attach(&mut self) {
        self.upstream_mark = self.mark;
        self.identity.actual = None;
        match self.server.state.redirection() {
            Some(_) => self.phase = Phase::Asking,
            None => self.greet(None),
        }
    }

    /// The replay begins; invalidations are redirected to the connection that this upstream calls so.
    fn greet(&mut self, redirection: Option<u64>) {
        self.shorten_blocking();
        self.recall_receipts();
        let learn = self.identity.told.is_some();
        self.misplaced = self.server.state.chose() && self.next_is_for_the_busy();
        let mut preamble = if self.misplaced {
            self.pipeline.send_next_alone();
            self.server.state.preamble_anywhere(learn, redirection)
        } else {
            self.server.state.preamble(learn, redirection)
        };
        if self.settings.lanes && self.pipeline.waits_for_replicas() && preamble.replies == 0 {
            // WAIT covers what was written before the last command of the same connection.
            preamble.say(&[b"PING"]);
        }
        self.server.subscriptions.say(&mut preamble);
        self.phase = Greeting::new(preamble).map_or(Phase::Open, Phase::Greeting);
        self.enter_raw();
    }

    /// The next command is one that the server runs while a script keeps it busy, whatever the database.
    fn next_is_for_the_busy(&self) -> bool {
        let mut words = args(self.pipeline.next());
        let (name, word) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let script = name.eq_ignore_ascii_case(b"script") || name.eq_ignore_ascii_case(b"function");
        script && word.eq_ignore_ascii_case(b"kill")
    }

    /// The upstream is not in the client's state, and is of no more use: another one is to be brought there.
    pub fn misplaced(&self) -> bool {
        self.misplaced && self.pipeline.in_flight() == 0 && !self.next_is_for_the_busy()
    }

    /// While a script runs, the server refuses to choose the client's database: that is the answer to all that waits,
    /// and the client stays.
    pub fn put_off(&mut self, reply: &[u8], out: &mut BytesMut) {
        self.turned_away(reply);
        (self.closing, self.misplaced) = (false, true);
        self.deliver(out);
    }

    /// The session has a place on a lane, which has been brought into the state of [`Session::lane_key`].
    pub fn board(&mut self) {
        self.misplaced = false;
        self.upstream_mark = self.mark;
        self.identity.actual = None;
        self.phase = Phase::Open;
    }

    /// The lane could not be brought into that state: `reply` says why, and the client is let go.
    pub fn turn_away(&mut self, reply: &[u8], out: &mut BytesMut) {
        self.turned_away(reply);
        self.deliver(out);
    }

    /// Grows whenever the client's user may have become another.
    pub fn logins(&self) -> u64 {
        self.server.state.logins()
    }

    /// Once the session has left its own upstream, `RESET` makes that one as good as new for another client: nothing is
    /// under way on it, and nothing was set that `RESET` keeps.
    pub fn upstream_reusable(&self) -> bool {
        let idle = self.pipeline.in_flight() == 0
            && !self.begun()
            && !self.marker_unanswered
            && self.assembly.idle()
            && self.cutover.is_none();
        let plain =
            !self.affinity.tied() && !self.server.state.switched() && !self.subscribed() && self.parting.is_empty();
        let told = self.upstream_mark.zip(self.identity.actual).map(|(mark, actual)| mark.id(actual));
        // An id that a client was told must not become another client's.
        let named = told.is_some() && told == self.identity.told;
        let transaction = self.transaction_ties();
        matches!(self.phase, Phase::Open) && idle && plain && !named && !transaction
    }

    /// The own upstream was told what the client's library is called.
    pub fn names_library(&self) -> bool {
        self.server.state.names_library()
    }

    /// Which lanes this session may share.
    pub fn lane_key(&self) -> LaneKey {
        self.server.state.lane_key()
    }

    /// The last `count` commands that were sent have not left this process: they are to be sent again.
    pub fn retract(&mut self, count: usize) {
        self.pipeline.retract(count);
    }

    /// Bytes for the upstream now. Under a `hold` only what was begun is finished.
    pub fn to_send(&self, hold: bool) -> &[u8] {
        match &self.phase {
            Phase::Detached | Phase::Asking | Phase::Refused(_) => &[],
            Phase::Greeting(greeting) => greeting.to_send(),
            Phase::Raw => &self.raw,
            Phase::Open if !self.aside().is_empty() && !self.begun() => self.aside(),
            Phase::Open if self.misplaced && self.pipeline.mid_command() => self.pipeline.to_finish(),
            Phase::Open if self.misplaced && !self.next_is_for_the_busy() => &[],
            Phase::Open if hold => match self.pipeline.to_finish() {
                [] if self.stream.begun() && self.pipeline.waiting() <= 1 => self.stream.to_send(),
                rest => rest,
            },
            Phase::Open => match self.pipeline.to_send() {
                [] => self.stream.to_send(),
                bytes => bytes,
            },
        }
    }

    /// The upstream took `count` of the bytes of [`Session::to_send`]; says how many commands that completed.
    pub fn sent(&mut self, count: usize) -> usize {
        if matches!(self.phase, Phase::Open) && !self.begun() && self.sent_aside(count) {
            return 0;
        }
        match &mut self.phase {
            Phase::Greeting(greeting) => greeting.sent(count),
            Phase::Raw => drop(self.raw.split_to(count.min(self.raw.len()))),
            _ if self.pipeline.to_send().is_empty() => self.stream_sent(count),
            _ => {
                let completed = self.pipeline.advance(count);
                self.enter_raw();
                return completed;
            }
        }
        0
    }

    // ---- what the caller decides by ----

    /// There is something for an upstream to do.
    pub fn wants_upstream(&self) -> bool {
        let needed = self.subscribed() || self.identity.summoned;
        if self.severed {
            return false;
        }
        self.waits() || needed && matches!(self.phase, Phase::Detached)
    }

    /// The client has asked for something that has not been sent.
    pub fn waits(&self) -> bool {
        self.pipeline.waiting() > 0 || self.stream.open() || self.large_ahead() || self.naming_waits()
    }

    /// The node refused, and has said all it had to say: time to [`Session::detach`].
    pub fn refused(&self) -> Option<Refusal> {
        match self.phase {
            Phase::Refused(why) if self.pipeline.unanswered() == 0 => Some(why),
            _ => None,
        }
    }

    /// The node refused a command; nothing is sent to it any more.
    pub fn refusing(&self) -> bool {
        matches!(self.phase, Phase::Refused(_))
    }

    /// Commands sent and not yet answered, including a large one on its way.
    pub fn in_flight(&self) -> usize {
        self.pipeline.in_flight() + usize::from(self.begun())
    }

    /// A command was sent, and its reply has not come.
    pub fn unanswered(&self) -> bool {
        self.pipeline.unanswered() > 0
    }

    /// Part of a command has been sent, and not its end.
    pub fn begun(&self) -> bool {
        self.stream.begun() || self.pipeline.mid_command()
    }

    /// All that is in flight is a large command whose end the client has not sent.
    pub fn half_sent(&self) -> bool {
        self.stream.begun() && self.stream.arriving() && self.pipeline.in_flight() == 0
    }

    /// What is in flight may take as long as the client likes (BLPOP …).
    pub fn blocked(&self) -> bool {
        self.pipeline.blocked()
    }

    /// Commands that wait to be sent, and their bytes.
    pub fn waiting(&self) -> (usize, usize) {
        (self.pipeline.waiting(), self.pipeline.waiting_bytes())
    }

    /// Replies are not one for one any more: bytes go through, framed by nobody.
    pub fn is_raw(&self) -> bool {
        matches!(self.phase, Phase::Raw)
    }

    /// The client may be left now: nothing is owed, nothing is half said, no transaction is open.
    pub fn quiet(&self) -> bool {
        let idle = self.pipeline.undelivered() == 0 && !self.stream.open() && self.raw.is_empty() && !self.naming();
        let idle = idle && self.unfamiliar.is_none();
        let idle = idle && !self.assembly.half_delivered();
        idle && !self.framer.in_command() && !self.in_transaction() && !self.server.watching()
    }

    /// Everything owed has been delivered, and the conversation is over.
    pub fn finished(&self) -> bool {
        self.closing && (self.severed || self.pipeline.undelivered() == 0)
    }

    /// The client said QUIT, or something that ends the conversation happened.
    pub fn closing(&self) -> bool {
        self.closing
    }

    /// The conversation ends because its upstream took something along that cannot be had again: a stream of replies that
    /// nobody counts, or the second half of a large reply.
    pub fn lost(&self) -> bool {
        self.lost
    }

    /// The conversation ends because a reply or a push was cut in the middle.
    pub fn halved(&self) -> bool {
        self.halved
    }

    /// The conversation ends because the client sent something that is not RESP.
    pub fn malformed_input(&self) -> bool {
        self.garbled
    }

    /// The conversation ends because the client is subscribed to more than is kept.
    pub fn overfull(&self) -> bool {
        self.overfull
    }

    /// What happened since the last call.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Bytes through, from now on, if the next reply belongs to a command after which replies are not one for one.
    fn enter_raw(&mut self) {
        use crate::protocol::command::{Class, Connection};
        if let Phase::Open = self.phase
            && let Some((entry, pipeline::Turn::Next)) = self.pipeline.expecting()
            && matches!(entry.class, Class::Connection(Connection::Reply) | Class::Raw)
        {
            self.go_raw();
        }
    }

    /// The front entry is answered by whatever comes; what the client sent behind it follows it as bytes.
    fn go_raw(&mut self) {
        self.pipeline.answered_in_turn();
        self.pipeline.deliver_front(false, false);
        self.pipeline.release_delivered();
        self.phase = Phase::Raw;
        if self.transaction.lost() {
            // Watched keys were lost with an upstream. No later EXEC can be told so here, and it must not run.
            (self.closing, self.lost) = (true, true);
        }
    }
}
