//! One attempt at one job: runs the effects that the lifecycle asks for, and feeds it their results.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{OwnedSemaphorePermit, RwLock, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::dead_letter;
use super::lifecycle::{self, Action, Close, Event, State, Stop};
use super::pipeline::{Pipeline, Stages, Step, full_jitter};
use super::retry::RetryPolicy;
use super::silence::Listening;
use crate::config::Config;
use crate::housekeeping::Housekeeper;
use crate::protocol::{Code, DeploymentId, DeploymentStatus, Failure, Job, JobRejected, LogSink, LogType, Outcome};
use crate::queue::{Claim, ClaimFate, Fenced, Gate, Queue, QueueError};
use crate::registry::PushedImage;
use crate::report::{Delivery, Fence, JobReport, Reporter};
use crate::secrets::{ActiveSecrets, Redactor, SecretString};
use crate::stage::StageContext;
use crate::telemetry::Masks;

/// What all attempts of this worker share.
pub struct Shared {
    pub config: Config,
    pub host: String,
    pub queue: Arc<Queue>,
    pub gate: Gate,
    pub reporter: Arc<Reporter>,
    pub stages: Stages,
    /// What is masked in the worker's own log.
    pub masks: Arc<Masks>,
    /// What is masked of each job in the logs of the others.
    pub for_others: Arc<ActiveSecrets>,
    /// Builds hold it for reading; a job that has killed workers before holds it for writing: it builds alone.
    pub alone: Arc<RwLock<()>>,
    /// Trips when the drain is over: effects that are still waiting for a peer leave their job to the next start.
    pub halt: CancellationToken,
    pub housekeeper: Housekeeper,
}

/// How long the remains of a stopped build are waited for before the end is told all the same (housekeeping owns the rest then).
const TEAR_DOWN: Duration = Duration::from_secs(30);

/// Drives the claim to its end. `slot` is given back as soon as the build itself is over. `stops`: from the supervisor.
pub async fn run(shared: Arc<Shared>, claim: Claim, slot: Option<OwnedSemaphorePermit>, stops: mpsc::Receiver<Stop>) {
    let job = read_job(&shared, &claim);
    let deployment = match (&job, &claim.deployment) {
        (Ok(job), _) => Some(job.deployment.clone()),
        (Err(rejected), by_script) => rejected.deployment.clone().or_else(|| by_script.clone()),
    };
    let Some(deployment) = deployment else {
        // Nobody to tell: no id can be read.
        if let Err(rejected) = job {
            refuse_nameless(&shared, &claim, &rejected.failure).await;
        }
        return;
    };
    let (redactor, for_others) = match &job {
        Ok(job) => job_redactors(&shared, job),
        Err(_) => (Redactor::new(&worker_secrets(&shared), &[], &[]), Redactor::none()),
    };
    let (redactor, for_others) = (Arc::new(redactor), Arc::new(for_others));
    shared.for_others.add(&for_others);
    shared.masks.add(&redactor);
    let Some(report) = open_report(&shared, &claim, &deployment, &redactor).await else {
        return;
    };
    let attempt = Attempt { shared, claim, deployment, redactor, _for_others: for_others, report };
    let (state, action) = attempt.begin(&job);
    attempt.drive(state, action, job.ok(), slot, stops).await;
}

/// The element, read. One that was too large to be read at all is refused by its size.
fn read_job(shared: &Shared, claim: &Claim) -> Result<Job, JobRejected> {
    let max = shared.config.queue.max_job_bytes;
    match claim.fate {
        ClaimFate::TooLarge { bytes } => Err(JobRejected::too_large(&claim.payload, bytes, max)),
        _ => Job::parse(&claim.payload, max, &shared.config.git.github_url),
    }
}

async fn refuse_nameless(shared: &Shared, claim: &Claim, failure: &Failure) {
    tracing::warn!(code = %failure.code, "refused an element of the queue, it went to the dead letter list: {failure}");
    let note = dead_letter::note(None, failure, &claim.payload, &now());
    shared.until_redis_answers("dead letter", || shared.queue.dead_letter(claim, &note)).await;
}

