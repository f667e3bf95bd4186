//! A worker with builds that print thousands of lines a second, and what is seen of it from outside.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::board::Board;
use super::{Bounds, SLOTS, mib};
use crate::fleet::{JOBS, QUEUE};
use crate::invariants::Tally;
use crate::support::{
    Dashboard, Engine, Host, Job, RedisServer, Registry, Repository, Worker, WorkerOptions, left_in_engine, left_on, unique,
};

/// Lines at a time, and the pause between them: with the time that printing takes, 2,000 to 3,000 lines a second.
const BURST: u64 = 300;
const PAUSE_US: u64 = 100_000;
/// Bytes of a line.
const LINE: usize = 100;

/// What is held at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub at: Duration,
    pub resident: u64,
    pub peak: u64,
    pub journals: u64,
    pub work_dir: u64,
    pub files: usize,
    pub threads: usize,
    pub claimed: u64,
    pub stored: usize,
    pub waiting: u64,
    /// The worker has said that it claims nothing for the journals' sake.
    pub stopped: bool,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resident, peak, journals, work_dir, files, threads, claimed, stored, waiting, stopped, .. } = *self;
        write!(
            f,
            "{:5.1} min: resident {:5.1} MiB (at most {:5.1}), journals {:6.1} MiB, WORK_DIR {:6.1} MiB, {files} files, {threads} \
             threads, {claimed} jobs claimed, {stored} ended, {waiting} wait{}",
            self.at.as_secs_f64() / 60.0,
            mib(resident),
            mib(peak),
            mib(journals),
            mib(work_dir),
            if stopped { "; nothing more is claimed" } else { "" },
        )
    }
}

pub struct Chatty {
    pub bounds: Bounds,
    pub board: Board,
    redis: RedisServer,
    engine: Engine,
    registry: Registry,
    host: Host,
    worker: Worker,
    /// Each job's id and how many lines it prints.
    jobs: Vec<(String, u64)>,
    _repositories: Vec<Repository>,
}

impl Chatty {
    pub async fn start(bounds: Bounds) -> Self {
        let (redis, board) = (RedisServer::start().await, Board::start(bounds.away).await);
        let options = WorkerOptions::new(&redis, &Dashboard::start().await)
            .set("API_URL", &board.url)
            // What is missing is what the dashboard was away for.
            .set("LOG_TOTAL_MAX", "0")
            .set("LOG_MAX_BYTES", &bounds.log_max.to_string())
            .set("JOURNAL_MAX_BYTES", &bounds.journal_max.to_string())
            .builds(SLOTS as usize);
        let host = Host::new(options);
        let worker = host.start();
        let (engine, registry) = (Engine::new(), Registry::new());
        Self { bounds, board, redis, engine, registry, host, worker, jobs: Vec::new(), _repositories: Vec::new() }
    }

    pub async fn push(&mut self) {
        let lines = self.bounds.lines[usize::from(self.jobs.len() % 5 == 4)];
        let padding = "x".repeat(LINE - "line 123456 ".len());
        let dockerfile = format!(
            "FROM busybox:base\nRUN : {}; n=0; while [ $n -lt {lines} ]; do \
             seq $n $((n+{BURST}-1)) | sed 's/.*/line & {padding}/'; n=$((n+{BURST})); usleep {PAUSE_US}; done\n",
            unique(),
        );
        let repository = Repository::public(&[("Dockerfile", &dockerfile)]);
        let job = Job::of(&repository);
        let _: u64 = self.redis.command(&["RPUSH", QUEUE, &job.payload()]).await;
        self.jobs.push((job.id, lines));
        self._repositories.push(repository);
    }

    /// Jobs that nobody has claimed.
    pub async fn waiting(&self) -> u64 {
        let mut waiting = 0;
        for list in [QUEUE, "{builder-queue}:incoming"] {
            waiting += self.redis.command::<u64>(&["LLEN", list]).await;
        }
        waiting
    }

    pub async fn sample(&self, at: Duration) -> Sample {
        let records: HashMap<String, String> = self.redis.command(&["HGETALL", JOBS]).await;
        Sample {
            at,
            resident: self.worker.resident_kib() * 1024,
            peak: self.worker.peak_resident_kib() * 1024,
            journals: bytes_below(&self.host.work_dir().join("journal")),
            work_dir: bytes_below(&self.host.work_dir()),
            files: self.worker.open_files(),
            threads: self.worker.threads(),
            claimed: records.len() as u64,
            stored: records.values().filter(|record| record.contains("BUILDED")).count(),
            waiting: self.waiting().await,
            stopped: !self.word().is_empty(),
        }
    }

    /// What the worker said of why it claims nothing: the line of its log.
    pub fn word(&self) -> String {
        let log = self.host.log();
        log.lines().find(|line| line.contains("No job is claimed")).unwrap_or_default().to_owned()
    }

    /// Waits until every job's end is told and nobody has any in hand.
    pub async fn settle(&self, within: Duration) -> Vec<String> {
        let deadline = Instant::now() + within;
        loop {
            let told = self.board.stories().values().filter(|story| story.ended()).count();
            let claimed: Vec<String> = self.redis.command(&["KEYS", "*:claimed:*"]).await;
            if told == self.jobs.len() && claimed.is_empty() {
                return Vec::new();
            }
            if Instant::now() >= deadline {
                return vec![format!("{told} of {} ends were told within {} s", self.jobs.len(), within.as_secs())];
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Checks what was told of each job, and what is left.
    pub async fn check(&self) -> (Tally, String, Vec<String>) {
        let (mut tally, mut misses, mut lines, mut missing, mut cut) = (Tally::default(), Vec::new(), 0, 0, 0);
        let (mut images, mut broke_off) = (Vec::new(), 0);
        for (id, printed) in &self.jobs {
            let stories = self.board.stories();
            let Some(story) = stories.get(id) else {
                misses.push(format!("job {id}: nothing was told of it"));
                continue;
            };
            match story.check(*printed) {
                Ok(()) => images.push(story.image.clone()),
                Err(miss) => misses.push(format!("job {id}: {miss}")),
            }
            broke_off += usize::from(story.broke_off);
            (lines, missing, cut) = (lines + story.lines, missing + story.missing, cut + usize::from(story.missing > 0));
        }
        for image in images {
            match self.registry.holds(&image).await {
                Ok(()) => tally.builded += 1,
                Err(miss) => misses.push(miss),
            }
        }
        let jobs = self.jobs.len();
        let summary = format!(
            "{jobs} jobs, {lines} lines told, {missing} of {cut} jobs cut and said, {broke_off} logs that the Engine broke off, and said"
        );
        (tally, summary, misses)
    }

    /// Stops the worker; nothing of it is left.
    pub async fn retire(mut self) -> Vec<String> {
        let ids: Vec<String> = self.jobs.iter().map(|(id, _)| id.clone()).collect();
        self.worker.terminate();
        let status = self.worker.ended(Duration::from_secs(60)).await;
        let mut left = left_in_engine(&self.engine, &ids).await;
        left.extend(left_on(&self.host, None));
        let mut misses: Vec<String> = left.into_iter().map(|what| format!("left over: {what}")).collect();
        if status.code() != Some(0) {
            misses.push(format!("the worker did not stop cleanly: {status}"));
        }
        misses
    }
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    // A file may be removed while it is looked at.
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}
