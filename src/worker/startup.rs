//! From a configuration to a running worker: identity, every part reached (named while it is not), leftovers swept, then the supervisor.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::control::ControlThread;
use super::disk_watch::DiskWatch;
use super::health::HostHealth;
use super::journals;
use super::pipeline::Stages;
use super::shared::Shared;
use super::signals::{Hangups, Signals};
use super::slots::Slots;
use super::supervisor::Supervisor;
use super::systemd;
use super::tries::full_jitter;
use super::watchdog::{self, Heart};
use crate::config::{Config, RegistryConfig, WorkerConfig};
use crate::context::ContextStage;
use crate::exit::Exit;
use crate::housekeeping::Housekeeper;
use crate::image::{self, BuildpacksStage, DockerfileStage, Owner, SharedProbe};
use crate::peer::{KnownHosts, OperatorHosts, Peers};
use crate::protocol::Code;
use crate::queue::{Claim, Gate, IdentityError, Notice, Queue, WorkerIdentity};
use crate::registry::{self, RegistryStage, STALL_TIMEOUT};
use crate::report::{self, Pace, Reporter};
use crate::secrets::ActiveSecrets;
use crate::source::GitSourceStage;
use crate::telemetry::Reopen;

/// How long the background tasks may take to end.
const TASKS_END_WITHIN: Duration = Duration::from_secs(5);

/// Runs the daemon until it is told to stop. The exit code is the process's. `log_files`: opened again with each SIGHUP.
pub async fn run(config: Config, secrets: Arc<ActiveSecrets>, log_files: Reopen) -> Exit {
    // First of all: a SIGHUP that nobody listens for ends the process.
    let (hangups, mut signals) = match Hangups::listen().and_then(|hangups| Ok((hangups, Signals::listen()?))) {
        Ok(both) => both,
        Err(error) => {
            tracing::error!("cannot listen for signals: {error}");
            return Exit::Temporary;
        }
    };
    let work_dir = config.worker.work_dir.clone();
    let (identity, lock) = match off_the_runtime(move || WorkerIdentity::open(&work_dir)).await {
        Some(Ok(opened)) => opened,
        Some(Err(error)) => {
            tracing::error!("{error}");
            return match error {
                IdentityError::Locked { .. } => Exit::Temporary,
                // Started again at once it would say the same for ever.
                IdentityError::Io { .. } | IdentityError::Damaged { .. } => Exit::Config,
            };
        }
        None => return Exit::Temporary,
    };
    let control = match ControlThread::start() {
        Ok(control) => control,
        Err(error) => {
            tracing::error!("the control thread cannot be started: {error}");
            return Exit::Temporary;
        }
    };
    tracing::info!(worker = %identity.id, version = env!("CARGO_PKG_VERSION"), work_dir = %config.worker.work_dir.display(), "slipway starts");
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let _stop = stop.clone().drop_guard();
    let watched = sd_notify::watchdog_enabled();
    let heart = Heart::new(watched);
    if watched.is_some() {
        control.handle().spawn(watchdog::feed(heart.clone()));
    }
    tasks.spawn(stop.clone().run_until_cancelled_owned(hangups.reopen(log_files)));
    // Ready as soon as the configuration is good: a part that is away is waited for, and must not make systemd restart us.
    systemd::tell_ready().await;
    let daemon = Daemon { config, identity, secrets, tasks, stop, heart, control };
    let ended = daemon.run(&mut signals).await;
    systemd::tell(NotifyState::Stopping);
    drop(lock);
    ended
}

/// What the daemon is started from.
struct Daemon {
    config: Config,
    identity: WorkerIdentity,
    secrets: Arc<ActiveSecrets>,
    tasks: TaskTracker,
    stop: CancellationToken,
    heart: Heart,
    control: ControlThread,
}

/// What the supervisor works with.
struct Started {
    shared: Arc<Shared>,
    notices: mpsc::Receiver<Notice>,
    resumed: Vec<Claim>,
}

