//! The rig itself: that the parts refuse, break and record as the other tests rely on.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;

use crate::support::{
    Dashboard, Engine, Fault, Job, Proxy, RedisServer, Registry, Repository, Trouble, eventually, parts, unique,
};

const SOON: Duration = Duration::from_secs(10);

fn client() -> reqwest::Client {
    // A second installation of the same provider changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().timeout(SOON).build().expect("a client")
}

async fn info_refs(base: &str, repository: &str, login: Option<(&str, &str)>) -> (StatusCode, String) {
    let mut request = client().get(format!("{base}/{repository}.git/info/refs?service=git-upload-pack"));
    if let Some((username, password)) = login {
        request = request.basic_auth(username, Some(password));
    }
    let answer = request.send().await.expect("the git server answers");
    (answer.status(), answer.text().await.expect("its answer"))
}

#[tokio::test]
async fn a_private_repository_is_given_out_for_its_token_alone() {
    let private = Repository::private(&[("README", "hello")]);
    let login = &parts().git_login;
    let (status, body) = info_refs(&parts().git, &private.name, Some((&login.username, &login.password))).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains(&private.tip("main")), "the branch is advertised: {body}");
    for wrong in [None, Some((login.username.as_str(), "ghs_wrong")), Some(("somebody", login.password.as_str()))] {
        assert_eq!(info_refs(&parts().git, &private.name, wrong).await.0, StatusCode::UNAUTHORIZED, "{wrong:?}");
    }
}

