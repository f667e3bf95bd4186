//! Cancels: from PUBLISH until nothing of the job is left on this host, in each stage. CANCELLED says so; at its arrival that is looked at.

use std::time::{Duration, Instant};

use crate::bench_rig::BenchRig;
use crate::script::Script;
use crate::support::{Engine, Fault, Job, Proxy, Repository, noise, parts, unique};
use crate::table::{Table, median, percentile};

const SOON: Duration = Duration::from_secs(60);
const MUCH: usize = 30 * 1024 * 1024;
/// 800 KB a second, in pieces so small that what the cancel itself says is hardly held up.
const SLOW: Fault = Fault::Trickle { bytes: 4 * 1024, pause: Duration::from_millis(5) };

#[derive(Debug, Clone, Copy)]
enum Stage {
    Clone,
    Context,
    BasePull,
    Run,
    Push,
}

const STAGES: [(Stage, &str); 5] = [
    (Stage::Clone, "clone"),
    (Stage::Context, "context transfer"),
    (Stage::BasePull, "base image pull"),
    (Stage::Run, "RUN"),
    (Stage::Push, "push"),
];

/// A worker behind proxies that can hold a job up in each stage.
struct Holder {
    rig: BenchRig,
    engine: Engine,
    script: Script,
    git: Proxy,
    socket: Proxy,
    registry: Proxy,
}

pub async fn cancels(table: &mut Table, rounds: usize) {
    let sockets = tempfile::Builder::new().prefix("slipway-sockets-").tempdir().unwrap();
    let git = Proxy::tcp(&parts().git).await;
    let registry = Proxy::tcp(&parts().registry).await;
    let socket = Proxy::unix(&parts().engine_socket, sockets.path().join("engine.sock"));
    let login = &parts().registry_login;
    let pull = format!("{}={}:{}", registry.address(), login.username, login.password);
    let rig = BenchRig::start(4, |options| {
        options.set("REGISTRY_HOST", &registry.address()).set("PULL_REGISTRIES", &pull).engine(socket.socket())
    })
    .await;
    let holder = Holder { rig, engine: Engine::new(), script: Script::new(), git, socket, registry };
    let (mut all, mut left) = (Vec::new(), Vec::new());
    for (stage, name) in STAGES {
        let mut took = Vec::new();
        for _ in 0..rounds {
            took.push(holder.cancelled_in(stage, &mut left).await);
        }
        println!("{name}: {took:?}");
        let (middle, p99) = (median(took.clone()), percentile(took.clone(), 99));
        table.note(&format!("cancel in {name}: median, p99"), format!("{} ms, {} ms", middle.as_millis(), p99.as_millis()));
        all.extend(took);
    }
    let p99 = percentile(all, 99).as_secs_f64() * 1e3;
    table.at_most("cancel: PUBLISH -> nothing of the job left, p99 of all", p99, 250.0, "ms");
    for what in &left {
        println!("left: {what}");
    }
    table.at_most("cancel: things of the job that were left then", left.len() as f64, 0.0, "things");
    holder.rig.stop().await;
}

impl Holder {
    async fn cancelled_in(&self, stage: Stage, left: &mut Vec<String>) -> Duration {
        let (marker, base) = (unique(), unique());
        let dockerfile = match stage {
            Stage::Run => format!("FROM busybox:base\nRUN echo started; sleep 600; echo {marker}\n"),
            Stage::Push => format!("FROM busybox:base\nRUN echo {marker}; dd if=/dev/urandom of=/noise bs=1M count=30\n"),
            Stage::BasePull => {
                self.engine.push_cold_base(&base, 4 * 1024 * 1024).await;
                format!("FROM {}/{base}:base\nCOPY Dockerfile /\n", self.registry.address())
            }
            Stage::Clone | Stage::Context => "FROM busybox:base\nCOPY . /app\nRUN echo started\n".to_owned(),
        };
        let repository = Repository::public(&[("Dockerfile", &dockerfile)]);
        if matches!(stage, Stage::Context) {
            repository.commit_raw("main", &[("noise", "100644", &noise(MUCH))]);
        }
        let job = Job::of(&repository).git_at(&self.git.url(), None);
        self.hold(stage, &job).await;
        let published = self.rig.cancel(&job).await;
        let end = self.rig.board.end(&job.id, "CANCELLED").await;
        self.look(&job, left).await;
        for proxy in [&self.git, &self.socket, &self.registry] {
            proxy.set(Fault::Pass);
        }
        end - published
    }

    async fn hold(&self, stage: Stage, job: &Job) {
        let Self { rig, git, socket, registry, .. } = self;
        match stage {
            Stage::Clone => {
                git.set(Fault::Stall);
                let (_, ()) = tokio::join!(rig.push(job), git.wait_for_another_connection(SOON));
            }
            Stage::Context => {
                socket.set(SLOW);
                let (_, ()) = tokio::join!(rig.push(job), socket.wait_for_bytes(MUCH / 10, SOON));
            }
            Stage::BasePull => {
                registry.set(Fault::Trickle { bytes: 4096, pause: Duration::from_millis(40) });
                let (_, ()) = tokio::join!(rig.push(job), registry.wait_for_bytes(200 * 1024, SOON));
            }
            Stage::Run => {
                rig.push(job).await;
                rig.board.wait(&job.id, "the RUN step", |told| told.log.contains("started\n").then_some(())).await;
            }
            Stage::Push => {
                registry.set(SLOW);
                let (_, ()) = tokio::join!(rig.push(job), registry.wait_for_bytes(MUCH / 10, SOON));
            }
        }
    }

    /// What is left of the job, looked at once, without patience.
    async fn look(&self, job: &Job, left: &mut Vec<String>) {
        let began = Instant::now();
        for entry in std::fs::read_dir(self.rig.tmp()).into_iter().flatten().flatten() {
            left.push(format!("file {}", entry.path().display()));
        }
        let filter = format!("label=dev.slipway.deployment={}", job.id);
        for arguments in [["ps", "--all", "--quiet", "--filter"], ["images", "--all", "--quiet", "--filter"]] {
            let output = self.script.docker().args(arguments).arg(&filter).stdout(std::process::Stdio::piped()).output().await;
            let output = output.unwrap();
            assert!(output.status.success());
            let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if !found.is_empty() {
                left.push(format!("{} {found} of {} after {:?}", arguments[0], job.id, began.elapsed()));
            }
        }
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if command.starts_with(b"sleep\x00600\x00") || command.windows(10).any(|w| w == b"sleep 600;") {
                left.push(format!("process {}", String::from_utf8_lossy(&command).replace('\0', " ")));
            }
        }
    }
}
