//! PURE: the life of one attempt: state × event → state and what to do next. Decides everything, does nothing.
//!
//! ```text
//! Building ──ended──▶ Storing ──stored──▶ Delivering ──told──▶ Closing ──▶ Done
//!    │  ▲ stop: token trips,     │ lost            │ cancelled: back to Storing (from Closing too)
//!    │  │ waits for the pipeline ▼                 ▼ stopped
//!    └──┴─drained─▶ Returning   Abandoning        Done (the journal waits for the next start)
//! ```
//! In each state but `Building` exactly one effect runs; its result is the event that leads on.

use crate::protocol::{Code, DeploymentId, Failure, FailureKind, Outcome};
use crate::queue::Fenced;
use crate::report::Delivery;

/// Why a running pipeline is being stopped. A stronger reason replaces a weaker one, never the other way round.
#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    /// The worker shuts down: the job goes back to the queue.
    Drained,
    /// A deadline: the job fails with this.
    TimedOut(Failure),
    /// CANCELLED: by the user, or because a newer job took its place.
    Cancelled(Failure),
    /// Another worker has it: nothing may be said or done any more.
    Lost,
}

impl Stop {
    fn strength(&self) -> u8 {
        match self {
            Stop::Drained => 0,
            Stop::TimedOut(_) => 1,
            Stop::Cancelled(_) => 2,
            Stop::Lost => 3,
        }
    }
}

/// How the claim is closed in Redis once the end is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Close {
    Acknowledge,
    /// Noted in the dead letter list, with the reason.
    DeadLetter(Failure),
}

#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// The pipeline runs. `stop`: its token has tripped, it is on its way out.
    Building {
        stop: Option<Stop>,
    },
    /// The outcome goes into the record in Redis. `cancel`: one arrived meanwhile; the script's answer decides.
    Storing {
        outcome: Outcome,
        close: Close,
    },
    /// The journal is sent to its end. `cancel`: one arrived meanwhile, CANCELLED follows.
    Delivering {
        outcome: Outcome,
        close: Close,
        cancel: Option<Failure>,
    },
    /// The claim is closed in Redis.
    Closing,
    /// PENDING is posted and the job put back to the head of the queue.
    Returning,
    /// Everything of the attempt is dropped without a word.
    Abandoning,
    Done,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// From outside, at any time.
    Stop(Stop),
    /// The pipeline has ended and nothing of it is left. `Ok`: the outcome BUILDED.
    PipelineEnded(Result<Outcome, Failure>),
    /// The same, by this host's own fault, and another try elsewhere is due to the job.
    HostFailed(Failure),
    Stored(Fenced),
    Delivered(Delivery),
    Closed,
    /// It was not closed: a cancel came while BUILDED was on its way, and nobody had heard of it yet.
    CancelledBeforeClose,
    Returned,
    Abandoned,
}

/// The one effect that is to be started now.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Nothing,
    /// Trip the attempt's token; the pipeline's end follows as an event.
    TripToken,
    Store(Outcome),
    Deliver(Outcome),
    Close(Close),
    GiveBack,
    /// The same, because this host cannot build.
    Requeue,
    Abandon,
}

/// CANCELLED by the user.
pub fn cancelled() -> Failure {
    Failure::new(Code::BuildCancelled, "The deployment was cancelled.", "")
}

/// CANCELLED because a newer job of the service took its place.
pub fn superseded(by: &DeploymentId) -> Failure {
    Failure::new(Code::BuildSuperseded, format!("A newer deployment of this service, {by}, took its place."), "")
}

/// How a claim with this end is closed: an element that was refused or given up is kept for a look. The end alone decides, for
/// it may have been stored by a process that died before it closed.
pub fn close_of(outcome: &Outcome) -> Close {
    match outcome {
        // The element was in order; there is nothing to look at.
        Outcome::Failed { failure } if failure.code == Code::JobBranchDeleted => Close::Acknowledge,
        Outcome::Failed { failure } if failure.kind() == FailureKind::Rejected => Close::DeadLetter(failure.clone()),
        _ => Close::Acknowledge,
    }
}

/// The first state of an attempt whose end is already known (refused, cancelled while queued, stored by an earlier attempt).
pub fn begin_known(outcome: Outcome) -> (State, Action) {
    let close = close_of(&outcome);
    begin_with(outcome, close)
}

fn begin_with(outcome: Outcome, close: Close) -> (State, Action) {
    (State::Storing { outcome: outcome.clone(), close }, Action::Store(outcome))
}

