//! What stands where a Redis is looked for, and what a Redis may lack: told by its name, and done without where that is possible.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use slipway::config::QueueConfig;
use slipway::queue::{CancelFound, Fenced, Keys, Notice, Producer, Queue, Telling, rule};

use crate::rig::*;

/// A Sentinel that ends with its owner.
struct Sentinel(Child);

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_sentinel_is_called_by_its_name_with_the_primary_that_it_names() {
    let primary = Redis::start().await;
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let file = dir.path().join("sentinel.conf");
    let text = format!("port {port}\nbind 127.0.0.1\nset-proc-title no\nsentinel monitor builds 127.0.0.1 {} 1\n", primary.port);
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("redis-server");
    command.arg(&file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null());
    let _sentinel = Sentinel(command.spawn().unwrap());
    let config = QueueConfig { port, ..primary.config() };
    let mut told = String::new();
    until(20, "the Sentinel answers", async || {
        told = Producer::connect(&config).await.err().unwrap().to_string();
        !told.contains("refused")
    })
    .await;
    assert!(told.contains("is a Sentinel") && told.contains(&format!("names 127.0.0.1:{}", primary.port)), "{told}");
    let told = Queue::check(&config).await.err().unwrap().to_string();
    assert!(told.contains("is a Sentinel"), "{told}");
}

/// A Redis whose administrator renamed these commands away.
async fn without(commands: &[&str]) -> (Redis, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("renamed.conf");
    let lines: String = commands.iter().map(|name| format!("rename-command {name} \"\"\n")).collect();
    std::fs::write(&file, lines).unwrap();
    (Redis::with(&["--include", &file.display().to_string()]).await, dir)
}

#[tokio::test]
pub async fn commands_that_were_renamed_and_can_be_done_without_are_done_without() {
    let (redis, _file) = without(&["INFO", "CONFIG", "CLIENT", "BLMOVE", "TYPE", "EVALSHA", "PUBLISH", "KEYS", "FLUSHALL"]).await;
    let lacking = Queue::check(&redis.config()).await.unwrap().lacking;
    let mut lacking: Vec<&str> = lacking.iter().map(String::as_str).collect();
    lacking.sort_unstable();
    assert_eq!(lacking, ["blmove", "info", "publish", "type"]);
    let mut worker = redis.worker().await;
    all_the_way(&redis.config(), &mut worker).await;
}

#[tokio::test]
pub async fn commands_that_a_user_may_not_use_and_can_be_done_without_are_done_without() {
    let redis = Redis::start().await;
    let granted = rule(&Keys::of("q").unwrap(), "builder:cancel");
    let mut words = vec!["ACL", "SETUSER", "slipway", "reset", "on", ">pw"];
    words.extend(granted.split(' '));
    words.extend(["-info", "-blmove", "-type", "-evalsha", "-publish", "-ping"]);
    let _: () = redis.cmd(&words).await;
    let config = QueueConfig { username: Some("slipway".into()), password: Some("pw".to_owned().into()), ..redis.config() };
    let mut worker = Worker::start(&config, tempfile::tempdir().unwrap(), Duration::from_secs(60)).await;
    all_the_way(&config, &mut worker).await;
}

/// A job is claimed as the protocol has it, cancelled while it runs, and another one ends well.
async fn all_the_way(config: &QueueConfig, worker: &mut Worker) {
    let producer = Producer::connect(config).await.unwrap();
    let (text, name) = (job("d1", "s1"), id("d1"));
    let (claim, _) = tokio::join!(worker.claim(), producer.enqueue(text.as_bytes(), &name, false));
    // What cannot be published is in the record: the next renewal finds it there.
    if let Ok(found) = producer.cancel(&id("d1")).await {
        assert_eq!(found, CancelFound::Running { worker: worker.id.clone() });
    }
    assert!(matches!(worker.notice(15).await, Notice::Cancelled(d) if d == id("d1")));
    assert_eq!(worker.queue.store_outcome(&claim, &cancelled()).await.unwrap(), Fenced::Stored);
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored);
    worker.queue.acknowledge(&claim).await.unwrap();
    producer.enqueue(job("d2", "s2").as_bytes(), &id("d2"), false).await.unwrap();
    let claim = worker.claim().await;
    assert_eq!(worker.queue.store_outcome(&claim, &builded()).await.unwrap(), Fenced::Stored);
    assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored);
    worker.queue.acknowledge(&claim).await.unwrap();
}

#[tokio::test]
async fn a_replica_and_a_cluster_node_that_does_not_own_the_queue_are_named_by_the_check() {
    let primary = Redis::start().await;
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &primary.port.to_string()]).await;
    let told = Queue::check(&replica.config()).await.err().unwrap().to_string();
    assert!(told.contains("read-only replica") && told.contains("primary"), "{told}");

    let node = Redis::with(&["--cluster-enabled", "yes"]).await;
    let told = Queue::check(&node.config()).await.err().unwrap().to_string();
    assert!(told.contains("cluster") && told.contains("slot of REDIS_QUEUE_NAME"), "{told}");
    let config = QueueConfig { database: 2, ..node.config() };
    let told = Queue::check(&config).await.err().unwrap().to_string();
    assert!(told.contains("a cluster has only 0"), "{told}");
}

#[tokio::test]
async fn a_redis_that_takes_no_more_clients_says_so() {
    let redis = Redis::with(&["--maxclients", "1"]).await;
    // The connections of its start may not be closed yet.
    let mut holds = redis.connection().await;
    while holds.is_err() {
        holds = redis.connection().await;
    }
    let told = Queue::check(&redis.config()).await.err().unwrap().to_string();
    assert!(told.contains("as many clients as it takes") && told.contains("maxclients"), "{told}");
}