impl Daemon {
    async fn run(self, signals: &mut Signals) -> Exit {
        let halt = CancellationToken::new();
        let started = self.heart.beside(async {
            tokio::select! {
                started = self.start(&halt) => Some(started),
                () = signals.next() => None,
            }
        });
        let Started { shared, notices, resumed } = match started.await {
            Some(Ok(started)) => started,
            Some(Err(exit)) => return exit,
            None => {
                tracing::info!("stopped before the worker was ready");
                halt.cancel();
                return Exit::Ok;
            }
        };
        let queue = shared.queue.clone();
        let code = Supervisor::new(shared, resumed, self.heart.clone()).run(notices, signals).await;
        self.stop.cancel();
        self.tasks.close();
        self.heart
            .beside(async {
                if tokio::time::timeout(TASKS_END_WITHIN, self.tasks.wait()).await.is_err() {
                    tracing::warn!("some background tasks did not end in time");
                }
                if code == Exit::Ok
                    && let Err(error) = queue.release().await
                {
                    tracing::warn!("the lease could not be released, it expires by itself: {error}");
                }
            })
            .await;
        code
    }

    /// Every part reached, leftovers swept, and what an earlier process left taken up.
    async fn start(&self, halt: &CancellationToken) -> Result<Started, Exit> {
        let Self { config, identity, tasks, stop, .. } = self;
        tasks.spawn(stop.clone().run_until_cancelled_owned(name_the_registry(config.registry.clone())));
        let dashboard = async {
            until_reached("the dashboard", || report::check(&config.dashboard)).await;
            pending::<Infallible>().await
        };
        let (queue, engine) = tokio::select! {
            reached = reach_parts(config, identity) => reached,
            never = dashboard => match never {},
        };
        let (gate, notices) = queue.run(self.control.handle(), tasks, stop.clone());
        let stages = self.stages(engine.clone()).await?;
        let reporter = self.reporter(gate.clone(), halt).await?;
        let WorkerConfig { work_dir, min_free_disk, .. } = config.worker.clone();
        let housekeeper = Housekeeper::new(engine, work_dir, identity.id.clone(), min_free_disk, config);
        // Before anything is resumed: nothing of this worker is alive yet.
        housekeeper.sweep().await;
        housekeeper.measure_first().await;
        let shared = Arc::new(Shared {
            config: config.clone(),
            host: identity.host.clone(),
            queue,
            gate,
            reporter,
            stages,
            secrets: self.secrets.clone(),
            for_others: Arc::default(),
            slots: Slots::new(config.worker.max_concurrent_builds),
            halt: halt.clone(),
            housekeeper,
            disk: DiskWatch::new(config.worker.work_dir.clone()),
        });
        let (watching, stopped) = (shared.clone(), stop.clone());
        tasks.spawn(async move {
            watching.disk.run(|| watching.reporter.is_busy(), stopped).await;
        });
        let (keeping, stopped) = (shared.clone(), stop.clone());
        tasks.spawn(async move {
            let Stages { source, context, buildpacks, .. } = &keeping.stages;
            keeping.housekeeper.run(source, context, buildpacks, stopped).await;
        });

        let failing = shared.clone();
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            failing.stages.health.keep_probing().await;
        }));

        // Asked by who reports to it, this time: with a key that it refuses no job is claimed.
        let looking = shared.clone();
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            until_reached("the dashboard", || looking.reporter.check()).await;
        }));
        let resumed = take_up(&shared).await;
        Ok(Started { shared, notices, resumed })
    }

    async fn stages(&self, engine: bollard::Docker) -> Result<Stages, Exit> {
        let (config, identity, secrets) = (self.config.clone(), self.identity.clone(), self.secrets.clone());
        match off_the_runtime(move || stages(&config, &identity, engine, &secrets)).await {
            Some(Ok(stages)) => Ok(stages),
            Some(Err(failure)) => {
                tracing::error!("{failure}");
                Err(Exit::Temporary)
            }
            None => Err(Exit::Temporary),
        }
    }

    async fn reporter(&self, gate: Gate, halt: &CancellationToken) -> Result<Arc<Reporter>, Exit> {
        let (dashboard, journal) = (self.config.dashboard.clone(), self.config.worker.work_dir.join("journal"));
        let (tasks, halt) = (self.tasks.clone(), halt.clone());
        match off_the_runtime(move || Reporter::new(dashboard, journal, gate, tasks, halt, Pace::default())).await {
            Some(Ok(reporter)) => Ok(reporter),
            Some(Err(error)) => {
                tracing::error!("cannot use WORK_DIR/journal: {error}");
                Err(Exit::Temporary)
            }
            None => Err(Exit::Temporary),
        }
    }
}

