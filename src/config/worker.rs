//! Where the worker works, how much at once, how it stops.

use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// `WORK_DIR`: identity, journals, caches. Default `/var/lib/slipway`.
    pub work_dir: PathBuf,
    /// `MAX_CONCURRENT_BUILDS`: default the cores, at least 2.
    pub max_concurrent_builds: usize,
    /// `DRAIN_TIMEOUT`, seconds: how long running builds may go on after SIGTERM. Default 30.
    pub drain_timeout: Duration,
    /// `BUILD_TIMEOUT`, seconds, default 3600: one job from claim to its end.
    pub build_timeout: Duration,
    /// `BUILD_SILENCE_TIMEOUT`, seconds, default 600: a build that prints nothing for so long is ended.
    pub build_silence_timeout: Duration,
    /// `RETRY_LIMIT`: tries per stage after an infrastructure failure, the first included. Default 4.
    pub retry_limit: u32,
    /// `MIN_FREE_DISK` bytes below which no job is claimed. Default 1 GiB.
    pub min_free_disk: u64,
}
