//! Elements that Redis' JSON cannot read: their end is fenced like any other, and contradicts no whole element of the deployment.

use slipway::protocol::Code;
use slipway::queue::{Adopted, Claim, ClaimFate, Fenced, Telling};

use crate::rig::*;

/// A producer's retry that was cut off on its way.
fn cut(id: &str) -> String {
    job(id, "s1").split_at(60).0.to_owned()
}

async fn adopted(worker: &Worker, claim: &Claim, deployment: &str) -> Option<Claim> {
    match worker.queue.adopt(claim, &id(deployment)).await.unwrap() {
        Adopted::Ours(claim) => Some(*claim),
        Adopted::Taken => None,
    }
}

#[tokio::test]
async fn a_cut_copy_of_a_job_that_is_built_on_another_host_tells_nothing() {
    let redis = Redis::start().await;
    let (builder, other) = (redis.worker().await, redis.worker().await);
    redis.push(&job("d1", "s1")).await;
    let claim = builder.claim().await;
    redis.push(&cut("d1")).await;
    let copy = other.claim().await;
    assert_eq!(copy.deployment, None, "Redis cannot read it");
    assert!(adopted(&other, &copy, "d1").await.is_none());
    other.queue.dead_letter(&copy, r#"{"reason":"cut"}"#).await.unwrap();
    assert_eq!(builder.queue.store_outcome(&claim, &builded()).await.unwrap(), Fenced::Stored);
    assert_eq!(builder.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored);
    builder.queue.acknowledge(&claim).await.unwrap();
    redis.push(&cut("d1")).await;
    let late = other.claim().await;
    assert!(adopted(&other, &late, "d1").await.is_none(), "its end was told a moment ago");
    other.queue.dead_letter(&late, r#"{"reason":"cut"}"#).await.unwrap();
    assert_eq!((redis.len("{q}:dead").await, redis.len(&other.claimed()).await), (2, 0));
}

#[tokio::test]
async fn a_cut_copy_in_front_of_the_whole_job_tells_nothing() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push_all(&[cut("d1"), job("d1", "s1")]).await;
    let copy = worker.claim().await;
    assert!(adopted(&worker, &copy, "d1").await.is_none());
    worker.queue.dead_letter(&copy, "{}").await.unwrap();
    assert_eq!(worker.claim().await.fate, ClaimFate::Build);
}

#[tokio::test]
async fn an_element_without_a_whole_one_gets_a_record_and_a_whole_one_that_follows_is_built_behind_its_end() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&cut("d1")).await;
    let copy = worker.claim().await;
    let copy = adopted(&worker, &copy, "d1").await.expect("nobody else has it");
    let again = adopted(&worker, &copy, "d1").await.expect("a repeated call finds the same record");
    assert_eq!((again.attempt, again.seq), (copy.attempt, copy.seq));
    assert_eq!(worker.queue.store_outcome(&copy, &failed(Code::JobMalformed)).await.unwrap(), Fenced::Stored);
    redis.push(&job("d1", "s1")).await;
    let other = redis.worker().await;
    until(20, "the whole one is parked", async || {
        tokio::select! {
            claim = other.queue.claim() => panic!("handed out beside the other one: {claim:?}"),
            () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {}
        }
        redis.cmd::<usize>(&["HEXISTS", "{q}:jobs", "d1/parked"]).await == 1
    })
    .await;
    assert_eq!(worker.queue.may_post(&copy, Telling::End).await.unwrap(), Fenced::Stored);
    worker.queue.dead_letter(&copy, "{}").await.unwrap();
    assert_eq!(name(&other.claim().await), "d1");
    assert_eq!(redis.len(&worker.claimed()).await, 0);
}

#[tokio::test]
async fn an_adopted_element_is_taken_up_again_after_a_restart_and_by_another_host() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&cut("d1")).await;
    let first = worker.claim().await;
    let first = adopted(&worker, &first, "d1").await.unwrap();
    worker.queue.store_outcome(&first, &failed(Code::JobMalformed)).await.unwrap();
    let worker = redis.worker_in(worker.die().await).await;
    let resumed = worker.queue.resume().await.unwrap().remove(0);
    let resumed = adopted(&worker, &resumed, "d1").await.expect("its own record");
    assert_eq!(worker.queue.store_outcome(&resumed, &failed(Code::JobMalformed)).await.unwrap(), Fenced::Stored);
    let other = redis.worker().await;
    let theirs = adopted(&other, &resumed, "d1").await.expect("the same end from there");
    assert_eq!(worker.queue.may_post(&resumed, Telling::End).await.unwrap(), Fenced::Lost, "one of them tells it");
    assert_eq!(other.queue.may_post(&theirs, Telling::End).await.unwrap(), Fenced::Stored);
}
