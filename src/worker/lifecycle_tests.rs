//! Every event in every state, and the promises that hold on every path.

use proptest::prelude::*;

use super::*;
use crate::protocol::{ImageRef, RegistryType};

fn builded() -> Outcome {
    let digest = format!("sha256:{}", "a".repeat(64));
    Outcome::Builded { image: ImageRef::new("r/x", "t-1", &digest).unwrap(), registry: RegistryType::Docker }
}
fn step_failed() -> Failure {
    Failure::new(Code::DockerfileStepFailed, "RUN false ended with exit code 1.", "")
}
fn newer() -> DeploymentId {
    DeploymentId::parse("newer").unwrap()
}

fn any_stop() -> impl Strategy<Value = Stop> {
    prop_oneof![
        Just(Stop::Drained),
        Just(Stop::TimedOut(Failure::new(Code::BuildTimeout, "late", ""))),
        Just(Stop::Cancelled(cancelled())),
        Just(Stop::Cancelled(superseded(&newer()))),
        Just(Stop::Lost),
    ]
}
fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => any_stop().prop_map(Event::Stop),
        2 => prop_oneof![Just(Ok(builded())), Just(Err(step_failed())), Just(Err(Failure::interrupted()))].prop_map(Event::PipelineEnded),
        2 => prop_oneof![Just(Fenced::Stored), Just(Fenced::Cancelled), Just(Fenced::Superseded { by: newer() }), Just(Fenced::Lost)]
            .prop_map(Event::Stored),
        2 => prop_oneof![
            Just(Delivery::Delivered),
            Just(Delivery::Refused { status: 500 }),
            Just(Delivery::Lost),
            Just(Delivery::Cancelled),
            Just(Delivery::Stopped)
        ]
        .prop_map(Event::Delivered),
        1 => Just(Event::HostFailed(step_failed())),
        1 => Just(Event::Closed),
        1 => Just(Event::CancelledBeforeClose),
        1 => Just(Event::Returned),
        1 => Just(Event::Abandoned),
    ]
}

/// Whether the event can happen in the state: effects answer only for what was started.
fn possible(state: &State, event: &Event) -> bool {
    matches!(
        (state, event),
        (_, Event::Stop(_))
            | (State::Building { .. }, Event::PipelineEnded(_) | Event::HostFailed(_))
            | (State::Storing { .. }, Event::Stored(_))
            | (State::Delivering { .. }, Event::Delivered(_))
            | (State::Closing, Event::Closed | Event::CancelledBeforeClose)
            | (State::Returning, Event::Returned)
            | (State::Abandoning, Event::Abandoned)
    )
}

proptest! {
    #[test]
    fn an_event_that_cannot_happen_in_a_state_changes_nothing(stop in proptest::option::of(any_stop()), event in any_event()) {
        let states = [
            State::Building { stop },
            State::Storing { outcome: builded(), close: Close::Acknowledge },
            State::Delivering { outcome: builded(), close: Close::Acknowledge, cancel: None },
            State::Closing, State::Returning, State::Abandoning, State::Done,
        ];
        for state in states {
            if !possible(&state, &event) {
                prop_assert_eq!(step(state.clone(), event.clone()), (state, Action::Nothing));
            }
        }
    }

    #[test]
    fn whatever_happens_ends_are_stored_before_they_are_told_and_told_before_they_are_closed(
        events in proptest::collection::vec(any_event(), 1..60)
    ) {
        let mut state = State::Building { stop: None };
        let mut stored = false;
        let mut told = false;
        let mut cancelled_before_any_end = false;
        let mut lost = false;
        for event in events {
            if !possible(&state, &event) { continue; }
            if matches!((&state, &event), (State::Building { .. }, Event::Stop(Stop::Cancelled(_)))) { cancelled_before_any_end = true; }
            let was = state.clone();
            let (next, action) = step(state, event.clone());
            if matches!(event, Event::Stored(Fenced::Stored | Fenced::Cancelled | Fenced::Superseded { .. })) { stored = true; }
            if matches!(event, Event::Delivered(Delivery::Delivered | Delivery::Refused { .. })) { told = true; }
            prop_assert!(!lost || matches!(action, Action::Nothing), "nothing is done after the attempt was lost, but {action:?}");
            match &action {
                Action::Deliver(outcome) => {
                    prop_assert!(stored, "told before it was stored");
                    if cancelled_before_any_end {
                        prop_assert!(matches!(outcome, Outcome::Cancelled { .. }), "a cancelled build ended as {outcome:?}");
                    }
                }
                Action::Store(_) => stored = false,
                Action::Close(_) => prop_assert!(told, "closed before it was told"),
                Action::GiveBack | Action::Requeue => prop_assert!(!told && matches!(was, State::Building { .. }), "given back after an end"),
                Action::Abandon => lost = true,
                Action::TripToken | Action::Nothing => {}
            }
            state = next;
        }
    }

    #[test]
    fn a_lost_attempt_says_nothing_more_in_any_state(event in any_event()) {
        for state in [
            State::Storing { outcome: builded(), close: Close::Acknowledge },
            State::Delivering { outcome: builded(), close: Close::Acknowledge, cancel: None },
        ] {
            let (state, action) = step(state, Event::Stop(Stop::Lost));
            prop_assert_eq!(action, Action::Abandon);
            let (_, action) = step(state, event.clone());
            prop_assert_eq!(action, Action::Nothing);
        }
    }
}

