//! Each exit code of the real lifecycle, provoked by what causes it: the failure's code, its words, its way out.

use serde_json::json;

use super::held::{CACHE_METADATA, Held, Phase, in_cache};
use super::{app, builder, run_image, variant};
use crate::support::{Engine, Job, Repository, Rig, parts, unique};

/// One that brings a buildpack made of others, one of which is not there.
const INCOMPLETE: &str = "cd /cnb && mkdir -p buildpacks/slipway_all/1.0.0 && cp buildpacks/slipway_shell/1.0.0/buildpack.toml buildpacks/slipway_all/1.0.0/ \\\n\
    && cd buildpacks/slipway_all/1.0.0 && sed -i 's,slipway/shell,slipway/all,; /targets/,$d' buildpack.toml \\\n\
    && printf '[[order]]\\n[[order.group]]\\nid = \"slipway/gone\"\\nversion = \"1.0.0\"\\n' >>buildpack.toml \\\n\
    && printf '[[order]]\\n[[order.group]]\\nid = \"slipway/all\"\\nversion = \"1.0.0\"\\n' >/cnb/order.toml";

/// One whose phases are started for another platform API than the worker's.
const OTHER_API: &str = "cd /cnb/lifecycle && mkdir real && ln -s ../lifecycle real/detector && rm detector \\\n\
    && printf '#!/bin/sh\\nCNB_PLATFORM_API=0.99 exec /cnb/lifecycle/real/detector \"$@\"\\n' >detector && chmod 755 detector";

#[tokio::test]
async fn every_exit_code_of_the_lifecycle_has_a_code_a_cause_and_a_way_out() {
    let engine = Engine::new();
    let old_api = "sed -i 's/^api = .*/api = \"0.99\"/' /cnb/buildpacks/slipway_shell/1.0.0/buildpack.toml";
    let (missing, incomplete, other_api, old_buildpack) = tokio::join!(
        variant(&engine, builder(), "missing-buildpack", "sed -i s,slipway/static,slipway/gone, /cnb/order.toml"),
        variant(&engine, builder(), "incomplete-buildpack", INCOMPLETE),
        variant(&engine, builder(), "other-api", OTHER_API),
        variant(&engine, builder(), "old-buildpack", old_api),
    );
    let (misnamed, no_system) = ("slipway-test/misnamed-run:1", "slipway-test/run-without-system:1");
    for name in [misnamed, no_system] {
        engine.docker(&["tag", builder(), name]).await;
    }
    let mut builders: Vec<_> =
        [builder(), &missing, &incomplete, &other_api, &old_buildpack].map(|image| format!("{image}={}", run_image())).into();
    builders.push(format!("{misnamed}={}/slipway-test/Run:1", parts().registry));
    let without_system = format!("slipway-test/run:{}", unique());
    builders.push(format!("{no_system}={}/{without_system}", parts().registry));
    let builders = builders.join(",");
    let mut rig = Rig::with(|o| o.builds(3).set("BUILDPACKS_BUILDERS", &builders).set("RETRY_LIMIT", "1")).await;
    rig.registry.copy(run_image(), &without_system, |config| drop(config.as_object_mut().expect("an object").remove("os"))).await;

    let quiet = app("true\n");
    let empty = Repository::public(&[("README.md", "nothing\n")]);
    let detect_errs = Repository::public(&[("app.sh", "true\n"), ("detect.sh", "echo the detector is unhappy; exit 3\n")]);
    let build_errs = app("echo the compiler is unhappy; exit 7\n");
    let bad_toml = app("echo 'not toml =' >\"$CNB_LAYERS_DIR/deps.toml\"\n");
    let unreadable = app("echo x >unreadable; chmod 000 unreadable\n");
    let by = |builder: &str| Job::of(&quiet).set("builder", json!(builder));
    let cases = [
        (1, by(&missing), "buildpacks.lifecycle", "The detect phase ended with exit code 1: "),
        (3, by(misnamed), "buildpacks.lifecycle", "The analyze phase ended with exit code 3: "),
        (
            11,
            by(&other_api),
            "buildpacks.lifecycle",
            "exit code 11: failed to set platform API: platform API version '0.99' is incompatible with the lifecycle",
        ),
        (12, by(&old_buildpack), "buildpacks.lifecycle", "The builder and the lifecycle do not fit together"),
        (20, Job::of(&empty), "buildpacks.nothing_detected", "no buildpack recognised the repository (fail: slipway/shell@1.0.0"),
        (21, Job::of(&detect_errs), "buildpacks.detect_failed", "looked at the repository (err:  slipway/shell@1.0.0 (3))"),
        (22, by(&incomplete), "buildpacks.lifecycle", "A buildpack of the builder cannot be used"),
        (32, by(no_system), "buildpacks.lifecycle", "failed to find OS in run image config"),
        (51, Job::of(&build_errs), "buildpacks.build_failed", "failed to build: exit status 7"),
        (52, Job::of(&bad_toml), "buildpacks.build_failed", "wrote a file that the lifecycle cannot read: failed to build: "),
        (62, Job::of(&unreadable), "buildpacks.build_failed", "The build left a file that may not be read: "),
    ];
    for (_, job, ..) in &cases {
        rig.push(job).await;
    }
    for (exit_code, job, code, words) in &cases {
        rig.failed(job, code).await;
        let log = rig.dashboard.log(&job.id);
        assert!(log.contains(&format!("ended with exit code {exit_code} ")), "{exit_code}: {log}");
        let last = rig.dashboard.lines(&job.id).pop().expect("a last line").1;
        println!("exit code {exit_code}: {last}");
        assert!(last.contains(words), "{words}: {last}");
        assert!(last.rsplit_once(']').is_some_and(|(_, way_out)| way_out.trim().len() > 10), "it names a way out: {last}");
    }
    let log = rig.dashboard.log(&cases[5].1.id);
    assert!(log.contains("the detector is unhappy"), "{log}");
    let log = rig.dashboard.log(&cases[7].1.id);
    assert!(log.contains("building without its layers"), "it was tried without the previous image: {log}");
    rig.finish().await;
}

