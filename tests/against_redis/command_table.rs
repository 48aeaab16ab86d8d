//! The command table beside the server's own COMMAND: nothing missing, and no class that contradicts a flag.

use std::collections::BTreeMap;

use changeover::protocol::command::{Class, Command, lookup};
use redis_protocol::resp2::types::OwnedFrame;

use super::server::Server;
use super::which::about;

fn items(frame: OwnedFrame) -> Vec<OwnedFrame> {
    match frame {
        OwnedFrame::Array(items) => items,
        other => panic!("not an array: {other:?}"),
    }
}

fn text(frame: &OwnedFrame) -> String {
    match frame {
        OwnedFrame::SimpleString(bytes) | OwnedFrame::BulkString(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("no text: {other:?}"),
    }
}

/// Name (`container|sub` for sub-commands) and flags of everything that COMMAND lists.
fn flags(server: &Server) -> BTreeMap<String, Vec<String>> {
    fn add(entry: OwnedFrame, into: &mut BTreeMap<String, Vec<String>>) {
        let mut fields = items(entry);
        if fields.len() > 9 {
            items(fields.remove(9)).into_iter().for_each(|sub| add(sub, into));
        }
        let flags = items(fields.remove(2)).iter().map(text).collect();
        into.insert(text(&fields[0]), flags);
    }
    let mut all = BTreeMap::new();
    items(server.ask(&["COMMAND"])).into_iter().for_each(|entry| add(entry, &mut all));
    all
}

fn ours(name: &str) -> Option<&'static Command> {
    match name.split_once('|') {
        Some((container, sub)) => lookup(container.as_bytes())?.sub(sub.as_bytes()),
        None => lookup(name.as_bytes()),
    }
}

#[test]
fn the_table_and_the_servers_flags_agree() {
    let server = Server::start();
    let all = flags(&server);
    assert!(all.len() > 200, "COMMAND lists {} commands", all.len());
    // Redis 6.2 shows neither sub-commands nor the flag `blocking`.
    let detailed = all.contains_key("client|setname");
    if !detailed {
        assert!(!about().since(7, 0), "COMMAND shows no sub-commands");
        about().left_out("flags of sub-commands and blocking", "COMMAND shows them from 7.0 on");
    }
    let mut wrong = Vec::new();
    for (name, flags) in &all {
        let has = |flag: &str| flags.iter().any(|f| f == flag);
        // Words of HTTP, at which a server closes the connection; 6.2 lists them.
        if matches!(name.as_str(), "host:" | "post") {
            continue;
        }
        let Some(command) = ours(name) else {
            wrong.push(format!("{name} is not in the table"));
            continue;
        };
        // A container's own class is what an unknown sub-command is taken for; 7.0 and later flag the sub-commands.
        if !command.subs.is_empty() {
            continue;
        }
        let fits = match command.class {
            Class::Read | Class::Scan => has("readonly"),
            Class::Write => has("write"),
            _ => !has("write") && !has("readonly"),
        };
        if !fits {
            wrong.push(format!("{name} is {:?}, the server says {flags:?}", command.class));
        }
        // (7.0 does not flag WAIT.)
        if detailed && command.blocks.is_some() != has("blocking") && name != "wait" {
            wrong.push(format!("{name} blocks: {:?}, the server says {flags:?}", command.blocks));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
