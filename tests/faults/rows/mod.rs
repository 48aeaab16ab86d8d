//! The rows of the matrix: each is a fault, told as a story, and what must come of it in each mode.

mod deaths;
mod disturbances;
mod returns;
mod silence;

use crate::judge::Expected;
use crate::world::{Mode, Setup, World};

/// What a row needs of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// Network namespaces, or private mounts.
    Namespaces,
    /// A C compiler, for the false clock.
    Compiler,
    Both,
}

pub(crate) struct Row {
    /// How it is called on the command line.
    pub(crate) name: &'static str,
    /// What happens, in the table.
    pub(crate) title: &'static str,
    pub(crate) modes: &'static [Mode],
    /// These run with every `cargo test`.
    pub(crate) daily: &'static [Mode],
    pub(crate) needs: Needs,
    pub(crate) setup: fn() -> Setup,
    pub(crate) story: fn(&mut World) -> Expected,
}

/// All rows, in the order of the table.
pub(crate) fn all() -> Vec<&'static Row> {
    [deaths::ROWS, silence::ROWS, returns::ROWS, disturbances::ROWS].iter().flat_map(|rows| rows.iter()).collect()
}

const EVERY: &[Mode] = &Mode::ALL;
const PROMOTING: &[Mode] = &[Mode::Sentinel, Mode::Pair, Mode::Fence, Mode::Replicated];
const PAIR: &[Mode] = &[Mode::Pair, Mode::Fence, Mode::Replicated];
const NEVER: &[Mode] = &[];
