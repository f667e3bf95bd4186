//! The disk under WORK_DIR stalls for longer than a lease lasts, at every stage: nobody else builds, no crash is counted, no line is lost.

use std::time::{Duration, Instant};

use futures_util::future::{LocalBoxFuture, join_all};
use tokio::sync::Semaphore;

use crate::support::{Held, Host, Job, Repository, Rig, Stage, Trouble, WorkerOptions, eventually};

const SOON: Duration = Duration::from_secs(60);
/// A lease lasts 30 s.
const STALL: Duration = Duration::from_secs(45);

/// 80 KB a second, numbered: what comes during a stall is more than waits in memory while the disk answers.
const CHATTY: &str = "FROM busybox:base
RUN pad=$(printf '%03900d' 0); i=0; while [ $i -lt 1200 ]; do i=$((i+1)); echo \"line $i of the build $pad\"; sleep 0.05; done
";
const LINES: u32 = 1200;

fn numbers(text: &str) -> Vec<u32> {
    let lines = text.split("line ").filter_map(|rest| rest.split_once(" of the build"));
    lines.filter_map(|(number, _)| number.parse().ok()).collect()
}

/// A second, healthy host on the same Redis, which would take the job over.
fn heir(rig: &Rig) -> (Host, crate::support::Worker) {
    let host = Host::new(WorkerOptions::new(&rig.redis, &rig.dashboard));
    let worker = host.start();
    (host, worker)
}

/// The disk is frozen, stays so for the time of a stall, and thaws. All the while the worker renews its lease.
async fn stall(rig: &Rig, meanwhile: impl FnOnce()) {
    let lease = rig.redis.command::<Vec<String>>(&["KEYS", "*:claimed:*"]).await.pop().expect("a claimed job");
    let lease = lease.replace(":claimed:", ":lease:");
    let began = Instant::now();
    meanwhile();
    while began.elapsed() < STALL {
        let held: u32 = rig.redis.command(&["EXISTS", &lease]).await;
        assert_eq!(held, 1, "the lease ran out after {:?} of the stall", began.elapsed());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    rig.host.disk().thaw();
}

async fn built_once_and_here(rig: Rig, job: &Job, heir: (Host, crate::support::Worker)) {
    let end = rig.built(job).await;
    assert!(end.image.contains(&format!(":{}-1@", job.id)), "the first attempt: {}", end.image);
    assert_eq!(rig.dashboard.statuses(&job.id), ["BUILDING", "BUILDED"]);
    let crashes: u32 = rig.redis.command(&["HLEN", "{builder-queue}:crashes"]).await;
    assert_eq!(crashes, 0, "no crash is counted against a worker that lives");
    let (host, mut worker) = heir;
    assert!(!host.log().contains("build starts"), "nobody else built it:\n{}", host.log());
    worker.terminate();
    worker.ended(SOON).await;
    rig.settle().await;
    rig.finish().await;
}

async fn stalls_in(stage: Stage, starts: &Semaphore) {
    let start = starts.acquire().await.expect("never closed");
    let held = Held::in_stage(stage, WorkerOptions::on_a_stalling_disk).await;
    drop(start);
    let heir = heir(&held.rig);
    held.rig.host.disk().freeze();
    stall(&held.rig, || held.release()).await;
    let Held { rig, job, .. } = held;
    built_once_and_here(rig, &job, heir).await;
}

async fn chatty_rig() -> (Rig, Job, Repository) {
    let mut rig = Rig::with(WorkerOptions::on_a_stalling_disk).await;
    let repository = Repository::public(&[("Dockerfile", CHATTY)]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    (rig, job, repository)
}

/// The disk stalls when nothing but the claim has happened.
async fn stalls_when_claimed(starts: &Semaphore) {
    let start = starts.acquire().await.expect("never closed");
    let mut rig = Rig::with(WorkerOptions::on_a_stalling_disk).await;
    rig.wait_for_log("ready: waits for jobs", SOON).await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN echo hello\n")]);
    let job = Job::of(&repository);
    rig.host.disk().freeze();
    rig.push(&job).await;
    eventually("the job is claimed", SOON, async || {
        let claimed: Vec<String> = rig.redis.command(&["KEYS", "*:claimed:*"]).await;
        if claimed.is_empty() { Err("nobody has it".to_owned()) } else { Ok(()) }
    })
    .await;
    drop(start);
    let heir = heir(&rig);
    stall(&rig, || {}).await;
    built_once_and_here(rig, &job, heir).await;
}

#[tokio::test]
async fn a_disk_that_stalls_for_longer_than_a_lease_costs_no_job_at_any_stage() {
    let stages = [Stage::Fetch, Stage::Context, Stage::BasePull, Stage::Push, Stage::Report];
    // They stall together; a few at a time come to their stage.
    let starts = &Semaphore::new(2);
    let mut all: Vec<LocalBoxFuture<'_, ()>> = stages.into_iter().map(|stage| Box::pin(stalls_in(stage, starts)) as _).collect();
    all.push(Box::pin(stalls_when_claimed(starts)));
    join_all(all).await;
}

#[tokio::test]
async fn every_line_that_a_step_prints_while_the_disk_has_stalled_is_told_once_and_in_order() {
    let (rig, job, _repository) = chatty_rig().await;
    rig.dashboard.wait_for_line(&job.id, "line 5 of", SOON).await;
    let heir = heir(&rig);
    rig.host.disk().freeze();
    stall(&rig, || {}).await;
    rig.built(&job).await;
    let log = rig.dashboard.log(&job.id);
    let others: Vec<_> = log.lines().filter(|line| !line.contains(" of the build")).collect();
    assert_eq!(numbers(&log), (1..=LINES).collect::<Vec<_>>(), "every line once and in order, beside {others:#?}");
    built_once_and_here(rig, &job, heir).await;
}

#[tokio::test]
async fn a_cancel_is_told_though_the_disk_has_stalled_and_only_once() {
    let (rig, job, _repository) = chatty_rig().await;
    rig.dashboard.wait_for_line(&job.id, "line 5 of", SOON).await;
    rig.host.disk().freeze();
    rig.wait_for_log("does not answer: builds and their logs wait for it", SOON).await;
    rig.cancel(&job).await;
    rig.cancelled(&job).await;
    rig.host.disk().thaw();
    rig.settle().await;
    let log = numbers(&rig.dashboard.log(&job.id));
    assert_eq!(
        log,
        (1..=log.len() as u32).collect::<Vec<_>>(),
        "the lines before the cancel come when the disk answers, in order"
    );
    assert_eq!(rig.dashboard.statuses(&job.id), ["BUILDING", "CANCELLED"]);
    rig.dashboard.set(Trouble::None);
    rig.finish().await;
}
