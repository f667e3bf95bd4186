//! A job whose workers died twice builds alone: without stopping the others, and on an idle host where there is one.

use std::time::Duration;

use crate::support::{Host, Job, Repository, Rig, eventually};

const SOON: Duration = Duration::from_secs(60);
const QUICK: &[(&str, &str)] = &[("Dockerfile", "FROM busybox:base\nRUN echo hello\n")];
const LONG: &[(&str, &str)] = &[("Dockerfile", "FROM busybox:base\nRUN echo sta''rted; sleep 600\n")];

/// What two workers leave in Redis that died with the job.
async fn two_workers_died_with(rig: &Rig, job: &Job) {
    let script = "return redis.call('HSET', KEYS[1], redis.sha1hex(ARGV[1]), '2')";
    let _: i64 = rig.redis.command(&["EVAL", script, "1", "{builder-queue}:crashes", &job.payload()]).await;
}

async fn held_by_a_worker(rig: &Rig, job: &Job) {
    eventually("a worker holds the job", SOON, async || {
        let record: Option<String> = rig.redis.command(&["HGET", "{builder-queue}:jobs", &job.id]).await;
        let record = record.unwrap_or_default();
        // Offered once, and claimed again.
        if record.contains("\"attempt\":2") && !record.contains("\"worker\":\"\"") { Ok(()) } else { Err(record) }
    })
    .await;
}

/// A host of two slots that builds a long job, and holds one that has to build alone.
struct Beside {
    rig: Rig,
    running: Job,
    poison: Job,
    quick: Repository,
    /// It lives as long as its job.
    _long: Repository,
}

async fn a_running_job_beside_a_poison_job() -> Beside {
    let mut rig = Rig::with(|options| options.builds(2)).await;
    let (long, quick) = (Repository::public(LONG), Repository::public(QUICK));
    let (running, poison) = (Job::of(&long), Job::of(&quick));
    rig.push(&running).await;
    rig.dashboard.wait_for_line(&running.id, "started", SOON).await;
    two_workers_died_with(&rig, &poison).await;
    rig.push(&poison).await;
    held_by_a_worker(&rig, &poison).await;
    Beside { rig, running, poison, quick, _long: long }
}

#[tokio::test]
async fn while_a_job_waits_to_build_alone_the_others_are_built_and_it_is_not_told_as_building() {
    let Beside { mut rig, running, poison, quick, _long } = a_running_job_beside_a_poison_job().await;
    for _ in 0..3 {
        let good = Job::of(&quick);
        rig.push(&good).await;
        rig.built(&good).await;
    }
    let told = rig.dashboard.statuses(&poison.id);
    assert!(told.iter().all(|status| status == "PENDING"), "it waits: {told:?}");
    assert_eq!(rig.dashboard.statuses(&running.id), ["BUILDING"]);
    rig.cancel(&running).await;
    rig.cancelled(&running).await;
    rig.built(&poison).await;
    assert!(rig.dashboard.log(&poison.id).contains("builds alone on"), "{}", rig.dashboard.log(&poison.id));
    rig.finish().await;
}

#[tokio::test]
async fn a_job_that_waits_to_build_alone_can_be_cancelled() {
    let Beside { rig, running, poison, quick: _quick, _long } = a_running_job_beside_a_poison_job().await;
    rig.cancel(&poison).await;
    rig.cancelled(&poison).await;
    rig.cancel(&running).await;
    rig.cancelled(&running).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_job_that_has_to_build_alone_is_built_by_an_idle_host_while_the_first_one_is_busy() {
    let Beside { rig, running, poison, quick: _quick, _long } = a_running_job_beside_a_poison_job().await;
    let idle = Host::new(rig.host.options.clone());
    let mut worker = idle.start();
    rig.built(&poison).await;
    assert_eq!(rig.dashboard.statuses(&running.id), ["BUILDING"], "the first host is busy still");
    worker.terminate();
    worker.ended_with(0, SOON).await;
    rig.cancel(&running).await;
    rig.cancelled(&running).await;
    rig.finish().await;
}

#[tokio::test]
async fn while_a_job_builds_alone_nothing_begins_beside_it_and_all_goes_on_afterwards() {
    let mut rig = Rig::with(|options| options.builds(2)).await;
    let (long, quick) = (Repository::public(LONG), Repository::public(QUICK));
    let (poison, good) = (Job::of(&long), Job::of(&quick));
    two_workers_died_with(&rig, &poison).await;
    rig.push(&poison).await;
    rig.dashboard.wait_for_line(&poison.id, "started", SOON).await;
    rig.wait_for_log("No job is claimed: one that has ended with dead workers before builds alone", SOON).await;
    rig.push(&good).await;
    let idle = Host::new(rig.host.options.clone());
    let mut worker = idle.start();
    rig.built(&good).await;
    assert!(!rig.host.log().contains(&good.id), "the other host has built it");
    worker.terminate();
    worker.ended_with(0, SOON).await;
    rig.cancel(&poison).await;
    rig.cancelled(&poison).await;
    let next = Job::of(&quick);
    rig.push(&next).await;
    rig.built(&next).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_worker_that_died_with_more_jobs_than_it_may_begin_gives_the_others_back() {
    let mut rig = Rig::with(|options| options.builds(2)).await;
    let long = Repository::public(LONG);
    let jobs = [Job::of(&long), Job::of(&long)];
    for job in &jobs {
        rig.push(job).await;
        rig.dashboard.wait_for_line(&job.id, "started", SOON).await;
    }
    rig.kill_worker().await;
    rig.host.options = rig.host.options.clone().builds(1);
    rig.start_worker();
    rig.wait_for_log("go back to the head of the queue", SOON).await;
    rig.dashboard.wait_for_line(&jobs[0].id, "this host's worker was started again", SOON).await;
    eventually("another host may take the other job", SOON, async || {
        let mut waiting = 0;
        for list in ["builder-queue", "{builder-queue}:incoming"] {
            waiting += rig.redis.command::<u64>(&["LLEN", list]).await;
        }
        if waiting == 1 { Ok(()) } else { Err(format!("{waiting} wait")) }
    })
    .await;
    for job in &jobs {
        rig.cancel(job).await;
        rig.cancelled(job).await;
    }
    rig.finish().await;
}
