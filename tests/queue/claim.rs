//! How jobs come in.

use std::time::Duration;

use futures_util::future::join_all;
use slipway::queue::{Claim, ClaimFate, Fenced, Producer, Telling};

use crate::proxy::{Link, Proxy};
use crate::rig::*;

#[tokio::test]
pub async fn a_pushed_job_is_claimed_to_the_byte_and_stays_in_the_workers_list_until_it_is_acknowledged() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    let payload = r#"{ "deploymentId":"d1", "serviceId":"s1", "branch":"main", "repositoryName":"o/r", "gitProvider":{}, "ports":[], "x":1.50, "y":"\u003cé" }"#;
    redis.push(payload).await;
    let claim = worker.claim().await;
    assert_eq!(claim.payload, payload);
    assert_eq!((name(&claim), claim.attempt, &claim.fate), ("d1", 1, &ClaimFate::Build));
    let held: Vec<String> = redis.cmd(&["LRANGE", &worker.claimed(), "0", "-1"]).await;
    assert_eq!(held, [payload]);
    worker.queue.store_outcome(&claim, &builded()).await.unwrap();
    worker.queue.acknowledge(&claim).await.unwrap();
    assert_eq!(redis.len(&worker.claimed()).await, 0);
}

#[tokio::test]
async fn jobs_come_in_the_order_of_the_list_from_the_left() {
    let redis = Redis::start().await;
    redis.push_all(&jobs(0..5)).await;
    let _: i64 = redis.cmd(&["LPUSH", "q", &job("first", "s")]).await;
    let worker = redis.worker().await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(name(&worker.claim().await).to_owned());
    }
    assert_eq!(seen, ["first", "d0", "d1", "d2", "d3", "d4"]);
}

#[tokio::test]
async fn two_workers_on_one_queue_get_each_job_once() {
    let redis = Redis::start().await;
    let (one, two) = (redis.worker().await, redis.worker().await);
    let push = async {
        redis.push_all(&jobs(0..200)).await;
    };
    let take = |worker: &'static str, w| take_all(worker, w);
    let (_, a, b) = within(60, async { tokio::join!(push, take("one", &one), take("two", &two)) }).await;
    let mut all: Vec<String> = a.into_iter().chain(b).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 200);
    assert_eq!((redis.len("q").await, redis.len("{q}:incoming").await), (0, 0));
}

/// Claims until nothing comes for two seconds.
async fn take_all(_: &str, worker: &Worker) -> Vec<String> {
    let mut seen = Vec::new();
    while let Ok(claim) = tokio::time::timeout(std::time::Duration::from_secs(2), worker.queue.claim()).await {
        seen.push(name(&claim).to_owned());
        worker.queue.store_outcome(&claim, &builded()).await.unwrap();
        worker.queue.acknowledge(&claim).await.unwrap();
    }
    seen
}

#[tokio::test]
pub async fn what_is_no_job_is_claimed_without_a_record_and_ends_in_the_dead_letter_list() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    for payload in ["not json", "", "{}", r#"{"deploymentId":"../x"}"#, r#"{"deploymentId":7}"#, "[1]", "null", "not json"] {
        redis.push(payload).await;
        let claim = worker.claim().await;
        assert_eq!(claim.payload, payload);
        assert_eq!(claim.deployment, None, "{payload}");
        worker.queue.dead_letter(&claim, r#"{"reason":"no job"}"#).await.unwrap();
    }
    assert_eq!(redis.len(&worker.claimed()).await, 0);
    assert_eq!(redis.len("{q}:dead").await, 8);
    assert_eq!(redis.cmd::<usize>(&["HLEN", "{q}:jobs"]).await, 0);
}

#[tokio::test]
async fn an_element_above_the_limit_is_not_read_and_goes_to_the_dead_letter_list() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    let mut connection = redis.connection().await.unwrap();
    let big = "x".repeat(100 << 20);
    let _: () = redis::cmd("RPUSH").arg("q").arg(&big).query_async(&mut connection).await.unwrap();
    drop(big);
    let claim = within(60, worker.queue.claim()).await;
    assert_eq!(claim.fate, ClaimFate::TooLarge { bytes: 100 << 20 });
    assert_eq!(claim.payload.len(), 4096);
    worker.queue.dead_letter(&claim, r#"{"reason":"too large"}"#).await.unwrap();
    assert_eq!((redis.len(&worker.claimed()).await, redis.len("{q}:dead").await), (0, 1));
    redis.push(&job("d1", "s1")).await;
    assert_eq!(name(&worker.claim().await), "d1", "the next job goes on");
}

#[tokio::test]
pub async fn a_claim_whose_caller_goes_away_is_not_lost() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push_all(&jobs(0..50)).await;
    let mut seen = Vec::new();
    let mut patience = 0;
    while seen.len() < 50 {
        // From "dropped before it was sent" to "dropped while the reply is on its way".
        patience = (patience + 17) % 600;
        let short = std::time::Duration::from_micros(patience);
        if let Ok(claim) = tokio::time::timeout(short, worker.queue.claim()).await {
            seen.push(name(&claim).to_owned());
        }
    }
    assert_eq!(seen, names(0..50));
}

