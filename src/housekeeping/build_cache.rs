//! Keeps BuildKit's cache below `BUILD_CACHE_MAX`. BuildKit collects no garbage unless the Engine is configured to
//! (measured: 22 GB after two hours of builds).

use std::time::Duration;

use bollard::query_parameters::PruneBuildOptionsBuilder;
use bollard::{BollardRequest, Docker};
use http::{Method, Uri};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Not after every build: a look costs BuildKit a walk over all its records.
const INTERVAL: Duration = Duration::from_secs(60);
/// Removing tens of gigabytes takes minutes; BuildKit stops when the request is dropped.
const PRUNE_TIMEOUT: Duration = Duration::from_secs(600);

/// What a look at the cache came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pruned {
    /// The last look was less than a minute ago.
    TooSoon,
    /// Another look is under way.
    Busy,
    /// The token tripped; what BuildKit had not removed yet stays.
    Stopped,
    /// Bytes removed; 0 where the cache is below its limit.
    Freed(u64),
    /// The Engine's words.
    Failed(String),
}

/// One per process. One prune at a time, at most one a minute unless there is no room.
pub struct BuildCache {
    engine: Docker,
    max_bytes: u64,
    last: Mutex<Option<Instant>>,
}

impl BuildCache {
    /// `max_bytes`: `BUILD_CACHE_MAX`.
    pub fn new(engine: Docker, max_bytes: u64) -> Self {
        Self { engine: engine.with_timeout(PRUNE_TIMEOUT), max_bytes, last: Mutex::new(None) }
    }

    /// Removes the least recently used records above the limit. To be called after a build, and now and then.
    ///
    /// BuildKit compares its own size with the limit and removes nothing below it, so no `/system/df` comes first: on 20.10
    /// that has no filter and measures every image, container and volume of the host too.
    pub async fn keep_below_max(&self, cancel: &CancellationToken) -> Pruned {
        let pruned = self.prune(INTERVAL, self.max_bytes, false, cancel).await;
        if let Pruned::Freed(bytes @ 1..) = pruned {
            tracing::info!(bytes, max = self.max_bytes, "BuildKit's cache was above BUILD_CACHE_MAX");
        }
        pruned
    }

    /// The same down to `bytes`, without a minute's wait: there is no room on the disk. What a build uses stays.
    pub async fn keep_below(&self, bytes: u64, cancel: &CancellationToken) -> Pruned {
        self.prune(Duration::ZERO, bytes, bytes == 0, cancel).await
    }

    /// `interval`: not if the last look was so short ago. `all`: also what BuildKit made for itself, such as frontends.
    async fn prune(&self, interval: Duration, keep: u64, all: bool, cancel: &CancellationToken) -> Pruned {
        let Ok(mut last) = self.last.try_lock() else {
            return Pruned::Busy;
        };
        if last.is_some_and(|at| at.elapsed() < interval) {
            return Pruned::TooSoon;
        }
        let options = PruneBuildOptionsBuilder::default().all(all);
        // A limit of nothing means "keep nothing": 0 would mean "no limit" to BuildKit.
        let keep = i64::try_from(keep.max(1)).unwrap_or(i64::MAX);
        let engine = self.keeping(keep);
        let pruned = tokio::select! {
            biased;
            () = cancel.cancelled() => return Pruned::Stopped,
            pruned = engine.prune_build(Some(options.reserved_space(keep).build())) => pruned,
        };
        *last = Some(Instant::now());
        match pruned {
            Ok(answer) => Pruned::Freed(answer.space_reclaimed.and_then(|n| u64::try_from(n).ok()).unwrap_or(0)),
            Err(error) => {
                tracing::warn!(%error, "BuildKit's cache could not be pruned");
                Pruned::Failed(error.to_string())
            }
        }
    }

    /// One parameter by two names. Engines from API 1.48 on read `reserved-space`; older ones do not know it and would empty the
    /// whole cache (measured on 20.10), they read `keep-storage`, which bollard cannot say.
    fn keeping(&self, bytes: i64) -> Docker {
        self.engine.clone().with_request_modifier(move |mut request: BollardRequest| {
            match with_keep_storage(request.uri(), bytes) {
                Some(uri) => *request.uri_mut() = uri,
                // Rather refused by the Engine than carried out without the limit.
                None => *request.method_mut() = Method::TRACE,
            }
            request
        })
    }
}

/// `None` where the request's address cannot be changed.
fn with_keep_storage(uri: &Uri, bytes: i64) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    let query = uri.query().map_or(String::new(), |query| format!("{query}&"));
    parts.path_and_query = Some(format!("{}?{query}keep-storage={}", uri.path(), bytes.max(1)).parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_engines_are_told_the_same_limit() {
        let uri: Uri = "unix://2f76/build/prune?reserved-space=1000".parse().unwrap();
        assert_eq!(
            with_keep_storage(&uri, 1000).unwrap().path_and_query().unwrap(),
            "/build/prune?reserved-space=1000&keep-storage=1000"
        );
        let bare: Uri = "unix://2f76/v1.41/build/prune".parse().unwrap();
        assert_eq!(with_keep_storage(&bare, 0).unwrap().path_and_query().unwrap(), "/v1.41/build/prune?keep-storage=1");
    }
}
