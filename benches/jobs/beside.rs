//! Good jobs beside jobs whose own hosts are dead, and beside one that has killed two workers, on two slots: how long they wait.

use std::time::{Duration, Instant};

use crate::bench_rig::BenchRig;
use crate::support::{BlackHole, Job, Repository, unique};
use crate::table::Table;

const GOOD: usize = 6;
/// What a good job may wait, in seconds: from its push to its BUILDED, less what such a job takes by itself.
const GOAL: f64 = 5.0;

/// Two dead git hosts (one swallows connections, one refuses), a dead base registry and a job that has to build alone are pushed first.
pub async fn dead_hosts(table: &mut Table, rounds: usize) {
    let rig = BenchRig::start(2, |options| options).await;
    let hello = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN echo hello\n")]);
    let alone = rig.build(&Job::of(&hello)).await;
    let mut waits = Vec::new();
    for _ in 0..rounds {
        let (git, registry) = (BlackHole::open().await, BlackHole::open().await);
        let base = Repository::public(&[("Dockerfile", &format!("FROM {}/team/base:1\n", registry.address()))]);
        let dead = [Job::of(&hello).git_at(&git.url(), None), Job::of(&hello).git_at("http://127.0.0.1:1", None), Job::of(&base)];
        let poison = Job::of(&hello).service(&unique());
        two_workers_died_with(&rig, &poison).await;
        for job in &dead {
            rig.push(job).await;
        }
        rig.push(&poison).await;
        let good: Vec<Job> = (0..GOOD).map(|_| Job::of(&hello)).collect();
        let mut pushed: Vec<Instant> = Vec::new();
        for job in &good {
            pushed.push(rig.push(job).await);
        }
        for (job, pushed) in good.iter().zip(pushed) {
            waits.push((rig.board.end(&job.id, "BUILDED").await - pushed).saturating_sub(alone));
        }
        for job in &dead {
            rig.board.end(&job.id, "FAILED").await;
        }
        rig.board.end(&poison.id, "BUILDED").await;
    }
    waits.sort();
    let seconds: Vec<String> = waits.iter().map(|wait| format!("{:.1}", wait.as_secs_f64())).collect();
    table.note("good jobs beside dead hosts: each one's wait", format!("{} s", seconds.join(" ")));
    let longest = waits.last().map_or(0.0, Duration::as_secs_f64);
    table.at_most("good jobs beside dead hosts: the longest wait", longest, GOAL, "s");
    rig.stop().await;
}

/// What two workers leave in Redis that died with the job.
async fn two_workers_died_with(rig: &BenchRig, job: &Job) {
    let mut redis = rig.redis.clone();
    let script = redis::Script::new("return redis.call('HSET', KEYS[1], redis.sha1hex(ARGV[1]), '2')");
    let key = format!("{{{}}}:crashes", rig.queue);
    let _: i64 = script.key(key).arg(job.payload()).invoke_async(&mut redis).await.unwrap();
}
