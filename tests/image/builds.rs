//! What a user gets from a build that works.

use std::time::Duration;

use slipway::image::BuiltImage;
use slipway::protocol::LogType;

use crate::support::*;

#[tokio::test]
async fn a_dockerfile_becomes_an_image_without_a_name_that_says_where_it_is_from() {
    let _together = together().await;
    let host = Host::new().await;
    let attempt = Attempt::new("svc-labels", &unique("dpl"));
    let image = attempt.build(&host, dockerfile("FROM busybox:base\nRUN echo made > /made\n")).await.expect("an image");

    let inspected = host.engine.inspect_image(&image.id).await.expect("the image is in the Engine");
    assert_eq!(inspected.repo_tags.unwrap_or_default(), Vec::<String>::new());
    let labels = inspected.config.and_then(|config| config.labels).unwrap_or_default();
    let expected = [
        ("org.opencontainers.image.revision", COMMIT),
        ("org.opencontainers.image.source", "https://github.com/octo/hello.git"),
        ("org.opencontainers.image.created", "2023-11-14T22:13:20Z"),
        ("dev.slipway.service", "svc-labels"),
        ("dev.slipway.deployment", attempt.job.deployment.as_str()),
        ("dev.slipway.attempt", "1"),
        ("dev.slipway.worker", "worker-1"),
    ];
    for (key, value) in expected {
        assert_eq!(labels.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert_eq!(run_in(&image, "cat /made"), "made\n");
    let log = attempt.log.text();
    // (BuildKit names a step that two builds share after the first of them: only the text is ours)
    assert!(log.contains("#1 [") && log.contains("] FROM docker.io/library/busybox:base\n"), "{log}");
    assert!(log.contains("RUN echo made > /made\n") && log.contains(" DONE "), "{log}");
    assert!(!log.contains("[internal]"), "{log}");
    host.stage.remove(&image).await;
}

#[tokio::test]
async fn a_build_that_prints_more_at_once_than_the_engine_can_tell_ends_all_the_same_and_says_where_its_log_breaks_off() {
    let _together = together().await;
    let host = Host::new().await;
    let nonce = unique("loud");
    let too_much = "yes $(printf '%04000d' 0) | head -n 4000";
    let loud = dockerfile(&format!("FROM busybox:base\nRUN {too_much}; echo {nonce} > /made\n"));
    let (image, log) = tokio::time::timeout(Duration::from_secs(60), built(&host, "svc-loud", loud)).await.expect("it ends");
    assert_eq!(run_in(&image, "cat /made"), format!("{nonce}\n"));
    let whole = log.text().matches("0000\n").count() >= 4000;
    assert!(whole || log.text().contains("stops telling what the build prints"), "what is missing is said");
    host.stage.remove(&image).await;
}

#[tokio::test]
async fn removing_an_image_leaves_the_next_build_warm_and_named_images_alone() {
    let _together = together().await;
    let host = Host::new().await;
    let text = format!("FROM busybox:base\nRUN echo {} > /made\n", unique("warm"));
    let (first, _) = built(&host, "svc-warm", dockerfile(&text)).await;
    host.stage.remove(&first).await;
    assert!(host.engine.inspect_image(&first.id).await.is_err());
    // what is gone already is no error
    host.stage.remove(&first).await;

    let (second, log) = built(&host, "svc-warm", dockerfile(&text)).await;
    assert!(log.text().contains(" CACHED\n"), "{}", log.text());
    assert_ne!(first.id, second.id, "two deployments share an image");
    docker(&["tag", &second.id, "kept-by-hand:1"]);
    host.stage.remove(&second).await;
    assert!(host.engine.inspect_image("kept-by-hand:1").await.is_ok());
    docker(&["rmi", "kept-by-hand:1"]);
}

#[tokio::test]
async fn a_secret_mount_reads_the_jobs_value_and_leaves_it_in_no_history_or_log() {
    let _together = together().await;
    let host = Host::new().await;
    let text = "FROM busybox:base\nRUN --mount=type=secret,id=TOKEN wc -c < /run/secrets/TOKEN > /size\n";
    let (image, log) = built(&host, "svc-secret", with_secrets(dockerfile(text), &[("TOKEN", "s3cr3t-value")])).await;
    assert_eq!(run_in(&image, "cat /size").trim(), "12");
    assert!(!log.text().contains("s3cr3t-value"));
    // Of the image's record its configuration: the rest names the Engine's own folders.
    let config = docker(&["inspect", "--format", "{{json .Config}} {{json .ContainerConfig}}", &image.id]);
    let history = docker(&["history", "--no-trunc", &image.id]) + &config;
    assert!(
        !history.contains("s3cr3t-value") && !history.contains("slipway-") && !history.contains("CACHE_MOUNT_NS"),
        "{history}"
    );
    host.stage.remove(&image).await;
}

#[tokio::test]
async fn a_hundred_thousand_lines_come_out_complete_in_order_and_by_their_stream() {
    let _together = together().await;
    let host = Host::new().await;
    let run = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); echo line $i; done; echo oops >&2; printf end";
    let text = format!("FROM busybox:base\nRUN : {}; {run}\n", unique("lines"));
    let (image, log) = built(&host, "svc-lines", dockerfile(&text)).await;
    let output = log.output(LogType::Stdout);
    let expected: Vec<String> = (1..=100_000).map(|i| format!("line {i}")).chain(["end".to_owned()]).collect();
    assert_eq!(output.len(), expected.len(), "{:.3000}", log.text());
    assert!(output == expected, "lines are out of order");
    assert_eq!(log.output(LogType::Stderr), ["oops"]);
    host.stage.remove(&image).await;
}

#[tokio::test]
async fn a_dockerfile_in_a_folder_is_found_and_its_context_is_the_whole_repository() {
    let _together = together().await;
    let host = Host::new().await;
    let files = context(&[
        ("docker/api/Dockerfile", b"FROM busybox:base\nCOPY src/app /app\nCOPY link /linked\n"),
        ("src/app*", b"program"),
        ("link@src/app", b""),
    ]);
    let (image, _) = built(&host, "svc-folder", files).await;
    assert_eq!(run_in(&image, "cat /app /linked; test -x /app && echo ' executable'"), "programprogram executable\n");
    host.stage.remove(&image).await;
}

#[tokio::test]
async fn builds_without_a_network_have_none() {
    let _together = together().await;
    let config = slipway::config::BuildConfig { network: slipway::config::BuildNetwork::None, ..config() };
    let host = Host::with(config).await;
    let text = format!("FROM busybox:base\nRUN : {}; ls /sys/class/net > /nets\n", unique("net"));
    let (image, _) = built(&host, "svc-net", dockerfile(&text)).await;
    assert_eq!(run_in(&image, "cat /nets").split_whitespace().collect::<Vec<_>>(), ["lo"]);
    host.stage.remove(&image).await;
}

#[tokio::test]
async fn an_image_from_scratch_needs_no_shell() {
    let _together = together().await;
    let host = Host::new().await;
    let (image, _): (BuiltImage, _) =
        built(&host, "svc-scratch", context(&[("Dockerfile", b"FROM scratch\nCOPY a /a\n"), ("a", b"x")])).await;
    assert!(image.id.starts_with("sha256:") && image.id.len() == 71);
    host.stage.remove(&image).await;
}
