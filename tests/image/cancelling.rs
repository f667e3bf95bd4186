//! A cancelled build is gone when its stage returns, wherever it was.

use std::time::{Duration, Instant};

use slipway::context::BuildContext;
use slipway::protocol::{Code, Failure};

use crate::registry::StallingRegistry;
use crate::support::*;

/// Builds, cancels once `reached` is over, and tells how long the stage took from there. Panics if anything is left.
async fn cancelled_after(host: &Host, context: BuildContext, reached: impl AsyncFnOnce(&Log)) -> (Failure, Duration) {
    let attempt = Attempt::new(&unique("svc"), &unique("dpl"));
    let cancel = async {
        reached(&attempt.log).await;
        attempt.ctx.cancel.cancel();
        Instant::now()
    };
    let (result, since) = tokio::join!(attempt.build(host, context), cancel);
    let took = since.elapsed();
    let failure = result.expect_err("a cancelled build gives no image");
    assert_eq!(left_of(&attempt.job.deployment), "", "{}", attempt.log.text());
    (failure, took)
}

fn processes_with(argument: &str) -> usize {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let lines = all.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(argument)).count()
}

#[tokio::test]
async fn in_a_run_step_its_processes_are_gone_within_a_second() {
    let _together = together().await;
    let host = Host::new().await;
    let mark = unique("running");
    let context = dockerfile(&format!("FROM busybox:base\nRUN echo begun; while :; do sleep 3600; done; : {mark}\n"));
    let (failure, took) = cancelled_after(&host, context, async |log| log.wait_for(" begun").await).await;
    assert_eq!(failure.code, Code::BuildCancelled);
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(processes_with(&mark), 0);
}

#[tokio::test]
async fn while_a_base_image_is_looked_up_or_downloaded() {
    let _together = together().await;
    let host = Host::new().await;
    for registry in [StallingRegistry::before_the_manifest().await, StallingRegistry::in_a_layer().await] {
        let context = dockerfile(&format!("FROM {}/team/base:1\nRUN true\n", registry.host));
        let (failure, took) = cancelled_after(&host, context, async |_| registry.stalls().await).await;
        assert_eq!(failure.code, Code::BuildCancelled);
        assert!(took < Duration::from_secs(1), "{took:?}");
        registry.is_left().await;
    }
}

#[tokio::test]
async fn while_the_context_is_on_its_way() {
    let _together = together().await;
    let host = Host::new().await;
    let large = vec![b'x'; 8 << 20];
    let names: Vec<String> = (0..24).map(|i| format!("large/{i}")).collect();
    for wait in [0, 20, 60, 120] {
        let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), large.as_slice())).collect();
        files.push(("Dockerfile", b"FROM scratch\nCOPY . /\n"));
        let pause = async |_: &Log| tokio::time::sleep(Duration::from_millis(wait)).await;
        let (failure, took) = cancelled_after(&host, context(&files), pause).await;
        assert_eq!(failure.code, Code::BuildCancelled);
        assert!(took < Duration::from_secs(1), "after {wait} ms: {took:?}");
    }
}

#[tokio::test]
async fn while_the_image_is_written_it_is_removed_again() {
    let _together = together().await;
    let host = Host::new().await;
    let text = format!("FROM busybox:base\nRUN : {}; dd if=/dev/urandom of=/large bs=1M count=200\n", unique("export"));
    let (failure, took) = cancelled_after(&host, dockerfile(&text), async |log| log.wait_for("exporting to image").await).await;
    assert_eq!(failure.code, Code::BuildCancelled);
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[tokio::test]
async fn before_it_began_nothing_begins() {
    let _together = together().await;
    let host = Host::new().await;
    let (failure, took) = cancelled_after(&host, dockerfile("FROM busybox:base\n"), async |_| {}).await;
    assert_eq!(failure.code, Code::BuildCancelled);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn at_any_moment_of_a_short_build_no_image_stays() {
    let _together = together().await;
    let host = Host::new().await;
    for wait in (0..400).step_by(16) {
        let attempt = Attempt::new("svc-moment", &unique("dpl"));
        let text = format!("FROM busybox:base\nCOPY a /a\nRUN : {}\n", unique("moment"));
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            attempt.ctx.cancel.cancel();
        };
        let files = context(&[("Dockerfile", text.as_bytes()), ("a", b"a")]);
        let (result, ()) = tokio::join!(attempt.build(&host, files), cancel);
        match result {
            Ok(image) => host.stage.remove(&image).await,
            Err(failure) => assert_eq!(failure.code, Code::BuildCancelled, "{}", attempt.log.text()),
        }
        assert_eq!(left_of(&attempt.job.deployment), "", "cancelled after {wait} ms\n{}", attempt.log.text());
    }
}
