//! Many hosts, one queue.

use std::time::{Duration, Instant};

use slipway::protocol::Code;
use slipway::queue::{ClaimFate, Fenced, GateState, Notice, Producer, Standing, Telling};

use crate::proxy::{Link, Proxy};
use crate::rig::*;

#[tokio::test]
pub async fn a_dead_workers_jobs_start_on_another_host_within_45_s_at_the_head_of_the_queue_as_their_records_say() {
    let redis = Redis::start().await;
    let (one, two) = (redis.worker().await, redis.worker().await);
    for name in ["unfinished", "ended", "cancelled"] {
        redis.push(&job(name, name)).await;
    }
    redis.push("not json").await;
    let (unfinished, ended, _, _) = (one.claim().await, one.claim().await, one.claim().await, one.claim().await);
    one.queue.store_outcome(&ended, &builded()).await.unwrap();
    // Somebody takes an element out by hand: a record without a job, and the newest of its service.
    redis.push(&job("ghost", "ghost")).await;
    one.claim().await;
    assert_eq!(redis.cmd::<i64>(&["LREM", &one.claimed(), "1", &job("ghost", "ghost")]).await, 1);
    redis.push(&job("next", "next")).await;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    one.die().await;
    let died = Instant::now();
    let _: i64 = redis.cmd(&["HSET", "{q}:jobs", "x/y", "no record"]).await;
    let producer = Producer::connect(&redis.config()).await.unwrap();
    producer.cancel(&id("cancelled")).await.unwrap();

    // Until the lease is gone the other host gets what nobody has, and nothing else.
    assert_eq!(name(&two.claim().await), "next");
    let first = within(45, two.queue.claim()).await;
    let took = died.elapsed();
    assert!((15..45).contains(&took.as_secs()), "{took:?}");
    assert_eq!((name(&first), first.attempt, first.seq, &first.fate), ("unfinished", 2, unfinished.seq, &ClaimFate::Build));
    let from = first.taken_over.clone().unwrap();
    assert_eq!((from.host, from.attempt), (host, 1), "the log can say where that attempt ended");
    let second = two.claim().await;
    assert_eq!((name(&second), &second.fate), ("ended", &ClaimFate::Ended(builded())));
    let third = two.claim().await;
    assert_eq!((name(&third), &third.fate), ("cancelled", &ClaimFate::Cancelled));
    assert_eq!(two.claim().await.payload, "not json");
    until(10, "the dead worker is forgotten", async || redis.cmd::<usize>(&["HLEN", "{q}:workers"]).await == 2).await;
    assert_eq!(redis.cmd::<i64>(&["HEXISTS", "{q}:jobs", "ghost"]).await, 0);
    assert_eq!(redis.cmd::<i64>(&["HEXISTS", "{q}:service", "ghost"]).await, 0, "nor does it stand in the way of its service");
}

#[tokio::test]
async fn a_host_that_was_cut_off_while_another_took_over_sends_nothing_and_drops_its_build() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.port).await;
    let mut one = redis.worker_behind(&proxy).await;
    let two = redis.worker().await;
    redis.push(&job("d1", "s1")).await;
    let old = one.claim().await;
    let mut open = one.gate.clone();
    within(5, open.open()).await;
    proxy.set(Link::Cut);
    let cut = Instant::now();
    let asked = one.queue.may_post(&old, Telling::End).await;
    assert!(asked.is_err() && cut.elapsed() < Duration::from_secs(7), "an answer, if only that there is none, comes soon");
    let new = within(50, two.queue.claim()).await;
    assert_eq!(one.gate.state(), GateState::Shut, "shut before anybody could take over");
    assert_eq!((name(&new), new.attempt), ("d1", 2));
    assert_eq!(two.queue.store_outcome(&new, &failed(Code::GitAuth)).await.unwrap(), Fenced::Stored);
    two.queue.acknowledge(&new).await.unwrap();
    proxy.set(Link::Whole);
    until(10, "the link heals", async || one.queue.may_post(&old, Telling::End).await.is_ok()).await;
    assert_eq!(one.queue.store_outcome(&old, &builded()).await.unwrap(), Fenced::Lost);
    assert!(!one.queue.give_back(&old).await.unwrap());
    within(20, open.open()).await;
    assert_eq!(redis.len("q").await, 0);
    // It goes on with what is its own.
    redis.push(&job("d2", "s2")).await;
    redis.push(&job("d3", "s3")).await;
    one.claim().await;
    // Heard or read from an answer: it was lost once.
    let heard: Vec<Notice> = std::iter::from_fn(|| one.notices.try_recv().ok()).collect();
    assert!(heard.len() <= 1 && heard.iter().all(|n| matches!(n, Notice::Lost(d) if *d == id("d1"))), "{heard:?}");
}

