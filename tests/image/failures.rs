//! A failed build says why, in one line that a user understands.

use slipway::protocol::Code;

use crate::proxy::Proxy;
use crate::registry::Registry;
use crate::support::*;

async fn failure_of(text: &str) -> (Code, String) {
    let host = Host::new().await;
    let (failure, log) = failed(&host, dockerfile(text)).await;
    (failure.code, format!("{failure}\n{}", log.text()))
}

#[tokio::test]
async fn a_run_step_that_fails_is_named_with_its_exit_code() {
    let _together = together().await;
    let (code, text) = failure_of("FROM busybox:base\nRUN echo before; sh -c 'exit 3'\nRUN never\n").await;
    assert_eq!(code, Code::DockerfileStepFailed, "{text}");
    assert!(text.starts_with("RUN echo before; sh -c 'exit 3' ended with exit code 3. [dockerfile.step_failed]"), "{text}");
    assert!(text.contains("ERROR: exit code 3\n"), "{text}");
}

#[tokio::test]
async fn a_command_that_does_not_exist_says_so() {
    let _together = together().await;
    let (code, text) = failure_of("FROM busybox:base\nRUN no-such-program --now\n").await;
    assert_eq!(code, Code::DockerfileStepFailed, "{text}");
    assert!(
        text.starts_with("RUN no-such-program --now ended with exit code 127.") && text.contains("not found in the image"),
        "{text}"
    );
}

#[tokio::test]
async fn a_dockerfile_that_cannot_be_read_names_the_line() {
    let _together = together().await;
    let (code, text) = failure_of("FROM busybox:base\nRUM echo\n").await;
    assert_eq!(code, Code::DockerfileSyntax, "{text}");
    assert!(text.contains("line 2") && text.contains("RUM"), "{text}");
    for wrong in [
        "",
        "# nothing\n",
        "RUN x\n",
        "FROM busybox:base\nCOPY a\n",
        "FROM\n",
        "FROM busybox:base AS a\nCOPY --nope=1 a b\n",
        "FROM UPPER:Case\n",
    ] {
        let (code, text) = failure_of(wrong).await;
        assert_eq!(code, Code::DockerfileSyntax, "{wrong:?}: {text}");
    }
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let _together = together().await;
    let (code, text) = failure_of("FROM busybox:base\nCOPY dist/app.js /app/\n").await;
    assert_eq!(code, Code::DockerfileCopyMissing, "{text}");
    assert!(text.contains("dist/app.js"), "{text}");
    for wrong in ["FROM busybox:base\nADD nope /x/\n", "FROM busybox:base AS a\nFROM a\nCOPY --from=a /nope /\n"] {
        let (code, text) = failure_of(wrong).await;
        assert_eq!(code, Code::DockerfileCopyMissing, "{wrong:?}: {text}");
    }
}

#[tokio::test]
async fn a_registry_that_cannot_be_reached_and_one_that_does_not_exist_are_told_apart() {
    let _together = together().await;
    let cases =
        [("127.0.0.1:1/team/base:1", Code::BuildPullUnreachable), ("registry.invalid/team/base:1", Code::DockerfileHostUnknown)];
    for (base, expected) in cases {
        let (code, text) = failure_of(&format!("FROM {base}\nRUN x\n")).await;
        assert_eq!(code, expected, "{base}: {text}");
        assert!(text.contains(base), "{text}");
        let (code, text) = failure_of(&format!("# syntax={base}\nFROM busybox:base\n")).await;
        assert_eq!(code, expected, "{base}: {text}");
    }
}

#[tokio::test]
async fn a_base_image_that_is_not_there_or_not_allowed_is_named() {
    let _together = together().await;
    let open = Registry::start(None).await;
    let base = format!("{}/team/base:1", open.host);
    let (code, text) = failure_of(&format!("FROM {base}\nRUN x\n")).await;
    assert_eq!(code, Code::DockerfileBaseImage, "{text}");
    assert!(text.contains(&base), "{text}");
    let (code, text) = failure_of(&format!("# syntax={base}\nFROM busybox:base\n")).await;
    assert_eq!(code, Code::DockerfileFrontend, "{text}");

    let closed = Registry::start(Some(("reader", "only-for-reading"))).await;
    let base = format!("{}/team/base:1", closed.host);
    let (code, text) = failure_of(&format!("FROM {base}\nRUN x\n")).await;
    assert_eq!(code, Code::DockerfileBaseImage, "{text}");
    assert!(text.contains("PULL_REGISTRIES"), "{text}");
}

