//! What systemd is told: that the worker is ready, that it stops, and that a drain takes its time. Nothing where it was not started by systemd.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep};

/// So much time is asked for at once …
const MORE: Duration = Duration::from_secs(30);
/// … and again so long after.
const ASKED_EVERY: Duration = Duration::from_secs(10);

pub(super) fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!("systemd was not told: {error}");
    }
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
