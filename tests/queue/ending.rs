//! How jobs go out.

use slipway::protocol::{Code, Outcome};
use slipway::queue::{Acknowledged, CancelFound, ClaimFate, Fenced, Notice, Producer, QueueError, Telling};

use crate::rig::*;

#[tokio::test]
async fn an_end_is_stored_once_and_the_same_end_may_be_stored_again() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&job("d1", "s1")).await;
    let claim = worker.claim().await;
    for _ in 0..2 {
        assert_eq!(worker.queue.store_outcome(&claim, &builded()).await.unwrap(), Fenced::Stored);
        assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored);
    }
    let other = worker.queue.store_outcome(&claim, &failed(Code::EngineLost)).await.unwrap();
    assert_eq!(other, Fenced::Stands(builded()), "what may have been seen is told again, and no other end");
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored);
    for _ in 0..2 {
        worker.queue.acknowledge(&claim).await.unwrap();
    }
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Lost);
}

#[tokio::test]
pub async fn an_end_that_was_not_sent_yet_is_voided_by_a_cancel() {
    let redis = Redis::start().await;
    let mut worker = redis.worker().await;
    let producer = Producer::connect(&redis.config()).await.unwrap();
    redis.push(&job("d1", "s1")).await;
    let claim = worker.claim().await;
    assert_eq!(worker.queue.store_outcome(&claim, &builded()).await.unwrap(), Fenced::Stored);
    assert_eq!(producer.cancel(&id("d1")).await.unwrap(), CancelFound::Running { worker: worker.id.clone() });
    assert!(producer.is_alive(&worker.id).await && !producer.is_alive("a-worker-without-a-lease").await);
    assert!(matches!(worker.notice(5).await, Notice::Cancelled(d) if d == id("d1")));
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Cancelled);
    assert_eq!(worker.queue.may_post(&claim, Telling::Status).await.unwrap(), Fenced::Cancelled, "no BUILDING either");
    // What was asked for the status says nothing for the end that waits behind it.
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Cancelled, "BUILDED may not be posted");
    assert_eq!(worker.queue.store_outcome(&claim, &cancelled()).await.unwrap(), Fenced::Stored);
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored, "CANCELLED may be posted now");
    assert_eq!(worker.queue.store_outcome(&claim, &builded()).await.unwrap(), Fenced::Cancelled);
    assert_eq!(worker.queue.store_outcome(&claim, &cancelled()).await.unwrap(), Fenced::Stored);
}

#[tokio::test]
async fn a_late_building_goes_out_and_the_failed_behind_it_is_still_voided_by_a_cancel() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    let producer = Producer::connect(&redis.config()).await.unwrap();
    redis.push(&job("d1", "s1")).await;
    let claim = worker.claim().await;
    assert_eq!(worker.queue.may_post(&claim, Telling::Status).await.unwrap(), Fenced::Stored, "nothing has ended yet");
    worker.queue.store_outcome(&claim, &failed(Code::GitAuth)).await.unwrap();
    assert_eq!(worker.queue.may_post(&claim, Telling::Status).await.unwrap(), Fenced::Stored, "FAILED waits behind it");
    producer.cancel(&id("d1")).await.unwrap();
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Cancelled, "FAILED was not sent yet");
    assert_eq!(worker.queue.store_outcome(&claim, &cancelled()).await.unwrap(), Fenced::Stored);
    assert_eq!(worker.queue.may_post(&claim, Telling::Status).await.unwrap(), Fenced::Cancelled);
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored);
}

#[tokio::test]
async fn no_status_on_the_way_follows_an_end_that_may_have_been_seen() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&job("d1", "s1")).await;
    let claim = worker.claim().await;
    worker.queue.store_outcome(&claim, &builded()).await.unwrap();
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored);
    assert_eq!(worker.queue.may_post(&claim, Telling::Status).await.unwrap(), Fenced::Stands(builded()));
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored, "the end itself may be repeated");
}

