//! The data of one node, and what commands do to them; replies as Redis words them.
//!
//! It knows no connections and no roles. Every change comes with the words that make the same change on a replica.

use std::collections::{BTreeMap, VecDeque};

/// A command, word by word.
pub(crate) type Words = Vec<Vec<u8>>;

/// A reply before it is put into the connection's protocol.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Simple(&'static str),
    Error(String),
    Int(usize),
    Bulk(Vec<u8>),
    Null,
    NullArray,
    Array(Vec<Reply>),
    Map(Vec<Reply>),
    Push(Vec<Reply>),
}

impl Reply {
    pub(crate) fn write(&self, resp3: bool, out: &mut Vec<u8>) {
        let (head, items) = match self {
            Self::Simple(text) => return out.extend(format!("+{text}\r\n").bytes()),
            Self::Error(text) => return out.extend(format!("-{text}\r\n").bytes()),
            Self::Int(number) => return out.extend(format!(":{number}\r\n").bytes()),
            Self::Null | Self::NullArray if resp3 => return out.extend(b"_\r\n"),
            Self::Null => return out.extend(b"$-1\r\n"),
            Self::NullArray => return out.extend(b"*-1\r\n"),
            Self::Bulk(bytes) => {
                out.extend(format!("${}\r\n", bytes.len()).bytes());
                out.extend(bytes);
                return out.extend(b"\r\n");
            }
            Self::Array(items) => (format!("*{}\r\n", items.len()), items),
            Self::Map(items) if resp3 => (format!("%{}\r\n", items.len() / 2), items),
            Self::Push(items) if resp3 => (format!(">{}\r\n", items.len()), items),
            Self::Map(items) | Self::Push(items) => (format!("*{}\r\n", items.len()), items),
        };
        out.extend(head.bytes());
        items.iter().for_each(|item| item.write(resp3, out));
    }
}

