//! A cancel ends a job wherever it is, and is reported when nothing of it is left.

use std::time::{Duration, Instant};

use crate::support::{Held, Job, Repository, Rig, Stage, eventually};

/// The invariant's second, with room for a busy machine; the benches measure what it really takes.
const GONE_WITHIN: Duration = Duration::from_secs(3);
/// How long a cancel waits for an Engine that hangs.
const WAITS_FOR_THE_ENGINE: Duration = Duration::from_secs(30);

async fn cancelled_in(stage: Stage) {
    let held = Held::in_stage(stage, |options| options).await;
    let began = Instant::now();
    assert_eq!(held.rig.cancel(&held.job).await, 1, "one worker listens");
    if stage == Stage::Report {
        // The dashboard takes nothing yet: the cancel comes before an end that was stored but never told.
        held.release();
    }
    let end = held.rig.cancelled(&held.job).await;
    let took = end.post.at - began;
    held.rig.assert_nothing_left().await;
    assert!(took < GONE_WITHIN || stage == Stage::Report, "{stage:?}: CANCELLED after {took:?}");
    let statuses = held.rig.dashboard.statuses(&held.job.id);
    assert_eq!(statuses.last().map(String::as_str), Some("CANCELLED"), "nothing follows a cancel: {statuses:?}");
    assert!(!statuses.contains(&"BUILDED".to_owned()), "{statuses:?}");
    held.release();
    held.rig.finish().await;
}

#[tokio::test]
async fn a_job_is_cancelled_while_it_is_fetched() {
    cancelled_in(Stage::Fetch).await;
}

#[tokio::test]
async fn a_job_is_cancelled_while_its_context_is_sent() {
    cancelled_in(Stage::Context).await;
}

#[tokio::test]
async fn a_job_is_cancelled_while_its_base_image_is_pulled() {
    cancelled_in(Stage::BasePull).await;
}

#[tokio::test]
async fn a_job_is_cancelled_in_a_run_step() {
    cancelled_in(Stage::Run).await;
}

#[tokio::test]
async fn a_job_is_cancelled_while_its_image_is_pushed() {
    cancelled_in(Stage::Push).await;
}

#[tokio::test]
async fn a_job_is_cancelled_while_its_end_waits_to_be_told() {
    cancelled_in(Stage::Report).await;
}

#[tokio::test]
async fn a_job_is_cancelled_while_it_is_still_queued_and_never_built() {
    let mut rig = Rig::with(|options| options.builds(1)).await;
    let slow = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN echo started; sleep 600\n")]);
    let running = Job::of(&slow);
    rig.push(&running).await;
    rig.dashboard.wait_for_line(&running.id, "started", Duration::from_secs(30)).await;
    let queued = Job::of(&slow);
    rig.push(&queued).await;
    rig.cancel(&queued).await;
    rig.cancel(&running).await;
    rig.cancelled(&running).await;
    rig.cancelled(&queued).await;
    assert!(!rig.dashboard.log(&queued.id).contains("started"), "it was not built");
    rig.finish().await;
}

#[tokio::test]
async fn a_bare_id_cancels_too() {
    let held = Held::in_stage(Stage::Run, |options| options).await;
    let _: u64 = held.rig.redis.command(&["PUBLISH", "builder:cancel", &held.job.id]).await;
    held.rig.cancelled(&held.job).await;
    held.rig.finish().await;
}

#[tokio::test]
async fn a_cancel_of_one_job_leaves_the_other_of_the_same_dockerfile_running() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[(
        "Dockerfile",
        "FROM busybox:base\nRUN echo started; for i in $(seq 1 30); do sleep 0.1; done; echo over\n",
    )]);
    let (one, other) = (Job::of(&repository), Job::of(&repository));
    rig.push(&one).await;
    rig.push(&other).await;
    for job in [&one, &other] {
        rig.dashboard.wait_for_line(&job.id, "started", Duration::from_secs(30)).await;
    }
    rig.cancel(&one).await;
    rig.cancelled(&one).await;
    rig.built(&other).await;
    assert!(rig.dashboard.log(&other.id).contains("over"));
    rig.finish().await;
}

/// It is told though something is left, and what is left goes when the Engine answers again.
async fn cancelled_while_the_engine_hangs_in(stage: Stage) {
    let held = Held::in_stage(stage, |options| options).await;
    held.hang_engine();
    let began = Instant::now();
    held.rig.cancel(&held.job).await;
    let end = held.rig.cancelled(&held.job).await;
    let took = end.post.at - began;
    println!("{stage:?}: CANCELLED after {took:?}");
    assert!(took < WAITS_FOR_THE_ENGINE + GONE_WITHIN, "{stage:?}: CANCELLED after {took:?}");
    assert!(!held.left_in_engine().await.is_empty(), "{stage:?}: an Engine that hangs has it still");
    held.release();
    eventually("the Engine has nothing of it any more", Duration::from_secs(60), async || {
        let left = held.left_in_engine().await;
        if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
    })
    .await;
    held.rig.finish().await;
}

#[tokio::test]
async fn a_cancel_of_a_step_is_told_though_the_engine_hangs_and_the_step_ends_when_it_answers() {
    cancelled_while_the_engine_hangs_in(Stage::Run).await;
}

#[tokio::test]
async fn a_cancel_of_a_push_is_told_though_the_engine_hangs_and_the_image_goes_when_it_answers() {
    cancelled_while_the_engine_hangs_in(Stage::Push).await;
}

#[tokio::test]
async fn a_flood_of_cancels_that_mean_nobody_fills_neither_the_log_nor_redis() {
    let mut rig = Rig::start().await;
    eventually("the worker listens", Duration::from_secs(60), async || {
        let (_, listening): (String, u64) = rig.redis.command(&["PUBSUB", "NUMSUB", "builder:cancel"]).await;
        if listening == 1 { Ok(()) } else { Err(format!("{listening} listen")) }
    })
    .await;
    let mut connection = rig.redis.connection().await;
    for part in 0..20 {
        let mut flood = redis::pipe();
        for n in 0..500 {
            flood.cmd("PUBLISH").arg("builder:cancel").arg(format!("dpl_nobody_{part}_{n}")).ignore();
        }
        let _: () = flood.query_async(&mut connection).await.expect("Redis takes them");
    }
    eventually("every cancel is kept for its job", Duration::from_secs(120), async || {
        let kept: u64 = rig.redis.command(&["ZCARD", "{builder-queue}:tombs"]).await;
        if kept == 10_000 { Ok(()) } else { Err(format!("{kept}")) }
    })
    .await;
    let lines = rig.host.log().matches("A cancel came for a deployment that nobody has").count();
    assert!((1..=20).contains(&lines), "{lines} lines for 10,000 cancels");
    // The worker is well: a job is built.
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN true\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.built(&job).await;
    rig.finish().await;
}