#[tokio::test]
async fn a_cancel_that_met_a_builded_on_its_way_keeps_the_job_until_cancelled_was_told() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    let producer = Producer::connect(&redis.config()).await.unwrap();
    redis.push(&job("d1", "s1")).await;
    let claim = worker.claim().await;
    worker.queue.store_outcome(&claim, &builded()).await.unwrap();
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored);
    // BUILDED is on its way; the dashboard takes it before the worker hears of the cancel.
    assert_eq!(producer.cancel(&id("d1")).await.unwrap(), CancelFound::Running { worker: worker.id.clone() });
    for _ in 0..2 {
        assert_eq!(worker.queue.acknowledge(&claim).await.unwrap(), Acknowledged::Cancelled);
    }
    assert_eq!(redis.len(&worker.claimed()).await, 1);
    assert_eq!(worker.queue.store_outcome(&claim, &cancelled()).await.unwrap(), Fenced::Stored);
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored);
    assert_eq!(worker.queue.acknowledge(&claim).await.unwrap(), Acknowledged::Removed);
    assert_eq!(redis.len(&worker.claimed()).await, 0);
}

#[tokio::test]
async fn a_cancel_after_a_failed_that_may_have_been_seen_changes_nothing() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    let producer = Producer::connect(&redis.config()).await.unwrap();
    redis.push(&job("d1", "s1")).await;
    let claim = worker.claim().await;
    worker.queue.store_outcome(&claim, &failed(Code::DockerfileSyntax)).await.unwrap();
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored);
    producer.cancel(&id("d1")).await.unwrap();
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored);
}

#[tokio::test]
pub async fn a_cancel_of_a_queued_job_takes_it_out_of_the_queue_and_reports_it_without_a_build_slot() {
    let redis = Redis::start().await;
    let mut worker = redis.worker().await;
    let producer = Producer::connect(&redis.config()).await.unwrap();
    redis.push(&job("d1", "s1")).await;
    let _running = worker.claim().await;
    for n in 2..100 {
        redis.push(&job(&format!("d{n}"), &format!("s{n}"))).await;
    }
    // No slot is free: nobody calls claim.
    assert_eq!(producer.cancel(&id("d77")).await.unwrap(), CancelFound::Queued);
    let Notice::Claimed(claim) = worker.notice(5).await else { panic!("not claimed") };
    assert_eq!((name(&claim), &claim.fate), ("d77", &ClaimFate::Cancelled));
    assert_eq!(redis.len("q").await, 97);
    assert_eq!(worker.queue.store_outcome(&claim, &cancelled()).await.unwrap(), Fenced::Stored);
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored);
    worker.queue.acknowledge(&claim).await.unwrap();
    assert_eq!(producer.cancel(&id("d77")).await.unwrap(), CancelFound::Ended);
}

#[tokio::test]
async fn a_worker_that_has_not_looked_for_room_yet_leaves_a_cancelled_job_in_the_queue() {
    let redis = Redis::start().await;
    let (identity, _lock) = slipway::queue::WorkerIdentity::open(tempfile::tempdir().unwrap().path()).unwrap();
    let queue = slipway::queue::Queue::connect(&redis.config(), identity, std::time::Duration::from_secs(60)).await.unwrap();
    let (tasks, stop) = (tokio_util::task::TaskTracker::new(), tokio_util::sync::CancellationToken::new());
    redis.push(&job("running", "s1")).await;
    let _running = queue.claim().await;
    redis.push(&job("queued", "s2")).await;
    let producer = Producer::connect(&redis.config()).await.unwrap();
    assert_eq!(producer.cancel(&id("queued")).await.unwrap(), CancelFound::Queued);
    producer.cancel(&id("running")).await.unwrap();
    // The look of the start finds both.
    let (_gate, mut notices) = queue.run(&tokio::runtime::Handle::current(), &tasks, stop.clone());
    let Some(Notice::Cancelled(heard)) = within(5, notices.recv()).await else { panic!("claimed all the same") };
    assert_eq!(heard.as_str(), "running");
    assert!(tokio::time::timeout(std::time::Duration::from_millis(500), notices.recv()).await.is_err());
    queue.allow_claims(true);
    let Some(Notice::Claimed(claim)) = within(30, notices.recv()).await else { panic!("not claimed") };
    assert_eq!(name(&claim), "queued");
}

