//! SIGTERM: what runs may finish for a while, the rest goes back to the head of the queue, and nothing is lost.

use std::time::Duration;

use tokio::net::UnixDatagram;

use crate::support::{Held, Job, Repository, Rig, Stage};

const STOPS_WITHIN: Duration = Duration::from_secs(15);

async fn drained_in(stage: Stage) {
    let mut held = Held::in_stage(stage, |options| options.drain(0)).await;
    held.rig.stop_worker(STOPS_WITHIN).await;
    match stage {
        Stage::Report => assert!(held.rig.queued().await.is_empty(), "its end is stored: it is not queued again"),
        _ => {
            assert_eq!(held.rig.queued().await, [held.job.payload()], "the job is back in the queue, to the byte");
            let statuses = held.rig.dashboard.statuses(&held.job.id);
            assert_eq!(statuses.last().map(String::as_str), Some("PENDING"), "{statuses:?}");
        }
    }
    held.release();
    held.rig.start_worker();
    held.rig.built(&held.job).await;
    held.rig.finish().await;
}

#[tokio::test]
async fn a_job_that_is_being_fetched_goes_back_and_is_built_after_the_restart() {
    drained_in(Stage::Fetch).await;
}

#[tokio::test]
async fn a_job_whose_context_is_being_sent_goes_back_and_is_built_after_the_restart() {
    drained_in(Stage::Context).await;
}

#[tokio::test]
async fn a_job_whose_base_image_is_being_pulled_goes_back_and_is_built_after_the_restart() {
    drained_in(Stage::BasePull).await;
}

#[tokio::test]
async fn a_job_in_a_run_step_goes_back_and_is_built_after_the_restart() {
    drained_in(Stage::Run).await;
}

#[tokio::test]
async fn a_job_whose_image_is_being_pushed_goes_back_and_is_built_after_the_restart() {
    drained_in(Stage::Push).await;
}

#[tokio::test]
async fn a_job_whose_end_waits_to_be_told_is_told_after_the_restart_and_not_built_again() {
    drained_in(Stage::Report).await;
}

#[tokio::test]
async fn systemd_is_asked_for_the_time_that_a_drain_takes() {
    let sockets = tempfile::tempdir().expect("a temporary directory");
    let path = sockets.path().join("notify");
    let systemd = UnixDatagram::bind(&path).expect("a socket as systemd has it");
    let mut rig = Rig::with(|options| options.drain(60).set("NOTIFY_SOCKET", &path.display().to_string())).await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN echo started; sleep 12; echo over\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "started", Duration::from_secs(30)).await;
    rig.stop_worker(Duration::from_secs(40)).await;
    rig.built(&job).await;
    let mut heard = Vec::new();
    let mut message = [0; 256];
    while let Ok(length) = systemd.try_recv(&mut message) {
        heard.push(String::from_utf8_lossy(&message[..length]).trim().to_owned());
    }
    let asked = heard.iter().filter(|said| *said == "EXTEND_TIMEOUT_USEC=30000000").count();
    assert!(asked >= 2, "asked again before the time is up: {heard:?}");
    assert_eq!((heard[0].as_str(), heard[heard.len() - 1].as_str()), ("READY=1", "STOPPING=1"));
    rig.finish().await;
}

#[tokio::test]
async fn a_job_that_ends_within_the_drain_time_is_finished_and_no_other_is_claimed() {
    let mut rig = Rig::with(|options| options.builds(1).drain(30)).await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN echo started; sleep 2; echo over\n")]);
    let (running, waiting) = (Job::of(&repository), Job::of(&repository));
    rig.push(&running).await;
    rig.push(&waiting).await;
    rig.dashboard.wait_for_line(&running.id, "started", Duration::from_secs(30)).await;
    rig.stop_worker(Duration::from_secs(40)).await;
    assert_eq!(rig.dashboard.statuses(&running.id), ["BUILDING", "BUILDED"]);
    assert_eq!(rig.queued().await, [waiting.payload()]);
    rig.start_worker();
    rig.built(&waiting).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_loses_nothing() {
    let mut held = Held::in_stage(Stage::Run, |options| options.drain(300)).await;
    held.rig.worker().terminate();
    held.rig.wait_for_log("a second signal ends at once", Duration::from_secs(10)).await;
    held.rig.stop_worker_by_any_code(Duration::from_secs(10)).await;
    held.release();
    held.rig.start_worker();
    held.rig.built(&held.job).await;
    held.rig.finish().await;
}
