//! One deployment's report as its job sees it: lines, a status, the end.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::task::JoinError;

use super::allowance::{Allowance, Told};
use super::answer::Answer;
use super::batch::cut_chars;
use super::client::Post;
use super::journal::{EndPlace, Woken};
use super::pace::{jittered, random};
use super::refusals::{Extent, status_post};
use super::sender::{Link, Progress};
use super::{Delivery, Fence, Loan, Reporter};
use crate::protocol::{DeploymentId, DeploymentStatus, Failure, LogSink, LogType, Outcome, StatusPost, safe_text};
use crate::queue::{Fenced, GateState, Telling};
use crate::secrets::Redactor;

/// How long a job that goes back to the queue waits for the disk.
const DISK_ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// How long a CANCELLED waits for the disk before it is told without it.
const CANCEL_WAITS: Duration = Duration::from_secs(5);
/// A cause and a way out are kept up to so many characters each: they are one line each.
const FAILURE_CHARS: usize = 2000;

/// One deployment's report. Dropping it stops the sender and leaves the journal on disk.
pub struct JobReport {
    reporter: Arc<Reporter>,
    deployment: DeploymentId,
    link: Arc<Link>,
    redactor: Arc<Redactor>,
    allowance: Mutex<Allowance>,
    fence: Arc<dyn Fence>,
    runtime: Handle,
    _loan: Arc<Loan>,
}

impl JobReport {
    pub(super) fn new(
        reporter: Arc<Reporter>,
        deployment: DeploymentId,
        link: Arc<Link>,
        redactor: Arc<Redactor>,
        fence: Arc<dyn Fence>,
        loan: Arc<Loan>,
    ) -> Self {
        let allowance = Mutex::new(Allowance::new(reporter.config.log_total_max));
        Self { reporter, deployment, link, redactor, allowance, fence, runtime: Handle::current(), _loan: loan }
    }

    /// Appends a status (BUILDING) in order with the lines. Ends go through [`JobReport::end`].
    /// Behind a CANCELLED it is not appended: the dashboard would take the deployment back to life.
    pub fn status(&self, status: DeploymentStatus) {
        self.wake(self.link.journal.status(status));
    }

    /// Appends what [`Allowance`] kept of the log, and the end, synced to disk, with its cause as the last log line, and waits until it is
    /// delivered.
    ///
    /// An end that was not sent is void when another one is given: so a cancel overrules it (its waiting call returns
    /// [`Delivery::Cancelled`]); CANCELLED also follows an end that was sent. The same end given again, also after a restart, is
    /// not appended or sent twice. May be dropped: what was appended stays, and is sent as soon as it is asked for again.
    pub async fn end(&self, outcome: &Outcome) -> Delivery {
        let outcome = self.redacted(outcome);
        self.write_rest();
        let mut tries = 0;
        let ordinal = loop {
            match self.write_end(&outcome).await {
                Ok(Ok(EndPlace::Waits(ordinal))) => break ordinal,
                Ok(Ok(EndPlace::Delivered)) => return Delivery::Delivered,
                Ok(Ok(EndPlace::AfterCancelled)) => return Delivery::Cancelled,
                Ok(Ok(EndPlace::OtherDelivered)) => {
                    tracing::error!(deployment_id = %self.deployment, "an end was told already; another one is not told after it");
                    return Delivery::Delivered;
                }
                Ok(Err(e)) => {
                    tracing::error!(deployment_id = %self.deployment, error = %e, "the end cannot be written to the journal; tried again");
                    let wait = jittered(self.reporter.pace.base, self.reporter.pace.cap, tries, random());
                    tries += 1;
                    tokio::select! {
                        () = self.link.kill.cancelled() => return Delivery::Stopped,
                        () = tokio::time::sleep(wait) => {}
                    }
                }
                Err(_) => return Delivery::Stopped,
            }
        };
        self.link.armed.fetch_max(ordinal, Ordering::AcqRel);
        self.link.work.notify_one();
        let mut progress = self.link.progress.subscribe();
        match progress.wait_for(|p| fate(p, ordinal).is_some()).await {
            Ok(progress) => fate(&progress, ordinal).unwrap_or(Delivery::Stopped),
            Err(_) => Delivery::Stopped,
        }
    }