#[tokio::test]
async fn a_worker_that_may_claim_nothing_leaves_a_cancelled_job_in_the_queue_until_it_may() {
    let redis = Redis::start().await;
    let mut worker = redis.worker().await;
    let producer = Producer::connect(&redis.config()).await.unwrap();
    redis.push(&job("running", "s1")).await;
    let _running = worker.claim().await;
    redis.push(&job("queued", "s2")).await;
    worker.queue.allow_claims(false);
    assert_eq!(producer.cancel(&id("queued")).await.unwrap(), CancelFound::Queued);
    // Cancels are heard in their order: the first one has been seen to when the second one is.
    producer.cancel(&id("running")).await.unwrap();
    let Notice::Cancelled(heard) = worker.notice(5).await else { panic!("claimed all the same") };
    assert_eq!(heard.as_str(), "running");
    worker.queue.allow_claims(true);
    let Notice::Claimed(claim) = worker.notice(30).await else { panic!("not claimed") };
    assert_eq!((name(&claim), &claim.fate), ("queued", &ClaimFate::Cancelled));
}

#[tokio::test]
pub async fn a_cancel_with_no_worker_there_waits_for_the_job() {
    let redis = Redis::start().await;
    let producer = Producer::connect(&redis.config()).await.unwrap();
    redis.push(&job("d1", "s1")).await;
    assert_eq!(producer.cancel(&id("d1")).await.unwrap(), CancelFound::Queued);
    assert_eq!(producer.cancel(&id("later")).await.unwrap(), CancelFound::Unknown);
    assert_eq!(producer.cancel(&id("later")).await.unwrap(), CancelFound::Unknown);
    redis.push(&job("later", "s2")).await;
    let mut worker = redis.worker().await;
    let Notice::Claimed(claim) = worker.notice(5).await else { panic!("not claimed") };
    assert_eq!(name(&claim), "d1");
    assert_eq!(worker.claim().await.fate, ClaimFate::Cancelled);
}

#[tokio::test]
async fn an_enqueue_clears_the_tombstone_of_its_id() {
    let redis = Redis::start().await;
    let producer = Producer::connect(&redis.config()).await.unwrap();
    producer.cancel(&id("d1")).await.unwrap();
    assert_eq!(producer.enqueue(job("d1", "s1").as_bytes(), &id("d1"), false).await.unwrap(), 1);
    assert_eq!(redis.worker().await.claim().await.fate, ClaimFate::Build);
}

#[tokio::test]
async fn people_may_publish_a_bare_id() {
    let redis = Redis::start().await;
    let mut worker = redis.worker().await;
    redis.push(&job("d1", "s1")).await;
    let claim = worker.claim().await;
    until(5, "the worker listens", async || redis.cmd::<usize>(&["PUBLISH", "builder:cancel", "not an id !"]).await > 0).await;
    let _: i64 = redis.cmd(&["PUBLISH", "builder:cancel", "d1"]).await;
    assert!(matches!(worker.notice(5).await, Notice::Cancelled(d) if d == id("d1")));
    assert_eq!(worker.queue.store_outcome(&claim, &builded()).await.unwrap(), Fenced::Cancelled);
}

#[tokio::test]
async fn a_job_given_back_is_at_the_head_of_the_queue_and_keeps_its_order() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&job("d1", "s1")).await;
    redis.push(&job("d2", "s2")).await;
    let first = worker.claim().await;
    assert!(worker.queue.give_back(&first).await.unwrap());
    assert!(worker.queue.give_back(&first).await.unwrap(), "a repeated call after a lost reply changes nothing");
    assert_eq!(redis.len("q").await, 2);
    assert_eq!(worker.queue.store_outcome(&first, &builded()).await.unwrap(), Fenced::Lost);
    let again = worker.claim().await;
    assert_eq!((name(&again), again.attempt, again.seq), ("d1", 2, first.seq));
    assert!(!worker.queue.give_back(&first).await.unwrap());
}

