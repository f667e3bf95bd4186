//! A job pushed to Redis becomes an image in the registry, and the dashboard sees all of it.

use std::time::Duration;

use serde_json::json;

use crate::support::{Job, Repository, Rig, lifecycle_policy, parts};

const HELLO: &[(&str, &str)] =
    &[("Dockerfile", "FROM busybox:base\nCOPY hello.txt /\nCMD [\"cat\", \"/hello.txt\"]\n"), ("hello.txt", "ahoy\n")];

#[tokio::test]
async fn a_pushed_job_becomes_an_image_that_runs_from_the_registry() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(HELLO);
    let job = Job::of(&repository);
    rig.push(&job).await;
    let end = rig.built(&job).await;
    assert_eq!(rig.engine.run(&end.image).await, "ahoy\n");
    assert_eq!(rig.dashboard.statuses(&job.id), ["BUILDING", "BUILDED"]);
    rig.finish().await;
}

#[tokio::test]
async fn the_reported_reference_is_immutable_and_latest_points_to_the_same_image() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(HELLO);
    let job = Job::of(&repository);
    rig.push(&job).await;
    let end = rig.built(&job).await;
    let (tagged, digest) = end.image.split_once('@').expect("a digest");
    assert_eq!(tagged, format!("{}/{}:{}-1", parts().registry, job.service, job.id));
    assert_eq!(end.registry, "docker");
    assert_eq!(rig.registry.digest(tagged).await.as_deref(), Some(digest));
    let latest = format!("{}/{}:latest", parts().registry, job.service);
    assert_eq!(rig.registry.digest(&latest).await.as_deref(), Some(digest));
    rig.finish().await;
}

#[tokio::test]
async fn every_line_of_a_chatty_build_arrives_once_in_order_and_in_few_posts() {
    const LINES: usize = 20_000;
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", &format!("FROM busybox:base\nRUN seq 1 {LINES} | sed 's/^/line /'\n"))]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.built(&job).await;
    let numbers: Vec<usize> = rig
        .dashboard
        .lines(&job.id)
        .iter()
        .filter_map(|(_, line)| line.rsplit_once("line ").and_then(|(_, number)| number.trim().parse().ok()))
        .collect();
    assert_eq!(numbers, (1..=LINES).collect::<Vec<_>>());
    let posts = rig.dashboard.posts().len();
    assert!(posts <= LINES / 50, "{posts} posts for {LINES} lines");
    rig.finish().await;
}

#[tokio::test]
async fn lines_are_seen_while_the_build_still_runs() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN echo early; sleep 600\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "early", Duration::from_secs(30)).await;
    assert_eq!(rig.dashboard.statuses(&job.id), ["BUILDING"]);
    rig.cancel(&job).await;
    rig.cancelled(&job).await;
    rig.finish().await;
}

#[tokio::test]
async fn the_contracts_job_builds_to_ecr_where_repository_and_policy_are_made() {
    let mut rig = Rig::with(|options| options.ecr()).await;
    let repository =
        Repository::private(&[("docker/Dockerfile", "FROM busybox:base\nCOPY .env /env\nCMD [\"cat\", \"/env\"]\n")]);
    let job = Job::of_github(&repository).dockerfile("docker/Dockerfile").env("FOO", "bar");
    rig.push(&job).await;
    let end = rig.built(&job).await;
    assert_eq!(end.registry, "ecr");
    let name = format!("deployra/{}", job.service);
    assert!(end.image.starts_with(&format!("{}/{name}:{}-1@sha256:", parts().registry, job.id)), "{}", end.image);
    assert_eq!(rig.engine.run(&end.image).await, "FOO=bar\n");
    let policy = lifecycle_policy(&name).await.expect("the repository has a lifecycle policy");
    assert_eq!(policy["rules"][0]["selection"]["countNumber"], json!(10));
    rig.finish().await;
}

#[tokio::test]
async fn a_second_job_of_a_service_reuses_the_first_ones_layers() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN date +%N > /made\nCOPY . /app\n")]);
    let first = Job::of(&repository);
    rig.push(&first).await;
    let first_end = rig.built(&first).await;
    rig.settle().await;
    repository.commit(&[("changed.txt", "new\n")]);
    let second = Job::of(&repository).service(&first.service);
    rig.push(&second).await;
    let second_end = rig.built(&second).await;
    assert_eq!(
        rig.registry.file(&first_end.image, "made").await.expect("the RUN's file"),
        rig.registry.file(&second_end.image, "made").await.expect("the RUN's file"),
        "the RUN step was not run again"
    );
    assert!(rig.registry.file(&second_end.image, "app/changed.txt").await.is_some());
    rig.finish().await;
}

#[tokio::test]
async fn jobs_are_taken_in_the_order_of_rpush_and_lpush_puts_one_in_front() {
    let mut rig = Rig::without_worker(|options| options.builds(1)).await;
    let repository = Repository::public(HELLO);
    let (first, second, urgent) = (Job::of(&repository), Job::of(&repository), Job::of(&repository));
    rig.push(&first).await;
    rig.push(&second).await;
    let _: u64 = rig.redis.command(&["LPUSH", "builder-queue", &urgent.payload()]).await;
    rig.start_worker();
    let mut ends = Vec::new();
    for job in [&first, &second, &urgent] {
        ends.push((rig.built(job).await.post.at, job.id.clone()));
    }
    ends.sort();
    let order: Vec<_> = ends.into_iter().map(|(_, id)| id).collect();
    assert_eq!(order, [urgent.id.clone(), first.id.clone(), second.id.clone()]);
    rig.finish().await;
}
