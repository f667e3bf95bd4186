//! What a newer deployment's BUILDED waits for: only for an older BUILDED that may be on its way, and not for ever.

use std::time::Duration;

use slipway::protocol::Code;
use slipway::queue::{Claim, Fenced, Telling};

use crate::rig::*;

/// The older and the newer job of one service, both claimed; the older one has stored its end already if one is given.
async fn two_of_one_service(redis: &Redis, worker: &Worker, end: Option<slipway::protocol::Outcome>) -> (Claim, Claim) {
    redis.push(&job("older", "s1")).await;
    let older = worker.claim().await;
    if let Some(end) = end {
        assert_eq!(worker.queue.store_outcome(&older, &end).await.unwrap(), Fenced::Stored);
        assert_eq!(worker.queue.may_post(&older, Telling::End).await.unwrap(), Fenced::Stored);
    }
    redis.push(&job("newer", "s1")).await;
    (older, worker.claim().await)
}

/// Whether the newer one's BUILDED is still not stored when Redis has been asked a few times.
async fn waits(worker: &Worker, newer: &Claim) -> bool {
    tokio::time::timeout(Duration::from_secs(2), worker.queue.store_outcome(newer, &builded())).await.is_err()
}

/// As if the newer one had waited for so long already.
async fn has_waited(redis: &Redis, minutes: u64) {
    let edit = "local r = cjson.decode(redis.call('HGET', KEYS[1], 'newer')) \
        r.waits_since = r.waits_since - tonumber(ARGV[1]) * 60000 \
        return redis.call('HSET', KEYS[1], 'newer', cjson.encode(r))";
    let _: i64 = redis.cmd(&["EVAL", edit, "1", "{q}:jobs", &minutes.to_string()]).await;
}

#[tokio::test]
async fn a_builded_does_not_wait_for_an_older_end_that_is_no_builded() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    // Its FAILED is posted over and over, for the dashboard does not take it.
    let (older, newer) = two_of_one_service(&redis, &worker, Some(failed(Code::DockerfileStepFailed))).await;
    assert_eq!(within(10, worker.queue.store_outcome(&newer, &builded())).await.unwrap(), Fenced::Stored);
    assert_eq!(worker.queue.may_post(&older, Telling::End).await.unwrap(), Fenced::Stored, "the older end is still told");
}

#[tokio::test]
async fn a_builded_does_not_wait_for_an_older_job_that_gave_way_to_it() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    let (older, newer) = two_of_one_service(&redis, &worker, None).await;
    assert_eq!(worker.queue.store_outcome(&older, &builded()).await.unwrap(), Fenced::Superseded { by: id("newer") });
    assert_eq!(within(10, worker.queue.store_outcome(&newer, &builded())).await.unwrap(), Fenced::Stored);
}

#[tokio::test]
async fn a_builded_waits_for_an_older_builded_that_may_be_on_its_way_also_when_it_was_cancelled_since() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    let (older, newer) = two_of_one_service(&redis, &worker, Some(builded())).await;
    assert!(waits(&worker, &newer).await);
    let producer = slipway::queue::Producer::connect(&redis.config()).await.unwrap();
    producer.cancel(&id("older")).await.unwrap();
    assert_eq!(worker.queue.store_outcome(&older, &cancelled()).await.unwrap(), Fenced::Stored);
    assert!(waits(&worker, &newer).await, "its BUILDED may still be on the way");
    worker.queue.acknowledge(&older).await.unwrap();
    assert_eq!(within(10, worker.queue.store_outcome(&newer, &builded())).await.unwrap(), Fenced::Stored);
}

#[tokio::test]
async fn a_builded_waits_ten_minutes_at_most_and_then_the_older_one_may_post_none() {
    let redis = Redis::start().await;
    let worker = Worker::start(&redis.config(), tempfile::tempdir().unwrap(), Duration::from_secs(1)).await;
    let (older, newer) = two_of_one_service(&redis, &worker, Some(builded())).await;
    assert!(waits(&worker, &newer).await);
    has_waited(&redis, 9).await;
    assert!(waits(&worker, &newer).await);
    has_waited(&redis, 2).await;
    assert_eq!(within(30, worker.queue.store_outcome(&newer, &builded())).await.unwrap(), Fenced::Stored);
    assert_eq!(worker.queue.may_post(&older, Telling::End).await.unwrap(), Fenced::Superseded { by: id("newer") });
    assert_eq!(worker.queue.store_outcome(&older, &cancelled()).await.unwrap(), Fenced::Stored);
    assert_eq!(worker.queue.may_post(&older, Telling::End).await.unwrap(), Fenced::Stored, "CANCELLED is told");
}

