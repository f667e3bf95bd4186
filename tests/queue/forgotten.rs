//! A Redis that has forgotten: restarted empty, from an older snapshot, or changed by hand.

use slipway::protocol::Code;
use slipway::queue::{ClaimFate, Fenced, HostFaults, Notice, Standing, Telling};

use crate::proxy::{Link, Proxy};
use crate::rig::*;

#[tokio::test]
pub async fn a_redis_that_came_back_empty_gets_the_records_of_running_attempts_again() {
    let mut redis = Redis::start().await;
    let mut worker = redis.worker().await;
    redis.push(&job("d1", "s1")).await;
    redis.push(&job("d2", "s2")).await;
    let (first, second) = (worker.claim().await, worker.claim().await);
    worker.queue.store_outcome(&second, &failed(Code::GitAuth)).await.unwrap();
    redis.restart().await;
    // At once, before the keeper's next turn: nothing may be called lost.
    until(10, "Redis answers", async || worker.queue.may_post(&second, Telling::End).await.is_ok()).await;
    assert_eq!(worker.queue.may_post(&second, Telling::End).await.unwrap(), Fenced::Stored);
    assert_eq!(worker.queue.store_outcome(&first, &builded()).await.unwrap(), Fenced::Stored);
    let held: Vec<String> = redis.cmd(&["LRANGE", &worker.claimed(), "0", "-1"]).await;
    assert_eq!(held.len(), 2);
    worker.queue.acknowledge(&first).await.unwrap();
    worker.queue.acknowledge(&second).await.unwrap();
    assert_eq!(redis.len(&worker.claimed()).await, 0);
    assert!(worker.notices.try_recv().is_err());
}

#[tokio::test]
async fn a_worker_that_was_down_when_redis_was_emptied_still_delivers_the_end_in_its_journal() {
    let mut redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&job("d1", "s1")).await;
    let claim = worker.claim().await;
    worker.queue.store_outcome(&claim, &builded()).await.unwrap();
    worker.queue.release().await.unwrap();
    let dir = worker.die().await;
    redis.restart().await;
    let worker = redis.worker_in(dir).await;
    assert!(worker.queue.resume().await.unwrap().is_empty());
    assert_eq!(worker.queue.standing(&id("d1")).await.unwrap(), Standing::Forgotten);
    let claim = worker.queue.restore_end(&id("d1"), 1, &builded()).await.unwrap().unwrap();
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored);
    worker.queue.acknowledge(&claim).await.unwrap();
    assert_eq!(worker.queue.standing(&id("d1")).await.unwrap(), Standing::Ended);
}

#[tokio::test]
async fn the_same_epoch_and_no_record_means_that_it_was_taken_over_and_ended() {
    let redis = Redis::start().await;
    let mut worker = redis.worker().await;
    redis.push(&job("d1", "s1")).await;
    redis.push(&job("d2", "s2")).await;
    let (first, second) = (worker.claim().await, worker.claim().await);
    let _: i64 = redis.cmd(&["HDEL", "{q}:jobs", "d1", "d2"]).await;
    assert_eq!(worker.queue.store_outcome(&first, &builded()).await.unwrap(), Fenced::Lost);
    assert!(matches!(worker.notice(15).await, Notice::Lost(d) if d == id("d2")));
    worker.queue.acknowledge(&second).await.unwrap();
}

#[tokio::test]
async fn an_old_snapshot_that_brings_back_finished_jobs_has_none_of_them_built_again() {
    let mut redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&job("running", "s1")).await;
    let running = worker.claim().await;
    redis.push(&job("queued", "s2")).await;
    let _: String = redis.cmd(&["SAVE"]).await;
    let queued = worker.claim().await;
    for claim in [&running, &queued] {
        worker.queue.store_outcome(claim, &builded()).await.unwrap();
        assert_eq!(worker.queue.may_post(claim, Telling::End).await.unwrap(), Fenced::Stored);
        worker.queue.acknowledge(claim).await.unwrap();
    }
    redis.restart().await;
    assert_eq!((redis.len("q").await, redis.len(&worker.claimed()).await), (1, 1), "they are back");
    redis.push(&job("next", "s3")).await;
    assert_eq!(name(&within(20, worker.queue.claim()).await), "next");
    until(20, "they are removed", async || redis.len(&worker.claimed()).await == 1).await;
    redis.push(&job("queued", "s2")).await;
    assert_eq!(worker.claim().await.fate, ClaimFate::Build, "pushed again it is a new job");
}

