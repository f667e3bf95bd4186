//! Git servers and the limits of what is fetched from them.

use std::time::Duration;

use super::reader::{Reader, host_and_port, wrong_entry};

/// `GIT_PRIVATE_HOSTS`: which addresses a job's git host may have, where the operator does not name the host itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivateHosts {
    /// Public addresses alone.
    None,
    /// Private networks too, but not this worker's own host.
    Lan,
    /// This worker's own host too.
    All,
}

#[derive(Debug, Clone)]
pub struct GitConfig {
    /// `GIT_ALLOWED_HOSTS`, comma separated `host` or `host:port` or `*.domain`; empty = any.
    pub allowed_hosts: Vec<String>,
    /// `GIT_PRIVATE_HOSTS`, default lan.
    pub private_hosts: PrivateHosts,
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

impl GitConfig {
    pub(super) fn read(r: &mut Reader) -> Option<Self> {
        let allowed_hosts = r.given_parsed("GIT_ALLOWED_HOSTS", host_rules);
        let private_hosts = r.parsed("GIT_PRIVATE_HOSTS", private_hosts);
        let github_url = r.url("GITHUB_URL");
        let idle_timeout = r.duration("GIT_IDLE_TIMEOUT");
        let min_rate = r.size("GIT_MIN_RATE", 0, "");
        let max_fetch_bytes = r.size("MAX_FETCH_BYTES", 1, "must not be zero");
        let max_files = r.number("MAX_FILES", 1..=100_000_000);
        let max_file_bytes = r.size("MAX_FILE_BYTES", 1, "must not be zero");
        let cache_max_bytes = r.size("GIT_CACHE_MAX", 1, "must not be zero");
        Some(Self {
            allowed_hosts: allowed_hosts?.unwrap_or_default(),
            private_hosts: private_hosts?,
            github_url: github_url?,
            idle_timeout: idle_timeout?,
            min_rate: min_rate?,
            max_fetch_bytes: max_fetch_bytes?,
            max_files: max_files?,
            max_file_bytes: max_file_bytes?,
            cache_max_bytes: cache_max_bytes?,
        })
    }
}

fn private_hosts(text: &str) -> Result<PrivateHosts, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "none" => Ok(PrivateHosts::None),
        "lan" => Ok(PrivateHosts::Lan),
        "all" => Ok(PrivateHosts::All),
        _ => Err("is none of none, lan and all"),
    }
}

/// A list of `host`, `host:port` or `*.domain`, separated by commas.
pub(super) fn host_rules(list: &str) -> Result<Vec<String>, String> {
    let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).enumerate();
    let rules = entries.map(|(at, entry)| {
        let domain = entry.strip_prefix("*.").unwrap_or(entry);
        let is_wrong = |_| wrong_entry(at + 1, entry, "host, host:port or *.domain");
        host_and_port(domain).map(|_| entry.to_ascii_lowercase()).map_err(is_wrong)
    });
    rules.collect()
}
