//! `slipway check`: what a person learns before the first job.

use std::process::Stdio;

use crate::support::{OwnEngine, Rig, Trouble};

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
async fn an_engine_that_answers_and_can_run_no_step_is_wrong_until_it_is_repaired() {
    let mut engine = OwnEngine::start().await;
    let rig = Rig::without_worker(|options| options.engine(engine.socket())).await;
    engine.unplug().await;
    let (code, said) = check(&rig).await;
    assert_eq!(code, Some(69), "{said}");
    let wrong: Vec<&str> = said.lines().filter(|line| line.starts_with("wrong")).collect();
    assert_eq!(wrong, [format!("wrong  the Docker Engine at {}", engine.socket().display())], "{said}");
    assert!(said.contains("could not start RUN [\"/probe\"]") && said.contains("could not find bridge"), "the cause: {said}");
    assert!(said.contains("[engine.error] Restart the Engine"), "and the cure: {said}");
    engine.plug().await;
    let (code, said) = check(&rig).await;
    assert_eq!(code, Some(0), "{said}");
    engine.assert_as_at_first().await;
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
async fn redis_is_found_by_its_url_in_the_database_that_it_names_and_its_password_is_printed_nowhere() {
    let mut rig = Rig::without_worker(|options| options).await;
    let (address, password) = (rig.redis.address(), rig.redis.password.clone());
    let options = rig.host.options.clone().unset("REDIS_HOST").unset("REDIS_PORT").unset("REDIS_PASSWORD");
    rig.host.options = options.set("REDIS_URL", &format!("redis://:{password}@{address}/3"));
    let (code, said) = check(&rig).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("ok     Redis at {address}/3\n")), "{said}");
    let mut command = rig.host.command();
    let printed = command.args(["worker", "--print-config"]).stdout(Stdio::piped()).output().await.expect("run slipway worker");
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(printed.contains("redis.url = \"***\" # REDIS_URL, from environment"), "{printed}");
    let mut command = rig.host.command();
    let enqueued = command.args(["enqueue", "octo/app"]).status().await.expect("run slipway enqueue");
    assert!(enqueued.success(), "{}", rig.host.log());
    let mut connection = rig.redis.connection().await;
    let _: () = redis::cmd("SELECT").arg(3).query_async(&mut connection).await.expect("select the database");
    let queued: u64 = redis::cmd("LLEN").arg("builder-queue").query_async(&mut connection).await.expect("ask for the queue");
    assert_eq!(queued, 1, "the job lies in database 3");
    assert!(!(said + &printed + &rig.host.log()).contains(&password));
}

#[tokio::test]
async fn a_redis_host_with_a_port_ends_the_start_with_78_and_the_cure() {
    let rig = Rig::without_worker(|options| options.set("REDIS_HOST", "127.0.0.1:6380")).await;
    let mut command = rig.host.command();
    let status = command.arg("worker").status().await.expect("run slipway worker");
    assert_eq!(status.code(), Some(78), "{}", rig.host.log());
    assert!(rig.host.log().contains("has a port; write the host alone, and the port in REDIS_PORT"), "{}", rig.host.log());
}

#[tokio::test]
async fn a_registry_that_refuses_the_login_is_named_when_the_worker_starts() {
    let rig = Rig::with(|options| options.set("REGISTRY_PASSWORD", "not-the-password")).await;
    rig.wait_for_log("[registry.denied]", std::time::Duration::from_secs(20)).await;
    rig.finish().await;
}
