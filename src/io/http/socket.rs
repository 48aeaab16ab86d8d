//! The admin API's Unix socket: only for its owner, never taken from a process that lives.
//!
//! Invariants: nobody can connect before the mode is 0600; a socket file is replaced only when nobody answers there;
//! what is not a socket is never touched; at the end the file is removed only while it is still ours.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use super::BindError;

/// Waiting connections.
const BACKLOG: i32 = 64;

/// A listening Unix socket and its file.
#[derive(Debug)]
pub(super) struct OwnedSocket {
    listener: UnixListener,
    path: PathBuf,
    file: Option<(u64, u64)>,
}

impl OwnedSocket {
    /// Binds at `path`, after a stale socket there was removed.
    pub(super) async fn bind(path: &Path) -> Result<Self, BindError> {
        make_room(path).await?;
        let failed = |error| BindError::Unix { path: path.display().to_string(), error };
        let listener = listen(path).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), file: identity(path).ok() })
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OwnedSocket {
    fn drop(&mut self) {
        // A successor may have put its own there meanwhile.
        if self.file.is_some() && identity(&self.path).ok() == self.file {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

async fn make_room(path: &Path) -> Result<(), BindError> {
    let shown = || path.display().to_string();
    let failed = |error| BindError::Unix { path: shown(), error };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(file) if !file.file_type().is_socket() => return Err(BindError::NotASocket(shown())),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(BindError::InUse(shown())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(failed),
        // Not allowed, or its queue is full: somebody lives there.
        Err(error) => Err(failed(error)),
    }
}

/// The mode is set between `bind` and `listen`, while every attempt to connect is still refused.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket.into())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = std::fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_owner_may_connect_and_the_file_goes_with_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let socket = OwnedSocket::bind(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a crash leaves the file behind");
        let alive = OwnedSocket::bind(&path).await.unwrap();
        let second = OwnedSocket::bind(&path).await.unwrap_err();
        assert!(matches!(second, BindError::InUse(_)), "{second}");
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(alive);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        assert!(matches!(OwnedSocket::bind(&path).await, Err(BindError::NotASocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
    }

    #[tokio::test]
    async fn a_successors_socket_survives_our_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let ours = OwnedSocket::bind(&path).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        let _theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_missing_folder_is_named() {
        let error = OwnedSocket::bind(Path::new("/nonexistent/admin.sock")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot listen on unix:/nonexistent/admin.sock: No such file or directory (os error 2)"
        );
    }
}
