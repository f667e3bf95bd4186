//! The services' cache volumes: how large they are, when each was used last, and their removal. Housekeeping decides which go.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use bollard::query_parameters::RemoveVolumeOptions;
use http_body_util::{BodyExt, Empty, Limited};
use serde::Deserialize;
use tokio_util::task::TaskTracker;

use super::BuildpacksStage;
use crate::image::engine::open_connection;
use crate::image::labels;
use crate::image::tasks::BuildTasks;

/// The Engine walks through every volume of the host.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(300);
const MAX_ANSWER: usize = 64 << 20;

/// One service's cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheVolume {
    pub name: String,
    pub bytes: u64,
    /// `None`: nobody knows; it goes first.
    pub used: Option<SystemTime>,
}

/// The Engine's `/system/df`: `Volumes` until API 1.51, `VolumeUsage` since.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Usage {
    #[serde(default)]
    volumes: Option<Vec<UsedVolume>>,
    #[serde(default)]
    volume_usage: Option<VolumeUsage>,
}
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VolumeUsage {
    #[serde(default)]
    items: Option<Vec<UsedVolume>>,
}
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UsedVolume {
    name: String,
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
    #[serde(default)]
    usage_data: Option<UsageData>,
}
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UsageData {
    /// -1: not known.
    size: i64,
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
        let usage = tokio::time::timeout(MEASURE_TIMEOUT, self.usage()).await.map_err(|_| "no answer".to_owned())??;
        let volumes = usage.volumes.or(usage.volume_usage.and_then(|usage| usage.items)).unwrap_or_default();
        let mut caches = Vec::new();
        for volume in volumes {
            let labels = volume.labels.unwrap_or_default();
            let is = |key: &str, value: &str| labels.get(key).is_some_and(|there| there == value);
            if is(labels::CACHE, "buildpacks") && is(labels::WORKER, &self.owner.worker_id) {
                let bytes = volume.usage_data.and_then(|data| u64::try_from(data.size).ok()).unwrap_or(0);
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

    /// The client library reads only the newest shape of this answer.
    async fn usage(&self) -> Result<Usage, String> {
        let tasks = BuildTasks::new(&TaskTracker::new());
        let asking = async {
            let mut connection = open_connection(&self.engine_socket, &tasks).await.map_err(|failure| failure.to_string())?;
            let request = http::Request::get(format!("/v{}/system/df?type=volume", self.engine.client_version()))
                .header("Host", "docker")
                .body(Empty::new())
                .map_err(|error| error.to_string())?;
            let response = connection.send_request(request).await.map_err(|error| error.to_string())?;
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| error.to_string())?;
            serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())
        };
        let usage = asking.await;
        tasks.end().await;
        usage
    }
}
