//! Two hosts, each cut from Redis by turns for longer than its lease while jobs run: one host at a time speaks for an attempt.

use std::time::{Duration, Instant};

use futures_util::FutureExt;

use crate::case::{Case, Found};
use crate::fault::Break;
use crate::fleet::{Disks, Fleet, Setup};
use crate::invariants::{settle, told};
use crate::jobs::{Load, repository};
use crate::owners::attempts;
use crate::support::{Body, Fault, Job, Post};

/// A lease lasts 30 s; what another host takes over has begun there before the link heals.
const CUT: Duration = Duration::from_secs(42);
/// The gate shuts 20 s after the last renewal; what was under way then has time to arrive.
const SILENT_AFTER: Duration = Duration::from_secs(25);
/// How long the jobs of a turn print, in seconds: some are through while their host is cut off, some run on when it is back.
const LAST: [usize; 4] = [24, 30, 36, 42];
/// Fewer slots than jobs, so that each host has one of them.
const BUILDS: usize = LAST.len() - 1;
/// Between two jobs that are pushed during a cut.
const PUSH_EVERY: Duration = Duration::from_secs(6);
const LINES_A_SECOND: usize = 20;
const SOON: Duration = Duration::from_secs(90);
const SETTLES_WITHIN: Duration = Duration::from_secs(240);

pub async fn run(turns: usize, seed: u64) -> Found {
    let case = Case {
        name: format!("cut from Redis by turns, {turns} times"),
        seed,
        hosts: 2,
        setup: Setup { builds: BUILDS, drain: 0, ecr: false, disks: Disks::Roomy },
        settles_within: SETTLES_WITHIN,
    };
    case.run(|fleet| async move { story(fleet, turns).await }.boxed_local()).await
}

async fn story(fleet: &mut Fleet, turns: usize) -> Result<String, String> {
    let mut taken_over = 0;
    for turn in 0..turns {
        let kind = [Break::Hang, Break::Refuse, Break::Cut][turn % 3];
        let seen = one_turn(fleet, turn % 2, kind).await.map_err(|miss| format!("turn {}: {miss}", turn + 1))?;
        println!("  turn {}, {kind:?}: {}", turn + 1, seen.words);
        taken_over += seen.taken_over;
    }
    let posts = fleet.dashboard.posts().len();
    Ok(format!("{taken_over} attempts taken over; in {posts} posts one host at a time for each attempt, none for an older one"))
}

struct Seen {
    taken_over: usize,
    words: String,
}

async fn one_turn(fleet: &mut Fleet, node: usize, kind: Break) -> Result<Seen, String> {
    let mut running = Vec::new();
    for seconds in LAST {
        running.push(push(fleet, seconds).await);
    }
    for job in &running {
        fleet.dashboard.wait_for_line(&job.id, " line 0", SOON).await;
    }
    let mut its_own = Vec::new();
    for job in running {
        if fleet.owner(&job).await == Some(node) && !fleet.dashboard.taken(&job.id).iter().any(is_end) {
            its_own.push(job);
        }
    }
    let cut = Instant::now();
    fleet.note_disturbance(CUT + Duration::from_secs(5));
    fleet.nodes[node].redis.set(kind.of_link());
    while cut.elapsed() < CUT {
        push(fleet, 2).await;
        tokio::time::sleep(PUSH_EVERY).await;
    }
    fleet.nodes[node].redis.set(Fault::Pass);
    let back = Instant::now();
    settle(fleet, SETTLES_WITHIN).await?;
    look_back(fleet, &fleet.nodes[node].name, &its_own, cut, back)
}

async fn push(fleet: &mut Fleet, seconds: usize) -> Job {
    let lines = seconds * LINES_A_SECOND;
    let load = Load { lines, pause_ms: 1000 / LINES_A_SECOND, image: 1000, ..Load::default() };
    fleet.push(repository(&load), lines, |job| job).await
}

/// What the dashboard was told in a turn. `name` is the host that was cut off, and had `its_own` in work.
fn look_back(fleet: &Fleet, name: &str, its_own: &[Job], cut: Instant, back: Instant) -> Result<Seen, String> {
    let mut begun = Vec::new();
    for sent in &fleet.jobs {
        let attempts = attempts(&told(fleet, &sent.job)).map_err(|miss| format!("job {}: {miss}", sent.job.id))?;
        if its_own.iter().any(|job| job.id == sent.job.id) {
            begun.extend(attempts.get(1).map(|second| second.began - cut));
        }
    }
    if begun.is_empty() {
        return Err(format!("nothing was taken over of the {} jobs that {name} had", its_own.len()));
    }
    let posts = fleet.dashboard.posts();
    let meanwhile = |post: &&Post| cut < post.at && post.at < back;
    let last_word = posts.iter().filter(meanwhile).filter(|p| p.host == name).map(|p| p.at - cut).max().unwrap_or_default();
    if last_word > SILENT_AFTER {
        return Err(format!("{name} spoke {:.1} s after it was cut off", last_word.as_secs_f64()));
    }
    let told_meanwhile = posts.iter().filter(meanwhile).filter(|p| p.host != name && is_end(p)).count();
    if told_meanwhile == 0 {
        return Err(format!("while {name} was cut off the other host ended nothing"));
    }
    begun.sort_unstable();
    let begun_after: Vec<String> = begun.iter().map(|after| format!("{:.1} s", after.as_secs_f64())).collect();
    let words = format!(
        "{name} cut off for {:.0} s, its last word after {:.1} s; of its {} jobs {} begun on the other host, after {}; {told_meanwhile} ends told by the other host meanwhile",
        (back - cut).as_secs_f64(),
        last_word.as_secs_f64(),
        its_own.len(),
        begun.len(),
        begun_after.join(", "),
    );
    Ok(Seen { taken_over: begun.len(), words })
}

fn is_end(post: &Post) -> bool {
    matches!(&post.body, Body::Status { status, .. } if matches!(status.as_str(), "BUILDED" | "FAILED" | "CANCELLED"))
}
