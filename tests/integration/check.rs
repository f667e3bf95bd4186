//! `slipway check`: what a person learns before the first job.

use std::process::Stdio;

use crate::support::{Rig, Trouble};

/// The exit code, and what stands on standard output.
async fn check(rig: &Rig) -> (Option<i32>, String) {
    let mut command = rig.host.command();
    let output = command.arg("check").stdout(Stdio::piped()).output().await.expect("run slipway check");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn a_host_where_every_part_is_there_is_told_so_also_beside_a_worker() {
    let rig = Rig::start().await;
    let (code, said) = check(&rig).await;
    assert_eq!(code, Some(0), "{said}");
    let parts: Vec<&str> = said.lines().filter(|line| !line.starts_with(' ')).collect();
    let expected =
        ["WORK_DIR /", "Redis at 127.0.0.1:", "the Docker Engine at /", "the registry 127.0.0.1:", "the dashboard at http://127"];
    assert_eq!(parts.len(), expected.len(), "{said}");
    for (part, expected) in parts.iter().zip(expected) {
        assert!(part.starts_with(&format!("ok     {expected}")), "{said}");
    }
    assert!(said.contains("iptables -I DOCKER-USER -d 169.254.0.0/16"), "what RUN steps reach is said, with the rule: {said}");
    assert!(!said.contains("BUILDKIT_STEP_LOG_MAX_SIZE"), "this Engine cuts no output: {said}");
    rig.finish().await;
}

#[tokio::test]
async fn each_part_that_is_wrong_is_named_with_address_cause_and_cure() {
    let mut rig = Rig::without_worker(|options| options.set("REGISTRY_PASSWORD", "not-the-password")).await;
    rig.dashboard.set(Trouble::Answer(401));
    rig.redis.kill();
    let (code, said) = check(&rig).await;
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("ok     the Docker Engine"), "{said}");
    for wrong in [
        format!("wrong  Redis at {}\n", rig.redis.address()),
        "Check REDIS_HOST and REDIS_PORT".to_owned(),
        "wrong  the registry 127.0.0.1:".to_owned(),
        "[registry.denied]".to_owned(),
        "wrong  the dashboard at ".to_owned(),
        "API_KEY".to_owned(),
    ] {
        assert!(said.contains(&wrong), "{wrong:?} in:\n{said}");
    }
    assert!(!said.contains("not-the-password"), "{said}");
}

#[tokio::test]
async fn a_work_dir_that_cannot_be_used_is_blamed_on_no_other_part() {
    let rig = Rig::without_worker(|options| options).await;
    let mut command = rig.host.command();
    let file = rig.host.current_dir().join("file");
    std::fs::write(&file, "no folder").expect("write a file");
    let output =
        command.arg("check").env("WORK_DIR", file.join("work")).stdout(Stdio::piped()).output().await.expect("run slipway check");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(69), "{said}");
    let wrong: Vec<&str> = said.lines().filter(|line| line.starts_with("wrong")).collect();
    assert_eq!(wrong, [format!("wrong  WORK_DIR {}", file.join("work").display())], "{said}");
    assert!(said.contains("or set WORK_DIR"), "the cure is said: {said}");
}

#[tokio::test]
async fn a_registry_that_refuses_the_login_is_named_when_the_worker_starts() {
    let rig = Rig::with(|options| options.set("REGISTRY_PASSWORD", "not-the-password")).await;
    rig.wait_for_log("[registry.denied]", std::time::Duration::from_secs(20)).await;
    rig.finish().await;
}
