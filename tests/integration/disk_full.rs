//! A full disk is a failure that says so, not a worker that is stuck: what did not fit is let go, and the next job builds.

use std::time::Duration;

use crate::support::{Job, OwnEngine, Repository, Rig, Trouble, eventually, noise};

const SOON: Duration = Duration::from_secs(60);
/// The first may fail, for the room that it needs itself, or come too early; the next comes when free space is looked at again.
const PRUNED_WITHIN: Duration = Duration::from_secs(40);
const HELLO: &[(&str, &str)] = &[("Dockerfile", "FROM busybox:base\nRUN echo hello\n")];

/// Three times 90 MiB, by the Engine itself.
const FILLS_THE_ENGINE: &str = "FROM busybox:base AS large\nRUN head -c 94371840 /dev/zero > /large\n\
                                FROM busybox:base\nCOPY --from=large /large /one\nCOPY --from=large /large /two\n";

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

#[tokio::test]
async fn a_build_that_fills_the_engines_disk_says_so_and_jobs_wait_until_there_is_room_again() {
    let engine = OwnEngine::on_a_disk_of(256).await;
    let change = [("MIN_FREE_DISK", "64MiB"), ("BUILD_CACHE_MAX", "1MB"), ("RETRY_LIMIT", "1"), ("RETRY_WINDOW", "0")];
    let mut rig = Rig::with(|options| {
        change.into_iter().fold(options.engine(engine.socket()), |options, (name, value)| options.set(name, value))
    })
    .await;
    rig.engine = engine.client();
    let (large, small) = (Repository::public(&[("Dockerfile", FILLS_THE_ENGINE)]), Repository::public(HELLO));
    let job = Job::of(&large);
    rig.push(&job).await;
    let error = rig.failed(&job, "engine.disk_full").await;
    assert!(error.contains("BUILD_CACHE_MAX"), "the way out is named: {error}");
    // Housekeeping lets go what the build has left.
    rig.wait_for_log("BuildKit's cache was above BUILD_CACHE_MAX", PRUNED_WITHIN).await;
    let job = Job::of(&small);
    rig.push(&job).await;
    rig.built(&job).await;

    // Somebody else's, whom nothing is taken from.
    let root = rig.engine.docker(&["info", "--format", "{{.DockerRootDir}}"]).await;
    let disk = rustix::fs::statvfs(root.trim()).expect("the Engine's disk");
    let said = |rig: &Rig| rig.host.log().matches("less than MIN_FREE_DISK (64 MiB): no job is claimed").count();
    let before = said(&rig);
    let fill = format!("head -c {} /dev/zero > /large", disk.f_bavail * disk.f_frsize - (40 << 20));
    rig.engine.docker(&["run", "--name", "strangers", "--network", "none", "busybox:base", "sh", "-c", &fill]).await;
    eventually(
        "the worker says that there is no room",
        SOON,
        async || {
            if said(&rig) > before { Ok(()) } else { Err(rig.host.log()) }
        },
    )
    .await;
    let job = Job::of(&small);
    rig.push(&job).await;
    // Takes longer than a worker that claims needs to begin with it.
    rig.engine.docker(&["ps", "--all", "--size"]).await;
    assert_eq!(rig.dashboard.statuses(&job.id), [""; 0], "it has begun");
    rig.engine.docker(&["rm", "strangers"]).await;
    rig.built(&job).await;
    rig.finish().await;
    engine.assert_as_at_first().await;
}