fn now() -> String {
    time::OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

fn worker_secrets(shared: &Shared) -> Vec<SecretString> {
    let mut secrets = shared.config.secrets();
    secrets.extend(shared.stages.registry.iter().flat_map(crate::registry::RegistryStage::secrets));
    secrets
}

/// What this job's log hides, and what the logs of the others hide of it.
fn job_redactors(shared: &Shared, job: &Job) -> (Redactor, Redactor) {
    let passwords: Vec<SecretString> = job.git.credentials.iter().map(|c| c.password.clone()).collect();
    let mut secrets = worker_secrets(shared);
    secrets.extend(passwords.iter().cloned());
    let values: Vec<SecretString> = job.env.iter().map(|v| v.value.clone()).collect();
    let mut public = vec![job.service.as_str(), job.repository.as_str(), job.branch.as_str(), job.deployment.as_str()];
    let registry = shared.config.registry.public_names();
    public.extend(registry.iter().map(String::as_str));
    (Redactor::new(&secrets, &values, &public), Redactor::for_others(&passwords, &values, &public))
}

/// Opens the journal; while the disk does not take it, says so and tries again. `None`: the worker stops.
async fn open_report(
    shared: &Arc<Shared>,
    claim: &Claim,
    deployment: &DeploymentId,
    redactor: &Arc<Redactor>,
) -> Option<Arc<JobReport>> {
    let fence = Arc::new(ClaimFence { queue: shared.queue.clone(), claim: claim.clone() });
    loop {
        let wait = match shared.reporter.open(deployment, claim.attempt, redactor.clone(), fence.clone()) {
            Ok(report) => return Some(report),
            // The same deployment, pushed again, while the last words of its first run are still being put away.
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => Duration::from_millis(50),
            Err(error) => {
                tracing::error!(
                    "cannot open the journal in WORK_DIR: {error}. The job waits; free disk space or check the rights."
                );
                Duration::from_secs(5)
            }
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = shared.halt.cancelled() => return None,
        }
    }
}

/// Asks Redis whether an end of this claim may still be posted.
struct ClaimFence {
    queue: Arc<Queue>,
    claim: Claim,
}

impl Fence for ClaimFence {
    fn may_post(&self) -> BoxFuture<'_, Result<Fenced, ()>> {
        async {
            self.queue.may_post(&self.claim).await.map_err(|error| tracing::warn!("an end waits until Redis answers: {error}"))
        }
        .boxed()
    }
}

impl Shared {
    /// Repeats a call to Redis until it answers. `None`: the worker stops first.
    async fn until_redis_answers<T, F: Future<Output = Result<T, QueueError>>>(
        &self,
        what: &str,
        mut call: impl FnMut() -> F,
    ) -> Option<T> {
        let mut longest = Duration::from_millis(200);
        loop {
            let error = tokio::select! {
                answer = call() => match answer {
                    Ok(value) => return Some(value),
                    Err(error) => error,
                },
                () = self.halt.cancelled() => return None,
            };
            tracing::warn!("{what} waits until Redis answers: {error}");
            tokio::select! {
                () = sleep(full_jitter(longest)) => longest = (longest * 2).min(Duration::from_secs(10)),
                () = self.halt.cancelled() => return None,
            }
        }
    }
}

struct Attempt {
    shared: Arc<Shared>,
    claim: Claim,
    deployment: DeploymentId,
    redactor: Arc<Redactor>,
    /// Known to the other jobs as long as this one is here.
    _for_others: Arc<Redactor>,
    report: Arc<JobReport>,
}

