//! What a client has set on its connection, so that another upstream can be brought into the same state.
//!
//! A command counts once the server has accepted it. AUTH is replayed first and alone: some servers give no reply to a
//! failing AUTH that stands later in a batch. A database that was chosen as another user is chosen as that user again: who
//! came later may not be permitted to. Secrets are cleared on drop.
//!
//! It does not hold subscriptions or transactions, and does not know to whom the preamble goes.

use bytes::BytesMut;
use zeroize::Zeroizing;

use crate::protocol::args::args;
use crate::protocol::command::Connection;
use crate::protocol::encode;

use super::greeting::Greeting;

/// AUTH with its arguments, encoded; none: the user of a connection that never authenticated.
type Secret = Option<Zeroizing<Vec<u8>>>;

/// The replayable state of one connection.
#[derive(Default)]
pub(super) struct ConnectionState {
    protocol: Option<u8>,
    auth: Secret,
    database: u64,
    /// `auth` as it was when the database was chosen.
    chosen_as: Secret,
    name: Option<Vec<u8>>,
    library: Vec<(Vec<u8>, Vec<u8>)>,
    /// Switches whose last accepted form is replayed as it was: tracking, no-evict, no-touch, readonly.
    switches: Vec<(Connection, Vec<u8>)>,
    /// How often its user may have changed.
    logins: u64,
}

/// What sessions that share an upstream have in common.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct LaneKey {
    auth: Secret,
    protocol: Option<u8>,
    database: u64,
    /// As whom the database is chosen, if it is another user.
    chosen_as: Option<Secret>,
}

impl LaneKey {
    /// It is for clients that never logged in.
    pub fn anonymous(&self) -> bool {
        self.auth.is_none()
    }

    /// What a fresh upstream must be told to become such a lane.
    pub fn greeting(&self) -> Option<Greeting> {
        let state = ConnectionState {
            auth: self.auth.clone(),
            protocol: self.protocol,
            database: self.database,
            chosen_as: self.chosen_as.clone().unwrap_or_else(|| self.auth.clone()),
            ..ConnectionState::default()
        };
        Greeting::new(state.preamble(false, None))
    }
}

/// Commands that bring a fresh upstream into a client's state.
#[derive(Default)]
pub(super) struct Preamble {
    /// Each sent alone, and none of them may fail: AUTH. Empty when the client never authenticated.
    pub first: Vec<Zeroizing<Vec<u8>>>,
    /// Sent after that; with this many replies.
    pub rest: BytesMut,
    /// Replies that `rest` will have.
    pub replies: usize,
    /// Confirmations of subscriptions that come after them.
    pub confirmations: usize,
    /// The reply that says what the upstream is called, counted from 1.
    pub id_in: Option<usize>,
    /// The first so many of them must not be errors: without them the client would be somewhere else.
    pub essential: usize,
}

impl Preamble {
    /// A subscription of all `words` but the first, which is the command.
    pub(super) fn subscribe(&mut self, words: &[&[u8]]) {
        encode::command(&mut self.rest, words);
        self.confirmations += words.len().saturating_sub(1);
    }

    /// CLIENT TRACKING … REDIRECT, to the connection that the upstream calls so.
    fn say_redirected(&mut self, command: &[u8], id: u64) {
        let id = id.to_string();
        let mut words: Vec<&[u8]> = args(command).collect();
        let place =
            words.iter().position(|word| word.eq_ignore_ascii_case(b"redirect")).map_or(words.len(), |at| at + 1);
        if let Some(word) = words.get_mut(place) {
            *word = id.as_bytes();
        }
        self.say(&words);
    }

    pub(super) fn say(&mut self, words: &[&[u8]]) {
        encode::command(&mut self.rest, words);
        self.replies += 1;
    }
}

impl ConnectionState {
    /// See [`LaneKey`].
    pub(super) fn lane_key(&self) -> LaneKey {
        let chosen_as = self.chosen_as_another().then(|| self.chosen_as.clone());
        LaneKey { auth: self.auth.clone(), protocol: self.protocol, database: self.database, chosen_as }
    }

