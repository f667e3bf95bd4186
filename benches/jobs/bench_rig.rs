//! One worker of the release binary on the shared parts, with a dashboard that costs little, and a queue of its own.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;

use crate::board::Board;
use crate::support::{Dashboard, Host, Job, RedisServer, Worker, WorkerOptions, eventually, unique};

const SOON: Duration = Duration::from_secs(60);

pub struct BenchRig {
    pub board: Board,
    pub host: Host,
    pub redis: MultiplexedConnection,
    pub queue: String,
    pub channel: String,
    pub worker: Worker,
}

impl BenchRig {
    /// With the daemon's default settings but for the number of builds, on the shared Redis, which writes nothing to disk (as one
    /// with the default settings does not while it answers).
    pub async fn start(builds: usize, change: impl FnOnce(WorkerOptions) -> WorkerOptions) -> Self {
        let variable = |name: &str| std::env::var(format!("SLIPWAY_TEST_{name}")).unwrap();
        let (address, password) = (variable("REDIS"), variable("REDIS_PASSWORD"));
        let client = redis::Client::open(format!("redis://:{password}@{address}/")).unwrap();
        let redis = client.get_multiplexed_async_connection().await.unwrap();
        let board = Board::start().await;
        let (queue, channel) = (format!("bench-{}", unique()), format!("cancel-{}", unique()));
        // Only its options' defaults are wanted of these two.
        let (spare_redis, spare_dashboard) = (RedisServer::start().await, Dashboard::start().await);
        let options = WorkerOptions::new(&spare_redis, &spare_dashboard)
            .redis("127.0.0.1", address.rsplit(':').next().unwrap().parse().unwrap())
            .set("REDIS_PASSWORD", &password)
            .set("REDIS_QUEUE_NAME", &queue)
            .set("REDIS_CANCEL_CHANNEL_NAME", &channel)
            .set("API_URL", &board.url)
            .unset("LOG_LEVEL")
            .builds(builds);
        // For looks at where the time goes: `SLIPWAY_BENCH_LOG_LEVEL=debug`.
        let options = match std::env::var("SLIPWAY_BENCH_LOG_LEVEL") {
            Ok(level) => options.set("LOG_LEVEL", &level),
            Err(_) => options,
        };
        let host = Host::new(change(options));
        let worker = host.start();
        let rig = Self { board, host, redis, queue, channel, worker };
        rig.wait_until_it_listens().await;
        rig
    }

    /// The worker has subscribed to the cancel channel: everything is up.
    async fn wait_until_it_listens(&self) {
        eventually("the worker listens", SOON, async || {
            let mut redis = self.redis.clone();
            let (_, listeners): (String, u64) =
                redis::cmd("PUBSUB").arg("NUMSUB").arg(&self.channel).query_async(&mut redis).await.unwrap();
            if listeners > 0 { Ok(()) } else { Err(self.host.log()) }
        })
        .await;
    }

    /// RPUSH; when it was begun.
    pub async fn push(&self, job: &Job) -> Instant {
        let mut redis = self.redis.clone();
        let at = Instant::now();
        let _: u64 = redis::cmd("RPUSH").arg(&self.queue).arg(job.payload()).query_async(&mut redis).await.unwrap();
        at
    }

    /// From RPUSH to the arrival of BUILDED.
    pub async fn build(&self, job: &Job) -> Duration {
        let pushed = self.push(job).await;
        self.board.end(&job.id, "BUILDED").await - pushed
    }

    /// PUBLISH; when it was begun.
    pub async fn cancel(&self, job: &Job) -> Instant {
        let mut redis = self.redis.clone();
        let at = Instant::now();
        let listeners: u64 = redis::cmd("PUBLISH").arg(&self.channel).arg(&job.id).query_async(&mut redis).await.unwrap();
        assert_eq!(listeners, 1);
        at
    }

    pub fn tmp(&self) -> PathBuf {
        self.host.work_dir().join("tmp")
    }

    /// SIGTERM, and its end.
    pub async fn stop(mut self) {
        self.worker.terminate();
        self.worker.ended(Duration::from_secs(30)).await;
        if let Ok(to) = std::env::var("SLIPWAY_BENCH_KEEP_LOG") {
            std::fs::write(to, self.host.log()).unwrap();
        }
        let mut redis = self.redis.clone();
        let keys: Vec<String> = redis::cmd("KEYS").arg(format!("*{}*", self.queue)).query_async(&mut redis).await.unwrap();
        for key in keys {
            let _: u64 = redis::cmd("DEL").arg(key).query_async(&mut redis).await.unwrap();
        }
    }
}