/// Runs what touches a disk beside the runtime, which a stalled one must not hold up. `None`: it panicked, or the runtime ends.
async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(error) => {
            tracing::error!("a step of the start ended by a defect: {error}");
            None
        }
    }
}

/// What an earlier process of this host had claimed, and the ends that only its journals know.
async fn take_up(shared: &Shared) -> Vec<Claim> {
    let mut resumed = until_reached("Redis", || shared.queue.resume()).await;
    if !resumed.is_empty() {
        tracing::info!(jobs = resumed.len(), "taking up the jobs that were claimed before the restart");
    }
    resumed.extend(journals::sort_out(shared, &resumed).await);
    resumed
}

fn stages(
    config: &Config,
    identity: &WorkerIdentity,
    engine: bollard::Docker,
    secrets: &ActiveSecrets,
) -> Result<Stages, String> {
    let host_key = identity.host_key().map_err(|error| error.to_string())?;
    let cache = config.worker.work_dir.join("cache");
    let owner = Owner { worker_id: identity.id.clone(), host_key: host_key.clone() };
    Ok(Stages {
        source: GitSourceStage::new(config.git.clone(), cache.join("git")).map_err(|failure| failure.to_string())?,
        context: ContextStage::new(cache.join("context"), identity.id.clone()),
        dockerfile: DockerfileStage::new(config.build.clone(), engine.clone(), host_key, identity.id.clone()),
        buildpacks: BuildpacksStage::new(
            config.buildpacks.clone(),
            &config.build,
            engine.clone(),
            owner,
            cache.join("buildpacks"),
        ),
        registry: Some(
            RegistryStage::new(config.registry.clone(), engine, STALL_TIMEOUT, &secrets.fetched())
                .with_image_max(config.build.image_max_bytes),
        ),
        peers: Peers::default(),
        known_hosts: KnownHosts::default(),
        health: HostHealth::new(SharedProbe::new(config.build.clone())),
        operator_hosts: OperatorHosts::new(
            &config.worker,
            &config.git,
            &config.build,
            &config.buildpacks,
            Some(&config.registry),
        ),
    })
}

/// Names the registry, which a build needs only at its end, while it is not there. Nothing waits for it: each job tries it again.
async fn name_the_registry(config: RegistryConfig) {
    until_reached("the registry", || async {
        match registry::check(config.clone()).await {
            // Said once: refused logins that are repeated may lock the account.
            Err(refused) if refused.code != Code::RegistryUnreachable => {
                tracing::error!("{refused} It is tried again by each job.");
                Ok(())
            }
            reached => reached,
        }
    })
    .await;
}

async fn reach_parts(config: &Config, identity: &WorkerIdentity) -> (Arc<Queue>, bollard::Docker) {
    let queue = until_reached("Redis", || Queue::connect(&config.queue, identity.clone(), config.dashboard.timeout));
    let engine = until_reached("the Docker Engine", || image::connect_engine(&config.build));
    let (queue, engine) = tokio::join!(queue, engine);
    for warning in image::exposure_warnings(&config.build, &config.buildpacks, &engine).await {
        tracing::warn!("{warning}");
    }
    (Arc::new(queue), engine)
}

/// Tries until the part answers; says what is wrong at first, and again when the reason changes or a minute has gone.
async fn until_reached<T, E: Display, F: Future<Output = Result<T, E>>>(part: &str, mut connect: impl FnMut() -> F) -> T {
    let mut longest = Duration::from_millis(250);
    let mut said: Option<(String, std::time::Instant)> = None;
    loop {
        let error = match connect().await {
            Ok(reached) => {
                if said.is_some() {
                    tracing::info!("{part} is there now");
                }
                return reached;
            }
            Err(error) => error.to_string(),
        };
        let news = said.as_ref().is_none_or(|(text, at)| *text != error || at.elapsed() > Duration::from_secs(60));
        if news {
            tracing::error!("{error} Trying again until it answers.");
            said = Some((error, std::time::Instant::now()));
        }
        tokio::time::sleep(full_jitter(longest)).await;
        longest = (longest * 2).min(Duration::from_secs(10));
    }
}
