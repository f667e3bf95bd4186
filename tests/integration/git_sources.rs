//! Which commit of which repository is built, and what a user is told when that cannot be.

use crate::support::{Job, Repository, Rig};

/// The Dockerfile of an image that prints its commit's number.
fn numbered(number: u32) -> String {
    format!("FROM busybox:base\nCMD [\"echo\", \"commit {number}\"]\n")
}

/// Builds the job and returns what its image prints.
async fn printed_by(rig: &mut Rig, job: &Job) -> String {
    rig.push(job).await;
    let end = rig.built(job).await;
    rig.engine.run(&end.image).await.trim().to_owned()
}

#[tokio::test]
async fn a_commit_that_is_not_the_tip_is_built_where_the_server_gives_it_out_by_itself() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", &numbered(1))]);
    repository.config("uploadpack.allowReachableSHA1InWant", "true");
    let old = repository.tip("main");
    repository.commit(&[("Dockerfile", &numbered(2))]);
    assert_eq!(printed_by(&mut rig, &Job::of(&repository).commit(&old)).await, "commit 1");
    rig.finish().await;
}

#[tokio::test]
async fn a_commit_that_is_not_the_tip_is_built_where_the_server_gives_out_branches_alone() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", &numbered(1))]);
    repository.config("uploadpack.allowTipSHA1InWant", "false");
    repository.config("uploadpack.allowReachableSHA1InWant", "false");
    let old = repository.tip("main");
    for number in 2..=60 {
        repository.commit(&[("Dockerfile", &numbered(number))]);
    }
    assert_eq!(printed_by(&mut rig, &Job::of(&repository).commit(&old)).await, "commit 1");
    rig.finish().await;
}

#[tokio::test]
async fn a_branch_and_a_tag_are_built_by_name() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", &numbered(1))]);
    repository.tag("v1.0");
    repository.commit_to("feature/two", &[("Dockerfile", &numbered(2))]);
    repository.commit(&[("Dockerfile", &numbered(3))]);
    assert_eq!(printed_by(&mut rig, &Job::of(&repository)).await, "commit 3");
    assert_eq!(printed_by(&mut rig, &Job::of(&repository).branch("feature/two")).await, "commit 2");
    assert_eq!(printed_by(&mut rig, &Job::of(&repository).branch("v1.0")).await, "commit 1");
    rig.finish().await;
}

#[tokio::test]
async fn a_private_repository_is_built_with_its_token() {
    let mut rig = Rig::start().await;
    let repository = Repository::private(&[("Dockerfile", &numbered(1))]);
    assert_eq!(printed_by(&mut rig, &Job::of(&repository)).await, "commit 1");
    rig.finish().await;
}

#[tokio::test]
async fn a_wrong_token_is_told_as_such_and_what_is_cached_helps_nobody_without_a_right_to_it() {
    let mut rig = Rig::start().await;
    let repository = Repository::private(&[("Dockerfile", &numbered(1))]);
    assert_eq!(printed_by(&mut rig, &Job::of(&repository)).await, "commit 1");
    let expired = Job::of(&repository).login("octo", "ghs_an_expired_token");
    rig.push(&expired).await;
    let error = rig.failed(&expired, "git.auth").await;
    assert!(!error.contains("ghs_an_expired_token"), "{error}");
    rig.finish().await;
}

#[tokio::test]
async fn a_branch_that_does_not_exist_is_named() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", &numbered(1))]);
    let job = Job::of(&repository).branch("nowhere");
    rig.push(&job).await;
    let error = rig.failed(&job, "git.branch_not_found").await;
    assert!(error.contains("nowhere"), "{error}");
    rig.finish().await;
}

#[tokio::test]
async fn a_commit_that_was_force_pushed_away_is_not_served_from_the_cache() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", &numbered(1))]);
    let kept = repository.tip("main");
    let secret = repository.commit(&[("Dockerfile", &numbered(2))]);
    assert_eq!(printed_by(&mut rig, &Job::of(&repository)).await, "commit 2");
    repository.force_main(&kept);
    let job = Job::of(&repository).commit(&secret);
    rig.push(&job).await;
    rig.failed(&job, "git.commit_gone").await;
    rig.finish().await;
}

#[tokio::test]
async fn a_repository_that_does_not_exist_is_told_as_such() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", &numbered(1))]);
    let job = Job::of(&repository).set("repositoryName", "octo/not-here".into());
    rig.push(&job).await;
    rig.failed(&job, "git.repository_not_found").await;
    rig.finish().await;
}

#[tokio::test]
async fn by_default_a_job_cannot_reach_the_workers_own_host_unless_the_operator_names_it() {
    let mut rig = Rig::with(|options| options.unset("GIT_PRIVATE_HOSTS")).await;
    let repository = Repository::private(&[("Dockerfile", &numbered(1))]);
    // GITHUB_URL is the operator's word for the same server by another name.
    let elsewhere = Job::of(&repository).git_at("http://localhost:1", None);
    rig.push(&elsewhere).await;
    let error = rig.failed(&elsewhere, "git.host_not_allowed").await;
    assert!(error.contains("own host"), "{error}");
    assert_eq!(printed_by(&mut rig, &Job::of_github(&repository)).await, "commit 1");
    rig.finish().await;
}

#[tokio::test]
async fn a_job_as_a_form_or_a_push_event_makes_it_is_built() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("docker/Dockerfile", &numbered(1))]);
    repository.tag("v1.0");
    let tag = repository.git(&["rev-parse", "refs/tags/v1.0"]);
    repository.commit(&[("docker/Dockerfile", &numbered(2))]);
    let job = || Job::of(&repository).dockerfile(" docker/Dockerfile\n");
    assert_eq!(printed_by(&mut rig, &job().branch("refs/heads/main\n")).await, "commit 2");
    assert_eq!(printed_by(&mut rig, &job().branch("refs/tags/v1.0").commit(&tag)).await, "commit 1");
    rig.finish().await;
}

#[tokio::test]
async fn fields_without_effect_are_named_in_the_deployments_log() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", &numbered(1))]);
    let job = Job::of(&repository)
        .set("target", "prod".into())
        .set("buildArgs", serde_json::json!({"A": "1"}))
        .set("platform", "".into());
    rig.push(&job).await;
    rig.built(&job).await;
    let log = rig.dashboard.log(&job.id);
    let named = "not supported yet and change nothing: buildArgs, target.";
    assert_eq!(log.matches(named).count(), 1, "{log}");
    rig.finish().await;
}
