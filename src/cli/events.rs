//! `changeover events`: what happened to this process and its pair: changes, holds, drains, doubts.

use std::process::ExitCode;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::operator::{self, Ended, Reach, Verdict};
use crate::cli::show::{count, say, time};
use crate::io::admin::events::{AdminEvent, What};

/// Show what happened: changes of primary, holds, drains, doubts
#[derive(Debug, clap::Args)]
#[command(after_help = operator::EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    reach: Reach,
    /// The newest N; without it, all that the process still knows (256 at most)
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    /// Go on with those that come, until the process ends
    #[arg(long, short)]
    follow: bool,
    /// Print each as a line of JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> ExitCode {
    operator::run(events(&args))
}

async fn events(args: &Args) -> Ended {
    let zone = TimeZone::system();
    let show = |event: &AdminEvent| match args.json {
        true => say(&(serde_json::to_string(event).unwrap_or_default() + "\n")),
        false => say(&line(event, &zone)),
    };
    args.reach.client()?.events(args.last, args.follow, show).await?;
    Ok(Verdict::Yes)
}

fn line(event: &AdminEvent, zone: &TimeZone) -> String {
    let at = i64::try_from(event.at_unix_ms).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    let at = at.unwrap_or_default().to_zoned(zone.clone());
    format!("{}  {}\n", at.strftime("%Y-%m-%d %H:%M:%S%.3f"), words(&event.what))
}

fn words(what: &What) -> String {
    let some = |name: &Option<String>| name.clone().unwrap_or_else(|| "?".to_owned());
    match what {
        What::Following { primary, epoch } => format!("following {primary} (epoch {epoch})"),
        What::Changed { kind, from, to, took_ms, lost_bytes, .. } => {
            let lost = match lost_bytes {
                Some(0) => String::new(),
                Some(bytes) => format!(", {} bytes LOST", count(*bytes)),
                None => ", unknown whether anything was lost".to_owned(),
            };
            format!("changed: {} → {to} ({}, {}{lost})", some(from), kind.name(), time(*took_ms))
        }
        What::Felt { kind, longest_stall_ms } => {
            format!("clients went on ({}): the longest wait was {}", kind.name(), time(*longest_stall_ms))
        }
        What::NoPrimary { was, why } => format!("no primary (it was {was}): {why}; requests are held"),
        What::HoldBegan { by, for_ms } => format!("hold ordered by {by}, for {for_ms} ms at most"),
        What::HoldEnded { by, lasted_ms, how } => format!("hold of {by} over after {}: {how}", time(*lasted_ms)),
        What::SwitchoverEnded { outcome, from, to, took_ms, stopped } => {
            let outcome = serde_json::to_string(outcome).unwrap_or_default();
            let why = stopped.as_ref().map(|at| format!(", at \"{}\": {}", at.step, at.why)).unwrap_or_default();
            let outcome = outcome.trim_matches('"');
            format!("switchover {} → {}: {outcome} after {}{why}", some(from), some(to), time(*took_ms))
        }
        What::Doubt { why } => format!("DOUBT: {why}; decide with `changeover adopt NODE`"),
        What::DoubtEnded => "the doubt is over".to_owned(),
        What::SecondPrimary { node } => format!("{node} says that it is primary as well; it gets no traffic"),
        What::NodeTrouble { node, why, remedy } => format!("{node}: {why}; {remedy}"),
        What::NodeWell { node } => format!("{node} answers as it should"),
        What::Adopted { node } => format!("an operator adopted {node}"),
        What::Failover { node, step } => format!("failover: {node}: {step}"),
        What::DrainBegan { why, open, deadline_ms } => {
            format!("draining ({why}): {} connections, {deadline_ms} ms at most", count(*open))
        }
        What::Drained { closed, cut, took_ms } => {
            format!("drained in {}: {} closed between commands, {} cut", time(*took_ms), count(*closed), count(*cut))
        }
        What::Reloaded { error: None } => "certificates were read again".to_owned(),
        What::Reloaded { error: Some(error) } => format!("reload refused: {error}"),
        What::Unknown => "an event that this version does not know (--json shows it)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_with_its_time() {
        let what = What::HoldEnded { by: "a-1".into(), lasted_ms: 3.2, how: "switched".into() };
        let event = AdminEvent { seq: 1, at_unix_ms: 1_700_000_000_123, what };
        assert_eq!(line(&event, &TimeZone::UTC), "2023-11-14 22:13:20.123  hold of a-1 over after 3.20 ms: switched\n");
    }
}
