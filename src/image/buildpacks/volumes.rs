//! A build's volumes and the buildpacks' network in the Engine: made, owned by the builder's user, and removed again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use bollard::Docker;
use bollard::models::{NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{InspectNetworkOptions, RemoveVolumeOptions};

use super::app;
use super::container::{self, interruptible};
use super::control;
use super::phase::{User, Volume, VolumeMount};
use crate::image::labels;
use crate::protocol::{Failure, LogSink, ServiceId};
use crate::secrets::{ExposeSecret, SecretString};
use crate::source::SourceTree;
use crate::stage::StageContext;

/// The name of a service's cache volume: nobody without the host's key can guess another service's.
pub fn cache_name(host_key: &SecretString, service: &ServiceId) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, host_key.expose_secret().as_bytes());
    let name = hmac::sign(&key, format!("buildpacks-cache\0{service}").as_bytes());
    format!("slipway-cache-{}", hex::encode(&name.as_ref()[..16]))
}

/// The volumes of one build: workspace and layers are its own, the cache is its service's.
pub struct BuildVolumes<'a> {
    engine: &'a Docker,
    ctx: &'a StageContext,
    workspace: String,
    layers: String,
    cache: String,
    labels: HashMap<String, String>,
    removed: bool,
}

impl<'a> BuildVolumes<'a> {
    pub async fn create(
        engine: &'a Docker,
        ctx: &'a StageContext,
        cache: String,
        labels: HashMap<String, String>,
        worker_id: &str,
    ) -> Result<Self, Failure> {
        let name = |what: &str| format!("slipway-{}-{}-{what}", ctx.deployment, ctx.attempt);
        let volumes = Self { engine, ctx, workspace: name("workspace"), layers: name("layers"), cache, labels, removed: false };
        let cache_labels = HashMap::from([
            (labels::WORKER.to_owned(), worker_id.to_owned()),
            (labels::SERVICE.to_owned(), ctx.service.to_string()),
            (labels::CACHE.to_owned(), "buildpacks".to_owned()),
        ]);
        for (name, labels) in [(&volumes.workspace, &volumes.labels), (&volumes.layers, &volumes.labels), (&volumes.cache, &cache_labels)] {
            let request = VolumeCreateRequest { name: Some(name.clone()), labels: Some(labels.clone()), ..Default::default() };
            interruptible(ctx, engine.create_volume(request)).await?;
        }
        Ok(volumes)
    }

    pub fn name(&self, volume: Volume) -> String {
        match volume {
            Volume::Workspace => self.workspace.clone(),
            Volume::Layers => self.layers.clone(),
            Volume::Cache => self.cache.clone(),
        }
    }

    /// Gives the volumes to the builder's user and puts the app's files into the workspace. The app's archive goes into a container
    /// that has the workspace alone: a link in it that points elsewhere finds nothing there.
    pub async fn give_owner(&self, user: User, image: &str, tree: &Arc<SourceTree>, _log: &Arc<dyn LogSink>) -> Result<(), Failure> {
        let writable = |volume| (self.name(volume), VolumeMount { volume, read_only: false });
        let owned = [writable(Volume::Layers), writable(Volume::Cache)];
        let paths = [Volume::Layers.path(), Volume::Cache.path()];
        let owner = control::owner_archive(user, &paths)
            .map_err(|error| container::lifecycle_failure(format!("an archive cannot be made: {error}")))?;
        container::fill_volumes(self.engine, self.ctx, image, &owned, &self.labels, bollard::body_full(owner.into())).await?;
        let files = app::stream(tree.clone(), user, &self.ctx.tasks);
        let workspace = [writable(Volume::Workspace)];
        container::fill_volumes(self.engine, self.ctx, image, &workspace, &self.labels, bollard::body_try_stream(files)).await
    }

    /// Removes what is this build's own. The cache stays for the next build.
    pub async fn remove(&mut self) {
        self.removed = true;
        remove(self.engine.clone(), [self.workspace.clone(), self.layers.clone()]).await;
    }
}

impl Drop for BuildVolumes<'_> {
    fn drop(&mut self) {
        if !self.removed {
            self.ctx.tasks.spawn(remove(self.engine.clone(), [self.workspace.clone(), self.layers.clone()]));
        }
    }
}

async fn remove(engine: Docker, names: [String; 2]) {
    for name in names {
        // A container that is just being removed may still hold it.
        for wait in [0, 50, 200, 1000] {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            match engine.remove_volume(&name, None::<RemoveVolumeOptions>).await {
                Ok(()) | Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => break,
                Err(error) if wait == 1000 => tracing::warn!(volume = %name, "a volume could not be removed, the sweep will: {error}"),
                Err(_) => {}
            }
        }
    }
}

/// The bridge for detect and build, without traffic between its containers. Made once, kept.
pub async fn ensure_network(engine: &Docker, name: &str, ctx: &StageContext) -> Result<(), Failure> {
    match interruptible(ctx, async { Ok(engine.inspect_network(name, None::<InspectNetworkOptions>).await) }).await? {
        Ok(_) => return Ok(()),
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {}
        Err(error) => return Err(container::engine_failure(error)),
    }
    let request = NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        options: Some(HashMap::from([("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned())])),
        ..Default::default()
    };
    match interruptible(ctx, async { Ok(engine.create_network(request).await) }).await? {
        // Another build was quicker.
        Ok(_) | Err(bollard::errors::Error::DockerResponseServerError { status_code: 409, .. }) => Ok(()),
        Err(error) => Err(container::engine_failure(error)),
    }
}
