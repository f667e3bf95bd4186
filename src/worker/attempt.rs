//! One attempt at one job: what is known of it when it is claimed, then its build, then its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::dead_letter;
use super::lifecycle::{self, Action, State, Stop};
use super::shared::Shared;
use super::slots::Place;
use super::stage_times::StageTimes;
use crate::protocol::{Code, DeploymentId, Failure, Job, JobRejected, LogSink, LogType, Outcome};
use crate::queue::{Adopted, Claim, ClaimFate, Fenced, Queue, TakenOver, Telling};
use crate::report::{Fence, JobReport};
use crate::secrets::{Redactor, SecretString};

pub(super) struct Attempt {
    pub(super) shared: Arc<Shared>,
    pub(super) claim: Claim,
    pub(super) deployment: DeploymentId,
    pub(super) redactor: Arc<Redactor>,
    /// Known to the other jobs as long as this one is here.
    _for_others: Arc<Redactor>,
    pub(super) report: Arc<JobReport>,
    stage_times: Mutex<StageTimes>,
    pub(super) origin: Origin,
}

/// How this process came by a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Queue,
    /// An earlier process of this host had claimed it.
    Resumed,
}

/// A claim whose work begins.
pub struct Begun {
    pub claim: Claim,
    pub origin: Origin,
    /// Where there is something to build. Given back as soon as the build itself is over.
    pub place: Option<Place>,
}

/// Drives the claim to its end. `stops`: from the supervisor.
pub async fn run(shared: Arc<Shared>, begun: Begun, stops: mpsc::Receiver<Stop>) {
    let Begun { claim, origin, place } = begun;
    let job = read_job(&shared, &claim);
    let Some((claim, deployment)) = named(&shared, claim, &job).await else { return };
    let (redactor, for_others) = match &job {
        Ok(job) => job_redactors(&shared, job),
        Err(_) => (Redactor::new(&shared.own_secrets(), &[], &[]), Redactor::none()),
    };
    let (redactor, for_others) = (Arc::new(redactor.with_fetched(&shared.secrets.fetched())), Arc::new(for_others));
    shared.for_others.add(&for_others);
    shared.secrets.add(&redactor);
    let Some(report) = open_report(&shared, &claim, &deployment, &redactor).await else {
        return;
    };
    let attempt =
        Attempt { shared, claim, deployment, redactor, _for_others: for_others, report, stage_times: Mutex::default(), origin };
    attempt.say_what_is_missing();
    let (state, action) = attempt.begin(&job);
    attempt.drive(state, action, job.ok(), place, stops).await;
}

/// The claim with the deployment that it is fenced by and told as. `None`: there is nobody to tell, and the element is gone.
async fn named(shared: &Shared, claim: Claim, job: &Result<Job, JobRejected>) -> Option<(Claim, DeploymentId)> {
    // What Redis read counts: its record is what fences the end.
    if let Some(deployment) = claim.deployment.clone() {
        return Some((claim, deployment));
    }
    let rejected = job.as_ref().err()?;
    let Some(deployment) = &rejected.deployment else {
        tracing::warn!(code = %rejected.failure.code, "refused an element of the queue, it went to the dead letter list: {}", rejected.failure);
        bury(shared, &claim, None, &rejected.failure).await;
        return None;
    };
    // Redis could not read the id, so the claim has no record yet that would fence its end.
    match shared.until_redis_answers("an element that Redis cannot read", || shared.queue.adopt(&claim, deployment)).await? {
        Adopted::Ours(claim) => Some((*claim, deployment.clone())),
        Adopted::Taken => {
            tracing::warn!(
                deployment_id = %deployment,
                code = %rejected.failure.code,
                "refused an element of the queue, it went to the dead letter list: {} The dashboard is not told: a whole element of this deployment is at work, waits, or has just ended.",
                rejected.failure
            );
            bury(shared, &claim, Some(deployment), &rejected.failure).await;
            None
        }
    }
}

/// The element, read. One that was too large to be read at all is refused by its size.
fn read_job(shared: &Shared, claim: &Claim) -> Result<Job, JobRejected> {
    let max = shared.config.queue.max_job_bytes;
    match claim.fate {
        ClaimFate::TooLarge { bytes } => Err(JobRejected::too_large(&claim.payload, bytes, max)),
        _ => Job::parse(&claim.payload, max, &shared.config.git.github_url).and_then(|job| known_to_redis(job, claim)),
    }
}

/// Redis reads JSON more strictly than we do: what it gave no id has no record there, so nobody could cancel it or prove who owns it.
fn known_to_redis(job: Job, claim: &Claim) -> Result<Job, JobRejected> {
    if claim.deployment.as_ref() == Some(&job.deployment) {
        return Ok(job);
    }
    let failure = Failure::new(
        Code::JobMalformed,
        "Redis cannot read the job's JSON: it holds half of a surrogate pair (a cut character), or is nested too deep.",
        "Have the producer write whole characters and flat JSON.",
    );
    Err(JobRejected { deployment: Some(job.deployment), failure })
}

