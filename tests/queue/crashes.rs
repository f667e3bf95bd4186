//! What counts as a crash of a job's worker: only a process that is gone.

use std::time::Duration;

use slipway::queue::ClaimFate;

use crate::proxy::{Link, Proxy};
use crate::rig::*;

/// What Redis has counted against elements, without the marks.
async fn counted(redis: &Redis) -> Vec<String> {
    let counts: Vec<String> = redis.cmd(&["HVALS", "{q}:crashes"]).await;
    counts.into_iter().map(|count| count.split(' ').next().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn a_worker_that_was_only_cut_off_takes_its_crash_back_and_leaves_those_of_the_dead() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.port).await;
    let (dead, cut_off, heir) = (redis.worker().await, redis.worker_behind(&proxy).await, redis.worker().await);
    redis.push(&job("d1", "s1")).await;
    dead.claim().await;
    let lease = dead.lease();
    dead.die().await;
    redis.end_lease(&lease).await;
    let second = within(60, cut_off.queue.claim()).await;
    assert_eq!((name(&second), second.attempt), ("d1", 2));
    assert_eq!(counted(&redis).await, ["1"], "one process is gone");

    proxy.set(Link::Cut);
    let third = within(60, heir.queue.claim()).await;
    assert_eq!((name(&third), third.attempt, &third.fate), ("d1", 3, &ClaimFate::BuildAlone));
    assert_eq!(counted(&redis).await, ["2"], "as far as anybody can tell");
    proxy.set(Link::Whole);
    until(30, "the process that lives takes its count back", async || counted(&redis).await == ["1"]).await;
    heir.queue.acknowledge(&third).await.unwrap();
    assert_eq!(counted(&redis).await, [""; 0], "what ended is counted no more");
}

#[tokio::test]
async fn the_third_host_that_dies_for_good_with_a_job_gives_it_up() {
    let redis = Redis::start().await;
    let workers = [redis.worker().await, redis.worker().await, redis.worker().await];
    let last = redis.worker().await;
    redis.push(&job("d1", "s1")).await;
    let mut attempt = 0;
    for worker in workers {
        let claim = within(60, worker.queue.claim()).await;
        attempt += 1;
        assert_eq!((name(&claim), claim.attempt), ("d1", attempt));
        let lease = worker.lease();
        worker.die().await;
        redis.end_lease(&lease).await;
    }
    let claim = within(60, last.queue.claim()).await;
    assert_eq!(claim.fate, ClaimFate::CrashedWorkers { attempts: 3 });
    until(20, "the dead hosts are forgotten", async || redis.cmd::<usize>(&["HLEN", "{q}:workers"]).await <= 2).await;
    tokio::time::timeout(Duration::from_secs(1), last.queue.claim()).await.expect_err("it is claimed once");
}