#[tokio::test]
async fn a_running_attempt_that_was_taken_over_is_noticed_as_lost() {
    let redis = Redis::start().await;
    let (mut one, two) = (redis.worker().await, redis.worker().await);
    redis.push(&job("d1", "s1")).await;
    one.claim().await;
    // The other host has been calm for 30 s when the lease vanishes; the owner renews it within 10 s, so it is removed again and again.
    let taken = async {
        loop {
            redis.end_lease(&one.lease()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let claim = tokio::select! {
        () = taken => unreachable!(),
        claim = within(60, two.queue.claim()) => claim,
    };
    assert_eq!((name(&claim), claim.attempt), ("d1", 2));
    assert!(matches!(one.notice(15).await, Notice::Lost(d) if d == id("d1")));
}

#[tokio::test]
async fn a_lease_that_had_run_out_opens_no_gate_before_it_is_known_whose_the_attempts_are() {
    let redis = Redis::start().await;
    let mut one = redis.worker().await;
    redis.push(&job("d1", "s1")).await;
    one.claim().await;
    until(5, "open", async || one.gate.state() == GateState::Open).await;
    // The records cannot be looked at when the lease is taken again.
    let _: () = redis.cmd(&["RENAME", "{q}:jobs", "{q}:aside"]).await;
    let _: () = redis.cmd(&["SET", "{q}:jobs", "a string"]).await;
    redis.end_lease(&one.lease()).await;
    until(15, "the lease is renewed", async || redis.cmd::<i64>(&["EXISTS", &one.lease()]).await == 1).await;
    until(5, "the gate is shut", async || one.gate.state() == GateState::Shut).await;
    // Meanwhile another worker has taken the attempt.
    let _: i64 = redis.cmd(&["DEL", "{q}:jobs"]).await;
    let record = r#"{"worker":"other","attempt":2,"seq":"1"}"#;
    let _: i64 = redis.cmd(&["HSET", "{q}:jobs", "d1", record]).await;
    let mut open = one.gate.clone();
    within(10, open.open()).await;
    let told = one.notices.try_recv();
    assert!(matches!(&told, Ok(Notice::Lost(d)) if *d == id("d1")), "told before the gate opened: {told:?}");
}

#[tokio::test]
async fn after_a_restart_of_redis_nothing_is_taken_over_before_everybody_had_30_s_to_come_back() {
    let mut redis = Redis::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let (dead, idle) = (redis.worker().await, redis.worker().await);
    redis.push(&job("d1", "s1")).await;
    dead.claim().await;
    let lease = dead.lease();
    dead.die().await;
    redis.restart().await;
    let back = Instant::now();
    redis.end_lease(&lease).await;
    let claim = within(60, idle.queue.claim()).await;
    assert_eq!(name(&claim), "d1");
    let took = back.elapsed();
    assert!(took >= Duration::from_secs(30), "after {took:?}");
}

#[tokio::test]
async fn an_outage_longer_than_the_leases_moves_no_job_and_the_gate_follows_it() {
    let mut redis = Redis::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let (one, two) = (redis.worker().await, redis.worker().await);
    redis.push(&job("d1", "s1")).await;
    redis.push(&job("d2", "s2")).await;
    let (first, second) = (one.claim().await, two.claim().await);
    until(5, "open", async || one.gate.state() == GateState::Open && two.gate.state() == GateState::Open).await;
    redis.kill();
    until(25, "shut", async || one.gate.state() == GateState::Shut && two.gate.state() == GateState::Shut).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    redis.revive().await;
    until(10, "open again", async || one.gate.state() == GateState::Open && two.gate.state() == GateState::Open).await;
    assert_eq!(one.queue.store_outcome(&first, &builded()).await.unwrap(), Fenced::Stored);
    assert_eq!(two.queue.store_outcome(&second, &builded()).await.unwrap(), Fenced::Stored);
}

#[tokio::test]
async fn the_first_host_back_after_an_outage_takes_nothing_from_one_that_comes_back_a_little_later() {
    let redis = Redis::start().await;
    let links = (Proxy::to(redis.port).await, Proxy::to(redis.port).await);
    let (one, two) = (redis.worker_behind(&links.0).await, redis.worker_behind(&links.1).await);
    redis.push(&job("d1", "s1")).await;
    let claim = one.claim().await;
    links.0.set(Link::Cut);
    links.1.set(Link::Cut);
    let leases = async || redis.cmd::<i64>(&["EXISTS", &one.lease(), &two.lease()]).await;
    until(40, "both leases are gone", async || leases().await == 0).await;
    links.1.set(Link::Whole);
    let taken = tokio::time::timeout(Duration::from_secs(15), two.queue.claim()).await;
    assert!(taken.is_err(), "taken over: {taken:?}");
    links.0.set(Link::Whole);
    until(15, "the link heals", async || one.queue.may_post(&claim, Telling::End).await.is_ok()).await;
    assert_eq!(one.queue.store_outcome(&claim, &builded()).await.unwrap(), Fenced::Stored);
}

#[tokio::test]
async fn a_living_workers_job_stays_its_own_however_long_it_takes() {
    let redis = Redis::start().await;
    let (one, two) = (redis.worker().await, redis.worker().await);
    redis.push(&job("d1", "s1")).await;
    let claim = one.claim().await;
    let taken = tokio::time::timeout(Duration::from_secs(45), two.queue.claim()).await;
    assert!(taken.is_err(), "taken over: {taken:?}");
    assert_eq!(one.queue.store_outcome(&claim, &builded()).await.unwrap(), Fenced::Stored);
}

#[tokio::test]
async fn a_worker_whose_lease_another_process_holds_claims_nothing_until_it_is_free() {
    let redis = Redis::start().await;
    let one = redis.worker().await;
    until(5, "open", async || one.gate.state() == GateState::Open).await;
    // As a process does that has a copy of its WORK_DIR.
    let _: () = redis.cmd(&["SET", &one.lease(), "another's nonce", "PX", "60000"]).await;
    redis.push(&job("d1", "s1")).await;
    let claim = one.queue.claim();
    tokio::pin!(claim);
    assert!(tokio::time::timeout(Duration::from_secs(3), &mut claim).await.is_err(), "claimed");
    assert_eq!(redis.len("q").await + redis.len("{q}:incoming").await, 1);
    redis.end_lease(&one.lease()).await;
    assert_eq!(name(&within(20, claim).await), "d1");
}

#[tokio::test]
async fn a_newer_job_of_the_service_cancels_the_older_one_on_another_host_and_its_end_waits_for_it() {
    let redis = Redis::start().await;
    let (mut one, two) = (redis.worker().await, redis.worker().await);
    redis.push(&job("old", "svc")).await;
    let old = one.claim().await;
    until(5, "the first worker listens", async || redis.cmd::<usize>(&["PUBLISH", "{q}:notices", ""]).await == 2).await;
    redis.push(&job("new", "svc")).await;
    let new = two.claim().await;
    assert_eq!(new.fate, ClaimFate::Build);
    let Notice::Superseded { deployment, by } = one.notice(2).await else { panic!("not superseded") };
    assert_eq!((deployment, by), (id("old"), id("new")));

    let end = builded();
    let ended = two.queue.store_outcome(&new, &end);
    tokio::pin!(ended);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut ended).await.is_err(), "the older one is not closed yet");
    assert_eq!(one.queue.store_outcome(&old, &builded()).await.unwrap(), Fenced::Superseded { by: id("new") });
    assert_eq!(one.queue.may_post(&old, Telling::End).await.unwrap(), Fenced::Stored, "CANCELLED, naming the newer one");
    one.queue.acknowledge(&old).await.unwrap();
    assert_eq!(within(3, &mut ended).await.unwrap(), Fenced::Stored);
}

#[tokio::test]
async fn a_failed_of_the_newer_job_waits_for_nobody_and_a_cancel_ends_the_wait() {
    let redis = Redis::start().await;
    let (one, two) = (redis.worker().await, redis.worker().await);
    redis.push(&job("old", "svc")).await;
    let _old = one.claim().await;
    redis.push(&job("new", "svc")).await;
    let new = two.claim().await;
    let producer = Producer::connect(&redis.config()).await.unwrap();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        producer.cancel(&id("new")).await.unwrap();
    };
    let end = builded();
    let (fenced, ()) = within(5, async { tokio::join!(two.queue.store_outcome(&new, &end), cancel) }).await;
    assert_eq!(fenced.unwrap(), Fenced::Cancelled);
    two.queue.acknowledge(&new).await.unwrap();
    redis.push(&job("newest", "svc")).await;
    let newest = two.claim().await;
    assert_eq!(within(3, two.queue.store_outcome(&newest, &failed(Code::GitAuth))).await.unwrap(), Fenced::Stored);
}

