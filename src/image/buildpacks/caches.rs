//! The services' cache volumes: how large they are, when each was used last, and their removal. Housekeeping decides which go.

use std::time::SystemTime;

use bollard::query_parameters::RemoveVolumeOptions;

use super::BuildpacksStage;
use crate::image::disk_usage::{UsageOf, disk_usage};
use crate::image::labels;

/// One service's cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheVolume {
    pub name: String,
    pub bytes: u64,
    /// `None`: nobody knows; it goes first.
    pub used: Option<SystemTime>,
}

impl BuildpacksStage {
    /// Remembers that the cache is used now.
    pub(super) async fn note_cache_use(&self, cache: &str) {
        let noted = async {
            tokio::fs::create_dir_all(&self.cache_use).await?;
            tokio::fs::write(self.cache_use.join(cache), b"").await
        };
        if let Err(error) = noted.await {
            tracing::warn!("the use of a cache could not be noted, it may be removed early: {error}");
        }
    }

    /// This worker's caches. `Err`: the Engine's words.
    pub async fn caches(&self) -> Result<Vec<CacheVolume>, String> {
        let volumes = disk_usage(&self.engine, &self.engine_socket, UsageOf::Volumes).await?.into_volumes();
        let mut caches = Vec::new();
        for volume in volumes {
            let bytes = volume.bytes();
            let labels = volume.labels.unwrap_or_default();
            let is = |key: &str, value: &str| labels.get(key).is_some_and(|there| there == value);
            if is(labels::CACHE, "buildpacks") && is(labels::WORKER, &self.owner.worker_id) {
                let noted = tokio::fs::metadata(self.cache_use.join(&volume.name)).await;
                caches.push(CacheVolume { name: volume.name, bytes, used: noted.and_then(|file| file.modified()).ok() });
            }
        }
        Ok(caches)
    }

    /// Removes a cache that no build uses. `Ok(false)`: one does.
    pub async fn remove_cache(&self, name: &str) -> Result<bool, String> {
        let lock = self.cache_lock(name);
        let Ok(_turn) = lock.try_lock() else {
            return Ok(false);
        };
        self.engine.remove_volume(name, None::<RemoveVolumeOptions>).await.map_err(|error| error.to_string())?;
        match tokio::fs::remove_file(self.cache_use.join(name)).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
            _ => Ok(true),
        }
    }
}
