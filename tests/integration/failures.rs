//! A failed build says why, in words a user understands; what is no job is refused, and the next one builds.

use serde_json::json;

use crate::support::{Job, Repository, Rig};

/// Runs one job that fails with this code and returns the error.
async fn error_of(files: &[(&str, &str)], change: impl FnOnce(Job) -> Job, code: &str) -> String {
    let mut rig = Rig::start().await;
    let repository = Repository::public(files);
    let job = change(Job::of(&repository));
    rig.push(&job).await;
    let error = rig.failed(&job, code).await;
    rig.finish().await;
    error
}

#[tokio::test]
async fn a_run_step_that_fails_is_told_with_its_command_and_exit_code() {
    let error =
        error_of(&[("Dockerfile", "FROM busybox:base\nRUN echo trying && exit 7\n")], |j| j, "dockerfile.step_failed").await;
    assert!(error.contains("exit 7") && error.contains('7'), "{error}");
    assert!(error.contains("echo trying"), "the command is named: {error}");
}

#[tokio::test]
async fn a_dockerfile_that_is_not_where_the_job_says_is_named() {
    let files = [("Dockerfile", "FROM busybox:base\n")];
    let error = error_of(&files, |job| job.dockerfile("deploy/Dockerfile"), "context.no_dockerfile").await;
    assert!(error.contains("deploy/Dockerfile"), "{error}");
}

#[tokio::test]
async fn a_copy_of_a_missing_file_is_named() {
    let error = error_of(&[("Dockerfile", "FROM busybox:base\nCOPY nothing.txt /\n")], |j| j, "dockerfile.copy_missing").await;
    assert!(error.contains("nothing.txt"), "{error}");
}

#[tokio::test]
async fn a_dockerfile_with_a_mistake_is_told_as_such() {
    let error = error_of(&[("Dockerfile", "FROM busybox:base\nRUNN echo\n")], |j| j, "dockerfile.syntax").await;
    assert!(error.contains("RUNN"), "{error}");
}

#[tokio::test]
async fn what_is_no_job_is_refused_and_the_next_job_builds() {
    let mut rig = Rig::with(|options| options.builds(1)).await;
    for element in
        ["not json", "", "[]", "null", "{", "{\"deploymentId\":\"../../etc\"}", "\u{1b}[31mred", "{\"deploymentId\":7}"]
    {
        rig.push_raw(element).await;
    }
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.built(&job).await;
    let dead: Vec<String> = rig.redis.command(&["LRANGE", "{builder-queue}:dead", "0", "-1"]).await;
    assert_eq!(dead.len(), 8, "each is in the dead letter list: {dead:?}");
    rig.finish().await;
}

#[tokio::test]
async fn two_hundred_elements_that_are_no_job_are_kept_with_their_reason_and_the_next_job_builds() {
    let mut rig = Rig::with(|options| options.builds(1)).await;
    for n in 0..200 {
        rig.push_raw(&format!("not json {n}")).await;
    }
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.built(&job).await;
    let dead: Vec<String> = rig.redis.command(&["LRANGE", "{builder-queue}:dead", "0", "-1"]).await;
    assert_eq!(dead.len(), 200);
    for note in dead {
        let note: serde_json::Value = serde_json::from_str(&note).expect("JSON");
        assert_eq!(note["code"], "job.malformed");
        assert!(note["reason"].as_str().is_some_and(|why| why.contains("JSON")), "{note}");
        assert!(note["payload"].as_str().is_some_and(|text| text.starts_with("not json")), "{note}");
    }
    let said = rig.host.log().matches("refused an element of the queue, it went to the dead letter list").count();
    assert_eq!(said, 200, "each is said once");
    rig.finish().await;
}

#[tokio::test]
async fn a_job_with_a_bad_field_is_failed_at_the_dashboard_and_names_the_field() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\n")]);
    for (field, value) in [
        ("repositoryName", json!("../../etc/passwd")),
        ("branch", json!("--upload-pack=touch /tmp/pwned")),
        ("commitSha", json!("HEAD; rm -rf /")),
        ("runtimeFilePath", json!("../Dockerfile")),
        ("serviceId", json!("a/../../b")),
        ("gitProvider", json!({"type": "CUSTOM", "url": "file:///etc"})),
    ] {
        let job = Job::of(&repository).set(field, value);
        rig.push(&job).await;
        let error = rig.failed(&job, "job.malformed").await;
        assert!(error.contains(field), "the error names {field}: {error}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_deleted_branch_is_failed_clearly() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\n")]);
    let job = Job::of(&repository).commit(&"0".repeat(40));
    rig.push(&job).await;
    rig.failed(&job, "job.branch_deleted").await;
    rig.finish().await;
}

#[tokio::test]
async fn wrong_registry_credentials_are_told_as_such() {
    let mut rig = Rig::with(|options| options.set("REGISTRY_PASSWORD", "not-the-password").set("RETRY_LIMIT", "1")).await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN echo hi\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    let error = rig.failed(&job, "registry.denied").await;
    assert!(!error.contains("not-the-password"), "{error}");
    rig.finish().await;
}
