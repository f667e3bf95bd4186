//! The daemon's main loop: capacity, one tracked task per job, notices to their jobs, and the drain.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::Instrument;

use super::attempt;
use super::job_tasks::{AfterPanic, Ended, JobTasks, after_panic};
use super::lifecycle::{self, Stop};
use super::returning::return_unbegun;
use super::shared::Shared;
use super::signals::Signals;
use super::systemd;
use crate::exit::Exit;
use crate::protocol::DeploymentId;
use crate::queue::{Claim, ClaimFate, Notice};

/// Jobs whose end could not be told yet hold no build slot, but above so many nothing more is claimed.
const MAX_UNTOLD: usize = 1000;
/// After a drain, how long stopped builds and unsent ends may still take.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// A task that returns many jobs is not started again for one of them.
const RETURNS_ARE_NOT_RETRIED: u32 = 2;
/// How often a worker that may not claim looks again.
const PAUSE: Duration = Duration::from_secs(2);

pub struct Supervisor {
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
    /// Claimed and to be built as soon as that may be, oldest first: before the restart, or while it was not known yet that it may not.
    waiting: VecDeque<Claim>,
    attempts: JobTasks<InHand>,
    said: Said,
}

/// A claim that a task works on, and how the task is told to stop.
struct InHand {
    claim: Claim,
    stop: mpsc::Sender<Stop>,
}

/// What was said last of whether jobs are claimed.
#[derive(PartialEq)]
enum Said {
    Nothing,
    Claims,
    /// Why not. The same reason with other figures is not said again: they are left out.
    Paused(String),
}

impl Supervisor {
    pub fn new(shared: Arc<Shared>, resumed: Vec<Claim>) -> Self {
        let slots = Arc::new(Semaphore::new(shared.config.worker.max_concurrent_builds));
        let mut supervisor = Self { shared, slots, waiting: VecDeque::new(), attempts: JobTasks::default(), said: Said::Nothing };
        for claim in resumed {
            match claim.fate {
                ClaimFate::Build | ClaimFate::BuildAlone => supervisor.waiting.push_back(claim),
                // Only its end is to be told.
                _ => supervisor.start(claim, None),
            }
        }
        supervisor
    }

    /// Claims and builds until a signal, then drains. Returns when nothing runs any more, or at once on the second signal.
    pub async fn run(mut self, mut notices: mpsc::Receiver<Notice>, signals: &mut Signals) -> Exit {
        let mut slot: Option<OwnedSemaphorePermit> = None;
        let mut claim: Option<BoxFuture<'static, Claim>> = None;
        let mut look = tokio::time::interval(PAUSE);
        let mut health = self.shared.stages.health.watch();
        loop {
            let waiting_for_slot = slot.is_none();
            let may_claim = self.may_claim();
            if may_claim
                && slot.is_some()
                && let Some(waiting) = self.waiting.pop_front()
            {
                self.start(waiting, slot.take());
                continue;
            }
            if !may_claim {
                // What it has taken, if anything, goes back to the queue, or comes from the next call.
                claim = None;
            } else if slot.is_some() && claim.is_none() {
                let queue = self.shared.queue.clone();
                claim = Some(async move { queue.claim().await }.boxed());
            }
            tokio::select! {
                biased;
                () = signals.next() => break,
                Some(notice) = notices.recv() => self.notify(notice),
                Some(ended) = self.attempts.next_ended() => self.ended(ended),
                claimed = async { match &mut claim { Some(claim) => claim.await, None => std::future::pending().await } } => {
                    claim = None;
                    self.waiting.push_back(claimed);
                }
                free = self.slots.clone().acquire_owned(), if waiting_for_slot => slot = free.ok(),
                // A host that begins to fail takes nothing more, not even what it has asked for.
                Ok(()) = health.changed() => {}
                _ = look.tick() => {}
            }
        }
        // A claim whose answer is on its way goes back to the queue by itself.
        drop(claim);
        drop(slot);
        self.shared.queue.stop_claiming().await;
        self.return_what_waits();
        let drain_takes = self.shared.config.worker.drain_timeout + LAST_WORDS;
        tokio::select! {
            code = self.drain(notices, signals) => code,
            never = systemd::allow(drain_takes) => match never {},
        }
    }

