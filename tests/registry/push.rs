//! What a user gets from a push to a registry with a password.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use slipway::config::RegistryConfig;
use slipway::protocol::{Code, RegistryType};
use slipway::registry::{Latest, RegistryStage, STALL_TIMEOUT};
use slipway::secrets::FetchedSecrets;
use tokio::net::TcpListener;

use crate::faults::{CuttingEngine, Fault, FaultyHttp, StallingProxy};
use crate::rig::{self, Attempt, all_names, digest_in_registry, generic, is_in_engine, is_pushed, registry_host, stage, unique};

const MEGABYTE: usize = 1_000_000;

#[tokio::test]
async fn a_pushed_image_is_in_the_registry_under_its_digest_and_its_name_is_gone_from_the_engine() {
    let attempt = Attempt::new();
    let image = attempt.image(MEGABYTE).await;
    let pushed = stage(generic(&registry_host())).await.push(&image, &attempt.ctx).await.unwrap();

    assert_eq!(pushed.reference.repository(), format!("{}/octo/{}", registry_host(), attempt.ctx.service));
    assert_eq!(pushed.reference.tag(), attempt.tag());
    assert_eq!(pushed.registry, RegistryType::Docker);
    assert!(is_pushed(&pushed).await);
    assert_eq!(attempt.names_left().await, Vec::<String>::new());
    assert!(attempt.log().contains("1 layer pushed (1.0 MB) in "), "{}", attempt.log());
}

#[tokio::test]
async fn a_layer_that_the_registry_has_is_reused_and_no_other_repository_is_named() {
    let (first, second) = (Attempt::new(), Attempt::new());
    let image = first.image(MEGABYTE).await;
    let engine = rig::engine().await;
    let keep = bollard::query_parameters::TagImageOptionsBuilder::default().repo("keep").tag(&unique("t")).build();
    engine.tag_image(&image.id, Some(keep.clone())).await.unwrap();
    let stage = stage(generic(&registry_host())).await;
    stage.push(&image, &first.ctx).await.unwrap();
    stage.push(&image, &second.ctx).await.unwrap();

    assert!(second.log().contains("1 layer reused"), "{}", second.log());
    assert!(!second.log().contains(first.ctx.service.as_str()), "{}", second.log());
    let keep = format!("keep:{}", keep.tag.unwrap());
    assert!(all_names().await.contains(&keep), "a name that Slipway did not give stays");
    engine.remove_image(&keep, None::<bollard::query_parameters::RemoveImageOptions>, None).await.unwrap();
}

#[tokio::test]
async fn latest_is_not_moved_where_that_is_withheld_at_the_last_moment() {
    let service = unique("svc");
    let stage = stage(generic(&registry_host())).await;
    let (before, after) = (Attempt::of(&service), Attempt::of(&service));
    let pushed = stage.push(&before.image(1000).await, &before.ctx).await.unwrap();
    assert_eq!(stage.move_latest(&pushed, &before.ctx, &rig::allowed).await, Ok(Latest::Moved));
    let newer = stage.push(&after.image(1000).await, &after.ctx).await.unwrap();
    let asked = std::sync::atomic::AtomicU32::new(0);
    let withheld = || -> futures_util::future::BoxFuture<'_, bool> {
        asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Box::pin(std::future::ready(false))
    };
    assert_eq!(stage.move_latest(&newer, &after.ctx, &withheld).await, Ok(Latest::Withheld));
    assert_eq!(asked.into_inner(), 1, "asked for the PUT alone");
    assert_eq!(digest_in_registry(&format!("octo/{service}"), "latest").await.as_deref(), Some(pushed.reference.digest()));
}

