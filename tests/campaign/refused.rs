//! The dashboard refuses one deployment's end for ever: it is told with less, then stands in the dead letter list, and others are told.

use std::collections::HashSet;
use std::time::Duration;

use crate::fleet::{Fleet, JOBS};
use crate::jobs::{Load, repository};
use crate::support::{Body, Job, eventually};

const SOON: Duration = Duration::from_secs(90);
/// Alone on its worker an end is given up after a quarter of an hour.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(1500);
const LINES: usize = 5;

/// The job goes on to its end, which nobody takes; its service's next deployment is told all the same.
pub async fn for_ever(fleet: &mut Fleet, job: &Job) -> Result<(), String> {
    fleet.refuse_end(job);
    fleet.heal();
    eventually("the end is stored", SOON, async || {
        let record: Option<String> = fleet.redis.command(&["HGET", JOBS, &job.id]).await;
        let record = record.unwrap_or_default();
        if record.contains("BUILDED") { Ok(()) } else { Err(record) }
    })
    .await;
    let load = Load { lines: LINES, pause_ms: 10, ..Load::default() };
    let next = fleet.push(repository(&load), LINES, |next| next.service(&job.service)).await;
    // On another host it waits until the older one's end is given up.
    fleet.dashboard.wait_for_status(&next.id, &["BUILDED"], GIVEN_UP_WITHIN).await;
    eventually("the end is in the dead letter list", GIVEN_UP_WITHIN, async || {
        let notes = fleet.dead_letters().await;
        if notes.iter().any(|note| is_of(note, &job.id)) { Ok(()) } else { Err(format!("{notes:?}")) }
    })
    .await;
    Ok(())
}

/// The note of a dead letter is this deployment's; its reason may name others.
pub fn is_of(note: &str, job: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(note).is_ok_and(|note| note["deploymentId"] == job)
}

/// No end of it was taken, it was told with less, and its note says why.
pub fn check(fleet: &Fleet, job: &Job, dead: &[String]) -> Result<(), String> {
    let is_end = |body: &Body| matches!(body, Body::Status { status, .. } if status != "BUILDING" && status != "PENDING");
    let statuses = fleet.dashboard.statuses(&job.id);
    if statuses != ["BUILDING"] {
        return Err(format!("its end is refused, and these were taken: {statuses:?}"));
    }
    let posts = fleet.dashboard.posts();
    let refused = posts.iter().filter(|post| post.deployment == job.id && post.answer == 500 && is_end(&post.body));
    let wordings: HashSet<&str> = refused.map(|post| post.raw.as_str()).collect();
    if wordings.len() < 2 {
        return Err(format!("its refused end was not told with less: {wordings:?}"));
    }
    match dead.iter().find(|note| is_of(note, &job.id)) {
        Some(note) if note.contains("\"report.refused\"") => Ok(()),
        other => Err(format!("its refused end is not in the dead letter list as that: {other:?}")),
    }
}
