//! The agent's hooks: commands of this node's own configuration, run when an operator names one.
//!
//! No argument comes over the network but the names of group, shard and node and a time; what is run stands in the file
//! of this machine. Invariant: a hook is begun at most once under one id, however often it is asked for and however often
//! this process is started again meanwhile (the keeper of `io::exec`); after a restart of the machine, one that was
//! running has ended with it.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::config::Config;
use crate::config::fleet::Run;
use crate::io::admin::Refused;
use crate::io::admin::hooks::{HookAsked, HookOrder, HookState, HookStatus};
use crate::io::exec::{Ended, Job, JobFolder, boot_id, write_whole};

/// The file with the id of the system's start at which a hook was begun.
const BOOT: &str = "boot";

/// Begins and looks after hooks, one request after another.
pub async fn run_when_asked(config: Arc<Config>, mut asked: mpsc::Receiver<HookAsked>) {
    while let Some(asked) = asked.recv().await {
        // Whoever asked may have gone.
        match asked {
            HookAsked::Begin(order, reply) => drop(reply.send(begin(&config, &order).await)),
            HookAsked::Look(id, reply) => drop(reply.send(folder(&config, &id).map(|folder| state(&folder)))),
        }
    }
}

async fn begin(config: &Config, order: &HookOrder) -> Result<HookStatus, Refused> {
    let folder = folder(config, &order.id)?;
    if folder.is_new() {
        let argv = argv(config, order)?;
        tracing::info!(hook = order.hook, id = order.id, "a hook is begun");
        let job = Job { argv, deadline_ms: order.deadline_ms };
        let begun = folder.begin(&job).and_then(|()| write_whole(folder.path(), BOOT, boot_id().as_bytes()));
        begun.map_err(|error| Refused::because(format!("{}: {error}", folder.path().display())))?;
    }
    Ok(state(&folder))
}

fn argv(config: &Config, order: &HookOrder) -> Result<Vec<String>, Refused> {
    let Some(Run::Local(words)) = config.hooks.named(&order.hook) else {
        let text = format!("this node's configuration has no `{}` under [hooks]", order.hook);
        return Err(Refused::because(text));
    };
    if ![&order.group, &order.shard, &order.node].into_iter().all(|name| is_plain(name)) {
        return Err(Refused::because("a name is made of letters, digits, `-`, `_` and `.`"));
    }
    let fill = |word: &String| {
        let word = word.replace("{group}", &order.group).replace("{shard}", &order.shard);
        word.replace("{node}", &order.node).replace("{blip}", &order.blip_ms.to_string())
    };
    Ok(words.iter().map(fill).collect())
}

fn folder(config: &Config, id: &str) -> Result<JobFolder, Refused> {
    if !is_plain(id) {
        return Err(Refused::because("an id is made of letters, digits, `-`, `_` and `.`"));
    }
    let path: PathBuf = config.state_dir.join("hooks").join(id);
    Ok(JobFolder::new(path))
}

/// A name that is safe in file names and in the arguments of commands.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= 200 && name.chars().all(plain)
}

fn state(folder: &JobFolder) -> HookStatus {
    let (state, why) = match folder.state() {
        None => (HookState::Running, None),
        Some(Ended::Well) => (HookState::Well, None),
        Some(Ended::Badly(why)) => (HookState::Badly, Some(why)),
        Some(Ended::NeverStarted) => (HookState::NeverStarted, None),
        Some(Ended::Unknown) => {
            let boot = std::fs::read_to_string(folder.path().join(BOOT)).unwrap_or_default();
            let rebooted = !boot.is_empty() && boot != boot_id();
            (if rebooted { HookState::Rebooted } else { HookState::Unknown }, None)
        }
    };
    HookStatus { state, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_folder_or_look_like_options() {
        for name in ["s.b.work.1", "18c2f.s-1.b_2.before-drain.1"] {
            assert!(is_plain(name), "{name}");
        }
        for name in ["", "..", ".x", "a/b", "-rf", "a b", "a\n", &"x".repeat(201)] {
            assert!(!is_plain(name), "{name:?}");
        }
    }

    #[test]
    fn what_the_machines_restart_ended_is_told_from_what_nobody_knows() {
        let dir = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(dir.path().join("x"));
        assert_eq!(state(&folder).state, HookState::NeverStarted);
        std::fs::create_dir(folder.path()).unwrap();
        std::fs::write(folder.path().join("begun"), "").unwrap();
        assert_eq!(state(&folder).state, HookState::Unknown);
        std::fs::write(folder.path().join(BOOT), boot_id()).unwrap();
        assert_eq!(state(&folder).state, HookState::Unknown, "the same start of the system");
        std::fs::write(folder.path().join(BOOT), "another").unwrap();
        assert_eq!(state(&folder).state, HookState::Rebooted);
    }
}
