//! A real restart of the Engine in each phase, stopped or killed: the phases run again, and nothing of the first ones is left.

use std::time::Instant;

use super::held::{Held, Phase, SOON};
use crate::support::{OwnEngine, eventually};

async fn stopped_in(phase: Phase) {
    let mut engine = OwnEngine::with_builder().await;
    let held = Held::on(&engine, phase).await;
    let broken = held.in_the_engine().await;
    engine.terminate().await;
    is_built_after_the_restart(engine, held, phase, broken).await;
}

async fn killed_in(phase: Phase) {
    let mut engine = OwnEngine::with_builder().await;
    let held = Held::on(&engine, phase).await;
    let broken = held.in_the_engine().await;
    engine.kill().await;
    is_built_after_the_restart(engine, held, phase, broken).await;
}

/// `broken`: what the try that the Engine's end broke had in it.
async fn is_built_after_the_restart(mut engine: OwnEngine, held: Held, phase: Phase, broken: Vec<String>) {
    engine.start_again().await;
    let back = Instant::now();
    let gone = async {
        eventually("the broken try's containers and volumes are gone", SOON, async || {
            let left: Vec<_> = held.in_the_engine().await.into_iter().filter(|name| broken.contains(name)).collect();
            if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
        })
        .await;
        println!("time to gone: Engine away in {phase:?}, from its return: {} ms", back.elapsed().as_millis());
    };
    tokio::join!(gone, held.let_pass());
    let Held { rig, job, .. } = held;
    let end = rig.built(&job).await;
    println!("{phase:?}: BUILDED {:?} after the Engine was back", end.post.at - back);
    assert!(end.image.contains(&format!(":{}-1@", job.id)), "the same attempt: {}", end.image);
    assert_eq!(rig.registry.holds(&end.image).await, Ok(()));
    let log = rig.dashboard.log(&job.id);
    let why =
        log.lines().find(|line| line.contains("Trying again in")).unwrap_or_else(|| panic!("it says that it tries again: {log}"));
    assert!(why.starts_with("The Docker Engine") && why.contains("[engine."), "it says why: {why}");
    let title = format!("===> {}", format!("{phase:?}").to_uppercase());
    assert_eq!(log.matches(&title).count(), 2, "the phase ran twice: {log}");
    rig.finish().await;
    engine.assert_as_at_first().await;
}

#[tokio::test]
async fn an_engine_stopped_in_analyze_costs_time_and_no_job() {
    stopped_in(Phase::Analyze).await;
}

#[tokio::test]
async fn an_engine_killed_in_detect_costs_time_and_no_job() {
    killed_in(Phase::Detect).await;
}

#[tokio::test]
async fn an_engine_stopped_in_restore_costs_time_and_no_job() {
    stopped_in(Phase::Restore).await;
}

#[tokio::test]
async fn an_engine_stopped_in_build_costs_time_and_no_job() {
    stopped_in(Phase::Build).await;
}

/// As where the Engine keeps containers alive, or was away for longer than a removal is tried.
#[tokio::test]
async fn a_container_that_outlived_the_engines_restart_is_gone_before_the_build_runs_again() {
    let mut engine = OwnEngine::with_builder().await;
    let held = Held::on(&engine, Phase::Build).await;
    let left = held.leave_a_container().await;
    engine.terminate().await;
    engine.start_again().await;
    held.next_container().await;
    let containers = engine.client().containers().await;
    assert!(!containers.iter().any(|container| container.contains(&left)), "{containers:?}");
    held.let_pass().await;
    held.rig.built(&held.job).await;
    held.rig.finish().await;
    engine.assert_as_at_first().await;
}

#[tokio::test]
async fn an_engine_killed_in_build_costs_time_and_no_job() {
    killed_in(Phase::Build).await;
}

#[tokio::test]
async fn an_engine_killed_in_export_costs_time_and_no_job() {
    killed_in(Phase::Export).await;
}

#[tokio::test]
async fn a_power_cut_in_build_costs_an_attempt_and_leaves_nothing() {
    let mut engine = OwnEngine::with_builder().await;
    let mut held = Held::on(&engine, Phase::Build).await;
    held.rig.lose_power(&mut engine).await;
    held.rig.regain_power(&mut engine).await;
    held.let_pass().await;
    let Held { rig, job, .. } = held;
    let end = rig.built(&job).await;
    assert!(end.image.contains(&format!(":{}-2@", job.id)), "the second attempt: {}", end.image);
    assert_eq!(rig.registry.holds(&end.image).await, Ok(()));
    rig.finish().await;
    engine.assert_as_at_first().await;
}
