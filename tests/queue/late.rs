//! A request that was held up on its way and arrives when nobody waits for its answer any more: on a connection that was given up.

use slipway::queue::Fenced;

use crate::rig::*;

const RECORD: &str = include_str!("../../src/queue/scripts/record.lua");
const CLAIM: &str = include_str!("../../src/queue/scripts/claim.lua");
const RESUME: &str = include_str!("../../src/queue/scripts/resume.lua");

/// Runs a script with keys named by their ends.
async fn arrives(redis: &Redis, script: &str, keys: &[&str], args: &[&str]) -> Vec<redis::Value> {
    let (script, count) = (format!("{RECORD}{script}"), keys.len().to_string());
    redis.cmd(&[&["EVAL", &script, &count], keys, args].concat()).await
}

#[tokio::test]
async fn a_late_look_for_claims_of_before_the_restart_takes_no_claim_of_after_it() {
    let redis = Redis::start().await;
    let mut worker = redis.worker().await;
    assert!(worker.queue.resume().await.unwrap().is_empty());
    redis.push(&job("d1", "s1")).await;
    let claim = worker.claim().await;
    let (claimed, lease) = (worker.claimed(), worker.lease());
    let nonce: String = redis.cmd(&["GET", &lease]).await;
    let keys = [&claimed, &lease, "{q}:workers", "{q}:jobs", "{q}:crashes", "{q}:service", "{q}:tombs"];
    let answer = arrives(&redis, RESUME, &keys, &[&worker.id, &nonce, "0", "65536", "4096", ""]).await;
    assert!(answer.len() > 5, "it answers as for a claim: {answer:?}");
    assert_eq!(redis.cmd::<usize>(&["HLEN", "{q}:crashes"]).await, 0, "no worker has died");
    assert_eq!(worker.queue.store_outcome(&claim, &builded()).await.unwrap(), Fenced::Stored);
    worker.queue.acknowledge(&claim).await.unwrap();
    assert!(worker.notices.try_recv().is_err());
}

#[tokio::test]
async fn what_a_late_claim_takes_is_built_all_the_same() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    assert!(worker.queue.resume().await.unwrap().is_empty());
    redis.push(&job("d1", "s1")).await;
    let first = worker.claim().await;
    let (claimed, lease) = (worker.claimed(), worker.lease());
    let nonce: String = redis.cmd(&["GET", &lease]).await;
    redis.push(&job("d2", "s2")).await;
    let keys = [
        "q",
        "{q}:incoming",
        &claimed,
        &lease,
        "{q}:workers",
        "{q}:jobs",
        "{q}:service",
        "{q}:tombs",
        "{q}:crashes",
        "{q}:ended",
    ];
    let token = format!("{nonce}/0");
    arrives(&redis, CLAIM, &keys, &[&worker.id, &nonce, &token, "65536", "4096", "next", "{q}:notices"]).await;
    assert_eq!((redis.len("q").await, redis.len(&claimed).await), (0, 2), "nobody knows of the second one");
    let second = within(20, worker.queue.claim()).await;
    assert_eq!(name(&second), "d2");
    for claim in [&first, &second] {
        assert_eq!(worker.queue.store_outcome(claim, &builded()).await.unwrap(), Fenced::Stored);
        worker.queue.acknowledge(claim).await.unwrap();
    }
    assert_eq!(redis.len(&claimed).await, 0);
}
