//! What every stage of a build is handed: the job's cancellation, its log and its identity. Owns no logic.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::protocol::{DeploymentId, LogSink, LogType, ServiceId};
use crate::secrets::Redactor;

/// Handed to each stage of one attempt. Cheap to clone.
#[derive(Clone)]
pub struct StageContext {
    pub deployment: DeploymentId,
    pub service: ServiceId,
    /// 1 for the first attempt at this job.
    pub attempt: u32,
    /// Trips on cancel, drain, time-out and lost lease. A stage whose token has tripped returns
    /// `Failure::interrupted()` and leaves nothing behind within a second.
    pub cancel: CancellationToken,
    /// The job's log. Every line passes the job's redactor inside the sink.
    pub log: Arc<dyn LogSink>,
    /// Knows every secret of this job and of the worker.
    pub redactor: Arc<Redactor>,
    /// Everything that a stage spawns is spawned here; the attempt's owner awaits it.
    pub tasks: TaskTracker,
}

impl StageContext {
    pub fn info(&self, text: impl AsRef<str>) {
        self.log.line(LogType::Info, text.as_ref());
    }
    /// To be awaited before the next chunk of what a build prints is read.
    pub async fn room(&self) {
        if !self.log.has_room() {
            self.log.room().await;
        }
    }
    pub fn warn(&self, text: impl AsRef<str>) {
        self.log.line(LogType::Warning, text.as_ref());
    }
}
