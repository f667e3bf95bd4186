//! One host with its Redis and its dashboard: what most tests start with, and the check that they end with.

use std::time::Duration;

use super::leftovers::assert_nothing_left;
use super::{Body, Dashboard, Engine, Host, Job, OwnEngine, Post, RedisServer, Registry, Worker, WorkerOptions, eventually};

/// Long enough for a busy machine; nothing that works takes so long.
const A_JOB_ENDS_WITHIN: Duration = Duration::from_secs(90);
const QUEUE: &str = "builder-queue";
const CANCEL_CHANNEL: &str = "builder:cancel";

/// How a job ended, as the dashboard was told.
#[derive(Debug, Clone)]
pub struct End {
    pub status: String,
    /// The `error` of the status; empty when there is none.
    pub error: String,
    /// `containerImageUri`; empty when there is none.
    pub image: String,
    /// `containerRegistryType`.
    pub registry: String,
    pub post: Post,
}

pub struct Rig {
    pub redis: RedisServer,
    pub dashboard: Dashboard,
    pub host: Host,
    pub engine: Engine,
    pub registry: Registry,
    worker: Option<Worker>,
    pushed: Vec<String>,
}

impl Rig {
    /// A worker that waits for jobs.
    pub async fn start() -> Self {
        Self::with(|options| options).await
    }

    /// The same, with other options.
    pub async fn with(change: impl FnOnce(WorkerOptions) -> WorkerOptions) -> Self {
        let mut rig = Self::without_worker(change).await;
        rig.start_worker();
        rig
    }

    /// Everything but the worker.
    pub async fn without_worker(change: impl FnOnce(WorkerOptions) -> WorkerOptions) -> Self {
        let (redis, dashboard) = (RedisServer::start().await, Dashboard::start().await);
        let host = Host::new(change(WorkerOptions::new(&redis, &dashboard)));
        Self { redis, dashboard, host, engine: Engine::new(), registry: Registry::new(), worker: None, pushed: Vec::new() }
    }

    /// Starts the worker (again) on the same host.
    pub fn start_worker(&mut self) {
        assert!(self.worker.is_none(), "the worker runs already");
        self.worker = Some(self.host.start());
    }

    pub fn worker(&mut self) -> &mut Worker {
        self.worker.as_mut().expect("the worker runs")
    }

    /// kill -9.
    pub async fn kill_worker(&mut self) {
        self.worker.take().expect("the worker runs").kill().await;
    }

    /// The host's power goes: worker, Redis and Engine end at once, and none of them sees another one go.
    pub async fn lose_power(&mut self, engine: &mut OwnEngine) {
        self.worker().freeze();
        self.redis.kill();
        engine.cut().await;
        self.kill_worker().await;
    }

    /// The power is back: each starts by itself, the worker first.
    pub async fn regain_power(&mut self, engine: &mut OwnEngine) {
        self.start_worker();
        self.redis.restart().await;
        engine.start_again().await;
    }

    /// SIGTERM, and waits for its end, which must be a clean one.
    pub async fn stop_worker(&mut self, within: Duration) {
        let mut worker = self.worker.take().expect("the worker runs");
        worker.terminate();
        let status = worker.ended(within).await;
        assert_eq!(status.code(), Some(0), "the worker stops cleanly: {status}");
    }

    /// SIGTERM, and waits for its end, however it says that.
    pub async fn stop_worker_by_any_code(&mut self, within: Duration) {
        let mut worker = self.worker.take().expect("the worker runs");
        worker.terminate();
        worker.ended(within).await;
    }

    /// Waits until the worker's own log says this.
    pub async fn wait_for_log(&self, text: &str, within: Duration) {
        eventually("a line in the worker's log", within, async || {
            let log = self.host.log();
            if log.contains(text) { Ok(()) } else { Err(log) }
        })
        .await;
    }

    /// As the producer does: RPUSH.
    pub async fn push(&mut self, job: &Job) {
        self.push_element(job, &job.payload()).await;
    }

    /// The job, written in another way than [`Job::payload`] does.
    pub async fn push_element(&mut self, job: &Job, element: &str) {
        self.pushed.push(job.id.clone());
        self.push_raw(element).await;
    }

    /// The job, as any bytes.
    pub async fn push_bytes(&mut self, job: &Job, element: &[u8]) {
        self.pushed.push(job.id.clone());
        self.push_raw_bytes(element).await;
    }