#[tokio::test]
async fn a_public_repository_is_given_out_to_anybody_and_an_unknown_one_is_not() {
    let public = Repository::public(&[("README", "hello")]);
    assert_eq!(info_refs(&parts().git, &public.name, None).await.0, StatusCode::OK);
    assert_eq!(info_refs(&parts().git, "octo/nothing-here", None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn git_itself_can_clone_from_the_server() {
    let repository = Repository::public(&[("a/b.txt", "one\n")]);
    repository.commit_raw("main", &[("run.sh", "100755", b"#!/bin/sh\n"), ("link", "120000", b"a/b.txt")]);
    repository.tag("v1");
    let clone = tempfile::tempdir().expect("a temporary directory");
    let url = format!("{}/{}.git", parts().git, repository.name);
    let done =
        tokio::process::Command::new("git").args(["clone", "--quiet", "--branch", "v1", &url, "."]).current_dir(&clone).output();
    let done = done.await.expect("git runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(std::fs::read_to_string(clone.path().join("link")).expect("the link leads to the file"), "one\n");
}

#[tokio::test]
async fn what_the_engine_pushes_can_be_looked_at_in_the_registry_and_run_from_it() {
    let (engine, registry) = (Engine::new(), Registry::new());
    let repository = unique();
    let image = engine.push_base(&repository).await;
    assert_eq!(registry.tags(&repository).await, ["base"]);
    let digest = registry.digest(&image).await.expect("it is there");
    let by_digest = format!("{image}@{digest}");
    assert!(registry.files(&by_digest).await.contains(&"bin/sh".to_owned()));
    let passwd = registry.file(&by_digest, "etc/passwd").await.expect("a file of the layer");
    assert!(passwd.starts_with(b"root:"));
    assert_eq!(registry.config(&by_digest).await["config"]["Cmd"], json!(["/bin/sh"]));
    assert_eq!(engine.run(&by_digest).await, "");
    assert!(!engine.tags().await.iter().any(|name| name.contains(&repository)), "no name is left in the Engine");
    assert_eq!(registry.digest(&format!("{}/{repository}:other", parts().registry)).await, None);
}

#[tokio::test]
async fn the_registry_takes_nothing_without_its_password() {
    let answer = client().get(format!("http://{}/v2/", parts().registry)).send().await.expect("the registry answers");
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let moto = client().get(format!("http://{}/v2/", parts().registry)).basic_auth("AWS", Some("123456789012-auth-token"));
    assert_eq!(moto.send().await.expect("the registry answers").status(), StatusCode::OK, "the token that moto gives out works");
}

#[tokio::test]
async fn a_killed_redis_comes_back_with_its_jobs_and_an_emptied_one_without() {
    let mut redis = RedisServer::start().await;
    let _: u64 = redis.command(&["RPUSH", "builder-queue", "one"]).await;
    redis.kill();
    redis.restart().await;
    assert_eq!(redis.command::<Vec<String>>(&["LRANGE", "builder-queue", "0", "-1"]).await, ["one"]);
    assert!(redis.dump().await.contains("builder-queue (list): one"));
    redis.restart_empty().await;
    assert_eq!(redis.command::<u64>(&["LLEN", "builder-queue"]).await, 0);
}

#[tokio::test]
async fn a_frozen_redis_answers_when_it_is_thawed() {
    let redis = RedisServer::start().await;
    let mut connection = redis.connection().await;
    redis.freeze();
    let ping = redis::cmd("PING");
    let mut asked = std::pin::pin!(ping.query_async::<String>(&mut connection));
    let early = tokio::time::timeout(Duration::from_millis(200), asked.as_mut()).await;
    assert!(early.is_err(), "a frozen server says nothing");
    redis.thaw();
    assert_eq!(asked.await.expect("it answers"), "PONG");
}

async fn post(dashboard: &Dashboard, key: &str, path: &str, body: String) -> Result<StatusCode, reqwest::Error> {
    let request = client().post(format!("{}/webhooks/deployments/{path}", dashboard.url())).header("x-api-key", key);
    Ok(request.header("content-type", "application/json").body(body).send().await?.status())
}

#[tokio::test]
async fn the_dashboard_answers_as_the_existing_one_was_measured() {
    let dashboard = Dashboard::start().await;
    let key = dashboard.key.clone();
    let log = |text: &str, kind: &str| json!({"text": text, "type": kind}).to_string();
    let at_most = "é".repeat(32_767) + "x";
    for (key, path, body, answer) in [
        (key.as_str(), "a/logs", log("hello\nworld", "STDOUT"), 200),
        ("wrong", "a/logs", log("hello", "STDOUT"), 401),
        (&key, "a/logs", log("", "STDOUT"), 400),
        (&key, "a/logs", log("hello", "stdout"), 500),
        (&key, "a/logs", log(&at_most, "INFO"), 200),
        (&key, "a/logs", log(&(at_most.clone() + "x"), "INFO"), 500),
        (&key, "a/logs", log(&"x".repeat(4 * 1024 * 1024), "INFO"), 413),
        (&key, "a/status", json!({"status": "BUILDING"}).to_string(), 200),
        (&key, "a/status", json!({"status": "BUILT"}).to_string(), 500),
    ] {
        let seen = post(&dashboard, key, path, body).await.expect("an answer");
        assert_eq!(seen.as_u16(), answer, "{path}");
    }
    assert_eq!(dashboard.statuses("a"), ["BUILDING"]);
    assert_eq!(dashboard.lines("a")[..2], [("STDOUT".into(), "hello".into()), ("STDOUT".into(), "world".into())]);
}

#[tokio::test]
async fn the_dashboard_can_be_in_trouble_and_recover() {
    let dashboard = Dashboard::start().await;
    let key = dashboard.key.clone();
    let building = || json!({"status": "BUILDING"}).to_string();
    dashboard.set(Trouble::Refuse);
    eventually("connections are refused", SOON, async || match post(&dashboard, &key, "a/status", building()).await {
        Err(e) if e.is_connect() => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    dashboard.set(Trouble::Answer(503));
    eventually("it listens again", SOON, async || match post(&dashboard, &key, "a/status", building()).await {
        Ok(status) if status == StatusCode::SERVICE_UNAVAILABLE => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    dashboard.set(Trouble::None);
    dashboard.fail("a");
    dashboard.forget("b");
    for (id, answer) in [("a", 500), ("b", 404), ("c", 200)] {
        assert_eq!(post(&dashboard, &key, &format!("{id}/status"), building()).await.expect("an answer").as_u16(), answer);
    }
    dashboard.wait_for_status("c", &["BUILDING"], SOON).await;
    assert_eq!(dashboard.posts().last().expect("posts").answer, 200);
}

#[tokio::test]
async fn the_proxy_cuts_stalls_slows_and_lets_pass_again() {
    let repository = Repository::public(&[("README", "hello")]);
    let proxy = Proxy::tcp(&parts().git).await;
    let ask = async || {
        let client = reqwest::Client::builder().timeout(Duration::from_millis(500)).build().expect("a client");
        client.get(format!("{}/{}.git/info/refs?service=git-upload-pack", proxy.url(), repository.name)).send().await
    };
    let _ = client();
    assert_eq!(ask().await.expect("it passes").status(), StatusCode::OK);
    proxy.set(Fault::Stall);
    assert!(ask().await.expect_err("nothing passes").is_timeout());
    proxy.set(Fault::Answer503);
    assert_eq!(ask().await.expect("an answer").status(), StatusCode::SERVICE_UNAVAILABLE);
    proxy.set(Fault::Cut);
    assert!(!ask().await.expect_err("cut off").is_timeout());
    proxy.set(Fault::Delay(Duration::from_millis(100)));
    let began = Instant::now();
    assert_eq!(ask().await.expect("it passes, late").status(), StatusCode::OK);
    assert!(began.elapsed() >= Duration::from_millis(200), "request and answer are held up");
    proxy.set(Fault::Trickle { bytes: 1, pause: Duration::from_millis(20) });
    assert!(ask().await.is_err(), "byte by byte it takes too long");
    proxy.set(Fault::Pass);
    assert_eq!(ask().await.expect("it passes again").status(), StatusCode::OK);
}

#[tokio::test]
async fn the_proxy_stands_before_the_engine_too() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let proxy = Proxy::unix(&parts().engine_socket, dir.path().join("engine.sock"));
    let ping = async || {
        let mut command = tokio::process::Command::new(&parts().docker);
        command.arg("--host").arg(format!("unix://{}", proxy.socket().display())).args([
            "version",
            "--format",
            "{{.Server.Version}}",
        ]);
        command.output().await.expect("the client runs").status.success()
    };
    assert!(ping().await, "it passes");
    proxy.set(Fault::Refuse);
    assert!(!ping().await, "nobody listens");
    proxy.set(Fault::Pass);
    eventually("it passes again", SOON, async || if ping().await { Ok(()) } else { Err("refused".into()) }).await;
}

#[tokio::test]
async fn a_job_has_the_shape_of_the_contract() {
    let repository = Repository::private(&[("README", "hello")]);
    let job = Job::of_github(&repository).dockerfile("docker/Dockerfile").env("FOO", "bar").commit("");
    let json: serde_json::Value = serde_json::from_str(&job.payload()).expect("JSON");
    assert_eq!(json["deploymentId"], json!(job.id));
    assert_eq!(json["gitProvider"]["githubAccount"]["accessToken"], json!(parts().git_login.password));
    assert_eq!(json["environmentVariables"], json!([{"key": "FOO", "value": "bar"}]));
    assert!(job.id.len() == 20 && job.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
}
