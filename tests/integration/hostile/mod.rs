//! Hostile jobs, repositories and servers, by the hundred, against one worker that has to live through all of them.
//! `make test` takes some of each group, `make hostile` all.

mod commits;
mod dockerfiles;
mod drive;
mod front;
mod job_fields;
mod json;
mod repositories;
mod servers;
mod tree;

use std::time::Instant;

use drive::{Ground, Group};

/// What the worker may have had resident at any time, in KiB.
const MEMORY_KIB: u64 = 150 * 1024;
/// In the short form: the first of each group, and of the others one in so many.
const ONE_IN: usize = 10;
const AT_LEAST: usize = 200;
const AT_LEAST_IN_SHORT: usize = 50;

#[allow(clippy::disallowed_methods, reason = "the test's own form; config/ is for the product's")]
fn is_whole() -> bool {
    std::env::var("SLIPWAY_TEST_HOSTILE").is_ok_and(|form| form == "all")
}

#[tokio::test]
async fn a_worker_lives_through_hundreds_of_hostile_jobs_repositories_and_servers() {
    let started = Instant::now();
    let mut ground = Ground::start().await;
    let (step, at_least) = if is_whole() { (1, AT_LEAST) } else { (ONE_IN, AT_LEAST_IN_SHORT) };
    let mut count = 0;
    for group in [
        Group::new("elements that are no job", json::cases()),
        Group::new("fields of a job", job_fields::cases(&ground)),
        Group::new("addresses that are never asked", job_fields::addresses()),
        Group::new("names and modes in a tree", repositories::names()),
        Group::new("shapes of a tree", repositories::shapes()),
        Group::new("what a build is made of", dockerfiles::cases()),
        Group::new("commits and refs", commits::cases()),
        Group::new("git servers", servers::git(&ground).await),
        Group::new("registries", servers::registries(&ground)),
        Group::new("dashboards", servers::dashboards(&ground)),
    ] {
        count += ground.run(group.one_in(step)).await;
    }
    let peak = ground.rig.worker().peak_resident_kib();
    eprintln!("{count} hostile cases in {:.1} s, {} MiB resident at most", started.elapsed().as_secs_f32(), peak / 1024);
    ground.end().await;
    assert!(count >= at_least, "{count} cases");
    assert!(peak <= MEMORY_KIB, "the worker had {peak} KiB resident");
}
