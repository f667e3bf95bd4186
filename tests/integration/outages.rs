//! A part that goes away for a while costs time, never a job: it ends as it would have, later.

use std::time::Duration;

use crate::support::{Body, Fault, Held, Host, Job, Proxy, Repository, Rig, Stage, Trouble, eventually, parts};

const SOON: Duration = Duration::from_secs(30);
const HELLO: &[(&str, &str)] = &[("Dockerfile", "FROM busybox:base\nRUN echo hello\n")];

/// The dashboard is in trouble from before the job is pushed until the worker has tried to tell it something.
async fn told_after(trouble: Trouble) {
    let mut rig = Rig::start().await;
    let repository = Repository::public(HELLO);
    let first = Job::of(&repository);
    rig.push(&first).await;
    rig.built(&first).await;
    rig.settle().await;
    rig.dashboard.set(trouble);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.wait_for_record(&job, "BUILDED", SOON).await;
    rig.dashboard.set(Trouble::None);
    rig.built(&job).await;
    assert_eq!(rig.dashboard.statuses(&job.id), ["BUILDING", "BUILDED"]);
    assert!(rig.dashboard.log(&job.id).contains("hello"), "its lines came too");
    rig.finish().await;
}

#[tokio::test]
async fn a_dashboard_that_refuses_connections_is_told_everything_when_it_is_back() {
    told_after(Trouble::Refuse).await;
}

#[tokio::test]
async fn a_dashboard_that_answers_503_is_told_everything_when_it_is_back() {
    told_after(Trouble::Answer(503)).await;
}

#[tokio::test]
async fn a_dashboard_that_asks_for_patience_is_told_everything_later() {
    told_after(Trouble::TooMany { retry_after: 1 }).await;
}

#[tokio::test]
async fn a_dashboard_that_hangs_is_told_everything_when_it_is_back() {
    let mut rig = Rig::with(|options| options.set("API_TIMEOUT", "2")).await;
    let repository = Repository::public(HELLO);
    let job = Job::of(&repository);
    rig.dashboard.set(Trouble::Hang);
    rig.push(&job).await;
    rig.wait_for_record(&job, "BUILDED", SOON).await;
    rig.dashboard.set(Trouble::None);
    rig.built(&job).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_line_that_the_dashboard_never_takes_does_not_hold_up_the_other_deployments() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(HELLO);
    let (stuck, other) = (Job::of(&repository), Job::of(&repository));
    rig.dashboard.fail(&stuck.id);
    rig.push(&stuck).await;
    rig.push(&other).await;
    rig.built(&other).await;
    rig.dashboard.recover(&stuck.id);
    rig.built(&stuck).await;
    rig.finish().await;
}

#[tokio::test]
async fn redis_gone_in_mid_build_delays_the_end_and_loses_nothing() {
    let mut held = Held::in_stage(Stage::Push, |options| options).await;
    held.rig.redis.kill();
    held.release();
    held.rig.redis.restart().await;
    let end = held.rig.built(&held.job).await;
    assert!(end.image.contains(&format!(":{}-1@", held.job.id)), "the running build was not thrown away: {}", end.image);
    held.rig.finish().await;
}

#[tokio::test]
async fn that_redis_has_gone_and_that_it_is_back_are_said_once_each() {
    let mut rig = Rig::start().await;
    rig.wait_for_log("ready: ", SOON).await;
    let repository = Repository::public(HELLO);
    // Longer than anything of the worker goes without asking Redis.
    let all_have_asked = Duration::from_secs(12);
    for (times, outage) in [(1, Duration::ZERO), (2, all_have_asked)] {
        rig.redis.kill();
        tokio::time::sleep(outage).await;
        rig.redis.restart().await;
        let job = Job::of(&repository);
        rig.push(&job).await;
        rig.built(&job).await;
        tokio::time::sleep(all_have_asked).await;
        let log = rig.host.log();
        for once in ["cannot be reached", "Redis answers again"] {
            assert_eq!(log.matches(once).count(), times, "{once}, after an outage of {outage:?}");
        }
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_redis_from_an_old_snapshot_has_no_finished_job_built_again() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(HELLO);
    let held_up = Job::of(&repository);
    rig.worker().freeze();
    rig.push(&held_up).await;
    rig.redis.keep_snapshot();
    rig.worker().thaw();
    rig.built(&held_up).await;
    rig.settle().await;
    rig.redis.restart_from_snapshot().await;
    assert_eq!(rig.queued().await.len(), 1, "the finished job is back in the queue");
    let next = Job::of(&repository);
    rig.push(&next).await;
    rig.built(&next).await;
    rig.wait_for_log("Redis has it again from an older snapshot", SOON).await;
    rig.finish().await;
}

#[tokio::test]
async fn an_end_is_told_though_redis_was_emptied_while_no_worker_ran() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(HELLO);
    let job = Job::of(&repository);
    rig.dashboard.set(Trouble::Answer(503));
    rig.push(&job).await;
    eventually("the end stands in the journal", SOON, async || {
        let journal = rig.host.journal();
        if journal.contains("\"BUILDED\"") { Ok(()) } else { Err(journal) }
    })
    .await;
    rig.kill_worker().await;
    rig.redis.restart_empty().await;
    rig.dashboard.set(Trouble::None);
    rig.start_worker();
    let end = rig.built(&job).await;
    assert!(end.image.contains(&format!(":{}-1@", job.id)), "it was not built again: {}", end.image);
    rig.finish().await;
}