    /// On disk for good, and told only then; but a CANCELLED is told without it where the disk does not answer, for whoever cancelled waits.
    /// That is safe: the end is stored in Redis already, and nothing but CANCELLED and log lines may follow.
    async fn write_end(&self, outcome: &Outcome) -> Result<io::Result<EndPlace>, JoinError> {
        let (link, end) = (Arc::clone(&self.link), outcome.clone());
        let mut writing = tokio::task::spawn_blocking(move || write_end(&link, &end));
        let tell = async {
            if !matches!(outcome, Outcome::Cancelled { .. }) {
                return;
            }
            loop {
                tokio::time::sleep(CANCEL_WAITS).await;
                if self.tell_cancelled(outcome).await {
                    return;
                }
            }
        };
        tokio::select! {
            written = &mut writing => return written,
            () = tell => {}
        }
        writing.await
    }

    /// `true`: the dashboard knows, or this attempt has nothing to say any more.
    async fn tell_cancelled(&self, outcome: &Outcome) -> bool {
        let _speaking = self.link.speaking.lock().await;
        if self.reporter.gate.state() != GateState::Open {
            return false;
        }
        match self.fence.may_post(Telling::End).await {
            Ok(Fenced::Lost) => return true,
            Ok(_) if self.reporter.gate.state() == GateState::Open => {}
            Ok(_) | Err(()) => return false,
        }
        let post = status_post(outcome, Extent::Whole);
        let answer = self.reporter.dashboard.post_once(&self.deployment, Post::Status(&post)).await;
        tracing::info!(deployment_id = %self.deployment, ?answer, "the disk does not answer: CANCELLED was told before its last lines");
        let is_told = matches!(answer, Answer::Taken);
        if is_told {
            self.link.cancel_told.store(true, Ordering::Release);
        }
        is_told
    }

    /// Sends the last lines and posts PENDING (best effort, one try, 1 s), and voids the journal: the job went back to the queue.
    /// The post that is under way is waited for first, within that second; nothing is posted where an end was given, nor where the
    /// fence does not say that this attempt may be spoken for: behind the dashboard's own CANCELLED a PENDING locks the service.
    pub async fn give_back(&self) {
        self.write_rest();
        let link = Arc::clone(&self.link);
        let flushing = tokio::task::spawn_blocking(move || link.journal.flush());
        if !matches!(tokio::time::timeout(DISK_ANSWERS_WITHIN, flushing).await, Ok(Ok(_))) {
            tracing::warn!(deployment_id = %self.deployment, "the disk does not take the last lines before the return; they are not told");
        }
        self.link.pause.cancel();
        self.link.work.notify_one();
        let budget = self.reporter.pace.give_back;
        let started = tokio::time::Instant::now();
        if tokio::time::timeout(budget / 2, self.sender_gone()).await.is_err() {
            self.link.kill.cancel();
        }
        if !self.link.journal.has_end() && self.reporter.gate.state() == GateState::Open {
            match tokio::time::timeout_at(started + budget, self.post_pending()).await {
                Ok(()) => {}
                Err(_) => {
                    tracing::warn!(deployment_id = %self.deployment, "PENDING was not answered in time; the job goes back all the same")
                }
            }
        }
        // Where the disk does not answer the job goes back all the same: the next start finds in Redis that its journal is void.
        if tokio::time::timeout(DISK_ANSWERS_WITHIN, self.remove()).await.is_err() {
            tracing::warn!(deployment_id = %self.deployment, "the journal is not removed yet: the disk does not answer");
        }
    }

    async fn post_pending(&self) {
        match self.fence.may_post(Telling::Status).await {
            Ok(Fenced::Stored) if self.reporter.gate.state() == GateState::Open => {
                let pending = StatusPost { status: DeploymentStatus::Pending, error: None, data: None };
                let answer = self.reporter.dashboard.post_once(&self.deployment, Post::Status(&pending)).await;
                tracing::debug!(?answer, "PENDING was posted");
            }
            said => {
                tracing::info!(deployment_id = %self.deployment, ?said, "PENDING is not told; the job goes back all the same")
            }
        }
    }

    /// Stops sending and removes the journal without a word: the attempt is another worker's.
    pub async fn abandon(&self) {
        self.remove().await;
    }

    /// Removes the journal after its end was delivered and acknowledged in Redis.
    pub async fn close(&self) {
        self.remove().await;
    }

