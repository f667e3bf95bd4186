//! Redis in trouble: a clear word, no crash, and it goes on by itself.

use std::time::{Duration, Instant};

use slipway::config::{QueueConfig, QueueMode};
use slipway::protocol::Code;
use slipway::queue::{
    CancelFound, Claim, ClaimFate, Fenced, GateState, Keys, Notice, Producer, Queue, QueueError, Standing, Telling,
    WorkerIdentity, rule,
};

use crate::proxy::{Link, Proxy};
use crate::rig::*;

#[tokio::test]
async fn a_redis_that_is_not_there_or_refuses_the_login_is_named_with_address_cause_and_cure() {
    let redis = Redis::start().await;
    let _: () = redis.cmd(&["CONFIG", "SET", "requirepass", "right"]).await;
    let connect = async |config: QueueConfig| Producer::connect(&config).await.err().unwrap();
    let wrong = connect(QueueConfig { password: Some("wrong".to_owned().into()), ..redis.config() }).await;
    assert!(matches!(wrong, QueueError::Denied { .. }), "{wrong}");
    let none = connect(redis.config()).await;
    assert!(matches!(none, QueueError::Denied { .. }), "{none}");
    let gone = connect(QueueConfig { port: 1, ..redis.config() }).await.to_string();
    assert!(gone.contains("127.0.0.1:1") && gone.contains("refused") && gone.contains("REDIS_HOST"), "{gone}");
    let bad = connect(QueueConfig { queue_name: "a{b".into(), ..redis.config() }).await;
    assert!(matches!(bad, QueueError::Name { .. }), "{bad}");
}

#[tokio::test]
async fn what_answers_but_is_no_redis_is_named_so() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let web = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    };
    let redis = Redis::start().await;
    let config = QueueConfig { port, ..redis.config() };
    let error = tokio::select! {
        () = web => unreachable!(),
        answer = within(10, Producer::connect(&config)) => answer.err().unwrap(),
    };
    assert!(matches!(error, QueueError::Unreachable { .. }), "{error}");
}

#[tokio::test]
pub async fn a_key_of_a_wrong_type_is_named_nothing_is_lost_and_it_goes_on_when_it_is_gone() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    let producer = Producer::connect(&redis.config()).await.unwrap();
    for key in
        ["q", "{q}:incoming", "{q}:workers", "{q}:jobs", "{q}:service", "{q}:tombs", "{q}:crashes", "{q}:ended", "{q}:dead"]
    {
        let moved: Result<(), _> = redis.try_cmd(&["RENAME", key, "{q}:aside"]).await;
        let _: () = redis.cmd(&["SET", key, "a string"]).await;
        let job = job(&format!("d{}", key.replace(|c: char| !c.is_ascii_alphanumeric(), "")), "s");
        if key == "q" {
            let error = producer.enqueue(job.as_bytes(), &id("dq"), false).await.unwrap_err().to_string();
            assert!(error.contains("q is a string, not a list") && error.contains("Rename or delete"), "{error}");
        } else {
            redis.push(&job).await;
        }
        let patient = tokio::time::timeout(std::time::Duration::from_millis(1500), worker.queue.claim()).await;
        let _: i64 = redis.cmd(&["DEL", key]).await;
        if moved.is_ok() {
            let _: () = redis.cmd(&["RENAME", "{q}:aside", key]).await;
        }
        if key == "q" {
            redis.push(&job).await;
        }
        let claim = match patient {
            Ok(claim) => claim,
            Err(_) => worker.claim().await,
        };
        assert_eq!(claim.payload, job, "{key}");
        assert_eq!(worker.queue.store_outcome(&claim, &failed(Code::GitAuth)).await.unwrap(), Fenced::Stored, "{key}");
        worker.queue.acknowledge(&claim).await.unwrap();
        assert_eq!(redis.len(&worker.claimed()).await, 0, "{key}");
    }
}

