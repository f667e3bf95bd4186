//! The Engine's restart in mid-build, a real one, is an infrastructure failure: the build starts again, and the log says why.

use std::time::Duration;

use crate::support::{Held, Job, OwnEngine, Repository, Rig, Stage};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn an_engine_restarted_in_a_run_step_costs_time_and_no_job() {
    let mut engine = OwnEngine::start().await;
    let mut rig = Rig::with(|options| options.engine(engine.socket())).await;
    rig.engine = engine.client();
    let hangs_once =
        "RUN --mount=type=cache,target=/kept [ -e /kept/seen ] || { touch /kept/seen; echo start''ed; sleep 600; }; echo over";
    let repository = Repository::public(&[("Dockerfile", &format!("FROM busybox:base\n{hangs_once}\n"))]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "started", SOON).await;
    engine.terminate().await;
    rig.dashboard.wait_for_line(&job.id, "Trying again in", SOON).await;
    engine.start_again().await;
    let end = rig.built(&job).await;
    assert!(end.image.contains(&format!(":{}-1@", job.id)), "the same attempt: {}", end.image);
    assert_eq!(rig.dashboard.statuses(&job.id), ["BUILDING", "BUILDED"]);
    let log = rig.dashboard.log(&job.id);
    assert!(log.contains("The Docker Engine went away in the middle of the build"), "it says why: {log}");
    rig.finish().await;
    engine.assert_as_at_first().await;
}

/// Such a step fails as if by itself: the Engine has taken its network away already.
#[tokio::test]
async fn an_engine_that_is_stopped_while_a_step_begins_makes_no_failure_of_the_users() {
    let mut engine = OwnEngine::start().await;
    let mut rig = Rig::with(|options| options.engine(engine.socket())).await;
    rig.engine = engine.client();
    let steps: String = (1..=8).map(|step| format!("RUN echo {step}\n")).collect();
    let repository = Repository::public(&[("Dockerfile", &format!("FROM busybox:base\n{steps}"))]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "RUN echo 1", SOON).await;
    engine.terminate().await;
    engine.start_again().await;
    rig.built(&job).await;
    let log = rig.dashboard.log(&job.id);
    assert!(log.contains("[engine.lost]"), "the Engine was stopped before the build was over: {log}");
    rig.finish().await;
    engine.assert_as_at_first().await;
}

#[tokio::test]
async fn an_engine_restarted_in_a_push_costs_time_and_no_second_build() {
    let mut engine = OwnEngine::start().await;
    let mut held = Held::in_stage(Stage::Push, |options| options.engine(engine.socket())).await;
    held.rig.engine = engine.client();
    engine.terminate().await;
    held.rig.dashboard.wait_for_line(&held.job.id, "Trying again in", SOON).await;
    held.release();
    engine.start_again().await;
    let end = held.rig.built(&held.job).await;
    assert_eq!(held.rig.registry.holds(&end.image).await, Ok(()));
    let log = held.rig.dashboard.log(&held.job.id);
    assert!(log.contains("Docker Engine") && log.contains("[engine.lost]"), "it says why: {log}");
    assert_eq!(log.matches("[1/2]").count(), 1, "it was built once: {log}");
    held.rig.finish().await;
    engine.assert_as_at_first().await;
}