    fn may_claim(&mut self) -> bool {
        let why_not = if self.attempts.len() >= MAX_UNTOLD + self.shared.config.worker.max_concurrent_builds {
            Some(format!("No job is claimed: {} ends are waiting to be told to the dashboard.", self.attempts.len()))
        } else if let Err(why) = self.shared.reporter.accepts_work() {
            Some(why)
        } else if let Err(why) = self.shared.housekeeper.room() {
            Some(why)
        } else {
            self.shared.stages.health.may_claim().err()
        };
        let may = why_not.is_none();
        self.shared.queue.allow_claims(may);
        let now = match &why_not {
            Some(why) => Said::Paused(why.replace(|c: char| c.is_ascii_digit(), "")),
            None => Said::Claims,
        };
        if now != self.said {
            match (&why_not, &self.said) {
                (Some(why), _) => tracing::warn!("{why}"),
                (None, Said::Nothing) => {
                    let redis = &self.shared.config.queue;
                    tracing::info!("ready: waits for jobs in the list {} of Redis at {}", redis.queue_name, redis.address());
                }
                (None, Said::Claims | Said::Paused(_)) => tracing::info!("jobs are claimed again"),
            }
            self.said = now;
        }
        may
    }

    fn start(&mut self, claim: Claim, slot: Option<OwnedSemaphorePermit>) {
        self.start_again(claim, 0, |shared, claim, stops| attempt::run(shared, claim, slot, stops));
    }

