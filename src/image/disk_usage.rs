//! What volumes and BuildKit's cache take on the Engine's disk (`/system/df`), read in the shapes of all its versions.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use bollard::Docker;
use http_body_util::{BodyExt, Empty, Limited};
use serde::Deserialize;
use tokio_util::task::TaskTracker;

use super::engine::open_connection;
use super::tasks::BuildTasks;

/// The Engine walks through every volume of the host.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(300);
const MAX_ANSWER: usize = 64 << 20;

/// What is measured. Engines before API 1.42 measure everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageOf {
    Volumes,
    BuildCache,
}

/// One volume.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UsedVolume {
    pub name: String,
    #[serde(default)]
    pub labels: Option<HashMap<String, String>>,
    #[serde(default)]
    usage_data: Option<UsageData>,
}
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UsageData {
    /// -1: not known.
    size: i64,
}

impl UsedVolume {
    /// 0 where it is not known.
    pub fn bytes(&self) -> u64 {
        self.usage_data.as_ref().and_then(|data| u64::try_from(data.size).ok()).unwrap_or(0)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CacheRecord {
    #[serde(default)]
    size: i64,
    /// An image has it too: its bytes stay where the record goes.
    #[serde(default)]
    shared: bool,
}

/// The Engine's answer: plain lists until API 1.51, objects since (with their items where they are asked for by `verbose`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DiskUsage {
    #[serde(default)]
    volumes: Option<Vec<UsedVolume>>,
    #[serde(default)]
    volume_usage: Option<Items<UsedVolume>>,
    #[serde(default)]
    build_cache: Option<Vec<CacheRecord>>,
    #[serde(default)]
    build_cache_usage: Option<Items<CacheRecord>>,
}
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Items<T> {
    #[serde(default = "Option::default")]
    items: Option<Vec<T>>,
}

impl DiskUsage {
    pub fn into_volumes(self) -> Vec<UsedVolume> {
        self.volumes.or(self.volume_usage.and_then(|usage| usage.items)).unwrap_or_default()
    }

    /// Bytes of BuildKit's cache that no image shares: what a limit on the cache is compared with.
    pub fn build_cache_bytes(self) -> u64 {
        let records = self.build_cache.or(self.build_cache_usage.and_then(|usage| usage.items)).unwrap_or_default();
        records.iter().filter(|record| !record.shared).filter_map(|record| u64::try_from(record.size).ok()).sum()
    }
}

/// The client library reads only the newest shape of this answer. `Err`: the Engine's words.
pub async fn disk_usage(engine: &Docker, socket: &Path, of: UsageOf) -> Result<DiskUsage, String> {
    let tasks = BuildTasks::new(&TaskTracker::new());
    let usage = tokio::time::timeout(MEASURE_TIMEOUT, ask(engine, socket, of, &tasks)).await;
    tasks.end().await;
    usage.map_err(|_| "no answer".to_owned())?
}

async fn ask(engine: &Docker, socket: &Path, of: UsageOf, tasks: &BuildTasks) -> Result<DiskUsage, String> {
    let mut connection = open_connection(socket, tasks).await.map_err(|failure| failure.to_string())?;
    let of = match of {
        UsageOf::Volumes => "volume",
        UsageOf::BuildCache => "build-cache",
    };
    let request = http::Request::get(format!("/v{}/system/df?type={of}&verbose=true", engine.client_version()))
        .header("Host", "docker")
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    let response = connection.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    if !status.is_success() {
        return Err(super::engine::error_message(status, response.into_body()).await);
    }
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_measured_in_the_answers_of_old_and_new_engines_without_what_images_share() {
        let records = r#"[{"Size":100,"Shared":false,"InUse":true},{"Size":50,"Shared":true},{"Size":7}]"#;
        for answer in [format!(r#"{{"BuildCache":{records}}}"#), format!(r#"{{"BuildCacheUsage":{{"Items":{records}}}}}"#)] {
            assert_eq!(serde_json::from_str::<DiskUsage>(&answer).unwrap().build_cache_bytes(), 107);
        }
        assert_eq!(serde_json::from_str::<DiskUsage>(r#"{"BuildCache":null}"#).unwrap().build_cache_bytes(), 0);
    }
}
