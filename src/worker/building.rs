//! An attempt's build: the pipeline beside its deadlines and stops, until nothing of it is left on this host.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::attempt::{Attempt, Origin};
use super::health;
use super::lifecycle::{self, Action, Event, State, Stop};
use super::pipeline::Pipeline;
use super::retry::RetryPolicy;
use super::shared::Shared;
use super::silence::Listening;
use super::slots::Place;
use super::stage_limits;
use super::step::Step;
use crate::protocol::{Code, DeploymentStatus, Failure, Job, LogSink, LogType, Outcome, safe_text};
use crate::queue::{ClaimFate, HostFaults};
use crate::registry::PushedImage;
use crate::stage::StageContext;

/// How long the remains of a stopped build are waited for before the end is told all the same (housekeeping owns the rest then).
const TEAR_DOWN: Duration = Duration::from_secs(30);

/// How long a stopped pipeline may take to end by itself where the Engine hangs …
const STOPS_WITHIN_HUNG: Duration = Duration::from_secs(30);

/// … where WORK_DIR's disk has stalled …
const STOPS_WITHIN_STALLED: Duration = Duration::from_secs(8);

/// … and where it answers: above what an export that has begun is waited for.
const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// When a stopped pipeline asks which of the two it is: an answer takes 5 s at most.
const STOPPED_ASKS_AFTER: Duration = Duration::from_secs(20);

/// After so much silence the Engine is asked whether it answers, and again after as much.
const ENGINE_ASKED_AFTER: Duration = Duration::from_secs(60);