impl Attempt {
    fn begin(&self, job: &Result<Job, JobRejected>) -> (State, Action) {
        let cancelled = |failure| lifecycle::begin_with(Outcome::Cancelled { failure }, Close::Acknowledge);
        match (&self.claim.fate, job) {
            (ClaimFate::Ended(outcome), _) => lifecycle::begin_with(outcome.clone(), Close::Acknowledge),
            (ClaimFate::Cancelled, _) => cancelled(lifecycle::cancelled()),
            (ClaimFate::Superseded { by }, _) => cancelled(lifecycle::superseded(by)),
            (ClaimFate::CrashedWorkers { attempts }, _) => {
                let failure = Failure::new(
                    Code::JobCrashedWorkers,
                    format!("{attempts} attempts at this deployment ended with a dead worker."),
                    "Look at the hosts' logs (memory, disk), then deploy again.",
                );
                lifecycle::begin_with(Outcome::Failed { failure }, Close::DeadLetter)
            }
            (_, Err(rejected)) => {
                let close = if rejected.failure.code == Code::JobBranchDeleted { Close::Acknowledge } else { Close::DeadLetter };
                lifecycle::begin_with(Outcome::Failed { failure: rejected.failure.clone() }, close)
            }
            (ClaimFate::Build | ClaimFate::BuildAlone | ClaimFate::TooLarge { .. }, Ok(_)) => {
                (State::Building { stop: None }, Action::Nothing)
            }
        }
    }

    async fn drive(
        self,
        mut state: State,
        mut action: Action,
        job: Option<Job>,
        slot: Option<OwnedSemaphorePermit>,
        mut stops: mpsc::Receiver<Stop>,
    ) {
        if let (State::Building { .. }, Some(job)) = (&state, job) {
            (state, action) = self.building(state, &job, &mut stops).await;
        }
        // The end may have to wait for the dashboard; the next build does not.
        drop(slot);
        self.ending(state, action, &mut stops).await;
    }

    /// The build: returns when nothing of it is left on this host.
    async fn building(&self, mut state: State, job: &Job, stops: &mut mpsc::Receiver<Stop>) -> (State, Action) {
        self.report.status(DeploymentStatus::Building);
        self.announce();
        let config = &self.shared.config.worker;
        let listening = Arc::new(Listening::new(self.report.clone(), self.shared.for_others.clone()));
        let (step, at) = watch::channel(Step::Source);
        let ctx = StageContext {
            deployment: self.deployment.clone(),
            service: job.service.clone(),
            attempt: self.claim.attempt,
            cancel: CancellationToken::new(),
            log: listening.clone(),
            redactor: self.redactor.clone(),
            tasks: TaskTracker::new(),
        };
        let _live = self.shared.housekeeper.live.enter(&self.deployment, self.claim.attempt);
        let pipeline = self.pipeline(job, &ctx, &step);
        tokio::pin!(pipeline);
        let deadline = sleep_until(Instant::now() + config.build_timeout);
        tokio::pin!(deadline);
        let mut silence = tokio::time::interval(Duration::from_secs(1).min(config.build_silence_timeout));
        let mut late = false;
        loop {
            let event = tokio::select! {
                biased;
                Some(stop) = stops.recv() => Event::Stop(stop),
                result = &mut pipeline => {
                    ctx.tasks.close();
                    if tokio::time::timeout(TEAR_DOWN, ctx.tasks.wait()).await.is_err() {
                        tracing::warn!("parts of the build did not end within {} s; housekeeping will look for them", TEAR_DOWN.as_secs());
                    }
                    Event::PipelineEnded(result)
                }
                () = &mut deadline, if !late => {
                    late = true;
                    Event::Stop(Stop::TimedOut(too_long(config.build_timeout, *at.borrow())))
                }
                _ = silence.tick(), if !late => {
                    if *at.borrow() == Step::Gate {
                        listening.touch();
                    }
                    if listening.silent_for() < config.build_silence_timeout {
                        continue;
                    }
                    late = true;
                    Event::Stop(Stop::TimedOut(too_silent(config.build_silence_timeout, *at.borrow())))
                }
            };
            let ended = matches!(event, Event::PipelineEnded(_));
            let (next, action) = lifecycle::step(state, event);
            if action == Action::TripToken {
                ctx.cancel.cancel();
            }
            if ended {
                self.shared.housekeeper.build_ended();
                return (next, action);
            }
            state = next;
        }
    }

