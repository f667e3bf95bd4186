//! From a configuration to a running worker: identity, every part reached (named while it is not), leftovers swept, then the supervisor.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::health::HostHealth;
use super::journals;
use super::pipeline::{Stages, full_jitter};
use super::shared::Shared;
use super::signals::Signals;
use super::slots::Slots;
use super::supervisor::Supervisor;
use super::systemd;
use crate::config::{Config, RegistryConfig, WorkerConfig};
use crate::context::ContextStage;
use crate::exit::Exit;
use crate::housekeeping::Housekeeper;
use crate::image::{self, BuildpacksStage, DockerfileStage, Owner};
use crate::peer::{OperatorHosts, Peers};
use crate::protocol::Code;
use crate::queue::{Claim, IdentityError, IdentityLock, Queue, WorkerIdentity};
use crate::registry::{self, RegistryStage, STALL_TIMEOUT};
use crate::report::{self, Pace, Reporter};
use crate::secrets::ActiveSecrets;
use crate::source::GitSourceStage;

/// Runs the daemon until it is told to stop. The exit code is the process's.
pub async fn run(config: Config, secrets: Arc<ActiveSecrets>) -> Exit {
    let (identity, lock) = match WorkerIdentity::open(&config.worker.work_dir) {
        Ok(opened) => opened,
        Err(error) => {
            tracing::error!("{error}");
            return match error {
                IdentityError::Locked { .. } => Exit::Temporary,
                // Started again at once it would say the same for ever.
                IdentityError::Io { .. } | IdentityError::Damaged { .. } => Exit::Config,
            };
        }
    };
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("cannot listen for signals: {error}");
            return Exit::Temporary;
        }
    };
    tracing::info!(worker = %identity.id, version = env!("CARGO_PKG_VERSION"), work_dir = %config.worker.work_dir.display(), "slipway starts");
    // Ready as soon as the configuration is good: a part that is away is waited for, and must not make systemd restart us.
    systemd::tell(NotifyState::Ready);
    let ended = start(config, identity, lock, secrets, &mut signals).await;
    systemd::tell(NotifyState::Stopping);
    ended
}

async fn start(
    config: Config,
    identity: WorkerIdentity,
    lock: IdentityLock,
    secrets: Arc<ActiveSecrets>,
    signals: &mut Signals,
) -> Exit {
    let tasks = TaskTracker::new();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tasks.spawn(stop.clone().run_until_cancelled_owned(name_the_registry(config.registry.clone())));
    let dashboard = async {
        until_reached("the dashboard", || report::check(&config.dashboard)).await;
        pending::<Infallible>().await
    };
    let reached = tokio::select! {
        reached = reach_parts(&config, &identity) => reached,
        never = dashboard => match never {},
        () = signals.next() => {
            tracing::info!("stopped before every part was reached");
            return Exit::Ok;
        }
    };
    let (queue, engine) = reached;
    let halt = CancellationToken::new();
    let (gate, notices) = queue.run(&tasks, stop.clone());

    let stages = match stages(&config, &identity, engine.clone(), &secrets) {
        Ok(stages) => stages,
        Err(failure) => {
            tracing::error!("{failure}");
            return Exit::Temporary;
        }
    };
    let journal = config.worker.work_dir.join("journal");
    let reporter =
        match Reporter::new(config.dashboard.clone(), journal, gate.clone(), tasks.clone(), halt.clone(), Pace::default()) {
            Ok(reporter) => reporter,
            Err(error) => {
                tracing::error!("cannot use WORK_DIR/journal: {error}");
                return Exit::Temporary;
            }
        };
    let WorkerConfig { work_dir, min_free_disk, .. } = config.worker.clone();
    let housekeeper = Housekeeper::new(engine, work_dir, identity.id.clone(), min_free_disk, &config);
    // Before anything is resumed: nothing of this worker is alive yet.
    tokio::select! {
        _ = housekeeper.sweep() => {}
        () = signals.next() => {
            tracing::info!("stopped before what an earlier process left was swept up");
            return Exit::Ok;
        }
    }
    let slots = Slots::new(config.worker.max_concurrent_builds);
    let shared = Arc::new(Shared {
        config,
        host: identity.host.clone(),
        queue: queue.clone(),
        gate,
        reporter,
        stages,
        secrets,
        for_others: Arc::default(),
        slots,
        halt: halt.clone(),
        housekeeper,
    });
    let (keeping, stopped) = (shared.clone(), stop.clone());
    tasks.spawn(async move {
        let Stages { source, context, buildpacks, .. } = &keeping.stages;
        keeping.housekeeper.run(source, context, buildpacks, stopped).await;
    });

    let failing = shared.clone();
    tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
        failing.stages.health.keep_probing(&failing.config.build).await;
    }));

    // Asked by who reports to it, this time: with a key that it refuses no job is claimed.
    let looking = shared.clone();
    tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
        until_reached("the dashboard", || looking.reporter.check()).await;
    }));

    let resumed = tokio::select! {
        resumed = take_up(&shared) => Some(resumed),
        () = signals.next() => None,
    };
    let code = match resumed {
        Some(resumed) => Supervisor::new(shared, resumed).run(notices, signals).await,
        None => {
            tracing::info!("stopped before Redis said what was claimed before the restart");
            halt.cancel();
            Exit::Ok
        }
    };
    stop.cancel();
    tasks.close();
    if tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await.is_err() {
        tracing::warn!("some background tasks did not end in time");
    }
    if code == Exit::Ok
        && let Err(error) = queue.release().await
    {
        tracing::warn!("the lease could not be released, it expires by itself: {error}");
    }
    drop(lock);
    code
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
        health: HostHealth::default(),
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
