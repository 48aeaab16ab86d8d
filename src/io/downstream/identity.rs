//! A conversation and the register of clients that were told an id: who it is, whom it names, what others tell it.
//!
//! The session asks where clients are before a command that names them goes up; a client that has no upstream of its
//! own at that moment is called to get one, and waited for. A client that was killed by its id is closed here, so that
//! it does not simply go on with another upstream.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use crate::io::register::{Entry, Member, Search, Sign};
use crate::metrics::worker::Counter;
use crate::session::Question;

use super::Conversation;

/// A client that is named gets an upstream within this time, or counts as gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a conversation knows of ids.
#[derive(Default)]
pub(super) struct Ids {
    entry: Entry,
    /// Until when those who are named may take to come.
    until: Option<Duration>,
    /// Whom the CLIENT KILL under way names.
    condemned: Vec<Arc<Member>>,
}

impl Conversation {
    /// Called in each round.
    pub(super) fn follow_ids(&mut self, cx: &Context<'_>) -> bool {
        let now = self.session.whereabouts();
        if now.is_none() && self.ids.until.is_none() && self.session.question().is_none() {
            // The hot path: nobody was told an id, nobody is named.
            self.pass_verdict();
            return false;
        }
        self.ids.entry.follow(&self.worker.register, now, cx.waker());
        self.pass_verdict();
        let heeded = self.heed();
        self.resolve(cx) || heeded
    }

    /// What others have told this conversation.
    fn heed(&mut self) -> bool {
        let Some(member) = self.ids.entry.member().filter(|member| member.any()).cloned() else { return false };
        if member.shows(Sign::Killed) {
            self.ending = Some(Counter::ClosedKilled);
            return true;
        }
        if member.shows(Sign::Void) && self.session.void_cache(&mut self.out) {
            member.lower(Sign::Void);
            return true;
        }
        if member.shows(Sign::Summoned) {
            member.lower(Sign::Summoned);
            self.session.summon(&mut self.out);
            return true;
        }
        false
    }

    /// Answers what the session has to know, once everybody who is named can be found.
    fn resolve(&mut self, cx: &Context<'_>) -> bool {
        let Some(question) = self.session.question() else {
            self.ids.until = None;
            return false;
        };
        if !self.may_send() {
            return false;
        }
        let until = *self.ids.until.get_or_insert(self.now + PATIENCE);
        let mut found = Vec::new();
        let mut members = Vec::new();
        let mark = self.session.upstream_mark();
        for id in &question.ids {
            match self.worker.register.find(*id, mark, cx.waker()) {
                Search::Done(client, member) => {
                    found.push(client);
                    members.extend(member);
                }
                Search::Later if self.now < until => return false,
                Search::Later => found.push(crate::session::Found { told: *id, actual: None }),
            }
        }
        self.ids.until = None;
        self.condemn(&question, members);
        let names = match mark {
            Some(mark) if question.everyone => self.worker.register.names(mark),
            _ => HashMap::new(),
        };
        self.session.answer(&found, names, &mut self.out);
        true
    }

    fn condemn(&mut self, question: &Question, members: Vec<Arc<Member>>) {
        if question.kills {
            self.ids.condemned = members;
            self.ids.condemned.iter().for_each(|member| member.raise(Sign::Condemned));
        }
    }

    /// What its CLIENT KILL, or the loss of its upstream, means for others.
    fn pass_verdict(&mut self) {
        if let Some(count) = self.session.take_verdict() {
            let condemned = std::mem::take(&mut self.ids.condemned);
            let all = usize::try_from(count).is_ok_and(|count| count >= condemned.len());
            for member in condemned {
                match count {
                    0 => member.lower(Sign::Condemned),
                    _ if all => member.raise(Sign::Killed),
                    // Some, and it is not known which: those whose upstream ends.
                    _ => {}
                }
            }
        }
        if let Some(member) = self.session.take_voided().and_then(|told| self.worker.register.member(told)) {
            member.raise(Sign::Void);
        }
    }

    /// The upstream was ended by a CLIENT KILL that names this client, or that came from it and spares nobody.
    pub(super) fn was_killed(&self) -> bool {
        self.session.doomed() || self.ids.entry.member().is_some_and(|member| member.shows(Sign::Condemned))
    }

    /// When those who are named are waited for no longer.
    pub(super) fn ids_deadline(&self) -> Option<Duration> {
        self.ids.until
    }

    /// The conversation is over.
    pub(super) fn leave_register(&mut self) {
        self.ids.entry.leave(&self.worker.register);
    }
}