    fn announce(&self) {
        let host = &self.shared.host;
        let attempt = self.claim.attempt;
        if attempt > 1 {
            let text =
                format!("Attempt {attempt} starts on {host}: the one before it ended there or on another host without an end.");
            self.report.line(LogType::Warning, &text);
        }
        if self.redactor.raw_only() > 0 {
            let text = format!(
                "The job's variables are so large that {} of them are masked in this log only as they stand, not URL-, JSON-, base64- or hex-encoded.",
                self.redactor.raw_only()
            );
            self.report.line(LogType::Warning, &text);
        }
        tracing::info!(attempt, "build starts");
    }

    async fn pipeline(&self, job: &Job, ctx: &StageContext, step: &watch::Sender<Step>) -> Result<Outcome, Failure> {
        let config = &self.shared.config.worker;
        let policy = RetryPolicy { limit: config.retry_limit, window: config.retry_window };
        let mut gate = self.shared.gate.clone();
        let run = async {
            let _turn = self.turn(&ctx.cancel).await?;
            Pipeline { stages: &self.shared.stages, job, ctx, policy, step }.run(&mut gate).await
        };
        let ended = AssertUnwindSafe(run.boxed()).catch_unwind().await.unwrap_or_else(|_| {
            Err(Failure::new(
                Code::WorkerInternal,
                "Slipway has a defect: the build's task panicked.",
                "The worker's log has the place.",
            ))
        });
        match ended {
            Ok(PushedImage { reference, registry }) => Ok(Outcome::Builded { image: reference, registry }),
            // Its words may quote what the build printed, and are kept in Redis.
            Err(failure) => Err(self.redacted(failure)),
        }
    }

    fn redacted(&self, failure: Failure) -> Failure {
        let mask = |text: &str| self.shared.for_others.redact(&self.redactor.redact(text)).into_owned();
        Failure { code: failure.code, cause: mask(&failure.cause), way_out: mask(&failure.way_out) }
    }

    /// A build's turn: beside the others, or alone for a job that has ended with dead workers before.
    async fn turn(&self, cancel: &CancellationToken) -> Result<Turn, Failure> {
        let alone = self.shared.alone.clone();
        let turn = async {
            if self.claim.fate == ClaimFate::BuildAlone {
                self.report
                    .line(LogType::Warning, "Two attempts ended with a dead worker: this one waits to build alone on its host.");
                Turn::Alone { _guard: alone.write_owned().await }
            } else {
                Turn::Beside { _guard: alone.read_owned().await }
            }
        };
        tokio::select! {
            turn = turn => Ok(turn),
            () = cancel.cancelled() => Err(Failure::interrupted()),
        }
    }

    /// From the end of the build to the end of the claim.
    async fn ending(self, mut state: State, mut action: Action, stops: &mut mpsc::Receiver<Stop>) {
        loop {
            let doing = action;
            let effect = self.effect(&doing);
            tokio::pin!(effect);
            // One effect at a time; what comes from outside meanwhile may replace it.
            loop {
                let event = tokio::select! {
                    biased;
                    Some(stop) = stops.recv() => Event::Stop(stop),
                    event = &mut effect => match event {
                        Some(event) => event,
                        None => return,
                    },
                };
                let next;
                (state, next) = lifecycle::step(state, event);
                if next != Action::Nothing {
                    action = next;
                    break;
                }
                if state == State::Done {
                    return;
                }
            }
        }
    }