#[tokio::test]
pub async fn a_full_redis_drains_and_takes_no_new_job() {
    let redis = Redis::start().await;
    let mut worker = redis.worker().await;
    for n in 0..20 {
        redis.push(&job(&format!("d{n}"), &format!("s{n}"))).await;
    }
    redis.push("not json").await;
    let _: () = redis.cmd(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    let producer = Producer::connect(&redis.config()).await.unwrap();
    let error = producer.enqueue(b"{}", &id("x"), false).await.unwrap_err().to_string();
    assert!(error.contains("maxmemory") && error.contains("Raise"), "{error}");
    assert_eq!(producer.cancel(&id("d19")).await.unwrap(), CancelFound::Queued);
    let Notice::Claimed(cancelled) = worker.notice(5).await else { panic!() };
    assert_eq!(name(&cancelled), "d19");
    for _ in 0..19 {
        let claim = worker.claim().await;
        assert_eq!(worker.queue.store_outcome(&claim, &builded()).await.unwrap(), Fenced::Stored);
        worker.queue.acknowledge(&claim).await.unwrap();
    }
    worker.queue.dead_letter(&worker.claim().await, "{}").await.unwrap();
    assert_eq!((redis.len("q").await, redis.len(&worker.claimed()).await), (0, 1));
    // The next renewals are PEXPIREs: not refused.
    until(15, "renewed", async || redis.cmd::<i64>(&["PTTL", &worker.lease()]).await > 29_000).await;
}

#[tokio::test]
async fn a_primary_that_became_a_read_only_replica_is_named_and_the_worker_goes_on_after_the_failover() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    let producer = Producer::connect(&redis.config()).await.unwrap();
    redis.push(&job("d1", "s1")).await;
    redis.push(&job("d2", "s2")).await;
    let claim = worker.claim().await;
    let _: () = redis.cmd(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let error = producer.enqueue(b"{}", &id("x"), false).await.unwrap_err().to_string();
    assert!(error.contains("read-only replica") && error.contains("primary"), "{error}");
    let error = worker.queue.store_outcome(&claim, &builded()).await.unwrap_err().to_string();
    assert!(error.contains("read-only replica"), "{error}");
    let (next, ()) = within(20, async {
        tokio::join!(worker.queue.claim(), async {
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            let _: () = redis.cmd(&["REPLICAOF", "NO", "ONE"]).await;
        })
    })
    .await;
    assert_eq!(name(&next), "d2");
    assert_eq!(worker.queue.store_outcome(&claim, &builded()).await.unwrap(), Fenced::Stored);
}

#[tokio::test]
async fn a_failover_that_lost_the_last_writes_takes_no_job_from_its_owner_and_gives_none_twice() {
    let mut primary = Redis::with(&["--repl-diskless-sync-delay", "0"]).await;
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &primary.port.to_string()]).await;
    let proxy = Proxy::to(primary.port).await;
    let worker = primary.worker_behind(&proxy).await;
    for name in ["running", "queued"] {
        primary.push(&job(name, name)).await;
    }
    let running = worker.claim().await;
    let held = worker.claimed();
    until(20, "the claim is replicated", async || replica.len(&held).await == 1 && replica.len("q").await == 1).await;
    // It is promoted; what the old primary still does it never hears of.
    let _: () = replica.cmd(&["REPLICAOF", "NO", "ONE"]).await;
    let queued = worker.claim().await;
    assert_eq!((name(&queued), replica.len("q").await), ("queued", 1));
    primary.kill();
    proxy.lead_to(replica.port);
    for claim in [&running, &queued] {
        until(20, "the new primary is found", async || worker.queue.may_post(claim, Telling::Status).await.is_ok()).await;
        assert_eq!(worker.queue.store_outcome(claim, &builded()).await.unwrap(), Fenced::Stored);
        assert_eq!(worker.queue.may_post(claim, Telling::End).await.unwrap(), Fenced::Stored);
        worker.queue.acknowledge(claim).await.unwrap();
    }
    replica.push(&job("next", "s3")).await;
    assert_eq!(name(&within(20, worker.queue.claim()).await), "next", "what ended is not in the queue again");
    assert_eq!((replica.len("q").await, replica.len(&held).await), (0, 1));
}

#[tokio::test]
pub async fn an_acl_user_with_the_listed_rights_and_no_other_can_do_everything() {
    let redis = Redis::start().await;
    let config = user(&redis, &[]).await;
    assert!(Queue::check(&config).await.unwrap().lacking.is_empty());
    let worker = Worker::start(&config, tempfile::tempdir().unwrap(), std::time::Duration::from_secs(60)).await;
    let mut other = Worker::start(&config, tempfile::tempdir().unwrap(), std::time::Duration::from_secs(60)).await;
    let producer = Producer::connect(&config).await.unwrap();
    for n in 0..4 {
        producer.enqueue(job(&format!("d{n}"), "svc").as_bytes(), &id(&format!("d{n}")), n == 3).await.unwrap();
    }
    let first = worker.claim().await;
    assert_eq!((name(&first), &first.fate), ("d3", &ClaimFate::Superseded { by: id("d0") }));
    end_cancelled(&worker, &first).await;
    // Else either of the two may take what is cancelled in the queue, and the lease of one that holds a job is kept for it.
    worker.queue.allow_claims(false);
    producer.cancel(&id("d1")).await.unwrap();
    let Notice::Claimed(claimed) = other.notice(10).await else { panic!("what was cancelled in the queue is claimed") };
    assert_eq!(name(&claimed), "d1");
    end_cancelled(&other, &claimed).await;
    let claimed = other.claim().await;
    assert_eq!(name(&claimed), "d0");
    assert!(other.queue.give_back(&claimed).await.unwrap());
    let again = worker.claim().await;
    worker.queue.dead_letter(&again, "{}").await.unwrap();
    assert!(worker.queue.standing(&id("d2")).await.is_ok());
    let (lease, dir) = (worker.lease(), worker.die().await);
    let back = Worker::start(&config, dir, std::time::Duration::from_secs(60)).await;
    back.queue.resume().await.unwrap();
    // As the daemon does: a keeper that still runs would take it again.
    back.stop.cancel();
    back.tasks.close();
    back.tasks.wait().await;
    // What the keeper had sent last may arrive late: then it is released again.
    until(20, "the lease is gone", async || {
        back.queue.release().await.unwrap();
        redis.cmd::<i64>(&["EXISTS", &lease]).await == 0
    })
    .await;
}

