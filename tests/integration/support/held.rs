//! A job that is held in one stage, for as long as a test needs to do something to it there.

use std::time::Duration;

use tempfile::TempDir;

use super::leftovers::{left_in_engine, processes_with};
use super::{Fault, Job, Proxy, Repository, Rig, Trouble, WorkerOptions, noise, parts, unique};

const SOON: Duration = Duration::from_secs(30);
/// 800 KB a second: slow enough for 30 MB to take half a minute, fast enough for everything small.
const SLOW: Fault = Fault::Trickle { bytes: 16 * 1024, pause: Duration::from_millis(20) };
const MUCH: usize = 30 * 1024 * 1024;

/// Where a job can be held.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stage {
    /// The git server has stopped answering.
    Fetch,
    /// A large context goes to BuildKit slowly.
    Context,
    /// The base image's registry sends slowly.
    BasePull,
    /// A RUN step that does not end.
    Run,
    /// The registry takes the layers slowly.
    Push,
    /// The image is pushed, the end is stored in Redis, and the dashboard takes nothing.
    Report,
}

/// A rig with a job that has arrived in a stage and stays there.
pub struct Held {
    pub rig: Rig,
    pub job: Job,
    repository: Repository,
    git: Proxy,
    engine: Proxy,
    registry: Proxy,
    /// Stands in the command line of the step that it is held in.
    step: String,
    _sockets: TempDir,
}

impl Held {
    pub async fn in_stage(stage: Stage, change: impl FnOnce(WorkerOptions) -> WorkerOptions) -> Self {
        let sockets = tempfile::Builder::new().prefix("slipway-sockets-").tempdir().expect("a temporary directory");
        let git = Proxy::tcp(&parts().git).await;
        let registry = Proxy::tcp(&parts().registry).await;
        let engine = Proxy::unix(&parts().engine_socket, sockets.path().join("engine.sock"));
        let login = &parts().registry_login;
        let pull = format!("{}={}:{}", registry.address(), login.username, login.password);
        let rig = Rig::with(|options| {
            let options = options.set("REGISTRY_HOST", &registry.address()).set("PULL_REGISTRIES", &pull);
            change(options.engine(engine.socket()))
        })
        .await;
        let step = unique();
        let dockerfile = match stage {
            // Not as one word: the step's title comes before the step.
            Stage::Run => format!("FROM busybox:base\nRUN : {step}; echo start''ed; sleep 600; echo over\n"),
            Stage::Push => {
                format!("FROM busybox:base\nRUN echo {} | sed q; dd if=/dev/urandom of=/noise bs=1M count=30\n", unique())
            }
            Stage::BasePull => {
                let base = unique();
                rig.engine.push_cold_base(&base, 4 * 1024 * 1024).await;
                format!("FROM {}/{base}:base\nCOPY Dockerfile /\n", registry.address())
            }
            Stage::Fetch | Stage::Context | Stage::Report => "FROM busybox:base\nCOPY . /app\nRUN echo started\n".to_owned(),
        };
        let repository = Repository::public(&[("Dockerfile", &dockerfile)]);
        if stage == Stage::Context {
            repository.commit_raw("main", &[("noise", "100644", &noise(MUCH))]);
        }
        let job = Job::of(&repository).git_at(&git.url(), None);
        let mut held = Self { rig, job, repository, git, engine, registry, step, _sockets: sockets };
        held.arrive(stage).await;
        held
    }

    async fn arrive(&mut self, stage: Stage) {
        let Self { rig, job, git, engine, registry, .. } = self;
        match stage {
            Stage::Fetch => {
                git.set(Fault::Stall);
                rig.push(job).await;
                git.wait_for_connection(SOON).await;
            }
            Stage::Context => {
                engine.set(SLOW);
                rig.push(job).await;
                engine.wait_for_bytes(MUCH / 10, SOON).await;
            }
            Stage::BasePull => {
                registry.set(Fault::Trickle { bytes: 4096, pause: Duration::from_millis(40) });
                rig.push(job).await;
                registry.wait_for_bytes(200 * 1024, SOON).await;
            }
            Stage::Run => {
                rig.push(job).await;
                rig.dashboard.wait_for_line(&job.id, "started", SOON).await;
            }
            Stage::Push => {
                registry.set(SLOW);
                rig.push(job).await;
                registry.wait_for_bytes(MUCH / 10, SOON).await;
            }
            Stage::Report => {
                rig.push(job).await;
                rig.dashboard.wait_for_status(&job.id, &["BUILDING"], SOON).await;
                rig.dashboard.set(Trouble::Answer(503));
                rig.wait_for_record(job, "BUILDED", SOON).await;
            }
        }
    }

    /// The Engine takes connections and answers nothing, nor does it hear that somebody goes.
    pub fn hang_engine(&self) {
        self.engine.set(Fault::Stall);
    }

    /// What the Engine has of the job, the step that runs included.
    pub async fn left_in_engine(&self) -> Vec<String> {
        let mut left = left_in_engine(&self.rig.engine, std::slice::from_ref(&self.job.id)).await;
        left.extend(processes_with(&self.step).into_iter().map(|(pid, what)| format!("process {pid} {what}")));
        left
    }

    /// Lets everything pass again; the branch gets a Dockerfile that ends.
    pub fn release(&self) {
        self.git.set(Fault::Pass);
        self.engine.set(Fault::Pass);
        self.registry.set(Fault::Pass);
        self.rig.dashboard.set(Trouble::None);
        self.repository.commit(&[("Dockerfile", "FROM busybox:base\nRUN echo released\n")]);
    }
}
