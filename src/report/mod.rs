//! REPORT OUT: one ordered journal per deployment on disk, sent to the dashboard in order.
//!
//! [`JobReport`] (the job's log, its status, its end) → [`journal`] (disk) → [`sender`] (one per deployment) → [`dashboard`]
//! (what all senders share: one circuit, eight posts at once) → [`client`] (one HTTP post).

mod allowance;
mod answer;
mod batch;
mod client;
mod dashboard;
mod job_report;
mod journal;
pub mod listen;
mod pace;
mod patience;
mod pieces;
mod refusals;
mod sender;
pub mod terminal;
mod test_post;

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub use job_report::JobReport;
pub use pace::Pace;

use crate::config::DashboardConfig;
use crate::protocol::{DeploymentId, Outcome};
use crate::queue::{Fenced, Gate, Telling};
use crate::secrets::Redactor;
use dashboard::Dashboard;
use journal::{DiskUse, Journal};
use sender::{Link, Progress, Sender};

/// Journals that may be under way or wait for the dashboard at once; each costs a task. Above it nothing is claimed.
const MAX_JOURNALS: usize = 2000;

/// Asked before each try to post a status or an end; `Err` means Redis did not answer: wait and ask again.
pub trait Fence: Send + Sync {
    fn may_post(&self, telling: Telling) -> BoxFuture<'_, Result<Fenced, ()>>;
}

/// How the delivery of a deployment's journal ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The end was answered with 2xx, all that stood before it too.
    Delivered,
    /// The dashboard refuses it for good while it takes other posts, with this status (404 for minutes, or any other one however little
    /// of the end is told): said in the worker's log.
    Refused { status: u16 },
    /// The fence said that the attempt is not ours: nothing more was sent.
    Lost,
    /// A cancel came first (the fence said so, or CANCELLED was given as the end meanwhile): the end was not sent, or not again.
    /// The caller records CANCELLED and gives that as the end.
    Cancelled,
    /// Stopped by the token; the journal stays for the next start.
    Stopped,
}

/// Opens journals and sends them. One per process; knows the dashboard's health (one circuit for all journals).
pub struct Reporter {
    config: DashboardConfig,
    pace: Pace,
    dir: PathBuf,
    gate: Gate,
    tasks: TaskTracker,
    stop: CancellationToken,
    dashboard: Arc<Dashboard>,
    shelf: Arc<Shelf>,
}

/// The journals on disk, and which of them are open.
#[derive(Default)]
struct Shelf {
    disk: Arc<DiskUse>,
    journals: Mutex<HashMap<DeploymentId, Place>>,
}

/// Where a journal is. The lock on all of them is never held while the disk is waited for.
enum Place {
    /// On disk, open nowhere.
    AtRest,
    /// Being read, begun or removed right now.
    Moving,
    Open(Arc<Link>),
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, HashMap<DeploymentId, Place>> {
        self.journals.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn put(&self, deployment: &DeploymentId, place: Place) {
        self.lock().insert(deployment.clone(), place);
    }

    /// Takes a journal for itself. `true`: it lies on disk; `false`: there is none.
    ///
    /// # Errors
    /// `ResourceBusy`: it is open.
    fn take(&self, deployment: &DeploymentId) -> io::Result<bool> {
        let mut journals = self.lock();
        let is_there = match journals.get(deployment) {
            Some(Place::Open(_) | Place::Moving) => {
                return Err(io::Error::new(ErrorKind::ResourceBusy, "the report of this deployment is open"));
            }
            Some(Place::AtRest) => true,
            None => false,
        };
        journals.insert(deployment.clone(), Place::Moving);
        Ok(is_there)
    }
}

/// Held by a report and by its sender. When both are gone the journal is at rest and may be opened again.
struct Loan {
    shelf: Arc<Shelf>,
    deployment: DeploymentId,
    link: Arc<Link>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        // Another report of the deployment may have been opened since this one's journal was removed.
        if let Some(place) = self.shelf.lock().get_mut(&self.deployment)
            && matches!(place, Place::Open(link) if Arc::ptr_eq(link, &self.link))
        {
            *place = Place::AtRest;
        }
    }
}

