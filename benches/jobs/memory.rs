//! Resident memory: idle, and with eight builds at once one of which prints a million lines; posts and order of those lines.

use std::time::Duration;

use crate::bench_rig::BenchRig;
use crate::board::COUNTED;
use crate::support::{Job, Repository, Worker, noise};
use crate::table::Table;

const LINES: u64 = 1_000_000;
/// What is freed lazily is freed by then.
const SETTLE: Duration = Duration::from_secs(3);

pub async fn idle(table: &mut Table) {
    let rig = BenchRig::start(2, |options| options).await;
    tokio::time::sleep(SETTLE).await;
    let before = resident(&rig.worker, "VmRSS");
    let repository = Repository::public(&[("Dockerfile", "FROM scratch\nCOPY app /app\n")]);
    repository.commit_raw("main", &[("app", "100644", &noise(2_000_000))]);
    rig.build(&Job::of(&repository)).await;
    tokio::time::sleep(SETTLE).await;
    let after = resident(&rig.worker, "VmRSS");
    table.at_most("idle resident memory before the first job", before, 12.0, "MB");
    table.at_most("idle resident memory after the first job", after, 20.0, "MB");
    for line in status(&rig.worker).lines().filter(|l| l.starts_with("Rss") || l.starts_with("Threads")) {
        println!("    {line}");
    }
    rig.stop().await;
}

pub async fn eight(table: &mut Table) {
    let rig =
        BenchRig::start(8, |options| options.set("LOG_MAX_BYTES", "1073741824").set("JOURNAL_MAX_BYTES", "4294967296")).await;
    // awk writes by the buffer. What writes line by line (sed) makes a message of each line in BuildKit, which then passes on a few
    // hundred lines a second, to the docker client too.
    let chatty = format!("FROM busybox:base\nRUN awk 'BEGIN {{ for (i = 1; i <= {LINES}; i++) print \"{COUNTED}\" i }}'\n");
    let chatty = Repository::public(&[("Dockerfile", &chatty)]);
    let others: Vec<Repository> = (0..7)
        .map(|n| {
            let run = format!("FROM busybox:base\nRUN for i in $(seq 1 200); do echo {n} line $i; sleep 0.05; done\n");
            Repository::public(&[("Dockerfile", &run)])
        })
        .collect();
    let jobs: Vec<Job> = others.iter().map(Job::of).collect();
    for job in &jobs {
        rig.push(job).await;
    }
    let job = Job::of(&chatty);
    let pushed = rig.push(&job).await;
    let took = rig.board.end(&job.id, "BUILDED").await - pushed;
    for job in &jobs {
        rig.board.end(&job.id, "BUILDED").await;
    }
    let peak = resident(&rig.worker, "VmHWM");
    table.at_most("resident memory (peak), 8 builds at once, one with 1M lines", peak, 40.0, "MB");
    let told = rig.board.told(&job.id);
    table.at_most("posts per 50 log lines of the chatty build", told.posts as f64 * 50.0 / told.lines as f64, 1.0, "posts");
    table.at_most("lines out of order", told.out_of_order as f64, 0.0, "lines");
    table.at_most("lines lost", (LINES - told.counted.min(LINES)) as f64, 0.0, "lines");
    table.note("1,000,000 lines: job pushed -> BUILDED", format!("{:.1} s, {} posts", took.as_secs_f64(), told.posts));
    tokio::time::sleep(SETTLE).await;
    table.note("resident memory afterwards", format!("{:.1} MB", resident(&rig.worker, "VmRSS")));
    rig.stop().await;
}

fn status(worker: &Worker) -> String {
    std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap()
}

/// A line of the process's status, in MB (2^20 bytes).
pub fn resident(worker: &Worker, what: &str) -> f64 {
    let status = status(worker);
    let line = status.lines().find_map(|l| l.strip_prefix(what)).unwrap();
    line.trim_matches([':', '\t', ' ']).trim_end_matches(" kB").trim().parse::<f64>().unwrap() / 1024.0
}
