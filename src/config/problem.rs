//! What is wrong with a configuration, shown where it stands: file, line, column and a caret, or the flag.
//!
//! It judges nothing. Invariant: a value is shown only as the line of the file that holds it; secrets stand in files
//! of their own and never get here.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Where a mistake stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: something is missing.
    Nowhere,
    /// A flag, or an environment variable.
    Flag(String),
    /// A place in the file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
        /// The whole line.
        text: String,
        /// How many characters are meant; at least 1.
        width: usize,
    },
}

impl Place {
    /// The place of the bytes `span` of `source`, the text of the file at `path`.
    pub fn in_file(path: &Path, source: &str, span: Range<usize>) -> Self {
        let before = source.get(..span.start).unwrap_or(source);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let text = source.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let meant = source.get(span).unwrap_or_default().lines().next().unwrap_or_default().chars().count();
        Self::File {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column,
            text: text.to_owned(),
            width: meant.max(1),
        }
    }

    /// The line of the file, where it is one.
    pub(super) fn line(&self) -> Option<usize> {
        match self {
            Self::File { line, .. } => Some(*line),
            _ => None,
        }
    }

    /// The place in a few words.
    pub(super) fn origin(&self) -> String {
        match self {
            Self::Nowhere => "default".to_owned(),
            Self::Flag(flag) => flag.clone(),
            Self::File { path, line, .. } => format!("{}:{line}", path.display()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Nowhere => write!(f, "error: {}", self.message),
            Place::Flag(flag) => write!(f, "error: {flag}: {}", self.message),
            Place::File { path, line, column, text, width } => {
                let number = line.to_string();
                let gutter = " ".repeat(number.len());
                // Tabs stay tabs, so that the caret stands under what it means.
                let indent: String =
                    text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                writeln!(f, "error: {}:{line}:{column}: {}", path.display(), self.message)?;
                writeln!(f, "  {number} | {text}")?;
                write!(f, "  {gutter} | {indent}{}", "^".repeat(*width))
            }
        }
    }
}

/// Every mistake at once; never empty when it is returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Notes one more.
    pub fn add(&mut self, place: Place, message: impl Into<String>) {
        self.0.push(Problem { place, message: message.into() });
    }

    /// In the order of the file; what stands nowhere last.
    pub fn sort(&mut self) {
        self.0.sort_by_key(|problem| match &problem.place {
            Place::File { line, column, .. } => (0, *line, *column),
            Place::Flag(_) => (1, 0, 0),
            Place::Nowhere => (2, 0, 0),
        });
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        match self.0.len() {
            1 => f.write_str("1 error in the configuration"),
            n => write!(f, "{n} errors in the configuration"),
        }
    }
}

impl std::error::Error for Problems {}