impl Attempt {
    /// The build: returns when nothing of it is left on this host.
    pub(super) async fn building(
        &self,
        mut state: State,
        job: &Job,
        place: &Place,
        stops: &mut mpsc::Receiver<Stop>,
    ) -> (State, Action) {
        self.report.status(DeploymentStatus::Building);
        self.announce();
        let config = &self.shared.config.worker;
        let build_timeout = job.build_timeout.map_or(config.build_timeout, |wanted| wanted.min(config.build_timeout));
        let listening = Arc::new(Listening::new(self.report.clone(), self.shared.for_others.clone()));
        let (step, at) = watch::channel(Step::Turn);
        let ctx = StageContext {
            deployment: self.deployment.clone(),
            service: job.service.clone(),
            attempt: self.claim.attempt,
            cancel: CancellationToken::new(),
            log: listening.clone(),
            redactor: self.redactor.clone(),
            tasks: TaskTracker::new(),
        };
        // Whatever ends this task, a panic too, ends what the stages have begun.
        let _stops_the_stages = ctx.cancel.clone().drop_guard();
        let live = self.shared.housekeeper.live.enter(&self.deployment, self.claim.attempt);
        let pipeline = self.pipeline(job, &ctx, &step, place);
        tokio::pin!(pipeline);
        let deadline = sleep_until(Instant::now() + build_timeout);
        tokio::pin!(deadline);
        let look = Duration::from_secs(1).min(config.build_silence_timeout);
        let mut silence = tokio::time::interval_at(Instant::now() + look, look);
        // The stage that the job is in, and until when it may be: each try counts anew.
        let mut begun = step.subscribe();
        let mut now_in = Step::Turn;
        let mut stage_ends = None::<(Instant, Failure)>;
        // What a fetch that waits for a slot may take afterwards.
        let mut fetch_left = None::<(Duration, Failure)>;
        let mut late = false;
        // Set while the Engine is asked: where it hangs, silence is not the build's fault.
        let mut engine_answers = None::<BoxFuture<'_, bool>>;
        let mut engine_hangs = false;
        // Well before the silence is too long: an Engine that answers again just then had hung all the same.
        let asks_after = (config.build_silence_timeout / 4).min(ENGINE_ASKED_AFTER);
        let mut asks_next = asks_after;
        // Set when the token trips: the end does not wait for ever for an Engine that hangs.
        let mut give_up = None::<BoxFuture<'_, Duration>>;
        loop {
            let event = tokio::select! {
                biased;
                Some(stop) = stops.recv() => Event::Stop(stop),
                result = &mut pipeline => {
                    // Their connections are tasks that are waited for.
                    (engine_answers, give_up) = (None, None);
                    ctx.tasks.close();
                    if tokio::time::timeout(TEAR_DOWN, ctx.tasks.wait()).await.is_err() {
                        tracing::warn!("parts of the build did not end within {} s; housekeeping will look for them", TEAR_DOWN.as_secs());
                    }
                    self.ended(result).await
                }
                waited = async { match &mut give_up { Some(waiting) => waiting.await, None => std::future::pending().await } } => {
                    tracing::warn!("the build did not stop within {} s; housekeeping will look for what is left of it", waited.as_secs());
                    Event::PipelineEnded(Err(Failure::interrupted()))
                }
                () = &mut deadline, if !late => {
                    late = true;
                    Event::Stop(Stop::TimedOut(too_long(build_timeout, *at.borrow())))
                }
                () = async { match &stage_ends { Some((at, _)) => sleep_until(*at).await, None => std::future::pending().await } }, if !late => {
                    let Some((_, failure)) = stage_ends.take() else { continue };
                    late = true;
                    Event::Stop(Stop::TimedOut(failure))
                }
                Ok(()) = begun.changed() => {
                    let before = std::mem::replace(&mut now_in, *begun.borrow_and_update());
                    self.times().enter(now_in, std::time::Instant::now());
                    if now_in == Step::FetchTurn {
                        fetch_left = stage_ends.take().map(|(at, failure)| (at.saturating_duration_since(Instant::now()), failure));
                        continue;
                    }
                    if before == Step::FetchTurn && now_in == Step::Source {
                        stage_ends = fetch_left.take().map(|(left, failure)| (Instant::now() + left, failure));
                        continue;
                    }
                    stage_ends = stage_limits::limit(&config.stages, now_in)
                        .map(|(time, key)| (Instant::now() + time, stage_limits::too_long(now_in, time, key)));
                    continue;
                }
                answers = async { match &mut engine_answers { Some(asked) => asked.await, None => std::future::pending().await } } => {
                    engine_answers = None;
                    let silent = listening.silent_for();
                    if !answers {
                        if !std::mem::replace(&mut engine_hangs, true) {
                            ctx.warn("The Docker Engine does not answer; the build waits for it.");
                        }
                        listening.touch();
                        let later = deadline.deadline() + silent;
                        deadline.as_mut().reset(later);
                        if let Some((at, _)) = &mut stage_ends {
                            *at += silent;
                        }
                        continue;
                    }
                    engine_hangs = false;
                    if silent < config.build_silence_timeout || at.borrow().is_waiting() {
                        asks_next = (silent + asks_after).min(config.build_silence_timeout);
                        continue;
                    }
                    late = true;
                    Event::Stop(Stop::TimedOut(too_silent(config.build_silence_timeout, *at.borrow())))
                }
                _ = silence.tick(), if !late && engine_answers.is_none() => {
                    // Time in which the build may not go on is not its own.
                    let stalled = self.shared.disk.is_stalled() || !listening.has_room();
                    if at.borrow().is_waiting() || stalled {
                        listening.touch();
                        let later = deadline.deadline() + silence.period();
                        deadline.as_mut().reset(later);
                    }
                    if let Some((at, _)) = stage_ends.as_mut().filter(|_| stalled) {
                        *at += silence.period();
                    }
                    let silent = listening.silent_for();
                    if silent < asks_after {
                        asks_next = asks_after;
                    }
                    if silent >= asks_next {
                        engine_answers = Some(self.shared.stages.dockerfile.engine_answers(&ctx).boxed());
                    }
                    continue;
                }
            };
            let ended = matches!(event, Event::PipelineEnded(_) | Event::HostFailed(_));
            let (next, action) = lifecycle::step(state, event);
            if action == Action::TripToken {
                ctx.cancel.cancel();
                give_up = Some(self.patience(&ctx).boxed());
            }
            if ended {
                self.times().leave(std::time::Instant::now());
                drop(live);
                self.shared.housekeeper.build_ended();
                return (next, action);
            }
            state = next;
        }
    }