#[tokio::test]
async fn the_newer_jobs_end_waits_for_a_dead_older_one_until_its_lease_is_gone_plus_one_http_time_out() {
    let redis = Redis::start().await;
    let one = redis.worker().await;
    let two = Worker::start(&redis.config(), tempfile::tempdir().unwrap(), Duration::from_secs(3)).await;
    redis.push(&job("old", "svc")).await;
    one.claim().await;
    redis.push(&job("new", "svc")).await;
    let new = two.claim().await;
    let lease = one.lease();
    one.die().await;
    redis.end_lease(&lease).await;
    let gone = Instant::now();
    assert_eq!(within(20, two.queue.store_outcome(&new, &builded())).await.unwrap(), Fenced::Stored);
    assert!(gone.elapsed() >= Duration::from_millis(2900), "{:?}", gone.elapsed());
}

#[tokio::test]
async fn an_older_job_given_back_after_a_newer_one_began_is_superseded_when_it_comes_again() {
    let redis = Redis::start().await;
    let (one, two) = (redis.worker().await, redis.worker().await);
    redis.push(&job("old", "svc")).await;
    let old = one.claim().await;
    assert!(one.queue.give_back(&old).await.unwrap());
    // Another host takes the newer one first: the older one lies behind it for once.
    let _: Option<String> = redis.cmd(&["LMOVE", "q", "{q}:aside", "LEFT", "RIGHT"]).await;
    redis.push(&job("new", "svc")).await;
    let new = two.claim().await;
    let _: Option<String> = redis.cmd(&["LMOVE", "{q}:aside", "q", "LEFT", "LEFT"]).await;
    let again = one.claim().await;
    assert_eq!((name(&again), &again.fate), ("old", &ClaimFate::Superseded { by: id("new") }));
    assert_eq!(again.seq, old.seq);
    assert!(new.seq > old.seq);
}