    /// Waits until the job's record in Redis says this.
    pub async fn wait_for_record(&self, job: &Job, text: &str, within: Duration) {
        eventually("the job's record in Redis", within, async || {
            let record: Option<String> = self.redis.command(&["HGET", "{builder-queue}:jobs", &job.id]).await;
            let record = record.unwrap_or_default();
            if record.contains(text) { Ok(()) } else { Err(record) }
        })
        .await;
    }

    /// Any bytes, as a person with `redis-cli` may push them.
    pub async fn push_raw(&self, element: &str) {
        self.push_raw_bytes(element.as_bytes()).await;
    }

    /// Bytes that need not be text.
    pub async fn push_raw_bytes(&self, element: &[u8]) {
        let mut connection = self.redis.connection().await;
        let mut push = redis::cmd("RPUSH");
        push.arg(QUEUE).arg(element);
        let _: u64 = push.query_async(&mut connection).await.expect("Redis takes an element");
    }

    /// As the producer does: PUBLISH. Returns how many listened.
    pub async fn cancel(&self, job: &Job) -> u64 {
        let message = serde_json::json!({"deploymentId": job.id}).to_string();
        self.redis.command(&["PUBLISH", CANCEL_CHANNEL, &message]).await
    }

    /// What waits in the producer's list.
    pub async fn queued(&self) -> Vec<String> {
        self.redis.command(&["LRANGE", QUEUE, "0", "-1"]).await
    }

    /// Waits for the end of a job.
    pub async fn end(&self, job: &Job) -> End {
        let post = self.dashboard.wait_for_status(&job.id, &["BUILDED", "FAILED", "CANCELLED"], A_JOB_ENDS_WITHIN).await;
        let Body::Status { status, error, image, registry } = post.body.clone() else {
            panic!("a status");
        };
        let or_empty = Option::unwrap_or_default;
        End { status, error: or_empty(error), image: or_empty(image), registry: or_empty(registry), post }
    }

    /// Waits for the end of a job, which must be an image.
    pub async fn built(&self, job: &Job) -> End {
        self.ended_as("BUILDED", job).await
    }

    /// Waits for the end of a job, which must be a failure with this code; returns the error's text.
    pub async fn failed(&self, job: &Job, code: &str) -> String {
        let end = self.ended_as("FAILED", job).await;
        assert!(end.error.contains(&format!("[{code}]")), "the failure's code is {code}: {}", end.error);
        let last = self.dashboard.lines(&job.id).pop().expect("a last log line");
        assert_eq!(last.0, "ERROR", "the last log line says the failure: {last:?}");
        assert!(last.1.contains(&format!("[{code}]")), "the last log line says the failure: {last:?}");
        end.error
    }

    pub async fn cancelled(&self, job: &Job) -> End {
        self.ended_as("CANCELLED", job).await
    }

    /// Waits until the end of every job is put away: the dashboard's answer to it has arrived at the worker.
    pub async fn settle(&self) {
        eventually("every job is put away", Duration::from_secs(10), async || {
            let mut owned = Vec::new();
            for key in self.redis.command::<Vec<String>>(&["KEYS", "*:claimed:*"]).await {
                owned.extend(self.redis.command::<Vec<String>>(&["LRANGE", &key, "0", "-1"]).await);
            }
            if owned.is_empty() { Ok(()) } else { Err(format!("{owned:?}")) }
        })
        .await;
    }

    async fn ended_as(&self, wanted: &str, job: &Job) -> End {
        let end = self.end(job).await;
        assert_eq!(end.status, wanted, "the end of {}: {}\nits log:\n{}", job.id, end.error, self.dashboard.log(&job.id));
        end
    }

    /// Nothing of the jobs is left while the worker is still up.
    pub async fn assert_nothing_left(&self) {
        let worker = self.worker.as_ref().map(Worker::pid);
        assert_nothing_left(&self.host, &self.engine, &self.redis, &self.pushed, worker).await;
    }

    /// The end of a test: nothing of the jobs is left, the worker stops cleanly, and nothing of the worker is left either.
    pub async fn finish(mut self) {
        if self.worker.is_some() {
            self.assert_nothing_left().await;
            self.stop_worker(Duration::from_secs(20)).await;
        }
        self.assert_nothing_left().await;
        for id in &self.pushed {
            let statuses = self.dashboard.statuses(id);
            let ends = statuses.iter().filter(|s| matches!(s.as_str(), "BUILDED" | "FAILED" | "CANCELLED")).count();
            assert_eq!(ends, 1, "{id} ended once: {statuses:?}");
        }
    }
}
