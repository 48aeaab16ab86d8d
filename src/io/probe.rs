//! Watches one node: asks what it is, again and again, and reports what it said or that it did not answer.
//!
//! It draws no conclusion; `topology` does. One connection is one process of the node, so the process' identity is asked
//! when a connection is new (and once a second, for a shutdown that was announced), its replication state each time.
//! A process that is frozen still accepts connections, so the deadline is on the answer.
//!
//! An error is an answer: the node lives. On a connection on which a process has reported, whatever it says later is said
//! by the same process; HELLO then tells its role without any permission, and while a script runs. A connection that
//! was silent is kept until another one works, for the same reason.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::client::{Link, LinkError, Login, Reply, Target, dial};
use super::clock;
use crate::config::ProbeTimes;
use crate::protocol::info::{Loading, RunId, ServerInfo, parse_loading, parse_replication, parse_server};
use crate::topology::node::{NodeId, Role};
use crate::topology::trouble::bounded;
use crate::topology::{Answer, Evidence, Gone, NodeReport, Trouble};

/// How often a process is asked anew who it is.
const SERVER_EVERY: Duration = Duration::from_secs(1);
/// Between the beginnings of two polls, however many ask for one.
const CLOSEST: Duration = Duration::from_millis(1);
/// Between two attempts that meet an error which only an operator can end.
const SLOW: Duration = Duration::from_millis(250);
/// A process whose port refuses or is silent may still say something on a connection that is open.
const LAST_WORD: Duration = Duration::from_millis(100);
/// A connection whose first answers are late is waited for so long.
const OPENS_FOR: Duration = Duration::from_secs(10);
/// The second connection is used this often, so that a server's `timeout` does not close it.
const ANCHOR_EVERY: Duration = Duration::from_secs(5);
/// First pause after a failure that follows another; doubles up to the interval.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// Evidence with the node that it is about.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// Which node.
    pub node: NodeId,
    /// What was seen.
    pub evidence: Evidence,
    /// Why its name does not resolve, while its last known address is used.
    pub name: Option<String>,
}

/// How often every node is asked; a new value is obeyed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between the beginnings of two polls.
    pub interval: Duration,
    /// Whoever raises it has everyone asked now.
    pub kick: u64,
}

/// Watches one node until nobody listens any more.
pub async fn watch(target: Target, times: ProbeTimes, mut pace: watch::Receiver<Pace>, out: mpsc::Sender<Sighting>) {
    let mut eyes = Eyes::new(target);
    let mut failures: u32 = 0;
    loop {
        let interval = pace.borrow_and_update().interval;
        let began = clock::now();
        let evidence = eyes.look(began + times.deadline).await;
        let (mut slow, mut again) = (false, false);
        match &evidence {
            Evidence::Report(_) => failures = 0,
            Evidence::Answers(answer) => {
                failures = failures.saturating_add(1);
                again = matches!(answer.trouble, Trouble::Login(_)) && eyes.read_password().await;
                slow = eyes.main.is_none() && !matches!(answer.trouble, Trouble::Busy | Trouble::Loading);
            }
            _ => failures = failures.saturating_add(1),
        }
        if again {
            failures = 0;
            continue;
        }
        let sighting = Sighting { node: eyes.target.node, evidence, name: eyes.target.place.lost() };
        if out.send(sighting).await.is_err() {
            return;
        }
        let pause = if slow && failures > 1 { interval.max(SLOW) } else { pause(interval, failures) };
        let next = clock::instant((began + pause).max(clock::now()));
        tokio::select! {
            () = sleep_until(next) => {}
            changed = pace.changed() => {
                if changed.is_err() {
                    return;
                }
                // A node that cannot be reached is not asked faster because others want to know.
                let soonest = if failures > 1 { next } else { clock::instant(began + CLOSEST).min(next) };
                sleep_until(soonest).await;
            }
        }
    }
}

/// The first failure is looked into at once (an end of file may be a restart), the following ones less and less often.
fn pause(interval: Duration, failures: u32) -> Duration {
    match failures {
        0 => interval,
        1 => Duration::ZERO,
        more => FIRST_PAUSE.saturating_mul(1 << (more - 2).min(16)).min(interval.max(FIRST_PAUSE)),
    }
}

/// A connection with what is known of the process at its other end.
struct Connected {
    link: Link,
    server: ServerInfo,
    server_asked: Duration,
    loading: Option<Loading>,
}

