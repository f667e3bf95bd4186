//! A cancel, a deadline, a killed worker, a lost Engine: in each phase nothing is left, and the job's end is the right one.

use std::time::{Duration, Instant};

use super::app;
use crate::support::{Fault, Job, Proxy, Repository, Rig, WorkerOptions, eventually, parts};

const SOON: Duration = Duration::from_secs(60);
/// The invariant's second, with room for a busy machine; the benches measure what it really takes.
const GONE_WITHIN: Duration = Duration::from_secs(3);
/// What the lifecycle reads first in a cache.
const CACHE_METADATA: &str = "/cache/committed/io.buildpacks.lifecycle.cache.metadata";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Analyze,
    Detect,
    Restore,
    Build,
    Export,
}

impl Phase {
    fn program(self) -> &'static str {
        match self {
            Phase::Analyze => "/cnb/lifecycle/analyzer",
            Phase::Detect => "/cnb/lifecycle/detector",
            Phase::Restore => "/cnb/lifecycle/restorer",
            Phase::Build => "/cnb/lifecycle/builder",
            Phase::Export => "/cnb/lifecycle/exporter",
        }
    }
}

/// A job that has arrived in a phase and stays there.
struct Held {
    rig: Rig,
    job: Job,
    phase: Phase,
    repository: Repository,
    registry: Proxy,
    engine: Proxy,
    _sockets: tempfile::TempDir,
}

impl Held {
    async fn in_phase(phase: Phase, change: impl FnOnce(WorkerOptions) -> WorkerOptions) -> Self {
        let sockets = tempfile::Builder::new().prefix("slipway-sockets-").tempdir().expect("a temporary directory");
        let registry = Proxy::tcp(&parts().registry).await;
        let engine = Proxy::unix(&parts().engine_socket, sockets.path().join("engine.sock"));
        let builder = parts().builders.split('=').next().expect("a builder");
        let builders = format!("{builder}={}/slipway-test/run:1", registry.address());
        let rig = Rig::with(|options| {
            let options = options.set("REGISTRY_HOST", &registry.address()).set("BUILDPACKS_BUILDERS", &builders);
            change(options.engine(engine.socket()))
        })
        .await;
        let repository = app("true\n");
        let job = Job::of(&repository);
        let mut held = Self { rig, job, phase, repository, registry, engine, _sockets: sockets };
        held.arrive().await;
        held
    }

    async fn arrive(&mut self) {
        match self.phase {
            Phase::Analyze => self.registry.set(Fault::Stall),
            Phase::Detect => drop(self.repository.commit(&[("detect.sh", "sleep 600\n")])),
            Phase::Build => drop(self.repository.commit(&[("build.sh", "echo started; sleep 600\n")])),
            Phase::Export => drop(self.repository.commit(&[("build.sh", "echo nearly built; sleep 2\n")])),
            Phase::Restore => {
                let before = Job::of(&self.repository).service(&self.job.service);
                self.rig.push(&before).await;
                self.rig.built(&before).await;
                self.in_cache(&format!("rm {CACHE_METADATA} && mkfifo -m 666 {CACHE_METADATA}")).await;
            }
        }
        self.rig.push(&self.job).await;
        if self.phase == Phase::Export {
            self.rig.dashboard.wait_for_line(&self.job.id, "nearly built", SOON).await;
            self.registry.set(Fault::Stall);
        }
        eventually("the phase runs", SOON, async || {
            let format = "{{.Names}} {{.Command}}";
            let running = self.rig.engine.docker(&["ps", "--no-trunc", "--format", format]).await;
            let there = running.lines().any(|line| line.contains(&self.job.id) && line.contains(self.phase.program()));
            if there { Ok(()) } else { Err(format!("{running}{}", self.rig.dashboard.log(&self.job.id))) }
        })
        .await;
    }

    /// Runs a command on the service's cache volume.
    async fn in_cache(&self, command: &str) {
        let label = format!("label=dev.slipway.service={}", self.job.service);
        let listed = self.rig.engine.docker(&["volume", "ls", "--quiet", "--filter", &label]).await;
        let volume = listed.lines().find(|name| name.starts_with("slipway-cache-")).expect("the service's cache");
        let mount = format!("{volume}:/cache");
        self.rig.engine.docker(&["run", "--rm", "--volume", &mount, "busybox:base", "sh", "-c", command]).await;
    }

