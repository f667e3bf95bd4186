//! Disks that are small: somebody fills them below MIN_FREE_DISK while a job is under way. Room is made, and all jobs are built.

use std::path::PathBuf;
use std::time::Duration;

use crate::fleet::Fleet;
use crate::jobs::{Load, repository};
use crate::support::{Filled, eventually, free};

/// The Engine's data.
pub const ENGINE_MIB: u64 = 448;
pub const WORK_DIR_MIB: u64 = 288;
pub const MIN_FREE_DISK: &str = "96MiB";
/// So much is left: less than that.
const LEFT: u64 = 88 << 20;
/// Of each host's first job. What its mirror and its build leave is above what is missing.
const CACHED: usize = 24 << 20;
const LINES: usize = 5;
const SOON: Duration = Duration::from_secs(90);
const ENDS_WITHIN: Duration = Duration::from_secs(180);
/// The container that has somebody else's data in the Engine.
const STRANGER: &str = "somebody-elses";

/// Each host has a mirror that no job needs any more, and the Engine has cache.
pub async fn caches_fill(fleet: &mut Fleet) {
    let load = Load { lines: LINES, pause_ms: 4000, context: CACHED, ..Load::default() };
    let repositories: Vec<_> = fleet.nodes.iter().map(|_| repository(&load)).collect();
    let mut first = Vec::new();
    for repository in repositories {
        // A host with one slot that has begun takes no other, as long as its job goes on.
        let job = fleet.push(repository, LINES, |job| job).await;
        fleet.dashboard.wait_for_line(&job.id, " line 0", SOON).await;
        first.push(job);
    }
    for job in &first {
        fleet.dashboard.wait_for_status(&job.id, &["BUILDED"], SOON).await;
    }
}

/// Less than MIN_FREE_DISK is free everywhere from now on. The job and one that comes behind it are built all the same: the caches make room.
pub async fn fills(fleet: &mut Fleet, job: &crate::support::Job) -> Result<(), String> {
    let engines_data = PathBuf::from(fleet.engine.docker(&["info", "--format", "{{.DockerRootDir}}"]).await.trim());
    let fill = format!("head -c {} /dev/zero > /large", free(&engines_data).saturating_sub(LEFT));
    let run = ["run", "--name", STRANGER, "--network", "none", "busybox:base", "sh", "-c", &fill];
    fleet.engine.docker(&run).await;
    let somebody_elses: Vec<Filled> = fleet.nodes.iter().map(|node| Filled::disk_of(&node.host.work_dir(), LEFT)).collect();
    fleet.heal();
    let load = Load { lines: LINES, pause_ms: 10, ..Load::default() };
    let next = fleet.push(repository(&load), LINES, |job| job).await;
    for job in [job, &next] {
        let end = fleet.dashboard.wait_for_status(&job.id, &["BUILDED", "FAILED", "CANCELLED"], ENDS_WITHIN).await;
        if !end.raw.contains("BUILDED") {
            return Err(format!("a job ended otherwise for want of room: {}", end.raw));
        }
    }
    is_said(fleet, "of the git mirrors, to keep", fleet.nodes.len()).await;
    is_said(fleet, "of BuildKit's cache, to keep", 1).await;
    drop(somebody_elses);
    fleet.engine.docker(&["rm", STRANGER]).await;
    Ok(())
}

/// By so many hosts at least.
async fn is_said(fleet: &Fleet, what: &str, hosts: usize) {
    eventually(&format!("{hosts} hosts say {what}"), SOON, async || {
        let logs: Vec<String> = fleet.nodes.iter().map(|node| node.host.log()).collect();
        let saying = logs.iter().filter(|log| log.contains(what)).count();
        if saying >= hosts { Ok(()) } else { Err(format!("{saying} do")) }
    })
    .await;
}
