//! The wall between services in one Engine.

use slipway::protocol::Code;

use crate::support::*;

fn takes_a_secret(nonce: &str) -> slipway::context::BuildContext {
    dockerfile(&format!("FROM busybox:base\nRUN --mount=type=secret,id=TOKEN : {nonce}; sleep 1; cp /run/secrets/TOKEN /token\n"))
}

#[tokio::test]
async fn one_dockerfile_in_two_services_takes_each_ones_own_secret() {
    let _together = together().await;
    let host = Host::new().await;
    let nonce = unique("after");
    let (first, _) = built(&host, "svc-a", with_secrets(takes_a_secret(&nonce), &[("TOKEN", "of-service-a")])).await;
    let (second, log) = built(&host, "svc-b", with_secrets(takes_a_secret(&nonce), &[("TOKEN", "of-service-b")])).await;
    assert_eq!(run_in(&first, "cat /token"), "of-service-a");
    assert_eq!(run_in(&second, "cat /token"), "of-service-b", "{}", log.text());
    // the same service again is warm, with a new value it is not
    let (third, log) = built(&host, "svc-a", with_secrets(takes_a_secret(&nonce), &[("TOKEN", "of-service-a")])).await;
    assert!(log.text().contains("CACHED"), "{}", log.text());
    let (fourth, _) = built(&host, "svc-a", with_secrets(takes_a_secret(&nonce), &[("TOKEN", "rotated")])).await;
    assert_eq!(run_in(&fourth, "cat /token"), "rotated");
    for image in [first, second, third, fourth] {
        host.stage.remove(&image).await;
    }
}

#[tokio::test]
async fn two_services_that_build_one_dockerfile_at_the_same_time_share_neither_step_nor_log() {
    let _together = together().await;
    let host = Host::new().await;
    let text = format!(
        "FROM busybox:base\nRUN --mount=type=secret,id=TOKEN : {}; sleep 1; cat /run/secrets/TOKEN; cp /run/secrets/TOKEN /token\n",
        unique("same")
    );
    let build =
        |service: &'static str, value: &'static str| built(&host, service, with_secrets(dockerfile(&text), &[("TOKEN", value)]));
    let ((a, log_a), (b, log_b)) = tokio::join!(build("svc-c", "of-service-c"), build("svc-d", "of-service-d"));
    assert_eq!((run_in(&a, "cat /token").as_str(), run_in(&b, "cat /token").as_str()), ("of-service-c", "of-service-d"));
    assert!(log_a.text().contains("of-service-c") && !log_a.text().contains("of-service-d"), "{}", log_a.text());
    assert!(log_b.text().contains("of-service-d") && !log_b.text().contains("of-service-c"), "{}", log_b.text());
    for image in [a, b] {
        host.stage.remove(&image).await;
    }
}

#[tokio::test]
async fn a_cache_mount_is_the_services_own_and_survives_a_changed_secret() {
    let _together = together().await;
    let host = Host::new().await;
    let id = unique("cache");
    let text = |n: u32| {
        format!("FROM busybox:base\nRUN --mount=type=cache,id={id},target=/c : {n}; ls /c > /seen; echo x > /c/mark-{n}\n")
    };
    let (first, _) = built(&host, "svc-e", with_secrets(dockerfile(&text(1)), &[("K", "one")])).await;
    let (other, _) = built(&host, "svc-f", with_secrets(dockerfile(&text(2)), &[("K", "one")])).await;
    let (again, _) = built(&host, "svc-e", with_secrets(dockerfile(&text(3)), &[("K", "two")])).await;
    assert_eq!(run_in(&first, "cat /seen"), "");
    assert_eq!(run_in(&other, "cat /seen"), "", "another service reads the cache mount");
    assert_eq!(run_in(&again, "cat /seen"), "mark-1\n");
    for image in [first, other, again] {
        host.stage.remove(&image).await;
    }
}

#[tokio::test]
async fn another_services_image_cannot_be_copied_from() {
    let _together = together().await;
    let host = Host::new().await;
    let text = format!("FROM busybox:base\nRUN echo {} > /private\n", unique("private"));
    let (private, _) = built(&host, "svc-g", dockerfile(&text)).await;
    let hex = private.id.trim_start_matches("sha256:");
    for name in [private.id.as_str(), hex, &hex[..12], "svc-g", "svc-g:latest"] {
        let copying = dockerfile(&format!("FROM busybox:base\nCOPY --from={name} /private /private\n"));
        let (failure, log) = failed(&host, copying).await;
        let expected =
            [Code::DockerfileSyntax, Code::DockerfileBaseImage, Code::BuildPullUnreachable, Code::DockerfileHostUnknown];
        assert!(expected.contains(&failure.code), "{name}: {failure}\n{}", log.text());
    }
    host.stage.remove(&private).await;
}
