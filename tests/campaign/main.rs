//! The campaign: two workers on the real parts, faults at every stage of a job, and the invariants checked from outside.
//! `make test` runs its short form; `--help` and `docs/reliability.md` say the rest.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for a terminal, and a test")]

mod abort;
mod arrive;
mod case;
mod disk;
mod fault;
mod fleet;
mod invariants;
mod jobs;
mod kills;
mod matrix;
mod options;
mod owners;
mod random;
mod record;
mod refused;
mod secrets;
mod small_disk;
#[path = "../integration/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the integration tests' rig; this takes what it needs of it")]
mod support;
mod takeover;
mod turns;
mod undelivered;

use std::process::ExitCode;
use std::time::Instant;

use crate::case::Found;
use crate::options::{Asked, HELP, Options};

const KILLS_OF_THE_SHORT_FORM: usize = 6;
const SECRETS_OF_THE_SHORT_FORM: usize = 1000;

#[allow(clippy::disallowed_methods, reason = "the campaign's own options; config/ is for the product's")]
fn main() -> ExitCode {
    let options = match options::read(std::env::args().skip(1), |name| std::env::var(name).ok()) {
        Asked::Run(options) => options,
        Asked::Help => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Asked::Nothing => return ExitCode::SUCCESS,
        Asked::Wrong(why) => {
            eprintln!("{why}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    // One line for a panic: the case's name and seed follow, and its logs are kept.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    // The rig's waits stay on one thread; the links and the dashboard run beside it.
    let missed = tokio::task::LocalSet::new().block_on(&runtime, run(options));
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Returns the number of misses.
async fn run(options: Options) -> usize {
    let began = Instant::now();
    println!("campaign: SEED={} ROUNDS={} OUTAGE_SECONDS={}", options.seed, options.rounds, options.outage.as_secs());
    let mut found: Vec<Found> = Vec::new();
    if options.kills > 0 {
        found.push(kills::run(options.kills, options.seed).await);
    }
    if options.turns > 0 {
        found.push(turns::run(options.turns, options.seed).await);
    }
    if options.takeover {
        found.extend(takeover::run(&options).await);
    }
    if options.secrets > 0 {
        found.push(secrets::run(options.secrets, options.seed).await);
    }
    if !options.undelivered.is_zero() {
        found.extend(undelivered::run(options.undelivered).await);
    }
    print(&found);
    if options.matrix || options.short {
        let cells = if options.short { matrix::short(options.seed) } else { matrix::cells() };
        let beside = async { if options.short { beside_the_cells(options.seed).await } else { Vec::new() } };
        let (cells, beside) = tokio::join!(matrix::run(cells, &options), beside);
        matrix::print(&cells);
        print(&beside);
        found.extend(cells.into_iter().map(|(_, found)| found).chain(beside));
    }
    let mut tally = invariants::Tally::default();
    found.iter().for_each(|f| tally.add(&f.tally));
    let missed = found.iter().filter(|f| !f.misses.is_empty()).count();
    println!(
        "{} jobs: {} BUILDED, {} CANCELLED, {} FAILED, {} dead letters; {} posts repeated; {} cases, {missed} missed, {:.0} s",
        tally.jobs(),
        tally.builded,
        tally.cancelled,
        tally.failed,
        tally.dead,
        tally.repeats,
        found.len(),
        began.elapsed().as_secs_f64(),
    );
    missed
}

/// What else the short form has.
async fn beside_the_cells(seed: u64) -> Vec<Found> {
    let (kills, secrets) = tokio::join!(kills::run(KILLS_OF_THE_SHORT_FORM, seed), secrets::run(SECRETS_OF_THE_SHORT_FORM, seed));
    vec![kills, secrets]
}

fn print(found: &[Found]) {
    for one in found {
        let word = if one.misses.is_empty() { "ok" } else { "MISS" };
        println!("{word:4} {:45} {:5.0} s  {}", one.name, one.took.as_secs_f64(), one.measured);
    }
}
