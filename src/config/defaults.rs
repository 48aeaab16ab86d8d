//! Defaults that depend on the machine and on who runs the process.
//!
//! Invariants: `run` and the operator commands find the same admin socket without being told; in a folder that everybody
//! shares, only a folder of our own is used.

use std::env;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
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
        (user, None) => private_folder(user).join("changeover.sock"),
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
        (None, None) => private_folder(user_id()).join("state"),
    }
}

/// Where nothing better is to be had: a folder in the shared one. Whoever uses it calls [`prepare_private`] before.
fn private_folder(user: u32) -> PathBuf {
    PathBuf::from(format!("/tmp/changeover-{user}"))
}

/// Makes our folder in the shared one if a path lies in it, and shows that it is ours alone: somebody else may have made
/// it before.
///
/// # Errors
/// It cannot be made, or belongs to somebody else, or others may enter it.
pub fn prepare_private(path: &Path) -> Result<(), String> {
    let user = user_id();
    let folder = private_folder(user);
    if path.starts_with(&folder) { prepare(&folder, user) } else { Ok(()) }
}

fn prepare(folder: &Path, user: u32) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", folder.display());
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    // Not through a link that somebody else has put there.
    let found = std::fs::symlink_metadata(folder).map_err(failed)?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        return Err(format!(
            "{} is not a folder of this user alone: remove it, or set XDG_RUNTIME_DIR, or `admin` and `state-dir`",
            folder.display()
        ));
    }
    Ok(())
}

/// Whether a process of ours, or of root, listens on this socket: only they could have put it there.
///
/// # Errors
/// There is no such file.
pub fn is_trusted_socket(path: &Path) -> io::Result<bool> {
    let (user, owner) = (user_id(), std::fs::symlink_metadata(path)?.uid());
    // For root: the socket of a service that runs as another user, in a folder where not everybody may put one.
    let parent = path.parent().filter(|_| user == 0).and_then(|parent| parent.metadata().ok());
    Ok(owner == user || owner == 0 || parent.is_some_and(|parent| parent.mode() & 0o002 == 0))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn our_folder_in_a_shared_one_is_ours_alone() {
        let shared = tempfile::tempdir().unwrap();
        let (folder, user) = (shared.path().join("changeover"), user_id());
        prepare(&folder, user).unwrap();
        prepare(&folder, user).unwrap();
        assert_eq!(folder.metadata().unwrap().mode() & 0o777, 0o700);
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(prepare(&folder, user).unwrap_err().contains("not a folder of this user alone"));
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert!(prepare(&folder, user.wrapping_add(1)).is_err(), "somebody else's");
        let link = shared.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert!(prepare(&link, user).is_err(), "a link to it");
    }

    #[test]
    fn a_socket_of_somebody_else_in_a_shared_folder_is_not_trusted() {
        let shared = tempfile::tempdir().unwrap();
        let path = shared.path().join("admin.sock");
        assert!(is_trusted_socket(&path).is_err());
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(is_trusted_socket(&path).unwrap());
        // Only root can give a file away.
        if std::os::unix::fs::chown(&path, Some(12345), None).is_ok() {
            assert!(is_trusted_socket(&path).unwrap(), "root may ask a service of another user");
            std::fs::set_permissions(shared.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
            assert!(!is_trusted_socket(&path).unwrap());
        }
    }
}
