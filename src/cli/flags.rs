//! The flags of `run` and `check`: one for each key of the table of settings, and `--config`.
//!
//! Values stay texts here; `config` judges them, so that mistakes in flags and file are reported together.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, Error, FromArgMatches};

use crate::config::keys::{self, Fallback, Key};
use crate::config::{Flags, Given, Place};

const CONFIG: &str = "config";

/// The settings, as given.
#[derive(Clone, Debug)]
pub(crate) struct ConfigFlags(pub(crate) Flags);

impl clap::Args for ConfigFlags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .env("CHANGEOVER_CONFIG")
            .hide_env(true)
            .value_parser(clap::value_parser!(PathBuf))
            .help("TOML file with the same names as these flags; flags win");
        keys::ALL.iter().fold(command.arg(config), |command, key| command.arg(flag(key)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(key: &'static Key) -> Arg {
    let mut help = key.doc.trim_end_matches('.').to_owned();
    let limits = key.kind.limits();
    if !limits.is_empty() {
        help += &format!(" ({limits})");
    }
    help += &match key.fallback {
        Fallback::Required => String::new(),
        Fallback::Nothing(meaning) => format!(" [without it: {meaning}]"),
        Fallback::Value(value) => format!(" [default: {value}]"),
        Fallback::Found(how, _) => format!(" [default: {how}]"),
    };
    let arg = Arg::new(key.name).long(key.name).value_name(key.kind.placeholder()).help_heading(key.group).help(help);
    if key.repeats() { arg.action(ArgAction::Append) } else { arg }
}

impl FromArgMatches for ConfigFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = keys::ALL.iter().flat_map(|key| {
            let flagged: Vec<String> = matches.get_many(key.name).into_iter().flatten().cloned().collect();
            if flagged.is_empty() { from_environment(key) } else { given(key, format!("--{}", key.name), flagged) }
        });
        Ok(Self(Flags { config: matches.get_one::<PathBuf>(CONFIG).cloned(), given: given.collect() }))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Containers are often set up by variables; several nodes stand in one, separated by commas.
fn from_environment(key: &'static Key) -> Vec<Given> {
    let variable = key.variable();
    let Ok(value) = std::env::var(&variable) else { return Vec::new() };
    let values = if key.repeats() { value.split(',').map(str::to_owned).collect() } else { vec![value] };
    given(key, variable, values)
}

fn given(key: &Key, from: String, values: Vec<String>) -> Vec<Given> {
    let one = |value| Given { key: key.name.to_owned(), value, place: Place::Flag(from.clone()) };
    values.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_key_of_the_table_is_a_flag_of_run_and_check() {
        for subcommand in ["run", "check"] {
            let command = Cli::command();
            let flags = command.find_subcommand(subcommand).unwrap();
            for key in keys::ALL {
                assert!(flags.get_arguments().any(|arg| arg.get_long() == Some(key.name)), "{}", key.name);
            }
        }
    }

    #[test]
    fn flags_keep_their_order_and_say_where_they_came_from() {
        let command = <ConfigFlags as clap::Args>::augment_args(Command::new("run"));
        let matches = command.get_matches_from(["run", "--node", "b=h:2", "--node", "a=h:1", "--hold-time", "1s"]);
        let ConfigFlags(flags) = ConfigFlags::from_arg_matches(&matches).unwrap();
        let told: Vec<_> = flags.given.iter().map(|given| (given.key.as_str(), given.value.as_str())).collect();
        assert_eq!(told, [("node", "b=h:2"), ("node", "a=h:1"), ("hold-time", "1s")]);
        assert_eq!(flags.given[2].place, Place::Flag("--hold-time".to_owned()));
    }
}