    /// The database was chosen as another user. New words of the same one (a token that was renewed) make no difference:
    /// the old ones may be worth nothing any more.
    fn chosen_as_another(&self) -> bool {
        self.database != 0 && user(&self.chosen_as) != user(&self.auth)
    }

    /// How often its user may have changed.
    pub(super) fn logins(&self) -> u64 {
        self.logins
    }

    /// The client has said what its library is called.
    pub(super) fn names_library(&self) -> bool {
        !self.library.is_empty()
    }

    /// A switch is on that belongs to the connection.
    pub(super) fn switched(&self) -> bool {
        !self.switches.is_empty()
    }

    /// RESP3 was agreed on.
    pub(super) fn resp3(&self) -> bool {
        self.protocol == Some(3)
    }

    /// CLIENT TRACKING is on.
    pub(super) fn tracking(&self) -> bool {
        self.switches.iter().any(|(kind, _)| *kind == Connection::Tracking)
    }

    /// The client that invalidations are redirected to, as this client knows it.
    pub(super) fn redirection(&self) -> Option<u64> {
        let (_, command) = self.switches.iter().rfind(|(kind, _)| *kind == Connection::Tracking)?;
        let id = args(command).skip_while(|word| !word.eq_ignore_ascii_case(b"redirect")).nth(1)?;
        std::str::from_utf8(id).ok()?.parse().ok().filter(|id| *id > 0)
    }

    /// Whom the server takes the client for.
    pub(super) fn user(&self) -> &[u8] {
        user(&self.auth)
    }

    /// The server accepted this AUTH.
    pub(super) fn log_in(&mut self, auth: Zeroizing<Vec<u8>>) {
        self.auth = Some(auth);
    }

    /// The server accepted this name; an empty one is none.
    pub(super) fn set_name(&mut self, name: &[u8]) {
        self.name = (!name.is_empty()).then(|| name.to_vec());
    }

    /// The server accepted `command`.
    pub(super) fn accepted(&mut self, kind: Connection, command: &[u8]) {
        let mut words = args(command);
        self.logins += u64::from(matches!(kind, Connection::Auth | Connection::Hello | Connection::Reset));
        match kind {
            Connection::Auth => self.auth = Some(Zeroizing::new(command.to_vec())),
            Connection::Hello => self.hello(words.skip(1)),
            Connection::Select => {
                let number = words.nth(1).and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
                self.database = number.unwrap_or(self.database);
                self.chosen_as.clone_from(&self.auth);
            }
            Connection::SetName => self.set_name(words.nth(2).unwrap_or_default()),
            Connection::SetInfo => {
                if let (Some(key), Some(value)) = (words.nth(2), words.next()) {
                    let key = key.to_ascii_lowercase();
                    self.library.retain(|(known, _)| *known != key);
                    self.library.push((key, value.to_vec()));
                }
            }
            Connection::Reset => {
                let library = std::mem::take(&mut self.library);
                *self = Self { library, logins: self.logins, ..Self::default() };
            }
            Connection::Tracking | Connection::NoEvict | Connection::NoTouch | Connection::ReadOnly => {
                let on =
                    kind == Connection::ReadOnly || words.nth(2).is_some_and(|word| word.eq_ignore_ascii_case(b"on"));
                // Prefixes of one CLIENT TRACKING ON BCAST are added to those of another.
                let adds = on && kind == Connection::Tracking && words.any(|word| word.eq_ignore_ascii_case(b"bcast"));
                self.switches.retain(|(known, said)| *known != kind || adds && said != command);
                if on {
                    self.switches.push((kind, command.to_vec()));
                }
            }
            Connection::ReadWrite => self.switches.retain(|(known, _)| *known != Connection::ReadOnly),
            _ => {}
        }
    }

