//! Cloud Native Buildpacks without `pack`: the lifecycle's phases, each in a container of its own, exported straight to the registry.
//!
//! What a hostile app could do, and which line stops it, is told where the line is: [`phase`] (who sees what), [`control`] (which
//! files are trusted), [`container`] (limits, removal), [`volumes`] (whose volumes).

mod app;
mod application;
mod caches;
mod container;
mod control;
mod exit;
mod images;
mod lines;
mod network;
mod phase;
mod platform;
mod project;
mod trouble;
mod trust;
mod volumes;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::Docker;
use tokio::sync::OwnedMutexGuard;

pub use self::application::Application;
pub use self::caches::CacheVolume;
pub use self::network::make as bridge_interface;
use self::phase::Target;
use super::labels;
use super::size_limits::context_within;
use crate::config::{Builder, BuildpacksConfig, BuildpacksNetwork, PullCredentials};
use crate::protocol::{Code, Failure, Job};
use crate::registry::ExportTarget;
use crate::secrets::SecretString;
use crate::source::SourceTree;
use crate::stage::StageContext;

/// What this worker's identity gives to names and labels.
#[derive(Clone)]
pub struct Owner {
    pub worker_id: String,
    /// This WORK_DIR's random key: nobody without it can guess a service's cache.
    pub host_key: SecretString,
}

/// Builds trees without a Dockerfile.
pub struct BuildpacksStage {
    config: BuildpacksConfig,
    pull: Vec<PullCredentials>,
    /// os/architecture of the images, as `BUILD_PLATFORM` has it.
    platform: String,
    /// `CONTEXT_MAX`; 0: no limit.
    context_max: u64,
    engine: Docker,
    engine_socket: PathBuf,
    owner: Owner,
    /// When each cache was used last: an empty file of its name.
    cache_use: PathBuf,
    /// Two exports on one cache volume at once lose one of the caches.
    cache_locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl BuildpacksStage {
    /// `cache_use`: a folder that remembers when each service's cache was used. No I/O yet.
    pub fn new(
        config: BuildpacksConfig,
        build: &crate::config::BuildConfig,
        engine: Docker,
        owner: Owner,
        cache_use: PathBuf,
    ) -> Self {
        let (pull, engine_socket) = (build.pull_registries.clone(), build.engine_socket.clone());
        let (platform, context_max) = (build.platform.clone(), build.context_max_bytes);
        Self { config, pull, platform, context_max, engine, engine_socket, owner, cache_use, cache_locks: Mutex::default() }
    }

    /// Everything before the export: image and volumes ready, analyzed, detected, restored, built. (With `BUILDPACKS_TRUSTED` all of that
    /// is the export's.) `to` is asked for the image before this one; nothing is written to it yet.
    ///
    /// The caller removes what comes back; where this fails nothing of it is left.
    pub async fn build<'a>(
        &'a self,
        tree: Arc<SourceTree>,
        job: &Job,
        to: &ExportTarget,
        tag: &str,
        ctx: &'a StageContext,
    ) -> Result<Application<'a>, Failure> {
        let builder = self.config.builder(job.builder.as_deref()).map_err(|allowed| not_allowed(&allowed))?;
        context_within(tree.entries().iter().map(|entry| entry.size).fold(0, u64::saturating_add), self.context_max)?;
        let environment = platform::environment(job, &project::read(&tree, ctx).await?, ctx);
        let images = self.prepare_images(builder, ctx).await?;
        let network = match self.config.network {
            BuildpacksNetwork::Own => Some(network::ensure(&self.engine, ctx).await?),
            BuildpacksNetwork::None => None,
        };
        let cache = volumes::cache_name(&self.owner.host_key, &ctx.service, &builder.image);
        let turn = self.cache_turn(&cache, ctx).await?;
        let target = Target {
            image: format!("{}:{tag}", to.repository()),
            previous: Some(format!("{}:latest", to.repository())),
            run_image: builder.run_image.clone(),
            skip_layers: false,
        };
        let labels = labels::of_attempt(&ctx.service, &ctx.deployment, ctx.attempt, &self.owner.worker_id);
        let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        container::remove_earlier(&self.engine, ctx, &labels).await?;
        let parts = application::Parts { images, network, target, environment, labels, cache, tree };
        let mut application = Application::new(self, ctx, parts, turn).await?;
        if !self.config.trusted
            && let Err(failure) = application.build(to).await
        {
            application.remove().await;
            return Err(failure);
        }
        Ok(application)
    }

    /// Waits until no other build uses the cache.
    async fn cache_turn(&self, cache: &str, ctx: &StageContext) -> Result<OwnedMutexGuard<()>, Failure> {
        let lock = self.cache_lock(cache);
        tokio::select! {
            turn = lock.lock_owned() => Ok(turn),
            () = ctx.cancel.cancelled() => Err(Failure::interrupted()),
        }
    }

    fn cache_lock(&self, cache: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.cache_locks.lock().unwrap_or_else(PoisonError::into_inner);
        // Locks that nobody holds or waits for are forgotten: the map stays as small as what is being built.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(cache.to_owned()).or_default().clone()
    }

    /// Pulls what is missing and pins both images by their ids.
    async fn prepare_images(&self, builder: &Builder, ctx: &StageContext) -> Result<images::Images, Failure> {
        let puller = images::Puller { engine: &self.engine, logins: &self.pull, platform: &self.platform, ctx };
        let lifecycle = puller.ensure(&self.config.lifecycle_image).await?;
        let inspected = puller.ensure(&builder.image).await?;
        let images = images::Images::read(&builder.image, inspected, lifecycle)?;
        // One name may mean another image on each host.
        ctx.info(format!("Builder: {} is {}", builder.image, images.builder_is));
        Ok(images)
    }
}

fn not_allowed(allowed: &[&str]) -> Failure {
    Failure::new(
        Code::BuildpacksBuilder,
        "The job's builder is not on this worker's list.",
        format!("Use one of these: {} (BUILDPACKS_BUILDERS).", allowed.join(", ")),
    )
}

/// A name in the Engine that never came before: what is made anew never meets the remains of an earlier try.
fn unique_name(ctx: &StageContext) -> Result<String, Failure> {
    let mut random = [0u8; 6];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| Failure::new(Code::WorkerInternal, "The system gave no random bytes.", "See the worker's log."))?;
    Ok(format!("slipway-{}-{}-{}", ctx.deployment, ctx.attempt, hex::encode(random)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_that_is_not_listed_is_refused_with_the_list() {
        let failure = not_allowed(&["a/b:1", "c/d:2"]);
        assert!(failure.way_out.contains("a/b:1, c/d:2"), "{failure}");
        assert_eq!(failure.kind(), crate::protocol::FailureKind::User);
    }
}