async fn end_cancelled(worker: &Worker, claim: &Claim) {
    worker.queue.store_outcome(claim, &cancelled()).await.unwrap();
    assert_eq!(worker.queue.may_post(claim, Telling::End).await.unwrap(), Fenced::Stored);
    worker.queue.acknowledge(claim).await.unwrap();
}

#[tokio::test]
async fn without_a_right_the_worker_does_not_start_and_names_the_rule_that_grants_it() {
    let redis = Redis::start().await;
    let config = user(&redis, &["-lmove"]).await;
    let checked = Queue::check(&config).await.unwrap_err();
    let dir = tempfile::tempdir().unwrap();
    let (identity, _lock) = WorkerIdentity::open(dir.path()).unwrap();
    let refused = Queue::connect(&config, identity.clone(), Duration::from_secs(60)).await.err().expect("a right is missing");
    assert_eq!(refused, checked);
    let text = refused.to_string();
    assert!(text.contains("needs: lmove.") && text.contains("+lmove ") && text.contains("REDIS_MODE=plain"), "{text}");

    let _: () = redis.cmd(&["ACL", "SETUSER", "slipway", "+lmove"]).await;
    assert!(Queue::connect(&config, identity, Duration::from_secs(60)).await.is_ok(), "the right was granted");
}

#[tokio::test]
async fn a_user_of_the_predecessor_with_the_list_and_the_channel_alone_gets_its_jobs_in_the_plain_mode() {
    let redis = Redis::start().await;
    let _: () = redis
        .cmd(&[
            "ACL",
            "SETUSER",
            "old",
            "on",
            ">pw",
            "~q",
            "resetchannels",
            "&builder:cancel",
            "+blpop",
            "+lpush",
            "+subscribe",
            "+ping",
        ])
        .await;
    let config = QueueConfig {
        username: Some("old".into()),
        password: Some("pw".to_owned().into()),
        mode: QueueMode::Plain,
        ..redis.config()
    };
    let mut worker = Worker::start(&config, tempfile::tempdir().unwrap(), std::time::Duration::from_secs(60)).await;
    plain_way(&redis, &mut worker).await;
}

async fn plain_way(redis: &Redis, worker: &mut Worker) {
    let mut gate = worker.gate.clone();
    within(5, gate.open()).await;
    redis.push(&job("d1", "s1")).await;
    let claim = worker.claim().await;
    assert_eq!((name(&claim), redis.len("q").await, redis.len("{q}:incoming").await), ("d1", 0, 0));
    until(5, "it listens", async || redis.cmd::<i64>(&["PUBLISH", "builder:cancel", "d1"]).await > 0).await;
    assert!(matches!(worker.notice(5).await, Notice::Cancelled(d) if d == id("d1")));
    assert_eq!(worker.queue.store_outcome(&claim, &builded()).await.unwrap(), Fenced::Cancelled);
    assert_eq!(worker.queue.store_outcome(&claim, &cancelled()).await.unwrap(), Fenced::Stored);
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored);
    worker.queue.acknowledge(&claim).await.unwrap();
    redis.push(&job("d2", "s2")).await;
    let second = worker.claim().await;
    assert!(worker.queue.give_back(&second).await.unwrap());
    // A dropped claim loses no popped job either.
    for _ in 0..20 {
        let _ = tokio::time::timeout(std::time::Duration::from_micros(300), worker.queue.claim())
            .await
            .map(|c| assert_eq!(name(&c), "d2"));
    }
    assert_eq!(worker.gate.state(), GateState::Open);
}

