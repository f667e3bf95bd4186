//! What becomes of a job whose worker dies, stops or freezes, or whose service has a newer one: on which host, and how soon.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::task::JoinSet;

use crate::arrive::arrive;
use crate::case::{Case, Found};
use crate::fault::Stage;
use crate::fleet::{Disks, Fleet, Setup};
use crate::jobs::{Load, repository};
use crate::options::Options;
use crate::random::Random;
use crate::support::{Body, Job, eventually};

const SOON: Duration = Duration::from_secs(90);
/// The goal is 45 s from the kill to the start on another host.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(45);
/// The goal is 1 s from the stopped worker's end to the start on another host.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(1);
/// Longer than a lease and than a gate is open, by far.
const FROZEN: Duration = Duration::from_secs(120);

type Story = for<'f> fn(&'f mut Fleet) -> LocalBoxFuture<'f, Result<String, String>>;

const STORIES: [(&str, Story); 9] = [
    ("take-over of a dead worker's job, run", |f| dead(f, Stage::Run).boxed_local()),
    ("take-over of a dead worker's job, push", |f| dead(f, Stage::Push).boxed_local()),
    ("take-over of a dead worker's end", |f| dead_with_an_end(f).boxed_local()),
    ("a stopped worker's job", |f| stopped(f).boxed_local()),
    ("three dead workers", |f| three_dead(f).boxed_local()),
    ("frozen past its lease, run", |f| frozen(f, Stage::Run).boxed_local()),
    ("frozen past its lease, push", |f| frozen(f, Stage::Push).boxed_local()),
    ("frozen past its lease, report", |f| frozen(f, Stage::Report).boxed_local()),
    ("superseded by a newer job on another host", |f| superseded(f).boxed_local()),
];

pub async fn run(options: &Options) -> Vec<Found> {
    let mut running = JoinSet::new();
    for (name, story) in STORIES.into_iter().filter(|(name, _)| options.wants(name)) {
        let case = Case {
            name: name.to_owned(),
            seed: options.seed,
            hosts: 2,
            setup: Setup { builds: 1, drain: 0, ecr: false, disks: Disks::Roomy },
            settles_within: Duration::from_secs(180),
        };
        running.spawn_local(case.run(story));
    }
    running.join_all().await
}

/// Brings a job to a stage. The host that has it, and the other one, are up for longer than the calm before a take-over.
async fn begun(fleet: &mut Fleet, stage: Stage) -> Result<(Job, usize), String> {
    let lasts = Duration::from_secs(8);
    let job = arrive(fleet, stage, lasts, &mut Random::new(1, stage.name())).await;
    let owner = fleet.owner(&job).await.ok_or("nobody has the job")?;
    Ok((job, owner))
}