    /// Nothing hangs any more.
    async fn release(&self) {
        self.registry.set(Fault::Pass);
        self.repository.commit(&[("detect.sh", "true\n"), ("build.sh", "echo released\n")]);
        if self.phase == Phase::Restore {
            self.in_cache(&format!("rm {CACHE_METADATA}")).await;
        }
    }
}

async fn cancelled_in(phase: Phase) {
    let held = Held::in_phase(phase, |options| options).await;
    let began = Instant::now();
    held.rig.cancel(&held.job).await;
    let end = held.rig.cancelled(&held.job).await;
    let took = end.post.at - began;
    println!("{phase:?}: CANCELLED after {took:?}");
    assert!(took < GONE_WITHIN, "{phase:?}: CANCELLED after {took:?}");
    held.rig.finish().await;
}

async fn killed_in(phase: Phase) {
    let mut held = Held::in_phase(phase, |options| options).await;
    held.rig.kill_worker().await;
    held.release().await;
    held.rig.start_worker();
    held.rig.built(&held.job).await;
    held.rig.finish().await;
}

#[tokio::test]
async fn a_job_is_cancelled_in_analyze() {
    cancelled_in(Phase::Analyze).await;
}

#[tokio::test]
async fn a_job_is_cancelled_in_detect() {
    cancelled_in(Phase::Detect).await;
}

#[tokio::test]
async fn a_job_is_cancelled_in_restore() {
    cancelled_in(Phase::Restore).await;
}

#[tokio::test]
async fn a_job_is_cancelled_in_build() {
    cancelled_in(Phase::Build).await;
}

#[tokio::test]
async fn a_job_is_cancelled_in_export() {
    cancelled_in(Phase::Export).await;
}

#[tokio::test]
async fn a_job_whose_worker_was_killed_in_analyze_is_built_after_the_restart() {
    killed_in(Phase::Analyze).await;
}

#[tokio::test]
async fn a_job_whose_worker_was_killed_in_detect_is_built_after_the_restart() {
    killed_in(Phase::Detect).await;
}

#[tokio::test]
async fn a_job_whose_worker_was_killed_in_restore_is_built_after_the_restart() {
    killed_in(Phase::Restore).await;
}

#[tokio::test]
async fn a_job_whose_worker_was_killed_in_build_is_built_after_the_restart() {
    killed_in(Phase::Build).await;
}

#[tokio::test]
async fn a_job_whose_worker_was_killed_in_export_is_built_after_the_restart() {
    killed_in(Phase::Export).await;
}

#[tokio::test]
async fn an_engine_that_goes_away_in_a_build_is_waited_for_and_the_phases_run_again() {
    let held = Held::in_phase(Phase::Build, |options| options).await;
    held.rig.dashboard.wait_for_line(&held.job.id, "started", SOON).await;
    held.engine.set(Fault::Cut);
    held.rig.wait_for_log("a container could not be removed yet", SOON).await;
    held.engine.set(Fault::Pass);
    eventually("the build runs again", SOON, async || {
        let log = held.rig.dashboard.log(&held.job.id);
        if log.matches("started").count() == 2 { Ok(()) } else { Err(log) }
    })
    .await;
    assert!(held.rig.dashboard.log(&held.job.id).contains("[engine.lost]"));
    held.rig.cancel(&held.job).await;
    held.rig.cancelled(&held.job).await;
    held.rig.finish().await;
}

#[tokio::test]
async fn a_build_that_says_nothing_for_too_long_is_ended_and_its_step_named() {
    let held = Held::in_phase(Phase::Build, |options| options.set("BUILD_SILENCE_TIMEOUT", "6")).await;
    let error = held.rig.failed(&held.job, "build.silent").await;
    assert!(error.contains("building with buildpacks"), "{error}");
    held.rig.finish().await;
}

#[tokio::test]
async fn a_job_that_takes_longer_than_its_time_is_ended_and_its_step_named() {
    let held = Held::in_phase(Phase::Detect, |options| options.set("BUILD_TIMEOUT", "12")).await;
    let error = held.rig.failed(&held.job, "build.timeout").await;
    assert!(error.contains("building with buildpacks"), "{error}");
    held.rig.finish().await;
}
