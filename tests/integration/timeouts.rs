//! A build that takes too long, or says nothing for too long, ends as a time-out that names the step, and nothing of it is left.

use serde_json::json;

use crate::support::{Job, Repository, Rig};

#[tokio::test]
async fn a_job_that_is_given_less_time_ends_when_it_is_up_and_the_step_is_named() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN while :; do echo at it; sleep 1; done\n")]);
    let job = Job::of(&repository).set("buildTimeout", json!(3));
    rig.push(&job).await;
    let error = rig.failed(&job, "build.timeout").await;
    assert!(error.contains("longer than 3 s") && error.contains("building the image"), "{error}");
    rig.finish().await;
}

#[tokio::test]
async fn a_build_that_prints_nothing_for_too_long_is_ended() {
    let mut rig = Rig::with(|options| options.set("BUILD_SILENCE_TIMEOUT", "2")).await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN sleep 3600\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    let error = rig.failed(&job, "build.silent").await;
    assert!(error.contains("Nothing was printed for 2 s"), "{error}");
    rig.finish().await;
}
