//! What the queue reads, sends and keeps is bounded: by elements, by bytes, by time.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use slipway::queue::{CancelFound, Producer};

use crate::rig::*;

/// How often a command ran since the counters were reset.
async fn calls(redis: &Redis, command: &str) -> u64 {
    let stats: String = redis.cmd(&["INFO", "commandstats"]).await;
    let line = stats.lines().find_map(|l| l.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|l| l.split(',').next()?.parse().ok()).unwrap_or_default()
}

/// Bytes that were sent to it since the counters were reset.
async fn bytes_sent(redis: &Redis) -> u64 {
    let stats: String = redis.cmd(&["INFO", "stats"]).await;
    let line = stats.lines().find_map(|l| l.strip_prefix("total_net_input_bytes:")).expect("a counter");
    line.trim().parse().unwrap()
}

#[tokio::test]
pub async fn of_huge_elements_that_wait_no_more_are_read_than_fit_into_the_bound() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    redis.push(&job("d1", "s1")).await;
    let huge = format!(r#"{{"deploymentId":"huge","pad":"{}"}}"#, "x".repeat(20 << 20));
    for _ in 0..8 {
        redis.push(&huge).await;
    }
    let producer = Producer::connect(&redis.config()).await.unwrap();
    let _: () = redis.cmd(&["CONFIG", "RESETSTAT"]).await;
    assert_eq!(producer.cancel(&id("nobody")).await.unwrap(), CancelFound::Unknown);
    let read = calls(&redis, "lindex").await;
    assert!((2..=3).contains(&read), "the small one, and huge ones until 32 MiB are seen: {read}");
    assert_eq!(calls(&redis, "lrange").await, 0, "no command takes many at once");
    let _: () = redis.cmd(&["CONFIG", "RESETSTAT"]).await;
    assert_eq!(name(&worker.claim().await), "d1");
    let read = calls(&redis, "lindex").await;
    assert!(read <= 4, "what is claimed, and the next one, where what waits behind it is looked at: {read}");
    assert_eq!(calls(&redis, "lrange").await, 0);
}

#[tokio::test]
pub async fn a_thousand_open_claims_are_resumed_in_their_order_by_calls_and_bytes_that_grow_as_they_do() {
    let redis = Redis::start().await;
    let worker = redis.worker().await;
    let long = |n: usize| format!("d{n:0>60}");
    let many = |range: std::ops::Range<usize>| range.map(|n| job(&long(n), &format!("s{n}"))).collect::<Vec<_>>();
    let mut connection = redis.connection().await.unwrap();
    let _: u64 = redis::cmd("RPUSH").arg("q").arg(many(0..1000)).query_async(&mut connection).await.unwrap();
    for _ in 0..1000 {
        worker.claim().await;
    }
    let dir = worker.die().await;
    let back = redis.worker_in(dir).await;
    let _: () = redis.cmd(&["CONFIG", "RESETSTAT"]).await;
    let resumed = back.queue.resume().await.unwrap();
    let names: Vec<String> = resumed.iter().map(|claim| name(claim).to_owned()).collect();
    assert_eq!(names, (0..1000).map(long).collect::<Vec<_>>());
    let (asked, sent) = (calls(&redis, "evalsha").await, bytes_sent(&redis).await);
    assert!(asked < 1100, "one for each, and a page for 64: {asked}");
    assert!(sent < 1000 * 1000, "{sent} bytes");

    // One more that a late request has taken: all others are known, and not asked for again.
    let _: () = redis.cmd(&["CONFIG", "RESETSTAT"]).await;
    let _: u64 = redis.cmd(&["RPUSH", &back.claimed(), &job("late", "late")]).await;
    until(30, "it goes back to the queue", async || redis.len("q").await == 1).await;
    let (asked, sent) = (calls(&redis, "evalsha").await, bytes_sent(&redis).await);
    assert!(asked < 200, "{asked}");
    assert!(sent < 1000 * 1000, "{sent} bytes");
}

#[tokio::test]
pub async fn every_record_that_is_kept_goes_in_its_time_and_every_key_with_its_queue() {
    let redis = Redis::start().await;
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let day = Duration::from_secs(24 * 3600).as_millis() as u64;
    let record = |seq: u64| format!(r#"{{"worker":"","attempt":1,"seq":"{seq}","service":"svc"}}"#);
    let old = (millis - 31 * day) * 1000;
    for (key, field, value) in [
        ("{q}:crashes", "old", "2"),
        ("{q}:crashes", "new", "2"),
        ("{q}:jobs", "orphan", &record(old)),
        ("{q}:jobs", "orphan/parked", &job("again", "s")),
        ("{q}:service", "svc", &format!("{old} orphan")),
        ("{q}:jobs", "waits", &record((millis - day) * 1000)),
        ("{q}:jobs", "ended", &format!(r#"{{"worker":"w","attempt":1,"seq":"1","ended_at":{}}}"#, millis - day)),
        ("{q}:jobs", "just", &format!(r#"{{"worker":"w","attempt":1,"seq":"1","ended_at":{millis}}}"#)),
    ] {
        let _: u64 = redis.cmd(&["HSET", key, field, value]).await;
    }
    for (key, member, days) in
        [("{q}:crashed", "old", 8), ("{q}:tombs", "long-ago", 8), ("{q}:tombs", "today", 0), ("{q}:ended", "ended", 1)]
    {
        let _: u64 = redis.cmd(&["ZADD", key, &(millis - days * day).to_string(), member]).await;
    }
    let worker = redis.worker().await;
    until(30, "it is swept", async || redis.cmd::<i64>(&["HEXISTS", "{q}:jobs", "orphan"]).await == 0).await;
    let jobs: HashMap<String, String> = redis.cmd(&["HGETALL", "{q}:jobs"]).await;
    let mut jobs: Vec<&String> = jobs.keys().collect();
    jobs.sort_unstable();
    assert_eq!(jobs, ["just", "waits"]);
    assert_eq!(redis.cmd::<Vec<String>>(&["HKEYS", "{q}:crashes"]).await, ["new"]);
    assert_eq!(redis.cmd::<Vec<String>>(&["ZRANGE", "{q}:crashed", "0", "-1"]).await, ["new"], "its time runs from now on");
    assert_eq!(redis.cmd::<Vec<String>>(&["ZRANGE", "{q}:tombs", "0", "-1"]).await, ["today"]);
    assert_eq!(redis.cmd::<i64>(&["HEXISTS", "{q}:service", "svc"]).await, 0);
    assert_eq!(name(&worker.claim().await), "again", "what was parked behind it is not lost with it");
    // Swept once more about a minute later; what the claim wrote has its time by then too.
    let bounded = ["{q}:jobs", "{q}:tombs", "{q}:crashes", "{q}:crashed", "{q}:workers"];
    for key in bounded {
        assert!(redis.cmd::<i64>(&["PTTL", key]).await > 0, "{key} goes with a queue that no worker serves");
    }
}
