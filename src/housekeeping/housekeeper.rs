//! The one task that keeps this host tidy: caches below their limits after each build, leftovers swept with it and now and then, free space watched.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::build_cache::BuildCache;
use super::buildpacks_cache::BuildpacksCache;
use super::live::Live;
use super::make_room::Stores;
use super::{disk, room, sweep};
use crate::config::Config;
use crate::context::ContextStage;
use crate::image::BuildpacksStage;
use crate::source::GitSourceStage;

const SWEEP_EVERY: Duration = Duration::from_secs(300);
/// After a sweep that could not remove all, as while the Engine is away; then twice that, and so on.
const SWEEP_AGAIN: Duration = Duration::from_secs(5);
const MEASURE_EVERY: Duration = Duration::from_secs(10);
/// How long the first measurement may hold up the start. A disk that needs longer is measured later, and nothing is claimed before.
const FIRST_MEASURED_WITHIN: Duration = Duration::from_secs(5);
/// What is kept per service is forgotten when it was not built for so long.
const FORGET_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

/// One per process.
pub struct Housekeeper {
    engine: Docker,
    work_dir: PathBuf,
    worker_id: String,
    min_free_disk: u64,
    engine_socket: PathBuf,
    build_cache: BuildCache,
    buildpacks_cache: BuildpacksCache,
    /// The attempts that may own something on this host.
    pub live: Live,
    built: Notify,
    /// There is no room: what can be removed is.
    short: Notify,
    /// Why there is no room for another job.
    no_room: Mutex<Option<String>>,
}

impl Housekeeper {
    pub fn new(engine: Docker, work_dir: PathBuf, worker_id: String, min_free_disk: u64, config: &Config) -> Self {
        Self {
            build_cache: BuildCache::new(engine.clone(), config.build.cache_max_bytes),
            buildpacks_cache: BuildpacksCache::new(config.buildpacks.cache_max_bytes),
            engine,
            work_dir,
            worker_id,
            min_free_disk,
            engine_socket: config.build.engine_socket.clone(),
            live: Live::default(),
            built: Notify::new(),
            short: Notify::new(),
            no_room: Mutex::new(Some("No job is claimed: the free disk space has not been measured yet.".to_owned())),
        }
    }

    /// To be called after each build, when its attempt is no longer live.
    pub fn build_ended(&self) {
        self.built.notify_one();
    }

    /// Whether there is disk space for another job; `Err` says where there is not. As measured a few seconds ago.
    pub fn room(&self) -> Result<(), String> {
        match &*self.no_room.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(why) => Err(why.clone()),
            None => Ok(()),
        }
    }

    /// The first look, before anything is claimed. Bounded: where it takes too long, [`Self::run`] goes on looking.
    pub async fn measure_first(&self) {
        // No error: `room` says why nothing is claimed.
        tokio::time::timeout(FIRST_MEASURED_WITHIN, self.measure()).await.ok();
    }

    /// Removes what no live attempt of this worker owns; whether all of it went.
    pub async fn sweep(&self) -> bool {
        let is_live = |deployment: &crate::protocol::DeploymentId, attempt| self.live.contains(deployment, attempt);
        let report = sweep::sweep(&self.engine, &self.worker_id, self.work_dir.join("tmp"), &is_live).await;
        let all_went = report.failures.is_empty();
        for failure in &report.failures {
            tracing::warn!("swept, but not all: {failure}");
        }
        if !report.removed_nothing() {
            let sweep::SweepReport { containers, volumes, names, images, files, .. } = report;
            tracing::info!(containers, volumes, names, images, files, "removed what attempts had left behind");
        }
        all_went
    }

    /// Until `stop`. The stages have the caches that are trimmed.
    pub async fn run(
        &self,
        mirrors: &GitSourceStage,
        contexts: &ContextStage,
        buildpacks: &BuildpacksStage,
        stop: CancellationToken,
    ) {
        let work = async {
            tokio::join!(self.watch_space(), self.tidy(mirrors, contexts, buildpacks, &stop));
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    async fn watch_space(&self) {
        let mut tick = interval(MEASURE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.measure().await;
            if self.room().is_err() {
                self.short.notify_one();
            }
        }
    }

    async fn measure(&self) {
        let engine_root = disk::engine_root(&self.engine).await;
        match disk::measure_all(Some(self.work_dir.clone()), engine_root).await {
            Ok(spaces) => self.judge(&spaces),
            Err(error) => {
                self.set_room(Some(format!("No job is claimed: the free space of WORK_DIR cannot be measured: {error}")));
            }
        }
    }

    fn judge(&self, spaces: &[disk::Space]) {
        self.set_room(disk::enough(spaces, self.min_free_disk).err().map(|failure| failure.to_string()));
    }

    fn set_room(&self, why_not: Option<String>) {
        *self.no_room.lock().unwrap_or_else(PoisonError::into_inner) = why_not;
    }

    async fn tidy(
        &self,
        mirrors: &GitSourceStage,
        contexts: &ContextStage,
        buildpacks: &BuildpacksStage,
        stop: &CancellationToken,
    ) {
        let mut forget = interval(SWEEP_EVERY);
        forget.reset();
        forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut again = SWEEP_AGAIN;
        let stores = Stores {
            engine: &self.engine,
            socket: self.engine_socket.clone(),
            work_dir: self.work_dir.clone(),
            build_cache: &self.build_cache,
            buildpacks,
            mirrors,
        };
        // Rounds that made no room, in a row; until when the next one waits.
        let (mut in_vain, mut next_round) = (0, Instant::now());
        // The Engine may have failed when what an earlier process left was swept, at the start.
        let mut next = Instant::now() + SWEEP_AGAIN;
        loop {
            let is_short = tokio::select! {
                // A build removes what it made itself; what it could not, goes now.
                () = self.built.notified() => false,
                () = self.short.notified() => true,
                () = sleep_until(next) => false,
                _ = forget.tick() => {
                    forget_unused(contexts).await;
                    continue;
                }
            };
            let all_went = self.sweep().await;
            next = Instant::now() + if all_went { SWEEP_EVERY } else { again };
            again = if all_went { SWEEP_AGAIN } else { (2 * again).min(SWEEP_EVERY) };
            self.build_cache.keep_below_max(stop).await;
            self.buildpacks_cache.keep_below_max(buildpacks).await;
            if let Err(failure) = mirrors.evict().await {
                tracing::warn!("git mirrors could not be trimmed: {failure}");
            }
            // A build that has ended no longer uses what it did.
            if !is_short {
                (in_vain, next_round) = (0, Instant::now());
            } else if Instant::now() >= next_round
                && let Some(made) = stores.make_room(self.min_free_disk, |spaces| self.judge(spaces), stop).await
            {
                in_vain = if made.removed == 0 { in_vain + 1 } else { 0 };
                next_round = Instant::now() + room::wait_after(in_vain);
            }
        }
    }
}

async fn forget_unused(contexts: &ContextStage) {
    match contexts.forget_unused(FORGET_AFTER).await {
        Ok(0) => {}
        Ok(services) => tracing::info!(services, "the file times of services that are not built any more are forgotten"),
        Err(error) => tracing::warn!("the file times of services that are not built any more cannot be removed: {error}"),
    }
}
