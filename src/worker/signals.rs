//! SIGTERM and SIGINT, which end the worker, and SIGHUP, which opens the log files again.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::telemetry::Reopen;

/// The signals that end the worker: the first drains, the second ends at once.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }
    /// Waits for the next one. Cancel-safe.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// SIGHUP: logrotate's, `systemctl reload`'s, or a terminal's that was closed. It ends nothing.
pub struct Hangups(Signal);

impl Hangups {
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }
    /// Opens the log files again with each. Never returns.
    pub async fn reopen(mut self, files: Reopen) {
        while self.0.recv().await.is_some() {
            match files.ask() {
                true => tracing::info!("SIGHUP: the files in LOG_DIR are opened again"),
                false => tracing::info!("SIGHUP: nothing to do, for LOG_DIR is not set. A new configuration needs a restart."),
            }
        }
    }
}