    /// A failure of this host's own goes back to the queue, a bounded number of times: another host may do better, or this one later.
    async fn ended(&self, result: Result<Outcome, Failure>) -> Event {
        match result {
            Err(failure) if health::is_own_fault(&failure) => {
                let count = || self.shared.queue.count_host_fault(&self.claim);
                let counted = self.shared.until_redis_answers("a failed attempt's count", count).await;
                match counted {
                    Some(HostFaults::Counted(1..=health::MAX_REQUEUES) | HostFaults::Unknown) => {
                        self.report.line(LogType::Warning, &failure.to_string());
                        Event::HostFailed(failure)
                    }
                    Some(HostFaults::Counted(_) | HostFaults::NotOurs) | None => Event::PipelineEnded(Err(failure)),
                }
            }
            result => Event::PipelineEnded(result),
        }
    }

    /// Returns when a stopped pipeline has had its time, and how much that was.
    async fn patience(&self, ctx: &StageContext) -> Duration {
        let stopped = Instant::now();
        while stopped.elapsed() < STOPPED_ASKS_AFTER {
            sleep(Duration::from_secs(1)).await;
            // A thread that waits for the disk cannot be stopped, and ends by itself when it answers.
            if self.shared.disk.is_stalled() && stopped.elapsed() >= STOPS_WITHIN_STALLED {
                return stopped.elapsed();
            }
        }
        let answers = self.shared.stages.dockerfile.engine_answers(ctx).await;
        let within = if answers { STOPS_WITHIN } else { STOPS_WITHIN_HUNG };
        sleep_until(stopped + within).await;
        within
    }

    fn announce(&self) {
        let (host, attempt) = (&self.shared.host, self.claim.attempt);
        if let Some(before) = self.before() {
            self.report.line(LogType::Warning, &format!("Attempt {attempt} starts on {host}: {before}."));
        }
        if self.claim.fate == ClaimFate::BuildAlone {
            let text = format!("Two attempts ended with a dead worker: this one builds alone on {host}.");
            self.report.line(LogType::Warning, &text);
        }
        if let Some(warning) = self.redactor.warning() {
            self.report.line(LogType::Warning, &warning);
        }
        tracing::info!(attempt, "build starts");
    }

    /// What became of the attempt before this one, if there was one.
    fn before(&self) -> Option<String> {
        match (&self.claim.taken_over, self.origin) {
            (Some(dead), _) => Some(format!("attempt {} was taken over from {}, whose worker is gone", dead.attempt, dead.host)),
            (None, Origin::Resumed) => Some("this host's worker was started again in the middle of the one before".to_owned()),
            (None, Origin::Queue) => match &self.claim.requeued_by {
                Some(host) => Some(format!("the one before went back to the queue on {host}")),
                None if self.claim.attempt > 1 => Some("the deployment was pushed again".to_owned()),
                None => None,
            },
        }
    }

    async fn pipeline(
        &self,
        job: &Job,
        ctx: &StageContext,
        step: &watch::Sender<Step>,
        place: &Place,
    ) -> Result<Outcome, Failure> {
        let config = &self.shared.config.worker;
        let policy = RetryPolicy { limit: config.retry_limit, window: config.retry_window };
        let Shared { stages, host, gate, .. } = &*self.shared;
        let run = async {
            let pipeline = Pipeline { stages, job, ctx, policy, step, place, traffic: Arc::default(), host };
            pipeline.run(gate).await
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
        let mask = |text: &str| self.shared.for_others.redact(&self.redactor.redact(&safe_text(text))).into_owned();
        Failure { cause: mask(&failure.cause), way_out: mask(&failure.way_out), ..failure }
    }
}

fn too_long(limit: Duration, step: Step) -> Failure {
    Failure::new(
        Code::BuildTimeout,
        format!("The deployment took longer than {} s; it was {step}.", limit.as_secs()),
        "Make the build quicker, or have BUILD_TIMEOUT (or the job's buildTimeout) raised.",
    )
}

fn too_silent(limit: Duration, step: Step) -> Failure {
    Failure::new(
        Code::BuildSilent,
        format!("Nothing was printed for {} s; it was {step}.", limit.as_secs()),
        "Look at the last step in the log: it hangs or waits for input. BUILD_SILENCE_TIMEOUT sets the time.",
    )
}
