//! kill -9 of a worker at a random moment, again and again, with two workers and jobs under way all the time.

use std::time::Duration;

use futures_util::FutureExt;

use crate::case::{Case, Found};
use crate::fleet::{Disks, Fleet, Setup};
use crate::invariants::{check, settle};
use crate::jobs::{Load, repository};
use crate::random::Random;

const HOSTS: usize = 2;
/// After so many kills everything has to calm down and is looked at.
const KILLS_OF_A_ROUND: usize = 10;
const LINES: usize = 60;
/// A lease, the calm before a take-over, and the builds of all that is queued, also alone.
const SETTLES_WITHIN: Duration = Duration::from_secs(300);

pub async fn run(kills: usize, seed: u64) -> Found {
    let case = Case {
        name: format!("{kills} kills"),
        seed,
        hosts: HOSTS,
        setup: Setup { builds: 2, drain: 5, ecr: false, disks: Disks::Roomy },
        settles_within: SETTLES_WITHIN,
    };
    case.run(|fleet| async move { story(fleet, kills, seed).await }.boxed_local()).await
}

async fn story(fleet: &mut Fleet, kills: usize, seed: u64) -> Result<String, String> {
    let mut random = Random::new(seed, "kills");
    fleet.may_crash = true;
    let (mut done, mut lost) = (0, 0);
    for round in 0.. {
        let of_round = KILLS_OF_A_ROUND.min(kills - done);
        if of_round == 0 {
            break;
        }
        for _ in 0..3 {
            push(fleet, &mut random).await;
        }
        let loses = (round % 4 == 3).then(|| random.below(of_round as u64) as usize);
        for n in 0..of_round {
            push(fleet, &mut random).await;
            tokio::time::sleep(Duration::from_millis(200 + random.below(3300))).await;
            let node = random.below(HOSTS as u64) as usize;
            fleet.kill(node).await;
            done += 1;
            if random.one_in(4) {
                tokio::time::sleep(Duration::from_millis(random.below(3000))).await;
            }
            if loses == Some(n) {
                fleet.lose(node).await;
                lost += 1;
            } else {
                fleet.restart(node);
            }
            fleet.note_disturbance(Duration::ZERO);
        }
        settle(fleet, SETTLES_WITHIN).await.map_err(|miss| format!("after {done} kills: {miss}"))?;
        let (tally, misses) = check(fleet).await;
        if !misses.is_empty() {
            return Err(format!("after {done} kills: {}", misses.join("; ")));
        }
        println!(
            "  {done} kills ({lost} hosts lost for good): {} jobs, {} dead letters, {} posts repeated",
            tally.jobs(),
            tally.dead,
            tally.repeats
        );
    }
    Ok(format!("{done} kills, {lost} hosts lost for good"))
}

async fn push(fleet: &mut Fleet, random: &mut Random) {
    let load = Load { lines: LINES, pause_ms: random.below(40) as usize, image: 1 << (10 + random.below(12)), ..Load::default() };
    let job = fleet.push(repository(&load), LINES, |job| job).await;
    if random.one_in(8) {
        fleet.cancel(&job).await;
    }
}