    /// HELLO [protover [AUTH user secret] [SETNAME name]]; the server has already accepted it.
    fn hello<'a>(&mut self, mut words: impl Iterator<Item = &'a [u8]>) {
        match words.next() {
            Some(b"2") => self.protocol = Some(2),
            Some(b"3") => self.protocol = Some(3),
            _ => return,
        }
        while let Some(word) = words.next() {
            if word.eq_ignore_ascii_case(b"auth") {
                if let (Some(user), Some(secret)) = (words.next(), words.next()) {
                    self.auth = Some(login(user, secret));
                }
            } else if word.eq_ignore_ascii_case(b"setname") {
                self.set_name(words.next().unwrap_or_default());
            }
        }
    }

    /// The replay for a command that no database matters to: while a script runs, the server refuses SELECT, and takes
    /// SCRIPT KILL.
    pub(super) fn preamble_anywhere(&mut self, learn: bool, redirection: Option<u64>) -> Preamble {
        let database = std::mem::take(&mut self.database);
        let preamble = self.preamble(learn, redirection);
        self.database = database;
        preamble
    }

    /// The client has chosen a database.
    pub(super) fn chose(&self) -> bool {
        self.database != 0
    }

    /// What a fresh upstream must be told; `learn`: it is to say what it is called; `redirection`: what it calls the
    /// connection that invalidations go to.
    pub(super) fn preamble(&self, learn: bool, redirection: Option<u64>) -> Preamble {
        let mut preamble = Preamble::default();
        let elsewhere = self.chosen_as_another();
        let mut select = BytesMut::new();
        encode::command(&mut select, &[b"SELECT", self.database.to_string().as_bytes()]);
        if elsewhere {
            preamble.first.extend(self.chosen_as.clone());
            preamble.first.push(Zeroizing::new(select.to_vec()));
        }
        preamble.first.extend(self.auth.clone());
        if let Some(protocol) = self.protocol {
            preamble.say(&[b"HELLO", protocol.to_string().as_bytes()]);
        }
        let chooses = self.database != 0 && !elsewhere;
        if chooses {
            preamble.rest.extend_from_slice(&select);
            preamble.replies += 1;
        }
        let essential = usize::from(self.protocol.is_some()) + usize::from(chooses);
        if let Some(name) = &self.name {
            preamble.say(&[b"CLIENT", b"SETNAME", name]);
        }
        for (key, value) in &self.library {
            preamble.say(&[b"CLIENT", b"SETINFO", key, value]);
        }
        for (kind, command) in &self.switches {
            match redirection.filter(|_| *kind == Connection::Tracking) {
                Some(id) => preamble.say_redirected(command, id),
                None => {
                    preamble.rest.extend_from_slice(command);
                    preamble.replies += 1;
                }
            }
        }
        if learn {
            // HELLO says it, too.
            if self.protocol.is_none() {
                preamble.say(&[b"CLIENT", b"ID"]);
            }
            preamble.id_in = Some(if self.protocol.is_some() { 1 } else { preamble.replies });
        }
        preamble.essential = essential;
        preamble
    }
}

/// AUTH, encoded.
pub(super) fn login(user: &[u8], secret: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut encoded = BytesMut::new();
    encode::command(&mut encoded, &[b"AUTH", user, secret]);
    let login = Zeroizing::new(encoded.to_vec());
    encoded.fill(0);
    login
}