#[tokio::test]
async fn three_dead_workers_end_a_job_in_the_dead_letter_and_orderly_ones_do_not() {
    let redis = Redis::start().await;
    let reaper = redis.worker().await;
    let mut claim = None;
    redis.push(&job("killer", "s1")).await;
    for fate in [ClaimFate::Build, ClaimFate::Build, ClaimFate::BuildAlone, ClaimFate::CrashedWorkers { attempts: 3 }] {
        let victim = redis.worker().await;
        let taken = within(60, victim.queue.claim()).await;
        assert_eq!(taken.fate, fate);
        let lease = victim.lease();
        victim.die().await;
        redis.end_lease(&lease).await;
        claim = Some(taken);
    }
    assert_eq!(claim.unwrap().attempt, 4);
    redis.push(&job("d2", "s2")).await;
    let orderly = redis.worker().await;
    let seen = within(60, async { [orderly.queue.claim().await, orderly.queue.claim().await] }).await;
    assert!(seen.iter().any(|c| name(c) == "d2") && seen.iter().any(|c| name(c) == "killer"));
    orderly.queue.release().await.unwrap();
    let lease = orderly.lease();
    orderly.die().await;
    // Its own next start has half a minute to take them up.
    redis.end_lease(&lease).await;
    let next = within(20, async { [reaper.queue.claim().await, reaper.queue.claim().await] }).await;
    let d2 = next.iter().find(|c| name(c) == "d2").unwrap();
    assert_eq!((d2.attempt, &d2.fate), (2, &ClaimFate::Build));
    assert_eq!(redis.cmd::<usize>(&["HLEN", "{q}:crashes"]).await, 1, "only the killer's payload");
}

#[tokio::test]
async fn a_restarted_worker_asks_what_became_of_its_journals() {
    let redis = Redis::start().await;
    let (one, two) = (redis.worker().await, redis.worker().await);
    for name in ["ours", "waiting", "ended", "elsewhere"] {
        redis.push(&job(name, name)).await;
    }
    let (_ours, waiting, ended) = (one.claim().await, one.claim().await, one.claim().await);
    one.queue.store_outcome(&ended, &builded()).await.unwrap();
    one.queue.acknowledge(&ended).await.unwrap();
    two.claim().await;
    let two_id = two.id.clone();
    let _: i64 = redis.cmd(&["DEL", "q"]).await;
    one.queue.give_back(&waiting).await.unwrap();
    let one = redis.worker_in(one.die().await).await;
    assert_eq!(one.queue.standing(&id("ours")).await.unwrap(), Standing::Ours { attempt: 1 });
    assert_eq!(one.queue.standing(&id("waiting")).await.unwrap(), Standing::Waiting { attempt: 1 });
    assert_eq!(one.queue.standing(&id("ended")).await.unwrap(), Standing::Ended);
    assert_eq!(one.queue.standing(&id("never")).await.unwrap(), Standing::Ended, "the same Redis and no record");
    let elsewhere = one.queue.standing(&id("elsewhere")).await.unwrap();
    assert_eq!(elsewhere, Standing::Elsewhere { attempt: 1, worker: two_id });
}