#[tokio::test]
async fn latest_is_moved_to_the_pushed_digest() {
    let service = unique("svc");
    let stage = stage(generic(&registry_host())).await;
    for _ in 0..2 {
        let attempt = Attempt::of(&service);
        let pushed = stage.push(&attempt.image(1000).await, &attempt.ctx).await.unwrap();
        let path = format!("octo/{service}");
        assert_ne!(digest_in_registry(&path, "latest").await.as_deref(), Some(pushed.reference.digest()));
        stage.move_latest(&pushed, &attempt.ctx, &rig::allowed).await.unwrap();
        assert_eq!(digest_in_registry(&path, "latest").await.as_deref(), Some(pushed.reference.digest()));
    }
}

#[tokio::test]
async fn a_wrong_password_is_said_in_words_and_the_image_can_be_pushed_again() {
    let attempt = Attempt::new();
    let image = attempt.image(1000).await;
    let mut config = generic(&registry_host());
    config.password = Some("not-the-word".to_owned().into());
    let wrong = stage(config.clone()).await;
    let failure = wrong.push(&image, &attempt.ctx).await.unwrap_err();

    assert_eq!(failure.code, Code::RegistryDenied);
    assert!(failure.way_out.contains("password"), "{failure}");
    assert!(!failure.to_string().contains("not-the-word"), "{failure}");
    assert_eq!(attempt.names_left().await, Vec::<String>::new());
    assert_eq!(rig::check(config).await.unwrap_err().code, Code::RegistryDenied);

    let good = stage(generic(&registry_host())).await;
    assert!(is_pushed(&good.push(&image, &attempt.ctx).await.unwrap()).await, "the image outlived the failure");
    wrong.release(&image).await;
    assert!(!is_in_engine(&image).await, "nothing keeps the image once it was released");
}

#[tokio::test]
async fn no_password_at_all_is_a_refusal_in_words() {
    let attempt = Attempt::new();
    let image = attempt.image(1000).await;
    let mut config = generic(&registry_host());
    (config.username, config.password) = (None, None);
    let stage = stage(config).await;
    assert_eq!(stage.push(&image, &attempt.ctx).await.unwrap_err().code, Code::RegistryDenied);
    stage.release(&image).await;
}

#[tokio::test]
async fn a_registry_that_is_away_is_named_with_its_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = listener.local_addr().unwrap().to_string();
    drop(listener);
    let attempt = Attempt::new();
    let image = attempt.image(1000).await;
    let stage = stage(generic(&away)).await;
    let failure = stage.push(&image, &attempt.ctx).await.unwrap_err();

    assert_eq!(failure.code, Code::RegistryUnreachable);
    assert!(failure.cause.contains(&away) && failure.cause.contains("connection refused"), "{failure}");
    let failure = rig::check(generic(&away)).await.unwrap_err();
    assert_eq!(failure.code, Code::RegistryUnreachable);
    assert!(failure.cause.contains(&away), "{failure}");
    assert_eq!(attempt.names_left().await, Vec::<String>::new());
    stage.release(&image).await;
    assert!(!is_in_engine(&image).await);
}

#[tokio::test]
async fn a_registry_that_answers_is_good_for_work() {
    rig::check(generic(&registry_host())).await.unwrap();
}

/// A registry that takes 2 MiB, and a stage that waits a second for it to go on.
async fn behind_a_stall() -> (StallingProxy, RegistryStage) {
    let proxy = StallingProxy::before(registry_host(), 2 << 20).await;
    let config = RegistryConfig::Generic(generic(&proxy.address.to_string()));
    (proxy, RegistryStage::new(config, rig::engine().await, Duration::from_secs(1), &FetchedSecrets::default()))
}

#[tokio::test]
async fn a_registry_that_stalls_in_the_middle_of_a_push_ends_it_with_the_cure() {
    let (_proxy, stage) = behind_a_stall().await;
    let attempt = Attempt::new();
    let image = attempt.image(8 * MEGABYTE).await;
    let failure = stage.push(&image, &attempt.ctx).await.unwrap_err();

    assert_eq!(failure.code, Code::RegistryStalled, "{failure}");
    assert!(failure.way_out.contains("restart"), "{failure}");
    assert_eq!(attempt.names_left().await, Vec::<String>::new());
    stage.release(&image).await;
}

