//! The daemon's main loop: capacity, one tracked task per job, notices to their jobs, and the drain.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::alone::{OFFERED_FOR, Verdict, WaitingAlone};
use super::attempt::{self, Begun, Origin};
use super::job_tasks::{AfterPanic, Ended, JobTasks, after_panic};
use super::lifecycle::{self, Stop};
use super::returning::return_unbegun;
use super::shared::Shared;
use super::signals::Signals;
use super::slots::{Company, Place};
use super::systemd;
use super::watchdog::Heart;
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

/// How long a claim stays here while nothing may begin for another reason than that the slots are taken: it may be over in a moment.
const STAYS_WHILE_PAUSED: Duration = Duration::from_secs(5);

pub struct Supervisor {
    shared: Arc<Shared>,
    /// Claimed and not begun, oldest first. What cannot begin goes back to the queue; only what has to build alone may stay.
    waiting: VecDeque<Waiting>,
    alone: WaitingAlone,
    /// Nothing is claimed before that: a claim was offered to the other hosts.
    claims_from: Instant,
    /// A claim that has to build alone has waited for long: nothing more is claimed until it has begun.
    reserved: bool,
    attempts: JobTasks<InHand>,
    said: Said,
    /// Beats each time the loop goes round: systemd's watchdog is fed by it.
    heart: Heart,
}

/// A claim that a task works on, and how the task is told to stop.
struct InHand {
    claim: Claim,
    stop: mpsc::Sender<Stop>,
}

/// A claim that has not begun.
struct Waiting {
    claim: Claim,
    origin: Origin,
    since: Instant,
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
    pub fn new(shared: Arc<Shared>, resumed: Vec<Claim>, heart: Heart) -> Self {
        let mut supervisor = Self {
            shared,
            waiting: VecDeque::new(),
            alone: WaitingAlone::default(),
            claims_from: Instant::now(),
            reserved: false,
            attempts: JobTasks::default(),
            said: Said::Nothing,
            heart,
        };
        for claim in resumed {
            match claim.fate {
                ClaimFate::Build | ClaimFate::BuildAlone => supervisor.wait_to_begin(claim, Origin::Resumed),
                // Only its end is to be told.
                _ => supervisor.start(Begun { claim, origin: Origin::Resumed, place: None }),
            }
        }
        supervisor
    }

    /// Claims and builds until a signal, then drains. Returns when nothing runs any more, or at once on the second signal.
    pub async fn run(mut self, mut notices: mpsc::Receiver<Notice>, signals: &mut Signals) -> Exit {
        let mut claim: Option<BoxFuture<'static, Claim>> = None;
        let mut look = tokio::time::interval(PAUSE.min(self.heart.every()));
        let mut health = self.shared.stages.health.watch();
        let shared = self.shared.clone();
        loop {
            self.heart.beat();
            let slots_changed = shared.slots.changed();
            tokio::pin!(slots_changed);
            // From here on no change is missed.
            slots_changed.as_mut().enable();
            let may_work = self.may_work();
            self.begin_or_give_back(may_work);
            let may_claim = may_work && !self.reserved && Instant::now() >= self.claims_from && shared.slots.has_room();
            if !may_claim {
                // What it has taken, if anything, goes back to the queue, or comes from the next call.
                claim = None;
            } else if claim.is_none() {
                let queue = self.shared.queue.clone();
                claim = Some(async move { queue.claim().await }.boxed());
            }
            let claims_from = self.claims_from;
            tokio::select! {
                biased;
                () = signals.next() => break,
                Some(notice) = notices.recv() => self.notify(notice),
                Some(ended) = self.attempts.next_ended() => self.ended(ended),
                claimed = async { match &mut claim { Some(claim) => claim.await, None => std::future::pending().await } } => {
                    claim = None;
                    self.wait_to_begin(claimed, Origin::Queue);
                }
                () = slots_changed => {}
                () = tokio::time::sleep_until(claims_from.into()), if claims_from > Instant::now() => {}
                // A host that begins to fail takes nothing more, not even what it has asked for.
                Ok(()) = health.changed() => {}
                _ = look.tick() => {}
            }
        }
        // A claim whose answer is on its way goes back to the queue by itself.
        drop(claim);
        self.heart.beside(self.shared.queue.stop_claiming()).await;
        let waiting = std::mem::take(&mut self.waiting);
        self.give_back(waiting.into_iter().map(|waiting| waiting.claim).collect(), "whose worker is shutting down");
        let drain_takes = self.shared.config.worker.drain_timeout + LAST_WORDS;
        tokio::select! {
            code = self.drain(notices, signals) => code,
            never = systemd::allow(drain_takes) => match never {},
        }
    }

