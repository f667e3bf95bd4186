//! A build that takes too long, or says nothing for too long, ends as a time-out that names the step, and nothing of it is left.

use std::time::Duration;

use serde_json::json;

use crate::support::{Fault, Held, Job, Proxy, Repository, Rig, Stage, parts};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_job_that_is_given_less_time_ends_when_it_is_up_and_the_step_is_named() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN while :; do echo at it; sleep 1; done\n")]);
    let job = Job::of(&repository).set("buildTimeout", json!(3));
    rig.push(&job).await;
    let error = rig.failed(&job, "build.timeout").await;
    assert!(error.contains("longer than 3 s") && error.contains("building the image"), "{error}");
    rig.finish().await;
}

#[tokio::test]
async fn a_build_that_prints_nothing_for_too_long_is_ended() {
    let mut rig = Rig::with(|options| options.set("BUILD_SILENCE_TIMEOUT", "2")).await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN sleep 3600\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    let error = rig.failed(&job, "build.silent").await;
    assert!(error.contains("Nothing was printed for 2 s"), "{error}");
    rig.finish().await;
}

#[tokio::test]
async fn a_build_that_fails_after_it_printed_more_than_the_engine_can_tell_is_ended_too() {
    let mut rig = Rig::with(|options| options.set("BUILD_SILENCE_TIMEOUT", "5")).await;
    let loud = "FROM busybox:base\nRUN yes $(printf '%04000d' 0) | head -n 4000; exit 3\n";
    let repository = Repository::public(&[("Dockerfile", loud)]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    let end = rig.end(&job).await;
    // An Engine that can tell it says how the step failed.
    let told = end.error.contains("dockerfile.step_failed");
    let silent = end.error.contains("build.silent") && rig.dashboard.log(&job.id).contains("stops telling what the build prints");
    assert!(end.status == "FAILED" && (told || silent), "{}", end.error);
    rig.finish().await;
}

/// A build whose Engine hangs from when its step has begun.
struct Hung {
    rig: Rig,
    job: Job,
    engine: Proxy,
    _sockets: tempfile::TempDir,
    _repository: Repository,
}

impl Hung {
    /// Seconds that the step sleeps, and those of silence after which a build is ended.
    async fn in_a_step_of(seconds: u64, silence: u64) -> Self {
        let mut rig = Rig::without_worker(|options| options.set("BUILD_SILENCE_TIMEOUT", &silence.to_string())).await;
        let sockets = tempfile::tempdir().expect("a temporary directory");
        let engine = Proxy::unix(&parts().engine_socket, sockets.path().join("engine.sock"));
        rig.host.options = rig.host.options.clone().engine(engine.socket());
        rig.start_worker();
        let dockerfile = format!("FROM busybox:base\nRUN echo started; sleep {seconds}; echo over\n");
        let repository = Repository::public(&[("Dockerfile", &dockerfile)]);
        let job = Job::of(&repository);
        rig.push(&job).await;
        rig.dashboard.wait_for_line(&job.id, "started", SOON).await;
        engine.set(Fault::Stall);
        Self { rig, job, engine, _sockets: sockets, _repository: repository }
    }

    async fn goes_on(self) {
        self.engine.set(Fault::Pass);
        self.rig.built(&self.job).await;
        self.rig.finish().await;
    }
}

#[tokio::test]
async fn a_build_whose_engine_hangs_is_not_ended_for_its_silence_and_goes_on_when_the_engine_does() {
    let hung = Hung::in_a_step_of(1, 2).await;
    hung.rig.dashboard.wait_for_line(&hung.job.id, "The Docker Engine does not answer", SOON).await;
    hung.goes_on().await;
}

#[tokio::test]
async fn a_build_is_not_ended_for_its_silence_when_its_engine_hung_for_most_of_it() {
    let hung = Hung::in_a_step_of(15, 12).await;
    // It answers again just before the silence would have been too long.
    tokio::time::sleep(Duration::from_secs(10)).await;
    hung.goes_on().await;
}

async fn ended_by(key: &str, seconds: u64, stage: Stage, words: &str) {
    let held = Held::in_stage(stage, |options| options.set(key, &seconds.to_string())).await;
    let error = held.rig.failed(&held.job, "build.timeout").await;
    assert!(error.contains(&format!("{words} took longer than {seconds} s")) && error.contains(key), "{error}");
    held.rig.finish().await;
}

#[tokio::test]
async fn a_fetch_that_takes_longer_than_its_own_time_is_ended_and_named() {
    ended_by("FETCH_TIMEOUT", 3, Stage::Fetch, "Fetching the commit").await;
}

#[tokio::test]
async fn a_context_that_takes_too_long_to_send_is_ended_with_the_build_that_it_is_for() {
    ended_by("IMAGE_TIMEOUT", 8, Stage::Context, "Building the image").await;
}

#[tokio::test]
async fn a_step_that_takes_longer_than_a_build_may_is_ended_and_named() {
    ended_by("IMAGE_TIMEOUT", 8, Stage::Run, "Building the image").await;
}

#[tokio::test]
async fn a_push_that_takes_longer_than_its_own_time_is_ended_and_named() {
    ended_by("PUSH_TIMEOUT", 10, Stage::Push, "Pushing the image").await;
}
