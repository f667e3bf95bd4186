//! A push that cannot succeed until somebody changes a setting: told at once, with the setting's name.

use axum::http::StatusCode;
use slipway::protocol::Code;

use crate::faults::{Fault, FaultyHttp};
use crate::rig::{self, Attempt, digest_in_registry, generic, is_pushed, registry_host, stage, unique};

/// What registries answer where the project, the owner or the name is none of theirs.
const NO_PLACE: &[(StatusCode, &str)] = &[
    (StatusCode::NOT_FOUND, r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#),
    (StatusCode::NOT_FOUND, r#"{"errors":[{"code":"NOT_FOUND","message":"project octo not found"}]}"#),
    (StatusCode::NOT_FOUND, "<html><body>Not Found</body></html>"),
    (StatusCode::BAD_REQUEST, r#"{"errors":[{"code":"NAME_INVALID","message":"invalid repository name"}]}"#),
    (StatusCode::FORBIDDEN, r#"{"errors":[{"code":"DENIED","message":"project not found"}]}"#),
];

#[tokio::test]
async fn a_prefix_that_the_registry_has_no_place_for_is_named_at_once_and_not_tried_again() {
    for (status, body) in NO_PLACE {
        let registry = FaultyHttp::before(&registry_host(), Fault::NoUploads(*status, body)).await;
        let attempt = Attempt::new();
        let image = attempt.image(1000).await;
        let stage = stage(generic(&registry.address.to_string())).await;
        let failure = stage.push(&image, &attempt.ctx).await.unwrap_err();
        assert_eq!(failure.code, Code::RegistrySettings, "{status} {body}: {failure}\n{}", attempt.log());
        assert!(failure.way_out.contains("REGISTRY_REPOSITORY_PREFIX"), "{failure}");
        assert_eq!(failure.within(191), failure.to_string(), "the cure is shown by the dashboard");
        // The Engine begins an upload anew five times, each time later; where the registry was asked for its reason that is not waited for.
        let refused = registry.refused_uploads();
        assert!((1..=4).contains(&refused), "{refused} uploads were tried: {status} {body}\n{}", attempt.log());
        stage.release(&image).await;
    }
}

#[tokio::test]
async fn a_right_that_is_missing_is_a_refusal_that_names_the_prefix_too() {
    let body = r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
    let registry = FaultyHttp::before(&registry_host(), Fault::NoUploads(StatusCode::FORBIDDEN, body)).await;
    let attempt = Attempt::new();
    let image = attempt.image(1000).await;
    let stage = stage(generic(&registry.address.to_string())).await;
    let failure = stage.push(&image, &attempt.ctx).await.unwrap_err();
    assert_eq!(failure.code, Code::RegistryDenied, "{failure}");
    assert!(failure.way_out.contains("REGISTRY_REPOSITORY_PREFIX"), "{failure}");
    stage.release(&image).await;
}

#[tokio::test]
async fn services_whose_ids_differ_in_case_have_a_repository_and_a_latest_each() {
    let stage = stage(generic(&registry_host())).await;
    let small = unique("svccase");
    let capital = small.replace("svccase", "SvcCase");
    let mut digests = Vec::new();
    for service in [&small, &capital] {
        let attempt = Attempt::of(service);
        let pushed = stage.push(&attempt.image(1000).await, &attempt.ctx).await.unwrap();
        stage.move_latest(&pushed, &attempt.ctx, &rig::allowed).await.unwrap();
        assert!(is_pushed(&pushed).await);
        digests.push(pushed.reference.digest().to_owned());
    }
    let latest = async |name: &str| digest_in_registry(&format!("octo/{name}"), "latest").await;
    assert_eq!(latest(&small).await.as_ref(), Some(&digests[0]), "a small id is its own name");
    assert_eq!(latest(&format!("{small}.9")).await.as_ref(), Some(&digests[1]));
}

#[tokio::test]
async fn a_registry_that_speaks_http_by_another_name_than_this_machines_is_named_with_the_setting() {
    // Not spelled as an address of this machine, so https is tried. That it is one is the resolver's knowledge.
    let Ok(name) = std::fs::read_to_string("/proc/sys/kernel/hostname") else { return };
    let port = registry_host().rsplit_once(':').expect("a port").1.to_owned();
    let lan_name = format!("{}:{port}", name.trim());
    let failure = rig::check(generic(&lan_name)).await.unwrap_err();
    assert_eq!(failure.code, Code::RegistrySettings, "{failure}");
    assert!(failure.way_out.contains("REGISTRY_INSECURE") && failure.way_out.contains("insecure-registries"), "{failure}");
    assert_eq!(failure.within(191), failure.to_string());
}