async fn user(redis: &Redis, less: &[&str]) -> QueueConfig {
    let keys = Keys::of("q").unwrap();
    let rule = rule(&keys, "builder:cancel");
    let mut parts = vec!["ACL", "SETUSER", "slipway", "reset", "on", ">pw"];
    parts.extend(rule.split(' '));
    parts.extend(less);
    let _: () = redis.cmd(&parts).await;
    QueueConfig { username: Some("slipway".into()), password: Some("pw".to_owned().into()), ..redis.config() }
}

#[tokio::test]
async fn an_eviction_policy_that_may_evict_leases_is_advised_against() {
    let redis = Redis::with(&["--maxmemory-policy", "volatile-lru"]).await;
    let advice = Queue::check(&redis.config()).await.unwrap().advice;
    assert!(advice.len() == 1 && advice[0].contains("volatile-lru") && advice[0].contains("noeviction"), "{advice:?}");
}

#[tokio::test]
pub async fn all_keys_of_a_queue_lie_in_one_slot_and_the_protocol_works_on_a_cluster() {
    let redis = Redis::with(&["--cluster-enabled", "yes"]).await;
    // Not by ADDSLOTSRANGE: that came with Redis 7.
    let slots: Vec<String> = (0..16384).map(|slot| slot.to_string()).collect();
    let all: Vec<&str> = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
    let _: () = redis.cmd(&all).await;
    until(10, "the cluster is whole", async || redis.cmd::<String>(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok"))
        .await;
    for queue in ["builder-queue", "{prod}:q", "q", "a:b{c}d"] {
        let keys = Keys::of(queue).unwrap();
        let slot: i64 = redis.cmd(&["CLUSTER", "KEYSLOT", queue]).await;
        let (claimed, lease) = (keys.claimed("w1"), keys.lease("w1"));
        for key in keys.typed().iter().map(|(key, _)| *key).chain([claimed.as_str(), &lease, &keys.probe]) {
            assert_eq!(redis.cmd::<i64>(&["CLUSTER", "KEYSLOT", key]).await, slot, "{key}");
        }
        let config = QueueConfig { queue_name: queue.into(), ..redis.config() };
        let mut worker = Worker::start(&config, tempfile::tempdir().unwrap(), std::time::Duration::from_secs(60)).await;
        let producer = Producer::connect(&config).await.unwrap();
        for n in 0..3 {
            producer.enqueue(job(&format!("d{n}"), &format!("s{n}")).as_bytes(), &id(&format!("d{n}")), false).await.unwrap();
        }
        let claim = worker.claim().await;
        producer.cancel(&id("d2")).await.unwrap();
        assert!(matches!(worker.notice(10).await, Notice::Claimed(c) if name(&c) == "d2"));
        worker.queue.store_outcome(&claim, &builded()).await.unwrap();
        assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored);
        worker.queue.acknowledge(&claim).await.unwrap();
        let next = worker.claim().await;
        assert!(worker.queue.give_back(&next).await.unwrap());
        let again = worker.claim().await;
        worker.queue.dead_letter(&again, "{}").await.unwrap();
        for n in ["older", "newer", "newest"] {
            producer.enqueue(job(n, "one").as_bytes(), &id(n), false).await.unwrap();
        }
        assert_eq!(worker.claim().await.fate, ClaimFate::Superseded { by: id("newer") });
        let back = Worker::start(&config, worker.die().await, Duration::from_secs(60)).await;
        assert_eq!(back.queue.resume().await.unwrap().len(), 2, "the superseded and the cancelled one");
        assert!(matches!(back.queue.standing(&id("older")).await.unwrap(), Standing::Ours { .. }));
        back.queue.release().await.unwrap();
    }
}

#[tokio::test]
async fn a_second_process_in_the_same_work_dir_refuses_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let _held = WorkerIdentity::open(dir.path()).unwrap();
    let error = WorkerIdentity::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("WORK_DIR"), "{error}");
}

#[tokio::test]
async fn a_worker_that_stops_in_the_moment_in_which_its_link_heals_leaves_no_lease_behind() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.port).await;
    let worker = redis.worker_behind(&proxy).await;
    proxy.set(Link::Cut);
    worker.stop.cancel();
    worker.tasks.close();
    worker.tasks.wait().await;
    // It answers at once with its last failure, for a second at most.
    until(30, "the link has given up", async || {
        let asked = Instant::now();
        worker.queue.standing(&id("d1")).await.is_err() && asked.elapsed() < Duration::from_millis(50)
    })
    .await;
    proxy.set(Link::Whole);
    worker.queue.release().await.unwrap();
    assert_eq!(redis.cmd::<usize>(&["EXISTS", &worker.lease(), "{q}:workers"]).await, 0);
}
