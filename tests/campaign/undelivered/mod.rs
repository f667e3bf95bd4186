//! Chatty builds, one after the other, while the dashboard is away for an hour: what the worker holds in memory and on disk, what
//! it says, and what is told when the dashboard is back.

mod board;
mod host;
mod story;

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::JoinSet;

use crate::case::{Found, words};
use crate::invariants::Tally;
use board::Away;
use host::{Chatty, Sample};

const MIB: u64 = 1024 * 1024;
/// The most that a worker may have resident, and the most that it may grow meanwhile.
const MEMORY: u64 = 150 * MIB;
const HOUR: Duration = Duration::from_secs(3600);
const GROWTH: u64 = 8 * MIB;
const SLOTS: u64 = 2;
/// Samples at least so often in a run, and at least once a minute.
const SAMPLES: u32 = 10;
const JOBS_WAITING: u64 = 3;
/// For all that was kept, and the jobs that waited, once the dashboard is back.
const TOLD_WITHIN: Duration = Duration::from_secs(1200);

/// One worker's bounds, and its builds.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    name: &'static str,
    away: Away,
    log_max: u64,
    journal_max: u64,
    /// Lines of a build, and of every fifth one.
    lines: [u64; 2],
    /// More is printed in an hour than all journals may hold.
    stops: bool,
}

const SMALL: Bounds = Bounds {
    name: "undelivered, small bounds, hangs",
    away: Away::Hangs,
    log_max: 2 * MIB,
    journal_max: 16 * MIB,
    lines: [60_000, 60_000],
    stops: true,
};

const ALL: [Bounds; 3] = [
    SMALL,
    Bounds {
        name: "undelivered, defaults, 503",
        away: Away::Busy,
        log_max: 32 * MIB,
        journal_max: 1024 * MIB,
        lines: [120_000, 390_000],
        stops: true,
    },
    Bounds {
        name: "undelivered, short logs, 503",
        away: Away::Busy,
        log_max: MIB,
        journal_max: 1024 * MIB,
        lines: [120_000, 120_000],
        stops: false,
    },
];

pub async fn run(lasts: Duration) -> Vec<Found> {
    let mut running = JoinSet::new();
    for bounds in ALL {
        running.spawn_local(one(bounds, lasts));
    }
    running.join_all().await
}

async fn one(bounds: Bounds, lasts: Duration) -> Found {
    let began = Instant::now();
    let told = std::panic::AssertUnwindSafe(story(bounds, lasts)).catch_unwind().await;
    let (tally, misses, measured) = told.unwrap_or_else(|panic| (Tally::default(), vec![words(&*panic)], String::new()));
    for miss in &misses {
        println!("MISS {}: {miss}", bounds.name);
    }
    Found { name: bounds.name.to_owned(), took: began.elapsed(), tally, misses, measured }
}

async fn story(bounds: Bounds, lasts: Duration) -> (Tally, Vec<String>, String) {
    let mut chatty = Chatty::start(bounds).await;
    let samples = away(&mut chatty, lasts).await;
    let returned = Instant::now();
    chatty.board.returns();
    let mut misses = chatty.settle(TOLD_WITHIN).await;
    let took = returned.elapsed();
    let (tally, summary, more) = chatty.check().await;
    misses.extend(more);
    misses.extend(judge(&bounds, lasts, &samples, &chatty.word()));
    misses.extend(chatty.retire().await);
    let most = samples.iter().map(|s| s.journals).max().unwrap_or_default();
    let measured = format!(
        "journals at most {:.1} MiB, resident {:.1} to {:.1} MiB; {summary}; told in {:.0} s",
        mib(most),
        mib(samples.iter().map(|s| s.resident).min().unwrap_or_default()),
        mib(samples.iter().map(|s| s.peak).max().unwrap_or_default()),
        took.as_secs_f64(),
    );
    (tally, misses, measured)
}

/// The dashboard's time away: jobs are pushed so that some always wait.
async fn away(chatty: &mut Chatty, lasts: Duration) -> Vec<Sample> {
    let between = Duration::from_secs(60).min(lasts / SAMPLES);
    let (began, mut samples) = (Instant::now(), Vec::new());
    let mut due = between;
    loop {
        let over = began.elapsed() >= lasts;
        while !over && chatty.waiting().await < JOBS_WAITING {
            chatty.push().await;
        }
        if over || began.elapsed() >= due {
            due += between;
            let sample = chatty.sample(began.elapsed()).await;
            println!("  {:34} {sample}", chatty.bounds.name);
            samples.push(sample);
        }
        if over {
            return samples;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// PURE: disk bounded and said, memory flat.
fn judge(bounds: &Bounds, lasts: Duration, samples: &[Sample], word: &str) -> Vec<String> {
    let mut misses = Vec::new();
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return vec!["nothing was looked at".to_owned()];
    };
    // What runs when the cap is reached still writes its own log, up to that one's cap.
    let bound = bounds.journal_max + SLOTS * (bounds.log_max + MIB / 4);
    for sample in samples.iter().filter(|s| s.journals > bound) {
        misses.push(format!("{:.1} MiB of journals; the bound is {:.1}", mib(sample.journals), mib(bound)));
    }
    if last.peak > MEMORY || last.resident > first.resident + GROWTH {
        let [peak, from, to] = [last.peak, first.resident, last.resident].map(mib);
        misses.push(format!("its memory is not flat: from {from:.1} to {to:.1} MiB, at most {peak:.1}"));
    }
    let is_full = last.journals > bounds.journal_max || bounds.stops && lasts >= HOUR;
    if is_full && !(last.stopped && word.contains("JOURNAL_MAX_BYTES is")) {
        misses.push(format!("the cap of all journals was not reached or not said: {word:?}"));
    }
    if let Some(stopped) = samples.iter().find(|s| s.stopped && s.claimed < last.claimed) {
        misses.push(format!("{} jobs were claimed after it had said that none is", last.claimed - stopped.claimed));
    }
    misses
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}
