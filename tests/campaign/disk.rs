//! The disk under `WORK_DIR` takes no write for longer than a lease lasts: the jobs stay their host's own.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::fleet::Fleet;
use crate::support::eventually;

const LOOK_EVERY: Duration = Duration::from_millis(500);
const ENDS_WITHIN: Duration = Duration::from_secs(180);

/// Every worker has a lease from here on: a start in front of a stalled disk is no stage of a job.
pub async fn hosts_are_up(fleet: &Fleet) {
    eventually("every host holds a lease", ENDS_WITHIN, async || {
        let leases = leases(fleet).await;
        if leases.len() == fleet.nodes.len() { Ok(()) } else { Err(format!("{leases:?}")) }
    })
    .await;
}

async fn leases(fleet: &Fleet) -> Vec<String> {
    fleet.redis.command(&["KEYS", "*:lease:*"]).await
}

/// Freezes the host's disk for so long. No answer of a part is lost meanwhile, so nothing may come twice.
pub async fn stalls(fleet: &mut Fleet, node: usize, lasts: Duration) -> Result<(), String> {
    let leases = leases(fleet).await;
    fleet.nodes[node].host.disk().freeze();
    fleet.heal();
    let held = leases_are_held(fleet, &leases, lasts).await;
    fleet.nodes[node].host.disk().thaw();
    held?;
    for job in fleet.jobs.iter().map(|sent| sent.job.clone()).collect::<Vec<_>>() {
        fleet.dashboard.wait_for_status(&job.id, &["BUILDED", "FAILED", "CANCELLED"], ENDS_WITHIN).await;
        built_once(fleet, &job.id)?;
    }
    Ok(())
}

/// Every worker renews its lease all the while, and no crash is counted.
async fn leases_are_held(fleet: &Fleet, leases: &[String], lasts: Duration) -> Result<(), String> {
    if leases.len() != fleet.nodes.len() {
        return Err(format!("{} hosts hold {leases:?}", fleet.nodes.len()));
    }
    let began = Instant::now();
    while began.elapsed() < lasts {
        for lease in leases {
            let held: u32 = fleet.redis.command(&["EXISTS", lease]).await;
            if held == 0 {
                return Err(format!("{lease} ran out {:.1} s after the disk had stalled", began.elapsed().as_secs_f64()));
            }
        }
        let crashes: u32 = fleet.redis.command(&["HLEN", "{builder-queue}:crashes"]).await;
        if crashes > 0 {
            return Err("a crash was counted against a worker that lives".to_owned());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// By its first attempt, and one host told all of it.
fn built_once(fleet: &Fleet, job: &str) -> Result<(), String> {
    let statuses = fleet.dashboard.statuses(job);
    if statuses != ["BUILDING", "BUILDED"] {
        return Err(format!("{job} was not built once: {statuses:?}"));
    }
    let posts = fleet.dashboard.taken(job);
    let hosts: HashSet<&str> = posts.iter().map(|post| post.host.as_str()).collect();
    if hosts.len() != 1 {
        return Err(format!("{job} was told by {hosts:?}"));
    }
    match posts.iter().any(|post| post.raw.contains(&format!(":{job}-1@"))) {
        true => Ok(()),
        false => Err(format!("{job} was not built by its first attempt")),
    }
}
