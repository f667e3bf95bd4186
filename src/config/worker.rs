//! Where the worker works, how much at once, how it stops.

use std::path::PathBuf;
use std::time::Duration;

use super::git::host_rules;
use super::reader::Reader;

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
    /// `FETCH_TIMEOUT`, `CONTEXT_TIMEOUT`, `IMAGE_TIMEOUT`, `PUSH_TIMEOUT`, seconds: one try of a stage.
    pub stages: StageTimeouts,
    /// `RETRY_LIMIT`: tries per stage after an infrastructure failure, the first included. Default 4.
    pub retry_limit: u32,
    /// `RETRY_WINDOW`, seconds, default 900: how long a stage keeps trying while its peer cannot be reached at all.
    pub retry_window: Duration,
    /// `UPSTREAM_HOSTS`: hosts that count as the operator's besides those that other keys name.
    pub upstream_hosts: Vec<String>,
    /// `MIN_FREE_DISK` bytes below which no job is claimed. Default 1 GiB.
    pub min_free_disk: u64,
}

/// How long one try of each stage may take. Zero: it has no limit of its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct StageTimeouts {
    pub fetch: Duration,
    pub context: Duration,
    pub image: Duration,
    pub push: Duration,
}

impl StageTimeouts {
    fn read(r: &mut Reader) -> Option<Self> {
        let fetch = r.duration_or_zero("FETCH_TIMEOUT");
        let context = r.duration_or_zero("CONTEXT_TIMEOUT");
        let image = r.duration_or_zero("IMAGE_TIMEOUT");
        let push = r.duration_or_zero("PUSH_TIMEOUT");
        Some(Self { fetch: fetch?, context: context?, image: image?, push: push? })
    }
}

impl WorkerConfig {
    pub(super) fn read(r: &mut Reader) -> Option<Self> {
        let work_dir = r.path("WORK_DIR");
        let max_concurrent_builds = match r.given("MAX_CONCURRENT_BUILDS") {
            Some("auto") => Some(default_concurrency()),
            _ => r.number("MAX_CONCURRENT_BUILDS", 1..=256),
        };
        let drain_timeout = r.duration_or_zero("DRAIN_TIMEOUT");
        let build_timeout = r.duration("BUILD_TIMEOUT");
        let build_silence_timeout = r.duration("BUILD_SILENCE_TIMEOUT");
        let stages = StageTimeouts::read(r);
        let retry_limit = r.number("RETRY_LIMIT", 1..=20);
        let retry_window = r.duration_or_zero("RETRY_WINDOW");
        let upstream_hosts = r.given_parsed("UPSTREAM_HOSTS", host_rules);
        let min_free_disk = r.size("MIN_FREE_DISK", 0, "");
        Some(Self {
            work_dir: work_dir?,
            max_concurrent_builds: max_concurrent_builds?,
            drain_timeout: drain_timeout?,
            build_timeout: build_timeout?,
            build_silence_timeout: build_silence_timeout?,
            stages: stages?,
            retry_limit: retry_limit?,
            retry_window: retry_window?,
            upstream_hosts: upstream_hosts?.unwrap_or_default(),
            min_free_disk: min_free_disk?,
        })
    }
}

/// The cores that this process may use, at least 2: one build waits for the network most of its time.
fn default_concurrency() -> usize {
    std::thread::available_parallelism().map_or(2, |n| n.get().max(2))
}