    /// Whether jobs may begin at all; says so when that changes.
    fn may_work(&mut self) -> bool {
        let why_not = if self.attempts.len() >= MAX_UNTOLD + self.shared.config.worker.max_concurrent_builds {
            Some(format!("No job is claimed: {} ends are waiting to be told to the dashboard.", self.attempts.len()))
        } else if let Err(why) = self.shared.reporter.accepts_work() {
            Some(why)
        } else if self.shared.disk.is_stalled() {
            Some("No job is claimed: the disk of WORK_DIR does not answer.".to_owned())
        } else if let Err(why) = self.shared.housekeeper.room() {
            Some(why)
        } else {
            self.shared.stages.health.may_claim().err()
        };
        let may = why_not.is_none();
        let why_not = why_not.or_else(|| self.shared.slots.why_not()).or_else(|| {
            let why = "No job is claimed: one that has to build alone has waited for long, and begins when the running builds have ended.";
            self.reserved.then(|| why.to_owned())
        });
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

    fn wait_to_begin(&mut self, claim: Claim, origin: Origin) {
        self.waiting.push_back(Waiting { claim, origin, since: Instant::now() });
    }

    /// What waits begins, or goes back to the queue at once, where another host may have room for it.
    fn begin_or_give_back(&mut self, may_work: bool) {
        self.reserved = false;
        let (mut back, mut offered) = (Vec::new(), Vec::new());
        for waiting in std::mem::take(&mut self.waiting) {
            let company = match waiting.claim.fate {
                ClaimFate::BuildAlone => Company::Alone,
                _ => Company::Beside,
            };
            let needs_a_place = waiting.claim.deployment.is_some() && is_to_be_built(&waiting.claim);
            let place: Option<Place> = if needs_a_place && may_work { self.shared.slots.begin(company) } else { None };
            if place.is_some() || !needs_a_place {
                let Waiting { claim, origin, .. } = waiting;
                self.start(Begun { claim, origin, place });
            } else if company == Company::Alone {
                self.wait_or_offer(waiting, &mut offered);
            } else if may_work || waiting.since.elapsed() >= STAYS_WHILE_PAUSED {
                back.push(waiting.claim);
            } else {
                self.waiting.push_back(waiting);
            }
        }
        self.give_back(back, "which has no slot for it now");
        self.give_back(offered, "which is busy, while it has to build alone");
    }

    fn wait_or_offer(&mut self, waiting: Waiting, offered: &mut Vec<Claim>) {
        let id = waiting.claim.deployment.as_ref().map(DeploymentId::as_str).unwrap_or_default();
        match self.alone.decide(id, Instant::now()) {
            Verdict::Offer => {
                tracing::info!(deployment_id = id, "has to build alone, and this host is busy: offered to the other hosts");
                self.claims_from = Instant::now() + OFFERED_FOR;
                offered.push(waiting.claim);
            }
            verdict => {
                self.reserved |= verdict == Verdict::Reserve;
                self.waiting.push_back(waiting);
            }
        }
    }

    /// Claims that have not begun go back to the head of the queue, in their order. The drain waits for it like for a job.
    fn give_back(&mut self, claims: Vec<Claim>, why: &'static str) {
        let Some(first) = claims.first().cloned() else { return };
        tracing::info!(jobs = claims.len(), "jobs that have not begun go back to the head of the queue");
        self.start_again(first, RETURNS_ARE_NOT_RETRIED, |shared, _, _| return_unbegun(shared, claims, why));
    }

    fn start(&mut self, begun: Begun) {
        if let Some(id) = &begun.claim.deployment {
            self.alone.forget(id.as_str());
        }
        let Begun { claim, origin, place } = begun;
        self.start_again(claim, 0, |shared, claim, stops| attempt::run(shared, Begun { claim, origin, place }, stops));
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
                self.start_again(claim, panics, |shared, claim, stops| {
                    attempt::run(shared, Begun { claim, origin: Origin::Queue, place: None }, stops)
                });
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
            Notice::Claimed(claim) => return self.start(Begun { claim, origin: Origin::Queue, place: None }),
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
        let Some(at) = self.waiting.iter().position(|waiting| waiting.claim.deployment.as_ref() == Some(deployment)) else {
            return Some(notice);
        };
        let Waiting { claim, origin, .. } = self.waiting.remove(at)?;
        if let Some(fate) = fate {
            self.start(Begun { claim: Claim { fate, ..claim }, origin, place: None });
        }
        None
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
        let mut look = tokio::time::interval(self.heart.every());
        loop {
            self.heart.beat();
            tokio::select! {
                biased;
                () = signals.next() => return self.ends_at_once(),
                ended = self.attempts.next_ended() => match ended {
                    Some(ended) => self.ended(ended),
                    None => break,
                },
                _ = look.tick() => {}
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
        let mut look = tokio::time::interval(self.heart.every());
        while !self.attempts.is_empty() {
            self.heart.beat();
            tokio::select! {
                biased;
                () = signals.next() => return false,
                Some(notice) = notices.recv() => self.notify(notice),
                Some(ended) = self.attempts.next_ended() => self.ended(ended),
                () = &mut deadline => return true,
                _ = look.tick() => {}
            }
        }
        true
    }
}

fn is_to_be_built(claim: &Claim) -> bool {
    matches!(claim.fate, ClaimFate::Build | ClaimFate::BuildAlone)
}
