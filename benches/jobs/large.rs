//! A repository of 20,000 files and 300 MB: until BuildKit has the context, with nothing and with one file changed.

use std::time::{Duration, SystemTime};

use crate::bench_rig::BenchRig;
use crate::script::Script;
use crate::support::{Job, Repository, noise, parts, unique};
use crate::table::{Table, median};
use crate::tap::Tap;

const FILES: usize = 20_000;
const FILE_BYTES: usize = 15_000;
const CHANGED: &str = "d07/e3/file-7.bin";
/// Wants all of the context and copies none of it.
const DOCKERFILE: &str =
    "FROM busybox:base\nRUN --mount=type=bind,target=/context md5sum /context/d07/e3/file-7.bin > /sum; echo seen\n";

fn repository() -> Repository {
    let repository = Repository::public(&[("Dockerfile", DOCKERFILE)]);
    let all = noise(FILES * FILE_BYTES);
    let files: Vec<(String, &[u8])> =
        all.chunks(FILE_BYTES).enumerate().map(|(n, bytes)| (format!("d{:02}/e{}/file-{n}.bin", n % 50, n % 4), bytes)).collect();
    let files: Vec<(&str, &str, &[u8])> = files.iter().map(|(path, bytes)| (path.as_str(), "100644", *bytes)).collect();
    repository.commit_raw("main", &files);
    repository
}

pub async fn large(table: &mut Table, rounds: usize) {
    let sockets = tempfile::Builder::new().prefix("slipway-sockets-").tempdir().unwrap();
    let tap = Tap::before(&parts().engine_socket, sockets.path().join("engine.sock"));
    let socket = sockets.path().join("engine.sock");
    let rig = BenchRig::start(4, |options| options.engine(&socket)).await;
    let (script, repository, service) = (Script::new(), repository(), unique());
    let job = || Job::of(&repository).service(&service);

    let cold = script.run_to_context(&repository).await;
    let (ours, _) = to_context(&rig, &tap, &job()).await;
    table.beside("20,000 files / 300 MB, cold: context", ours, cold);

    // A round of the script takes as long as a hundred of ours.
    let script_rounds = rounds.div_ceil(4);
    let (mut ours, mut theirs, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        if round < script_rounds {
            theirs.push(script.run_to_context(&repository).await);
        }
        let (took, sent) = to_context(&rig, &tap, &job()).await;
        ours.push(took);
        bytes.push(sent);
    }
    println!("ours {ours:?}");
    bytes.sort();
    let idle_bytes = bytes[bytes.len() / 2];
    table.ratio("same, warm, nothing changed: job -> context", median(ours), median(theirs), 0.05);

    let (mut ours, mut theirs, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        repository.commit_raw("main", &[(CHANGED, "100644", &noise(FILE_BYTES))]);
        if round < script_rounds {
            theirs.push(script.run_to_context(&repository).await);
        }
        let (took, sent) = to_context(&rig, &tap, &job()).await;
        ours.push(took);
        bytes.push(sent.saturating_sub(idle_bytes));
    }
    println!("ours {ours:?}");
    bytes.sort();
    table.ratio("same, warm, one file changed: job -> context", median(ours), median(theirs), 0.05);
    let times = bytes[bytes.len() / 2] as f64 / FILE_BYTES as f64;
    table.at_most("same, file data sent to BuildKit", times, 2.0, "x the file");
    table.note("same, names, sizes and times sent each time", format!("{} KB", idle_bytes / 1000));
    table.note("resident memory after these", format!("{:.1} MB", rig.worker.resident_kib() as f64 / 1024.0));
    rig.stop().await;
}

/// How long from RPUSH until BuildKit had the context (by its own clock), and how many bytes went through the session.
async fn to_context(rig: &BenchRig, tap: &Tap, job: &Job) -> (Duration, u64) {
    let (before, began) = (tap.seen(), SystemTime::now());
    rig.build(job).await;
    let after = tap.seen();
    let done = after.context_done.expect("BuildKit told of the context's step");
    let took = done.duration_since(began).expect("the context of this build, not of the one before");
    (took, after.session_bytes - before.session_bytes)
}
