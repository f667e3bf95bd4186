//! What others tell a running worker, and what systemd is told of it.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::support::{Held, Job, Repository, Rig, Stage, WorkerOptions, eventually};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_hangup_opens_the_log_files_again_and_the_build_that_runs_goes_on() {
    let logs = tempfile::tempdir().expect("a temporary directory");
    let dir = logs.path().to_str().expect("a path");
    let mut held = Held::in_stage(Stage::Run, |options| options.set("LOG_DIR", dir)).await;
    let files = || std::fs::read_dir(logs.path()).expect("LOG_DIR").map(|e| e.expect("a file").path()).collect::<Vec<_>>();
    let [file] = &files()[..] else { panic!("one file: {:?}", files()) };
    // As logrotate does.
    let rotated = logs.path().join("rotated");
    std::fs::rename(file, &rotated).expect("move the log away");
    for _ in 0..3 {
        held.rig.worker().hang_up();
    }
    eventually("the log goes on in a new file", SOON, async || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.contains("SIGHUP") { Ok(()) } else { Err(text) }
    })
    .await;
    held.rig.cancel(&held.job).await;
    held.rig.cancelled(&held.job).await;
    assert_eq!(held.rig.dashboard.statuses(&held.job.id), ["BUILDING", "CANCELLED"], "the build went on until then");
    let crashes: u32 = held.rig.redis.command(&["HLEN", "{builder-queue}:crashes"]).await;
    assert_eq!(crashes, 0);
    held.rig.finish().await;
}

/// Waits for so many signs of life.
async fn watchdog_is_fed(systemd: &UnixDatagram, times: usize) {
    let mut fed = 0;
    eventually("systemd is told WATCHDOG=1", SOON, async || {
        let mut message = [0; 1024];
        while let Ok(length) = systemd.recv(&mut message) {
            fed += String::from_utf8_lossy(&message[..length]).lines().filter(|line| *line == "WATCHDOG=1").count();
        }
        if fed >= times { Ok(()) } else { Err(format!("{fed} times")) }
    })
    .await;
}

#[tokio::test]
async fn systemds_watchdog_is_fed_before_a_part_is_reached_and_while_the_disk_stalls() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let socket = dir.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).expect("a socket");
    systemd.set_nonblocking(true).expect("a socket");
    let options = |options: WorkerOptions| {
        let options = options.set("NOTIFY_SOCKET", socket.to_str().expect("a path")).set("WATCHDOG_USEC", "4000000");
        options.on_a_stalling_disk()
    };
    let mut rig = Rig::without_worker(options).await;
    rig.redis.kill();
    rig.start_worker();
    watchdog_is_fed(&systemd, 3).await;
    rig.redis.restart().await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN : ; echo begun; sleep 20\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "begun", SOON).await;
    rig.host.disk().freeze();
    // What was sent before.
    watchdog_is_fed(&systemd, 1).await;
    watchdog_is_fed(&systemd, 5).await;
    rig.host.disk().thaw();
    rig.built(&job).await;
    rig.finish().await;
}
