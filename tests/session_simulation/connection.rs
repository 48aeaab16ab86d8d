//! Commands that are about the connection: who it is, what it speaks, whom it watches.

use crate::keyspace::{Reply, Words, bulk};
use crate::redis::{Conn, Node, Silent};

impl Node {
    /// `None`: it is not about the connection; `Some(None)`: it is, and has no reply.
    pub(crate) fn about_connection(&mut self, id: u64, name: &str, command: &Words) -> Option<Option<Reply>> {
        let resp3_before = self.conns.get(&id)?.resp3;
        let (process, primary) = (self.process, self.primary);
        let conn = self.conns.get_mut(&id)?;
        let second = command.get(1).map(|word| String::from_utf8_lossy(word).to_uppercase()).unwrap_or_default();
        let ok = Some(Reply::Simple("OK"));
        let subscribed = conn.topics.iter().any(|topics| !topics.is_empty());
        Some(match (name, second.as_str()) {
            ("PING", _) if subscribed && !resp3_before => Some(Reply::Array(vec![bulk("pong"), bulk("")])),
            ("PING", _) => Some(Reply::Simple("PONG")),
            ("ECHO", _) => Some(bulk(&command[1])),
            ("SELECT", _) => {
                conn.db = second.parse().unwrap();
                ok
            }
            ("AUTH", _) => login(conn, &command[1], &command[2]).map_or(ok, |wrong| Some(Reply::Error(wrong))),
            ("HELLO", version) => {
                conn.resp3 = version == "3";
                let role = if primary { "master" } else { "replica" };
                let fields = [
                    ("server", bulk("redis")),
                    ("version", bulk("7.0.15")),
                    ("proto", Reply::Int(if conn.resp3 { 3 } else { 2 })),
                ];
                let more = [
                    ("id", Reply::Int(usize::try_from(id).unwrap())),
                    ("mode", bulk("standalone")),
                    ("role", bulk(role)),
                ];
                let fields = fields.into_iter().chain(more).chain([("modules", Reply::Array(Vec::new()))]);
                Some(Reply::Map(fields.flat_map(|(name, value)| [bulk(name), value]).collect()))
            }
            ("ACL", "WHOAMI") => Some(bulk(&conn.user)),
            ("CLIENT", _) => about_client(conn, &second, command, id + (process << 32)),
            ("WATCH", _) => {
                conn.watch.push((conn.db, command[1].clone()));
                ok
            }
            ("UNWATCH", _) => {
                (conn.watch, conn.dirty) = (Vec::new(), false);
                ok
            }
            ("QUIT", _) => {
                conn.closed = true;
                ok
            }
            ("RESET", _) => {
                let (input, output) = (std::mem::take(&mut conn.input), std::mem::take(&mut conn.output));
                *conn = Conn { input, output, user: b"default".to_vec(), ..Conn::default() };
                Some(Reply::Simple("RESET"))
            }
            _ => return None,
        })
    }
}

fn login(conn: &mut Conn, user: &[u8], secret: &[u8]) -> Option<String> {
    if secret != [b"secret-of-", user].concat() {
        return Some("WRONGPASS invalid username-password pair or user is disabled.".into());
    }
    conn.user = user.to_vec();
    None
}

/// CLIENT's sub-commands.
fn about_client(conn: &mut Conn, word: &str, command: &Words, id: u64) -> Option<Reply> {
    let ok = Some(Reply::Simple("OK"));
    match word {
        "SETNAME" => {
            conn.name.clone_from(&command[2]);
            ok
        }
        "GETNAME" => Some(bulk(&conn.name)),
        "ID" => Some(Reply::Int(usize::try_from(id).unwrap())),
        "TRACKING" => {
            conn.tracking = command[2].eq_ignore_ascii_case(b"on");
            conn.tracked.clear();
            ok
        }
        "REPLY" => {
            let on = command[2].eq_ignore_ascii_case(b"on");
            conn.silent = match command[2].to_ascii_lowercase().as_slice() {
                b"on" => Silent::No,
                b"skip" => Silent::Next,
                _ => Silent::Off,
            };
            if on { ok } else { None }
        }
        _ => ok,
    }
}