#[tokio::test]
async fn the_second_push_of_a_deployment_runs_when_the_first_ends_by_infrastructure_or_in_the_dead_letter() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    for dead in [false, true] {
        redis.push(&job("d1", "s1")).await;
        let first = worker.claim().await;
        redis.push(&job("d1", "s1")).await;
        redis.push(&job("next", "s2")).await;
        assert_eq!(name(&worker.claim().await), "next");
        worker.queue.store_outcome(&first, &failed(Code::EngineLost)).await.unwrap();
        if dead {
            worker.queue.dead_letter(&first, "{}").await.unwrap();
        } else {
            worker.queue.acknowledge(&first).await.unwrap();
        }
        let second = worker.claim().await;
        assert_eq!((name(&second), second.attempt, &second.fate), ("d1", first.attempt + 1, &ClaimFate::Build));
        worker.queue.give_back(&second).await.unwrap();
        let _: i64 = redis.cmd(&["DEL", "q", "{q}:jobs"]).await;
    }
}

#[tokio::test]
pub async fn a_restarted_worker_finds_its_claims_as_new_attempts_and_its_stored_ends_as_they_are() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    for payload in [job("d1", "s1"), job("d2", "s2"), "not json".into()] {
        redis.push(&payload).await;
    }
    let (_d1, d2, _none) = (worker.claim().await, worker.claim().await, worker.claim().await);
    worker.queue.store_outcome(&d2, &builded()).await.unwrap();
    let dir = worker.die().await;

    let started = std::time::Instant::now();
    let worker = redis.worker_in(dir).await;
    assert!(started.elapsed().as_secs() < 5, "its own nonce is in the lease: it takes over at once");
    for _ in 0..2 {
        let claims = worker.queue.resume().await.unwrap();
        if claims.is_empty() {
            break;
        }
        let seen: Vec<(Option<&str>, u32, &ClaimFate)> =
            claims.iter().map(|c| (c.deployment.as_ref().map(|d| d.as_str()), c.attempt, &c.fate)).collect();
        let ended = ClaimFate::Ended(builded());
        assert_eq!(seen[..2], [(Some("d1"), 2, &ClaimFate::Build), (Some("d2"), 1, &ended)]);
        assert_eq!(claims[2].payload, "not json");
        worker.queue.dead_letter(&claims[2], "{}").await.unwrap();
        assert_eq!(worker.queue.may_post(&claims[1], Telling::End).await.unwrap(), Fenced::Stored);
        assert_eq!(worker.queue.store_outcome(&claims[0], &failed(Code::GitAuth)).await.unwrap(), Fenced::Stored);
        for claim in &claims {
            worker.queue.acknowledge(claim).await.unwrap();
        }
    }
    assert_eq!(redis.len(&worker.claimed()).await, 0);
}

