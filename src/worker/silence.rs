//! What stands between a build and its log: notices when nothing is printed for too long, and hides the secrets of other jobs.
//! Time in which the log has no room is no silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use crate::protocol::{LogSink, LogType};
use crate::secrets::ActiveSecrets;

/// Passes lines on and remembers when the last one came.
pub struct Listening {
    sink: Arc<dyn LogSink>,
    /// Of all jobs on this host.
    secrets: Arc<ActiveSecrets>,
    start: Instant,
    /// Milliseconds after `start`.
    last: AtomicU64,
}

impl Listening {
    pub fn new(sink: Arc<dyn LogSink>, secrets: Arc<ActiveSecrets>) -> Self {
        Self { sink, secrets, start: Instant::now(), last: AtomicU64::new(0) }
    }
    /// Counts from now on, as if a line had come.
    pub fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }
    /// How long nothing has come.
    pub fn silent_for(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

impl LogSink for Listening {
    fn line(&self, kind: LogType, text: &str) {
        self.touch();
        self.sink.line(kind, &self.secrets.redact(text));
    }

    fn has_room(&self) -> bool {
        self.sink.has_room()
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.sink.room().await;
            self.touch();
        })
    }
}
