//! An attempt's end: stored, told, closed; each effect that the lifecycle asks for, and its result back to it.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::attempt::{Attempt, now};
use super::dead_letter;
use super::lifecycle::{self, Action, Close, Event, State, Stop};
use super::shared::Shared;
use crate::protocol::{LogSink, LogType, Outcome};
use crate::queue::{Acknowledged, Fenced, GateState, Telling};
use crate::registry::{Latest, PushedImage};
use crate::report::Delivery;
use crate::stage::StageContext;

/// A registry that hangs holds up BUILDED for no longer than this.
const LATEST_WITHIN: Duration = Duration::from_secs(10);

impl Attempt {
    /// From the end of the build to the end of the claim.
    pub(super) async fn ending(self, mut state: State, mut action: Action, stops: &mut mpsc::Receiver<Stop>) {
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
                        self.log_ended(outcome, &delivery);
                        Some(Event::Delivered(delivery))
                    }
                    () = self.shared.halt.cancelled() => None,
                }
            }
            Action::Close(close) => {
                match close {
                    Close::Acknowledge => {
                        let acknowledge = || queue.acknowledge(&self.claim);
                        match self.shared.until_redis_answers("an acknowledgement", acknowledge).await? {
                            Acknowledged::Removed => {}
                            Acknowledged::Cancelled => return Some(Event::CancelledBeforeClose),
                        }
                    }
                    Close::DeadLetter(failure) => {
                        let note = dead_letter::note(Some(&self.deployment), failure, &self.claim.payload, &now());
                        self.shared.until_redis_answers("a dead letter", || queue.dead_letter(&self.claim, &note)).await?
                    }
                }
                self.report.close().await;
                Some(Event::Closed)
            }
            Action::GiveBack => {
                self.report.line(
                    LogType::Warning,
                    &format!("The worker on {} is shutting down: the deployment goes back to the queue.", self.shared.host),
                );
                self.report.give_back().await;
                let given = self.shared.until_redis_answers("a job's return", || queue.give_back(&self.claim)).await?;
                tracing::info!(given, "the worker shuts down: the job goes back to the head of the queue");
                Some(Event::Returned)
            }
            Action::Requeue => {
                let text = format!("The worker on {} cannot build it: the deployment goes back to the queue.", self.shared.host);
                self.report.line(LogType::Warning, &text);
                self.report.give_back().await;
                let given = self.shared.until_redis_answers("a job's return", || queue.give_back(&self.claim)).await?;
                tracing::warn!(given, "this host cannot build the job: it goes back to the head of the queue");
                Some(Event::Returned)
            }
            Action::Abandon => {
                tracing::warn!("another worker has taken this attempt over: dropped");
                self.report.abandon().await;
                Some(Event::Abandoned)
            }
        }
    }

    /// Moves `latest` after the outcome is stored and before it is told. What fails here is a warning: the reported reference has
    /// the digest.
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
        self.times().enter("moving the tag latest", Instant::now());
        let may_move = || self.may_move_latest().boxed();
        match tokio::time::timeout(LATEST_WITHIN, stage.move_latest(&pushed, &ctx, &may_move)).await {
            Ok(Ok(Latest::Moved)) => {}
            Ok(Ok(Latest::Withheld)) => {
                tracing::info!("the tag latest is not moved: this attempt may not speak for the service any more");
            }
            Ok(Err(failure)) => ctx.warn(format!("The tag latest could not be moved to this image: {failure}")),
            Err(_) => ctx.warn(format!(
                "The tag latest could not be moved to this image: the registry did not do it within {} s. The deployment uses the image's digest and is not affected.",
                LATEST_WITHIN.as_secs()
            )),
        }
        self.times().leave(Instant::now());
    }

    /// Asked at the last moment: a process that was frozen since its outcome was stored finds the gate shut, and behind it Redis
    /// says whether a newer deployment has taken the service over meanwhile.
    async fn may_move_latest(&self) -> bool {
        let asked = self.shared.queue.may_post(&self.claim, Telling::Status).await;
        matches!(asked, Ok(Fenced::Stored | Fenced::Stands(_))) && self.shared.gate.state() == GateState::Open
    }

    fn log_ended(&self, outcome: &Outcome, delivery: &Delivery) {
        match outcome {
            Outcome::Builded { image, .. } => {
                let stages = self.times().to_string();
                tracing::info!(%image, ?delivery, stages, "BUILDED");
            }
            Outcome::Failed { failure } => tracing::info!(code = %failure.code, ?delivery, "FAILED: {failure}"),
            Outcome::Cancelled { failure } => tracing::info!(code = %failure.code, ?delivery, "CANCELLED: {failure}"),
        }
    }
}
