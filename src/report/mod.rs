//! REPORT OUT: one ordered journal per deployment on disk, sent to the dashboard in order.
//!
//! [`JobReport`] (the job's log, its status, its end) → [`journal`] (disk) → [`sender`] (one per deployment) → [`dashboard`]
//! (what all senders share: one circuit, eight posts at once) → [`client`] (one HTTP post).

mod answer;
mod batch;
mod circuit;
mod client;
mod dashboard;
mod ended;
mod job_report;
mod journal;
pub mod listen;
mod pace;
mod patience;
mod pieces;
mod sender;
pub mod terminal;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
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
use crate::queue::{Fenced, Gate};
use crate::secrets::Redactor;
use dashboard::Dashboard;
use ended::Ended;
use journal::{DiskUse, Journal};
use sender::{Link, Progress, Sender};

/// Journals that may be under way or wait for the dashboard at once; each costs a task. Above it nothing is claimed.
const MAX_JOURNALS: usize = 2000;

/// Asked before each try to post a status or an end; `Err` means Redis did not answer: wait and ask again.
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
    ended: Arc<Ended>,
    shelf: Arc<Shelf>,
}

/// The journals on disk, and which of them are open.
#[derive(Default)]
struct Shelf {
    disk: Arc<DiskUse>,
    /// `None`: at rest on disk.
    journals: Mutex<HashMap<DeploymentId, Option<Arc<Link>>>>,
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, HashMap<DeploymentId, Option<Arc<Link>>>> {
        self.journals.lock().unwrap_or_else(PoisonError::into_inner)
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
        if let Some(place) = self.shelf.lock().get_mut(&self.deployment) {
            // Another report of the deployment may have been opened since this one's journal was removed.
            place.take_if(|link| Arc::ptr_eq(link, &self.link));
        }
    }
}

impl Reporter {
    /// `dir`: `WORK_DIR/journal`. Creates it. To be called on the runtime: one small task watches whether the key is accepted.
    pub fn new(
        config: DashboardConfig,
        dir: PathBuf,
        gate: Gate,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> io::Result<Arc<Self>> {
        Self::with_pace(config, dir, gate, tasks, stop, Pace::default())
    }

    /// [`Reporter::new`] with another patience than the daemon's.
    pub fn with_pace(
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
            shelf.lock().insert(id, None);
        }
        let dashboard = Arc::new(Dashboard::new(&config, pace.clone())?);
        let ended = Arc::new(Ended::open(dir.join("ended"))?);
        let (watched, stopped) = (Arc::clone(&dashboard), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = watched.watch_key() => {}
            }
        });
        Ok(Arc::new(Self { config, pace, dir, gate, tasks, stop, dashboard, ended, shelf }))
    }

    /// Opens (or continues, after a restart) the deployment's journal and starts its sender. An end that the journal holds from
    /// before is sent once [`JobReport::end`] is called with it, and not again where it was delivered; where `attempt` is another
    /// one than the journal's it is void. Reads the newest part of a journal that is there: call it where the disk may be waited for.
    ///
    /// # Errors
    /// The disk's; `ResourceBusy` while this deployment's report is open already.
    pub fn open(
        self: &Arc<Self>,
        deployment: &DeploymentId,
        attempt: u32,
        redactor: Arc<Redactor>,
        fence: Arc<dyn Fence>,
    ) -> io::Result<Arc<JobReport>> {
        let link = self.take_from_shelf(deployment, attempt)?;
        let sender = Sender {
            id: deployment.clone(),
            attempt,
            link: Arc::clone(&link),
            dashboard: Arc::clone(&self.dashboard),
            gate: self.gate.clone(),
            fence,
            ended: Arc::clone(&self.ended),
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
        Ok(Arc::new(JobReport::new(Arc::clone(self), deployment.clone(), link, redactor, loan)))
    }

    fn take_from_shelf(&self, deployment: &DeploymentId, attempt: u32) -> io::Result<Arc<Link>> {
        let mut journals = self.shelf.lock();
        let (dir, cap, disk) = (self.dir.clone(), self.config.log_max_bytes, Arc::clone(&self.shelf.disk));
        let journal = match journals.get(deployment) {
            Some(Some(_)) => {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "the report of this deployment is open already"));
            }
            Some(None) => {
                let numbers = journal::list(&self.dir)?.remove(deployment).unwrap_or_default().segments;
                Journal::recover(dir, deployment.clone(), &numbers, attempt, cap, disk, pace::random())?
            }
            None => Journal::create(dir, deployment.clone(), attempt, cap, disk, pace::random())?,
        };
        let link = Arc::new(Link {
            journal,
            work: Notify::new(),
            gathering: Notify::new(),
            armed: AtomicU64::new(0),
            progress: watch::Sender::new(Progress::default()),
            pause: CancellationToken::new(),
            kill: self.stop.child_token(),
        });
        journals.insert(deployment.clone(), Some(Arc::clone(&link)));
        Ok(link)
    }

    /// Deployments with a journal on disk, and the end that it holds, if any (also one that was delivered, but not closed).
    /// Attempt 0: nothing of it can be read. Reads a part of each journal: call it where the disk may be waited for.
    pub fn undelivered(&self) -> io::Result<Vec<(DeploymentId, u32, Option<Outcome>)>> {
        let journals = self.shelf.lock();
        let found = journal::list(&self.dir)?;
        let mut all = Vec::with_capacity(journals.len());
        for (id, place) in journals.iter() {
            let summary = match (place, found.get(id)) {
                (Some(link), _) => Some(link.journal.summary()),
                (None, Some(found)) => journal::summary(&self.dir, id, &found.segments)?,
                (None, None) => continue,
            };
            let (attempt, outcome) = summary.map_or((0, None), |s| (s.attempt, s.outcome));
            all.push((id.clone(), attempt, outcome));
        }
        Ok(all)
    }

    /// Removes the journal of a deployment that Redis no longer knows, without a word.
    ///
    /// # Errors
    /// The disk's; `ResourceBusy` while the report is open.
    pub fn discard(&self, deployment: &DeploymentId) -> io::Result<()> {
        let mut journals = self.shelf.lock();
        match journals.get(deployment) {
            Some(Some(_)) => Err(io::Error::new(io::ErrorKind::ResourceBusy, "the report of this deployment is open")),
            Some(None) => {
                let numbers = journal::list(&self.dir)?.remove(deployment).unwrap_or_default().segments;
                journal::discard(&self.dir, deployment, &numbers, &self.shelf.disk)?;
                journals.remove(deployment);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The attempt and the end of a deployment that were delivered in the last day: a job of it that an old snapshot of Redis
    /// brings back is not built again.
    pub fn ended(&self, deployment: &DeploymentId) -> Option<(u32, Outcome)> {
        self.ended.find(deployment).unwrap_or_else(|e| {
            tracing::warn!(deployment_id = %deployment, error = %e, "the list of delivered ends cannot be read");
            None
        })
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

    /// Whether the dashboard can be reached and accepts the key; stores nothing there. `Err`: address, cause and cure, for people.
    pub async fn check(&self) -> Result<(), String> {
        self.dashboard.check().await
    }
}
