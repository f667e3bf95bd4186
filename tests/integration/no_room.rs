//! When nothing more is claimed: no result could be told, or there is no room for another build. The worker says so, and goes on by
//! itself as soon as it may.

use std::time::Duration;

use crate::support::{Filled, Job, Repository, Rig, Trouble};

const SOON: Duration = Duration::from_secs(30);
const HELLO: &[(&str, &str)] = &[("Dockerfile", "FROM busybox:base\nRUN echo hello\n")];

/// Nothing of the job is at the dashboard, and it has not begun.
async fn assert_waits(rig: &Rig, job: &Job) {
    let begun: Vec<_> = rig.dashboard.posts().into_iter().filter(|post| post.deployment == job.id).collect();
    assert!(begun.is_empty(), "it has begun: {begun:?}");
    assert!(!rig.host.log().contains(&format!("deployment_id=\"{}\"", job.id)), "it has begun");
}

#[tokio::test]
async fn a_dashboard_that_refuses_the_key_is_sent_no_job_that_could_not_be_told() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN echo started; sleep 2; echo over\n")]);
    let (first, second) = (Job::of(&repository), Job::of(&repository));
    rig.push(&first).await;
    rig.dashboard.wait_for_line(&first.id, "started", SOON).await;
    rig.dashboard.set(Trouble::Answer(401));
    rig.wait_for_log("No job is claimed", SOON).await;
    assert!(rig.host.log().contains("API_KEY"), "the cure is named");
    rig.push(&second).await;
    // Long enough for a worker that claims to have taken it: the first one's end is stored meanwhile.
    rig.wait_for_record(&first, "BUILDED", SOON).await;
    assert_waits(&rig, &second).await;
    rig.dashboard.set(Trouble::None);
    rig.built(&first).await;
    rig.built(&second).await;
    rig.wait_for_log("jobs are claimed again", SOON).await;
    rig.finish().await;
}

#[tokio::test]
async fn ends_that_cannot_be_told_hold_no_build_slot() {
    let mut rig = Rig::with(|options| options.builds(1)).await;
    let repository = Repository::public(HELLO);
    let jobs: Vec<Job> = (0..3).map(|_| Job::of(&repository)).collect();
    rig.dashboard.set(Trouble::Refuse);
    for job in &jobs {
        rig.push(job).await;
    }
    for job in &jobs {
        rig.wait_for_record(job, "BUILDED", SOON).await;
    }
    rig.dashboard.set(Trouble::None);
    for job in &jobs {
        rig.built(job).await;
    }
    rig.finish().await;
}

#[tokio::test]
async fn reports_that_fill_the_disk_stop_claims_until_they_are_told() {
    let mut rig = Rig::with(|options| options.builds(1).set("JOURNAL_MAX_BYTES", "200KB").set("LOG_MAX_BYTES", "150KB")).await;
    let chatty = "FROM busybox:base\nRUN yes 'a line that nobody can be told at the moment' | head -n 8000\n";
    let (loud, quiet) = (Repository::public(&[("Dockerfile", chatty)]), Repository::public(HELLO));
    let (first, second) = (Job::of(&loud), Job::of(&quiet));
    rig.dashboard.set(Trouble::Refuse);
    rig.push(&first).await;
    rig.wait_for_record(&first, "BUILDED", SOON).await;
    rig.wait_for_log("JOURNAL_MAX_BYTES is", SOON).await;
    assert_eq!(rig.host.log().matches("JOURNAL_MAX_BYTES is").count(), 1, "it is said once");
    rig.push(&second).await;
    assert_waits(&rig, &second).await;
    rig.dashboard.set(Trouble::None);
    rig.built(&first).await;
    rig.built(&second).await;
    rig.finish().await;
}

#[tokio::test]
async fn no_job_is_claimed_below_the_floor_of_free_disk_space() {
    let mut rig = Rig::with(|options| options.set("MIN_FREE_DISK", "4000000GiB")).await;
    rig.wait_for_log("less than MIN_FREE_DISK", SOON).await;
    let repository = Repository::public(HELLO);
    let job = Job::of(&repository);
    rig.push(&job).await;
    assert_waits(&rig, &job).await;
    rig.stop_worker(SOON).await;
    rig.host.options = rig.host.options.clone().set("MIN_FREE_DISK", "1MiB");
    rig.start_worker();
    rig.built(&job).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_worker_that_starts_on_a_full_disk_claims_nothing_until_there_is_room() {
    let mut rig = Rig::without_worker(|options| options.on_a_disk_of(64).set("MIN_FREE_DISK", "24MiB")).await;
    let somebody_elses = Filled::disk_of(&rig.host.work_dir(), 16 << 20);
    let repository = Repository::public(HELLO);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.start_worker();
    rig.wait_for_log("less than MIN_FREE_DISK (24 MiB): no job is claimed.", SOON).await;
    let log = rig.host.log();
    assert!(!log.contains("ready: waits for jobs"), "it claimed before it had looked: {log}");
    // It has made what room it could, and found none.
    rig.wait_for_log("nothing is left there that Slipway may remove", SOON).await;
    assert_waits(&rig, &job).await;
    assert_eq!(rig.queued().await, [job.payload()]);
    drop(somebody_elses);
    rig.built(&job).await;
    rig.finish().await;
}
