//! PURE: how long one try of a stage may take, and what is said of one that took longer. (The buildpacks' phases have a limit of their own.)

use std::time::Duration;

use super::step::Step;
use crate::config::StageTimeouts;
use crate::protocol::{Code, Failure};

/// The limit that counts from the moment at which a step begins, and the key that sets it. `None`: it has none of its own.
pub fn limit(timeouts: &StageTimeouts, step: Step) -> Option<(Duration, &'static str)> {
    let (time, key) = match step {
        Step::Source => (timeouts.fetch, "FETCH_TIMEOUT"),
        Step::Context => (timeouts.context, "CONTEXT_TIMEOUT"),
        Step::Build => (timeouts.image, "IMAGE_TIMEOUT"),
        Step::Push => (timeouts.push, "PUSH_TIMEOUT"),
        Step::Turn | Step::FetchTurn | Step::Images | Step::Gate | Step::Peer | Step::Buildpacks | Step::Export => return None,
    };
    (!time.is_zero()).then_some((time, key))
}

/// The failure of a step that took longer.
pub fn too_long(step: Step, time: Duration, key: &str) -> Failure {
    let name = step.to_string();
    let (first, rest) = name.split_at(1);
    Failure::new(
        Code::BuildTimeout,
        format!("{}{rest} took longer than {} s.", first.to_uppercase(), time.as_secs_f64()),
        format!("The log above says how far it came. Make it quicker, or have {key} raised."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: StageTimeouts = StageTimeouts {
        fetch: Duration::from_secs(1),
        context: Duration::from_secs(2),
        image: Duration::from_secs(3),
        push: Duration::from_secs(4),
    };

    #[test]
    fn each_stage_has_the_limit_that_its_key_sets() {
        let seconds = |step| limit(&ALL, step).map(|(time, key)| (time.as_secs(), key));
        assert_eq!(seconds(Step::Source), Some((1, "FETCH_TIMEOUT")));
        assert_eq!(seconds(Step::Context), Some((2, "CONTEXT_TIMEOUT")));
        assert_eq!(seconds(Step::Build), Some((3, "IMAGE_TIMEOUT")));
        assert_eq!(seconds(Step::Push), Some((4, "PUSH_TIMEOUT")));
    }

    #[test]
    fn time_that_a_job_may_not_go_on_in_is_no_stages_own_and_zero_is_no_limit() {
        for step in [Step::Turn, Step::FetchTurn, Step::Gate, Step::Peer] {
            assert_eq!(limit(&ALL, step), None);
        }
        assert_eq!(limit(&StageTimeouts::default(), Step::Push), None);
    }

    #[test]
    fn a_stage_that_took_too_long_is_named_with_its_limit_and_its_key() {
        let failure = too_long(Step::Source, Duration::from_secs(2), "FETCH_TIMEOUT");
        assert_eq!(failure.cause, "Fetching the commit took longer than 2 s.");
        assert!(failure.way_out.contains("FETCH_TIMEOUT"));
    }
}