#[tokio::test]
async fn an_element_that_is_pushed_again_after_redis_came_back_empty_is_built() {
    let mut redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&job("d1", "s1")).await;
    let claim = worker.claim().await;
    worker.queue.store_outcome(&claim, &failed(Code::GitAuth)).await.unwrap();
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored);
    worker.queue.acknowledge(&claim).await.unwrap();
    redis.restart().await;
    redis.push(&job("d1", "s1")).await;
    assert_eq!(within(30, worker.queue.claim()).await.fate, ClaimFate::Build);
}

#[tokio::test]
async fn an_element_that_is_pushed_again_after_its_snapshot_was_cleaned_up_is_built() {
    let mut redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&job("d1", "s1")).await;
    let _: String = redis.cmd(&["SAVE"]).await;
    let claim = worker.claim().await;
    worker.queue.store_outcome(&claim, &builded()).await.unwrap();
    worker.queue.acknowledge(&claim).await.unwrap();
    redis.restart().await;
    redis.push(&job("next", "s2")).await;
    assert_eq!(name(&within(30, worker.queue.claim()).await), "next", "what the snapshot brought back is not built");
    let _: i64 = redis.cmd(&["HDEL", "{q}:jobs", "d1"]).await;
    redis.push(&job("d1", "s1")).await;
    assert_eq!(worker.claim().await.fate, ClaimFate::Build);
}

#[tokio::test]
async fn an_old_snapshot_takes_no_running_attempt_from_its_owner() {
    let mut redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&job("before", "s1")).await;
    redis.push(&job("queued", "s2")).await;
    let before = worker.claim().await;
    let _: String = redis.cmd(&["SAVE"]).await;
    let queued = worker.claim().await;
    redis.push(&job("after", "s3")).await;
    let after = worker.claim().await;
    redis.restart().await;
    for claim in [&before, &queued, &after] {
        until(10, "Redis answers", async || worker.queue.store_outcome(claim, &builded()).await.is_ok()).await;
        assert_eq!(worker.queue.may_post(claim, Telling::End).await.unwrap(), Fenced::Stored);
        worker.queue.acknowledge(claim).await.unwrap();
    }
    // The element that the snapshot put back into the queue is not built a second time.
    redis.push(&job("next", "s4")).await;
    assert_eq!(name(&within(20, worker.queue.claim()).await), "next");
}

#[tokio::test]
async fn a_list_that_is_emptied_or_deleted_by_hand_stops_nobody() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&job("d1", "s1")).await;
    let claim = worker.claim().await;
    let _: i64 = redis.cmd(&["DEL", "q", "{q}:incoming", &worker.claimed(), "{q}:workers", "{q}:service"]).await;
    assert_eq!(worker.queue.store_outcome(&claim, &builded()).await.unwrap(), Fenced::Stored);
    worker.queue.acknowledge(&claim).await.unwrap();
    redis.push(&job("d2", "s2")).await;
    assert_eq!(name(&worker.claim().await), "d2");
}

