//! Every end arrives, or a person finds it: refused ends, an address that is no dashboard, cut copies, drains before the beginning,
//! a worker that was frozen before it moved `latest`.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Fault, Job, Proxy, Repository, Rig, Trouble, eventually, parts};

const SOON: Duration = Duration::from_secs(60);
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(900);
const HELLO: &[(&str, &str)] = &[("Dockerfile", "FROM busybox:base\nRUN echo hello\n")];

async fn dead_letters(rig: &Rig) -> Vec<Value> {
    let notes: Vec<String> = rig.redis.command(&["LRANGE", "{builder-queue}:dead", "0", "-1"]).await;
    notes.iter().map(|note| serde_json::from_str(note).expect("a note is JSON")).collect()
}

#[tokio::test]
async fn an_end_that_is_refused_for_ever_is_found_in_the_dead_letters_and_the_next_deployment_of_its_service_is_told() {
    let mut rig = Rig::start().await;
    let failing = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN echo no; exit 3\n")]);
    let good = Repository::public(HELLO);
    let refused = Job::of(&failing).env("TOKEN", "a-secret-that-nobody-may-see");
    let next = Job::of(&good).service(&refused.service);
    rig.dashboard.fail_end(&refused.id);
    rig.push_raw(&refused.payload()).await;
    rig.wait_for_record(&refused, "FAILED", SOON).await;
    rig.push(&next).await;
    rig.built(&next).await;
    // It is believed to be refused once statuses of others were taken for minutes.
    let given_up_by = tokio::time::Instant::now() + GIVEN_UP_WITHIN;
    let note = loop {
        if let Some(note) = dead_letters(&rig).await.pop() {
            break note;
        }
        assert!(tokio::time::Instant::now() < given_up_by, "the end is not in the dead letter list: {}", rig.host.log());
        let other = Job::of(&good);
        rig.push(&other).await;
        rig.built(&other).await;
    };
    assert_eq!((note["code"].as_str(), note["deploymentId"].as_str()), (Some("report.refused"), Some(refused.id.as_str())));
    let reason = note["reason"].as_str().expect("a reason");
    assert!(reason.contains("500") && reason.contains("dockerfile.step_failed"), "{reason}");
    assert!(!note.to_string().contains("a-secret-that-nobody-may-see"), "{note}");
    rig.settle().await;
    rig.wait_for_log("goes to the dead letter list [report.refused]", SOON).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_sign_in_page_in_the_place_of_the_dashboard_swallows_no_end() {
    let mut rig = Rig::without_worker(|options| options).await;
    rig.dashboard.set(Trouble::SignInPage);
    let output = rig.host.command().arg("check").stdout(Stdio::piped()).output().await.expect("run slipway check");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("wrong  the dashboard at ") && said.contains("not the dashboard's API"), "{said}");
    rig.start_worker();
    let repository = Repository::public(HELLO);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.wait_for_record(&job, "BUILDED", SOON).await;
    rig.wait_for_log("is not the dashboard's API: check API_URL", SOON).await;
    rig.dashboard.set(Trouble::None);
    rig.built(&job).await;
    assert_eq!(rig.dashboard.statuses(&job.id), ["BUILDING", "BUILDED"]);
    rig.finish().await;
}

#[tokio::test]
async fn a_cut_copy_of_a_job_that_is_built_contradicts_nothing() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN echo start''ed; sleep 5\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "started", SOON).await;
    let whole = job.payload();
    rig.push_raw(&whole[..whole.len() - 20]).await;
    let note = eventually("the copy is in the dead letter list", SOON, async || {
        dead_letters(&rig).await.pop().ok_or_else(|| rig.host.log())
    })
    .await;
    assert_eq!((note["code"].as_str(), note["deploymentId"].as_str()), (Some("job.malformed"), Some(job.id.as_str())));
    rig.built(&job).await;
    rig.settle().await;
    assert_eq!(rig.dashboard.statuses(&job.id), ["BUILDING", "BUILDED"]);
    rig.finish().await;
}