/// When the n-th BUILDING of the job came.
async fn building(fleet: &Fleet, job: &Job, n: usize, within: Duration) -> Result<Instant, String> {
    let deadline = Instant::now() + within;
    loop {
        let is_building = |body: &Body| matches!(body, Body::Status { status, .. } if status == "BUILDING");
        if let Some(post) = fleet.dashboard.taken(&job.id).iter().filter(|p| is_building(&p.body)).nth(n - 1) {
            return Ok(post.at);
        }
        if Instant::now() > deadline {
            return Err(format!("no BUILDING number {n} within {within:?}: {:?}", fleet.dashboard.statuses(&job.id)));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn in_time(what: &str, took: Duration, goal: Duration) -> Result<String, String> {
    let words = format!("{what} after {:.2} s", took.as_secs_f64());
    if took <= goal { Ok(words) } else { Err(format!("{words}; the goal is {} s", goal.as_secs())) }
}

async fn dead(fleet: &mut Fleet, stage: Stage) -> Result<String, String> {
    let (job, owner) = begun(fleet, stage).await?;
    fleet.kill(owner).await;
    fleet.lose(owner).await;
    fleet.heal();
    let died = fleet.disturbances[0].0;
    let began = building(fleet, &job, 2, SOON).await?;
    in_time("started on another host", began - died, TAKEN_OVER_WITHIN)
}

async fn dead_with_an_end(fleet: &mut Fleet) -> Result<String, String> {
    let (job, owner) = begun(fleet, Stage::Report).await?;
    fleet.kill(owner).await;
    fleet.lose(owner).await;
    fleet.heal();
    let died = fleet.disturbances[0].0;
    let end = fleet.dashboard.wait_for_status(&job.id, &["BUILDED", "FAILED", "CANCELLED"], SOON).await;
    if fleet.dashboard.statuses(&job.id).iter().filter(|s| *s == "BUILDING").count() != 1 {
        return Err("it was built again, though its end was stored".to_owned());
    }
    in_time("its stored end was told by another host", end.at - died, TAKEN_OVER_WITHIN)
}

async fn stopped(fleet: &mut Fleet) -> Result<String, String> {
    let (job, owner) = begun(fleet, Stage::Run).await?;
    fleet.note_disturbance(Duration::from_secs(30));
    let mut worker = fleet.nodes[owner].worker.take().ok_or("it runs")?;
    worker.terminate();
    let began = building(fleet, &job, 2, SOON);
    let (began, ended) = tokio::join!(began, async { worker.ended(SOON).await.code() });
    if ended != Some(0) {
        return Err(format!("the worker did not stop cleanly: {ended:?}"));
    }
    let is_pending = |body: &Body| matches!(body, Body::Status { status, .. } if status == "PENDING");
    let pending = fleet.dashboard.taken(&job.id).into_iter().find(|p| is_pending(&p.body)).ok_or("no PENDING was told")?;
    let took = began?.saturating_duration_since(pending.at);
    fleet.restart(owner);
    in_time("given back and started on another host", took, HANDED_OVER_WITHIN)
}

async fn three_dead(fleet: &mut Fleet) -> Result<String, String> {
    fleet.may_crash = true;
    let (job, first) = begun(fleet, Stage::Run).await?;
    let mut owner = first;
    for attempt in 1..=3 {
        fleet.kill(owner).await;
        fleet.lose(owner).await;
        fleet.note_disturbance(Duration::ZERO);
        if attempt == 3 {
            break;
        }
        building(fleet, &job, attempt + 1, SOON).await?;
        owner = fleet.owner(&job).await.ok_or("nobody has the job")?;
    }
    let end = fleet.dashboard.wait_for_status(&job.id, &["BUILDED", "FAILED", "CANCELLED"], SOON).await;
    match end.body {
        Body::Status { status, error: Some(error), .. } if status == "FAILED" && error.contains("[job.crashed_workers]") => {}
        other => return Err(format!("not given up: {other:?}")),
    }
    let is_buried = async || {
        let dead: Vec<String> = fleet.redis.command(&["LRANGE", "{builder-queue}:dead", "0", "-1"]).await;
        match dead.as_slice() {
            [note] if note.contains(&job.id) && note.contains("job.crashed_workers") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    };
    eventually("it is in the dead letter list", SOON, is_buried).await;
    Ok("FAILED and in the dead letter after three".to_owned())
}

async fn frozen(fleet: &mut Fleet, stage: Stage) -> Result<String, String> {
    let (job, owner) = begun(fleet, stage).await?;
    fleet.frozen = true;
    fleet.note_disturbance(FROZEN + Duration::from_secs(30));
    let froze = Instant::now();
    if let Some(worker) = &fleet.nodes[owner].worker {
        worker.freeze();
    }
    fleet.heal();
    let end = fleet.dashboard.wait_for_status(&job.id, &["BUILDED", "FAILED", "CANCELLED"], SOON).await;
    tokio::time::sleep_until((froze + FROZEN).into()).await;
    let told = fleet.dashboard.taken(&job.id).len();
    if let Some(worker) = &fleet.nodes[owner].worker {
        worker.thaw();
    }
    // It has woken when it builds the next job.
    let next = fleet.push(repository(&Load { lines: 1, ..Load::default() }), 1, |job| job).await;
    fleet.dashboard.wait_for_status(&next.id, &["BUILDED"], SOON).await;
    let after = fleet.dashboard.taken(&job.id);
    let took = (end.at - froze).as_secs_f64();
    // At most what was on its way when it froze.
    match &after[told..] {
        [] => Ok(format!("another host told the end {took:.1} s after the freeze; nothing came after the wake")),
        [one] if matches!(one.body, Body::Log { .. }) => {
            Ok(format!("another host told the end {took:.1} s after the freeze; one batch of lines was under way"))
        }
        more => Err(format!("{} posts came after the wake, the first: {}", more.len(), more[0].raw)),
    }
}

async fn superseded(fleet: &mut Fleet) -> Result<String, String> {
    let (older, owner) = begun(fleet, Stage::Run).await?;
    let service = older.service.clone();
    let pushed = Instant::now();
    let load = Load { lines: 5, pause_ms: 10, ..Load::default() };
    let newer = fleet.push(repository(&load), 5, |job| job.service(&service)).await;
    let end = fleet.dashboard.wait_for_status(&older.id, &["CANCELLED", "BUILDED", "FAILED"], SOON).await;
    let built = fleet.dashboard.wait_for_status(&newer.id, &["BUILDED"], SOON).await;
    if fleet.owner(&newer).await == Some(owner) {
        return Err("the newer job was built on the same host".to_owned());
    }
    match &end.body {
        Body::Status { status, error: Some(error), .. } if status == "CANCELLED" && error.contains(&newer.id) => {}
        other => return Err(format!("the older job's end: {other:?}")),
    }
    if built.at < end.at {
        return Err("the newer one's BUILDED came before the older one's end".to_owned());
    }
    Ok(format!("CANCELLED naming the newer one {:.2} s after the push", (end.at - pushed).as_secs_f64()))
}