#[tokio::test]
async fn a_builded_passes_an_older_one_that_the_dashboard_refuses_and_the_older_one_is_told_no_more() {
    let redis = Redis::start().await;
    let an_hour = Duration::from_secs(3600);
    let worker = Worker::start(&redis.config(), tempfile::tempdir().unwrap(), an_hour).await;
    let (older, newer) = two_of_one_service(&redis, &worker, Some(builded())).await;
    assert_eq!(worker.queue.may_post(&older, Telling::RefusedEnd).await.unwrap(), Fenced::Stored);
    // Tried again: that post may be taken.
    assert_eq!(worker.queue.may_post(&older, Telling::End).await.unwrap(), Fenced::Stored);
    assert!(waits(&worker, &newer).await);
    assert_eq!(worker.queue.may_post(&older, Telling::RefusedEnd).await.unwrap(), Fenced::Stored);
    assert_eq!(within(30, worker.queue.store_outcome(&newer, &builded())).await.unwrap(), Fenced::Stored);
    assert_eq!(worker.queue.may_post(&older, Telling::End).await.unwrap(), Fenced::Superseded { by: id("newer") });
    assert_eq!(worker.queue.store_outcome(&older, &cancelled()).await.unwrap(), Fenced::Stored);
    assert_eq!(worker.queue.may_post(&older, Telling::End).await.unwrap(), Fenced::Stored, "CANCELLED is told");
}

#[tokio::test]
async fn a_refused_builded_that_an_earlier_process_stored_is_waited_for() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&job("older", "s1")).await;
    let older = worker.claim().await;
    assert_eq!(worker.queue.store_outcome(&older, &builded()).await.unwrap(), Fenced::Stored);
    assert_eq!(worker.queue.may_post(&older, Telling::End).await.unwrap(), Fenced::Stored);
    let dir = worker.die().await;
    let worker = redis.worker_in(dir).await;
    let older = worker.queue.resume().await.unwrap().remove(0);
    assert_eq!(worker.queue.may_post(&older, Telling::RefusedEnd).await.unwrap(), Fenced::Stored);
    redis.push(&job("newer", "s1")).await;
    let newer = worker.claim().await;
    assert!(waits(&worker, &newer).await, "a post of the earlier process may still be on its way");
}

/// The newest one is over, and what was before it is still on its way.
#[tokio::test]
async fn a_builded_waits_for_an_older_one_that_may_be_on_its_way_also_when_one_between_them_has_failed() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    let (older, between) = two_of_one_service(&redis, &worker, Some(builded())).await;
    worker.queue.store_outcome(&between, &failed(Code::DockerfileStepFailed)).await.unwrap();
    worker.queue.acknowledge(&between).await.unwrap();
    redis.push(&job("newest", "s1")).await;
    let newest = worker.claim().await;
    assert!(waits(&worker, &newest).await, "the older BUILDED may still arrive");
    worker.queue.acknowledge(&older).await.unwrap();
    assert_eq!(within(10, worker.queue.store_outcome(&newest, &builded())).await.unwrap(), Fenced::Stored);
    worker.queue.acknowledge(&newest).await.unwrap();
    assert_eq!(redis.cmd::<i64>(&["HLEN", "{q}:service"]).await, 0, "nobody is the newest of a service without jobs");
}

/// Its BUILDED had no answer when its worker died; it comes back when a newer one was told.
#[tokio::test]
async fn a_builded_of_a_dead_worker_that_a_newer_one_has_passed_is_told_no_more_by_whoever_takes_it_up() {
    let redis = Redis::start().await;
    let config = redis.config();
    let start = async |dir| Worker::start(&config, dir, Duration::from_secs(1)).await;
    let (dies, lives) = (start(tempfile::tempdir().unwrap()).await, start(tempfile::tempdir().unwrap()).await);
    redis.push(&job("older", "s1")).await;
    let older = dies.claim().await;
    dies.queue.store_outcome(&older, &builded()).await.unwrap();
    dies.queue.may_post(&older, Telling::End).await.unwrap();
    // It claims nothing more: nobody takes the older one over.
    redis.push(&job("newer", "s1")).await;
    let newer = lives.claim().await;
    lives.queue.allow_claims(false);
    let dir = dies.die().await;
    let stored = within(90, lives.queue.store_outcome(&newer, &builded())).await.unwrap();
    assert_eq!(stored, Fenced::Stored, "the lease is gone, and what was on its way had its time");

    let again = start(dir).await;
    let resumed = again.queue.resume().await.unwrap();
    let older = resumed.iter().find(|claim| name(claim) == "older").expect("it is taken up");
    assert_eq!(again.queue.may_post(older, Telling::End).await.unwrap(), Fenced::Superseded { by: id("newer") });
}
