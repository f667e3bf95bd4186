//! What stays and what goes when a worker cleans up behind itself.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptions, RemoveContainerOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder,
};
use slipway::housekeeping::sweep::{SweepReport, sweep};
use slipway::housekeeping::{build_cache, disk};
use slipway::image::{BuiltImage, ProcessMark, labels};
use slipway::protocol::DeploymentId;
use tokio_util::sync::CancellationToken;

use crate::rig::{self, Attempt, all_names, images_of_worker, is_in_engine, unique};

/// A sweep also finds what a dead process left under any other id: while a test has such things in the Engine no other one sweeps.
static SWEEPS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn swept(worker: &str, tmp: PathBuf, live: &HashSet<(DeploymentId, u32)>) -> SweepReport {
    let _alone = SWEEPS.lock().await;
    sweep_now(worker, tmp, live).await
}
async fn sweep_now(worker: &str, tmp: PathBuf, live: &HashSet<(DeploymentId, u32)>) -> SweepReport {
    let engine = rig::engine().await;
    sweep(&engine, worker, tmp, &|deployment, attempt| live.contains(&(deployment.clone(), attempt))).await
}
async fn name(image: &BuiltImage, repository: &str, tag: &str) -> String {
    let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
    rig::engine().await.tag_image(&image.id, Some(options)).await.unwrap();
    format!("{repository}:{tag}")
}
async fn remove(name: &str) {
    rig::engine().await.remove_image(name, None::<RemoveImageOptions>, None).await.unwrap();
}
async fn container(image: &str, labels: HashMap<String, String>) -> String {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(vec!["/nothing".into()]),
        labels: Some(labels),
        ..Default::default()
    };
    rig::engine().await.create_container(None::<CreateContainerOptions>, body).await.unwrap().id
}
async fn has_container(id: &str) -> bool {
    rig::engine().await.inspect_container(id, None::<bollard::query_parameters::InspectContainerOptions>).await.is_ok()
}
async fn remove_container(id: &str) {
    let options = RemoveContainerOptionsBuilder::default().force(true).build();
    rig::engine().await.remove_container(id, Some(options)).await.unwrap();
}
fn labels_of(attempt: &Attempt, worker: &str) -> HashMap<String, String> {
    HashMap::from([
        (labels::WORKER.to_owned(), worker.to_owned()),
        (labels::DEPLOYMENT.to_owned(), attempt.ctx.deployment.to_string()),
        (labels::ATTEMPT.to_owned(), attempt.ctx.attempt.to_string()),
    ])
}

