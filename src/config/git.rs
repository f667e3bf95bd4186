//! Git servers and the limits of what is fetched from them.

use std::time::Duration;

#[derive(Debug, Clone)]
pub struct GitConfig {
    /// `GIT_ALLOWED_HOSTS`, comma separated `host` or `host:port` or `*.domain`; empty = any.
    pub allowed_hosts: Vec<String>,
    /// `GITHUB_URL`: the base that GITHUB jobs clone from. Default https://github.com.
    pub github_url: url::Url,
    /// `GIT_IDLE_TIMEOUT`, seconds, default 30: no byte for so long ends the fetch.
    pub idle_timeout: Duration,
    /// `GIT_MIN_RATE` bytes a second over 60 s, default 1024.
    pub min_rate: u64,
    /// `MAX_FETCH_BYTES`, default 4 GiB.
    pub max_fetch_bytes: u64,
    /// `MAX_FILES`, default 500,000.
    pub max_files: usize,
    /// `MAX_FILE_BYTES`, default 50 MB (a blob is inflated whole).
    pub max_file_bytes: u64,
    /// `GIT_CACHE_MAX`, default 10 GiB: mirrors above it are evicted, least recently used first.
    pub cache_max_bytes: u64,
}
