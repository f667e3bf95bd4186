//! kill -9 of the worker at any stage: the restarted one takes its job up at once, ends it once, and cleans up.

use std::time::{Duration, Instant};

use crate::support::{Held, Host, Job, Repository, Rig, Stage, WorkerOptions};

async fn killed_in(stage: Stage) {
    let mut held = Held::in_stage(stage, |options| options).await;
    held.rig.kill_worker().await;
    held.release();
    held.rig.start_worker();
    held.rig.built(&held.job).await;
    held.rig.finish().await;
}

#[tokio::test]
async fn a_job_whose_worker_was_killed_while_fetching_is_built_after_the_restart() {
    killed_in(Stage::Fetch).await;
}

#[tokio::test]
async fn a_job_whose_worker_was_killed_while_sending_the_context_is_built_after_the_restart() {
    killed_in(Stage::Context).await;
}

#[tokio::test]
async fn a_job_whose_worker_was_killed_while_pulling_is_built_after_the_restart() {
    killed_in(Stage::BasePull).await;
}

#[tokio::test]
async fn a_job_whose_worker_was_killed_in_a_run_step_is_built_after_the_restart() {
    killed_in(Stage::Run).await;
}

#[tokio::test]
async fn a_job_whose_worker_was_killed_while_pushing_is_built_after_the_restart() {
    killed_in(Stage::Push).await;
}

#[tokio::test]
async fn an_end_that_was_stored_before_the_kill_is_told_after_the_restart_and_not_built_again() {
    let mut held = Held::in_stage(Stage::Report, |options| options).await;
    held.rig.kill_worker().await;
    held.release();
    held.rig.start_worker();
    let end = held.rig.built(&held.job).await;
    assert!(end.image.contains(&format!(":{}-1@", held.job.id)), "the first attempt's image: {}", end.image);
    assert!(!held.rig.dashboard.log(&held.job.id).contains("released"), "nothing was built again");
    held.rig.finish().await;
}

#[tokio::test]
async fn a_restarted_worker_does_not_wait_for_its_own_lease_to_run_out() {
    let mut held = Held::in_stage(Stage::Run, |options| options).await;
    held.rig.kill_worker().await;
    held.release();
    let began = Instant::now();
    held.rig.start_worker();
    let end = held.rig.built(&held.job).await;
    assert!(end.post.at - began < Duration::from_secs(15), "a lease lasts 30 s; it took {:?}", end.post.at - began);
    held.rig.finish().await;
}

#[tokio::test]
async fn a_second_worker_with_the_same_work_dir_refuses_to_start_and_says_why() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.built(&job).await;
    let mut second = rig.host.start();
    let status = second.ended(Duration::from_secs(20)).await;
    assert!(!status.success(), "{status}");
    let log = rig.host.log();
    assert!(log.contains("WORK_DIR"), "it says what is taken:\n{log}");
    let again = Job::of(&repository);
    rig.push(&again).await;
    rig.built(&again).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_configuration_with_errors_ends_at_once_with_all_of_them_listed() {
    let rig = Rig::without_worker(|options| options).await;
    let options = WorkerOptions::new(&rig.redis, &rig.dashboard).set("REDIS_PORT", "many").set("API_URL", "not a url");
    let host = Host::new(options);
    host.start().ended_with(78, Duration::from_secs(10)).await;
    let log = host.log();
    assert!(log.contains("REDIS_PORT") && log.contains("API_URL"), "{log}");
    rig.finish().await;
}
