//! What systemd is told: that the worker is ready, lives and stops, and that a drain takes its time. Nothing where it was not started by systemd.
//!
//! Nothing waits for systemd: where its socket takes no message, that one is dropped. Only READY is sent until it is taken.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep};

/// So much time is asked for at once …
const MORE: Duration = Duration::from_secs(30);
/// … and again so long after.
const ASKED_EVERY: Duration = Duration::from_secs(10);
/// Between two tries to say READY.
const READY_AGAIN: Duration = Duration::from_millis(250);

pub(super) fn tell(state: NotifyState<'_>) {
    if let Err(error) = send(&state) {
        tracing::debug!("systemd was not told: {error}");
    }
}

/// Says READY until systemd has taken it.
pub(super) async fn tell_ready() {
    while let Err(error) = send(&NotifyState::Ready) {
        if error.kind() != io::ErrorKind::WouldBlock {
            tracing::debug!("systemd was not told: {error}");
            return;
        }
        sleep(READY_AGAIN).await;
    }
}

#[allow(clippy::disallowed_methods, reason = "systemd's own variable; no setting")]
fn send(state: &NotifyState<'_>) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A full socket must not hold up the thread that renews the lease.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(format!("{state}\n").as_bytes(), &address).map(drop)
}

/// While this is awaited a stop may take `time`, also where that is more than TimeoutStopSec. After it systemd may end the process.
pub(super) async fn allow(time: Duration) -> Infallible {
    let until = Instant::now() + time;
    while Instant::now() < until {
        tell(NotifyState::ExtendTimeoutUsec(u32::try_from(MORE.as_micros()).unwrap_or(u32::MAX)));
        sleep(ASKED_EVERY).await;
    }
    pending().await
}
