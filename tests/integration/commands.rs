//! The commands that people type, as processes: what they print, and the exit code that they end with.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{Job, Repository, Rig, parts, unique};

const SOON: Duration = Duration::from_secs(60);

/// The exit code, and what stands on the terminal.
async fn typed(rig: &Rig, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = rig.host.command();
    let done = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = tokio::time::timeout(SOON, done).await.expect("it ends").expect("run slipway");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[tokio::test]
async fn a_job_that_is_enqueued_is_followed_to_its_end_and_seen_by_who_listens() {
    let mut rig = Rig::without_worker(|options| options).await;
    let mut command = rig.host.command();
    command.args(["listen", "--address", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut listener = command.spawn().expect("start slipway listen");
    let mut shown = BufReader::new(listener.stdout.take().expect("its output")).lines();
    let mut words = BufReader::new(listener.stderr.take().expect("its words")).lines();
    let first = words.next_line().await.expect("its words").expect("where it listens");
    let url =
        first.split_whitespace().find(|word| word.starts_with("http://")).expect("its address").trim_end_matches(['.', ',']);
    rig.host.options = rig.host.options.clone().set("API_URL", url);
    rig.start_worker();

    let good = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN echo seen in both terminals\n")]);
    let (code, said) = typed(&rig, &["enqueue", &good.name, "--follow"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("seen in both terminals") && said.contains("BUILDED") && said.contains("@sha256:"), "{said}");
    let bad = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN exit 7\n")]);
    let (code, said) = typed(&rig, &["enqueue", &bad.name, "--follow"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("[dockerfile.step_failed]") && said.contains('7'), "{said}");

    let mut seen = String::new();
    while !seen.contains("[dockerfile.step_failed]") {
        let line = tokio::time::timeout(SOON, shown.next_line()).await.expect("it shows the failure").expect("its output");
        seen.push_str(&line.expect("it goes on"));
        seen.push('\n');
    }
    assert!(seen.contains("seen in both terminals") && seen.contains("BUILDED"), "{seen}");
    listener.kill().await.expect("stop slipway listen");
    rig.finish().await;
}

#[tokio::test]
async fn a_job_is_enqueued_with_a_builder_and_a_time_of_its_own() {
    let rig = Rig::start().await;
    let dockerfile = "FROM busybox:base\nRUN while :; do echo at it; sleep 1; done\n";
    let repository = Repository::public(&[("Dockerfile", dockerfile), ("app.sh", "true\n")]);
    let enqueue = async |more: &[&str]| {
        let job = Job::of(&repository);
        let words = [&["enqueue", &repository.name, "--id", &job.id, "--service", &job.service], more].concat();
        let (code, said) = typed(&rig, &words).await;
        assert_eq!(code, Some(0), "{said}");
        job
    };
    let short = enqueue(&["--build-timeout", "3s"]).await;
    let error = rig.failed(&short, "build.timeout").await;
    assert!(error.contains("longer than 3 s"), "{error}");
    let builder = parts().builders.split('=').next().expect("a builder");
    let by_buildpacks = enqueue(&["--builder", builder]).await;
    rig.built(&by_buildpacks).await;
    let log = rig.dashboard.log(&by_buildpacks.id);
    assert!(log.contains("The job names a builder: building with buildpacks"), "{log}");
    let (code, said) = typed(&rig, &["enqueue", &repository.name, "--build-timeout", "0"]).await;
    assert_eq!((code, said.contains("must not be zero")), (Some(2), true), "{said}");
    rig.finish().await;
}

#[tokio::test]
async fn a_misspelt_setting_in_the_env_file_is_named_before_anything_is_missed() {
    let rig = Rig::without_worker(|options| options.unset("API_TIMEOUT")).await;
    std::fs::write(rig.host.current_dir().join(".env"), "API_TIMEOT=5\nNODE_ENV=production\n").expect("write .env");
    for command in [&["worker", "--print-config"][..], &["check"]] {
        let (_, said) = typed(&rig, command).await;
        assert!(said.contains("unknown setting API_TIMEOT; did you mean API_TIMEOUT?"), "{command:?}: {said}");
        assert!(!said.contains("NODE_ENV"), "{command:?}: {said}");
    }
}

#[tokio::test]
async fn a_slip_that_leaves_a_needed_setting_unset_is_named_beside_what_is_missing() {
    let rig = Rig::without_worker(|options| options.unset("API_KEY")).await;
    std::fs::write(rig.host.current_dir().join(".env"), "API_KYE=key\n").expect("write .env");
    for command in [&["worker"][..], &["check"]] {
        let (code, said) = typed(&rig, command).await;
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains("unknown setting API_KYE; did you mean API_KEY?"), "{command:?}: {said}");
    }
}

#[tokio::test]
async fn a_job_is_cancelled_by_its_id_while_no_worker_runs_and_never_built() {
    let mut rig = Rig::without_worker(|options| options).await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN echo never\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    let (code, said) = typed(&rig, &["cancel", &job.id]).await;
    assert_eq!((code, said.contains("will end as CANCELLED")), (Some(0), true), "{said}");
    rig.start_worker();
    assert_eq!(rig.end(&job).await.status, "CANCELLED");
    assert!(!rig.dashboard.log(&job.id).contains("never"));
    rig.finish().await;
}

#[tokio::test]
async fn a_folder_is_built_without_redis_and_dashboard_to_see_why_it_fails() {
    let mut rig = Rig::without_worker(|options| options).await;
    rig.redis.kill();
    let folder = |repository: &Repository| parts().git_root.join(format!("{}.git", repository.name)).display().to_string();
    let service = unique();
    let good = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN echo built by hand\n")]);
    let (code, said) = typed(&rig, &["build", &folder(&good), "--branch", "main", "--service", &service, "--push"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("built by hand") && said.contains("@sha256:"), "{said}");
    let bad = Repository::public(&[("Dockerfile", "FROM busybox:base\nCOPY nothing /\n")]);
    let (code, said) = typed(&rig, &["build", &folder(&bad), "--branch", "main", "--service", &service]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("[dockerfile.copy_missing]"), "{said}");
}

#[tokio::test]
async fn the_configuration_is_shown_with_its_origins_and_without_its_secrets() {
    let rig = Rig::without_worker(|options| options.set("API_KEY", "the-dashboards-own-key")).await;
    let (code, said) = typed(&rig, &["worker", "--print-config"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("API_URL") && said.contains("REDIS_PORT"), "{said}");
    for secret in ["the-dashboards-own-key", rig.redis.password.as_str(), &parts().registry_login.password] {
        assert!(!said.contains(secret), "{said}");
    }
    let (code, said) = typed(&rig, &["completions", "bash"]).await;
    assert_eq!((code, said.contains("complete -F _slipway")), (Some(0), true), "{said}");
    let (code, said) = typed(&rig, &["enqeue"]).await;
    assert_eq!((code, said.contains("enqueue")), (Some(2), true), "the command that was meant is named: {said}");
}
