//! A Redis of the test's own, or one of the servers that stand in for it, and workers on it.
#![allow(dead_code)] // each file of tests takes what it needs

use std::cell::RefCell;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::proxy::{Link, Proxy};
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisResult};
use slipway::config::QueueConfig;
use slipway::protocol::{Code, DeploymentId, Failure, ImageRef, Outcome, RegistryType};
use slipway::queue::{Claim, Gate, Notice, Queue, WorkerIdentity};
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The program that a test's server is.
#[derive(Debug, Clone)]
pub struct Program(PathBuf);

thread_local! {
    static PROGRAM: RefCell<Option<Program>> = const { RefCell::new(None) };
}

impl Program {
    /// One that scripts/setup has put below `.parts`.
    pub fn part(path: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".parts").join(path);
        assert!(path.exists(), "{} is missing: run scripts/setup and see what it says of it", path.display());
        Self(path)
    }
    /// Runs a test on it rather than on the Redis that is installed.
    pub fn runs(self, test: fn()) {
        PROGRAM.set(Some(self));
        test();
    }
    /// What the test was told to run on, else the Redis that is installed.
    fn of_this_test() -> Self {
        PROGRAM.with_borrow(|chosen| chosen.clone().unwrap_or_else(|| Self("redis-server".into())))
    }
}

/// A server that ends with its owner.
pub struct Redis {
    program: Program,
    child: Child,
    pub port: u16,
    options: Vec<String>,
    dir: TempDir,
}

impl Redis {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }
    pub async fn with(options: &[&str]) -> Self {
        let program = Program::of_this_test();
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
        let redis = Self { child: spawn(&program, port, &dir, &options), program, port, options, dir };
        redis.ready().await;
        redis
    }
    /// kill -9, and a new one on the same port with what is on disk (nothing, unless the options say so).
    pub async fn restart(&mut self) {
        self.kill();
        self.revive().await;
    }
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
    pub async fn revive(&mut self) {
        self.child = spawn(&self.program, self.port, &self.dir, &self.options);
        self.ready().await;
    }
    pub fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
    async fn ready(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        while self.try_cmd::<String>(&["PING"]).await.is_err() {
            assert!(Instant::now() < until, "redis-server does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    pub async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port))?;
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(30)));
        client.get_multiplexed_async_connection_with_config(&config).await
    }
    pub async fn try_cmd<T: FromRedisValue>(&self, parts: &[&str]) -> RedisResult<T> {
        let mut connection = self.connection().await?;
        let mut cmd = redis::cmd(parts[0]);
        for part in &parts[1..] {
            cmd.arg(*part);
        }
        cmd.query_async(&mut connection).await
    }
    /// What a person types into redis-cli.
    pub async fn cmd<T: FromRedisValue>(&self, parts: &[&str]) -> T {
        self.try_cmd(parts).await.unwrap_or_else(|e| panic!("{parts:?}: {e}"))
    }
    pub async fn push(&self, payload: &str) {
        let _: i64 = self.cmd(&["RPUSH", "q", payload]).await;
    }
    pub async fn push_all(&self, payloads: &[String]) {
        for payload in payloads {
            self.push(payload).await;
        }
    }
    pub async fn len(&self, key: &str) -> usize {
        self.cmd(&["LLEN", key]).await
    }
    pub fn config(&self) -> QueueConfig {
        QueueConfig {
            host: "127.0.0.1".into(),
            port: self.port,
            username: None,
            password: None,
            database: 0,
            tls: None,
            mode: slipway::config::QueueMode::Leases,
            queue_name: "q".into(),
            cancel_channel: "builder:cancel".into(),
            max_job_bytes: 64 << 10,
        }
    }
    /// A new worker on a new host, running.
    pub async fn worker(&self) -> Worker {
        self.worker_in(tempfile::tempdir().unwrap()).await
    }
    pub async fn worker_in(&self, dir: TempDir) -> Worker {
        Worker::start(&self.config(), dir, Duration::from_secs(60)).await
    }
    /// A worker behind a link that can be cut.
    pub async fn worker_behind(&self, proxy: &Proxy) -> Worker {
        let config = QueueConfig { port: proxy.port, ..self.config() };
        Worker::start(&config, tempfile::tempdir().unwrap(), Duration::from_secs(60)).await
    }
    /// What a worker that was killed looks like half a minute later.
    pub async fn end_lease(&self, lease: &str) {
        let _: i64 = self.cmd(&["DEL", lease]).await;
    }
}

