//! What a user gets from ECR: its API by moto, its registry by the rig's (which takes moto's token).

use aws_sdk_ecr::Client;
use aws_sdk_ecr::config::{BehaviorVersion, Credentials, Region};
use slipway::config::{AwsKeys, EcrConfig, RegistryConfig};
use slipway::protocol::{Code, RegistryType};
use slipway::registry::RegistryStage;
use slipway::secrets::{FetchedSecrets, Redactor};

use crate::faults::{Fault, FaultyHttp};
use crate::rig::{self, Attempt, digest_in_registry, is_pushed, registry_host};

const PREDECESSORS: &str = r#"{"rules":[{"rulePriority":1,"description":"Keep only the latest image","selection":{"tagStatus":"any","countType":"imageCountMoreThan","countNumber":1},"action":{"type":"expire"}}]}"#;
const FOREIGN: &str = r#"{"rules":[{"rulePriority":1,"description":"a month","selection":{"tagStatus":"any","countType":"sinceImagePushed","countUnit":"days","countNumber":30},"action":{"type":"expire"}}]}"#;

fn moto() -> String {
    rig::address("SLIPWAY_TEST_MOTO")
}
fn config(endpoint: &str) -> EcrConfig {
    EcrConfig {
        region: "us-east-1".into(),
        keys: Some(AwsKeys {
            access_key_id: "AKIATESTTESTTESTTEST".to_owned().into(),
            secret_access_key: "a-secret-that-moto-does-not-check".to_owned().into(),
            session_token: None,
        }),
        endpoint_url: Some(endpoint.parse().unwrap()),
        repository_prefix: "deployra/".into(),
        keep_images: 10,
        registry_host: Some(registry_host()),
    }
}
async fn stage(config: EcrConfig) -> RegistryStage {
    stage_that_tells(config, &FetchedSecrets::default()).await
}
async fn stage_that_tells(config: EcrConfig, fetched: &FetchedSecrets) -> RegistryStage {
    RegistryStage::new(RegistryConfig::Ecr(config), rig::engine().await, slipway::registry::STALL_TIMEOUT, fetched)
}

/// ECR, asked past Slipway.
fn api() -> Client {
    let config = aws_sdk_ecr::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKIATESTTESTTESTTEST", "x", None, None, "test"))
        .endpoint_url(moto())
        .build();
    Client::from_conf(config)
}
async fn policy_of(repository: &str) -> Option<serde_json::Value> {
    let answer = api().get_lifecycle_policy().repository_name(repository).send().await.ok()?;
    Some(serde_json::from_str(answer.lifecycle_policy_text().unwrap()).unwrap())
}
async fn repository_with_policy(repository: &str, policy: &str) {
    api().create_repository().repository_name(repository).send().await.unwrap();
    api().put_lifecycle_policy().repository_name(repository).lifecycle_policy_text(policy).send().await.unwrap();
}

#[tokio::test]
async fn the_first_push_of_a_service_makes_its_repository_with_a_policy_that_keeps_ten_images() {
    let attempt = Attempt::of(&rig::unique("svc"));
    let stage = stage(config(&moto())).await;
    let pushed = stage.push(&attempt.image(1000).await, &attempt.ctx).await.unwrap();

    let repository = format!("deployra/{}", attempt.ctx.service);
    assert_eq!(pushed.reference.repository(), format!("{}/{repository}", registry_host()));
    assert_eq!(pushed.registry, RegistryType::Ecr);
    assert!(is_pushed(&pushed).await);
    assert_eq!(policy_of(&repository).await.unwrap()["rules"][0]["selection"]["countNumber"], 10);
    stage.move_latest(&pushed, &attempt.ctx, &rig::allowed).await.unwrap();
    assert_eq!(digest_in_registry(&repository, "latest").await.as_deref(), Some(pushed.reference.digest()));
    assert!(!attempt.log().contains("Warning"), "{}", attempt.log());
}

#[tokio::test]
async fn two_jobs_of_a_new_service_at_once_both_get_their_image_pushed() {
    let service = rig::unique("svc");
    let (one, two) = (Attempt::of(&service), Attempt::of(&service));
    let (first, second) = (stage(config(&moto())).await, stage(config(&moto())).await);
    let (image_one, image_two) = (one.image(1000).await, two.image(1000).await);
    let (a, b) = tokio::join!(first.push(&image_one, &one.ctx), second.push(&image_two, &two.ctx));
    assert!(is_pushed(&a.unwrap()).await && is_pushed(&b.unwrap()).await);
}

#[tokio::test]
async fn the_predecessors_policy_that_keeps_one_image_is_replaced() {
    let attempt = Attempt::new();
    let repository = format!("deployra/{}", attempt.ctx.service);
    repository_with_policy(&repository, PREDECESSORS).await;
    stage(config(&moto())).await.push(&attempt.image(1000).await, &attempt.ctx).await.unwrap();
    assert_eq!(policy_of(&repository).await.unwrap()["rules"][0]["selection"]["countNumber"], 10);
}

