//! Every stage × every fault: a job is brought to the stage, the fault comes and goes, and the job ends as it would have.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::arrive::arrive;
use crate::case::{Case, Found};
use crate::fault::{Break, Fault, Part, Stage};
use crate::fleet::{Disks, Fleet, Setup};
use crate::options::Options;
use crate::random::Random;
use crate::support::Job;
use crate::{abort, disk, refused, small_disk};

/// While a part is cut in mid-answer again and again: how long it passes between two cuts.
const PASSES: Duration = Duration::from_millis(300);
/// The word for all cells whose fault lasts for a while.
const OUTAGES: &str = "outages";
const SETTLES_WITHIN: Duration = Duration::from_secs(240);
/// A lease lasts 30 s; a stall of the disk has to outlast it.
const SHORTEST_STALL: Duration = Duration::from_secs(45);
/// What stops a stopped worker is no stage.
const STOPS_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
pub struct Cell {
    pub stage: Stage,
    pub fault: Fault,
}

impl Cell {
    pub fn name(self) -> String {
        format!("{} / {}", self.stage.name(), self.fault.name())
    }
}

pub fn cells() -> Vec<Cell> {
    Fault::all().into_iter().flat_map(|fault| Stage::ALL.map(|stage| Cell { stage, fault })).collect()
}

/// A few cells, so that each stage and each fault is among them; but an end that is refused takes a quarter of an hour to be given up.
pub fn short(seed: u64) -> Vec<Cell> {
    let mut random = Random::new(seed, "short");
    let mut faults: Vec<Fault> = Fault::all().into_iter().filter(|fault| !matches!(fault, Fault::RefusedEnd)).collect();
    random.shuffle(&mut faults);
    let stages = Stage::ALL.iter().cycle();
    faults.into_iter().zip(stages).map(|(fault, stage)| Cell { stage: *stage, fault }).collect()
}

/// `--only`: parts of a cell's name, or `outages`.
fn is_wanted(cell: Cell, options: &Options) -> bool {
    if options.only == OUTAGES { cell.fault.is_outage() } else { options.wants(&cell.name()) }
}

/// At most `parallel` cells at a time, of which at most `at_once` come to their stage; the others mostly wait.
pub async fn run(cells: Vec<Cell>, options: &Options) -> Vec<(Cell, Found)> {
    let slots = Arc::new(Semaphore::new(options.parallel.max(options.at_once)));
    let starts = Arc::new(Semaphore::new(options.at_once));
    let mut running = JoinSet::new();
    for round in 0..options.rounds {
        for cell in cells.iter().copied().filter(|c| is_wanted(*c, options)) {
            let (slots, starts, seed, outage) = (slots.clone(), starts.clone(), options.seed + round as u64, options.outage);
            running.spawn_local(async move {
                let _slot = slots.acquire_owned().await.expect("never closed");
                let start = starts.acquire_owned().await.expect("never closed");
                (cell, one(cell, seed, outage, start).await)
            });
        }
    }
    running.join_all().await
}

/// `start`: given back when the job is where it has to be.
async fn one(cell: Cell, seed: u64, outage: Duration, start: OwnedSemaphorePermit) -> Found {
    let ecr = matches!(cell.fault, Fault::Away(Part::Ecr, _));
    let disks = match cell.fault {
        Fault::DiskStall => Disks::Stalling,
        Fault::SmallDisk => Disks::Small,
        _ => Disks::Roomy,
    };
    let stalls = disks == Disks::Stalling;
    let outage = if stalls { outage.max(SHORTEST_STALL) } else { outage };
    let case = Case {
        name: cell.name(),
        seed,
        hosts: 2,
        setup: Setup { builds: 1, drain: 0, ecr, disks },
        settles_within: SETTLES_WITHIN + outage,
    };
    let mut random = Random::new(seed, &cell.name());
    case.run(|fleet| {
        async move {
            // A step that prints while the part is away; a longer one shows nothing more.
            let lasts = if stalls { outage } else { outage.min(Duration::from_secs(20)) };
            match disks {
                Disks::Roomy => {}
                Disks::Stalling => disk::hosts_are_up(fleet).await,
                Disks::Small => small_disk::caches_fill(fleet).await,
            }
            let job = arrive(fleet, cell.stage, lasts, &mut random).await;
            drop(start);
            let owner = match fleet.owner(&job).await {
                Some(owner) => owner,
                None => random.below(fleet.nodes.len() as u64) as usize,
            };
            strike(fleet, cell.fault, &job, owner, outage).await
        }
        .boxed_local()
    })
    .await
}

