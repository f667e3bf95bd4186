//! A request that was held up on its way and arrives when nobody waits for its answer any more: on a connection that was given up.

use slipway::queue::Fenced;

use crate::rig::*;

const RECORD: &str = include_str!("../../src/queue/scripts/record.lua");
const CLAIM: &str = include_str!("../../src/queue/scripts/claim.lua");
const GIVE_BACK: &str = include_str!("../../src/queue/scripts/give_back.lua");
const RESUME: &str = include_str!("../../src/queue/scripts/resume.lua");

/// Runs a script with keys named by their ends.
async fn arrives(redis: &Redis, script: &str, keys: &[&str], args: &[&str]) -> Vec<redis::Value> {
    let (script, count) = (format!("{RECORD}{script}"), keys.len().to_string());
    redis.cmd(&[&["EVAL", &script, &count], keys, args].concat()).await
}

/// A claim of this worker that was held up on its way.
async fn arrives_late(redis: &Redis, worker: &Worker) {
    let (claimed, lease) = (worker.claimed(), worker.lease());
    let nonce: String = redis.cmd(&["GET", &lease]).await;
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
    // Not the one that its caller uses by now.
    let token = format!("{nonce}/late{}", redis.len(&claimed).await);
    arrives(redis, CLAIM, &keys, &[&worker.id, &nonce, &token, "65536", "4096", "next", "{q}:notices", "1"]).await;
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
    redis.push(&job("d2", "s2")).await;
    arrives_late(&redis, &worker).await;
    let claimed = worker.claimed();
    assert_eq!((redis.len("q").await, redis.len(&claimed).await), (0, 2), "nobody knows of the second one");
    let second = within(20, worker.queue.claim()).await;
    assert_eq!(name(&second), "d2");
    for claim in [&first, &second] {
        assert_eq!(worker.queue.store_outcome(claim, &builded()).await.unwrap(), Fenced::Stored);
        worker.queue.acknowledge(claim).await.unwrap();
    }
    assert_eq!(redis.len(&claimed).await, 0);
}

#[tokio::test]
async fn a_job_that_was_asked_to_go_back_is_handed_out_as_a_new_attempt_which_a_late_give_back_leaves_alone() {
    // As far as the worker knows, the request that was refused may still arrive.
    let (redis, _proxy, worker) = a_claim_that_cannot_go_back().await;
    let first: String = redis.cmd(&["HGET", "{q}:jobs", "d1"]).await;
    let (claim, ()) = within(30, async {
        tokio::join!(worker.queue.claim(), async {
            tokio::task::yield_now().await;
            let _: () = redis.cmd(&["ACL", "SETUSER", "default", "+lrem"]).await;
        })
    })
    .await;
    let payload = job("d1", "s1");
    let seq = first.split_once(r#""seq":""#).and_then(|(_, rest)| rest.split_once('"')).unwrap().0;
    let (claimed, length) = (worker.claimed(), payload.len().to_string());
    let args = ["d1", &worker.id, "1", seq, &payload, &length, "1"];
    let (script, keys) = (format!("{RECORD}{GIVE_BACK}"), ["q", claimed.as_str(), "{q}:jobs"]);
    let _: i64 = redis.cmd(&[&["EVAL", script.as_str(), "3"], &keys[..], &args[..]].concat()).await;
    assert_eq!(worker.queue.store_outcome(&claim, &builded()).await.unwrap(), Fenced::Stored);
    worker.queue.acknowledge(&claim).await.unwrap();
    assert_eq!((redis.len("q").await, redis.len(&claimed).await), (0, 0));
}

#[tokio::test]
async fn what_names_no_job_and_is_taken_by_a_late_claim_is_given_out_again_and_what_is_in_hand_is_not() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    assert!(worker.queue.resume().await.unwrap().is_empty());
    redis.push("not json").await;
    let first = worker.claim().await;
    // Another one with the same bytes, and one that is too large.
    redis.push("not json").await;
    arrives_late(&redis, &worker).await;
    redis.push(&"x".repeat(100_000)).await;
    arrives_late(&redis, &worker).await;
    assert_eq!(
        (redis.len("q").await, redis.len(&worker.claimed()).await),
        (0, 3),
        "nobody knows of the second and the third one"
    );
    let (second, third) = within(20, async { (worker.queue.claim().await, worker.queue.claim().await) }).await;
    assert_eq!([second.payload.len(), third.payload.len()].iter().max(), Some(&4096));
    assert!([&second, &third].iter().any(|c| c.payload == "not json"));
    // The same look saw the first one.
    let again = redis.len("q").await + redis.len("{q}:incoming").await;
    assert_eq!(again, 0, "what is in hand is not given out again");
    for claim in [&first, &second, &third] {
        worker.queue.dead_letter(claim, r#"{"reason":"no job"}"#).await.unwrap();
    }
    assert_eq!((redis.len(&worker.claimed()).await, redis.len("{q}:dead").await), (0, 3));
}