/// A connection that is open, and whose first questions have left.
struct Opening {
    link: Link,
    since: Duration,
    /// The answer to AUTH is owed.
    login: bool,
    server: Option<ServerInfo>,
}

/// A connection to a process that reports, or reported, on another one.
struct Anchor {
    link: Link,
    process: RunId,
    /// It was opened between two reports of this process on one connection, or such reports came through it.
    proven: bool,
    spoke: Duration,
}

/// What one process said on such a connection: when it was asked, and its role.
type Spoken = (Duration, Option<Role>);

/// The connections to one node.
struct Eyes {
    target: Target,
    main: Option<Connected>,
    opening: Option<Opening>,
    anchor: Option<Anchor>,
}

impl Eyes {
    fn new(target: Target) -> Self {
        Self { target, main: None, opening: None, anchor: None }
    }

    async fn look(&mut self, deadline: Duration) -> Evidence {
        if self.main.is_some() { self.ask(deadline).await } else { self.begin(deadline).await }
    }

    async fn ask(&mut self, deadline: Duration) -> Evidence {
        let Some(main) = &mut self.main else { return Evidence::Silent };
        let error = match main.ask(deadline).await {
            Ok(report) => {
                self.tend_anchor(&report).await;
                return Evidence::Report(report);
            }
            Err(error) => error,
        };
        let process = main.server.run_id;
        let error = match error {
            LinkError::Redis(text) => match speak(&mut main.link, deadline).await {
                Ok((asked_at, role)) => {
                    let trouble = Trouble::from_reply(&text, false);
                    return Evidence::Answers(Answer { trouble, process: Some((process, role)), asked_at });
                }
                Err(error) => error,
            },
            error => error,
        };
        // A node that loads its data answers rarely.
        if error == LinkError::TimedOut && main.loading.is_some() {
            return failed(error);
        }
        if let (Some(main), LinkError::TimedOut) = (self.main.take(), &error) {
            self.anchor = Some(Anchor { link: main.link, process, proven: true, spoke: clock::now() });
        }
        failed(error)
    }

    /// Opens a connection, and listens meanwhile whether the process speaks on one that was open before.
    async fn begin(&mut self, deadline: Duration) -> Evidence {
        let asked_at = clock::now();
        let (told, spoken) = self.open_and_listen(deadline).await;
        let error = match told {
            Ok(connected) => {
                self.anchor = self.anchor.take().filter(|anchor| anchor.process == connected.server.run_id);
                self.main = Some(connected);
                return self.ask(deadline).await;
            }
            Err(error) => error,
        };
        if matches!(&spoken, Some(Err(error)) if !error.leaves_link_usable()) {
            self.anchor = None;
        }
        let process = self.anchor.as_ref().map(|anchor| anchor.process);
        match (spoken, process) {
            (Some(Ok((asked_at, role))), Some(process)) => {
                let trouble = trouble(error).unwrap_or(Trouble::Deaf);
                Evidence::Answers(Answer { trouble, process: Some((process, role)), asked_at })
            }
            _ if error == LinkError::TimedOut && self.speaks_plaintext().await => {
                Evidence::Answers(Answer { trouble: Trouble::NotTls, process: None, asked_at })
            }
            _ => match trouble(error.clone()).filter(Trouble::answers) {
                Some(trouble) => Evidence::Answers(Answer { trouble, process: None, asked_at }),
                None => failed(error),
            },
        }
    }

    async fn open_and_listen(&mut self, deadline: Duration) -> (Opened, Option<Result<Spoken, LinkError>>) {
        let (target, opening, anchor) = (&self.target, &mut self.opening, &mut self.anchor);
        let mut opened = pin!(open(target, opening, deadline));
        let mut speaks = pin!(async {
            match anchor.as_mut().filter(|anchor| anchor.proven) {
                Some(anchor) => Some(speak(&mut anchor.link, deadline).await),
                None => None,
            }
        });
        let mut spoken = None;
        let told = loop {
            tokio::select! {
                told = &mut opened => break told,
                heard = &mut speaks, if spoken.is_none() => spoken = Some(heard),
            }
        };
        if told.is_err() && spoken.is_none() {
            let refused = matches!(told, Err(LinkError::Refused));
            let until = if refused { deadline.min(clock::now() + LAST_WORD) } else { deadline };
            spoken = tokio::time::timeout_at(clock::instant(until), speaks).await.ok();
        }
        (told, spoken.flatten())
    }