    async fn remove(&self) {
        self.link.kill.cancel();
        self.sender_gone().await;
        let link = Arc::clone(&self.link);
        let removed = tokio::task::spawn_blocking(move || link.journal.remove()).await;
        match removed {
            Ok(Ok(())) => {
                self.reporter.shelf.lock().remove(&self.deployment);
            }
            Ok(Err(e)) => tracing::warn!(deployment_id = %self.deployment, error = %e, "the journal cannot be removed"),
            Err(_) => {}
        }
    }

    async fn sender_gone(&self) {
        // `Err`: the sender's end of it is gone, which is what was waited for.
        self.link.progress.subscribe().wait_for(|p| p.over.is_some()).await.ok();
    }

    fn write_rest(&self) {
        let rest = self.allowance.lock().unwrap_or_else(PoisonError::into_inner).rest();
        self.write_all(rest);
    }

    fn write_all(&self, lines: Vec<(LogType, String)>) {
        for (kind, text) in lines {
            self.write(kind, &text);
        }
    }

    /// Goes to disk when a post's worth has gathered.
    fn write(&self, kind: LogType, text: &str) {
        self.wake(self.link.journal.log(kind, text));
    }

    fn wake(&self, woken: Woken) {
        if woken.writer {
            let link = Arc::clone(&self.link);
            self.runtime.spawn_blocking(move || {
                if link.journal.write() {
                    link.work.notify_one();
                }
            });
        }
        if woken.gathering {
            self.link.gathering.notify_one();
        }
    }

    fn redacted(&self, outcome: &Outcome) -> Outcome {
        let clean = |f: &Failure| Failure {
            cause: cut_chars(&self.redactor.redact(&safe_text(&f.cause)), FAILURE_CHARS),
            way_out: cut_chars(&self.redactor.redact(&safe_text(&f.way_out)), FAILURE_CHARS),
            ..f.clone()
        };
        match outcome {
            Outcome::Builded { .. } => outcome.clone(),
            Outcome::Failed { failure } => Outcome::Failed { failure: clean(failure) },
            Outcome::Cancelled { failure } => Outcome::Cancelled { failure: clean(failure) },
        }
    }
}

impl LogSink for JobReport {
    /// Takes out what is not to be seen (first, so that nothing invisible parts a secret), redacts, and takes what may still be told. It waits
    /// for nothing: see [`LogSink::room`].
    fn line(&self, kind: LogType, text: &str) {
        let safe = safe_text(text);
        let text = self.redactor.redact(&safe);
        // Held until it is taken: nothing comes between what belongs together.
        let mut allowance = self.allowance.lock().unwrap_or_else(PoisonError::into_inner);
        match allowance.take(kind, &text) {
            Told::Behind(kept) => {
                self.write_all(kept);
                self.write(kind, &text);
            }
            Told::LastWord(words) => self.write(LogType::Warning, &words),
            Told::Nothing => {}
        }
    }

    fn has_room(&self) -> bool {
        self.link.journal.has_room()
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        self.link.journal.room().boxed()
    }
}

impl Drop for JobReport {
    fn drop(&mut self) {
        self.link.kill.cancel();
        // The sender writes what is left too when it ends; where it has ended before, what came since is written now, beside the runtime.
        // The end of the process waits for it, for a bounded time.
        if !self.link.journal.is_flushed() {
            let link = Arc::clone(&self.link);
            self.reporter.tasks.spawn_blocking_on(move || link.journal.flush(), &self.runtime);
        }
    }
}

/// The end and its last line, on disk for good.
fn write_end(link: &Link, outcome: &Outcome) -> io::Result<EndPlace> {
    let last_line = match outcome {
        Outcome::Builded { .. } => None,
        Outcome::Failed { failure } => Some((LogType::Error, failure.to_string())),
        Outcome::Cancelled { failure } => Some((LogType::Info, failure.to_string())),
    };
    let place = link.journal.end(outcome, last_line.as_ref().map(|(kind, text)| (*kind, text.as_str())))?;
    if let EndPlace::Waits(_) = place {
        link.journal.sync()?;
    }
    Ok(place)
}

/// What became of the end with this ordinal. A later one that has a fate overruled it.
fn fate(progress: &Progress, ordinal: u64) -> Option<Delivery> {
    match &progress.settled {
        Some((settled, delivery)) if *settled == ordinal => Some(delivery.clone()),
        Some((settled, _)) if *settled > ordinal => Some(Delivery::Cancelled),
        _ => progress.over.clone(),
    }
}