/// It has claimed one, so that Redis knows the script, and its replies can be lost.
async fn a_worker_with_a_job() -> (Redis, Proxy, Worker) {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.port).await;
    let worker = redis.worker_behind(&proxy).await;
    redis.push(&job("first", "s")).await;
    worker.claim().await;
    let next = tokio::time::timeout(Duration::from_millis(300), worker.queue.claim()).await;
    assert!(next.is_err(), "no other job waits, and what a worker asks at its start is answered");
    (redis, proxy, worker)
}

async fn claim_together(worker: &Worker, callers: usize) -> Vec<Claim> {
    within(30, join_all((0..callers).map(|_| worker.queue.claim()))).await
}

#[tokio::test]
pub async fn callers_that_wait_together_get_the_jobs_in_the_order_of_the_queue_and_each_once() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push_all(&jobs(0..30)).await;
    let claims = claim_together(&worker, 30).await;
    let seen: Vec<_> = claims.iter().map(|c| name(c).to_owned()).collect();
    assert_eq!(seen, names(0..30));
    assert!(claims.iter().all(|c| c.fate == ClaimFate::Build) && redis.len(&worker.claimed()).await == 30);
    for claim in &claims {
        assert_eq!(worker.queue.store_outcome(claim, &builded()).await.unwrap(), Fenced::Stored);
        worker.queue.acknowledge(claim).await.unwrap();
    }
    assert_eq!((redis.len(&worker.claimed()).await, redis.len("q").await), (0, 0));
}

#[tokio::test]
async fn of_callers_that_wait_together_each_gets_what_it_would_have_got_alone() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    let large = job("d2", "s2").replace('}', &" ".repeat(70_000)) + "}";
    let big = job("d5", "s5").replacen('{', &format!("{{{}", " ".repeat(60_000)), 1);
    let elements = [
        &job("d0", "s0"),
        &job("d1", "s1"),
        "not json",
        &large,
        &job("d3", "s3"),
        // A newer one of the same service, and the same deployment twice: the second waits in the record.
        &job("d4", "s3"),
        &job("d4", "s3"),
        &big,
        &job("d6", "s6"),
    ];
    for element in elements {
        redis.push(element).await;
    }
    let claims = claim_together(&worker, 8).await;
    let seen: Vec<_> = claims.iter().map(|c| (c.deployment.as_ref().map(|d| d.as_str().to_owned()), c.fate.clone())).collect();
    let built = |id: &str| (Some(id.to_owned()), ClaimFate::Build);
    let expected = [
        built("d0"),
        built("d1"),
        (None, ClaimFate::Build),
        (None, ClaimFate::TooLarge { bytes: large.len() as u64 }),
        (Some("d3".to_owned()), ClaimFate::Superseded { by: id("d4") }),
        built("d4"),
        built("d5"),
        built("d6"),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_claim_whose_reply_is_lost_is_asked_for_again_and_is_not_given_twice() {
    let (redis, proxy, worker) = a_worker_with_a_job().await;
    proxy.set(Link::Deaf);
    redis.push_all(&jobs(0..2)).await;
    let (claim, ()) = tokio::join!(worker.queue.claim(), async {
        until(20, "it is claimed", async || redis.len(&worker.claimed()).await == 2).await;
        proxy.set(Link::Whole);
    });
    assert_eq!((name(&claim), redis.len(&worker.claimed()).await), ("d0", 2));
    assert_eq!(name(&worker.claim().await), "d1");
}

#[tokio::test]
async fn a_claim_whose_reply_is_lost_and_whose_caller_goes_away_goes_back_to_the_head_of_the_queue() {
    let (redis, proxy, worker) = a_worker_with_a_job().await;
    proxy.set(Link::Deaf);
    let jobs = jobs(0..3);
    redis.push_all(&jobs).await;
    tokio::select! {
        _ = worker.queue.claim() => unreachable!("no reply comes"),
        () = until(20, "it is claimed", async || redis.len(&worker.claimed()).await == 2) => {}
    }
    proxy.set(Link::Whole);
    until(40, "it is back", async || redis.cmd::<Vec<String>>(&["LRANGE", "q", "0", "-1"]).await == jobs).await;
    assert_eq!(redis.len(&worker.claimed()).await, 1);
}

#[tokio::test]
async fn a_job_whose_service_was_changed_while_it_waited_stays_its_owners_though_one_of_the_old_service_comes_behind_it() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&job("x", "old")).await;
    let claim = worker.claim().await;
    assert!(worker.queue.give_back(&claim).await.unwrap());
    let _: i64 = redis.cmd(&["DEL", "q"]).await;
    redis.push_all(&[job("x", "new"), job("y", "old"), job("z", "another")]).await;
    let claims = claim_together(&worker, 3).await;
    assert_eq!(claims.iter().map(name).collect::<Vec<_>>(), ["x", "y", "z"]);
    for claim in &claims {
        let end = worker.queue.store_outcome(claim, &cancelled()).await.unwrap();
        assert_eq!(end, Fenced::Stored, "{}", name(claim));
        worker.queue.acknowledge(claim).await.unwrap();
    }
    assert_eq!(redis.len(&worker.claimed()).await, 0);
}