    /// Keeps a second connection, without a login, to the process that has just reported. If the first one is closed and the
    /// login refused (a password was changed), it shows whether the process is still the same.
    async fn tend_anchor(&mut self, report: &NodeReport) {
        let now = clock::now();
        match &mut self.anchor {
            Some(anchor) if anchor.process == report.run_id() => {
                // Opened before this report was asked for, on the connection that had reported before.
                anchor.proven = true;
                if anchor.spoke + ANCHOR_EVERY <= now {
                    anchor.spoke = now;
                    if speak(&mut anchor.link, now + LAST_WORD).await.is_err() {
                        self.anchor = None;
                    }
                }
            }
            anchor => {
                let dialled = dial(&self.target, now + LAST_WORD).await;
                *anchor = dialled.ok().map(|stream| Anchor {
                    link: Link::over(stream),
                    process: report.run_id(),
                    proven: false,
                    spoke: now,
                });
            }
        }
    }

    /// Redis waits for the end of a line when TLS knocks at its plaintext port.
    async fn speaks_plaintext(&self) -> bool {
        if self.target.tls.is_none() {
            return false;
        }
        let deadline = clock::now() + LAST_WORD;
        let plain = Target { tls: None, login: None, ..self.target.clone() };
        let Ok(mut link) = Link::connect(&plain, deadline).await else { return false };
        matches!(link.command(&[b"PING"], deadline).await, Ok(_) | Err(LinkError::Redis(_)))
    }

    /// True if the file has another password than the one that was refused.
    async fn read_password(&self) -> bool {
        let Some(login) = self.target.login.clone() else { return false };
        match tokio::task::spawn_blocking(move || login.read_again()).await {
            Ok(Ok(changed)) => {
                if changed {
                    tracing::info!(node = self.target.node.0, "the login was refused; the password was read again");
                }
                changed
            }
            Ok(Err(error)) => {
                tracing::debug!(error, "the password cannot be read again");
                false
            }
            Err(_ended) => false,
        }
    }
}

type Opened = Result<Connected, LinkError>;

/// Opens a connection, or goes on with one whose first answers are late: a node that loads its data answers rarely.
async fn open(target: &Target, opening: &mut Option<Opening>, deadline: Duration) -> Opened {
    if opening.as_ref().is_some_and(|old| old.since + OPENS_FOR <= clock::now()) {
        *opening = None;
    }
    if opening.is_none() {
        *opening = Some(Opening::dial(target, deadline).await?);
    }
    let Some(begun) = opening.as_mut() else { return Err(LinkError::TimedOut) };
    let done = begun.finish(deadline).await;
    if done == Err(LinkError::TimedOut) {
        return Err(LinkError::TimedOut);
    }
    let begun = opening.take();
    let (server, loading) = done?;
    let Some(Opening { link, .. }) = begun else { return Err(LinkError::TimedOut) };
    Ok(Connected { link, server, server_asked: clock::now(), loading })
}

impl Opening {
    async fn dial(target: &Target, deadline: Duration) -> Result<Self, LinkError> {
        let mut link = Link::over(dial(target, deadline).await?);
        if let Some(login) = &target.login {
            let password = login.password();
            let user = login.user.as_deref().map(str::as_bytes);
            let args: Vec<&[u8]> = [b"AUTH".as_slice()].into_iter().chain(user).chain([password.expose()]).collect();
            link.send(&args, deadline).await?;
        }
        link.send(&[b"INFO", b"server"], deadline).await?;
        link.send(&[b"INFO", b"persistence"], deadline).await?;
        Ok(Self { link, since: clock::now(), login: target.login.is_some(), server: None })
    }

    async fn finish(&mut self, deadline: Duration) -> Result<(ServerInfo, Option<Loading>), LinkError> {
        if self.login {
            match self.link.reply(deadline).await {
                Ok(_) => {}
                Err(LinkError::Redis(text)) if Login::is_needless(&text) => {}
                Err(LinkError::Redis(text)) => return Err(LinkError::Node(Trouble::from_reply(&text, true))),
                Err(error) => return Err(error),
            }
            self.login = false;
        }
        if self.server.is_none() {
            self.server = Some(server(&self.link.reply(deadline).await?)?);
        }
        let loading = loading(self.link.reply(deadline).await)?;
        self.server.clone().map(|server| (server, loading)).ok_or_else(unintelligible)
    }
}

