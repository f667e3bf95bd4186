//! Thousands of secrets, each printed by a build in every way, and everything that the worker writes or sends searched for them.

use std::time::{Duration, Instant};

use futures_util::FutureExt;

use crate::case::{Found, words};
use crate::invariants::Tally;
use crate::support::{Job, Leaks, Needles, Repository, Rig, Trouble, files_below, sinks};

const OF_A_JOB: usize = 250;
const SLOTS: usize = 4;
/// For a build on a busy machine.
const A_JOB_TAKES: Duration = Duration::from_secs(60);
const FAILS: &str = "RUN cat /.env >&2; exit 1\n";

pub async fn run(secrets: usize, seed: u64) -> Found {
    let (began, name) = (Instant::now(), format!("{secrets} secrets"));
    let told = std::panic::AssertUnwindSafe(story(secrets, seed)).catch_unwind().await;
    let (tally, misses, measured) = told.unwrap_or_else(|panic| (Tally::default(), vec![words(&*panic)], String::new()));
    for miss in &misses {
        println!("MISS {name} SEED={seed}: {miss}");
    }
    Found { name, took: began.elapsed(), tally, misses, measured }
}

/// A job with its secrets, and how it has to end.
struct Leaky {
    job: Job,
    leaks: Leaks,
    end: End,
    _repository: Repository,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Builds,
    /// In a step that prints everything once more.
    Fails,
    /// It never runs; its element is kept in the dead letter list.
    Refused,
}

async fn story(secrets: usize, seed: u64) -> (Tally, Vec<String>, String) {
    let jobs: Vec<Leaky> =
        (0..secrets.div_ceil(OF_A_JOB)).map(|n| leaky(n, OF_A_JOB.min(secrets - n * OF_A_JOB), seed)).collect();
    let mut needles = Needles::default();
    jobs.iter().for_each(|leaky| needles.add(&leaky.leaks));
    let mut rig = Rig::with(|options| options.builds(SLOTS)).await;
    // The journals stand on the disk until all has ended.
    rig.dashboard.set(Trouble::Answer(503));
    for leaky in &jobs {
        rig.push(&leaky.job).await;
    }
    for Leaky { job, end, .. } in &jobs {
        let word = if *end == End::Builds { "BUILDED" } else { "FAILED" };
        rig.wait_for_record(job, word, A_JOB_TAKES * jobs.len() as u32).await;
    }
    let (mut seen, mut bytes) = (Vec::new(), 0);
    let on_disk = files_below(&rig.host.work_dir());
    rig.dashboard.set(Trouble::None);
    let (mut tally, mut images, mut printed) = (Tally::default(), Vec::new(), 0);
    for leaky in &jobs {
        match leaky.end {
            End::Builds => {
                images.push(rig.built(&leaky.job).await.image);
                tally.builded += 1;
            }
            End::Fails => {
                rig.failed(&leaky.job, "dockerfile.step_failed").await;
                tally.failed += 1;
            }
            End::Refused => {
                rig.failed(&leaky.job, "job.malformed").await;
                tally.failed += 1;
            }
        }
        let masked = rig.dashboard.log(&leaky.job.id).lines().filter(|l| l.contains("leak ") && l.contains("***")).count();
        let due = if leaky.end == End::Refused { 0 } else { leaky.leaks.lines() };
        if masked != due {
            seen.push(format!("job {}: {masked} masked lines of {due}", leaky.job.id));
        }
        printed += masked;
    }
    rig.assert_nothing_left().await;
    for (place, content) in on_disk.into_iter().chain(sinks(&rig, &images).await) {
        bytes += content.len();
        seen.extend(needles.none_in(&place, &content).err());
    }
    rig.finish().await;
    let measured = format!(
        "{} of them seen in {:.1} MB of posts, logs, files, Redis, images; {printed} lines masked, {} jobs",
        seen.len(),
        bytes as f64 / 1e6,
        jobs.len()
    );
    (tally, seen, measured)
}

fn leaky(n: usize, secrets: usize, seed: u64) -> Leaky {
    let leaks = Leaks::generate(secrets, seed * 100_000 + n as u64);
    let end = match n % 10 {
        1 | 6 => End::Fails,
        3 => End::Refused,
        _ => End::Builds,
    };
    let repository = leaks.repository(if end == End::Fails { FAILS } else { "" });
    let job = leaks.given_to(Job::of(&repository));
    let job = if end == End::Refused { job.branch("--option") } else { job };
    Leaky { job, leaks, end, _repository: repository }
}