impl Worker {
    pub async fn start(config: &QueueConfig, dir: TempDir, post_timeout: Duration) -> Worker {
        let (identity, lock) = WorkerIdentity::open(dir.path()).unwrap();
        drop(lock);
        let id = identity.id.clone();
        let queue = Queue::connect(config, identity, post_timeout).await.unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (gate, notices) = queue.run(&tokio::runtime::Handle::current(), &tasks, stop.clone());
        // As the daemon does when it has looked for room.
        queue.allow_claims(true);
        Worker { queue, id, gate, notices, tasks, stop, dir }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // A stopped process dies of SIGKILL as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn spawn(program: &Program, port: u16, dir: &TempDir, options: &[String]) -> Child {
    Command::new(&program.0)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        // A process title is written over the environment, by which scripts/parts finds what a killed test left.
        .args(["--set-proc-title", "no"])
        .arg("--dir")
        .arg(dir.path())
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("{} does not start ({e}): run scripts/setup", program.0.display()))
}

/// A worker that claimed `d1` without hearing of it, for a caller who went away: the job is to go back, and Redis refuses that (LREM).
pub async fn a_claim_that_cannot_go_back() -> (Redis, Proxy, Worker) {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.port).await;
    let worker = redis.worker_behind(&proxy).await;
    redis.push(&job("d0", "s0")).await;
    worker.queue.acknowledge(&worker.claim().await).await.unwrap();
    redis.push(&job("d1", "s1")).await;
    proxy.set(Link::Deaf);
    tokio::select! {
        _ = worker.queue.claim() => unreachable!("no reply comes"),
        () = until(10, "it is claimed", async || redis.len(&worker.claimed()).await == 1) => {}
    }
    let _: () = redis.cmd(&["ACL", "SETUSER", "default", "-lrem"]).await;
    proxy.set(Link::Whole);
    until(30, "Redis refuses to take it back", async || !redis.cmd::<Vec<redis::Value>>(&["ACL", "LOG"]).await.is_empty()).await;
    (redis, proxy, worker)
}

/// One worker's queue with its tasks.
pub struct Worker {
    pub queue: Queue,
    pub id: String,
    pub gate: Gate,
    pub notices: Receiver<Notice>,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
    pub dir: TempDir,
}

impl Worker {
    /// Stops as a killed process does: nothing is said to Redis. Gives back `WORK_DIR`.
    pub async fn die(self) -> TempDir {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.dir
    }
    pub async fn claim(&self) -> Claim {
        within(10, self.queue.claim()).await
    }
    pub async fn notice(&mut self, seconds: u64) -> Notice {
        within(seconds, self.notices.recv()).await.expect("the keeper lives")
    }
    pub fn claimed(&self) -> String {
        format!("{{q}}:claimed:{}", self.id)
    }
    pub fn lease(&self) -> String {
        format!("{{q}}:lease:{}", self.id)
    }
}

/// Fails the test rather than hang.
pub async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), future).await.unwrap_or_else(|_| panic!("not within {seconds} s"))
}

/// Waits until something is true.
pub async fn until(seconds: u64, what: &str, mut is: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !is().await {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Job `d<n>` of service `s<n>` for each number.
pub fn jobs(numbers: Range<usize>) -> Vec<String> {
    numbers.map(|n| job(&format!("d{n}"), &format!("s{n}"))).collect()
}

/// The ids of [`jobs`].
pub fn names(numbers: Range<usize>) -> Vec<String> {
    numbers.map(|n| format!("d{n}")).collect()
}

pub fn job(id: &str, service: &str) -> String {
    format!(
        r#"{{"deploymentId":"{id}","serviceId":"{service}","branch":"main","repositoryName":"o/r","gitProvider":{{}},"ports":[],"n":1.0}}"#
    )
}

pub fn id(text: &str) -> DeploymentId {
    DeploymentId::parse(text).unwrap()
}

pub fn name(claim: &Claim) -> &str {
    claim.deployment.as_ref().expect("a job").as_str()
}

pub fn builded() -> Outcome {
    let image = ImageRef::new("r.example/svc", "d-1", &format!("sha256:{}", "a".repeat(64))).unwrap();
    Outcome::Builded { image, registry: RegistryType::Docker }
}

pub fn failed(code: Code) -> Outcome {
    Outcome::Failed { failure: Failure::new(code, "It failed.", "Mend it.") }
}

pub fn cancelled() -> Outcome {
    Outcome::Cancelled { failure: Failure::new(Code::BuildCancelled, "Cancelled.", "") }
}