#[tokio::test]
async fn lost_replies_lose_no_job_and_end_none_twice() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.port).await;
    let worker = redis.worker_behind(&proxy).await;
    let mut seen = Vec::new();
    for round in 0..3 {
        for n in 0..3 {
            redis.push(&job(&format!("d{round}{n}"), &format!("s{round}{n}"))).await;
        }
        let trouble = async {
            proxy.set(Link::Deaf);
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            proxy.set(Link::Whole);
        };
        let claims = async {
            for _ in 0..3 {
                let claim = worker.queue.claim().await;
                seen.push(name(&claim).to_owned());
                proxy.set(Link::Deaf);
                let _ =
                    tokio::time::timeout(std::time::Duration::from_millis(200), worker.queue.store_outcome(&claim, &builded()))
                        .await;
                proxy.set(Link::Whole);
                until(10, "stored", async || worker.queue.store_outcome(&claim, &builded()).await.is_ok()).await;
                proxy.set(Link::Deaf);
                let _ = tokio::time::timeout(std::time::Duration::from_millis(200), worker.queue.acknowledge(&claim)).await;
                proxy.set(Link::Whole);
                until(10, "acknowledged", async || worker.queue.acknowledge(&claim).await.is_ok()).await;
            }
        };
        within(60, async { tokio::join!(trouble, claims) }).await;
    }
    let expected: Vec<String> = (0..3).flat_map(|r| (0..3).map(move |n| format!("d{r}{n}"))).collect();
    assert_eq!(seen, expected);
    assert_eq!((redis.len("q").await, redis.len("{q}:incoming").await, redis.len(&worker.claimed()).await), (0, 0, 0));
}

#[tokio::test]
async fn a_cancel_sent_while_the_subscription_was_down_is_found_in_the_record() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.port).await;
    let mut worker = redis.worker_behind(&proxy).await;
    redis.push(&job("d1", "s1")).await;
    worker.claim().await;
    proxy.set(Link::Cut);
    let producer = slipway::queue::Producer::connect(&redis.config()).await.unwrap();
    producer.cancel(&id("d1")).await.unwrap();
    proxy.set(Link::Whole);
    assert!(matches!(worker.notice(15).await, Notice::Cancelled(d) if d == id("d1")));
}

#[tokio::test]
async fn a_job_that_its_host_failed_goes_back_also_where_redis_has_lost_its_record() {
    let mut redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&job("d1", "s1")).await;
    let claim = worker.claim().await;
    assert_eq!(worker.queue.count_host_fault(&claim).await.unwrap(), HostFaults::Counted(1));
    redis.restart().await;
    until(10, "Redis answers", async || worker.queue.may_post(&claim, Telling::Status).await.is_ok()).await;
    assert_eq!(worker.queue.count_host_fault(&claim).await.unwrap(), HostFaults::Counted(1), "it counts anew");
    // Removed by hand.
    let _: i64 = redis.cmd(&["HDEL", "{q}:jobs", "d1"]).await;
    assert_eq!(worker.queue.count_host_fault(&claim).await.unwrap(), HostFaults::Unknown);
    assert!(worker.queue.give_back(&claim).await.unwrap());
    assert_eq!(redis.len("q").await, 1);
}

#[tokio::test]
async fn what_is_written_again_gives_way_to_a_newer_job_only_while_that_one_is_open() {
    let newest = |record: &str| {
        format!(
            "redis.call('FLUSHALL') \
             redis.call('HSET', '{{q}}:service', 's1', '99999999999999999 newer') \
             if '{record}' ~= '' then redis.call('HSET', '{{q}}:jobs', 'newer', '{record}') end \
             return 'OK'"
        )
    };
    let open = r#"{"worker":"w","attempt":1,"seq":"99999999999999999","service":"s1"}"#;
    let over = r#"{"worker":"w","attempt":1,"seq":"99999999999999999","service":"s1","ended_at":1}"#;
    for (record, expected) in [(open, Fenced::Superseded { by: id("newer") }), (over, Fenced::Stored), ("", Fenced::Stored)] {
        let redis = Redis::start().await;
        let worker = redis.worker().await;
        redis.push(&job("d1", "s1")).await;
        let claim = worker.claim().await;
        let _: String = redis.cmd(&["EVAL", &newest(record), "0"]).await;
        assert_eq!(worker.queue.store_outcome(&claim, &builded()).await.unwrap(), expected, "{record}");
    }
}