#[tokio::test]
async fn a_claim_whose_caller_went_away_goes_back_to_the_queue_also_where_that_fails_at_first() {
    let (redis, _proxy, worker) = a_claim_that_cannot_go_back().await;
    let _: () = redis.cmd(&["ACL", "SETUSER", "default", "+lrem"]).await;
    until(30, "it waits for whoever claims next", async || redis.len("q").await == 1).await;
    assert_eq!(name(&worker.claim().await), "d1");
}

#[tokio::test]
async fn a_frozen_redis_loses_no_job_and_gives_none_twice() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&job("d0", "s0")).await;
    worker.claim().await;
    let claims = async {
        let mut seen = Vec::new();
        while seen.len() < 3 {
            seen.push(name(&worker.queue.claim().await).to_owned());
        }
        seen
    };
    let trouble = async {
        for n in 1..4 {
            redis.push(&job(&format!("d{n}"), &format!("s{n}"))).await;
            redis.signal("-STOP");
            tokio::time::sleep(std::time::Duration::from_secs(7)).await;
            redis.signal("-CONT");
        }
    };
    let (seen, ()) = within(60, async { tokio::join!(claims, trouble) }).await;
    assert_eq!(seen, ["d1", "d2", "d3"]);
    assert_eq!(redis.len(&worker.claimed()).await, 4);
}

#[tokio::test]
async fn a_newer_job_whose_record_is_gone_takes_no_waiting_jobs_place() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&job("d1", "svc")).await;
    let claim = worker.claim().await;
    assert!(worker.queue.give_back(&claim).await.unwrap());
    let _: i64 = redis.cmd(&["HSET", "{q}:service", "svc", "9000000000000000 ghost"]).await;
    let again = worker.claim().await;
    assert_eq!((name(&again), &again.fate), ("d1", &ClaimFate::Build));
    assert_eq!(redis.cmd::<String>(&["HGET", "{q}:service", "svc"]).await, format!("{} d1", claim.seq));
}

#[tokio::test]
pub async fn a_job_of_the_same_service_further_back_supersedes_this_one_unbuilt() {
    let redis = Redis::start().await;
    for n in 0..40 {
        redis.push(&job(&format!("other{n}"), &format!("s{n}"))).await;
    }
    let _: i64 = redis.cmd(&["LPUSH", "q", &job("old", "svc")]).await;
    redis.push(&job("new", "svc")).await;
    let worker = redis.worker().await;
    assert_eq!(worker.claim().await.fate, ClaimFate::Superseded { by: id("new") });
    // However it is written, and whatever else is in it.
    let _: i64 = redis.cmd(&["LPUSH", "q", &job("older", "svc2")]).await;
    redis
        .push(r#"{"x":{"serviceId":"other"}, "deployment\u0049d":"newer", "serviceId" : "svc2", "branch":"main", "repositoryName":"o/r", "gitProvider":{}}"#)
        .await;
    assert_eq!(worker.claim().await.fate, ClaimFate::Superseded { by: id("newer") });
}

#[tokio::test]
async fn a_newer_job_that_was_cancelled_supersedes_nothing() {
    let redis = Redis::start().await;
    let producer = Producer::connect(&redis.config()).await.unwrap();
    producer.cancel(&id("new")).await.unwrap();
    redis.push(&job("old", "svc")).await;
    redis.push(&job("new", "svc")).await;
    let worker = redis.worker().await;
    let old = worker.claim().await;
    assert_eq!((name(&old), &old.fate), ("old", &ClaimFate::Build));
    let new = worker.claim().await;
    assert_eq!((name(&new), &new.fate), ("new", &ClaimFate::Cancelled));
    assert_eq!(
        worker.queue.may_post(&old, Telling::End).await.unwrap(),
        slipway::queue::Fenced::Stored,
        "a status on the way may be told"
    );
    assert_eq!(worker.queue.store_outcome(&old, &builded()).await.unwrap(), slipway::queue::Fenced::Stored);
}

#[tokio::test]
pub async fn the_same_deployment_pushed_twice_waits_in_the_record_and_is_dropped_after_a_good_end() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&job("d1", "s1")).await;
    let first = worker.claim().await;
    redis.push(&job("d1", "s1")).await;
    redis.push(&job("d2", "s2")).await;
    assert_eq!(name(&worker.claim().await), "d2");
    assert_eq!(redis.cmd::<usize>(&["HEXISTS", "{q}:jobs", "d1/parked"]).await, 1);
    worker.queue.store_outcome(&first, &builded()).await.unwrap();
    worker.queue.acknowledge(&first).await.unwrap();
    assert_eq!(redis.cmd::<usize>(&["HEXISTS", "{q}:jobs", "d1/parked"]).await, 0);
    assert_eq!(redis.len("q").await, 0);
    redis.push(&job("d1", "s1")).await;
    let again = worker.claim().await;
    assert_eq!((again.attempt, &again.fate), (2, &ClaimFate::Build), "pushed again after the end it is a new job");
}
