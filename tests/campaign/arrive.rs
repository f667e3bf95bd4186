//! Brings a job to a stage and holds it there.

use std::time::Duration;

use crate::fault::{Break, Part, Stage};
use crate::fleet::{Fleet, QUEUE};
use crate::jobs::{Load, repository};
use crate::random::Random;
use crate::support::{Fault, Job, Trouble, eventually, unique};

const SOON: Duration = Duration::from_secs(90);
const LINES: usize = 20;
const MUCH: usize = 10 * 1024 * 1024;
/// 800 KB a second.
const SLOW: Fault = Fault::Trickle { bytes: 16 * 1024, pause: Duration::from_millis(20) };

/// The job is in the stage when this returns. `lasts`: so long its RUN step prints, where that is the stage.
pub async fn arrive(fleet: &mut Fleet, stage: Stage, lasts: Duration, random: &mut Random) -> Job {
    let mut load = Load { lines: LINES, pause_ms: 20, image: 1000, ..Load::default() };
    let quick = repository(&load);
    match stage {
        Stage::Queued => {
            // Every slot is taken.
            let busy = Load { pause_ms: (lasts.as_millis() as usize + 12_000) / LINES, ..load.clone() };
            for _ in 0..fleet.nodes.len() {
                let blocks = fleet.push(repository(&busy), LINES, |job| job).await;
                fleet.dashboard.wait_for_line(&blocks.id, " line 0", SOON).await;
            }
            let job = fleet.push(quick, LINES, |job| job).await;
            eventually("the job waits", SOON, async || {
                let waiting: (u64, u64) = (
                    fleet.redis.command(&["LLEN", QUEUE]).await,
                    fleet.redis.command(&["LLEN", "{builder-queue}:incoming"]).await,
                );
                if waiting.0 + waiting.1 > 0 { Ok(()) } else { Err(format!("{waiting:?}")) }
            })
            .await;
            job
        }
        Stage::Claimed => {
            // Each of the claim's steps takes a while; the fault comes at any of them.
            fleet.nodes.iter().for_each(|n| n.redis.set(Fault::Delay(Duration::from_millis(100))));
            let job = fleet.push(quick, LINES, |job| job).await;
            tokio::time::sleep(Duration::from_millis(random.below(900))).await;
            job
        }
        Stage::Fetch => {
            fleet.breaks(Part::Git, Break::Hang);
            let job = fleet.push(quick, LINES, |job| job).await;
            fleet.links.git.wait_for_connection(SOON).await;
            job
        }
        Stage::Context => {
            load.context = MUCH;
            fleet.links.engine.set(SLOW);
            let job = fleet.push(repository(&load), LINES, |job| job).await;
            fleet.links.engine.wait_for_bytes(MUCH / 5, SOON).await;
            job
        }
        Stage::BasePull => {
            let base = unique();
            fleet.engine.push_cold_base(&base, 2 * 1024 * 1024).await;
            // An image of noise has no shell: the lines come from a stage that does not stand on it.
            let from = format!(
                "{}/{base}:base AS cold\nFROM busybox:base\nCOPY --from=cold /noise /cold",
                fleet.links.registry.address()
            );
            load.base = Some(from);
            fleet.links.registry.set(Fault::Trickle { bytes: 4096, pause: Duration::from_millis(40) });
            let job = fleet.push(repository(&load), LINES, |job| job).await;
            fleet.links.registry.wait_for_bytes(200 * 1024, SOON).await;
            job
        }
        Stage::Run => {
            load.pause_ms = lasts.as_millis() as usize / LINES + 20;
            let job = fleet.push(repository(&load), LINES, |job| job).await;
            fleet.dashboard.wait_for_line(&job.id, " line 0", SOON).await;
            job
        }
        Stage::Push => {
            load.image = MUCH;
            fleet.links.registry.set(SLOW);
            let job = fleet.push(repository(&load), LINES, |job| job).await;
            fleet.links.registry.wait_for_bytes(MUCH / 5, SOON).await;
            job
        }
        Stage::Report => {
            let job = fleet.push(quick, LINES, |job| job).await;
            fleet.dashboard.wait_for_status(&job.id, &["BUILDING"], SOON).await;
            fleet.dashboard.set(Trouble::Answer(503));
            eventually("the end is stored", SOON, async || {
                let record: Option<String> = fleet.redis.command(&["HGET", crate::fleet::JOBS, &job.id]).await;
                let record = record.unwrap_or_default();
                if record.contains("BUILDED") { Ok(()) } else { Err(record) }
            })
            .await;
            job
        }
    }
}