impl Reporter {
    /// `dir`: `WORK_DIR/journal`. Creates it. Blocking, and to be called on the runtime, before anything else runs on it: one small task
    /// watches whether the key is accepted.
    pub fn new(
        config: DashboardConfig,
        dir: PathBuf,
        gate: Gate,
        tasks: TaskTracker,
        stop: CancellationToken,
        pace: Pace,
    ) -> io::Result<Arc<Self>> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let shelf = Arc::new(Shelf::default());
        for (id, found) in journal::list(&dir)? {
            if found.segments.is_empty() {
                journal::remove_cursor(&dir, &id)?;
                continue;
            }
            shelf.disk.grow(found.bytes);
            shelf.put(&id, Place::AtRest);
        }
        let dashboard = Arc::new(Dashboard::new(&config, pace.clone())?);
        let (watched, stopped) = (Arc::clone(&dashboard), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = watched.watch_key() => {}
            }
        });
        Ok(Arc::new(Self { config, pace, dir, gate, tasks, stop, dashboard, shelf }))
    }

    /// Opens (or continues, after a restart) the deployment's journal and starts its sender. An end that the journal holds from
    /// before is sent once [`JobReport::end`] is called with it, and not again where it was delivered; where `attempt` is another
    /// one than the journal's it is void.
    ///
    /// # Errors
    /// The disk's; `ResourceBusy` while this deployment's report is open already.
    pub async fn open(
        self: &Arc<Self>,
        deployment: &DeploymentId,
        attempt: u32,
        redactor: Arc<Redactor>,
        fence: Arc<dyn Fence>,
    ) -> io::Result<Arc<JobReport>> {
        let (reporter, id) = (Arc::clone(self), deployment.clone());
        let link = off_the_runtime(move || reporter.take_from_shelf(&id, attempt)).await?;
        let sender = Sender {
            id: deployment.clone(),
            link: Arc::clone(&link),
            dashboard: Arc::clone(&self.dashboard),
            gate: self.gate.clone(),
            fence: Arc::clone(&fence),
            pace: self.pace.clone(),
        };
        let span = tracing::info_span!("report", deployment_id = %deployment, attempt);
        let loan = Arc::new(Loan { shelf: Arc::clone(&self.shelf), deployment: deployment.clone(), link: Arc::clone(&link) });
        let sending = Arc::clone(&loan);
        let send = async move {
            sender.run().await;
            drop(sending);
        };
        self.tasks.spawn(send.instrument(span));
        Ok(Arc::new(JobReport::new(Arc::clone(self), deployment.clone(), link, redactor, fence, loan)))
    }

    /// Blocking.
    fn take_from_shelf(&self, deployment: &DeploymentId, attempt: u32) -> io::Result<Arc<Link>> {
        let is_there = self.shelf.take(deployment)?;
        let journal = self.journal(deployment, attempt, is_there).inspect_err(|_| self.put_back(deployment, is_there))?;
        let link = Arc::new(Link {
            journal,
            work: Notify::new(),
            gathering: Notify::new(),
            armed: AtomicU64::new(0),
            progress: watch::Sender::new(Progress::default()),
            speaking: tokio::sync::Mutex::default(),
            cancel_told: AtomicBool::new(false),
            pause: CancellationToken::new(),
            kill: self.stop.child_token(),
        });
        self.shelf.put(deployment, Place::Open(Arc::clone(&link)));
        Ok(link)
    }

    fn journal(&self, deployment: &DeploymentId, attempt: u32, is_there: bool) -> io::Result<Journal> {
        let (dir, cap, disk) = (self.dir.clone(), self.config.log_max_bytes, Arc::clone(&self.shelf.disk));
        if !is_there {
            return Journal::create(dir, deployment.clone(), attempt, cap, disk, pace::random());
        }
        let numbers = journal::list(&self.dir)?.remove(deployment).unwrap_or_default().segments;
        Journal::recover(dir, deployment.clone(), &numbers, attempt, cap, disk, pace::random())
    }

    fn put_back(&self, deployment: &DeploymentId, is_there: bool) {
        if is_there {
            self.shelf.put(deployment, Place::AtRest);
        } else {
            self.shelf.lock().remove(deployment);
        }
    }

    /// Deployments with a journal on disk, and the end that it holds, if any (also one that was delivered, but not closed).
    /// Attempt 0: nothing of it can be read.
    pub async fn undelivered(self: &Arc<Self>) -> io::Result<Vec<(DeploymentId, u32, Option<Outcome>)>> {
        let reporter = Arc::clone(self);
        off_the_runtime(move || {
            let mut all = Vec::new();
            for (id, found) in journal::list(&reporter.dir)? {
                let open = match reporter.shelf.lock().get(&id) {
                    Some(Place::Open(link)) => Some(Arc::clone(link)),
                    Some(Place::AtRest) => None,
                    Some(Place::Moving) | None => continue,
                };
                let summary = match open {
                    Some(link) => Some(link.journal.summary()),
                    None => journal::summary(&reporter.dir, &id, &found.segments)?,
                };
                let (attempt, outcome) = summary.map_or((0, None), |s| (s.attempt, s.outcome));
                all.push((id, attempt, outcome));
            }
            Ok(all)
        })
        .await
    }

    /// Removes the journal of a deployment that Redis no longer knows, without a word.
    ///
    /// # Errors
    /// The disk's; `ResourceBusy` while the report is open.
    pub async fn discard(self: &Arc<Self>, deployment: &DeploymentId) -> io::Result<()> {
        let (reporter, id) = (Arc::clone(self), deployment.clone());
        off_the_runtime(move || {
            let is_there = reporter.shelf.take(&id)?;
            let numbers = journal::list(&reporter.dir).map(|mut all| all.remove(&id).unwrap_or_default().segments);
            let removed = numbers.and_then(|numbers| journal::discard(&reporter.dir, &id, &numbers, &reporter.shelf.disk));
            reporter.put_back(&id, is_there && removed.is_err());
            removed
        })
        .await
    }

    /// Whether jobs may be claimed: the dashboard does not answer 401/403, and the journals are below their cap.
    /// `Err` says why not.
    pub fn accepts_work(&self) -> Result<(), String> {
        if let Some(status) = self.dashboard.denied() {
            return Err(format!("No job is claimed, for its result could not be told: {}", self.dashboard.denied_words(status)));
        }
        let (bytes, cap) = (self.shelf.disk.bytes(), self.config.journal_max_bytes);
        if bytes > cap {
            return Err(format!(
                "No job is claimed: {bytes} bytes of reports wait on disk for the dashboard at {}, and JOURNAL_MAX_BYTES is {cap}.",
                self.dashboard.address()
            ));
        }
        let count = self.shelf.lock().len();
        if count > MAX_JOURNALS {
            return Err(format!(
                "No job is claimed: the reports of {count} deployments wait for the dashboard at {}; {MAX_JOURNALS} may.",
                self.dashboard.address()
            ));
        }
        Ok(())
    }

    /// Whether a journal is open, or about to be: then the disk is written to.
    pub fn is_busy(&self) -> bool {
        self.shelf.lock().values().any(|place| !matches!(place, Place::AtRest))
    }

    /// As [`check()`], and remembers what it found: with a key that is refused no job is claimed.
    pub async fn check(&self) -> Result<(), String> {
        self.dashboard.check().await
    }
}

/// Whether a dashboard can be reached and accepts the key; stores nothing there. `Err`: address, cause and cure, for people.
pub async fn check(config: &DashboardConfig) -> Result<(), String> {
    let dashboard = Dashboard::new(config, Pace::default()).map_err(|error| error.to_string())?;
    dashboard.check().await
}

/// Runs what waits for the disk beside the runtime.
async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