pub(crate) fn words(text: &str) -> Words {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

pub(crate) fn bulk(text: impl AsRef<[u8]>) -> Reply {
    Reply::Bulk(text.as_ref().to_vec())
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(Vec<u8>),
    List(VecDeque<Vec<u8>>),
    Stream(Vec<(u64, Vec<u8>)>),
}

/// What a command did.
pub(crate) struct Done {
    pub(crate) reply: Reply,
    /// The same change, for a replica; none if nothing changed.
    pub(crate) effect: Option<Words>,
    pub(crate) touched: Vec<Vec<u8>>,
}

fn read(reply: Reply) -> Option<Done> {
    Some(Done { reply, effect: None, touched: Vec::new() })
}

pub(crate) fn is_write(name: &str) -> bool {
    matches!(name, "SET" | "INCR" | "APPEND" | "RPUSH" | "LPOP" | "LMOVE" | "XADD")
        || matches!(name, "BLPOP" | "BRPOP" | "BLMOVE" | "BLMPOP")
}

/// Only the databases of one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keyspace(pub(crate) [BTreeMap<Vec<u8>, Value>; 2]);

impl Keyspace {
    pub(crate) fn text(&self, db: usize, key: &[u8]) -> Option<&Vec<u8>> {
        match self.0[db].get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn last_id(&self, db: usize, key: &[u8]) -> u64 {
        match self.0[db].get(key) {
            Some(Value::Stream(entries)) => entries.last().map_or(0, |entry| entry.0),
            _ => 0,
        }
    }

    fn list(&mut self, db: usize, key: &[u8]) -> &mut VecDeque<Vec<u8>> {
        let value = self.0[db].entry(key.to_vec()).or_insert_with(|| Value::List(VecDeque::new()));
        match value {
            Value::List(list) => list,
            other => panic!("{key:?} is no list: {other:?}"),
        }
    }

    /// A reading or writing command; `None` when it would block. `process` orders a scan.
    pub(crate) fn run(&mut self, db: usize, command: &Words, now: u64, process: u64) -> Option<Done> {
        let name = String::from_utf8_lossy(&command[0]).to_uppercase();
        let key = command.get(1).cloned().unwrap_or_default();
        match name.as_str() {
            "GET" => read(self.text(db, &key).map_or(Reply::Null, bulk)),
            "LLEN" => read(Reply::Int(self.list(db, &key).len())),
            "HGETALL" => read(Reply::Map(Vec::new())),
            "SCAN" => read(self.scan(db, command, process)),
            "XREVRANGE" => read(match self.0[db].get(&key) {
                Some(Value::Stream(entries)) if !entries.is_empty() => {
                    Reply::Array(vec![entry(entries.last().unwrap())])
                }
                _ => Reply::Array(Vec::new()),
            }),
            "XREAD" => self.xread(db, command),
            "BLPOP" | "BRPOP" => self.pop(db, &name, key, command),
            "BLMPOP" => self.pop(db, &name, command[3].clone(), command),
            _ => self.write(db, &name, key, command, now),
        }
    }

    fn write(&mut self, db: usize, name: &str, key: Vec<u8>, command: &Words, now: u64) -> Option<Done> {
        let mut effect = command.clone();
        let mut touched = vec![key.clone()];
        let reply = match name {
            "SET" => {
                self.0[db].insert(key, Value::Text(command[2].clone()));
                Reply::Simple("OK")
            }
            "INCR" => {
                let before = self.text(db, &key).map_or(0, |text| String::from_utf8_lossy(text).parse().unwrap());
                self.0[db].insert(key, Value::Text((before + 1).to_string().into_bytes()));
                Reply::Int(before + 1)
            }
            "APPEND" => {
                let mut text = self.text(db, &key).cloned().unwrap_or_default();
                text.extend(&command[2]);
                let len = text.len();
                self.0[db].insert(key, Value::Text(text));
                Reply::Int(len)
            }
            "RPUSH" => {
                let list = self.list(db, &key);
                list.extend(command[2..].iter().cloned());
                Reply::Int(list.len())
            }
            "LPOP" => match self.list(db, &key).pop_front() {
                Some(element) => bulk(element),
                None => return read(Reply::Null),
            },
            "BLMOVE" | "LMOVE" => {
                let element = match self.list(db, &key).pop_front() {
                    Some(element) => element,
                    None if name == "LMOVE" => return read(Reply::Null),
                    None => return None,
                };
                self.list(db, &command[2]).push_back(element.clone());
                touched.push(command[2].clone());
                effect = words("LMOVE");
                effect.extend(command[1..5].iter().cloned());
                bulk(element)
            }
            "XADD" => {
                let last = self.last_id(db, &key);
                let given = String::from_utf8_lossy(&command[2]).split('-').next().unwrap().parse();
                let id = given.unwrap_or_else(|_| now.max(last + 1));
                effect[2] = format!("{id}-0").into_bytes();
                let stream = self.0[db].entry(key).or_insert_with(|| Value::Stream(Vec::new()));
                let Value::Stream(entries) = stream else { panic!("no stream") };
                entries.push((id, command[4].clone()));
                bulk(format!("{id}-0"))
            }
            other => return read(Reply::Error(format!("ERR unknown command '{other}'"))),
        };
        Some(Done { reply, effect: Some(effect), touched })
    }

    fn pop(&mut self, db: usize, name: &str, key: Vec<u8>, command: &Words) -> Option<Done> {
        let back = name == "BRPOP" || command.last().is_some_and(|word| word.eq_ignore_ascii_case(b"RIGHT"));
        let list = self.list(db, &key);
        let element = if back { list.pop_back() } else { list.pop_front() }?;
        let side = if back { "RPOP" } else { "LPOP" };
        let reply = match name {
            "BLMPOP" => vec![bulk(&key), Reply::Array(vec![bulk(element)])],
            _ => vec![bulk(&key), bulk(element)],
        };
        let effect = Some(vec![side.as_bytes().to_vec(), key.clone()]);
        Some(Done { reply: Reply::Array(reply), effect, touched: vec![key] })
    }

    /// XREAD [COUNT n] [BLOCK ms] STREAMS key id
    fn xread(&self, db: usize, command: &Words) -> Option<Done> {
        let [.., key, id] = command.as_slice() else { return read(Reply::Error("ERR syntax error".into())) };
        if id.as_slice() == b"$" {
            return None;
        }
        let after: u64 = String::from_utf8_lossy(id).split('-').next().unwrap().parse().unwrap();
        let Some(Value::Stream(entries)) = self.0[db].get(key) else { return None };
        let found: Vec<Reply> = entries.iter().filter(|known| known.0 > after).map(entry).collect();
        if found.is_empty() {
            return None;
        }
        read(Reply::Map(vec![bulk(key), Reply::Array(found)]))
    }

    /// The order depends on the process; so does the meaning of the cursor: so many keys were shown.
    fn scan(&self, db: usize, command: &Words, process: u64) -> Reply {
        let cursor: usize = String::from_utf8_lossy(&command[1]).parse().unwrap();
        let mut keys: Vec<(u64, &Vec<u8>)> = self.0[db].keys().map(|key| (hash(key, process), key)).collect();
        keys.sort_unstable();
        // The cursor is a place in the order of hashes, so that new keys move nothing.
        let from = cursor as u64;
        let shown: Vec<_> = keys.iter().filter(|key| key.0 >= from).take(4).collect();
        let next = keys.iter().filter(|key| key.0 >= from).nth(4).map_or(0, |key| key.0);
        Reply::Array(vec![bulk(next.to_string()), Reply::Array(shown.iter().map(|key| bulk(key.1)).collect())])
    }
}

/// Never 0, below 2^32.
fn hash(key: &[u8], process: u64) -> u64 {
    let seed = 0xcbf2_9ce4_8422_2325 ^ process.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = key.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    (hash >> 32) | 1
}

fn entry(entry: &(u64, Vec<u8>)) -> Reply {
    Reply::Array(vec![bulk(format!("{}-0", entry.0)), Reply::Array(vec![bulk("f"), bulk(&entry.1)])])
}

/// The effect of a pop, as a replica applies it.
pub(crate) fn apply_pop(keyspace: &mut Keyspace, db: usize, command: &Words) -> Option<Vec<u8>> {
    let list = keyspace.list(db, &command[1]);
    if command[0] == b"RPOP" { list.pop_back() } else { list.pop_front() }
}
