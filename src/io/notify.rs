//! The service manager: says that we are ready, reload, stop, and are alive (systemd's notify protocol).
//!
//! Where nobody listens (`$NOTIFY_SOCKET` unset) every call does nothing. A failure to notify is logged once and never
//! stops anything. An address that begins with `@` is in the abstract namespace: container runtimes and older
//! versions of systemd use such addresses.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

static COMPLAINED: AtomicBool = AtomicBool::new(false);

/// We listen and serve.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload has begun; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(_) => send(&[NotifyState::Reloading]),
    }
}

/// We are on our way out; it takes up to `within`.
pub fn stopping(status: &str, within: Duration) {
    let within = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    send(&[NotifyState::Stopping, NotifyState::Status(status), NotifyState::ExtendTimeoutUsec(within)]);
}

/// One line for `systemctl status`.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// We are alive.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] must be called: half of what the service manager allows, `None` when it does not ask.
pub fn watchdog_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|every| !every.is_zero())
}

fn send(states: &[NotifyState<'_>]) {
    let Some(to) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = tell(&to, states)
        && !COMPLAINED.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// One datagram to a path or, with a leading `@`, to a name in the abstract namespace.
fn tell(to: &OsStr, states: &[NotifyState<'_>]) -> io::Result<()> {
    let address = match to.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(to)?,
    };
    let mut message = String::new();
    for state in states {
        // A String takes everything.
        let _ = writeln!(message, "{state}");
    }
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut heard = [0; 256];
        let length = socket.recv(&mut heard).unwrap();
        String::from_utf8_lossy(&heard[..length]).into_owned()
    }

    #[test]
    fn a_manager_is_told_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("changeover-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let sockets = [UnixDatagram::bind(&path), UnixDatagram::bind_addr(&abstract_name)];
        for (socket, to) in sockets.iter().zip([path.into_os_string(), format!("@{name}").into()]) {
            tell(&to, &[NotifyState::Ready, NotifyState::Status("fine")]).unwrap();
            assert_eq!(heard(socket.as_ref().unwrap()), "READY=1\nSTATUS=fine\n");
        }
        assert!(tell(OsStr::new("/nowhere/at/all"), &[NotifyState::Ready]).is_err());
    }
}
