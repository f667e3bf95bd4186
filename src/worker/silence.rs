//! Notices when a job prints nothing for too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::protocol::{LogSink, LogType};

/// Passes lines on and remembers when the last one came.
pub struct Listening {
    sink: Arc<dyn LogSink>,
    start: Instant,
    /// Milliseconds after `start`.
    last: AtomicU64,
}

impl Listening {
    pub fn new(sink: Arc<dyn LogSink>) -> Self {
        Self { sink, start: Instant::now(), last: AtomicU64::new(0) }
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
        self.sink.line(kind, text);
    }
}
