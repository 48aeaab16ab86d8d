//! How times, numbers and tables look to people.
//!
//! Only formatting: no I/O, except [`say`] and [`tell`], which are how operator commands write.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

/// Columns under headers over a thin line, no borders.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table with these headers; those that begin with `>` are aligned to the right.
pub(crate) fn table(headers: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(headers.iter().map(|header| header.trim_start_matches('>')).collect::<Vec<_>>());
    for (at, header) in headers.iter().enumerate() {
        let Some(column) = table.column_mut(at) else { continue };
        column.set_padding((1, 0));
        if header.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The table's lines, indented, without blanks at their ends.
pub(crate) fn indented(table: &Table) -> String {
    table.lines().map(|line| format!(" {}\n", line.trim_end())).collect()
}

/// A length of time in milliseconds, to about three digits: "0.31 ms", "12 s", "2 h 13 min".
pub(crate) fn time(ms: f64) -> String {
    let whole = |from: f64| from.max(0.0).round() as u64;
    if ms <= 0.0 {
        return "0 ms".to_owned();
    }
    if ms < 9.995 {
        return format!("{ms:.2} ms");
    }
    if ms < 1_000.0 {
        return format!("{} ms", whole(ms));
    }
    if ms < 10_000.0 {
        return format!("{:.1} s", ms / 1e3);
    }
    let seconds = whole(ms / 1e3);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// The same from whole milliseconds.
pub(crate) fn time_ms(ms: u64) -> String {
    time(ms as f64)
}

/// A count with its thousands set off: "1,234,567".
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: "1 session", "2 sessions".
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A size: "0 B", "1.2 MiB".
pub(crate) fn bytes(number: u64) -> String {
    bytesize::ByteSize::b(number).display().iec().to_string()
}

/// Colours, where they are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// On a terminal, unless `NO_COLOR` is set.
    pub(crate) fn for_stdout() -> Self {
        Self { on: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    /// Never.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { on: false }
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// All is well.
    pub(crate) fn good(self, text: &str) -> String {
        self.with("1;32", text)
    }

    /// It will pass by itself.
    pub(crate) fn warn(self, text: &str) -> String {
        self.with("1;33", text)
    }

    /// It will not.
    pub(crate) fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    /// Not so important.
    pub(crate) fn faint(self, text: &str) -> String {
        self.with("2", text)
    }
}

/// Writes to standard output; a reader that has left (`| head`) is no error.
pub(crate) fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes to standard error: progress and complaints, so that standard output holds the result alone.
pub(crate) fn tell(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_long_as_they_are_interesting() {
        let shown = [0.0, 0.31, 2.5, 9.999, 12.4, 999.0, 1_250.0, 14_000.0, 119_000.0, 125_000.0, 8e6, 2.7e8].map(time);
        let expected = [
            "0 ms",
            "0.31 ms",
            "2.50 ms",
            "10 ms",
            "12 ms",
            "999 ms",
            "1.2 s",
            "14 s",
            "119 s",
            "2 min",
            "2 h 13 min",
            "3 d 3 h",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn counts_are_set_off_by_thousands() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((counted(1, "session"), counted(0, "session")), ("1 session".into(), "0 sessions".into()));
    }
}
