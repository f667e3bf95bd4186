//! Tiny images (FROM scratch, one file of 2 MB): one, and many services at a time.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::bench_rig::BenchRig;
use crate::script::Script;
use crate::support::{Job, Repository, noise, unique};
use crate::table::{Table, median};

const SERVICES: usize = 20;

fn tiny() -> Repository {
    let repository = Repository::public(&[("Dockerfile", "FROM scratch\nCOPY app /app\n")]);
    repository.commit_raw("main", &[("app", "100644", &noise(2_000_000))]);
    repository
}

/// One job, warm, nothing changed, in turns with the script.
pub async fn one(table: &mut Table, rounds: usize) {
    let (rig, script) = (BenchRig::start(4, |options| options).await, Script::new());
    // Cold: the first of everything but the base, on contents that nobody has seen.
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds.min(5) {
        ours.push(rig.build(&Job::of(&tiny())).await);
        theirs.push(script.run(&tiny(), &unique()).await);
    }
    table.beside("tiny image, cold", median(ours), median(theirs));

    let repository = tiny();
    let (service, image) = (unique(), unique());
    let job = || Job::of(&repository).service(&service);
    rig.build(&job()).await;
    script.run(&repository, &image).await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        theirs.push(script.run(&repository, &image).await);
        ours.push(rig.build(&job()).await);
    }
    println!("ours {ours:?}");
    table.ratio("tiny image, warm: job pushed -> BUILDED", median(ours), median(theirs), 0.5);

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        repository.commit_raw("main", &[("app", "100644", &noise(2_000_000 + round))]);
        theirs.push(script.run(&repository, &image).await);
        repository.commit_raw("main", &[("app", "100644", &noise(2_000_000 + round))]);
        ours.push(rig.build(&job()).await);
    }
    table.beside("tiny image, warm, its file changed", median(ours), median(theirs));
    rig.stop().await;
}

/// Twenty services, four at once, beside the script run for one after the other.
pub async fn many(table: &mut Table, rounds: usize) {
    let (rig, script) = (BenchRig::start(4, |options| options).await, Script::new());
    let services: Vec<(Repository, String, String)> = (0..SERVICES).map(|_| (tiny(), unique(), unique())).collect();
    for (repository, service, image) in &services {
        rig.build(&Job::of(repository).service(service)).await;
        script.run(repository, image).await;
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let began = Instant::now();
        for (repository, _, image) in &services {
            script.run(repository, image).await;
        }
        theirs.push(began.elapsed());
        ours.push(all_at_once(&rig, &services).await);
    }
    table.ratio("20 tiny jobs of 20 services, 4 at once", median(ours), median(theirs), 0.35);
    rig.stop().await;
}

/// From the first RPUSH to the last BUILDED.
async fn all_at_once(rig: &BenchRig, services: &[(Repository, String, String)]) -> Duration {
    let began = Instant::now();
    let jobs: Vec<Job> = services.iter().map(|(repository, service, _)| Job::of(repository).service(service)).collect();
    for job in &jobs {
        rig.push(job).await;
    }
    let ends = join_all(jobs.iter().map(|job| rig.board.end(&job.id, "BUILDED"))).await;
    ends.into_iter().max().unwrap() - began
}
