//! A job that is held in one of the lifecycle's phases, for as long as a test needs to do something to it there.

use std::time::{Duration, Instant};

use serde_json::json;

use super::app;
use crate::support::{Engine, Fault, Job, OwnEngine, Proxy, Repository, Rig, WorkerOptions, eventually, parts};

pub(super) const SOON: Duration = Duration::from_secs(60);
/// What the lifecycle reads first in a cache.
pub(super) const CACHE_METADATA: &str = "/cache/committed/io.buildpacks.lifecycle.cache.metadata";

/// A script of the app waits for this file.
const GO: &str = "/tmp/go";
const HANG: &str = "until [ -e /tmp/go ]; do sleep 1; done\n";

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Phase {
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
pub(super) struct Held {
    pub(super) rig: Rig,
    pub(super) job: Job,
    phase: Phase,
    /// What it is held in.
    container: String,
    repository: Repository,
    registry: Proxy,
    /// Before the shared Engine.
    pub(super) engine: Proxy,
    _sockets: tempfile::TempDir,
}

impl Held {
    pub(super) async fn in_phase(phase: Phase, change: impl FnOnce(WorkerOptions) -> WorkerOptions) -> Self {
        Self::held(phase, Engine::new(), change, |job| job).await
    }

    /// With so many seconds from claim to end, for the held job alone.
    pub(super) async fn with_time(phase: Phase, seconds: u64) -> Self {
        Self::held(phase, Engine::new(), |options| options, |job| job.set("buildTimeout", json!(seconds))).await
    }

    /// On an Engine of the test's own.
    pub(super) async fn on(own: &OwnEngine, phase: Phase) -> Self {
        Self::held(phase, own.client(), |options| options.engine(own.socket()), |job| job).await
    }

    /// With images of the test's own.
    pub(super) async fn by(phase: Phase, builder: &str, lifecycle: &str) -> Self {
        let change = |options: WorkerOptions| {
            let run_image = options.value("BUILDPACKS_BUILDERS").split_once('=').expect("builder=run-image").1.to_owned();
            options.set("BUILDPACKS_BUILDERS", &format!("{builder}={run_image}")).set("BUILDPACKS_LIFECYCLE_IMAGE", lifecycle)
        };
        Self::held(phase, Engine::new(), change, |job| job).await
    }

    async fn held(
        phase: Phase,
        looks: Engine,
        change: impl FnOnce(WorkerOptions) -> WorkerOptions,
        change_job: impl FnOnce(Job) -> Job,
    ) -> Self {
        let sockets = tempfile::Builder::new().prefix("slipway-sockets-").tempdir().expect("a temporary directory");
        let registry = Proxy::tcp(&parts().registry).await;
        let engine = Proxy::unix(&parts().engine_socket, sockets.path().join("engine.sock"));
        let builder = parts().builders.split('=').next().expect("a builder");
        let builders = format!("{builder}={}/slipway-test/run:1", registry.address());
        let mut rig = Rig::with(|options| {
            let options = options.set("REGISTRY_HOST", &registry.address()).set("BUILDPACKS_BUILDERS", &builders);
            change(options.engine(engine.socket()))
        })
        .await;
        rig.engine = looks;
        let repository = app("true\n");
        let job = change_job(Job::of(&repository));
        let mut held = Self { rig, job, phase, container: String::new(), repository, registry, engine, _sockets: sockets };
        held.arrive().await;
        held
    }

    async fn arrive(&mut self) {
        match self.phase {
            Phase::Analyze => self.registry.set(Fault::Stall),
            Phase::Detect => drop(self.repository.commit(&[("detect.sh", HANG)])),
            Phase::Build => drop(self.repository.commit(&[("build.sh", &format!("echo started; {HANG}"))])),
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
        self.container = self.next_container().await;
    }

    /// Waits for a container of the phase, another one than before.
    pub(super) async fn next_container(&self) -> String {
        eventually("the phase runs", SOON, async || {
            let format = "{{.Names}} {{.Command}}";
            let running = self.rig.engine.docker(&["ps", "--no-trunc", "--format", format]).await;
            let names = running.lines().filter(|line| line.contains(&self.job.id) && line.contains(self.phase.program()));
            match names.filter_map(|line| line.split(' ').next()).find(|name| *name != self.container) {
                Some(name) => Ok(name.to_owned()),
                None => Err(format!("{running}{}", self.rig.dashboard.log(&self.job.id))),
            }
        })
        .await
    }

    async fn in_cache(&self, command: &str) {
        in_cache(&self.rig.engine, &self.job.service, command).await;
    }

    /// The names of the job's containers and volumes, on an Engine that has no other job's: volumes without a name are its own too.
    pub(super) async fn in_the_engine(&self) -> Vec<String> {
        let containers = self.rig.engine.docker(&["ps", "--all", "--format", "{{.Names}}"]).await;
        let volumes = self.rig.engine.docker(&["volume", "ls", "--quiet"]).await;
        let is_of_job = |name: &&str| name.contains(&self.job.id) || name.len() == 64;
        containers.lines().chain(volumes.lines()).filter(is_of_job).map(str::to_owned).collect()
    }

    /// Signals the phase's first process.
    pub(super) async fn signal(&self, name: &str) {
        self.rig.engine.docker(&["kill", "--signal", name, &self.container]).await;
    }

    /// What the phase's container may use: cores in billionths, bytes of memory without and with swap, processes.
    pub(super) async fn limits(&self) -> String {
        let limits = ["NanoCpus", "Memory", "MemorySwap", "PidsLimit"].map(|name| format!("{{{{.HostConfig.{name}}}}}"));
        self.rig.engine.docker(&["inspect", "--format", &limits.join(" "), &self.container]).await.trim().to_owned()
    }

    /// Leaves a container of this attempt behind that runs again when the Engine does. Returns its name.
    pub(super) async fn leave_a_container(&self) -> String {
        let format = "{{range $key, $value := .Config.Labels}}{{println $key}}{{println $value}}{{end}}";
        let inspected = self.rig.engine.docker(&["inspect", "--format", format, &self.container]).await;
        let lines: Vec<_> = inspected.lines().collect();
        let of_slipway = lines.chunks_exact(2).filter(|label| label[0].starts_with("dev.slipway."));
        let labels: Vec<_> = of_slipway.map(|label| format!("--label={}={}", label[0], label[1])).collect();
        let name = format!("slipway-{}-1-left", self.job.id);
        let mut words = vec!["run", "--detach", "--restart=always", "--name", &name];
        words.extend(labels.iter().map(String::as_str));
        words.extend(["busybox:base", "sh", "-c", "trap exit TERM; sleep 600 & wait"]);
        self.rig.engine.docker(&words).await;
        name
    }

    /// Lets the phase pass that is run again in the same attempt, on the same tree.
    pub(super) async fn let_pass(&self) {
        self.registry.set(Fault::Pass);
        match self.phase {
            Phase::Analyze | Phase::Export => {}
            Phase::Detect | Phase::Build => {
                let container = self.next_container().await;
                self.rig.engine.docker(&["exec", &container, "touch", GO]).await;
            }
            // Who opens it for writing too lets those go on that wait in it.
            Phase::Restore => {
                self.in_cache(&format!("mv {CACHE_METADATA} /cache/gone && : <>/cache/gone && rm /cache/gone")).await
            }
        }
    }

    /// Waits until the container that it was held in is gone, and returns when that was.
    pub(super) async fn gone_since(&self, began: Instant) -> Duration {
        eventually("the phase's container is gone", SOON, async || {
            let containers = self.rig.engine.containers().await;
            if containers.iter().any(|container| container.contains(&self.container)) {
                Err(containers.join("\n"))
            } else {
                Ok(())
            }
        })
        .await;
        began.elapsed()
    }

    /// Lets the held phase itself go on.
    pub(super) async fn go_on(&self) {
        self.rig.engine.docker(&["exec", &self.container, "touch", GO]).await;
    }

    /// Nothing hangs any more, for who fetches the branch again.
    pub(super) async fn release(&self) {
        self.registry.set(Fault::Pass);
        self.repository.commit(&[("detect.sh", "true\n"), ("build.sh", "echo released\n")]);
        if self.phase == Phase::Restore {
            self.in_cache(&format!("rm {CACHE_METADATA}")).await;
        }
    }
}

/// Runs a command on the service's cache volume.
pub(super) async fn in_cache(engine: &Engine, service: &str, command: &str) {
    let label = format!("label=dev.slipway.service={service}");
    let listed = engine.docker(&["volume", "ls", "--quiet", "--filter", &label]).await;
    let volume = listed.lines().find(|name| name.starts_with("slipway-cache-")).expect("the service's cache");
    let mount = format!("{volume}:/cache");
    engine.docker(&["run", "--rm", "--volume", &mount, "busybox:base", "sh", "-c", command]).await;
}
