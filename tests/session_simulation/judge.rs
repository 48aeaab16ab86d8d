//! Holds every reply against what the client asked and knows; an error that nothing justifies ends the run.
//!
//! What errors may come, and what they say about the command, is `excused`; what the history must say in the end is in
//! `verdict.rs`.

use crate::change::Facts;
use crate::client::{Client, Expect, Fate, Pending, Queue, Window};
use crate::stage::Stage;
use crate::value::{Value, decode, ok};

impl Client {
    /// Takes what came for it.
    pub(crate) fn hear(&mut self, bytes: &[u8], stage: &mut Stage, facts: &Facts) -> Result<(), String> {
        self.inbox.extend(bytes);
        while let Some((value, used)) = decode(&self.inbox) {
            self.inbox.drain(..used);
            let (me, text) = (self.id, format!("{value:?}"));
            stage.tell(|| format!("client {me} hears {text}"));
            if let Err(why) = self.judge(&value, stage, facts) {
                return Err(format!("client {me} heard {value:?}: {why}"));
            }
        }
        Ok(())
    }

    /// What the client has of a reply that will not be completed is a beginning of what the node would have said.
    pub(crate) fn check_half(&self) -> Result<(), String> {
        let large = self.inbox.split(|byte| *byte == b'\n').all(|line| {
            let begins = line.first().is_none_or(|first| b"*$t+:%".contains(first));
            let filled = line.iter().rev().skip_while(|byte| **byte == b'\r').take_while(|byte| **byte == b'x').count();
            begins && (line.len() < 40 || line.len() - filled < 40)
        });
        let strange = [&b"OUTCOMEUNKNOWN"[..], b"LOADING", b"invalidate"]
            .into_iter()
            .any(|word| self.inbox.windows(word.len()).any(|part| part == word));
        if large && !strange { Ok(()) } else { Err(format!("client {} has something else in half a reply", self.id)) }
    }

    fn judge(&mut self, value: &Value, stage: &mut Stage, facts: &Facts) -> Result<(), String> {
        if let Value::Push(items) | Value::Array(items) = value
            && self.is_notice(value, items)
        {
            return self.notice(items, stage);
        }
        if matches!(value, Value::Push(_)) {
            return Err("a push that means nothing".into());
        }
        let Some(pending) = self.waiting.pop_front() else { return Err("nothing was asked".into()) };
        let result = match value {
            Value::Error(_) => self.error(&pending, value, facts),
            _ => self.reply(&pending, value, stage, facts),
        };
        result.map_err(|why| format!("asked {}: {why}", pending.words))
    }

    // ---- pub/sub and invalidations ----

    fn is_notice(&self, value: &Value, items: &[Value]) -> bool {
        if matches!(value, Value::Push(_)) {
            return true;
        }
        let word = match items.first() {
            Some(Value::Bulk(word)) => word.as_slice(),
            _ => return false,
        };
        let asked = matches!(self.waiting.front(), Some(Pending { expect: Expect::Confirm(_), .. }));
        let open = self.windows.iter().any(|window| window.open);
        !self.resp3 && (asked || open) && (word.ends_with(b"message") || word.ends_with(b"subscribe"))
    }

    fn notice(&mut self, items: &[Value], stage: &Stage) -> Result<(), String> {
        let word = items[0].text();
        match word.as_str() {
            "invalidate" => {
                match &items[1] {
                    Value::Null => self.cached.clear(),
                    keys => keys.items().iter().for_each(|key| drop(self.cached.remove(key.text().as_bytes()))),
                }
                return Ok(());
            }
            "message" | "smessage" | "pmessage" => {
                let kind = ["message", "pmessage", "smessage"].iter().position(|known| *known == word).unwrap();
                let (topic, text) = (items[1].text().into_bytes(), items.last().unwrap().text().into_bytes());
                let open = |window: &&mut Window| window.open && window.kind == kind && window.topic == topic;
                let Some(window) = self.windows.iter_mut().find(open) else {
                    return Err("a message without a subscription".into());
                };
                window.heard.push(text);
                return Ok(());
            }
            _ => {}
        }
        let Some(front) = self.waiting.front_mut() else { return Err("a confirmation without a question".into()) };
        let Expect::Confirm(left) = &mut front.expect else { return Err("a confirmation out of turn".into()) };
        *left -= 1;
        let over = *left == 0;
        let kind = match word.as_bytes()[0] {
            b'p' => 1,
            b's' if word.starts_with("ss") || word.starts_with("sun") => 2,
            _ => 0,
        };
        let topic = items[1].text().into_bytes();
        if word.contains("unsub") {
            let mut open = self.windows.iter_mut().filter(|window| window.open && window.kind == kind);
            open.find(|window| window.topic == topic).ok_or("the end of what was not begun")?.open = false;
        } else {
            let from = stage.log.entries.len();
            self.windows.push(Window { kind, topic, heard: Vec::new(), from, until: None, open: true });
        }
        if over {
            self.waiting.pop_front();
        }
        Ok(())
    }

