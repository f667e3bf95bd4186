//! Keeps the buildpacks' caches below `BUILDPACKS_CACHE_MAX`: above it the least recently used go, whole.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::image::{BuildpacksStage, CacheVolume};

/// Measuring is a walk through every volume of the host.
const INTERVAL: Duration = Duration::from_secs(600);

/// One per process.
pub struct BuildpacksCache {
    max_bytes: u64,
    last: Mutex<Option<Instant>>,
}

impl BuildpacksCache {
    /// `max_bytes`: `BUILDPACKS_CACHE_MAX`.
    pub fn new(max_bytes: u64) -> Self {
        Self { max_bytes, last: Mutex::new(None) }
    }

    /// To be called after a build; looks at most every ten minutes. Returns how many were removed.
    pub async fn keep_below_max(&self, stage: &BuildpacksStage) -> usize {
        let mut last = self.last.lock().await;
        if last.is_some_and(|at| at.elapsed() < INTERVAL) {
            return 0;
        }
        *last = Some(Instant::now());
        match stage.caches().await {
            Ok(caches) => remove(stage, surplus(caches, self.max_bytes), "all are above BUILDPACKS_CACHE_MAX").await.0,
            Err(error) => {
                tracing::warn!("the buildpacks' caches cannot be measured: {error}");
                0
            }
        }
    }
}

/// Removes caches that no build uses, least recently used first, until at most `keep` bytes are left. Returns the bytes that went.
pub(super) async fn make_room(stage: &BuildpacksStage, caches: Vec<CacheVolume>, keep: u64) -> u64 {
    remove(stage, surplus(caches, keep), "there is no room on the disk").await.1
}

/// How many went, and their bytes.
async fn remove(stage: &BuildpacksStage, caches: Vec<CacheVolume>, why: &str) -> (usize, u64) {
    let mut removed = (0, 0);
    for cache in caches {
        match stage.remove_cache(&cache.name).await {
            Ok(true) => {
                tracing::info!(volume = %cache.name, bytes = cache.bytes, "removed a buildpacks cache: {why}");
                removed = (removed.0 + 1, removed.1 + cache.bytes);
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(volume = %cache.name, "a buildpacks cache could not be removed: {error}"),
        }
    }
    removed
}

/// The caches that have to go, least recently used first, until the rest is at most `max` bytes.
fn surplus(mut caches: Vec<CacheVolume>, max: u64) -> Vec<CacheVolume> {
    caches.sort_by_key(|cache| cache.used);
    let mut total: u64 = caches.iter().map(|cache| cache.bytes).sum();
    let goes = |cache: &CacheVolume| {
        let goes = total > max;
        total -= if goes { cache.bytes } else { 0 };
        goes
    };
    let count = caches.iter().map(goes).take_while(|goes| *goes).count();
    caches.truncate(count);
    caches
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;

    fn cache(name: u64, bytes: u64, used: Option<u64>) -> CacheVolume {
        let used = used.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        CacheVolume { name: name.to_string(), bytes, used }
    }

    #[test]
    fn the_least_recently_used_go_first_and_no_more_than_needed() {
        let caches = vec![cache(1, 50, Some(30)), cache(2, 50, Some(10)), cache(3, 50, None), cache(4, 50, Some(20))];
        let names = |max| surplus(caches.clone(), max).into_iter().map(|c| c.name).collect::<Vec<_>>();
        assert_eq!(names(200), Vec::<String>::new());
        assert_eq!(names(199), ["3"]);
        assert_eq!(names(100), ["3", "2"]);
        assert_eq!(names(0), ["3", "2", "4", "1"]);
    }

    proptest! {
        #[test]
        fn what_stays_fits(sizes in prop::collection::vec((0u64..1000, 0u64..9), 0..12), max in 0u64..3000) {
            let caches: Vec<_> = sizes.iter().enumerate().map(|(i, (bytes, used))| cache(i as u64, *bytes, Some(*used))).collect();
            let all: u64 = caches.iter().map(|c| c.bytes).sum();
            let gone: u64 = surplus(caches, max).iter().map(|c| c.bytes).sum();
            prop_assert!(all - gone <= max);
        }
    }
}