impl Connected {
    async fn ask(&mut self, deadline: Duration) -> Result<NodeReport, LinkError> {
        // After a long connect the question is younger than the round: what counts is when the node was asked.
        drain(&mut self.link, deadline).await?;
        let asked_at = clock::now();
        let ask_loading = self.loading.is_some();
        if ask_loading {
            self.link.send(&[b"INFO", b"persistence"], deadline).await?;
        }
        let ask_server = asked_at.saturating_sub(self.server_asked) >= SERVER_EVERY;
        if ask_server {
            self.link.send(&[b"INFO", b"server"], deadline).await?;
        }
        self.link.send(&[b"INFO", b"replication"], deadline).await?;
        if ask_loading {
            self.loading = loading(self.link.reply(deadline).await)?;
        }
        if ask_server {
            let answer = self.link.reply(deadline).await?;
            self.server = server(&answer)?;
            self.server_asked = asked_at;
        }
        let answer = self.link.reply(deadline).await?;
        let replication = answer.bytes().and_then(parse_replication).ok_or_else(unintelligible)?;
        Ok(NodeReport { server: self.server.clone(), replication, loading: self.loading, asked_at })
    }
}

/// Has the process at the other end say anything at all, and its role if it can: HELLO needs no permission, and is
/// answered while a script runs. What is still owed comes first.
async fn speak(link: &mut Link, deadline: Duration) -> Result<Spoken, LinkError> {
    drain(link, deadline).await?;
    let asked_at = clock::now();
    match link.command(&[b"HELLO"], deadline).await {
        Ok(reply) => Ok((asked_at, role(&reply))),
        Err(LinkError::Redis(_)) => Ok((asked_at, None)),
        Err(error) => Err(error),
    }
}

/// Reads what is still owed, for earlier questions.
async fn drain(link: &mut Link, deadline: Duration) -> Result<(), LinkError> {
    while link.owed() > 0 {
        match link.reply(deadline).await {
            Ok(_) | Err(LinkError::Redis(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// `role` of HELLO's reply.
fn role(reply: &Reply) -> Option<Role> {
    let Reply::Array(items) = reply else { return None };
    let at = items.iter().position(|item| item.bytes() == Some(b"role"))?;
    match items.get(at + 1)?.bytes()? {
        b"master" => Some(Role::Primary),
        b"replica" | b"slave" => Some(Role::Replica),
        _ => None,
    }
}

/// Whether it has just begun and loads its data. A server that does not say so to this user does not load.
fn loading(answer: Result<Reply, LinkError>) -> Result<Option<Loading>, LinkError> {
    match answer {
        Ok(answer) => Ok(answer.bytes().and_then(parse_loading)),
        Err(LinkError::Redis(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn server(answer: &Reply) -> Result<ServerInfo, LinkError> {
    answer.bytes().and_then(parse_server).ok_or_else(unintelligible)
}

fn unintelligible() -> LinkError {
    LinkError::Node(Trouble::Unintelligible("INFO lacks what it must say".to_owned()))
}

/// What is wrong at the node, if the error says so.
fn trouble(error: LinkError) -> Option<Trouble> {
    match error {
        LinkError::Refused | LinkError::EndOfFile | LinkError::TimedOut => None,
        LinkError::Node(trouble) => Some(trouble),
        LinkError::Redis(text) => Some(Trouble::from_reply(&text, false)),
        LinkError::Failed(why) | LinkError::Protocol(why) => Some(Trouble::Unintelligible(bounded(&why))),
    }
}

/// What a failed poll says about the node.
fn failed(error: LinkError) -> Evidence {
    match error {
        LinkError::Refused => Evidence::Gone(Gone::Refused),
        LinkError::EndOfFile => Evidence::Gone(Gone::EndOfFile),
        LinkError::TimedOut => Evidence::Silent,
        other => match trouble(other) {
            Some(trouble) if trouble.answers() => {
                Evidence::Answers(Answer { trouble, process: None, asked_at: clock::now() })
            }
            Some(trouble) => Evidence::Gone(Gone::Failed(trouble)),
            None => Evidence::Silent,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_looked_into_at_once_and_the_rest_slow_down_to_the_interval() {
        let interval = Duration::from_millis(100);
        let pauses: Vec<_> = (0..9).map(|failures| pause(interval, failures).as_millis()).collect();
        assert_eq!(pauses, [100, 0, 5, 10, 20, 40, 80, 100, 100]);
        assert_eq!(pause(interval, u32::MAX), interval);
        assert_eq!(pause(Duration::from_millis(2), 7), FIRST_PAUSE);
    }
}