#[tokio::test]
async fn a_phase_that_somebody_else_ends_is_told_as_such() {
    let once = |options: crate::support::WorkerOptions| options.set("RETRY_LIMIT", "1");
    let (terminated, killed) = tokio::join!(Held::in_phase(Phase::Detect, once), Held::in_phase(Phase::Build, once));
    terminated.signal("TERM").await;
    killed.signal("KILL").await;
    let error = terminated.rig.failed(&terminated.job, "buildpacks.lifecycle").await;
    println!("exit code 2: {error}");
    assert!(error.contains("The detect phase ended with exit code 2"), "{error}");
    let error = killed.rig.failed(&killed.job, "buildpacks.killed").await;
    println!("exit code 137: {error}");
    assert!(error.contains("The build phase was killed") && error.contains("ran out of memory"), "{error}");
    terminated.rig.finish().await;
    killed.rig.finish().await;
}

/// Exit code 42.
#[tokio::test]
async fn a_cache_that_cannot_be_restored_is_thrown_away_and_everything_built_anew() {
    let mut rig = Rig::start().await;
    let repository = app("true\n");
    let first = Job::of(&repository);
    let again = || Job::of(&repository).service(&first.service);
    rig.push(&first).await;
    rig.built(&first).await;
    rig.settle().await;
    let zeros = "0".repeat(64);
    let broken = format!(r#"{{"sbom":{{"sha":"sha256:{zeros}"}},"buildpacks":[]}}"#);
    in_cache(&rig.engine, &first.service, &format!("echo '{broken}' >{CACHE_METADATA}")).await;
    let second = again();
    rig.push(&second).await;
    rig.built(&second).await;
    let log = rig.dashboard.log(&second.id);
    let said = log.lines().find(|line| line.contains("cache cannot be used")).unwrap_or_default();
    println!("exit code 42, then built all the same: {said}");
    assert!(log.contains("restore ended with exit code 42"), "{log}");
    assert!(log.contains("The service's cache cannot be used") && log.contains("dependencies 1: fetching"), "{log}");
    rig.settle().await;
    let third = again();
    rig.push(&third).await;
    rig.built(&third).await;
    assert!(rig.dashboard.log(&third.id).contains("dependencies 1: reused"));
    rig.finish().await;
}