#[tokio::test]
async fn a_push_that_stalled_is_done_when_it_is_tried_again_and_the_registry_answers() {
    let (proxy, stage) = behind_a_stall().await;
    let attempt = Attempt::new();
    let image = attempt.image(8 * MEGABYTE).await;
    // The second one hangs on the connection of the first, which the Engine holds on to.
    for _ in 0..2 {
        assert_eq!(stage.push(&image, &attempt.ctx).await.unwrap_err().code, Code::RegistryStalled);
    }
    proxy.heal();
    let pushed = stage.push(&image, &attempt.ctx).await.unwrap();

    let there = digest_in_registry(&format!("octo/{}", attempt.ctx.service), &attempt.tag()).await;
    assert_eq!(there.as_deref(), Some(pushed.reference.digest()));
    stage.release(&image).await;
}

#[tokio::test]
async fn a_cancel_in_the_middle_of_a_push_ends_it_at_once_and_leaves_no_name() {
    let proxy = StallingProxy::before(registry_host(), 2 << 20).await;
    let attempt = Attempt::new();
    let image = attempt.image(8 * MEGABYTE).await;
    let stage = stage(generic(&proxy.address.to_string())).await;
    let cancelled_at = async {
        proxy.stalled.notified().await;
        attempt.ctx.cancel.cancel();
        Instant::now()
    };
    let (failure, cancelled_at) = tokio::join!(stage.push(&image, &attempt.ctx), cancelled_at);

    assert!(cancelled_at.elapsed() < Duration::from_millis(500), "took {:?}", cancelled_at.elapsed());
    assert_eq!(failure.unwrap_err().code, Code::BuildCancelled);
    assert_eq!(attempt.names_left().await, Vec::<String>::new());
    assert!(!is_in_engine(&image).await, "a cancelled push keeps no image");
    assert_eq!(digest_in_registry(&format!("octo/{}", attempt.ctx.service), &attempt.tag()).await, None);
}

#[tokio::test]
async fn a_cancel_at_any_moment_of_a_push_leaves_no_name() {
    let stage = stage(generic(&registry_host())).await;
    for milliseconds in (0..60).step_by(3) {
        let attempt = Attempt::new();
        let image = attempt.image(1000).await;
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            attempt.ctx.cancel.cancel();
        };
        let (pushed, ()) = tokio::join!(stage.push(&image, &attempt.ctx), cancel);
        assert!(pushed.is_ok() || pushed.is_err_and(|failure| failure.code == Code::BuildCancelled));
        assert_eq!(attempt.names_left().await, Vec::<String>::new(), "cancelled after {milliseconds} ms");
    }
}

#[tokio::test]
async fn an_image_that_the_registry_does_not_have_after_the_push_is_a_failure() {
    let proxy = FaultyHttp::before(&registry_host(), Fault::NoDigests(StatusCode::NOT_FOUND)).await;
    let attempt = Attempt::new();
    let image = attempt.image(1000).await;
    let stage = stage(generic(&proxy.address.to_string())).await;
    let failure = stage.push(&image, &attempt.ctx).await.unwrap_err();
    assert_eq!(failure.code, Code::RegistryDigest, "{failure}");
    assert_eq!(attempt.names_left().await, Vec::<String>::new());
    stage.release(&image).await;
}

#[tokio::test]
async fn a_registry_that_does_not_let_us_look_is_a_warning_and_the_engines_digest_counts() {
    let proxy = FaultyHttp::before(&registry_host(), Fault::NoDigests(StatusCode::FORBIDDEN)).await;
    let attempt = Attempt::new();
    let pushed = stage(generic(&proxy.address.to_string())).await.push(&attempt.image(1000).await, &attempt.ctx).await.unwrap();
    assert!(is_pushed(&pushed).await);
    assert!(attempt.log().contains("Warning The registry could not be asked"), "{}", attempt.log());
}