#[test]
fn a_cancel_wins_over_a_drain_that_came_first() {
    let (state, action) = step(State::Building { stop: None }, Event::Stop(Stop::Drained));
    assert_eq!(action, Action::TripToken);
    let (state, _) = step(state, Event::Stop(Stop::Cancelled(cancelled())));
    let (_, action) = step(state, Event::PipelineEnded(Err(Failure::interrupted())));
    assert_eq!(action, Action::Store(Outcome::Cancelled { failure: cancelled() }));
}

#[test]
fn a_drained_build_goes_back_to_the_queue_and_says_no_end() {
    let (state, _) = step(State::Building { stop: None }, Event::Stop(Stop::Drained));
    let (state, action) = step(state, Event::PipelineEnded(Err(Failure::interrupted())));
    assert_eq!(action, Action::GiveBack);
    assert_eq!(step(state, Event::Returned), (State::Done, Action::Nothing));
}

#[test]
fn what_this_host_fails_goes_back_to_the_queue_unless_a_stronger_end_came_first() {
    let failed = || Event::HostFailed(Failure::interrupted());
    let (state, action) = step(State::Building { stop: None }, failed());
    assert_eq!((&state, action), (&State::Returning, Action::Requeue));
    assert_eq!(step(state, Event::Returned), (State::Done, Action::Nothing));
    let (_, action) = step(State::Building { stop: Some(Stop::Cancelled(cancelled())) }, failed());
    assert_eq!(action, Action::Store(Outcome::Cancelled { failure: cancelled() }));
    let (_, action) = step(State::Building { stop: Some(Stop::Lost) }, failed());
    assert_eq!(action, Action::Abandon);
}

#[test]
fn a_cancel_while_builded_is_in_flight_is_told_after_it() {
    let delivering = State::Delivering { outcome: builded(), close: Close::Acknowledge, cancel: None };
    let (state, action) = step(delivering, Event::Stop(Stop::Cancelled(cancelled())));
    assert_eq!(action, Action::Nothing);
    let (_, action) = step(state, Event::Delivered(Delivery::Delivered));
    assert_eq!(action, Action::Store(Outcome::Cancelled { failure: cancelled() }));
}

#[test]
fn a_cancel_that_redis_knew_of_before_the_worker_is_told_after_builded_and_the_job_closed_then() {
    let end = Outcome::Cancelled { failure: cancelled() };
    let (state, action) = step(State::Closing, Event::CancelledBeforeClose);
    assert_eq!(action, Action::Store(end.clone()));
    let (state, action) = step(state, Event::Stored(Fenced::Stored));
    assert_eq!(action, Action::Deliver(end));
    let (state, action) = step(state, Event::Delivered(Delivery::Delivered));
    assert_eq!(action, Action::Close(Close::Acknowledge));
    assert_eq!(step(state, Event::Closed), (State::Done, Action::Nothing));
}

#[test]
fn an_end_that_was_told_already_is_told_again_in_the_place_of_another_one_and_closed() {
    let storing = State::Storing { outcome: builded(), close: Close::Acknowledge };
    let why = Failure::new(Code::JobMalformed, "x", "");
    let rejected = Outcome::Failed { failure: why.clone() };
    for (told, close) in [(Outcome::Failed { failure: step_failed() }, Close::Acknowledge), (rejected, Close::DeadLetter(why))] {
        let (state, action) = step(storing.clone(), Event::Stored(Fenced::Stands(told.clone())));
        assert_eq!(action, Action::Deliver(told));
        assert_eq!(step(state, Event::Delivered(Delivery::Delivered)), (State::Closing, Action::Close(close)));
    }
}

#[test]
fn an_end_that_could_not_be_delivered_before_the_stop_waits_for_the_next_start() {
    let delivering = State::Delivering { outcome: builded(), close: Close::Acknowledge, cancel: None };
    assert_eq!(step(delivering, Event::Delivered(Delivery::Stopped)), (State::Done, Action::Nothing));
}

#[test]
fn a_refused_job_ends_in_the_dead_letter_after_failed_was_told() {
    let failure = Failure::new(Code::JobMalformed, "x", "");
    let outcome = Outcome::Failed { failure: failure.clone() };
    let (state, action) = begin_known(outcome.clone());
    assert_eq!(action, Action::Store(outcome.clone()));
    let (state, action) = step(state, Event::Stored(Fenced::Stored));
    assert_eq!(action, Action::Deliver(outcome));
    let (_, action) = step(state, Event::Delivered(Delivery::Delivered));
    assert_eq!(action, Action::Close(Close::DeadLetter(failure)));
}

#[test]
fn an_element_that_was_given_up_goes_to_the_dead_letter_also_when_another_process_stored_its_end() {
    let failure = |code| Failure::new(code, "", "");
    let failed = |code| Outcome::Failed { failure: failure(code) };
    for code in [Code::JobCrashedWorkers, Code::JobMalformed, Code::JobTooLarge] {
        assert_eq!(close_of(&failed(code)), Close::DeadLetter(failure(code)), "{code}");
    }
    for end in [failed(Code::JobBranchDeleted), failed(Code::DockerfileStepFailed), builded()] {
        assert_eq!(close_of(&end), Close::Acknowledge);
    }
}
