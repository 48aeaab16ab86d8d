//! When a rollout may begin a node: `SUN 02:00 for 5h Europe/Berlin`.
//!
//! Calendar arithmetic only; what the time is now comes in as an argument. Invariant: a window begins at the same time
//! on the wall clock on both sides of a clock change, and lasts its whole length; a beginning that the clock skips is
//! where the clock goes on, one that comes twice is the first.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, Zoned};

const EXAMPLE: &str = "expected DAYS HH:MM for TIME [ZONE], such as \"SUN 02:00 for 5h Europe/Berlin\", \
                       \"MON-FRI,SUN 23:30 for 90m\" or \"daily 03:00 for 2h\"";

/// The names of the days, Monday first.
const DAYS: [(&str, Weekday); 7] = [
    ("MON", Weekday::Monday),
    ("TUE", Weekday::Tuesday),
    ("WED", Weekday::Wednesday),
    ("THU", Weekday::Thursday),
    ("FRI", Weekday::Friday),
    ("SAT", Weekday::Saturday),
    ("SUN", Weekday::Sunday),
];

/// A maintenance window that comes again every week.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    days: Vec<Weekday>,
    at: Time,
    length: SignedDuration,
    zone: TimeZone,
}

/// Whether it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Until then.
    Open(Timestamp),
    /// Until then.
    Closed(Timestamp),
}

impl Window {
    /// Reads `DAYS HH:MM for TIME [ZONE]`; without a zone, `zone` is meant.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (days, at, length, named) = match words.as_slice() {
            [days, at, "for", length] => (*days, *at, *length, None),
            [days, at, "for", length, zone] => (*days, *at, *length, Some(*zone)),
            _ => return Err(EXAMPLE.to_owned()),
        };
        let zone = match named {
            Some(name) => TimeZone::get(name).map_err(|_| format!("no time zone is called {name:?}"))?,
            None => zone,
        };
        let at = Time::strptime("%H:%M", at).map_err(|_| format!("{at:?} is no time of day; {EXAMPLE}"))?;
        let length: SignedDuration = length.parse().map_err(|_| format!("{length:?} is no length; {EXAMPLE}"))?;
        if !(SignedDuration::from_mins(1)..=SignedDuration::from_hours(7 * 24)).contains(&length) {
            return Err("a window lasts between a minute and a week".to_owned());
        }
        Ok(Self { days: weekdays(days)?, at, length, zone })
    }

    /// Whether it is open now.
    pub fn state(&self, now: Timestamp) -> State {
        let today = Zoned::new(now, self.zone.clone()).date();
        // The longest window is a week, and the next beginning is at most a week away.
        let near = (-8_i64..=8).filter_map(|day| today.checked_add(Span::new().days(day)).ok());
        let begins: Vec<Timestamp> = near.filter_map(|date| self.begin(date)).collect();
        let end = |begin: &Timestamp| begin.checked_add(self.length).unwrap_or(Timestamp::MAX);
        match begins.iter().filter(|begin| **begin <= now && now < end(begin)).map(end).max() {
            Some(until) => State::Open(until),
            None => State::Closed(begins.into_iter().filter(|begin| *begin > now).min().unwrap_or(Timestamp::MAX)),
        }
    }

    fn begin(&self, date: Date) -> Option<Timestamp> {
        let wanted = self.days.contains(&date.weekday());
        wanted
            .then(|| self.zone.to_ambiguous_zoned(date.to_datetime(self.at)).compatible().ok())
            .flatten()
            .map(|at| at.timestamp())
    }
}

fn weekdays(text: &str) -> Result<Vec<Weekday>, String> {
    if text.eq_ignore_ascii_case("daily") {
        return Ok(DAYS.iter().map(|(_, day)| *day).collect());
    }
    let number = |name: &str| {
        let found = DAYS.iter().position(|(known, _)| known.eq_ignore_ascii_case(name));
        found.ok_or_else(|| format!("{name:?} is no day; {EXAMPLE}"))
    };
    let mut days = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (number(from)?, number(to)?);
        let length = (to + DAYS.len() - from) % DAYS.len();
        days.extend(DAYS.iter().cycle().skip(from).take(length + 1).map(|(_, day)| *day));
    }
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(text: &str) -> Window {
        Window::parse(text, TimeZone::UTC).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_is_open_from_its_beginning_to_its_end() {
        let window = window("SUN 02:00 for 5h");
        let cases = [
            ("2026-11-22T01:59:59Z", State::Closed(at("2026-11-22T02:00:00Z"))),
            ("2026-11-22T02:00:00Z", State::Open(at("2026-11-22T07:00:00Z"))),
            ("2026-11-22T06:59:59Z", State::Open(at("2026-11-22T07:00:00Z"))),
            ("2026-11-22T07:00:00Z", State::Closed(at("2026-11-29T02:00:00Z"))),
        ];
        for (now, state) in cases {
            assert_eq!(window.state(at(now)), state, "{now}");
        }
    }

    #[test]
    fn a_window_goes_past_midnight_and_days_may_be_ranges_over_the_end_of_the_week() {
        let night = window("FRI-MON 23:00 for 2h");
        assert_eq!(night.state(at("2026-11-24T00:30:00Z")), State::Open(at("2026-11-24T01:00:00Z")));
        assert_eq!(night.state(at("2026-11-25T00:30:00Z")), State::Closed(at("2026-11-27T23:00:00Z")));
    }

    #[test]
    fn the_wall_clock_counts_on_both_sides_of_a_clock_change() {
        let window = Window::parse("SUN 02:30 for 2h Europe/Berlin", TimeZone::UTC).unwrap();
        // 02:30 does not exist on 2026-03-29: the clock goes from 02:00 to 03:00, so it begins at 03:30 (01:30 UTC).
        assert_eq!(window.state(at("2026-03-29T01:29:00Z")), State::Closed(at("2026-03-29T01:30:00Z")));
        assert_eq!(window.state(at("2026-03-29T01:30:00Z")), State::Open(at("2026-03-29T03:30:00Z")));
        // 02:30 comes twice on 2026-10-25: the first one (00:30 UTC), for two whole hours.
        assert_eq!(window.state(at("2026-10-25T00:30:00Z")), State::Open(at("2026-10-25T02:30:00Z")));
        assert_eq!(window.state(at("2026-10-25T02:30:00Z")), State::Closed(at("2026-11-01T01:30:00Z")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("SUN 02:00", "expected DAYS"),
            ("SUM 02:00 for 5h", "\"SUM\" is no day"),
            ("SUN 25:00 for 5h", "\"25:00\" is no time"),
            ("SUN 02:00 for ages", "\"ages\" is no length"),
            ("SUN 02:00 for 1s", "between a minute"),
            ("SUN 02:00 for 5h Mars/Base", "no time zone"),
        ] {
            let error = Window::parse(text, TimeZone::UTC).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