/// The user that an AUTH is about; AUTH with a password only is about the default user.
fn user(secret: &Secret) -> &[u8] {
    let Some(command) = secret else { return b"default" };
    let mut words = args(command).skip(1);
    match (words.next(), words.next()) {
        (Some(user), Some(_)) => user,
        _ => b"default",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Vec<u8> {
        let mut out = BytesMut::new();
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        encode::command(&mut out, &words);
        out.to_vec()
    }

    fn text(bytes: &[u8]) -> Vec<String> {
        let joined = String::from_utf8_lossy(bytes).into_owned();
        joined.split("\r\n").filter(|word| !word.starts_with(['*', '$']) && !word.is_empty()).map(Into::into).collect()
    }

    #[test]
    fn everything_that_was_accepted_is_replayed_with_auth_first_and_alone() {
        let mut state = ConnectionState::default();
        let hello = command(&["HELLO", "3", "AUTH", "u", "p", "SETNAME", "app"]);
        state.accepted(Connection::Hello, &hello);
        state.accepted(Connection::Select, &command(&["SELECT", "2"]));
        state.accepted(Connection::SetInfo, &command(&["CLIENT", "SETINFO", "LIB-NAME", "x"]));
        state.accepted(Connection::SetInfo, &command(&["CLIENT", "SETINFO", "lib-name", "y"]));
        state.accepted(Connection::Tracking, &command(&["CLIENT", "TRACKING", "ON", "NOLOOP"]));
        let preamble = state.preamble(false, None);
        assert_eq!(preamble.first.iter().map(|alone| text(alone)).collect::<Vec<_>>(), [["AUTH", "u", "p"]]);
        let words = text(&preamble.rest).join(" ");
        let expected = "HELLO 3 SELECT 2 CLIENT SETNAME app CLIENT SETINFO lib-name y CLIENT TRACKING ON NOLOOP";
        assert_eq!((words.as_str(), preamble.replies), (expected, 5));
    }

    #[test]
    fn a_database_that_was_chosen_as_another_user_is_chosen_as_that_user_again() {
        let first = |state: &ConnectionState| -> Vec<_> {
            assert!(state.lane_key().greeting().is_some());
            state.preamble(false, None).first.iter().map(|alone| text(alone).join(" ")).collect()
        };
        let mut state = ConnectionState::default();
        state.accepted(Connection::Select, &command(&["SELECT", "9"]));
        assert!(first(&state).is_empty() && state.preamble(false, None).essential == 1);
        let before = state.lane_key();
        state.accepted(Connection::Auth, &command(&["AUTH", "few", "p"]));
        assert_eq!(first(&state), ["SELECT 9", "AUTH few p"]);
        assert_eq!((state.preamble(false, None).replies, state.preamble(false, None).essential), (0, 0));
        assert!(state.lane_key() != before && state.lane_key().chosen_as == Some(None));
        state.accepted(Connection::Auth, &command(&["AUTH", "many", "p"]));
        state.accepted(Connection::Select, &command(&["SELECT", "8"]));
        state.accepted(Connection::Auth, &command(&["AUTH", "many", "renewed"]));
        assert_eq!(first(&state), ["AUTH many renewed"]);
        assert_eq!((state.preamble(false, None).essential, state.lane_key().chosen_as), (1, None));
        state.accepted(Connection::Auth, &command(&["AUTH", "few", "p"]));
        assert_eq!(first(&state), ["AUTH many p", "SELECT 8", "AUTH few p"]);
        state.accepted(Connection::Select, &command(&["SELECT", "0"]));
        assert_eq!(first(&state), ["AUTH few p"]);
    }

    #[test]
    fn reset_forgets_all_but_the_library() {
        let mut state = ConnectionState::default();
        state.accepted(Connection::Auth, &command(&["AUTH", "secret"]));
        state.accepted(Connection::Select, &command(&["SELECT", "7"]));
        state.accepted(Connection::SetInfo, &command(&["CLIENT", "SETINFO", "LIB-VER", "1"]));
        state.accepted(Connection::Reset, &command(&["RESET"]));
        let preamble = state.preamble(false, None);
        assert!(preamble.first.is_empty());
        assert_eq!(text(&preamble.rest).join(" "), "CLIENT SETINFO lib-ver 1");
    }

    #[test]
    fn a_switch_that_was_turned_off_again_is_not_replayed() {
        let mut state = ConnectionState::default();
        state.accepted(Connection::NoEvict, &command(&["CLIENT", "NO-EVICT", "ON"]));
        state.accepted(Connection::NoEvict, &command(&["CLIENT", "NO-EVICT", "off"]));
        assert_eq!(state.preamble(false, None).replies, 0);
    }
}
