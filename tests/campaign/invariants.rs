//! What has to hold when everything has calmed down, seen from outside: Redis, registry, dashboard, hosts.

use std::time::{Duration, Instant};

use crate::fleet::{Fleet, JOBS, QUEUE, Sent};
use crate::record::{Circumstances, Told, Verdict, What, judge};
use crate::refused;
use crate::support::{Body, Job, left_in_engine, left_on};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long leftovers may take to go: the sweep after a restart, an export that the Engine ends by itself.
const LEFTOVERS_GO_WITHIN: Duration = Duration::from_secs(60);

/// How the jobs of a fleet ended.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub builded: usize,
    pub cancelled: usize,
    pub failed: usize,
    /// In the dead letter: told as FAILED, or the dashboard refused its end for ever.
    pub dead: usize,
    pub repeats: usize,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.builded += other.builded;
        self.cancelled += other.cancelled;
        self.failed += other.failed;
        self.dead += other.dead;
        self.repeats += other.repeats;
    }
    pub fn jobs(&self) -> usize {
        self.builded + self.cancelled + self.failed + self.dead
    }
}

/// Waits until every job has ended and nobody has any in hand.
pub async fn settle(fleet: &Fleet, within: Duration) -> Result<(), String> {
    let deadline = Instant::now() + within;
    loop {
        let open = open(fleet).await;
        if open.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(format!("not ended within {} s: {}", within.as_secs(), open.join("; ")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn open(fleet: &Fleet) -> Vec<String> {
    let mut open = Vec::new();
    // An end that is refused for ever is waited for elsewhere.
    for sent in fleet.jobs.iter().filter(|sent| !sent.refused) {
        let statuses = fleet.dashboard.statuses(&sent.job.id);
        if !statuses.iter().any(|s| matches!(s.as_str(), "BUILDED" | "FAILED" | "CANCELLED")) {
            open.push(format!("{} {statuses:?}", sent.job.id));
        }
    }
    let keys: Vec<String> = fleet.redis.command(&["KEYS", "*:claimed:*"]).await;
    for key in keys.iter().map(String::as_str).chain(["{builder-queue}:incoming", QUEUE]) {
        let length: u64 = fleet.redis.command(&["LLEN", key]).await;
        if length > 0 {
            open.push(format!("{length} in {key}"));
        }
    }
    open
}

/// Checks the jobs, Redis and the hosts while the workers are up. Every miss is one string.
pub async fn check(fleet: &Fleet) -> (Tally, Vec<String>) {
    let (mut tally, mut misses) = (Tally::default(), Vec::new());
    let dead = fleet.dead_letters().await;
    for sent in &fleet.jobs {
        match check_job(fleet, sent, &dead).await {
            Ok(one) => tally.add(&one),
            Err(miss) => misses.push(format!("job {}: {miss}", sent.job.id)),
        }
    }
    misses.extend(check_redis(fleet).await);
    misses.extend(check_hosts(fleet).await);
    (tally, misses)
}

async fn check_job(fleet: &Fleet, sent: &Sent, dead: &[String]) -> Result<Tally, String> {
    if sent.refused {
        refused::check(fleet, &sent.job, dead)?;
        return Ok(Tally { dead: 1, ..Tally::default() });
    }
    let told = told(fleet, &sent.job);
    let circumstances = Circumstances {
        lines: sent.lines,
        cancelled: sent.cancelled || sent.superseded,
        disturbances: &fleet.disturbances,
        frozen: fleet.frozen,
    };
    let Verdict { status, error, image, repeats } = judge(&told, circumstances)?;
    let mut tally = Tally { repeats, ..Tally::default() };
    let buried = dead.iter().any(|note| refused::is_of(note, &sent.job.id));
    match status.as_str() {
        "BUILDED" => {
            fleet.registry.holds(&image).await?;
            tally.builded = 1;
        }
        "CANCELLED" if sent.cancelled || sent.superseded => tally.cancelled = 1,
        "FAILED" if error.contains("[job.crashed_workers]") && fleet.may_crash => {
            if !buried {
                return Err("it was given up, but is not in the dead letter list".to_owned());
            }
            tally.dead = 1;
        }
        "FAILED" if fleet.may_fail.iter().any(|code| error.contains(code)) => tally.failed = 1,
        _ => return Err(format!("a wrong end: {status} {error}")),
    }
    if buried && tally.dead == 0 {
        return Err(format!("it is in the dead letter list, but ended as {status}"));
    }
    Ok(tally)
}

/// What the dashboard took of a job, in order.
pub fn told(fleet: &Fleet, job: &Job) -> Vec<Told> {
    fleet.dashboard.taken(&job.id).into_iter().filter_map(told_by).collect()
}

fn told_by(post: crate::support::Post) -> Option<Told> {
    let what = match post.body {
        Body::Status { status, error, image, .. } => {
            What::Status { status, error: error.unwrap_or_default(), image: image.unwrap_or_default() }
        }
        Body::Log { text, .. } => What::Log(text),
        Body::Other => return None,
    };
    Some(Told { host: post.host, what, at: post.at })
}

/// No key is left that belongs to a job, but for what is remembered of ended ones.
async fn check_redis(fleet: &Fleet) -> Vec<String> {
    let mut misses = Vec::new();
    for key in ["service", "crashes"] {
        let left: Vec<String> = fleet.redis.command(&["HGETALL", &format!("{{builder-queue}}:{key}")]).await;
        if !left.is_empty() {
            misses.push(format!("Redis: left in {key}: {left:?}"));
        }
    }
    let records: Vec<String> = fleet.redis.command(&["HGETALL", JOBS]).await;
    for pair in records.chunks_exact(2).filter(|pair| !pair[1].contains("\"ended_at\"")) {
        misses.push(format!("Redis: the record of {} is open: {}", pair[0], pair[1]));
    }
    misses
}

async fn check_hosts(fleet: &Fleet) -> Vec<String> {
    let ids: Vec<String> = fleet.jobs.iter().map(|s| s.job.id.clone()).collect();
    let deadline = Instant::now() + LEFTOVERS_GO_WITHIN;
    loop {
        let mut left = left_in_engine(&fleet.engine, &ids).await;
        let of_lost = names_of_lost(fleet).await;
        left.retain(|l| !of_lost.iter().any(|name| l.split(' ').any(|word| word == name)));
        left.extend(labelled_images(fleet).await);
        for node in &fleet.nodes {
            left.extend(left_on(&node.host, node.worker.as_ref().map(crate::support::Worker::pid)));
        }
        if left.is_empty() || Instant::now() >= deadline {
            return left.into_iter().map(|l| format!("left over: {l}")).collect();
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Names and ids of images. A host that is gone took its Engine with it; here there is one Engine for all.
async fn names_of_lost(fleet: &Fleet) -> Vec<String> {
    let mut names = Vec::new();
    for (_, id) in &fleet.lost {
        let label = format!("label=dev.slipway.worker={id}");
        let images = ["images", "--all", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}}\n{{.ID}}", "--filter", &label];
        names.extend(fleet.engine.docker(&images).await.lines().map(str::to_owned));
    }
    names
}

/// Images, named or not, of this fleet's workers. Those of a host that is gone would be gone with its Engine.
async fn labelled_images(fleet: &Fleet) -> Vec<String> {
    let mut left = Vec::new();
    for id in fleet.nodes.iter().filter_map(|n| crate::fleet::worker_id(&n.host)) {
        let label = format!("label=dev.slipway.worker={id}");
        let images = fleet.engine.docker(&["images", "--all", "--quiet", "--filter", &label]).await;
        left.extend(images.lines().map(|image| format!("image {image} of worker {id}")));
    }
    left
}

/// The end of a fleet: its workers stop cleanly, and nothing of them is left in Redis.
pub async fn retire(fleet: &mut Fleet) -> Vec<String> {
    let mut misses = Vec::new();
    for node in &mut fleet.nodes {
        if let Some(worker) = &node.worker {
            worker.terminate();
        }
    }
    for node in &mut fleet.nodes {
        if let Some(mut worker) = node.worker.take() {
            let status = worker.ended(Duration::from_secs(60)).await;
            if status.code() != Some(0) {
                misses.push(format!("a worker did not stop cleanly: {status}"));
            }
        }
        misses.extend(left_on(&node.host, None).into_iter().map(|l| format!("left over after the stop: {l}")));
    }
    let lost: Vec<&str> = fleet.lost.iter().map(|(_, id)| id.as_str()).collect();
    let leases: Vec<String> = fleet.redis.command(&["KEYS", "*:lease:*"]).await;
    let workers: Vec<String> = fleet.redis.command(&["HKEYS", "{builder-queue}:workers"]).await;
    let ours = |name: &&String| !lost.iter().any(|id| !id.is_empty() && name.contains(id));
    misses.extend(leases.iter().chain(&workers).filter(ours).map(|key| format!("Redis: left of a stopped worker: {key}")));
    misses
}