#[tokio::test]
async fn an_unfinished_claim_found_at_a_restart_counts_as_a_crash_and_the_third_goes_to_the_dead_letter() {
    let redis = Redis::start().await;
    redis.push(&job("killer", "s1")).await;
    let worker = redis.worker().await;
    worker.claim().await;
    let mut dir = worker.die().await;
    let mut fates = Vec::new();
    for _ in 0..3 {
        let worker = redis.worker_in(dir).await;
        fates.push(worker.queue.resume().await.unwrap().remove(0).fate);
        dir = worker.die().await;
    }
    assert_eq!(fates, [ClaimFate::Build, ClaimFate::BuildAlone, ClaimFate::CrashedWorkers { attempts: 3 }]);
    let worker = redis.worker_in(dir).await;
    let claim = worker.queue.resume().await.unwrap().remove(0);
    worker.queue.store_outcome(&claim, &failed(Code::JobCrashedWorkers)).await.unwrap();
    worker.queue.dead_letter(&claim, r#"{"reason":"job.crashed_workers"}"#).await.unwrap();
    assert_eq!(redis.cmd::<Vec<String>>(&["LRANGE", "{q}:dead", "0", "-1"]).await, [r#"{"reason":"job.crashed_workers"}"#]);
    assert_eq!(redis.cmd::<usize>(&["HLEN", "{q}:crashes"]).await, 0);
}

#[tokio::test]
async fn what_a_worker_left_behind_in_good_order_counts_as_no_crash() {
    let redis = Redis::start().await;
    redis.push(&job("d1", "s1")).await;
    let mut worker = redis.worker().await;
    worker.claim().await;
    for attempt in 2..6 {
        worker.queue.release().await.unwrap();
        worker = redis.worker_in(worker.die().await).await;
        let claim = worker.queue.resume().await.unwrap().remove(0);
        assert_eq!((claim.attempt, &claim.fate), (attempt, &ClaimFate::Build));
    }
}

#[tokio::test]
async fn a_second_process_with_a_copied_work_dir_is_refused_while_the_first_one_renews() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(worker.dir.path().join("identity"), copy.path().join("identity")).unwrap();
    let (identity, _lock) = slipway::queue::WorkerIdentity::open(copy.path()).unwrap();
    let error = within(20, slipway::queue::Queue::connect(&redis.config(), identity, std::time::Duration::from_secs(60)))
        .await
        .err()
        .unwrap();
    assert!(matches!(error, QueueError::IdentityTaken { .. }), "{error}");
}

#[tokio::test]
async fn every_kind_of_end_comes_back_from_redis_as_it_was_stored() {
    let redis = Redis::start().await;
    let ends: Vec<Outcome> = Code::ALL.iter().map(|c| failed(*c)).chain([builded(), cancelled()]).collect();
    let worker = redis.worker().await;
    for (n, end) in ends.iter().enumerate() {
        redis.push(&job(&format!("d{n}"), &format!("s{n}"))).await;
        let claim = worker.claim().await;
        worker.queue.store_outcome(&claim, end).await.unwrap();
    }
    let worker = redis.worker_in(worker.die().await).await;
    let fates: Vec<ClaimFate> = worker.queue.resume().await.unwrap().into_iter().map(|c| c.fate).collect();
    assert_eq!(fates, ends.into_iter().map(ClaimFate::Ended).collect::<Vec<_>>());
}

#[tokio::test]
async fn records_of_what_ended_stay_for_an_hour_and_no_more_than_10_000_of_them_and_one_that_goes_on_stays_for_ever() {
    const FILL: &str = "local now = tonumber(redis.call('TIME')[1]) * 1000
        for n = 1, 10100 do
          local id, at = 'a' .. n, n <= 100 and now - 3700000 or now
          redis.call('HSET', KEYS[1], id, cjson.encode({worker = 'w', attempt = 1, seq = '1', status = 'BUILDED', ended_at = at}))
          redis.call('ZADD', KEYS[2], at, id)
        end
        redis.call('ZADD', KEYS[2], 0, 'goes-on')";
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&job("goes-on", "another")).await;
    let goes_on = worker.claim().await;
    let _: Option<String> = redis.cmd(&["EVAL", FILL, "2", "{q}:jobs", "{q}:ended"]).await;
    let ended = async |count: usize| {
        for n in 0..count {
            redis.push(&job(&format!("d{n}"), &format!("s{n}"))).await;
            let claim = worker.claim().await;
            worker.queue.store_outcome(&claim, &builded()).await.unwrap();
            worker.queue.acknowledge(&claim).await.unwrap();
        }
        redis.cmd::<Vec<String>>(&["ZRANGE", "{q}:ended", "0", "-1"]).await
    };
    let old = (1..=100).map(|n| format!("a{n}")).collect::<Vec<_>>();
    let left = ended(160).await;
    assert!(old.iter().all(|id| !left.contains(id)), "those of more than an hour ago are gone");
    assert!(left.len() < 10_000 + 16 && left.len() > 9_900 && left.iter().any(|id| id == "d159"), "{}", left.len());
    let records: usize = redis.cmd(&["HLEN", "{q}:jobs"]).await;
    assert_eq!(records, left.len() + 1, "each has its record, and the one that goes on has its own");
    assert_eq!(worker.queue.store_outcome(&goes_on, &builded()).await.unwrap(), Fenced::Stored);
}
