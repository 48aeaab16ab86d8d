//! From a name as it was sent to its line in the table, in a few nanoseconds and without an allocation.
//!
//! A name becomes a key of two words and its length; equal keys mean equal names up to 16 bytes (longer ones are
//! compared once more). The hash table is built by the compiler, with linear probing and at most half full.

use super::super::command::{Class, Command};
use super::{COMMANDS, Row, TOTAL};

/// What a name has become. Case is folded for letters only, so that no other byte is taken for one of a name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    low: u64,
    high: u64,
    len: usize,
}

const SLOTS: usize = 1024;
const _: () = assert!(TOTAL * 2 <= SLOTS, "more slots are needed");

/// Key and place in the table; a length of 0 is a free slot.
static INDEX: [(Key, u16); SLOTS] = build();

/// The command of that name, whatever its case.
#[inline]
pub fn lookup(name: &[u8]) -> Option<&'static Command> {
    let key = key(name);
    let mut slot = key.slot();
    loop {
        let (found, at) = INDEX.get(slot)?;
        if found.len == 0 {
            return None;
        }
        if *found == key {
            let command = COMMANDS.get(usize::from(*at))?;
            if name.len() <= 16 || command.name.as_bytes().eq_ignore_ascii_case(name) {
                return Some(command);
            }
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// The first eight bytes and the last eight, which overlap in names under 16; shorter names likewise by four, or by one.
#[inline]
const fn key(name: &[u8]) -> Key {
    let (low, high) = if let (Some(first), Some(last)) = (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        (u32::from_le_bytes(*first) as u64 | ((u32::from_le_bytes(*last) as u64) << 32), 0)
    } else {
        match name {
            [a, b, c] => (*a as u64 | ((*b as u64) << 8) | ((*c as u64) << 16), 0),
            [a, b] => (*a as u64 | ((*b as u64) << 8), 0),
            [a] => (*a as u64, 0),
            _ => (0, 0),
        }
    };
    Key { low: upper(low), high: upper(high), len: name.len() }
}

impl Key {
    #[inline]
    const fn slot(self) -> usize {
        let mixed = (self.low ^ self.high.rotate_left(29) ^ self.len as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 54) as usize % SLOTS
    }
}

/// `a` to `z` become `A` to `Z` in all eight bytes at once; every other byte stays.
#[inline]
const fn upper(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    // Without their top bits no byte carries into its neighbour; the sums' top bits then say "at least a", "above z".
    let low = word & !TOPS;
    let from_a = low + ONES * (0x80 - b'a' as u64);
    let above_z = low + ONES * (0x7f - b'z' as u64);
    let letters = (from_a & !above_z) & TOPS & !word;
    word & !(letters >> 2)
}

const fn build() -> [(Key, u16); SLOTS] {
    let mut index = [(Key { low: 0, high: 0, len: 0 }, 0); SLOTS];
    let mut at = 0;
    while at < TOTAL {
        let key = key(COMMANDS[at].name.as_bytes());
        let mut slot = key.slot();
        while index[slot].0.len != 0 {
            slot = (slot + 1) % SLOTS;
        }
        index[slot] = (key, at as u16);
        at += 1;
    }
    index
}

pub(super) const EMPTY: Command = Command { name: "", class: Class::Admin, blocks: None, own: false, subs: &[] };

/// Names in the rows.
pub(super) const fn count(rows: &[Row]) -> usize {
    let (mut total, mut row) = (0, 0);
    while row < rows.len() {
        let mut text = rows[row].1;
        while let Some((_, rest)) = word(text) {
            total += 1;
            text = rest;
        }
        row += 1;
    }
    total
}

/// One command for each name in the rows.
pub(super) const fn fill<const N: usize>(rows: &'static [Row]) -> [Command; N] {
    let mut commands = [EMPTY; N];
    let (mut filled, mut row) = (0, 0);
    while row < rows.len() {
        let (class, mut text) = rows[row];
        while let Some((name, rest)) = word(text) {
            commands[filled] = Command { name, class, ..EMPTY };
            filled += 1;
            text = rest;
        }
        row += 1;
    }
    commands
}

/// Both parts of the table in one.
pub(super) const fn join<const PART: usize, const N: usize>(part: [Command; PART], rest: &[Command]) -> [Command; N] {
    let mut all = [EMPTY; N];
    let mut at = 0;
    while at < N {
        all[at] = if at < PART { part[at] } else { rest[at - PART] };
        at += 1;
    }
    all
}

/// The first word of `text` and what follows it.
const fn word(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let mut from = 0;
    while from < bytes.len() && bytes[from].is_ascii_whitespace() {
        from += 1;
    }
    let mut to = from;
    while to < bytes.len() && !bytes[to].is_ascii_whitespace() {
        to += 1;
    }
    if from == to {
        return None;
    }
    let (head, rest) = text.split_at(to);
    let (_, word) = head.split_at(from);
    Some((word, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_whatever_its_case() {
        for command in &COMMANDS {
            let name = command.name;
            assert_eq!(name, name.to_ascii_uppercase());
            for spelt in
                [name.to_owned(), name.to_ascii_lowercase(), format!("{}{}", &name[..1], name[1..].to_lowercase())]
            {
                assert_eq!(lookup(spelt.as_bytes()).map(|c| c.name), Some(name), "{spelt} (twice in the table?)");
            }
        }
    }

    #[test]
    fn nothing_else_is_found() {
        for command in &COMMANDS {
            let name = command.name.as_bytes();
            for at in 0..name.len() {
                for bit in 0..8 {
                    let mut other = name.to_vec();
                    other[at] ^= 1 << bit;
                    let found = lookup(&other).map(|c| c.name.as_bytes());
                    assert!(found.is_none_or(|found| found.eq_ignore_ascii_case(&other)), "{other:?} is not {found:?}");
                }
            }
            let longer = [name, b"X"].concat();
            assert!(lookup(&longer).is_none_or(|c| c.name.as_bytes() == longer));
            assert!(lookup(&name[1..]).is_none_or(|c| c.name.as_bytes() == &name[1..]));
        }
        for name in [&b""[..], b"\0", b"\0\0\0", b"POST", b"Host:", b"GEORADIUSBYMEMBER_RX", &[b'A'; 1000]] {
            assert_eq!(lookup(name), None);
        }
    }

    #[test]
    fn folding_is_what_the_standard_library_does() {
        for byte in 0..=u8::MAX {
            let word = u64::from_le_bytes([byte, b'z', byte, b'a', 0xff, byte, b'{', byte]);
            assert_eq!(upper(word).to_le_bytes().to_vec(), word.to_le_bytes().to_ascii_uppercase());
        }
    }

    #[test]
    fn probes_are_short() {
        let longest = COMMANDS.iter().map(|command| {
            let key = key(command.name.as_bytes());
            (0..SLOTS).find(|step| INDEX[(key.slot() + step) % SLOTS].0 == key)
        });
        assert!(longest.max().flatten().is_some_and(|longest| longest <= 8));
    }
}