async fn strike(fleet: &mut Fleet, fault: Fault, job: &Job, owner: usize, outage: Duration) -> Result<String, String> {
    match fault {
        Fault::Kill => {
            fleet.kill(owner).await;
            fleet.heal();
            fleet.restart(owner);
            fleet.note_disturbance(Duration::ZERO);
        }
        Fault::Stop => {
            fleet.note_disturbance(STOPS_WITHIN);
            if let Some(mut worker) = fleet.nodes[owner].worker.take() {
                worker.terminate();
                let status = worker.ended(STOPS_WITHIN).await;
                assert_eq!(status.code(), Some(0), "the worker stops cleanly");
            }
            fleet.heal();
            fleet.restart(owner);
        }
        Fault::Freeze => {
            fleet.frozen = true;
            fleet.note_disturbance(outage);
            if let Some(worker) = &fleet.nodes[owner].worker {
                worker.freeze();
            }
            fleet.heal();
            tokio::time::sleep(outage).await;
            if let Some(worker) = &fleet.nodes[owner].worker {
                worker.thaw();
            }
        }
        Fault::Abort => return Ok(abort::of(fleet, owner).await),
        Fault::DiskStall => disk::stalls(fleet, owner, outage).await?,
        Fault::SmallDisk => small_disk::fills(fleet, job).await?,
        Fault::RefusedEnd => refused::for_ever(fleet, job).await?,
        Fault::DeadHosts => {
            fleet.note_disturbance(Duration::ZERO);
            fleet.push_jobs_of_dead_hosts().await;
            fleet.heal();
        }
        Fault::Away(part, kind) => {
            fleet.note_disturbance(outage + Duration::from_secs(5));
            // What held the job in its stage goes, the part too.
            fleet.heal();
            fleet.breaks(part, kind);
            if kind == Break::Cut {
                let end = tokio::time::Instant::now() + outage;
                while tokio::time::Instant::now() < end {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    fleet.breaks(part, Break::Cut);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    fleet.heal();
                    tokio::time::sleep(PASSES).await;
                }
            } else {
                tokio::time::sleep(outage).await;
            }
            fleet.heal();
        }
    }
    Ok(String::new())
}

/// Faults down, stages across. A cell says how many of its rounds held.
pub fn print(found: &[(Cell, Found)]) {
    print!("{:28}", "");
    for stage in Stage::ALL {
        print!("{:>10}", stage.name());
    }
    println!();
    for fault in Fault::all() {
        let of_fault: Vec<_> = found.iter().filter(|(cell, _)| cell.fault == fault).collect();
        if of_fault.is_empty() {
            continue;
        }
        print!("{:28}", fault.name());
        for stage in Stage::ALL {
            let here: Vec<_> = of_fault.iter().filter(|(cell, _)| cell.stage == stage).collect();
            let missed = here.iter().filter(|(_, f)| !f.misses.is_empty()).count();
            let word = match (here.len(), missed) {
                (0, _) => String::new(),
                (1, 0) => "ok".to_owned(),
                (1, _) => "MISS".to_owned(),
                (n, 0) => format!("ok {n}"),
                (n, missed) => format!("MISS {missed}/{n}"),
            };
            print!("{word:>10}");
        }
        println!();
    }
    for (cell, found) in found.iter().filter(|(_, found)| !found.measured.is_empty()) {
        println!("{}: {}", cell.name(), found.measured);
    }
}
