//! What ends a build without a lifecycle's exit code saying why: refused images, a registry that refuses or is away, limits.

use super::{app, builder, run_image};
use crate::support::{Fault, Job, Proxy, Rig, parts};

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
async fn a_registry_that_is_away_at_the_first_phase_is_named_after_it_was_waited_for() {
    let registry = Proxy::tcp(&parts().registry).await;
    registry.set(Fault::Refuse);
    let mut rig =
        Rig::with(|o| o.set("REGISTRY_HOST", &registry.address()).set("RETRY_WINDOW", "0").set("RETRY_LIMIT", "2")).await;
    let repository = app("true\n");
    let job = Job::of(&repository);
    rig.push(&job).await;
    let error = rig.failed(&job, "registry.unreachable").await;
    assert!(error.contains("The analyze phase cannot reach the registry"), "{error}");
    let log = rig.dashboard.log(&job.id);
    assert!(log.matches("analyze ended with exit code 1").count() == 2, "it was tried again: {log}");
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