    // ---- errors ----

    /// What an error says about the command; `None` when there is no excuse for it.
    fn excused(pending: &Pending, text: &str, facts: &Facts) -> Option<Fate> {
        let disturbed = facts.bare || facts.killed;
        if text.starts_with("OUTCOMEUNKNOWN ") {
            return (facts.killed && pending.writes).then_some(Fate::Unknown);
        }
        if text.starts_with("LOADING no primary was found in time") {
            return facts.short.then_some(Fate::NotExecuted);
        }
        if text.starts_with("LOADING the primary ") {
            return (pending.large && disturbed).then_some(Fate::NotExecuted);
        }
        None
    }

    fn error(&mut self, pending: &Pending, value: &Value, facts: &Facts) -> Result<(), String> {
        let text = value.text();
        let plain = match &pending.expect {
            Expect::Queued(inner) => inner,
            other => other,
        };
        if let Expect::Error(expected) = plain
            && value.is_error(expected)
        {
            if let (Some(queue), Expect::Queued(_)) = (&mut self.queue, &pending.expect) {
                queue.broken = true;
            }
            return Ok(());
        }
        let no_transaction = self.queue.is_none() && text.contains("without MULTI");
        let aborted = pending.expect == Expect::Exec
            && text.starts_with("EXECABORT Transaction discarded because of previous errors")
            && self.queue.as_ref().map_or(facts.short, |queue| queue.broken);
        let fate = match Self::excused(pending, &text, facts) {
            Some(fate) => fate,
            None if aborted || no_transaction && facts.short => Fate::NotExecuted,
            None => return Err("no excuse for this error".into()),
        };
        match &pending.expect {
            Expect::Exec => self.end_queue(fate),
            Expect::Queued(_) if fate == Fate::Unknown => return Err("a queued command is not unknown".into()),
            Expect::Queued(_) => {
                if let Some(queue) = &mut self.queue {
                    queue.broken = true;
                }
            }
            Expect::Multi => self.queue = None,
            _ => {}
        }
        self.settle(pending, fate);
        Ok(())
    }

    /// EXEC did not run, or nobody knows.
    fn end_queue(&mut self, fate: Fate) {
        self.watched = None;
        for pending in self.queue.take().unwrap_or_default().inner {
            self.settle(&pending, fate);
        }
    }

    /// A command without a result of its own.
    fn settle(&mut self, pending: &Pending, fate: Fate) {
        if let Some(token) = pending.token {
            self.fates[token] = fate;
        }
        if fate == Fate::Unknown {
            self.known.remove(&(pending.db, pending.key.clone()));
        }
    }

    // ---- replies ----

    fn reply(&mut self, pending: &Pending, value: &Value, stage: &mut Stage, facts: &Facts) -> Result<(), String> {
        match &pending.expect {
            Expect::Multi => {
                if *value != ok() {
                    return Err("MULTI is answered OK".into());
                }
                self.queue = Some(Queue::default());
                Ok(())
            }
            Expect::Queued(inner) => {
                let plain = Pending { expect: (**inner).clone(), ..pending.clone() };
                match &mut self.queue {
                    Some(queue) if *value == Value::Simple("QUEUED".into()) => queue.inner.push(plain),
                    None if facts.short => return self.result(&plain, value, facts),
                    _ => return Err("it should have been queued".into()),
                }
                Ok(())
            }
            Expect::Discard => {
                self.end_queue(Fate::NotExecuted);
                (*value == ok()).then_some(()).ok_or("DISCARD is answered OK".into())
            }
            Expect::Exec => self.executed(pending, value, facts),
            Expect::Entries => self.entries(pending, value, stage),
            Expect::Cursor => self.scanned(value),
            Expect::Covered => {
                if value.int() >= 1 {
                    for fate in self.fates.iter_mut().filter(|fate| **fate == Fate::Acknowledged) {
                        *fate = Fate::Safe;
                    }
                }
                Ok(())
            }
            _ => self.result(pending, value, facts),
        }
    }

