//! A cancel, a deadline, a killed worker, a lost Engine: in each phase nothing is left, and the job's end is the right one.

use std::time::{Duration, Instant};

use super::held::{Held, Phase, SOON};
use crate::support::{Fault, eventually};

/// The invariant's second, with room for a busy machine; the benches measure what it really takes.
const GONE_WITHIN: Duration = Duration::from_secs(3);

async fn cancelled_in(phase: Phase) {
    let held = Held::in_phase(phase, |options| options).await;
    let began = Instant::now();
    held.rig.cancel(&held.job).await;
    let end = held.rig.cancelled(&held.job).await;
    let took = end.post.at - began;
    println!("{phase:?}: CANCELLED after {took:?}");
    assert!(took < GONE_WITHIN, "{phase:?}: CANCELLED after {took:?}");
    held.rig.finish().await;
}

async fn killed_in(phase: Phase) {
    let mut held = Held::in_phase(phase, |options| options).await;
    held.rig.kill_worker().await;
    held.release().await;
    held.rig.start_worker();
    held.rig.built(&held.job).await;
    held.rig.finish().await;
}

#[tokio::test]
async fn a_job_is_cancelled_in_analyze() {
    cancelled_in(Phase::Analyze).await;
}

#[tokio::test]
async fn a_job_is_cancelled_in_detect() {
    cancelled_in(Phase::Detect).await;
}

#[tokio::test]
async fn a_job_is_cancelled_in_restore() {
    cancelled_in(Phase::Restore).await;
}

#[tokio::test]
async fn a_job_is_cancelled_in_build() {
    cancelled_in(Phase::Build).await;
}

#[tokio::test]
async fn a_job_is_cancelled_in_export() {
    cancelled_in(Phase::Export).await;
}

#[tokio::test]
async fn a_job_whose_worker_was_killed_in_analyze_is_built_after_the_restart() {
    killed_in(Phase::Analyze).await;
}

#[tokio::test]
async fn a_job_whose_worker_was_killed_in_detect_is_built_after_the_restart() {
    killed_in(Phase::Detect).await;
}

#[tokio::test]
async fn a_job_whose_worker_was_killed_in_restore_is_built_after_the_restart() {
    killed_in(Phase::Restore).await;
}

#[tokio::test]
async fn a_job_whose_worker_was_killed_in_build_is_built_after_the_restart() {
    killed_in(Phase::Build).await;
}

#[tokio::test]
async fn a_job_whose_worker_was_killed_in_export_is_built_after_the_restart() {
    killed_in(Phase::Export).await;
}

#[tokio::test]
async fn an_engine_that_goes_away_in_a_build_is_waited_for_and_the_phases_run_again() {
    let held = Held::in_phase(Phase::Build, |options| options).await;
    held.rig.dashboard.wait_for_line(&held.job.id, "started", SOON).await;
    held.engine.set(Fault::Cut);
    held.rig.wait_for_log("a container could not be removed yet", SOON).await;
    held.engine.set(Fault::Pass);
    eventually("the build runs again", SOON, async || {
        let log = held.rig.dashboard.log(&held.job.id);
        if log.matches("started").count() == 2 { Ok(()) } else { Err(log) }
    })
    .await;
    assert!(held.rig.dashboard.log(&held.job.id).contains("[engine.lost]"));
    held.rig.cancel(&held.job).await;
    held.rig.cancelled(&held.job).await;
    held.rig.finish().await;
}

#[tokio::test]
async fn a_build_that_says_nothing_for_too_long_is_ended_and_its_step_named() {
    let held = Held::in_phase(Phase::Build, |options| options.set("BUILD_SILENCE_TIMEOUT", "6")).await;
    let error = held.rig.failed(&held.job, "build.silent").await;
    assert!(error.contains("building with buildpacks"), "{error}");
    held.rig.finish().await;
}

#[tokio::test]
async fn a_job_that_takes_longer_than_its_time_is_ended_and_its_step_named() {
    let held = Held::in_phase(Phase::Detect, |options| options.set("BUILD_TIMEOUT", "12")).await;
    let error = held.rig.failed(&held.job, "build.timeout").await;
    assert!(error.contains("building with buildpacks"), "{error}");
    held.rig.finish().await;
}
