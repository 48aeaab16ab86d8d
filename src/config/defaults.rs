//! Defaults that depend on the machine and on who runs the process.
//!
//! Invariant: `run` and the operator commands find the same admin socket without being told.

use std::env;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Admin;

/// More workers than this never paid off in front of one Redis, which is one thread itself.
const MAX_DEFAULT_WORKERS: usize = 8;

/// Where `run` serves the admin API, and operator commands look for it, when not told otherwise.
pub fn default_admin() -> Admin {
    let user = user_id();
    let path = match (user, folder("XDG_RUNTIME_DIR")) {
        (0, _) => PathBuf::from("/run/changeover.sock"),
        (_, Some(runtime)) => runtime.join("changeover.sock"),
        (user, None) => PathBuf::from(format!("/tmp/changeover-{user}.sock")),
    };
    Admin::Unix(path)
}

/// Where the memory of who was primary is kept, when not told otherwise.
fn state_dir() -> PathBuf {
    // systemd gives a list, separated by colons.
    if let Some(given) = env::var("STATE_DIRECTORY").ok().filter(|given| !given.is_empty()) {
        return PathBuf::from(given.split(':').next().unwrap_or_default());
    }
    if user_id() == 0 {
        return PathBuf::from("/var/lib/changeover");
    }
    match (folder("XDG_STATE_HOME"), folder("HOME")) {
        (Some(state), _) => state.join("changeover"),
        (None, Some(home)) => home.join(".local/state/changeover"),
        (None, None) => PathBuf::from(format!("/tmp/changeover-{}-state", user_id())),
    }
}

/// [`default_admin`] as it would be written.
pub(super) fn admin_text() -> String {
    default_admin().to_string()
}

/// The state folder as it would be written.
pub(super) fn state_dir_text() -> String {
    state_dir().display().to_string()
}

/// One for each core, within reason.
pub(super) fn workers_text() -> String {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_DEFAULT_WORKERS).to_string()
}

fn folder(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Whose process this is, without a system call of our own (the crate forbids unsafe code).
fn user_id() -> u32 {
    let owner = |path: &Path| path.metadata().map(|metadata| metadata.uid()).ok();
    owner(Path::new("/proc/self")).or_else(|| folder("HOME").as_deref().and_then(owner)).unwrap_or(u32::MAX)
}
