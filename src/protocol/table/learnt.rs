//! What a command that the table does not have is taken for, from the server's own `COMMAND INFO`.
//!
//! A renamed command says its real name there, and is what the table says of that. Of all others (modules, servers
//! newer than the table) only the flags are known, and only plain reads and writes are believed: what may wait, needs
//! a connection of its own, or says anything unusual is taken for the worst.

use super::super::command::{Class, Command, Timeout};
use super::{EMPTY, lookup};

static READ: Command = Command { class: Class::Read, ..EMPTY };
static WRITE: Command = Command { class: Class::Write, ..EMPTY };
static MODULE_READ: Command = Command { own: true, ..READ };
static MODULE_WRITE: Command = Command { own: true, ..WRITE };
static BLOCKING_READ: Command = Command { blocks: Some(Timeout::Unknown), ..READ };
static BLOCKING_WRITE: Command = Command { blocks: Some(Timeout::Unknown), ..WRITE };

/// Flags with which a command is more than a read or a write.
const UNUSUAL: [&str; 5] = ["admin", "pubsub", "noscript", "no_multi", "asking"];

/// What a command is whose entry has this name and these flags; `subs`: it has sub-commands. `None`: the worst case.
pub fn learnt(name: &[u8], flags: &[&str], subs: bool) -> Option<&'static Command> {
    if let Some(known) = lookup(name) {
        // (Where a scan's cursor stands is known by the name.)
        return Some(known).filter(|known| known.class != Class::Scan);
    }
    let has = |flag: &str| flags.contains(&flag);
    let (read, write) = (has("readonly"), has("write"));
    if subs || read == write {
        return None;
    }
    if has("blocking") {
        return Some(if read { &BLOCKING_READ } else { &BLOCKING_WRITE });
    }
    match UNUSUAL.iter().any(|flag| has(flag)) {
        true => None,
        // A module may keep its client waiting without saying so.
        false if has("module") => Some(if read { &MODULE_READ } else { &MODULE_WRITE }),
        false => Some(if read { &READ } else { &WRITE }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(flags: &[&str]) -> Option<(Class, bool, bool)> {
        learnt(b"no.such", flags, false).map(|found| (found.class, found.own, found.blocks.is_some()))
    }

    #[test]
    fn only_plain_reads_and_writes_are_believed() {
        assert_eq!(class(&["readonly", "fast"]), Some((Class::Read, false, false)));
        assert_eq!(class(&["write", "denyoom", "movablekeys"]), Some((Class::Write, false, false)));
        assert_eq!(class(&["readonly", "module"]), Some((Class::Read, true, false)));
        assert_eq!(class(&["write", "module", "denyoom"]), Some((Class::Write, true, false)));
        assert_eq!(class(&["write", "noscript", "blocking"]), Some((Class::Write, false, true)));
        for unusual in [&["readonly", "noscript"][..], &["write", "admin"], &["pubsub"], &[], &["readonly", "write"]] {
            assert_eq!(class(unusual), None, "{unusual:?}");
        }
        assert_eq!(learnt(b"no.such", &["readonly"], true), None);
    }

    #[test]
    fn a_renamed_command_is_what_it_was() {
        assert_eq!(learnt(b"get", &["readonly"], false), lookup(b"GET"));
        assert_eq!(learnt(b"blpop", &[], false), lookup(b"BLPOP"));
        assert_eq!(learnt(b"scan", &["readonly"], false), None);
    }
}
