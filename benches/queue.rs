//! The queue alone, on a Redis of its own on loopback: claim, outcome, acknowledge, by one worker.
//!
//! `cargo bench --bench queue [-- JOBS CONCURRENCY]`; `redis-server` is taken from PATH.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use slipway::config::QueueConfig;
use slipway::protocol::{Code, Failure, ImageRef, Outcome, RegistryType};
use slipway::queue::{Claim, Queue, WorkerIdentity};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let jobs = numbers.first().copied().unwrap_or(50_000);
    let concurrency = numbers.get(1).copied().unwrap_or(32);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(jobs, concurrency));
}

async fn run(jobs: usize, concurrency: usize) {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let args = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""];
    let _redis = Redis(Command::new("redis-server").args(args).stdout(Stdio::null()).spawn().unwrap());
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).unwrap();
    let mut connection = loop {
        match client.get_multiplexed_async_connection().await {
            Ok(connection) => break connection,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let dir = tempfile::tempdir().unwrap();
    let (identity, _lock) = WorkerIdentity::open(dir.path()).unwrap();
    let config = QueueConfig {
        host: "127.0.0.1".into(),
        port,
        username: None,
        password: None,
        queue_name: "builder-queue".into(),
        cancel_channel: "builder:cancel".into(),
        max_job_bytes: 4 << 20,
    };
    let queue = Queue::connect(&config, identity, Duration::from_secs(60)).await.unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let (_gate, _notices) = queue.run(&tasks, stop.clone());

    // Warm: scripts loaded, one record there.
    measure(&queue, &mut connection, 500, concurrency, "warm-up").await;
    let rate = measure(&queue, &mut connection, jobs, concurrency, "jobs").await;
    let before = resident();
    push(&mut connection, 1_000_000).await;
    let claim = queue.claim().await;
    println!("resident memory with 0 / 1,000,000 queued jobs: {before} / {} KiB (goal: the same)", resident());
    assert!(queue.give_back(&claim).await.unwrap());
    println!("{rate:.0} jobs/s, {concurrency} at a time (goal: 5,000)");

    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

async fn measure(queue: &Queue, connection: &mut MultiplexedConnection, jobs: usize, concurrency: usize, what: &str) -> f64 {
    push(connection, jobs).await;
    let started = Instant::now();
    let left = AtomicUsize::new(jobs);
    let one = || async {
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
            let claim = queue.claim().await;
            finish(queue, claim).await;
        }
    };
    futures_util::future::join_all((0..concurrency).map(|_| one())).await;
    let took = started.elapsed();
    println!("{what}: {jobs} in {took:.2?}");
    jobs as f64 / took.as_secs_f64()
}

async fn finish(queue: &Queue, claim: Claim) {
    let image = ImageRef::new("127.0.0.1:5000/svc", "d-1", &format!("sha256:{}", "a".repeat(64)));
    let outcome = match image {
        Some(image) => Outcome::Builded { image, registry: RegistryType::Docker },
        None => Outcome::Failed { failure: Failure::new(Code::WorkerInternal, "", "") },
    };
    queue.store_outcome(&claim, &outcome).await.unwrap();
    queue.acknowledge(&claim).await.unwrap();
}

/// Jobs as the producer pushes them, of 600 bytes and of as many services.
async fn push(connection: &mut MultiplexedConnection, jobs: usize) {
    for start in (0..jobs).step_by(5000) {
        let mut cmd = redis::cmd("RPUSH");
        cmd.arg("builder-queue");
        for n in start..(start + 5000).min(jobs) {
            cmd.arg(format!(
                r#"{{"deploymentId":"dpl{n:017}","serviceId":"svc{n:017}","commitSha":"","branch":"main","repositoryName":"octo/hello","gitProvider":{{"type":"GITHUB","githubAccount":{{"username":"octo","accessToken":"{}"}}}},"environmentVariables":[{{"key":"FOO","value":"{}"}}],"ports":[]}}"#,
                "t".repeat(40),
                "v".repeat(300)
            ));
        }
        let _: i64 = cmd.query_async(connection).await.unwrap();
    }
}

/// KiB, of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}
