//! A repository without a Dockerfile becomes an image that runs from the registry; what is chosen is said.

use serde_json::json;

use super::app;
use crate::support::{Job, Repository, Rig, eventually, parts};

#[tokio::test]
async fn a_repository_with_a_procfile_becomes_an_image_that_runs_from_the_registry() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Procfile", "# comment\nworker: true\nweb: echo the Procfile says $GREETING\n")]);
    let job = Job::of(&repository).env("BP_SHELL_GREETING", "ahoy");
    rig.push(&job).await;
    let end = rig.built(&job).await;
    assert_eq!(rig.engine.run(&end.image).await, "the Procfile says ahoy\n");
    assert_eq!(rig.dashboard.statuses(&job.id), ["BUILDING", "BUILDED"]);
    let (tagged, digest) = end.image.split_once('@').expect("a digest");
    assert_eq!(tagged, format!("{}/{}:{}-1", parts().registry, job.service, job.id));
    let latest = format!("{}/{}:latest", parts().registry, job.service);
    for name in [tagged, &latest] {
        assert_eq!(rig.registry.digest(name).await.as_deref(), Some(digest), "{name}");
    }
    let log = rig.dashboard.log(&job.id);
    assert!(log.contains("No Dockerfile at the repository root, but a Procfile"), "{log}");
    for phase in ["analyze", "detect", "restore", "build", "export"] {
        assert!(log.contains(&format!("===> {}", phase.to_uppercase())), "{phase} is a step of the log: {log}");
        assert!(log.contains(&format!("{phase} done in ")), "{phase} tells its time: {log}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn the_second_build_of_a_service_reuses_cache_and_layers_and_another_service_gets_none_of_it() {
    let mut rig = Rig::start().await;
    let repository = app("true\n");
    let first = Job::of(&repository);
    rig.push(&first).await;
    let first_end = rig.built(&first).await;
    assert!(rig.dashboard.log(&first.id).contains("dependencies 1: fetching"));
    rig.settle().await;
    let second = Job::of(&repository).service(&first.service);
    rig.push(&second).await;
    let second_end = rig.built(&second).await;
    let log = rig.dashboard.log(&second.id);
    for said in
        ["Restoring data for \"slipway/shell:deps\" from cache", "dependencies 1: reused", "Reusing layer 'slipway/shell:deps'"]
    {
        assert!(log.contains(said), "{said}: {log}");
    }
    let digest = |image: &str| image.split_once('@').map(|(_, digest)| digest.to_owned());
    assert_eq!(digest(&first_end.image), digest(&second_end.image), "the same input makes the same image");
    let stranger = Job::of(&repository);
    rig.push(&stranger).await;
    rig.built(&stranger).await;
    assert!(rig.dashboard.log(&stranger.id).contains("dependencies 1: fetching"));
    rig.finish().await;
}

#[tokio::test]
async fn a_static_site_is_served_at_the_port_it_is_given() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("index.html", "<h1>ahoy</h1>\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    let end = rig.built(&job).await;
    rig.engine.docker(&["pull", "--quiet", &end.image]).await;
    let container = rig.engine.docker(&["run", "--detach", "--rm", "--env", "PORT=9090", &end.image]).await;
    let container = container.trim();
    eventually("the site answers", std::time::Duration::from_secs(10), async || {
        let got = rig.engine.try_docker(&["exec", container, "wget", "-qO-", "http://127.0.0.1:9090/"]).await;
        if got.stdout == b"<h1>ahoy</h1>\n" { Ok(()) } else { Err(String::from_utf8_lossy(&got.stderr).into_owned()) }
    })
    .await;
    rig.engine.docker(&["rm", "--force", container]).await;
    rig.engine.docker(&["image", "rm", &end.image]).await;
    rig.finish().await;
}

#[tokio::test]
async fn the_jobs_variables_and_project_toml_reach_the_build_and_not_the_image() {
    let mut rig = Rig::start().await;
    let project = "[_]\nschema-version = \"0.2\"\n[io.buildpacks]\nbuilder = \"evil/builder\"\n\
                   [[io.buildpacks.build.env]]\nname = \"FROM_PROJECT\"\nvalue = \"of the project\"\n\
                   [[io.buildpacks.build.env]]\nname = \"FOO\"\nvalue = \"loses\"\n";
    let build = "echo \"port=$PORT foo has ${#FOO} characters, lines: $(echo \"$LINES_\" | wc -l)\"\necho \"from: $FROM_PROJECT\"\nls -a\n";
    let files = &[("app.sh", "echo \"port ${PORT:-unset} foo ${FOO:-unset}\"\n"), ("build.sh", build), ("project.toml", project)];
    let repository = Repository::public(files);
    let job = Job::of(&repository).env("FOO", "very-secret-value").env("LINES_", "one\ntwo").env("BAD/KEY", "x");
    rig.push(&job).await;
    let end = rig.built(&job).await;
    let log = rig.dashboard.log(&job.id);
    for said in [
        "port=3000 foo has 17 characters, lines: 2",
        "from: of the project",
        "\"BAD/KEY\" is left out",
        "project.toml: builder is not supported",
        "no .env file is written",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    let config = rig.registry.config(&end.image).await.to_string();
    for unwanted in ["very-secret-value", "PORT=", "of the project"] {
        assert!(!config.contains(unwanted), "{unwanted} in the image's configuration: {config}");
    }
    assert_eq!(rig.registry.file(&end.image, "workspace/.env").await, None);
    assert_eq!(rig.engine.run(&end.image).await, "port unset foo unset\n");
    rig.finish().await;
}

#[tokio::test]
async fn what_is_built_and_how_is_chosen_by_clear_rules_and_said() {
    let mut rig = Rig::start().await;
    let both = Repository::public(&[
        ("Dockerfile", "FROM busybox:base\nCMD [\"echo\", \"dockerfile\"]\n"),
        ("Procfile", "web: echo procfile\n"),
    ]);
    let builder = parts().builders.split('=').next().expect("a builder");

    let job = Job::of(&both);
    rig.push(&job).await;
    let end = rig.built(&job).await;
    assert_eq!(rig.engine.run(&end.image).await, "dockerfile\n");
    let log = rig.dashboard.log(&job.id);
    assert!(
        log.contains("The repository has a Dockerfile and a Procfile: the Dockerfile is built, the Procfile is not used."),
        "{log}"
    );

    let job = Job::of(&both).set("builder", json!(builder));
    rig.push(&job).await;
    let end = rig.built(&job).await;
    assert_eq!(rig.engine.run(&end.image).await, "procfile\n");
    let log = rig.dashboard.log(&job.id);
    assert!(log.contains("building with buildpacks, the repository's Dockerfile is not used"), "{log}");

    let neither = Repository::public(&[("README.md", "nothing to build\n")]);
    let job = Job::of(&neither);
    rig.push(&job).await;
    let error = rig.failed(&job, "buildpacks.nothing_detected").await;
    for said in ["There is no Dockerfile", "slipway/shell@1.0.0", "slipway/static@1.0.0"] {
        assert!(error.contains(said), "{said}: {error}");
    }

    let job = Job::of(&both).dockerfile("docker/Dockerfile.missing");
    rig.push(&job).await;
    let error = rig.failed(&job, "context.no_dockerfile").await;
    assert!(error.contains("docker/Dockerfile.missing"), "{error}");

    let job = Job::of(&both).set("builder", json!("evil/builder:1"));
    rig.push(&job).await;
    let error = rig.failed(&job, "buildpacks.builder").await;
    assert!(error.contains(builder), "the list is in the message: {error}");
    rig.finish().await;
}

#[tokio::test]
async fn one_trusted_creator_container_builds_the_same() {
    let mut rig = Rig::with(|options| options.set("BUILDPACKS_TRUSTED", "true")).await;
    let repository = Repository::public(&[("Procfile", "web: echo the creator says $GREETING\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    let end = rig.built(&job).await;
    assert_eq!(rig.engine.run(&end.image).await, "the creator says hello\n");
    let again = Job::of(&repository).service(&job.service);
    rig.push(&again).await;
    rig.built(&again).await;
    assert!(rig.dashboard.log(&again.id).contains("dependencies 1: reused"));
    rig.finish().await;
}
