//! Every stage × every fault: a job is brought to the stage, the fault comes and goes, and the job ends as it would have.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::arrive::arrive;
use crate::case::{Case, Found};
use crate::fault::{Break, Fault, Part, Stage};
use crate::fleet::{Fleet, Setup};
use crate::options::Options;
use crate::random::Random;

/// While a part is cut in mid-answer again and again: how long it passes between two cuts.
const PASSES: Duration = Duration::from_millis(300);
const SETTLES_WITHIN: Duration = Duration::from_secs(240);
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

/// A few cells, so that each stage and each fault is among them.
pub fn short(seed: u64) -> Vec<Cell> {
    let mut random = Random::new(seed, "short");
    let mut faults = Fault::all();
    random.shuffle(&mut faults);
    let stages = Stage::ALL.iter().cycle();
    faults.into_iter().zip(stages).map(|(fault, stage)| Cell { stage: *stage, fault }).collect()
}

/// Cases that are on their way to their stage at a time: then most of them only wait, and many fit.
const ARRIVING: usize = 6;

pub async fn run(cells: Vec<Cell>, options: &Options) -> Vec<(Cell, Found)> {
    let slots = Rc::new(Semaphore::new(options.at_once));
    let arriving = Arc::new(Semaphore::new(ARRIVING));
    let mut running = JoinSet::new();
    for round in 0..options.rounds {
        for cell in cells.iter().copied().filter(|c| options.wants(&c.name())) {
            let (slots, arriving) = (slots.clone(), arriving.clone());
            let (seed, outage) = (options.seed + round as u64, options.outage);
            running.spawn_local(async move {
                let _slot = slots.acquire().await.expect("never closed");
                let on_its_way = arriving.acquire_owned().await.expect("never closed");
                (cell, one(cell, seed, outage, on_its_way).await)
            });
        }
    }
    running.join_all().await
}

async fn one(cell: Cell, seed: u64, outage: Duration, on_its_way: OwnedSemaphorePermit) -> Found {
    let ecr = matches!(cell.fault, Fault::Away(Part::Ecr, _));
    let case = Case {
        name: cell.name(),
        seed,
        hosts: 2,
        setup: Setup { builds: 1, drain: 0, ecr },
        settles_within: SETTLES_WITHIN + outage,
    };
    let mut random = Random::new(seed, &cell.name());
    case.run(|fleet| {
        async move {
            // A step that prints while the part is away; a longer one shows nothing more.
            let lasts = outage.min(Duration::from_secs(20));
            let job = arrive(fleet, cell.stage, lasts, &mut random).await;
            drop(on_its_way);
            let owner = match fleet.owner(&job).await {
                Some(owner) => owner,
                None => random.below(fleet.nodes.len() as u64) as usize,
            };
            strike(fleet, cell.fault, owner, outage).await;
            Ok(String::new())
        }
        .boxed_local()
    })
    .await
}

async fn strike(fleet: &mut Fleet, fault: Fault, owner: usize, outage: Duration) {
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
}
