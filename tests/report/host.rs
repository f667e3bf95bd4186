//! A worker's host as far as reports go: a journal directory, a gate, a fence, and a reporter that can be killed and started again.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use slipway::config::DashboardConfig;
use slipway::protocol::{Code, DeploymentId, Failure, ImageRef, Outcome, RegistryType};
use slipway::queue::{Fenced, Gate, GateState, Telling};
use slipway::report::{Fence, JobReport, Pace, Reporter};
use slipway::secrets::{Redactor, SecretString};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dashboard::{Dashboard, KEY};

pub struct Host {
    pub dir: TempDir,
    pub dashboard: Arc<Dashboard>,
    pub config: DashboardConfig,
    journal: PathBuf,
    pub pace: Pace,
    gate: watch::Sender<GateState>,
    tasks: TaskTracker,
    stop: CancellationToken,
    pub reporter: Arc<Reporter>,
}

impl Host {
    /// A host with a reporter that is as patient as the daemon's in all but the length of its waits.
    pub async fn start() -> Self {
        Self::with(|_, _| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut DashboardConfig, &mut Pace)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("journal");
        Self::new(dir, journal, change).await
    }

    /// A host whose journals are on another disk.
    pub async fn with_journals_in(journal: PathBuf) -> Self {
        Self::new(tempfile::tempdir().unwrap(), journal, |_, _| {}).await
    }

    async fn new(dir: TempDir, journal: PathBuf, change: impl FnOnce(&mut DashboardConfig, &mut Pace)) -> Self {
        let dashboard = Dashboard::start().await;
        let mut config = DashboardConfig {
            url: dashboard.url(),
            key: SecretString::from(KEY),
            timeout: Duration::from_secs(10),
            log_max_bytes: 32 << 20,
            log_total_max: 0,
            journal_max_bytes: 1 << 30,
        };
        let ms = Duration::from_millis;
        let mut pace = Pace { base: ms(2), cap: ms(40), denied_base: ms(5), doubt_cap: ms(20), ..Pace::default() };
        change(&mut config, &mut pace);
        let (gate, reader) = Gate::new(GateState::Open);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let reporter = Reporter::new(config.clone(), journal.clone(), reader, tasks.clone(), stop.clone(), pace.clone()).unwrap();
        // As the daemon does at its start.
        reporter.check().await.unwrap();
        dashboard.forget_all();
        Self { dir, dashboard, config, journal, pace, gate, tasks, stop, reporter }
    }

    pub fn journal(&self) -> PathBuf {
        self.journal.clone()
    }

    /// The journal's files.
    pub fn files(&self) -> Vec<PathBuf> {
        let all = std::fs::read_dir(self.journal()).unwrap().map(|e| e.unwrap().path());
        let mut all: Vec<_> = all.collect();
        all.sort();
        all
    }

    pub fn shut_gate(&self) {
        self.gate.send_replace(GateState::Shut);
    }
    pub fn open_gate(&self) {
        self.gate.send_replace(GateState::Open);
    }

    pub async fn open(&self, deployment: &str) -> Arc<JobReport> {
        self.open_as(deployment, 1, Arc::new(Fences::stored())).await
    }

    pub async fn open_as(&self, deployment: &str, attempt: u32, fence: Arc<dyn Fence>) -> Arc<JobReport> {
        self.reporter.open(&id(deployment), attempt, Arc::new(Redactor::new(&[], &[], &[])), fence).await.unwrap()
    }

    /// Waits until the one journal on this host holds that end.
    pub async fn until_journal_holds(&self, outcome: &Outcome) {
        while self.reporter.undelivered().await.unwrap()[0].2.as_ref() != Some(outcome) {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until a file of the journal holds that text, and so all that was said before it.
    pub async fn until_written(&self, text: &str) {
        let holds = |file: &PathBuf| String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).contains(text);
        while !self.files().iter().any(holds) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Every sender ends; what a report has left is its own to write.
    pub async fn senders_end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// All tasks of the reporter end, as with the process; only the disk stays. (All reports must have been dropped.)
    pub async fn restart(&mut self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        (self.tasks, self.stop) = (TaskTracker::new(), CancellationToken::new());
        let (gate, reader) = Gate::new(GateState::Open);
        self.gate = gate;
        self.reporter =
            Reporter::new(self.config.clone(), self.journal(), reader, self.tasks.clone(), self.stop.clone(), self.pace.clone())
                .unwrap();
    }

    /// Ends the reporter; nothing of it runs on.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await.expect("a task of the reporter runs on");
    }
}

/// A fence that answers as a test says, and counts how often it was asked.
pub struct Fences {
    answer: Box<dyn Fn(u32) -> Result<Fenced, ()> + Send + Sync>,
    tellings: Mutex<Vec<Telling>>,
}

impl Fences {
    pub fn stored() -> Self {
        Self::answering(|_| Ok(Fenced::Stored))
    }
    /// `answer` is given how often it was asked before.
    pub fn answering(answer: impl Fn(u32) -> Result<Fenced, ()> + Send + Sync + 'static) -> Self {
        Self { answer: Box::new(answer), tellings: Mutex::default() }
    }
    pub fn asked(&self) -> u32 {
        self.tellings().len() as u32
    }
    /// What it was asked for, in order.
    pub fn tellings(&self) -> Vec<Telling> {
        self.tellings.lock().unwrap().clone()
    }
}

impl Fence for Fences {
    fn may_post(&self, telling: Telling) -> BoxFuture<'_, Result<Fenced, ()>> {
        let mut tellings = self.tellings.lock().unwrap();
        let answer = (self.answer)(tellings.len() as u32);
        tellings.push(telling);
        std::future::ready(answer).boxed()
    }
}

/// Fails the test rather than hang where the end never arrives.
pub async fn end(report: &JobReport, outcome: Outcome) -> slipway::report::Delivery {
    tokio::time::timeout(std::time::Duration::from_secs(120), report.end(&outcome)).await.expect("the end arrives")
}

pub fn id(text: &str) -> DeploymentId {
    DeploymentId::parse(text).unwrap()
}

pub fn builded() -> Outcome {
    let digest = format!("sha256:{}", "ab".repeat(32));
    Outcome::Builded {
        image: ImageRef::new("127.0.0.1:5000/deployra/svc", "dpl-1", &digest).unwrap(),
        registry: RegistryType::Docker,
    }
}

pub fn failed(cause: &str) -> Outcome {
    Outcome::Failed { failure: Failure::new(Code::DockerfileStepFailed, cause, "See the step's output above.") }
}

pub fn cancelled() -> Outcome {
    Outcome::Cancelled { failure: Failure::new(Code::BuildCancelled, "The deployment was cancelled.", "") }
}
