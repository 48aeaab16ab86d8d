//! Sets aside what an old primary has before it becomes a replica and loses it: `BGSAVE`, then a link to the file, or a copy.
//!
//! Only for the node beside us, whose files we can read. It decides nothing. Invariants: what is reported as saved is a whole
//! snapshot that the node finished after it was asked for; at most [`KEPT`] files are kept, the oldest give way; the folder
//! is for its owner only, and so is each copy in it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::hands::setting;
use crate::io::client::{Link, LinkError, Reply};
use crate::io::clock;
use crate::topology::failover::Done;

/// Snapshots that are kept.
const KEPT: usize = 3;
/// What their names begin with.
const PREFIX: &str = "saved-";
/// Between two looks whether it is done.
const LOOK: Duration = Duration::from_millis(100);
/// For one command; the snapshot itself may take much longer.
const ANSWER: Duration = Duration::from_secs(2);
/// File times are coarser than ours.
const COARSE: Duration = Duration::from_secs(2);

/// Saves everything that the node has into `folder`; [`Done::Plainly`] when it has nothing.
///
/// # Errors
/// What the node said, or what is wrong with its file: then nothing was set aside.
pub(super) async fn save(link: &mut Link, folder: &Path) -> Result<Done, LinkError> {
    if ask(link, &[b"DBSIZE"]).await? == Reply::Integer(0) {
        return Ok(Done::Plainly);
    }
    let asked = clock::unix_millis();
    loop {
        match ask(link, &[b"BGSAVE"]).await {
            Ok(_) => break,
            // One that began before cannot be relied upon.
            Err(LinkError::Redis(text)) if text.contains("in progress") || text.contains("child process") => {
                tokio::time::sleep(LOOK).await;
            }
            Err(error) => return Err(error),
        }
    }
    loop {
        tokio::time::sleep(LOOK).await;
        let info = ask(link, &[b"INFO", b"persistence"]).await?;
        let info = String::from_utf8_lossy(info.bytes().unwrap_or_default()).into_owned();
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        match (field("rdb_bgsave_in_progress"), field("rdb_last_bgsave_status")) {
            (Some("0"), Some("ok")) => break,
            (Some("0"), _) => return Err(failed("its BGSAVE has failed; is its disk full?")),
            (Some(_), _) => {}
            (None, _) => return Err(failed("its INFO is not understood")),
        }
    }
    let deadline = clock::now() + ANSWER;
    let (dir, name) = (setting(link, "dir", deadline).await?, setting(link, "dbfilename", deadline).await?);
    let (Some(dir), Some(name)) = (dir, name) else { return Err(failed("it does not say where its file is")) };
    let file = PathBuf::from(String::from_utf8_lossy(&dir).into_owned()).join(&*String::from_utf8_lossy(&name));
    let folder = folder.to_owned();
    let kept = tokio::task::spawn_blocking(move || set_aside(&file, &folder, asked));
    let (path, bytes) = kept.await.map_err(failed)?.map_err(failed)?;
    tracing::warn!(file = %path.display(), bytes, "failover: what the old primary had is saved");
    Ok(Done::Saved { bytes })
}

async fn ask(link: &mut Link, args: &[&[u8]]) -> Result<Reply, LinkError> {
    link.command(args, clock::now() + ANSWER).await
}

fn failed(why: impl std::fmt::Display) -> LinkError {
    LinkError::Failed(why.to_string())
}

/// Links the file into the folder, or copies it; says where it is and how large.
fn set_aside(file: &Path, folder: &Path, asked: u64) -> Result<(PathBuf, u64), String> {
    let named = |error: io::Error| format!("{}: {error}", file.display());
    let found = fs::metadata(file).map_err(named)?;
    let written = found.modified().map_err(named)?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    if written + COARSE < Duration::from_millis(asked) {
        return Err(format!("{} is older than its snapshot: it is on another machine", file.display()));
    }
    let there = |error: io::Error| format!("{}: {error}", folder.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(there)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(there)?;
    let path = folder.join(format!("{PREFIX}{}.rdb", clock::timestamp().strftime("%Y%m%d-%H%M%S-%3f")));
    // A snapshot is never written to again: the next one replaces it by another file. So a link is as good as a copy, where
    // others cannot read it (its mode is that of Redis' own file), or where there is no room for a copy.
    let private = found.permissions().mode() & 0o077 == 0;
    let linked = private && fs::hard_link(file, &path).is_ok();
    if !linked && let Err(error) = copy(file, &path) {
        fs::hard_link(file, &path).map_err(|_| there(error))?;
    }
    prune(folder).map_err(there)?;
    Ok((path, found.len()))
}

/// A copy that only we can read, whole or not at all.
fn copy(file: &Path, path: &Path) -> io::Result<()> {
    let draft = path.with_extension("part");
    let copied = (|| {
        let mut to = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        io::copy(&mut fs::File::open(file)?, &mut to)?;
        to.sync_all()?;
        fs::rename(&draft, path)
    })();
    if copied.is_err() {
        let _ = fs::remove_file(&draft);
    }
    copied
}

/// The oldest give way. Their names are in the order of their times.
fn prune(folder: &Path) -> io::Result<()> {
    let ours = |name: &str| name.starts_with(PREFIX) && name.ends_with(".rdb");
    let mut names: Vec<_> = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| ours(name))
        .collect();
    names.sort();
    for name in names.iter().rev().skip(KEPT) {
        fs::remove_file(folder.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_set_aside_and_the_oldest_give_way() {
        let dir = tempfile::tempdir().unwrap();
        let (file, folder) = (dir.path().join("dump.rdb"), dir.path().join("kept/saved"));
        for number in 0..5 {
            fs::write(&file, format!("snapshot {number}")).unwrap();
            set_aside(&file, &folder, 0).unwrap();
            // The next snapshot is another file, and what is set aside is called by its millisecond.
            fs::remove_file(&file).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        fs::write(folder.join("mine.rdb"), "not ours").unwrap();
        let mut kept: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
        kept.sort();
        assert_eq!(kept, ["not ours", "snapshot 2", "snapshot 3", "snapshot 4"]);
    }

    #[test]
    fn what_is_set_aside_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let (file, folder) = (dir.path().join("dump.rdb"), dir.path().join("saved"));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for given in [0o644, 0o640, 0o600, 0o400] {
            fs::write(&file, "data").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(given)).unwrap();
            let (kept, _) = set_aside(&file, &folder, 0).unwrap();
            assert_eq!((mode(&kept) & 0o077, mode(&folder)), (0, 0o700), "{given:o}");
            assert_eq!(mode(&file), given, "Redis' own file stays as it is");
            assert_eq!(fs::read(&kept).unwrap(), b"data");
            fs::remove_file(&file).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_file_that_was_not_written_now_is_not_taken_for_the_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dump.rdb");
        assert!(set_aside(&file, dir.path(), 0).unwrap_err().contains("dump.rdb"));
        fs::write(&file, "old").unwrap();
        let later = clock::unix_millis() + 60_000;
        assert!(set_aside(&file, dir.path(), later).unwrap_err().contains("another machine"));
    }
}
