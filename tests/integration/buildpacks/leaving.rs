//! A cancel, a deadline, a killed worker, a lost Engine: in each phase nothing is left, and the job's end is the right one.

use std::time::{Duration, Instant};

use super::held::{Held, Phase, SOON};
use crate::support::{Fault, WorkerOptions, eventually, left_in_engine};

/// Time enough to get into every phase.
const TIME: u64 = 30;

/// From the cancel, or from the moment at which the time is up, until the end is told, when nothing of the job is left: a second. A
/// machine that has far more to run than it has cores cannot tell.
fn gone_within() -> Duration {
    let load = std::fs::read_to_string("/proc/loadavg").expect("/proc/loadavg");
    let load: f64 = load.split(' ').next().and_then(|minute| minute.parse().ok()).expect("a load");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Duration::from_secs(if load > 8.0 * cores as f64 { 5 } else { 1 })
}

async fn cancelled_in(phase: Phase) {
    let limits = [("BUILDPACKS_CPUS", "1.5"), ("BUILDPACKS_MEMORY", "512MiB"), ("BUILDPACKS_PIDS", "200")];
    let limited = |options| limits.iter().fold(options, |o: WorkerOptions, (name, value)| o.set(name, value));
    let held = Held::in_phase(phase, limited).await;
    assert_eq!(held.limits().await, "1500000000 536870912 536870912 200", "{phase:?} has the configured limits");
    let began = Instant::now();
    held.rig.cancel(&held.job).await;
    let end = held.rig.cancelled(&held.job).await;
    let took = end.post.at - began;
    gone(held, phase, "cancel", took).await;
}

async fn timed_out_in(phase: Phase) {
    let held = Held::with_time(phase, TIME).await;
    let building = held.rig.dashboard.wait_for_status(&held.job.id, &["BUILDING"], SOON).await;
    let error = held.rig.failed(&held.job, "build.timeout").await;
    let step = if phase == Phase::Export { "exporting the image to the registry" } else { "building with buildpacks" };
    assert!(error.contains(&format!("longer than {TIME} s")) && error.contains(step), "{error}");
    let took = held.rig.end(&held.job).await.post.at.duration_since(building.at + Duration::from_secs(TIME));
    gone(held, phase, "timeout", took).await;
}

/// By when the end was told, `took` after `what`.
async fn gone(held: Held, phase: Phase, what: &str, took: Duration) {
    println!("time to gone: {what} in {phase:?}: {} ms", took.as_millis());
    let left = left_in_engine(&held.rig.engine, std::slice::from_ref(&held.job.id)).await;
    assert_eq!(left, [""; 0], "{phase:?}: nothing is left when the end is told");
    assert!(took < gone_within(), "{phase:?}: the end {took:?} after the {what}");
    held.rig.finish().await;
}

async fn over_the_phases_own_time_in(phase: Phase) {
    let held = Held::in_phase(phase, |options| options.set("BUILDPACKS_PHASE_TIMEOUT", "10")).await;
    let error = held.rig.failed(&held.job, "build.timeout").await;
    let name = format!("{phase:?}").to_lowercase();
    assert!(error.contains(&format!("The {name} phase took longer than 10 s")), "{error}");
    held.rig.finish().await;
}

async fn killed_in(phase: Phase) {
    let mut held = Held::in_phase(phase, |options| options).await;
    held.rig.kill_worker().await;
    held.release().await;
    let began = Instant::now();
    held.rig.start_worker();
    let took = held.gone_since(began).await;
    println!("time to gone: kill -9 in {phase:?}, from the worker's start: {} ms", took.as_millis());
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
async fn a_job_that_takes_longer_than_its_time_is_ended_in_analyze_detect_and_restore() {
    tokio::join!(timed_out_in(Phase::Analyze), timed_out_in(Phase::Detect), timed_out_in(Phase::Restore));
}

#[tokio::test]
async fn a_job_that_takes_longer_than_its_time_is_ended_in_build_and_export() {
    tokio::join!(timed_out_in(Phase::Build), timed_out_in(Phase::Export));
}

/// (Build and export: where a hostile app hangs them.)
#[tokio::test]
async fn a_phase_that_takes_longer_than_its_own_time_is_ended_and_named() {
    tokio::join!(
        over_the_phases_own_time_in(Phase::Analyze),
        over_the_phases_own_time_in(Phase::Detect),
        over_the_phases_own_time_in(Phase::Restore),
    );
}