#[tokio::test]
async fn a_private_base_image_is_pulled_with_the_operators_credentials() {
    let _together = together().await;
    let registry = Registry::start(Some(("reader", "only-for-reading"))).await;
    let base = registry.push("busybox:base", "team/private:1");
    let host = Host::pulling_from(&registry.host, "reader", "only-for-reading").await;
    let text = format!("FROM {base}\nRUN echo pulled > /made\n");
    let (image, _) = built(&host, "svc-private", dockerfile(&text)).await;
    assert_eq!(run_in(&image, "cat /made"), "pulled\n");
    host.stage.remove(&image).await;
}

#[tokio::test]
async fn a_secret_that_the_job_lacks_is_named() {
    let _together = together().await;
    let (code, text) =
        failure_of("FROM busybox:base\nRUN --mount=type=secret,id=NPM_TOKEN,required=true cat /run/secrets/NPM_TOKEN\n").await;
    assert_eq!(code, Code::DockerfileSecretMissing, "{text}");
    assert!(text.contains("\"NPM_TOKEN\""), "{text}");
}

#[tokio::test]
async fn a_step_that_wants_the_hosts_network_is_refused() {
    let _together = together().await;
    let (code, text) = failure_of("FROM busybox:base\nRUN --network=host true\n").await;
    assert!(matches!(code, Code::DockerfileBuild | Code::DockerfileSyntax), "{text}");
}

#[tokio::test]
async fn an_image_without_a_shell_says_that_its_run_cannot_start() {
    let _together = together().await;
    let (code, text) = failure_of("FROM scratch\nRUN true\n").await;
    assert!(matches!(code, Code::DockerfileStepFailed | Code::DockerfileBuild), "{text}");
    assert!(text.contains("RUN true"), "{text}");
}

#[tokio::test]
async fn a_missing_engine_socket_is_said_with_its_cure() {
    let config = slipway::config::BuildConfig { engine_socket: "/nowhere/docker.sock".into(), ..config() };
    let failure = slipway::image::connect_engine(&config).await.expect_err("no Engine there");
    assert_eq!(failure.code, Code::EngineUnreachable);
    assert!(failure.cause.contains("/nowhere/docker.sock") && failure.way_out.contains("DOCKER_HOST"), "{failure}");

    let folder = tempfile::tempdir().expect("a folder");
    let stale = folder.path().join("docker.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("a socket file"));
    let failure = slipway::image::connect_engine(&slipway::config::BuildConfig { engine_socket: stale, ..config })
        .await
        .expect_err("nobody listens");
    assert!(failure.cause.starts_with("Nothing listens"), "{failure}");
}

#[tokio::test]
async fn an_engine_that_goes_away_in_the_middle_is_lost_and_the_build_may_be_tried_again() {
    let _together = together().await;
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("docker.sock");
    let engine = Proxy::before(config().engine_socket, &socket);
    let host = Host::with(slipway::config::BuildConfig { engine_socket: socket, ..config() }).await;
    let attempt = Attempt::new("svc-lost", &unique("dpl"));
    let endless = dockerfile(&format!("FROM busybox:base\nRUN echo begun-$((40+2)); sleep 3600; : {}\n", unique("lost")));
    let cut = async {
        attempt.log.wait_for(" begun-42").await;
        drop(engine);
    };
    let (result, ()) = tokio::join!(attempt.build(&host, endless), cut);
    let failure = result.expect_err("no Engine, no image");
    assert_eq!(failure.code, Code::EngineLost, "{failure}");
    assert!(failure.is_retryable());

    let (failure, _) = failed(&host, dockerfile("FROM busybox:base\n")).await;
    assert_eq!(failure.code, Code::EngineUnreachable, "{failure}");
}
