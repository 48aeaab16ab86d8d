//! Reads the primary's data directly and compares them with the ledgers.
//!
//! It runs while the load is paused, so that nothing moves. Reading is its only job: what counts as lost or doubled
//! is decided in `ledger.rs`.

use std::net::SocketAddr;

use super::ledger::{Findings, Ledger};
use super::redis::{Direct, Value};
use super::wire;

/// Commands in one round trip.
const BATCH: u64 = 500;

/// Compares all ledgers with the data of the primary at `at`.
pub(super) fn compare(at: SocketAddr, ledgers: &[Ledger]) -> Result<Findings, String> {
    let mut direct = Direct::connect(at)?;
    let mut findings = Findings::default();
    for ledger in ledgers {
        findings.add(values(&mut direct, ledger)?);
        findings.add(list_and_counter(&mut direct, ledger)?);
    }
    Ok(findings)
}

fn values(direct: &mut Direct, ledger: &Ledger) -> Result<Findings, String> {
    let Ledger { phase, connection, .. } = ledger;
    let mut findings = Findings::default();
    let mut next = 0;
    while next < ledger.sets.issued {
        let end = ledger.sets.issued.min(next + BATCH);
        let keys: Vec<String> = (next..end).map(|n| format!("k:{phase}:{connection}:{n}")).collect();
        let mut args: Vec<&[u8]> = vec![b"MGET"];
        args.extend(keys.iter().map(String::as_bytes));
        let found = direct.ask(&args)?;
        for (number, value) in (next..end).zip(found.items()) {
            let value = match value {
                Value::Null => None,
                // Anything else than a number is somebody else's value: never equal to `number`.
                other => Some(other.number().and_then(|n| u64::try_from(n).ok()).unwrap_or(u64::MAX)),
            };
            findings.add(ledger.sets.check_value(number, value));
        }
        next = end;
    }
    Ok(findings)
}

fn list_and_counter(direct: &mut Direct, ledger: &Ledger) -> Result<Findings, String> {
    let Ledger { phase, connection, .. } = ledger;
    let mut pipeline = Vec::new();
    wire::command(&mut pipeline, &[b"LRANGE", format!("l:{phase}:{connection}").as_bytes(), b"0", b"-1"]);
    wire::command(&mut pipeline, &[b"GET", format!("c:{phase}:{connection}").as_bytes()]);
    let replies = direct.ask_all(&pipeline, 2)?;
    let [list, counter] = replies.as_slice() else { return Err("a reply is missing".to_owned()) };
    let numbers: Vec<u64> =
        list.items().iter().map(|item| item.number().and_then(|n| u64::try_from(n).ok()).unwrap_or(u64::MAX)).collect();
    let mut findings = ledger.pushes.check_list(&numbers);
    findings.add(ledger.counter.check(counter.number().unwrap_or(0)));
    Ok(findings)
}
