//! Which faults are injected, what each of them may make a client see, and what is switched off for now.
//!
//! These tables are the contract of the test. A client sees what Redis could have said; what stands in [`Fault::excuse`]
//! is all that the docs allow besides it (`docs/life-of-a-request.md`, `docs/clients.md`).

/// Known faults of the product: what would show them is not drawn. `CHANGEOVER_FAULTY_ALL=1` draws it all the same.
pub(super) const OFF: &[&str] = &[
    "state commands inside MULTI",
    "wrong commands inside MULTI",
    "QUIT inside MULTI",
    "refusals of the proxy inside MULTI",
    "SUBSCRIBE inside MULTI",
    "quick kills",
    "blocking commands and receipts",
    "the name of a refused HELLO",
    "QUEUED behind a lost WATCH",
    "a read asked again sees no later write",
];

/// What is drawn.
pub(super) struct Known {
    all: bool,
    only_off: Option<String>,
}

impl Known {
    pub(super) fn read() -> Self {
        let off = std::env::var("CHANGEOVER_FAULTY_OFF").ok();
        Self { all: std::env::var_os("CHANGEOVER_FAULTY_ALL").is_some(), only_off: off }
    }

    /// Whether this is left out.
    pub(super) fn off(&self, what: &str) -> bool {
        match &self.only_off {
            Some(text) => text.split(',').any(|part| part == what),
            None => !self.all && OFF.contains(&what),
        }
    }
}

/// What happens while the clients of a round speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Nothing,
    /// `CLIENT KILL TYPE normal` at the primary.
    KillNormal,
    /// The same three times, a few milliseconds apart.
    KillQuickly,
    /// `CLIENT KILL ID` of one connection that carries clients.
    KillOne,
    /// `CLIENT KILL TYPE pubsub` at the primary.
    KillSubscribers,
    /// `client-output-buffer-limit normal` is lower than what one of the clients asks for.
    OutputLimit,
    /// `changeover switchover`.
    Switchover,
    /// `FAILOVER`, asked at the primary behind the proxies' back.
    Failover,
    /// `kill -9` of the primary, and the replica is promoted.
    Death,
}

/// What a client may see besides the replies of the twin.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Excuse {
    /// A write may be answered `-OUTCOMEUNKNOWN`, once, and be executed once or not at all.
    pub(super) unknown: bool,
    /// EXEC behind a WATCH may answer null without having run.
    pub(super) watch: bool,
    /// A connection with half a reply may be closed.
    pub(super) half: bool,
    /// A connection whose replies no longer come one for one may be closed.
    pub(super) quiet: bool,
    /// A subscriber whose connection Redis ends is closed while the primary lives.
    pub(super) subscribed: bool,
    /// A read that was asked again may see what stood behind it.
    pub(super) later_reads: bool,
    /// Behind a lost WATCH, +QUEUED may stand for the error of a command that is refused.
    pub(super) queued: bool,
    /// What was not executed may be answered `-LOADING` (too large to be kept).
    pub(super) loading: bool,
    /// A reply above the server's limit may be refused, or its connection closed.
    pub(super) limit: Option<usize>,
}

/// `client-output-buffer-limit` of the story of that name.
pub(super) const OUTPUT_LIMIT: usize = 4 << 20;

impl Fault {
    pub(super) fn excuse(self, known: &Known) -> Excuse {
        let none = Excuse::default();
        let lost = Excuse { unknown: true, watch: true, half: true, quiet: true, loading: true, ..none };
        let lost = Excuse { later_reads: known.off("a read asked again sees no later write"), ..lost };
        let queued = known.off("QUEUED behind a lost WATCH");
        let lost = Excuse { queued, ..lost };
        match self {
            Self::Nothing => none,
            Self::KillNormal | Self::KillQuickly | Self::KillOne | Self::KillSubscribers => {
                Excuse { subscribed: true, ..lost }
            }
            Self::Death | Self::Failover => lost,
            Self::OutputLimit => Excuse { limit: Some(OUTPUT_LIMIT), ..none },
            Self::Switchover => Excuse { watch: true, quiet: true, queued, ..none },
        }
    }
}

impl Excuse {
    /// Whether anything may differ from the twin at all.
    pub(super) fn any(self) -> bool {
        self.unknown || self.watch || self.half || self.quiet || self.loading || self.limit.is_some()
    }
}
