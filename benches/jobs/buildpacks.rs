//! Apps without a Dockerfile: the worker beside the same containers run by hand in a script (`phases.sh`), in turns.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::bench_rig::BenchRig;
use crate::memory::resident;
use crate::script::Script;
use crate::support::{Job, Repository, parts, unique};
use crate::table::{Table, median};

/// The layer of dependencies that the second build finds in the cache.
const CACHED_MB: u32 = 200;
const MEMORY_MB: f64 = 40.0;

fn app() -> Repository {
    Repository::public(&[("Procfile", "web: echo ahoy\n")])
}

pub async fn all(table: &mut Table, rounds: usize) {
    let network = "slipway-buildpacks";
    let rig = BenchRig::start(2, |options| options).await;
    beside_the_script(table, &rig, "five", network, rounds, 1.15).await;
    cached_layer(table, &rig, rounds.min(3)).await;
    let five = resident(&rig.worker, "VmHWM");
    rig.stop().await;
    let rig = BenchRig::start(2, |options| options.set("BUILDPACKS_TRUSTED", "true")).await;
    beside_the_script(table, &rig, "creator", network, rounds, 1.1).await;
    let creator = resident(&rig.worker, "VmHWM");
    rig.stop().await;
    table.at_most("buildpacks: the worker's memory in any of these (peak)", five.max(creator), MEMORY_MB, "MB");
}

/// A tiny app, warm, nothing changed.
async fn beside_the_script(table: &mut Table, rig: &BenchRig, mode: &str, network: &str, rounds: usize, goal: f64) {
    let repository = app();
    let (service, image, cache) = (unique(), unique(), format!("by-hand-{}", unique()));
    let by_hand = async || {
        let (image, script) = (format!("{}/{image}:latest", parts().registry), Script::new());
        let (builder, run_image) = parts().builders.split_once('=').unwrap();
        let docker = script.docker();
        let client: Vec<String> = std::iter::once(docker.as_std().get_program())
            .chain(docker.as_std().get_args())
            .map(|word| word.to_str().unwrap().to_owned())
            .collect();
        let mut command = tokio::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/jobs/phases.sh"));
        command.args([mode, &format!("{}/{}.git", parts().git, repository.name), &image, &cache]);
        command.env("DOCKER", client.join(" ")).env("BUILDER", builder).env("RUN_IMAGE", run_image).env("NETWORK", network);
        command.env("LIFECYCLE", &parts().lifecycle_image).env("LOGIN", script.login_file());
        let began = Instant::now();
        let done = command.stdin(Stdio::null()).output().await.unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{said}");
        began.elapsed()
    };
    rig.build(&Job::of(&repository).service(&service)).await;
    by_hand().await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        theirs.push(by_hand().await);
        ours.push(rig.build(&Job::of(&repository).service(&service)).await);
    }
    println!("ours {ours:?}\nby hand {theirs:?}");
    let what = if mode == "five" { "five phases" } else { "one trusted creator" };
    table.ratio(&format!("buildpacks: tiny app, warm, {what}"), median(ours), median(theirs), goal);
    let removed = Script::new().docker().args(["volume", "rm", &cache]).status().await.unwrap();
    assert!(removed.success());
}

/// An app whose dependencies are one large layer: the second build takes them from the cache and pushes nothing.
async fn cached_layer(table: &mut Table, rig: &BenchRig, rounds: usize) {
    let (mut first, mut second): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let repository = app();
        let service = unique();
        let job = || Job::of(&repository).service(&service).env("BP_SHELL_DEPS_MB", &CACHED_MB.to_string());
        first.push(rig.build(&job()).await);
        second.push(rig.build(&job()).await);
    }
    println!("first {first:?}\nsecond {second:?}");
    let (first, second) = (median(first), median(second));
    let ratio = second.as_secs_f64() / first.as_secs_f64();
    table.note("buildpacks: 200 MB cached layer, second and first build", format!("{second:.1?} : {first:.1?}"));
    table.at_most("buildpacks: second build with a 200 MB cached layer", ratio, 0.5, "x first");
}
