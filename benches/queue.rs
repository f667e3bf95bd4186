//! The queue alone, on a Redis of its own on loopback: claim, outcome, acknowledge, by one worker, in which one caller claims for all
//! jobs that are under way, as the daemon does.
//!
//! `cargo bench --bench queue [-- JOBS CONCURRENCY]`; `redis-server` is taken from PATH.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use slipway::config::QueueConfig;
use slipway::protocol::{Code, Failure, ImageRef, Outcome, RegistryType};
use slipway::queue::{Claim, Queue, WorkerIdentity};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
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
    let redis = Redis(Command::new("redis-server").args(args).stdout(Stdio::null()).spawn().unwrap());
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).unwrap();
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(60)));
    let connection = loop {
        match client.get_multiplexed_async_connection_with_config(&patient).await {
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
        database: 0,
        tls: None,
        mode: slipway::config::QueueMode::Leases,
        queue_name: "builder-queue".into(),
        cancel_channel: "builder:cancel".into(),
        max_job_bytes: 4 << 20,
    };
    let queue = Arc::new(Queue::connect(&config, identity, Duration::from_secs(60)).await.unwrap());
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let (_gate, _notices) = queue.run(&tokio::runtime::Handle::current(), &tasks, stop.clone());

    let mut bench = Bench { queue, connection, redis };
    // Warm: scripts loaded, one record there.
    measure(&mut bench, 500, concurrency, "warm-up").await;
    let rate = measure(&mut bench, jobs, concurrency, "jobs").await;
    println!("{rate:.0} jobs/s, {concurrency} at a time, claimed by one caller as the worker does");

    push(&mut bench.connection, 1).await;
    let before = one_job(&bench.queue).await;
    push(&mut bench.connection, 1_000_000).await;
    let after = one_job(&bench.queue).await;
    println!("resident memory with 1 / 1,000,000 queued jobs: {before} / {after} KiB (goal: the same)");

    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

struct Bench {
    queue: Arc<Queue>,
    connection: MultiplexedConnection,
    redis: Redis,
}

/// Claims a job and gives it back; KiB that are resident with it in hand.
async fn one_job(queue: &Queue) -> u64 {
    let claim = queue.claim().await;
    let resident = resident();
    assert!(queue.give_back(&claim).await.unwrap());
    resident
}

/// Claims and ends so many jobs, so many at a time.
async fn claim_and_end(queue: &Arc<Queue>, jobs: usize, concurrency: usize) {
    let slots = Arc::new(Semaphore::new(concurrency));
    let mut ending = JoinSet::new();
    for _ in 0..jobs {
        let slot = slots.clone().acquire_owned().await.unwrap();
        let claim = queue.claim().await;
        let queue = queue.clone();
        ending.spawn(async move {
            finish(&queue, claim).await;
            drop(slot);
        });
        while let Some(ended) = ending.try_join_next() {
            ended.unwrap();
        }
    }
    while let Some(ended) = ending.join_next().await {
        ended.unwrap();
    }
}

async fn measure(bench: &mut Bench, jobs: usize, concurrency: usize, what: &str) -> f64 {
    push(&mut bench.connection, jobs).await;
    let queue = &bench.queue;
    let (redis, own) = (cpu(bench.redis.0.id()), cpu(std::process::id()));
    let started = Instant::now();
    claim_and_end(queue, jobs, concurrency).await;
    let took = started.elapsed();
    let share = |before: f64, now: f64| (now - before) / jobs as f64 * 1e6;
    println!(
        "{what}: {jobs} in {took:.2?}; CPU per job: Redis {:.0} µs, the worker {:.0} µs",
        share(redis, cpu(bench.redis.0.id())),
        share(own, cpu(std::process::id()))
    );
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

/// Jobs as the producer pushes them, of 600 bytes and of as many services. Redis makes them itself: what this process would have
/// to hold for it would count as the worker's.
async fn push(connection: &mut MultiplexedConnection, jobs: usize) {
    const FILL: &str = "for n = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
        redis.call('RPUSH', KEYS[1], (string.gsub(ARGV[3], '@', string.format('%017d', n))))
    end";
    let job = format!(
        r#"{{"deploymentId":"dpl@","serviceId":"svc@","commitSha":"","branch":"main","repositoryName":"octo/hello","gitProvider":{{"type":"GITHUB","githubAccount":{{"username":"octo","accessToken":"{}"}}}},"environmentVariables":[{{"key":"FOO","value":"{}"}}],"ports":[]}}"#,
        "t".repeat(40),
        "v".repeat(300)
    );
    for start in (0..jobs).step_by(5000) {
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(FILL).arg(1).arg("builder-queue").arg(start).arg((start + 5000).min(jobs)).arg(&job);
        let _: () = cmd.query_async(connection).await.unwrap();
    }
}

/// Seconds that a process has computed.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11).take(2)).into_iter().flatten();
    // In hundredths of a second on every Linux.
    fields.filter_map(|n| n.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// KiB, of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}