    /// `panics`: of earlier tasks of this claim.
    fn start_again<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        claim: Claim,
        panics: u32,
        work: impl FnOnce(Arc<Shared>, Claim, mpsc::Receiver<Stop>) -> F,
    ) {
        // Small and bounded: a job is told at most a few things, and a full channel means that it knows already.
        let (stop, stops) = mpsc::channel(8);
        let text = |id: Option<&str>| id.unwrap_or("unknown").to_owned();
        let span = tracing::info_span!(
            "job",
            deployment_id = text(claim.deployment.as_ref().map(DeploymentId::as_str)),
            service_id = text(claim.service.as_ref().map(crate::protocol::ServiceId::as_str)),
            attempt = claim.attempt
        );
        let task = work(self.shared.clone(), claim.clone(), stops).instrument(span);
        self.attempts.start(InHand { claim, stop }, panics, task);
    }

    /// The pipeline catches its own panics; a task that panics has met a defect outside of it. Its claim is still this worker's, and
    /// nobody else ends it.
    fn ended(&mut self, ended: Ended<InHand>) {
        let Ended::Panicked { claim: InHand { claim, .. }, panics, words } = ended else { return };
        let deployment_id = claim.deployment.as_ref().map_or("unknown", DeploymentId::as_str);
        match after_panic(panics, self.shared.queue.stored_end(&claim)) {
            AfterPanic::Tell(outcome) => {
                tracing::error!(deployment_id, "the task of this deployment panicked, it is ended now: {words}");
                let claim = Claim { fate: ClaimFate::Ended(outcome), ..claim };
                self.start_again(claim, panics, |shared, claim, stops| attempt::run(shared, claim, None, stops));
            }
            AfterPanic::DeadLetter(failure) => {
                tracing::error!(
                    deployment_id,
                    "the end of this deployment cannot be told, it goes to the dead letter list: {words}"
                );
                self.start_again(claim, panics, |shared, claim, _| async move {
                    attempt::bury(&shared, &claim, claim.deployment.as_ref(), &failure).await;
                });
            }
            AfterPanic::LeaveToNextStart => {
                tracing::error!(deployment_id, "this deployment stays claimed until the worker is started again: {words}");
            }
        }
    }

    fn notify(&mut self, notice: Notice) {
        let Some(notice) = self.notify_waiting(notice) else { return };
        let (deployment, stop) = match notice {
            Notice::Cancelled(id) => (id, Stop::Cancelled(lifecycle::cancelled())),
            Notice::Superseded { deployment, by } => (deployment, Stop::Cancelled(lifecycle::superseded(&by))),
            Notice::Lost(id) => (id, Stop::Lost),
            // Cancelled while it was queued: there is only its end to tell.
            Notice::Claimed(claim) => return self.start(claim, None),
        };
        for InHand { claim, stop: tell } in self.attempts.claims() {
            if claim.deployment.as_ref() == Some(&deployment) {
                let _already_told = tell.try_send(stop.clone());
            }
        }
    }

    /// A claimed job that still waits for a slot needs none to be ended, or to be let go. Gives other notices back.
    fn notify_waiting(&mut self, notice: Notice) -> Option<Notice> {
        let (deployment, fate) = match &notice {
            Notice::Cancelled(id) => (id, Some(ClaimFate::Cancelled)),
            Notice::Superseded { deployment, by } => (deployment, Some(ClaimFate::Superseded { by: by.clone() })),
            Notice::Lost(id) => (id, None),
            Notice::Claimed(_) => return Some(notice),
        };
        let Some(at) = self.waiting.iter().position(|claim| claim.deployment.as_ref() == Some(deployment)) else {
            return Some(notice);
        };
        let claim = self.waiting.remove(at)?;
        if let Some(fate) = fate {
            self.start(Claim { fate, ..claim }, None);
        }
        None
    }

    /// What was claimed, or taken up at the start, and has not begun goes back to the head of the queue at once: another host starts it.
    fn return_what_waits(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let Some(first) = waiting.front().cloned() else { return };
        tracing::info!(jobs = waiting.len(), "stopping: jobs that have not begun go back to the queue");
        self.start_again(first, RETURNS_ARE_NOT_RETRIED, |shared, _, _| return_unbegun(shared, waiting.into()));
    }

    /// Running builds may finish for `DRAIN_TIMEOUT`, then they are stopped and go back to the queue.
    async fn drain(mut self, mut notices: mpsc::Receiver<Notice>, signals: &mut Signals) -> Exit {
        let timeout = self.shared.config.worker.drain_timeout;
        tracing::info!(
            running = self.attempts.len(),
            "stopping: nothing more is claimed, running builds may finish for {} s; a second signal ends at once",
            timeout.as_secs()
        );
        let phases = [(timeout, Some(Stop::Drained)), (LAST_WORDS, None)];
        for (time, then) in phases {
            if !self.wait_for_all(time, &mut notices, signals).await {
                return self.ends_at_once();
            }
            if let Some(stop) = then {
                for InHand { stop: tell, .. } in self.attempts.claims() {
                    let _already_told = tell.try_send(stop.clone());
                }
            }
        }
        self.shared.halt.cancel();
        loop {
            tokio::select! {
                biased;
                () = signals.next() => return self.ends_at_once(),
                ended = self.attempts.next_ended() => match ended {
                    Some(ended) => self.ended(ended),
                    None => break,
                },
            }
        }
        tracing::info!("stopped");
        Exit::Ok
    }

    fn ends_at_once(&self) -> Exit {
        self.shared.halt.cancel();
        tracing::warn!("second signal: ending at once; jobs that the next start takes up: {}", self.attempts.len());
        Exit::Temporary
    }

    /// `false`: a second signal came.
    async fn wait_for_all(&mut self, time: Duration, notices: &mut mpsc::Receiver<Notice>, signals: &mut Signals) -> bool {
        let deadline = tokio::time::sleep(time);
        tokio::pin!(deadline);
        while !self.attempts.is_empty() {
            tokio::select! {
                biased;
                () = signals.next() => return false,
                Some(notice) = notices.recv() => self.notify(notice),
                Some(ended) = self.attempts.next_ended() => self.ended(ended),
                () = &mut deadline => return true,
            }
        }
        true
    }
}
