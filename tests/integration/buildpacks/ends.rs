//! Each way in which a phase can fail: its code, its words, its way out.

use serde_json::json;

use super::app;
use crate::support::{Fault, Job, Proxy, Repository, Rig, parts};

fn builder() -> &'static str {
    parts().builders.split_once('=').expect("builder=run-image").0
}

fn run_image() -> &'static str {
    parts().builders.split_once('=').expect("builder=run-image").1
}

/// The builder with some of its files changed, under a name of its own.
async fn variant(rig: &Rig, name: &str, commands: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let text = format!("FROM {}\nUSER 0\nRUN {commands}\nUSER 1000:1000\n", builder());
    std::fs::write(dir.path().join("Dockerfile"), text).expect("write the Dockerfile");
    let image = format!("slipway-test/{name}:1");
    rig.engine.docker(&["build", "--quiet", "--tag", &image, &dir.path().display().to_string()]).await;
    image
}

#[tokio::test]
async fn every_exit_code_of_the_lifecycle_has_a_code_a_cause_and_a_way_out() {
    let scripted = "slipway-test/scripted:1";
    let old_buildpack = "slipway-test/old-buildpack:1";
    let builders = [builder(), scripted, old_buildpack].map(|image| format!("{image}={}", run_image())).join(",");
    let mut rig = Rig::with(|o| o.builds(3).set("BUILDPACKS_BUILDERS", &builders).set("RETRY_LIMIT", "1")).await;
    // Its detector ends as the job says.
    variant(&rig, "scripted", "cd /cnb/lifecycle && rm detector && printf '#!/bin/sh\\necho \"ERROR: failed to do as told\"\\nexit $(cat /ctl/in/platform/env/CODE)\\n' >detector && chmod 755 detector").await;
    variant(&rig, "old-buildpack", "sed -i 's/^api = .*/api = \"0.99\"/' /cnb/buildpacks/slipway_shell/1.0.0/buildpack.toml")
        .await;

    let quiet = app("true\n");
    let empty = Repository::public(&[("README.md", "nothing\n")]);
    let detect_errs = Repository::public(&[("app.sh", "true\n"), ("detect.sh", "echo the detector is unhappy; exit 3\n")]);
    let build_errs = app("echo the compiler is unhappy; exit 7\n");
    let bad_toml = app("echo 'not toml =' >\"$CNB_LAYERS_DIR/deps.toml\"\n");
    let told = |code: &str| Job::of(&quiet).set("builder", json!(scripted)).env("CODE", code);
    let cases = [
        (Job::of(&empty), "buildpacks.nothing_detected", "no buildpack recognised the repository (fail: slipway/shell@1.0.0"),
        (Job::of(&detect_errs), "buildpacks.detect_failed", "looked at the repository (err:  slipway/shell@1.0.0 (3))"),
        (Job::of(&build_errs), "buildpacks.build_failed", "failed to build: exit status 7"),
        (Job::of(&bad_toml), "buildpacks.build_failed", "wrote a file that the lifecycle cannot read: failed to build: "),
        (Job::of(&quiet).set("builder", json!(old_buildpack)), "buildpacks.lifecycle", "ended with exit code 12: "),
        (told("1"), "buildpacks.lifecycle", "The detect phase ended with exit code 1: failed to do as told"),
        (told("2"), "buildpacks.lifecycle", "exit code 2: "),
        (told("3"), "buildpacks.lifecycle", "Check BUILDPACKS_BUILDERS and BUILDPACKS_LIFECYCLE_IMAGE"),
        (told("11"), "buildpacks.lifecycle", "The builder and the lifecycle do not fit together"),
        (told("22"), "buildpacks.detect_failed", "A buildpack failed while it looked at the repository"),
        (told("137"), "buildpacks.killed", "The detect phase was killed"),
    ];
    for (job, ..) in &cases {
        rig.push(job).await;
    }
    for (job, code, words) in &cases {
        rig.failed(job, code).await;
        let last = rig.dashboard.lines(&job.id).pop().expect("a last line").1;
        println!("{last}");
        assert!(last.contains(words), "{words}: {last}");
        assert!(last.rsplit_once(']').is_some_and(|(_, way_out)| way_out.trim().len() > 10), "it names a way out: {last}");
    }
    let log = rig.dashboard.log(&cases[1].0.id);
    assert!(log.contains("the detector is unhappy"), "{log}");
    rig.finish().await;
}

