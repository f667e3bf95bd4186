//! A full disk is a failure that says so, not a worker that is stuck: what did not fit is let go, and the next job builds.

use std::time::Duration;

use crate::support::{Job, Repository, Rig, Trouble, noise};

const SOON: Duration = Duration::from_secs(60);
const HELLO: &[(&str, &str)] = &[("Dockerfile", "FROM busybox:base\nRUN echo hello\n")];

/// A worker whose WORK_DIR has so many MiB, and which goes on claiming whatever is free there.
async fn on_a_disk_of(mib: u64) -> Rig {
    let mut rig = Rig::without_worker(|options| {
        options.builds(1).set("MIN_FREE_DISK", "0").set("RETRY_LIMIT", "2").set("RETRY_WINDOW", "0")
    })
    .await;
    rig.host.disk_mib = Some(mib);
    rig.start_worker();
    rig
}

#[tokio::test]
async fn a_commit_that_does_not_fit_on_the_disk_is_told_as_such_and_the_next_job_builds() {
    let mut rig = on_a_disk_of(24).await;
    let large = String::from_utf8(noise(40 << 20)).expect("plain characters");
    let too_large = Repository::public(&[HELLO[0], ("large", &large)]);
    let job = Job::of(&too_large);
    rig.push(&job).await;
    let end = rig.end(&job).await;
    assert_eq!(end.status, "FAILED");
    assert!(end.error.contains("WORK_DIR") && end.error.contains("[worker.disk_full]"), "{}", end.error);
    let small = Repository::public(HELLO);
    let job = Job::of(&small);
    rig.push(&job).await;
    rig.built(&job).await;
    rig.finish().await;
}

#[tokio::test]
async fn lines_that_do_not_fit_on_the_disk_are_counted_and_the_end_is_told() {
    let mut rig = on_a_disk_of(8).await;
    rig.dashboard.set(Trouble::Refuse);
    // Twelve megabytes, not faster than an Engine can tell them.
    let lines = "line=$(printf '%04000d' 0); for i in $(seq 60); do for j in $(seq 50); do echo $line; done; sleep 0.1; done";
    let chatty = format!("FROM busybox:base\nRUN {lines}\n");
    let loud = Repository::public(&[("Dockerfile", &chatty)]);
    let job = Job::of(&loud);
    rig.push(&job).await;
    rig.wait_for_record(&job, "BUILDED", SOON).await;
    rig.dashboard.set(Trouble::None);
    rig.built(&job).await;
    let log = rig.dashboard.log(&job.id);
    assert!(
        log.contains("could not write or read them on its disk"),
        "what is missing is said: {}",
        log.lines().last().unwrap_or_default()
    );
    let small = Repository::public(HELLO);
    let job = Job::of(&small);
    rig.push(&job).await;
    rig.built(&job).await;
    rig.finish().await;
}