    fn executed(&mut self, pending: &Pending, value: &Value, facts: &Facts) -> Result<(), String> {
        let watched = self.watched.take();
        if *value == Value::Null {
            if watched.is_none() {
                return Err("a transaction without WATCH failed".into());
            }
            self.end_queue(Fate::NotExecuted);
            return Ok(());
        }
        let Value::Array(items) = value else { return Err("EXEC is answered with an array".into()) };
        let Some(queue) = self.queue.take() else { return Err("no transaction is open".into()) };
        if queue.broken || items.len() != queue.inner.len() {
            return Err(format!(
                "{} results for {} commands, one failed: {}",
                items.len(),
                queue.inner.len(),
                queue.broken
            ));
        }
        let tokens: Vec<usize> = queue.inner.iter().filter_map(|inner| inner.token).collect();
        if let (Some((db, before)), Some(token)) = (watched, tokens.first()) {
            self.succeeded.push((db, before, *token));
        }
        self.transactions.push(tokens);
        for (inner, item) in queue.inner.iter().zip(items) {
            let inner = Pending { era: pending.era, ..inner.clone() };
            self.result(&inner, item, facts).map_err(|why| format!("{} inside: {why}", inner.words))?;
        }
        Ok(())
    }

    /// The first entry behind `$` is the first that was added since.
    fn entries(&mut self, pending: &Pending, value: &Value, stage: &mut Stage) -> Result<(), String> {
        let key = pending.key.clone();
        let since = stage.log.waits.remove(&(pending.db, key.clone()));
        if *value == Value::Null {
            return Ok(());
        }
        let found = value.items()[1].items();
        let id = |text: &str| text.split('-').next().unwrap().parse::<u64>().unwrap();
        let first = id(&found[0].items()[0].text());
        let Some(since) = since else { return Ok(()) };
        let added = stage.log.entries.iter().filter(|entry| entry.db == pending.db).flat_map(|entry| &entry.commands);
        let ids = added.filter(|command| command[0] == b"XADD" && command[1] == key);
        let missed = ids.map(|command| id(&String::from_utf8_lossy(&command[2]))).find(|id| *id > since && *id < first);
        match missed {
            Some(missed) => Err(format!("entry {missed} was missed: waited since {since}")),
            None if first <= since => Err(format!("{first} was there when it asked")),
            None => Ok(()),
        }
    }

    fn scanned(&mut self, value: &Value) -> Result<(), String> {
        let cursor = value.items()[0].text();
        self.seen.extend(value.items()[1].items().iter().map(|key| key.text().into_bytes()));
        if cursor != "0" {
            self.say_next(&format!("SCAN {cursor}"), Expect::Cursor);
            return Ok(());
        }
        let stable = self.seen.iter().filter(|key| key.starts_with(b"stable:")).count();
        if stable == crate::STABLE { Ok(()) } else { Err(format!("the scan saw {stable} of {} keys", crate::STABLE)) }
    }

    /// What it knows of a key of its own, if that is certain.
    fn expected(&self, pending: &Pending, facts: &Facts) -> Option<&Option<Vec<u8>>> {
        let (value, era) = self.known.get(&(pending.db, pending.key.clone()))?;
        (*era == facts.era && pending.era == facts.era).then_some(value)
    }

    fn learn(&mut self, pending: &Pending, value: Option<Vec<u8>>, facts: &Facts) {
        let key = (pending.db, pending.key.clone());
        if pending.era == facts.era {
            self.known.insert(key, (value, facts.era));
        } else {
            self.known.remove(&key);
        }
    }

    /// This is what a later command of the same pipeline writes.
    fn later_write(&self, pending: &Pending, value: &Value) -> bool {
        let writes = |later: &Pending| {
            let written = match &later.expect {
                Expect::Set(written) => written,
                Expect::Queued(inner) if let Expect::Set(written) = &**inner => written,
                _ => return false,
            };
            later.db == pending.db && later.key == pending.key && *value == Value::Bulk(written.clone())
        };
        self.waiting.iter().any(writes)
    }