/// The next state, and what is to be done. An event that has no meaning in a state changes nothing.
pub fn step(state: State, event: Event) -> (State, Action) {
    match (state, event) {
        (State::Done, _) => (State::Done, Action::Nothing),

        (State::Building { stop: None }, Event::Stop(reason)) => (State::Building { stop: Some(reason) }, Action::TripToken),
        (State::Building { stop: Some(old) }, Event::Stop(new)) => {
            let stop = if new.strength() > old.strength() { new } else { old };
            (State::Building { stop: Some(stop) }, Action::Nothing)
        }
        (State::Building { stop }, Event::PipelineEnded(result)) => pipeline_ended(stop, result),
        (State::Building { stop: None }, Event::HostFailed(_)) => (State::Returning, Action::Requeue),
        (State::Building { stop }, Event::HostFailed(failure)) => pipeline_ended(stop, Err(failure)),

        // Taken over: whatever was to be said is another worker's to say.
        (State::Storing { .. } | State::Delivering { .. }, Event::Stop(Stop::Lost)) => (State::Abandoning, Action::Abandon),

        // The outcome script itself looks at the cancel flag, so a notice that crosses it changes nothing here.
        (State::Storing { outcome, close }, Event::Stored(fenced)) => stored(outcome, close, fenced),

        (State::Delivering { outcome, close, cancel }, Event::Stop(Stop::Cancelled(why))) => {
            let cancel = match outcome {
                Outcome::Cancelled { .. } => None,
                _ => cancel.or(Some(why)),
            };
            (State::Delivering { outcome, close, cancel }, Action::Nothing)
        }
        (State::Delivering { outcome, close, cancel }, Event::Delivered(delivery)) => delivered(outcome, close, cancel, delivery),

        (State::Closing, Event::CancelledBeforeClose) => {
            begin_with(Outcome::Cancelled { failure: cancelled() }, Close::Acknowledge)
        }
        (State::Closing, Event::Closed) => (State::Done, Action::Nothing),
        (State::Returning, Event::Returned) => (State::Done, Action::Nothing),
        (State::Abandoning, Event::Abandoned) => (State::Done, Action::Nothing),
        (state, _) => (state, Action::Nothing),
    }
}

fn pipeline_ended(stop: Option<Stop>, result: Result<Outcome, Failure>) -> (State, Action) {
    match (stop, result) {
        (Some(Stop::Lost), _) => (State::Abandoning, Action::Abandon),
        (Some(Stop::Cancelled(failure)), _) => begin_with(Outcome::Cancelled { failure }, Close::Acknowledge),
        // Finished in the very moment: the work counts.
        (Some(Stop::Drained | Stop::TimedOut(_)) | None, Ok(outcome)) => begin_with(outcome, Close::Acknowledge),
        (Some(Stop::TimedOut(failure)), Err(_)) => begin_with(Outcome::Failed { failure }, Close::Acknowledge),
        // Whatever a stage said while it was torn down says nothing about the job.
        (Some(Stop::Drained), Err(_)) => (State::Returning, Action::GiveBack),
        (None, Err(failure)) => begin_with(Outcome::Failed { failure }, Close::Acknowledge),
    }
}

fn stored(outcome: Outcome, close: Close, fenced: Fenced) -> (State, Action) {
    let outcome = match fenced {
        Fenced::Lost => return (State::Abandoning, Action::Abandon),
        Fenced::Stored => outcome,
        Fenced::Stands(stands) => return stands_already(stands),
        Fenced::Cancelled => as_cancelled(outcome, cancelled()),
        Fenced::Superseded { by } => as_cancelled(outcome, superseded(&by)),
    };
    (State::Delivering { outcome: outcome.clone(), close, cancel: None }, Action::Deliver(outcome))
}

/// An end that may have been seen is told again instead, and the claim closed as it asks for.
fn stands_already(outcome: Outcome) -> (State, Action) {
    let close = close_of(&outcome);
    (State::Delivering { outcome: outcome.clone(), close, cancel: None }, Action::Deliver(outcome))
}

/// A cancel that came first: the end is CANCELLED. One that was CANCELLED already keeps its own reason.
fn as_cancelled(outcome: Outcome, failure: Failure) -> Outcome {
    match outcome {
        Outcome::Cancelled { .. } => outcome,
        _ => Outcome::Cancelled { failure },
    }
}

fn delivered(outcome: Outcome, close: Close, cancel: Option<Failure>, delivery: Delivery) -> (State, Action) {
    match (delivery, cancel) {
        (Delivery::Lost, _) => (State::Abandoning, Action::Abandon),
        // The journal and the claim stay as they are for the next start.
        (Delivery::Stopped, _) => (State::Done, Action::Nothing),
        // The end was not posted (or a BUILDED was in flight when the cancel came): CANCELLED is stored and told.
        (Delivery::Cancelled, cancel) => begin_with(as_cancelled(outcome, cancel.unwrap_or_else(cancelled)), close),
        // A newer job that came meanwhile says nothing against this one's image: its own end follows.
        (Delivery::Delivered, Some(failure))
            if matches!(outcome, Outcome::Builded { .. }) && failure.code != Code::BuildSuperseded =>
        {
            begin_with(Outcome::Cancelled { failure }, close)
        }
        (Delivery::Delivered, _) => (State::Closing, Action::Close(close)),
        // Nobody was told: the dead letter list is where a person finds it.
        (Delivery::Refused { status }, _) => {
            let close = match close {
                Close::Acknowledge => Close::DeadLetter(refused(&outcome, status)),
                kept @ Close::DeadLetter(_) => kept,
            };
            (State::Closing, Action::Close(close))
        }
    }
}

fn refused(outcome: &Outcome, status: u16) -> Failure {
    let end = match outcome {
        Outcome::Builded { image, .. } => format!("BUILDED ({image})"),
        Outcome::Failed { failure } => format!("FAILED ({failure})"),
        Outcome::Cancelled { failure } => format!("CANCELLED ({failure})"),
    };
    Failure::new(
        Code::ReportRefused,
        format!("The dashboard answers {status} to the end of this deployment while it takes other posts. Its end was {end}."),
        "See the dashboard's own log, then deploy again or set the status there.",
    )
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;
