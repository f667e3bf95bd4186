//! A build's volumes in the Engine: made, owned by the builder's user, and removed again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::RemoveVolumeOptions;

use super::app;
use super::container::{self, Archive};
use super::control;
use super::phase::{User, Volume, VolumeMount};
use super::trouble::{engine_failure, lifecycle_failure};
use crate::image::labels;
use crate::protocol::{Failure, ServiceId};
use crate::secrets::{ExposeSecret, SecretString};
use crate::source::SourceTree;
use crate::stage::StageContext;

/// How long the Engine may take to make a volume, and how long a removal is tried.
const CREATION: Duration = Duration::from_secs(30);
const REMOVAL: Duration = Duration::from_secs(10);
const REMOVE_AGAIN: Duration = Duration::from_millis(250);

/// The name of a service's cache volume: nobody without the host's key can guess another service's. Another builder has another user
/// and other layers, so it has another cache.
pub fn cache_name(host_key: &SecretString, service: &ServiceId, builder: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, host_key.expose_secret().as_bytes());
    let name = hmac::sign(&key, format!("buildpacks cache\0{service}\0{builder}").as_bytes());
    format!("slipway-cache-{}", hex::encode(&name.as_ref()[..16]))
}

/// The volumes of one build: workspace and layers are its own, the cache is its service's.
pub struct BuildVolumes<'a> {
    engine: &'a Docker,
    ctx: &'a StageContext,
    /// `None`: removed.
    own: Option<Own>,
    cache: String,
    cache_labels: HashMap<String, String>,
    labels: HashMap<String, String>,
}

#[derive(Clone)]
struct Own {
    workspace: String,
    layers: String,
}

impl Own {
    fn named(ctx: &StageContext) -> Result<Self, Failure> {
        let name = super::unique_name(ctx)?;
        Ok(Self { workspace: format!("{name}-workspace"), layers: format!("{name}-layers") })
    }
}

impl<'a> BuildVolumes<'a> {
    pub async fn create(
        engine: &'a Docker,
        ctx: &'a StageContext,
        cache: &str,
        labels: &HashMap<String, String>,
        worker_id: &str,
    ) -> Result<Self, Failure> {
        let cache_labels = HashMap::from([
            (labels::WORKER.to_owned(), worker_id.to_owned()),
            (labels::SERVICE.to_owned(), ctx.service.to_string()),
            (labels::CACHE.to_owned(), "buildpacks".to_owned()),
        ]);
        let volumes =
            Self { engine, ctx, own: Some(Own::named(ctx)?), cache: cache.to_owned(), cache_labels, labels: labels.clone() };
        let made = async {
            volumes.make(cache, &volumes.cache_labels).await?;
            volumes.make_own().await
        };
        match made.await {
            Ok(()) => Ok(volumes),
            Err(failure) => {
                volumes.remove().await;
                Err(failure)
            }
        }
    }

    async fn make_own(&self) -> Result<(), Failure> {
        for volume in [Volume::Workspace, Volume::Layers] {
            self.make(self.name(volume), &self.labels).await?;
        }
        Ok(())
    }

    /// Not given up for a cancel: a volume that appears later would be left behind.
    async fn make(&self, name: &str, labels: &HashMap<String, String>) -> Result<(), Failure> {
        if self.ctx.cancel.is_cancelled() {
            return Err(Failure::interrupted());
        }
        let request = VolumeCreateRequest { name: Some(name.to_owned()), labels: Some(labels.clone()), ..Default::default() };
        match tokio::time::timeout(CREATION, self.engine.create_volume(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(engine_failure(&error)),
            Err(_) => Err(crate::image::failure::engine_lost("it did not make a volume in time.")),
        }
    }

    pub fn name(&self, volume: Volume) -> &str {
        match (volume, &self.own) {
            (Volume::Workspace, Some(own)) => &own.workspace,
            (Volume::Layers, Some(own)) => &own.layers,
            (Volume::Cache, _) => &self.cache,
            (_, None) => "",
        }
    }

    /// Gives the volumes to the builder's user and puts the app's files into the workspace. The app's archive goes into a container
    /// that has the workspace alone: a link in it that points elsewhere finds nothing there.
    pub async fn fill(&self, user: User, image: &str, tree: &Arc<SourceTree>) -> Result<(), Failure> {
        let writable = |volume| (self.name(volume).to_owned(), VolumeMount { volume, read_only: false });
        let owned = [writable(Volume::Layers), writable(Volume::Cache)];
        let owner = control::owner_archive(user, &[Volume::Layers.path(), Volume::Cache.path()])
            .map_err(|error| lifecycle_failure(&format!("an archive cannot be made: {error}")))?;
        container::fill_volumes(self.engine, self.ctx, image, &owned, &self.labels, Archive::Whole(owner)).await?;
        let app::Upload { stream, failure } = app::stream(tree.clone(), user, &self.ctx.tasks);
        let workspace = [writable(Volume::Workspace)];
        let filled =
            container::fill_volumes(self.engine, self.ctx, image, &workspace, &self.labels, Archive::Stream(stream)).await;
        match (filled, failure.get()) {
            (Err(_), Some(failure)) => Err(failure.clone()),
            (filled, _) => filled,
        }
    }

    /// Empty ones in place of those that somebody has worked on.
    pub async fn renew(&mut self) -> Result<(), Failure> {
        if let Some(own) = self.own.take() {
            remove(self.engine.clone(), own, self.labels.clone()).await;
        }
        self.own = Some(Own::named(self.ctx)?);
        self.make_own().await
    }

    /// The same with the service's cache, which nobody else uses now.
    pub async fn renew_with_cache(&mut self) -> Result<(), Failure> {
        let removed = self.engine.remove_volume(&self.cache, None::<RemoveVolumeOptions>).await;
        removed.map_err(|error| engine_failure(&error))?;
        self.make(&self.cache, &self.cache_labels).await?;
        self.renew().await
    }

    /// Removes what is this build's own. The cache stays for the next build.
    pub async fn remove(mut self) {
        if let Some(own) = self.own.take() {
            remove(self.engine.clone(), own, self.labels.clone()).await;
        }
    }
}

impl Drop for BuildVolumes<'_> {
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            self.ctx.tasks.spawn(remove(self.engine.clone(), own, self.labels.clone()));
        }
    }
}

async fn remove(engine: Docker, own: Own, labels: HashMap<String, String>) {
    for name in [own.workspace, own.layers] {
        let removing = async {
            loop {
                let error = match engine.remove_volume(&name, None::<RemoveVolumeOptions>).await {
                    Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => return,
                    Err(error) => error,
                };
                tracing::debug!(volume = %name, %error, "a volume could not be removed yet");
                // The Engine restarts, or a container still holds it: one that is just being removed, or could not be.
                if let Err(error) = container::remove_left(&engine, &labels).await {
                    tracing::debug!(%error, "the containers of the attempt could not be listed");
                }
                tokio::time::sleep(REMOVE_AGAIN).await;
            }
        };
        if tokio::time::timeout(REMOVAL, removing).await.is_err() {
            tracing::warn!(volume = %name, "a volume could not be removed in time; the sweep will look for it");
        }
    }
}