#[tokio::test]
async fn a_sweep_removes_the_images_of_its_own_dead_attempts_and_nobody_elses() {
    let (worker, neighbour) = (unique("worker"), unique("worker"));
    let (dead, named, live, others, kept) = (Attempt::new(), Attempt::new(), Attempt::new(), Attempt::new(), Attempt::new());
    let untagged = dead.image_of_worker(&worker, 1000).await;
    let pushed = named.image_of_worker(&worker, 1000).await;
    name(&pushed, "127.0.0.1:1/octo/svc", &named.tag()).await;
    name(&pushed, "slipway-held", pushed.id.strip_prefix("sha256:").unwrap()).await;
    let building = live.image_of_worker(&worker, 1000).await;
    let building_name = name(&building, "127.0.0.1:1/octo/svc", &live.tag()).await;
    let neighbours = others.image_of_worker(&neighbour, 1000).await;
    let neighbours_name = name(&neighbours, "127.0.0.1:1/octo/svc", &others.tag()).await;
    let persons = kept.image_of_worker(&worker, 1000).await;
    name(&persons, "127.0.0.1:1/octo/svc", &kept.tag()).await;
    let persons_name = name(&persons, "for-a-look", &unique("t")).await;

    let is_live = HashSet::from([(live.ctx.deployment.clone(), 1)]);
    let report = swept(&worker, PathBuf::from("/nonexistent"), &is_live).await;

    assert_eq!(report, SweepReport { images: 2, names: 1, ..Default::default() });
    assert!(!is_in_engine(&untagged).await && !is_in_engine(&pushed).await);
    let names = all_names().await;
    for stays in [&building_name, &neighbours_name, &persons_name] {
        assert!(names.contains(stays), "{stays}");
    }
    assert_eq!(kept.names_left().await, Vec::<String>::new());
    assert!(swept(&worker, PathBuf::from("/nonexistent"), &is_live).await.found_nothing(), "a second sweep finds nothing");
    for name in [building_name, neighbours_name, persons_name] {
        remove(&name).await;
    }
    assert_eq!(images_of_worker(&worker).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_sweep_removes_a_dead_attempts_container_and_not_one_that_somebody_runs_from_a_built_image() {
    let worker = unique("worker");
    let (dead, live) = (Attempt::new(), Attempt::new());
    // A base image that was not built by Slipway: its labels say nothing.
    let base = Attempt::new().image_of_worker("", 1000).await;
    let phase = container(&base.id, labels_of(&dead, &worker)).await;
    let running = container(&base.id, labels_of(&live, &worker)).await;
    let neighbours = container(&base.id, labels_of(&dead, "somebody-else")).await;
    let built = dead.image_of_worker(&worker, 1000).await;
    let deployed_name = name(&built, "127.0.0.1:1/octo/svc", "deployed").await;
    let deployed = container(&deployed_name, HashMap::new()).await;

    let report = swept(&worker, PathBuf::from("/nonexistent"), &HashSet::from([(live.ctx.deployment.clone(), 1)])).await;

    assert_eq!(report, SweepReport { containers: 1, ..Default::default() });
    assert!(!has_container(&phase).await);
    for id in [&running, &neighbours, &deployed] {
        assert!(has_container(id).await);
        remove_container(id).await;
    }
    remove(&deployed_name).await;
    remove(&base.id).await;
}

#[tokio::test]
async fn a_sweep_removes_a_dead_attempts_files_and_follows_no_link() {
    let dir = tempfile::tempdir().unwrap();
    let (tmp, outside) = (dir.path().join("tmp"), dir.path().join("outside"));
    std::fs::create_dir_all(tmp.join("dead-1.tree/deep")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("precious"), "x").unwrap();
    for file in ["dead-1", "dead-1.env", "live-2.env", "README"] {
        std::fs::write(tmp.join(file), "x").unwrap();
    }
    std::os::unix::fs::symlink(&outside, tmp.join("dead-1.link")).unwrap();

    let report = swept(&unique("worker"), tmp.clone(), &HashSet::from([(DeploymentId::parse("live").unwrap(), 2)])).await;

    assert_eq!(report, SweepReport { files: 4, ..Default::default() });
    let mut left: Vec<_> = std::fs::read_dir(&tmp).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["README", "live-2.env"]);
    assert!(outside.join("precious").exists());
}

#[tokio::test]
async fn free_space_is_known_of_the_engines_data_too() {
    let dir = tempfile::tempdir().unwrap();
    let root = disk::engine_root(&rig::engine().await).await.expect("the test's Engine is on this host");
    let spaces = disk::measure_all(Some(dir.path().to_owned()), Some(root)).await.unwrap();
    assert_eq!(spaces.len(), 2);
    disk::enough(&spaces, 1).unwrap();
    assert!(disk::enough(&spaces, u64::MAX).unwrap_err().cause.contains("MIN_FREE_DISK"));
}

#[tokio::test]
async fn the_build_cache_is_left_alone_below_its_limit_and_brought_down_to_it_above() {
    let files = crate::rig::serve_build_context().await;
    for _ in 0..4 {
        files.build_with_buildkit(3_000_000).await;
    }
    let before = rig::build_cache_size().await;
    assert!(before.all >= 12_000_000, "four builds of 3 MB leave {before:?} of cache");
    let engine = rig::engine().await;
    let cancel = CancellationToken::new();

    let roomy = build_cache::BuildCache::new(engine.clone(), 1 << 40);
    assert_eq!(roomy.keep_below_max(&cancel).await, build_cache::Pruned::Freed(0));
    assert_eq!(rig::build_cache_size().await.all, before.all);
    assert_eq!(roomy.keep_below_max(&cancel).await, build_cache::Pruned::TooSoon);

    // What is in use counts, and stays: another test's build may have left some that BuildKit has not let go of yet.
    let max = before.in_use + 7_000_000;
    let tight = build_cache::BuildCache::new(engine, max);
    let build_cache::Pruned::Freed(freed) = tight.keep_below_max(&cancel).await else { panic!("pruned") };
    let after = rig::build_cache_size().await;
    assert_eq!(before.all - after.all, freed);
    assert!((3_000_000..=max).contains(&after.all), "{after:?} is kept of at most {max} bytes, and not none");
}

#[tokio::test]
async fn a_cancelled_prune_is_not_begun() {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let cache = build_cache::BuildCache::new(rig::engine().await, 1);
    assert_eq!(cache.keep_below_max(&cancel).await, build_cache::Pruned::Stopped);
}

/// A process of the test's own, as a worker on this host is one.
fn process() -> (std::process::Child, String) {
    let child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let mark = ProcessMark::of(child.id()).expect("/proc and /etc/machine-id").to_string();
    (child, mark)
}

#[tokio::test]
async fn what_a_dead_process_left_under_an_id_that_is_lost_goes_and_what_a_living_one_made_stays() {
    let _alone = SWEEPS.lock().await;
    let (mut ended, dead) = process();
    ended.kill().unwrap();
    ended.wait().unwrap();
    let (mut runs, alive) = process();
    // Of the same number of letters in each part, but another machine's.
    let elsewhere = dead.replacen(|c: char| c.is_ascii_hexdigit(), "g", 12);
    let base = Attempt::new().image_of_worker("", 1000).await;
    let (mut containers, mut images) = (Vec::new(), Vec::new());
    for mark in [&dead, &alive, &elsewhere, &String::new()] {
        let attempt = Attempt::new();
        let worker = unique("lost");
        let mut labels = labels_of(&attempt, &worker);
        labels.insert(labels::PROCESS.to_owned(), mark.clone());
        containers.push(container(&base.id, labels).await);
        let image = attempt.image_made_by(&worker, mark, 1000).await;
        let held = name(&image, "slipway-held", image.id.strip_prefix("sha256:").unwrap()).await;
        images.push((image, held));
    }

    let report = sweep_now(&unique("worker"), PathBuf::from("/nonexistent"), &HashSet::new()).await;

    runs.kill().unwrap();
    runs.wait().unwrap();
    assert!(report.containers >= 1 && report.images >= 1, "{report:?}");
    assert!(!has_container(&containers[0]).await && !is_in_engine(&images[0].0).await, "the dead process's are gone");
    for (id, (image, held)) in containers.iter().zip(&images).skip(1) {
        assert!(has_container(id).await && is_in_engine(image).await, "a living process's, or one that nobody can judge");
        remove_container(id).await;
        remove(held).await;
    }
    remove(&base.id).await;
}