#[tokio::test]
async fn no_end_is_told_while_redis_is_away() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN echo started; sleep 2\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "started", SOON).await;
    rig.redis.freeze();
    rig.wait_for_log("waits until Redis answers", SOON).await;
    assert_eq!(rig.dashboard.statuses(&job.id), ["BUILDING"]);
    rig.redis.thaw();
    rig.built(&job).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_git_server_that_answers_503_is_tried_again() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(HELLO);
    let git = Proxy::tcp(&parts().git).await;
    git.set(Fault::Answer503);
    let job = Job::of(&repository).git_at(&git.url(), None);
    rig.push(&job).await;
    git.wait_for_connection(SOON).await;
    git.set(Fault::Pass);
    rig.built(&job).await;
    rig.finish().await;
}

#[tokio::test]
async fn jobs_wait_for_a_git_server_that_another_job_found_away_and_all_go_on_when_it_is_back() {
    let git = Proxy::tcp(&parts().git).await;
    let mut rig = Rig::with(|options| options.builds(6).set("UPSTREAM_HOSTS", &git.address())).await;
    let repository = Repository::public(HELLO);
    git.set(Fault::Refuse);
    let jobs: Vec<_> = (0..6).map(|_| Job::of(&repository).git_at(&git.url(), None)).collect();
    rig.push(&jobs[0]).await;
    rig.dashboard.wait_for_line(&jobs[0].id, "cannot be reached", SOON).await;
    for job in &jobs[1..] {
        rig.push(job).await;
        let waits = format!("Other jobs found that the git server {} does not answer", git.address());
        rig.dashboard.wait_for_line(&job.id, &waits, SOON).await;
    }
    git.set(Fault::Pass);
    for job in &jobs {
        rig.built(job).await;
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_job_that_a_part_refuses_for_its_own_sake_holds_up_no_other() {
    let mut rig = Rig::with(|options| options.builds(3)).await;
    let repository = Repository::public(HELLO);
    let limited = Proxy::tcp(&parts().git).await;
    limited.set(Fault::Answer429 { retry_after: 60 });
    // A token's rate limit, and words of the Engine in a Dockerfile, are not the server's and not the Engine's trouble.
    let of_one_token = Job::of(&repository).git_at(&limited.url(), None);
    rig.push(&of_one_token).await;
    rig.dashboard.wait_for_line(&of_one_token.id, "asks to wait 60", SOON).await;
    let forging = Repository::public(&[("Dockerfile", "FROM busybox:base\ncontainerd.sock x\n")]);
    let forged = Job::of(&forging);
    rig.push(&forged).await;
    rig.failed(&forged, "dockerfile.syntax").await;
    limited.set(Fault::Pass);
    let other = Job::of(&repository).git_at(&limited.url(), None);
    rig.push(&other).await;
    rig.built(&other).await;
    assert!(!rig.dashboard.log(&other.id).contains("Other jobs"), "{}", rig.dashboard.log(&other.id));
    rig.cancel(&of_one_token).await;
    rig.cancelled(&of_one_token).await;
    rig.finish().await;
}

#[tokio::test]
async fn time_that_a_part_asks_for_is_not_taken_from_the_build() {
    let mut rig = Rig::with(|options| options.set("BUILD_TIMEOUT", "6")).await;
    let repository = Repository::public(HELLO);
    let git = Proxy::tcp(&parts().git).await;
    git.set(Fault::Answer429 { retry_after: 9 });
    let job = Job::of(&repository).git_at(&git.url(), None);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "asks to wait 9", SOON).await;
    git.set(Fault::Pass);
    rig.built(&job).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_registry_that_is_cut_off_in_mid_push_is_pushed_to_again_without_a_second_build() {
    let registry = Proxy::tcp(&parts().registry).await;
    let mut rig = Rig::with(|options| options.set("REGISTRY_HOST", &registry.address())).await;
    let dockerfile = "FROM busybox:base\nRUN echo built once; dd if=/dev/urandom of=/noise bs=1M count=20\n";
    let repository = Repository::public(&[("Dockerfile", dockerfile)]);
    let job = Job::of(&repository);
    registry.set(Fault::Trickle { bytes: 16 * 1024, pause: Duration::from_millis(20) });
    rig.push(&job).await;
    registry.wait_for_bytes(1024 * 1024, SOON).await;
    registry.set(Fault::Cut);
    registry.wait_for_another_connection(SOON).await;
    registry.set(Fault::Pass);
    rig.built(&job).await;
    let printed =
        rig.dashboard.lines(&job.id).iter().filter(|(kind, line)| kind == "STDOUT" && line.contains("built once")).count();
    assert_eq!(printed, 1, "it was built once:\n{}", rig.dashboard.log(&job.id));
    rig.finish().await;
}

#[tokio::test]
async fn a_worker_that_starts_before_its_parts_names_each_and_takes_jobs_once_they_are_there() {
    let mut rig = Rig::without_worker(|options| options).await;
    let (redis, registry) = (Proxy::tcp(&rig.redis.address()).await, Proxy::tcp(&parts().registry).await);
    redis.set(Fault::Refuse);
    registry.set(Fault::Refuse);
    rig.dashboard.set(Trouble::Refuse);
    let options = rig.host.options.clone().redis("127.0.0.1", redis.port());
    rig.host.options = options.set("REGISTRY_HOST", &registry.address());
    rig.start_worker();
    for away in [redis.address(), registry.address(), rig.dashboard.address()] {
        rig.wait_for_log(&away, SOON).await;
    }
    rig.dashboard.set(Trouble::None);
    registry.set(Fault::Pass);
    rig.wait_for_log("the registry is there now", SOON).await;
    assert!(!rig.host.log().contains("ready: "), "it is not ready without Redis");
    redis.set(Fault::Pass);
    rig.wait_for_log(&format!("ready: waits for jobs in the list builder-queue of Redis at {}", redis.address()), SOON).await;
    let repository = Repository::public(HELLO);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.built(&job).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_worker_frozen_for_longer_than_its_lease_ends_its_job_once() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN echo started; sleep 1\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "started", SOON).await;
    rig.worker().freeze();
    // Not the 30 s of the lease: its key is taken away, which is what their passing does.
    let leases: Vec<String> = rig.redis.command(&["KEYS", "*:lease:*"]).await;
    for lease in leases {
        let _: u64 = rig.redis.command(&["DEL", &lease]).await;
    }
    rig.worker().thaw();
    rig.built(&job).await;
    let ends =
        rig.dashboard.posts().into_iter().filter(|p| matches!(&p.body, Body::Status { status, .. } if status == "BUILDED"));
    assert_eq!(ends.count(), 1);
    rig.finish().await;
}

#[tokio::test]
async fn a_worker_that_wakes_when_another_host_has_ended_its_job_says_nothing_more_of_it() {
    let mut rig = Rig::start().await;
    let chatty = "FROM busybox:base\nRUN n=0; while [ $n -lt 50 ]; do echo line $n; n=$((n+1)); usleep 100000; done\n";
    let repository = Repository::public(&[("Dockerfile", chatty)]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "line 0", SOON).await;
    let other = Host::new(rig.host.options.clone());
    let mut second = other.start();
    // So that lines wait in its journal when it falls asleep.
    rig.dashboard.set(Trouble::Answer(503));
    eventually("a post is refused", SOON, async || {
        let refused = rig.dashboard.posts().iter().any(|p| p.answer == 503);
        if refused { Ok(()) } else { Err("none".to_owned()) }
    })
    .await;
    rig.worker().freeze();
    rig.dashboard.set(Trouble::None);
    rig.built(&job).await;
    rig.settle().await;
    let told = rig.dashboard.taken(&job.id).len();
    rig.worker().thaw();
    rig.wait_for_log("another worker has taken this attempt over: dropped", SOON).await;
    let after: Vec<String> = rig.dashboard.taken(&job.id).split_off(told).into_iter().map(|p| p.raw).collect();
    assert!(after.is_empty(), "{after:?}");
    second.terminate();
    second.ended_with(0, SOON).await;
    rig.finish().await;
}