/// Removes the claim without a word to the dashboard; the dead letter list keeps the reason and the masked element.
pub(super) async fn bury(shared: &Shared, claim: &Claim, deployment: Option<&DeploymentId>, failure: &Failure) {
    let note = dead_letter::note(deployment, failure, &claim.payload, &now());
    shared.until_redis_answers("dead letter", || shared.queue.dead_letter(claim, &note)).await;
}

pub(super) fn now() -> String {
    time::OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

/// What this job's log hides, and what the logs of the others hide of it.
fn job_redactors(shared: &Shared, job: &Job) -> (Redactor, Redactor) {
    let passwords: Vec<SecretString> = job.git.credentials.iter().map(|c| c.password.clone()).collect();
    let mut secrets = shared.own_secrets();
    secrets.extend(passwords.iter().cloned());
    let values: Vec<SecretString> = job.env.iter().map(|v| v.value.clone()).collect();
    let mut public = vec![job.service.as_str(), job.repository.as_str(), job.branch.as_str(), job.deployment.as_str()];
    let registry = shared.config.registry.public_names();
    public.extend(registry.iter().map(String::as_str));
    (Redactor::new(&secrets, &values, &public), Redactor::for_others(&passwords, &values, &public))
}

/// Opens the journal; while the disk does not take it, says so and tries again. `None`: the worker stops.
pub(super) async fn open_report(
    shared: &Arc<Shared>,
    claim: &Claim,
    deployment: &DeploymentId,
    redactor: &Arc<Redactor>,
) -> Option<Arc<JobReport>> {
    let fence = Arc::new(ClaimFence { queue: shared.queue.clone(), claim: claim.clone(), said: AtomicBool::default() });
    loop {
        let wait = match shared.reporter.open(deployment, claim.attempt, redactor.clone(), fence.clone()).await {
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
    /// That it waits was said since Redis last answered.
    said: AtomicBool,
}

impl Fence for ClaimFence {
    fn may_post(&self, telling: Telling) -> BoxFuture<'_, Result<Fenced, ()>> {
        async move {
            let answer = self.queue.may_post(&self.claim, telling).await;
            let said = self.said.swap(answer.is_err(), Ordering::Relaxed);
            answer.map_err(|error| {
                if !said {
                    tracing::warn!("an end waits until Redis answers: {error}");
                }
            })
        }
        .boxed()
    }
}

impl Attempt {
    /// How long each stage of this attempt took so far.
    pub(super) fn times(&self) -> MutexGuard<'_, StageTimes> {
        self.stage_times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An end that a dead worker had stored is told from here; what it had not yet told of its log lies on its host.
    fn say_what_is_missing(&self) {
        if let (ClaimFate::Ended(_), Some(TakenOver { host, attempt })) = (&self.claim.fate, &self.claim.taken_over) {
            let text = format!("Attempt {attempt} ended on {host}, whose worker is gone: its last lines may be missing here.");
            self.report.line(LogType::Warning, &text);
        }
    }

    fn begin(&self, job: &Result<Job, JobRejected>) -> (State, Action) {
        let cancelled = |failure| lifecycle::begin_known(Outcome::Cancelled { failure });
        let failed = |failure| lifecycle::begin_known(Outcome::Failed { failure });
        match (&self.claim.fate, job) {
            (ClaimFate::Ended(outcome), _) => lifecycle::begin_known(outcome.clone()),
            (ClaimFate::Cancelled, _) => cancelled(lifecycle::cancelled()),
            (ClaimFate::Superseded { by }, _) => cancelled(lifecycle::superseded(by)),
            (ClaimFate::CrashedWorkers { attempts }, _) => failed(Failure::new(
                Code::JobCrashedWorkers,
                format!("{attempts} attempts at this deployment ended with a dead worker."),
                "Look at the hosts' logs (memory, disk), then deploy again.",
            )),
            (_, Err(rejected)) => failed(rejected.failure.clone()),
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
        place: Option<Place>,
        mut stops: mpsc::Receiver<Stop>,
    ) {
        if let (State::Building { .. }, Some(job)) = (&state, job) {
            // What the supervisor starts without a place has nothing to build.
            let place = place.unwrap_or_else(Place::of_its_own);
            (state, action) = self.building(state, &job, &place, &mut stops).await;
            // The end may have to wait for the dashboard; the next build does not.
            drop(place);
        } else {
            drop(place);
        }
        self.ending(state, action, &mut stops).await;
    }
}
