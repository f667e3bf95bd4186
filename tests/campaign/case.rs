//! One case: a fleet, what happens to it, and what was found in the end. A defect of the case itself is a miss too.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use crate::fleet::{Fleet, Setup};
use crate::invariants::{Tally, check, retire, settle};

pub struct Case {
    pub name: String,
    pub seed: u64,
    pub hosts: usize,
    pub setup: Setup,
    /// How long the jobs may take to end once everything passes again.
    pub settles_within: Duration,
}

#[derive(Debug, Clone)]
pub struct Found {
    pub name: String,
    pub took: Duration,
    pub tally: Tally,
    pub misses: Vec<String>,
    /// What the case measured.
    pub measured: String,
}

impl Case {
    /// Runs `story`, waits until all jobs have ended, and checks. `story` returns what it measured.
    pub async fn run(self, story: impl for<'f> FnOnce(&'f mut Fleet) -> LocalBoxFuture<'f, Result<String, String>>) -> Found {
        let began = Instant::now();
        let started = AssertUnwindSafe(Fleet::start(self.hosts, self.setup)).catch_unwind().await;
        let mut fleet = match started {
            Ok(fleet) => fleet,
            Err(panic) => {
                let miss = format!("it could not begin: {}", words(&*panic));
                println!("MISS {} SEED={}: {miss}", self.name, self.seed);
                let (took, tally, measured) = (began.elapsed(), Tally::default(), String::new());
                return Found { name: self.name, took, tally, misses: vec![miss], measured };
            }
        };
        let told = AssertUnwindSafe(self.tell(&mut fleet, story)).catch_unwind().await;
        let (tally, misses, measured) = told.unwrap_or_else(|panic| (Tally::default(), vec![words(&*panic)], String::new()));
        if !misses.is_empty() {
            let kept = keep(&self.name, &fleet, &misses);
            for miss in &misses {
                println!("MISS {} SEED={}: {miss} (logs: {})", self.name, self.seed, kept.display());
            }
        }
        Found { name: self.name, took: began.elapsed(), tally, misses, measured }
    }

    async fn tell(
        &self,
        fleet: &mut Fleet,
        story: impl for<'f> FnOnce(&'f mut Fleet) -> LocalBoxFuture<'f, Result<String, String>>,
    ) -> (Tally, Vec<String>, String) {
        let (mut misses, mut measured) = (Vec::new(), String::new());
        match story(fleet).await {
            Ok(words) => measured = words,
            Err(miss) => misses.push(miss),
        }
        fleet.heal();
        if let Err(miss) = settle(fleet, self.settles_within).await {
            misses.push(miss);
        }
        let (tally, more) = check(fleet).await;
        misses.extend(more);
        misses.extend(retire(fleet).await);
        (tally, misses, measured)
    }
}

pub fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_else(|| "it panicked".to_owned())
}

fn keep(name: &str, fleet: &Fleet, misses: &[String]) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("campaign");
    let file = dir.join(format!("{}.log", name.replace(|c: char| !c.is_ascii_alphanumeric(), "-")));
    let mut text = format!("{}\n\n", misses.join("\n"));
    for sent in &fleet.jobs {
        text += &format!("==== deployment {} {:?}\n", sent.job.id, fleet.dashboard.statuses(&sent.job.id));
        for post in fleet.dashboard.posts().iter().filter(|p| p.deployment == sent.job.id) {
            text += &format!("{:?} {} {}\n", post.at, post.answer, post.raw);
        }
    }
    text += &fleet.logs();
    if let Err(error) = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&file, text)) {
        println!("the logs of {name} cannot be kept: {error}");
    }
    file
}