    fn result(&mut self, pending: &Pending, value: &Value, facts: &Facts) -> Result<(), String> {
        let check = |right: bool, what: &str| if right { Ok(()) } else { Err(format!("expected {what}")) };
        match &pending.expect {
            Expect::Simple("pong") if pending.resp3 => check(value.text() == "PONG", "PONG")?,
            Expect::Simple("pong") => check(value.items()[0].text() == "pong", "pong")?,
            Expect::Simple(text) => check(*value == Value::Simple((*text).into()), text)?,
            Expect::Text(text) if text.is_empty() => check(matches!(value, Value::Bulk(_)), "a text")?,
            Expect::Text(text) => check(*value == Value::Bulk(text.clone()), &String::from_utf8_lossy(text))?,
            Expect::Number => check(matches!(value, Value::Int(_)), "a number")?,
            Expect::Map if pending.resp3 => check(*value == Value::Map(Vec::new()), "an empty map")?,
            Expect::Map => check(*value == Value::Array(Vec::new()), "an empty array")?,
            Expect::Hello => {
                let items = value.items();
                let proto = items.iter().position(|item| *item == Value::from("proto")).map(|at| items[at + 1].int());
                check(proto == Some(if pending.resp3 { 3 } else { 2 }), "the protocol that was asked for")?;
            }
            Expect::Counter | Expect::Append(_) => self.counted(pending, value, facts)?,
            Expect::Set(written) => {
                check(*value == ok(), "OK")?;
                self.learn(pending, Some(written.clone()), facts);
            }
            Expect::Unwatch => {
                check(*value == ok(), "OK")?;
                self.watched = None;
            }
            // Behind a refused write it may have run on the demoted node, and it is not run twice.
            Expect::ReadByScript if facts.bare => check(matches!(value, Value::Bulk(_) | Value::Null), "a text")?,
            // Asked again after a connection was lost, a read may see what its own client wrote behind it.
            Expect::Get if facts.cuts && self.later_write(pending, value) => {}
            Expect::Get | Expect::ReadByScript => return self.got(pending, value, facts),
            Expect::Pop if *value != Value::Null => {
                check(value.items()[0].text() == "q", "an element of q")?;
                let element = match &value.items()[1] {
                    Value::Array(elements) => elements[0].clone(),
                    element => element.clone(),
                };
                self.popped.push(element.text().into_bytes());
            }
            Expect::Moved if *value != Value::Null => self.popped.push(value.text().into_bytes()),
            Expect::Pop | Expect::Moved => {}
            Expect::Caught if *value == Value::from("swallowed") => {
                // Nobody can see that nothing was written; announced changes hold scripts before they are sent.
                check(facts.bare, "a script that ran")?;
                self.settle(pending, Fate::NotExecuted);
                return Ok(());
            }
            Expect::Caught => {
                let token = format!("t{}.{}", self.id, pending.token.unwrap());
                self.learn(pending, Some(token.into_bytes()), facts);
            }
            Expect::Quit => {
                check(*value == ok(), "OK")?;
                self.left = true;
            }
            other => return Err(format!("expected {other:?}")),
        }
        if let Some(token) = pending.token {
            self.fates[token] = Fate::Acknowledged;
        }
        Ok(())
    }

    /// INCR of a number, APPEND to a text of its own.
    fn counted(&mut self, pending: &Pending, value: &Value, facts: &Facts) -> Result<(), String> {
        let number = value.int();
        let known = self.expected(pending, facts).cloned();
        let Expect::Append(token) = &pending.expect else {
            let text = known.map(|text| text.map_or(0, |text| String::from_utf8_lossy(&text).parse().unwrap()));
            if let Some(before) = text.filter(|before: &i64| number != before + 1) {
                return Err(format!("expected {before} + 1"));
            }
            self.increments.entry(pending.db).or_default().0 += 1;
            self.learn(pending, Some(number.to_string().into_bytes()), facts);
            return Ok(());
        };
        let Some(before) = known else {
            self.known.remove(&(pending.db, pending.key.clone()));
            return Ok(());
        };
        let whole = [before.unwrap_or_default(), token.clone()].concat();
        if usize::try_from(number).unwrap() != whole.len() {
            return Err(format!("expected length {}", whole.len()));
        }
        self.learn(pending, Some(whole), facts);
        Ok(())
    }

    fn got(&mut self, pending: &Pending, value: &Value, facts: &Facts) -> Result<(), String> {
        let text = match value {
            Value::Null => None,
            Value::Bulk(text) => Some(text.clone()),
            _ => return Err("expected a text or nothing".into()),
        };
        if pending.key == b"watched" {
            self.watched = Some((pending.db, text));
            return Ok(());
        }
        if let Some(key) = pending.key.strip_prefix(b"cached ") {
            self.cached.insert(key.to_vec(), text);
            return Ok(());
        }
        if let Some(known) = self.expected(pending, facts).filter(|known| **known != text) {
            let known = known.as_ref().map(|text| crate::client::show(text));
            return Err(format!("it knows that this is {known:?}"));
        }
        self.learn(pending, text, facts);
        Ok(())
    }
}