#[tokio::test]
async fn a_job_that_was_cancelled_before_its_push_pushes_nothing() {
    let attempt = Attempt::new();
    let image = attempt.image(1000).await;
    attempt.ctx.cancel.cancel();
    let stage = stage(generic(&registry_host())).await;
    assert_eq!(stage.push(&image, &attempt.ctx).await.unwrap_err().code, Code::BuildCancelled);
    assert_eq!(attempt.names_left().await, Vec::<String>::new());
    assert_eq!(digest_in_registry(&format!("octo/{}", attempt.ctx.service), &attempt.tag()).await, None);
    let engine = rig::engine().await;
    engine.remove_image(&image.id, None::<bollard::query_parameters::RemoveImageOptions>, None).await.unwrap();
}

#[tokio::test]
async fn an_engine_that_went_away_is_said_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    drop(tokio::net::UnixListener::bind(&socket).unwrap());
    let engine = bollard::Docker::connect_with_unix(socket.to_str().unwrap(), 120, bollard::API_DEFAULT_VERSION).unwrap();
    let stage =
        RegistryStage::new(RegistryConfig::Generic(generic(&registry_host())), engine, STALL_TIMEOUT, &FetchedSecrets::default());
    let image = slipway::image::BuiltImage { id: format!("sha256:{}", "5".repeat(64)) };
    let failure = stage.push(&image, &Attempt::new().ctx).await.unwrap_err();
    assert_eq!(failure.code, Code::EngineUnreachable, "{failure}");
    assert!(failure.way_out.contains("DOCKER_HOST"), "{failure}");
}

#[tokio::test]
async fn whichever_answer_of_the_engine_is_lost_the_push_can_be_tried_again_and_nothing_of_it_stays() {
    for nth in 1.. {
        let cutting = CuttingEngine::before(&rig::address("SLIPWAY_TEST_DOCKER_HOST"), nth);
        let socket = cutting.socket.to_str().unwrap();
        let engine = bollard::Docker::connect_with_unix(socket, 120, bollard::API_DEFAULT_VERSION).unwrap();
        let stage = RegistryStage::new(
            RegistryConfig::Generic(generic(&registry_host())),
            engine,
            STALL_TIMEOUT,
            &FetchedSecrets::default(),
        );
        let attempt = Attempt::new();
        let image = attempt.image(1000).await;
        let mut pushed = stage.push(&image, &attempt.ctx).await;
        if let Err(failure) = &pushed {
            assert!(
                matches!(failure.code, Code::EngineLost | Code::EngineUnreachable),
                "the answer to request {nth} is lost: {failure}"
            );
            pushed = stage.push(&image, &attempt.ctx).await;
        }
        let pushed = pushed.unwrap_or_else(|failure| panic!("the answer to request {nth} was lost: {failure}"));
        assert!(is_pushed(&pushed).await);
        let cut = nth <= cutting.requests.load(std::sync::atomic::Ordering::Relaxed);
        if !cut {
            assert!(nth > 4, "a push has more requests than {nth}");
            assert!(!is_in_engine(&image).await);
            return;
        }
    }
}

#[tokio::test]
async fn an_image_that_vanished_from_the_engine_is_said_in_words() {
    let attempt = Attempt::new();
    let image = slipway::image::BuiltImage { id: format!("sha256:{}", "5".repeat(64)) };
    let failure = stage(generic(&registry_host())).await.push(&image, &attempt.ctx).await.unwrap_err();
    assert_eq!(failure.code, Code::EngineError);
    assert!(failure.cause.contains("no longer in the Engine"), "{failure}");
}

#[tokio::test]
async fn the_redactor_learns_the_password_and_its_joined_form() {
    use slipway::secrets::ExposeSecret;
    let secrets = stage(generic(&registry_host())).await.secrets();
    let password = rig::address("SLIPWAY_TEST_REGISTRY_PASSWORD");
    let joined = format!("{}:{password}", rig::address("SLIPWAY_TEST_REGISTRY_USER"));
    for known in [&password, &joined] {
        assert!(secrets.iter().any(|secret| secret.expose_secret() == known));
    }
}