#[tokio::test]
async fn a_drain_gives_back_what_was_taken_up_and_has_not_begun() {
    let mut rig = Rig::with(|options| options.builds(3).drain(0)).await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN echo start''ed; sleep 600\n")]);
    let jobs: Vec<Job> = (0..3).map(|_| Job::of(&repository)).collect();
    for job in &jobs {
        rig.push(job).await;
        rig.dashboard.wait_for_line(&job.id, "started", SOON).await;
    }
    rig.kill_worker().await;
    rig.host.options = rig.host.options.clone().builds(1);
    rig.start_worker();
    rig.wait_for_log("taking up the jobs that were claimed before the restart", SOON).await;
    rig.wait_for_log("build starts", SOON).await;
    rig.stop_worker(Duration::from_secs(60)).await;
    let mut queued = rig.queued().await;
    let leases: Vec<String> = rig.redis.command(&["KEYS", "*:lease:*"]).await;
    assert_eq!((queued.len(), leases), (3, Vec::new()), "another host can take all of them at once");
    queued.retain(|element| *element != jobs[0].payload());
    assert_eq!(queued, [jobs[1].payload(), jobs[2].payload()], "in their order");
    for job in &jobs[1..] {
        assert_eq!(rig.dashboard.statuses(&job.id).last().map(String::as_str), Some("PENDING"));
    }
    repository.commit(&[("Dockerfile", "FROM busybox:base\nRUN echo over\n")]);
    rig.start_worker();
    for job in &jobs {
        rig.built(job).await;
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_push_that_is_tried_again_waits_until_the_worker_can_prove_its_lease() {
    let registry = Proxy::tcp(&parts().registry).await;
    let mut rig = Rig::with(|options| options.set("REGISTRY_HOST", &registry.address())).await;
    registry.set(Fault::Refuse);
    let repository = Repository::public(HELLO);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "Trying again in", SOON).await;
    rig.redis.freeze();
    eventually("a try waits at the gate", SOON * 2, async || {
        let journal = rig.host.journal();
        if journal.contains("nothing leaves the host until it does") { Ok(()) } else { Err(rig.host.log()) }
    })
    .await;
    registry.set(Fault::Pass);
    rig.redis.thaw();
    rig.built(&job).await;
    rig.finish().await;
}

#[tokio::test]
async fn the_dashboard_is_asked_through_the_proxy_that_the_environment_names() {
    let mut rig = Rig::without_worker(|options| options).await;
    let proxy = rig.dashboard.url().trim_end_matches("/api").to_owned();
    let away = rig.host.options.clone().set("API_URL", "http://dashboard.example/api").set("NO_PROXY", "127.0.0.1");
    rig.host.options = away.clone().set("HTTP_PROXY", "http://127.0.0.1:1");
    let output = rig.host.command().arg("check").stdout(Stdio::piped()).output().await.expect("run slipway check");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("through the proxy http://127.0.0.1:1") && said.contains("NO_PROXY"), "{said}");
    rig.host.options = away.set("HTTP_PROXY", &proxy);
    rig.start_worker();
    let repository = Repository::public(HELLO);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.built(&job).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_dead_proxy_before_the_git_server_is_named() {
    let mut rig = Rig::with(|options| {
        options
            .set("HTTP_PROXY", "http://127.0.0.1:1")
            .set("NO_PROXY", "127.0.0.2")
            .set("RETRY_WINDOW", "0")
            .set("RETRY_LIMIT", "1")
    })
    .await;
    let repository = Repository::public(HELLO);
    let job = Job::of(&repository).git_at("http://git.example", None);
    rig.push(&job).await;
    let error = rig.failed(&job, "git.unreachable").await;
    assert!(error.contains("through the proxy http://127.0.0.1:1"), "{error}");
    rig.finish().await;
}

#[tokio::test]
async fn the_log_line_of_an_image_has_the_time_of_each_stage() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(HELLO);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.built(&job).await;
    rig.settle().await;
    let log = rig.host.log();
    let line = log.lines().find(|line| line.contains("BUILDED") && line.contains("stages=")).unwrap_or_else(|| panic!("{log}"));
    for stage in ["fetching the commit ", "building the image ", "pushing the image ", "moving the tag latest "] {
        assert!(line.contains(stage), "{stage}: {line}");
    }
    rig.finish().await;
}
