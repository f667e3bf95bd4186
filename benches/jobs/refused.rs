//! Jobs that are refused at once, the whole way: claimed, journaled, reported, acknowledged.

use std::time::Instant;

use futures_util::future::join_all;
use serde_json::json;

use crate::bench_rig::BenchRig;
use crate::support::{Job, Repository};
use crate::table::Table;

const JOBS: usize = 3000;

/// A second, eight at a time, from the first one pushed to the last FAILED at the dashboard.
pub async fn refused(table: &mut Table) {
    let rig = BenchRig::start(8, |options| options).await;
    let repository = Repository::empty();
    let jobs: Vec<Job> = (0..JOBS).map(|_| Job::of(&repository).set("runtimeFilePath", json!("../../etc/passwd"))).collect();
    let elements: Vec<_> = jobs.iter().map(Job::payload).collect();
    let began = Instant::now();
    let mut redis = rig.redis.clone();
    let _: u64 = redis::cmd("RPUSH").arg(&rig.queue).arg(elements).query_async(&mut redis).await.unwrap();
    let ends = join_all(jobs.iter().map(|job| rig.board.end(&job.id, "FAILED"))).await;
    let took = ends.into_iter().max().unwrap() - began;
    table.at_least("jobs refused a second, the whole way, 8 at a time", JOBS as f64 / took.as_secs_f64(), 300.0, "a second");
    rig.stop().await;
}
