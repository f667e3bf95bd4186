//! A disk that is smaller than what builds leave on it: room is made, and builds go on, with the sizes of all caches as they are by default.

use std::time::Duration;

use crate::support::{Job, OwnEngine, Repository, Rig, Sleeper, eventually, noise, unique};

const SOON: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;

/// Leaves 60 MiB of cache that no other build uses.
fn writes_much() -> String {
    format!(
        "FROM busybox:base\nRUN echo {}; head -c {} /dev/urandom > /much; rm /much; head -c {} /dev/urandom > /cached\n",
        unique(),
        8 * MIB,
        60 * MIB
    )
}

/// What the Engine's disk holds in all.
async fn disk_bytes(rig: &Rig) -> u64 {
    let root = rig.engine.docker(&["info", "--format", "{{.DockerRootDir}}"]).await;
    let disk = rustix::fs::statvfs(root.trim()).expect("the Engine's disk");
    disk.f_blocks * disk.f_frsize
}

#[tokio::test]
async fn builds_go_on_when_they_have_written_more_than_the_engines_disk_holds() {
    let engine = OwnEngine::on_a_disk_of(400).await;
    // BUILD_CACHE_MAX and all others as they are by default: far above this disk.
    let mut rig = Rig::with(|options| options.engine(engine.socket()).builds(1).set("MIN_FREE_DISK", "160MiB")).await;
    rig.engine = engine.client();
    let disk = disk_bytes(&rig).await;
    let mut written = 0;
    while written < 2 * disk {
        let repository = Repository::public(&[("Dockerfile", &writes_much())]);
        let job = Job::of(&repository);
        rig.push(&job).await;
        // It is claimed when there is room again.
        eventually("the job is built", SOON, async || match rig.dashboard.statuses(&job.id).last().map(String::as_str) {
            Some("BUILDED") => Ok(()),
            last => Err(format!("{last:?} after {written} bytes\n{}", rig.host.log())),
        })
        .await;
        written += 60 * MIB;
    }
    let log = rig.host.log();
    assert!(log.contains("Made room: removed") && log.contains("of BuildKit's cache"), "each step is said: {log}");
    assert!(!log.contains("nothing is left there that Slipway may remove"), "there always was something: {log}");
    rig.finish().await;
    engine.assert_as_at_first().await;
}

#[tokio::test]
async fn what_a_running_build_has_made_stays_while_room_is_made_around_it() {
    let engine = OwnEngine::on_a_disk_of(400).await;
    let mut rig = Rig::with(|options| options.engine(engine.socket()).builds(2).set("MIN_FREE_DISK", "160MiB")).await;
    rig.engine = engine.client();
    let sleeper = Sleeper::new();
    let holds = format!(
        "FROM busybox:base\nRUN head -c {} /dev/urandom > /mine; sha256sum /mine > /sum\nRUN echo start''ed; {}; sha256sum -c /sum\n",
        40 * MIB,
        sleeper.command()
    );
    let holding = Repository::public(&[("Dockerfile", &holds)]);
    let job = Job::of(&holding);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "started", SOON).await;
    for _ in 0..4 {
        let repository = Repository::public(&[("Dockerfile", &writes_much())]);
        let other = Job::of(&repository);
        rig.push(&other).await;
        rig.built(&other).await;
    }
    rig.wait_for_log("Made room: removed", SOON).await;
    sleeper.wake();
    rig.built(&job).await;
    assert!(rig.dashboard.log(&job.id).contains("/mine: OK"), "its first step's file is as it was");
    rig.finish().await;
    engine.assert_as_at_first().await;
}

#[tokio::test]
async fn where_nothing_is_left_the_operators_images_are_named_and_stay() {
    let engine = OwnEngine::on_a_disk_of(300).await;
    let mut rig = Rig::with(|options| options.engine(engine.socket()).set("MIN_FREE_DISK", "4000GiB")).await;
    rig.engine = engine.client();
    rig.wait_for_log("Images that are not Slipway's", SOON).await;
    let log = rig.host.log();
    let line = log.lines().find(|line| line.contains("Images that are not Slipway's")).expect("the line");
    assert!(line.contains("nothing is left there that Slipway may remove"), "{line}");
    assert!(line.contains("busybox:base 1 MiB") && line.contains("docker image rm NAME"), "{line}");
    rig.finish().await;
    engine.assert_as_at_first().await;
}

#[tokio::test]
async fn mirrors_make_room_in_work_dir_the_least_recently_used_first_and_jobs_are_claimed_again() {
    // Each repository's mirror takes some 20 MiB of the 64 of this disk.
    let large = String::from_utf8(noise(20 << 20)).expect("plain characters");
    let mut rig = Rig::without_worker(|options| options.builds(1).set("MIN_FREE_DISK", "28MiB")).await;
    rig.host.disk_mib = Some(64);
    rig.start_worker();
    let dockerfile = "FROM busybox:base\nCOPY small /\n";
    for round in 0..5 {
        // Another file each time, or the mirrors would be small.
        let repository =
            Repository::public(&[("Dockerfile", dockerfile), ("small", &unique()), ("large", &format!("{round}{large}"))]);
        let job = Job::of(&repository);
        rig.push(&job).await;
        rig.built(&job).await;
    }
    let log = rig.host.log();
    assert!(log.contains("Made room: removed") && log.contains("of the git mirrors"), "{log}");
    assert!(!log.contains("of BuildKit's cache, to keep"), "the Engine's disk is not short: {log}");
    rig.finish().await;
}