    /// Does what the lifecycle asked for. `None`: the worker stops, the claim and the journal wait for the next start.
    async fn effect(&self, action: &Action) -> Option<Event> {
        let Shared { queue, .. } = &*self.shared;
        match action {
            Action::Nothing | Action::TripToken => None,
            Action::Store(outcome) => {
                let store = || queue.store_outcome(&self.claim, outcome);
                self.shared.until_redis_answers("an outcome", store).await.map(Event::Stored)
            }
            Action::Deliver(outcome) => {
                self.before_telling(outcome).await;
                tokio::select! {
                    delivery = self.report.end(outcome) => {
                        say_ended(outcome, &delivery);
                        Some(Event::Delivered(delivery))
                    }
                    () = self.shared.halt.cancelled() => None,
                }
            }
            Action::Close(close) => {
                let closed = match close {
                    Close::Acknowledge => {
                        self.shared.until_redis_answers("an acknowledgement", || queue.acknowledge(&self.claim)).await
                    }
                    Close::DeadLetter => {
                        let note = dead_letter::note(Some(&self.deployment), &self.last_failure(), &self.claim.payload, &now());
                        self.shared.until_redis_answers("a dead letter", || queue.dead_letter(&self.claim, &note)).await
                    }
                };
                closed?;
                self.report.close().await;
                Some(Event::Closed)
            }
            Action::GiveBack => {
                self.report.line(LogType::Warning, "The worker is shutting down: the deployment goes back to the queue.");
                self.report.give_back().await;
                let given = self.shared.until_redis_answers("a job's return", || queue.give_back(&self.claim)).await?;
                tracing::info!(given, "the worker shuts down: the job goes back to the head of the queue");
                Some(Event::Returned)
            }
            Action::Abandon => {
                tracing::warn!("another worker has taken this attempt over: dropped");
                self.report.abandon().await;
                Some(Event::Abandoned)
            }
        }
    }

    /// `latest` is moved after the outcome is stored and before it is told. Failing, it is a warning: the reported reference has the digest.
    async fn before_telling(&self, outcome: &Outcome) {
        let Outcome::Builded { image, registry } = outcome else { return };
        let ctx = StageContext {
            deployment: self.deployment.clone(),
            service: match &self.claim.service {
                Some(service) => service.clone(),
                None => return,
            },
            attempt: self.claim.attempt,
            cancel: self.shared.halt.clone(),
            log: self.report.clone(),
            redactor: self.redactor.clone(),
            tasks: TaskTracker::new(),
        };
        let pushed = PushedImage { reference: image.clone(), registry: *registry };
        let Some(stage) = &self.shared.stages.registry else { return };
        if let Err(failure) = stage.move_latest(&pushed, &ctx).await {
            ctx.warn(format!("The tag latest could not be moved to this image: {failure}"));
        }
    }

    fn last_failure(&self) -> Failure {
        match read_job(&self.shared, &self.claim) {
            Err(rejected) => rejected.failure,
            Ok(_) => Failure::new(Code::JobCrashedWorkers, "Its attempts ended with dead workers.", ""),
        }
    }
}

enum Turn {
    Alone { _guard: tokio::sync::OwnedRwLockWriteGuard<()> },
    Beside { _guard: tokio::sync::OwnedRwLockReadGuard<()> },
}

fn say_ended(outcome: &Outcome, delivery: &Delivery) {
    match outcome {
        Outcome::Builded { image, .. } => tracing::info!(%image, ?delivery, "BUILDED"),
        Outcome::Failed { failure } => tracing::info!(code = %failure.code, ?delivery, "FAILED: {failure}"),
        Outcome::Cancelled { failure } => tracing::info!(code = %failure.code, ?delivery, "CANCELLED: {failure}"),
    }
}

fn too_long(limit: Duration, step: Step) -> Failure {
    Failure::new(
        Code::BuildTimeout,
        format!("The deployment took longer than {} s; it was {step}.", limit.as_secs()),
        "Make the build quicker, or have BUILD_TIMEOUT raised.",
    )
}

fn too_silent(limit: Duration, step: Step) -> Failure {
    Failure::new(
        Code::BuildSilent,
        format!("Nothing was printed for {} s; it was {step}.", limit.as_secs()),
        "Look at the last step in the log: it hangs or waits for input. BUILD_SILENCE_TIMEOUT sets the time.",
    )
}