#[tokio::test]
async fn our_policy_follows_the_configured_number() {
    let service = rig::unique("svc");
    for keep_images in [10, 25] {
        let attempt = Attempt::of(&service);
        let stage = stage(EcrConfig { keep_images, ..config(&moto()) }).await;
        stage.push(&attempt.image(1000).await, &attempt.ctx).await.unwrap();
        let policy = policy_of(&format!("deployra/{service}")).await.unwrap();
        assert_eq!(policy["rules"][0]["selection"]["countNumber"], keep_images);
    }
}

#[tokio::test]
async fn a_policy_of_somebody_else_is_left_alone() {
    let attempt = Attempt::new();
    let repository = format!("deployra/{}", attempt.ctx.service);
    repository_with_policy(&repository, FOREIGN).await;
    stage(config(&moto())).await.push(&attempt.image(1000).await, &attempt.ctx).await.unwrap();
    assert_eq!(policy_of(&repository).await.unwrap(), serde_json::from_str::<serde_json::Value>(FOREIGN).unwrap());
}

#[tokio::test]
async fn a_missing_right_to_the_policy_is_a_warning_and_the_image_is_pushed() {
    let api = FaultyHttp::before(moto().trim_start_matches("http://"), Fault::Deny("LifecyclePolicy")).await;
    let attempt = Attempt::new();
    let pushed =
        stage(config(&format!("http://{}", api.address))).await.push(&attempt.image(1000).await, &attempt.ctx).await.unwrap();
    assert!(is_pushed(&pushed).await);
    assert!(attempt.log().contains("Warning AWS denies ecr:GetLifecyclePolicy"), "{}", attempt.log());
}

#[tokio::test]
async fn a_missing_right_to_make_the_repository_names_the_action() {
    let api = FaultyHttp::before(moto().trim_start_matches("http://"), Fault::Deny("CreateRepository")).await;
    let attempt = Attempt::new();
    let image = attempt.image(1000).await;
    let failure = stage(config(&format!("http://{}", api.address))).await.push(&image, &attempt.ctx).await.unwrap_err();
    assert_eq!(failure.code, Code::RegistryEcr);
    assert!(failure.way_out.contains("ecr:CreateRepository"), "{failure}");
    let engine = rig::engine().await;
    engine.remove_image(&image.id, None::<bollard::query_parameters::RemoveImageOptions>, None).await.unwrap();
}

#[tokio::test]
async fn a_token_that_was_taken_back_is_renewed_once_and_the_push_goes_on() {
    let api = FaultyHttp::before(moto().trim_start_matches("http://"), Fault::FirstToken("a-token-of-yesterday")).await;
    let attempt = Attempt::new();
    let pushed =
        stage(config(&format!("http://{}", api.address))).await.push(&attempt.image(1000).await, &attempt.ctx).await.unwrap();
    assert!(is_pushed(&pushed).await);
    assert_eq!(api.tokens(), 2);
    assert_eq!(attempt.names_left().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_token_is_asked_for_once_for_many_pushes_though_its_expiry_lies_in_2015() {
    let api = FaultyHttp::before(moto().trim_start_matches("http://"), Fault::None).await;
    let stage = stage(config(&format!("http://{}", api.address))).await;
    for _ in 0..3 {
        let attempt = Attempt::new();
        stage.push(&attempt.image(1000).await, &attempt.ctx).await.unwrap();
    }
    assert_eq!(api.tokens(), 1);
}

#[tokio::test]
async fn a_token_that_a_push_fetched_is_masked_from_then_on_by_a_redactor_that_was_there_before() {
    let fetched = FetchedSecrets::default();
    let redactor = Redactor::none().with_fetched(&fetched);
    let login = "AWS:123456789012-auth-token";
    let shown = format!("123456789012-auth-token {} {}", rig::base64(login), rig::base64(&rig::base64(login)));
    assert_eq!(redactor.redact(&shown), shown);
    let attempt = Attempt::new();
    stage_that_tells(config(&moto()), &fetched).await.push(&attempt.image(1000).await, &attempt.ctx).await.unwrap();
    assert_eq!(redactor.redact(&shown), "*** *** ***");
}

#[tokio::test]
async fn an_api_that_is_away_is_said_with_its_region_and_a_cure() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let failure = slipway::registry::check(RegistryConfig::Ecr(config(&away))).await.unwrap_err();
    assert_eq!(failure.code, Code::RegistryUnreachable);
    assert!(failure.cause.contains("us-east-1") && failure.cause.contains("cannot be reached"), "{failure}");
    assert!(failure.way_out.contains("AWS_ENDPOINT_URL"), "{failure}");
}
