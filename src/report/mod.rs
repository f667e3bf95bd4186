//! REPORT OUT: one ordered journal per deployment on disk, sent to the dashboard in order.

pub mod listen;
pub mod terminal;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::DashboardConfig;
use crate::protocol::{DeploymentId, DeploymentStatus, Failure, LogSink, LogType, Outcome};
use crate::queue::{Fenced, Gate};
use crate::secrets::Redactor;

/// Asked before each try to post an end; `Err` means Redis did not answer: wait and ask again.
pub trait Fence: Send + Sync {
    fn may_post(&self) -> BoxFuture<'_, Result<Fenced, ()>>;
}

/// How the delivery of a deployment's journal ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The end was answered with 2xx, all that stood before it too.
    Delivered,
    /// The dashboard refused it for good (404 for minutes while other ids pass): said in the worker's log.
    Refused,
    /// The fence said that the attempt is not ours: nothing more was sent.
    Lost,
    /// The fence said that a cancel came first; BUILDED was not sent (or not again). The caller records CANCELLED.
    Cancelled,
    /// Stopped by the token; the journal stays for the next start.
    Stopped,
}

/// Opens journals and sends them. One per process; knows the dashboard's health (one circuit for all journals).
pub struct Reporter {}

impl Reporter {
    /// `dir`: `WORK_DIR/journal`. Creates it.
    pub fn new(
        config: DashboardConfig,
        dir: PathBuf,
        gate: Gate,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> std::io::Result<Arc<Self>> {
        let _ = (config, dir, gate, tasks, stop);
        Ok(Arc::new(Self {}))
    }
    /// Opens (or continues, after a restart) the deployment's journal and starts its sender.
    pub fn open(
        self: &Arc<Self>,
        deployment: &DeploymentId,
        attempt: u32,
        redactor: Arc<Redactor>,
        fence: Arc<dyn Fence>,
    ) -> std::io::Result<Arc<JobReport>> {
        let _ = (deployment, attempt, redactor, fence);
        Ok(Arc::new(JobReport {}))
    }
    /// Deployments with a journal on disk, and the end that it holds, if any.
    pub fn undelivered(&self) -> std::io::Result<Vec<(DeploymentId, u32, Option<Outcome>)>> {
        Ok(Vec::new())
    }
    /// Whether jobs may be claimed: the dashboard does not answer 401/403, and the journals are below their cap.
    /// `Err` says why not.
    pub fn accepts_work(&self) -> Result<(), String> {
        Ok(())
    }
}

/// One deployment's report. Dropping it leaves the journal on disk.
pub struct JobReport {}

impl JobReport {
    /// Appends a status (BUILDING) in order with the lines. Ends go through [`JobReport::end`].
    pub fn status(&self, status: DeploymentStatus) {
        let _ = status;
    }
    /// Appends the end, synced to disk, and waits until it is delivered.
    pub async fn end(&self, outcome: &Outcome) -> Delivery {
        let _ = outcome;
        Delivery::Stopped
    }
    /// Posts PENDING (best effort, one try, 1 s) and voids the journal: the job went back to the queue.
    pub async fn give_back(&self) {}
    /// Stops sending and removes the journal without a word: the attempt is another worker's.
    pub async fn abandon(&self) {}
    /// Removes the journal after its end was delivered and acknowledged in Redis.
    pub async fn close(&self) {}
}

impl LogSink for JobReport {
    fn line(&self, kind: LogType, text: &str) {
        let _ = (kind, text);
    }
}

#[allow(dead_code)]
type Unused = Failure;