#[tokio::test]
async fn what_the_lifecycle_itself_cannot_do_is_the_operators_to_cure_and_told_with_its_last_words() {
    for (phase, program, code) in [("restore", "restorer", 42), ("export", "exporter", 62)] {
        let image = format!("slipway-test/failing-{phase}:1");
        let mut rig = Rig::with(|o| o.set("BUILDPACKS_LIFECYCLE_IMAGE", &image).set("RETRY_LIMIT", "1")).await;
        let script =
            format!("printf '#!/bin/sh\\necho ERROR: failed to do its work\\nexit {code}\\n' >{program} && chmod 755 {program}");
        variant(&rig, &format!("failing-{phase}"), &format!("cd /cnb/lifecycle && rm {program} && {script}")).await;
        let repository = app("true\n");
        let job = Job::of(&repository);
        rig.push(&job).await;
        let error = rig.failed(&job, "buildpacks.lifecycle").await;
        assert!(error.starts_with(&format!("The {phase} phase ended with exit code {code}: failed to do its work")), "{error}");
        rig.finish().await;
    }
}

#[tokio::test]
async fn a_builder_that_does_not_speak_our_platform_api_is_refused_before_anything_runs() {
    let name = "slipway-test/too-new:1";
    let mut rig = Rig::with(|o| o.set("BUILDPACKS_BUILDERS", &format!("{name}={}", run_image())).set("RETRY_LIMIT", "1")).await;
    let label = "LABEL io.buildpacks.lifecycle.apis={\"platform\":{\"deprecated\":[],\"supported\":[\"0.15\"]}}";
    let container = rig.engine.docker(&["create", builder(), "never-started"]).await;
    rig.engine.docker(&["commit", "--change", label, container.trim(), name]).await;
    rig.engine.docker(&["rm", container.trim()]).await;
    let repository = app("true\n");
    let job = Job::of(&repository);
    rig.push(&job).await;
    let error = rig.failed(&job, "buildpacks.lifecycle").await;
    assert!(error.contains("does not speak platform API 0.12"), "{error}");
    assert!(!rig.dashboard.log(&job.id).contains("===>"));
    rig.finish().await;
}

#[tokio::test]
async fn a_run_image_that_is_not_there_is_found_before_the_build() {
    let missing = format!("{}/slipway-test/nowhere:1", parts().registry);
    let mut rig = Rig::with(|o| o.set("BUILDPACKS_BUILDERS", &format!("{}={missing}", builder())).set("RETRY_LIMIT", "1")).await;
    let repository = app("true\n");
    let job = Job::of(&repository);
    rig.push(&job).await;
    let error = rig.failed(&job, "buildpacks.run_image").await;
    assert!(error.contains(&missing), "{error}");
    assert!(!rig.dashboard.log(&job.id).contains("===> DETECT"));
    rig.finish().await;
}

#[tokio::test]
async fn a_wrong_password_is_told_as_such() {
    let mut rig = Rig::with(|o| o.set("REGISTRY_PASSWORD", "not-the-password").set("RETRY_LIMIT", "1")).await;
    let repository = app("true\n");
    let job = Job::of(&repository);
    rig.push(&job).await;
    let error = rig.failed(&job, "registry.denied").await;
    assert!(error.contains("The registry refused the analyze phase") && !error.contains("not-the-password"), "{error}");
    rig.finish().await;
}

#[tokio::test]
async fn a_registry_that_is_away_at_the_export_is_tried_again_without_building_again() {
    let registry = Proxy::tcp(&parts().registry).await;
    let run = format!("{}/slipway-test/run:1", registry.address());
    let builders = format!("{}={run}", builder());
    let mut rig = Rig::with(|o| o.set("REGISTRY_HOST", &registry.address()).set("BUILDPACKS_BUILDERS", &builders)).await;
    let repository = app("echo nearly built; sleep 2\n");
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "nearly built", std::time::Duration::from_secs(60)).await;
    registry.set(Fault::Refuse);
    rig.dashboard.wait_for_line(&job.id, "[registry.unreachable]", std::time::Duration::from_secs(60)).await;
    registry.set(Fault::Pass);
    rig.built(&job).await;
    let log = rig.dashboard.log(&job.id);
    assert_eq!(log.matches("===> BUILD").count(), 1, "{log}");
    assert!(log.matches("===> EXPORT").count() > 1, "{log}");
    rig.finish().await;
}

#[tokio::test]
async fn a_buildpack_that_breaks_a_limit_is_ended_with_a_failure_that_names_it() {
    let mut rig = Rig::with(|o| o.set("BUILDPACKS_MEMORY", "64MiB").set("BUILDPACKS_PIDS", "32")).await;
    let greedy = app("dd if=/dev/zero of=/dev/null bs=200M count=1\n");
    let forking = app("i=0; while [ $i -lt 100 ]; do sleep 5 & i=$((i+1)); done; wait\n");
    let (memory, processes) = (Job::of(&greedy), Job::of(&forking));
    rig.push(&memory).await;
    rig.push(&processes).await;
    let error = rig.failed(&memory, "buildpacks.memory").await;
    assert!(error.contains("more than 64 MiB of memory") && error.contains("BUILDPACKS_MEMORY"), "{error}");
    let error = rig.failed(&processes, "buildpacks.processes").await;
    assert!(error.contains("more than 32 processes") && error.contains("BUILDPACKS_PIDS"), "{error}");
    rig.finish().await;
}
